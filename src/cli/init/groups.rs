//! Keys that have something in common today: a tag or the beginning of the name, and a shorter rotation interval than
//! the ceiling.
//!
//! The rule is documented in docs/policy.md, "Begin with an existing account". It depends on the keys only, so the same
//! account always gives the same entries.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::account::{AccountKey, Today};
use crate::rotation::key::{RotationInterval, Tag};
use crate::rotation::rule::{Glob, Selector, TagCondition};
use crate::support::printable::is_unprintable;

/// Fewer keys may have the same interval by chance.
const LEAST_KEYS: usize = 3;
/// Characters that end a part of a name.
const SEPARATORS: &[char] = &['-', '_', '/', ':', '.'];
/// The longest tag key and tag value, and the longest name in a policy (`policy::selector`).
const LONGEST: usize = 128;

/// Keys with the same interval.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) common: Common,
    pub(super) interval: RotationInterval,
}

/// What the keys of a group have in common. Of equal groups the first kind comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Common {
    /// A tag with its value.
    Tag(Box<str>, Box<str>),
    /// The beginning of the name, with the separator at its end.
    Prefix(Box<str>),
}

impl Common {
    pub(super) fn selector(&self) -> Selector {
        match self {
            Self::Tag(key, value) => {
                let tag = TagCondition { key: key.clone(), value: Some(value.clone()) };
                Selector { tags: vec![tag], ..Selector::default() }
            }
            Self::Prefix(prefix) => Selector { alias: Some(Glob::new(&format!("{prefix}*"))), ..Selector::default() },
        }
    }

    /// Of groups with the same keys, the longer prefix says more.
    fn length(&self) -> usize {
        match self {
            Self::Tag(..) => 0,
            Self::Prefix(prefix) => prefix.len(),
        }
    }
}

/// The groups among these keys, the largest first. A key without a name would be matched by no pattern for sure, so
/// names group keys only if all keys of the account have one.
pub(super) fn find(keys: &[&AccountKey], all_named: bool, ceiling: RotationInterval) -> Vec<Group> {
    let can_rotate: Vec<_> = keys.iter().filter(|key| !matches!(key.today, Today::Blocked(_))).collect();
    let mut candidates: BTreeMap<Common, Vec<usize>> = BTreeMap::new();
    for (at, key) in can_rotate.iter().enumerate() {
        for Tag { key, value } in key.listed.tags.iter().filter(|tag| is_usable(&tag.key) && is_usable(&tag.value)) {
            candidates.entry(Common::Tag(key.clone(), value.clone())).or_default().push(at);
        }
        for prefix in key.listed.alias().filter(|_| all_named).into_iter().flat_map(prefixes) {
            candidates.entry(Common::Prefix(prefix.into())).or_default().push(at);
        }
    }
    let setting = |at: usize| match can_rotate[at].today {
        Today::On(days) => days.and_then(|days| RotationInterval::from_days(days.try_into().ok()?)),
        _ => None,
    };
    let shared = |members: &[usize]| {
        let interval = setting(*members.first()?).filter(|interval| *interval < ceiling)?;
        let differs = |at: usize| setting(at) != Some(interval);
        let is_group = members.len() >= LEAST_KEYS && !members.iter().any(|at| differs(*at));
        (is_group && (0..can_rotate.len()).any(differs)).then_some(interval)
    };
    let mut groups: Vec<_> = candidates
        .into_iter()
        .filter_map(|(common, members)| Some((Group { interval: shared(&members)?, common }, members)))
        .collect();
    groups.sort_by_key(|(group, members)| {
        (Reverse(members.len()), matches!(group.common, Common::Prefix(_)), Reverse(group.common.length()))
    });
    let mut covered = vec![false; can_rotate.len()];
    groups.retain(|(_, members)| {
        let is_new = members.iter().filter(|at| !covered[**at]).count() >= LEAST_KEYS;
        if is_new {
            for at in members {
                covered[*at] = true;
            }
        }
        is_new
    });
    groups.into_iter().map(|(group, _)| group).collect()
}

/// The beginnings of a name up to a separator.
fn prefixes(alias: &str) -> impl Iterator<Item = &str> {
    let beginnings = alias.match_indices(SEPARATORS).map(|(at, separator)| &alias[..at + separator.len()]);
    beginnings.filter(|prefix| !prefix.trim_matches(SEPARATORS).is_empty() && is_usable(prefix))
}

