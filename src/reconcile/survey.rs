//! Listing a project's keys, as far as its rules need it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::debug;

use super::Reconciler;
use super::project_failure::ProjectFailure;
use crate::kms::{Error, ErrorKind, Kms, Listed};
use crate::policy::types::Project;
use crate::rotation::assignment::Listing;
use crate::rotation::decide::Reason;
use crate::rotation::key::{CallFailure, ListedKey};
use crate::rotation::project::Coverage;
use crate::rotation::rule::{Matcher, Rule};
use crate::support::error_chain::ErrorChain;

/// The result of listing a project's keys.
pub(super) enum Survey {
    /// The user may not list them, or the cloud does not offer it, and no entry needs it.
    NotAllowed,
    Listed(Inventory),
    /// Listing failed, for this reason; these are the keys of the last list.
    Failed(Reason, Arc<[ListedKey]>),
}

/// The keys on the list, and what it may lack.
pub(super) struct Inventory {
    keys: Arc<[ListedKey]>,
    /// Others may exist.
    may_lack_keys: bool,
    /// Tags that a key may have although the list does not show them.
    unsure_tags: Vec<Box<str>>,
}

impl Survey {
    pub(super) fn listing(&self) -> Listing<'_> {
        match self {
            Self::NotAllowed => Listing::None,
            Self::Listed(Inventory { keys, may_lack_keys: false, unsure_tags }) if unsure_tags.is_empty() => {
                Listing::Complete(keys)
            }
            Self::Listed(Inventory { keys, may_lack_keys, unsure_tags }) => {
                Listing::Doubtful { keys, may_lack_keys: *may_lack_keys, unsure_tags }
            }
            Self::Failed(reason, known) => Listing::Failed(*reason, known),
        }
    }

    /// Whether the descriptions of keys on the list are of this run.
    pub(super) fn is_current(&self) -> bool {
        matches!(self, Self::Listed(_))
    }

    /// Whether no key of the project is missing.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Listed(Inventory { may_lack_keys: false, .. }))
    }
}

impl Reconciler {
    /// Lists the project's keys, with the tags that its selectors use.
    pub(super) async fn survey<K: Kms>(
        &self,
        kms: &K,
        project: &Project,
        now: SystemTime,
        failure: &ProjectFailure<'_>,
    ) -> Survey {
        match list(kms, &project.keys, now).await {
            Ok((inventory, doubt)) => {
                if let Some(doubt) = doubt {
                    failure.list_incomplete(&doubt);
                }
                if !inventory.may_lack_keys {
                    self.memory.keep_listing(project, Arc::clone(&inventory.keys));
                }
                Survey::Listed(inventory)
            }
            Err(error) => {
                let needed = project.coverage == Coverage::Required || project.keys.iter().any(Rule::needs_listing);
                if !needed && matches!(error.kind(), ErrorKind::Permission | ErrorKind::NotOffered) {
                    let (project, error) = (&*project.name, ErrorChain(&error));
                    debug!(project, error = %error, "keys cannot be listed, and no entry needs it");
                    return Survey::NotAllowed;
                }
                let reason = CallFailure::from(error.kind()).reason(Reason::ReadFailed);
                if !failure.ends_run(&error) && error.kind() != ErrorKind::Stopped {
                    failure.list_failed(&error);
                }
                Survey::Failed(reason, self.memory.listing(&project.name))
            }
        }
    }
}

/// The keys, as the rules in force need them, and why some may be missing, as text for the report.
async fn list<K: Kms>(kms: &K, rules: &[Rule], now: SystemTime) -> Result<(Inventory, Option<String>), Error> {
    let Listed { items: mut keys, doubt } = kms.list_keys().await?;
    let may_lack_keys = doubt.is_some();
    let mut doubt = doubt.map(|doubt| format!("list of keys: {doubt}"));
    let mut unsure_tags = Vec::new();
    let wanted = wanted_tags(rules.iter().filter(|rule| !rule.has_ended(now)));
    if !wanted.is_empty() {
        let indices: HashMap<_, _> = keys.iter().enumerate().map(|(at, key)| (key.key_id, at)).collect();
        for (tag, values) in wanted {
            let values: Option<Vec<&str>> = values.map(|values| values.into_iter().collect());
            let tagged = kms.tagged(tag, values.as_deref()).await?;
            if let Some(why) = tagged.doubt {
                unsure_tags.push(tag.into());
                doubt.get_or_insert_with(|| format!("search for the tag {tag}: {why}"));
            }
            for (key_id, tag) in tagged.items {
                // A key that was created after the list was read is on the next list.
                if let Some(at) = indices.get(&key_id) {
                    keys[*at].tags.push(tag);
                }
            }
        }
    }
    Ok((Inventory { keys: keys.into(), may_lack_keys, unsure_tags }, doubt))
}

/// The tags that selectors use, each with its values, or with `None` if any value matches.
fn wanted_tags<'r>(rules: impl Iterator<Item = &'r Rule>) -> BTreeMap<&'r str, Option<BTreeSet<&'r str>>> {
    let mut wanted = BTreeMap::new();
    for rule in rules {
        let Matcher::Select(selector) = &rule.matcher else { continue };
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
    use crate::rotation::rule::{Requirement, Selector, TagCondition};

    #[test]
    fn each_tag_is_asked_for_once_with_all_its_values() {
        let rule = |tags: &[(&str, Option<&str>)]| {
            let tags =
                tags.iter().map(|(key, value)| TagCondition { key: (*key).into(), value: value.map(Into::into) });
            Rule {
                matcher: Matcher::Select(Box::new(Selector { tags: tags.collect(), ..Selector::default() })),
                requirement: Requirement::Rotation(DesiredRotation::exactly(RotationInterval::AFTER_ENABLING)),
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
