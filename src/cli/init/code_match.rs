//! Which key of which project a key in Terraform code is.

use super::account::{Account, AccountKey};
use super::terraform::{CodeKey, CodeRotation};
use crate::rotation::key::KeyId;
use crate::rotation::project::Cloud;
use crate::rotation::rule::Matcher;
use crate::support::printable::is_unprintable;

/// The longest key name in a policy.
const LONGEST_ALIAS: usize = 255;

/// A project of the policy.
pub(super) struct PolicyProject<'a> {
    pub(super) cloud: Cloud,
    pub(super) region: &'a str,
    pub(super) account: &'a Account,
}

/// A key in the code with the entry that names it.
#[derive(Clone, Debug)]
pub(super) struct MatchedKey {
    pub(super) address: String,
    pub(super) matcher: Matcher,
    pub(super) rotation: CodeRotation,
}

/// The keys in the code that belong to each project, and the addresses of keys in no project or in several.
pub(super) fn match_keys(code: &[CodeKey], projects: &[PolicyProject<'_>]) -> (Vec<Vec<MatchedKey>>, Vec<String>) {
    let mut found_in: Vec<Vec<MatchedKey>> = projects.iter().map(|_| Vec::new()).collect();
    let mut others = Vec::new();
    for key in code {
        let mut found = projects.iter().enumerate().filter_map(|(at, project)| Some((at, find(key, project)?)));
        match (found.next(), found.next()) {
            (Some((at, matcher)), None) => {
                let CodeKey { address, rotation, .. } = key;
                found_in[at].push(MatchedKey { address: address.clone(), matcher, rotation: *rotation });
            }
            // A name may occur in several projects of a region.
            _ => others.push(key.address.clone()),
        }
    }
    (found_in, others)
}

/// How an entry of this project names the key, if the project has it.
fn find(key: &CodeKey, PolicyProject { cloud, region, account }: &PolicyProject<'_>) -> Option<Matcher> {
    let is_here = key.cloud == *cloud && key.region.as_ref().is_none_or(|own| own == region);
    if !is_here {
        return None;
    }
    let alias = key.alias.as_deref();
    if !account.is_read {
        let by_alias = || alias.filter(|alias| is_usable(alias)).map(|alias| Matcher::Alias(alias.into()));
        return key.key_id.map(Matcher::Key).or_else(by_alias);
    }
    let is_it = |known: &&AccountKey| match key.key_id {
        Some(key_id) => known.listed.key_id == key_id,
        None => alias.is_some() && known.listed.alias() == alias,
    };
    let mut found = account.keys.iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(known), None) => Some(Matcher::Key(known.listed.key_id)),
        _ => None,
    }
}

/// Whether an entry can name a key by this name.
fn is_usable(alias: &str) -> bool {
    !alias.is_empty()
        && alias.trim() == alias
        && !alias.contains(|c: char| is_unprintable(c) || matches!(c, '*' | '?'))
        && alias.chars().count() <= LONGEST_ALIAS
        && alias.parse::<KeyId>().is_err()
}

#[cfg(test)]
mod tests {
    use super::super::account::Today;
    use super::super::tests::{account, key};
    use super::*;

    fn code(alias: &str, key_id: Option<&str>) -> CodeKey {
        CodeKey {
            address: format!("huaweicloud_kms_key.{alias}"),
            cloud: Cloud::HuaweiCloud,
            region: Some("cn-north-4".to_owned()),
            key_id: key_id.map(|key_id| key_id.parse().unwrap()),
            alias: Some(alias.to_owned()),
            rotation: CodeRotation::On,
        }
    }

    #[test]
    fn keys_are_found_by_their_id_and_planned_ones_by_a_name_that_one_key_has() {
        let keys = ["one", "twice", "twice"].map(|name| key(name, &[], Today::Off));
        let id = keys[0].listed.key_id;
        let account = account(keys.to_vec());
        let project = |region| PolicyProject { cloud: Cloud::HuaweiCloud, region, account: &account };
        let keys = [
            code("renamed", Some(id.as_str())),
            code("one", None),
            code("twice", None),
            code("one", Some("zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz")),
        ];
        let (matched, others) = match_keys(&keys, &[project("eu-west-101"), project("cn-north-4")]);
        let addresses: Vec<_> = matched[1].iter().map(|key| &*key.address).collect();
        assert_eq!(addresses, ["huaweicloud_kms_key.renamed", "huaweicloud_kms_key.one"]);
        assert!(matched[0].is_empty() && matched[1].iter().all(|key| key.matcher == Matcher::Key(id)));
        assert_eq!(others, ["huaweicloud_kms_key.twice", "huaweicloud_kms_key.one"]);
        let (matched, others) = match_keys(&keys[1..2], &[project("cn-north-4"), project("cn-north-4")]);
        assert!(matched.iter().all(Vec::is_empty) && others.len() == 1, "either could have it");
    }

    #[test]
    fn without_an_account_a_planned_key_has_its_name_if_a_policy_can_have_it() {
        let account = Account::default();
        let project = [PolicyProject { cloud: Cloud::HuaweiCloud, region: "cn-north-4", account: &account }];
        let (matched, others) =
            match_keys(&[code("new: one", None), code("a\u{200b}", None), code("a*", None)], &project);
        assert_eq!(matched[0][0].matcher, Matcher::Alias("new: one".into()));
        assert_eq!((matched[0].len(), others.len()), (1, 2));
    }
}