/// Whether a policy can have the text as a condition, without a warning and without a pattern in it.
fn is_usable(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && text.chars().count() < LONGEST
        && !text.contains(|c: char| is_unprintable(c) || matches!(c, '*' | '?'))
        // YAML's merge key.
        && text != "<<"
}

#[cfg(test)]
mod tests {
    use super::super::tests::{days, key};
    use super::*;

    fn found(keys: &[AccountKey]) -> Vec<(String, u16)> {
        let keys: Vec<_> = keys.iter().collect();
        let shown = |Group { common, interval }| match common {
            Common::Tag(key, value) => (format!("{key}={value}"), interval.days()),
            Common::Prefix(prefix) => (prefix.into(), interval.days()),
        };
        find(&keys, true, days(365)).into_iter().map(shown).collect()
    }

    fn named(names: &[&str], today: &Today) -> Vec<AccountKey> {
        names.iter().map(|name| key(name, &[], today.clone())).collect()
    }

    #[test]
    fn three_keys_with_a_prefix_and_one_interval_are_a_group() {
        let at_90 = Today::On(Some(90));
        let pay = named(&["pay-a", "pay-b", "pay-c"], &at_90);
        let with = |more: Vec<AccountKey>| found(&[pay.clone(), more].concat());
        assert_eq!(with(named(&["web"], &Today::Off)), [("pay-".to_owned(), 90)]);
        assert_eq!(with(named(&["web"], &Today::On(Some(365)))), [("pay-".to_owned(), 90)]);
        assert_eq!(with(named(&["web-1"], &at_90)), [], "all keys are alike");
        for other in [Today::Off, Today::On(Some(91)), Today::On(None), Today::Unread("why".to_owned())] {
            assert_eq!(with(named(&["pay-d"], &other)), [], "{other:?}");
        }
        let disabled = Today::Blocked(crate::rotation::key::RotationBlocker::Disabled);
        let more = [named(&["pay-d"], &disabled), named(&["web"], &Today::Off)].concat();
        assert_eq!(with(more).len(), 1, "a key that cannot rotate now has no say");
        assert_eq!(found(&[named(&["pay-a", "pay-b"], &at_90), named(&["web"], &Today::Off)].concat()), []);
    }

    #[test]
    fn an_interval_of_the_ceiling_or_beyond_is_no_group() {
        for interval in [29, 365, 400] {
            let keys = [named(&["pay-a", "pay-b", "pay-c"], &Today::On(Some(interval))), named(&["web"], &Today::Off)]
                .concat();
            assert_eq!(found(&keys), [], "{interval}");
        }
    }

    #[test]
    fn the_larger_group_comes_first_then_tags_then_the_longer_prefix() {
        let tagged = |name: &str, tags: &[(&str, &str)]| key(name, tags, Today::On(Some(90)));
        let same = ["x-pay-a", "x-pay-b", "x-pay-c"].map(|name| tagged(name, &[("pci", "true"), ("team", "cards")]));
        let off = named(&["web"], &Today::Off);
        assert_eq!(found(&[same.to_vec(), off.clone()].concat()), [("pci=true".to_owned(), 90)]);
        let untagged = named(&["x-pay-a", "x-pay-b", "x-pay-c"], &Today::On(Some(90)));
        assert_eq!(found(&[untagged, off.clone()].concat()), [("x-pay-".to_owned(), 90)]);
        let wider = [same.to_vec(), named(&["x-web"], &Today::On(Some(90))), off].concat();
        assert_eq!(found(&wider), [("x-".to_owned(), 90)]);
    }

    #[test]
    fn a_text_that_a_policy_cannot_have_groups_nothing() {
        for odd in ["a*b", "a?", " a", "a\u{7}", "a\u{200b}b", "<<", "*", ""] {
            let keys = ["1", "2", "3"].map(|name| key(name, &[("k", odd), (odd, "v")], Today::On(Some(90))));
            assert_eq!(found(&[keys.to_vec(), named(&["web"], &Today::Off)].concat()), [], "{odd:?}");
        }
        assert_eq!(prefixes("--a-b*-c").collect::<Vec<_>>(), ["--a-"]);
        assert_eq!(prefixes("pay-").count(), 1, "the pattern matches this name too");
    }
}
