//! Which keys a project has: the list that rules are held against.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::debug;

use super::{Failure, Reconciler};
use crate::kms::observe::Operation;
use crate::kms::{Error, Kind, Kms};
use crate::policy::types::Project;
use crate::rotation::cover::Listing;
use crate::rotation::decide::Reason;
use crate::rotation::key::ListedKey;
use crate::rotation::project::Coverage;
use crate::rotation::rule::{Names, Rule};

/// What came of listing a project's keys.
pub(super) enum Survey {
    /// The cloud does not let this user list them, and no entry needs it.
    NotAllowed,
    Complete(Arc<[ListedKey]>),
    /// It failed; these were known before.
    Failed(Reason, Arc<[ListedKey]>),
}

impl Survey {
    pub(super) fn listing(&self) -> Listing<'_> {
        match self {
            Self::NotAllowed => Listing::None,
            Self::Complete(keys) => Listing::Complete(keys),
            Self::Failed(reason, known) => Listing::Failed(*reason, known),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Complete(_))
    }
}

impl Reconciler {
    /// Lists the project's keys, with the tags that its selectors ask for.
    pub(super) async fn survey<K: Kms>(
        &self,
        kms: &K,
        project: &Project,
        now: SystemTime,
        failure: &Failure<'_>,
    ) -> Survey {
        match list(kms, &project.keys, now).await {
            Ok(keys) => {
                let keys: Arc<[ListedKey]> = keys.into();
                self.memory.keep_listing(project, Arc::clone(&keys));
                Survey::Complete(keys)
            }
            Err(error) => {
                let needed = project.coverage == Coverage::Required || project.keys.iter().any(Rule::needs_listing);
                if !needed && matches!(error.kind(), Kind::Permission | Kind::NotOffered) {
                    debug!(project = &*project.name, error = %error, "keys cannot be listed, and no entry needs it");
                    return Survey::NotAllowed;
                }
                let reason = Reason::from(super::key::read_failure(error.kind()));
                if !failure.ends_run(&error) && error.kind() != Kind::Stopped {
                    failure.tell("the project's keys cannot be listed", &error.to_string());
                }
                Survey::Failed(reason, self.memory.listing(project))
            }
        }
    }
}

/// The keys, as the rules that are in force need to know them.
async fn list<K: Kms>(kms: &K, rules: &[Rule], now: SystemTime) -> Result<Vec<ListedKey>, Error> {
    let mut keys = kms.list_keys().await?;
    let in_force = || rules.iter().filter(|rule| !rule.has_ended(now));
    let untold = !keys.is_empty() && keys.iter().all(|key| key.enterprise_project_id.is_empty());
    if untold && in_force().any(selects_enterprise_project) {
        // No key would meet the selector, and what it exempts would be written by another entry.
        let text = "the cloud does not tell which enterprise project its keys belong to, so none can be selected \
                    by enterprise_project_id";
        return Err(Error::new(Operation::ListKeys, Kind::Garbled, text));
    }
    let wanted = wanted_tags(in_force());
    if wanted.is_empty() {
        return Ok(keys);
    }
    let places: HashMap<_, _> = keys.iter().enumerate().map(|(at, key)| (key.key_id, at)).collect();
    for (tag, values) in wanted {
        let values: Option<Vec<&str>> = values.map(|values| values.into_iter().collect());
        for (key_id, tag) in kms.tagged(tag, values.as_deref()).await? {
            // One that was made since the list was taken is there next time.
            if let Some(at) = places.get(&key_id) {
                keys[*at].tags.push(tag);
            }
        }
    }
    Ok(keys)
}

fn selects_enterprise_project(rule: &Rule) -> bool {
    matches!(&rule.names, Names::Select(selector) if selector.enterprise_project_id.is_some())
}

/// The tags that selectors ask for, each with the values, or with nothing where any will do.
fn wanted_tags<'r>(rules: impl Iterator<Item = &'r Rule>) -> BTreeMap<&'r str, Option<BTreeSet<&'r str>>> {
    let mut wanted = BTreeMap::new();
    for rule in rules {
        let Names::Select(selector) = &rule.names else { continue };
        for condition in &selector.tags {
            let values = wanted.entry(&*condition.key).or_insert_with(|| Some(BTreeSet::new()));
            match &condition.value {
                Some(value) => values.iter_mut().for_each(|values| {
                    values.insert(&**value);
                }),
                None => *values = None,
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::key::{DesiredRotation, RotationInterval};
    use crate::rotation::rule::{Asks, Selector, TagCondition};

    #[test]
    fn each_tag_is_asked_for_once_with_all_its_values() {
        let rule = |tags: &[(&str, Option<&str>)]| {
            let tags =
                tags.iter().map(|(key, value)| TagCondition { key: (*key).into(), value: value.map(Into::into) });
            Rule {
                names: Names::Select(Box::new(Selector { tags: tags.collect(), ..Selector::default() })),
                asks: Asks::Rotation(DesiredRotation::exactly(RotationInterval::AFTER_ENABLING)),
                line: 1,
            }
        };
        let rules = [
            rule(&[("env", Some("prod")), ("pci", Some("true"))]),
            rule(&[("env", Some("test")), ("owner", None)]),
            rule(&[("owner", Some("me"))]),
        ];
        let expected =
            [("env", Some(BTreeSet::from(["prod", "test"]))), ("owner", None), ("pci", Some(["true"].into()))];
        assert_eq!(wanted_tags(rules.iter()), BTreeMap::from(expected));
    }
}
