//! The entries of the policy: which keys they match, and what they require.
//!
//! Rules are decoded from the policy; [`assign_rules`](super::assign_rules()) finds the one that decides for each key.
//! Nothing here depends on files or on the cloud.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::key::{DesiredRotation, KeyId, ListedKey, SECONDS_PER_DAY, Tag};

/// How long before its end an exemption is reported: its last day, and the 30 days before it.
const ENDS_SOON: Duration = Duration::from_secs(31 * SECONDS_PER_DAY);

/// One entry of a project's `keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which keys it matches.
    pub matcher: Matcher,
    /// What it requires of them.
    pub requirement: Requirement,
    /// The line in the policy file where the entry begins, counted from 1.
    pub line: u32,
}

/// Which keys a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// The key with this id.
    Key(KeyId),
    /// The one key with exactly this alias.
    Alias(Box<str>),
    /// Every key for which all conditions hold.
    Select(Box<Selector>),
}

/// What a rule requires of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// This rotation.
    Rotation(DesiredRotation),
    /// Nothing, for a while or for good.
    Exempt(Box<Exemption>),
}

/// Why a key is exempt, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemption {
    /// Why, in the words of the policy.
    pub reason: Arc<str>,
    /// The last day on which it holds; `None` if it has no end.
    pub until: Option<LastDay>,
}

/// The last day of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastDay {
    /// The day as the policy writes it, `2027-03-31`.
    pub date: Box<str>,
    /// The instant at which the day is over in the policy's time zone.
    pub ends: SystemTime,
}

impl Exemption {
    /// Whether it is over.
    #[must_use]
    pub fn has_ended(&self, now: SystemTime) -> bool {
        self.until.as_ref().is_some_and(|until| until.ends <= now)
    }

    /// Whether its last day is 30 days away or less.
    #[must_use]
    pub(crate) fn ends_soon(&self, now: SystemTime) -> bool {
        self.until.as_ref().is_some_and(|until| until.ends <= now + ENDS_SOON)
    }
}

impl Rule {
    /// Whether the rule is an exemption that has ended.
    #[must_use]
    pub fn has_ended(&self, now: SystemTime) -> bool {
        matches!(&self.requirement, Requirement::Exempt(exemption) if exemption.has_ended(now))
    }

    /// Whether the keys that it matches can be found only on a list of the project's keys.
    #[must_use]
    pub fn needs_listing(&self) -> bool {
        !matches!(self.matcher, Matcher::Key(_))
    }
}

/// Conditions on a key, all of which must hold. Without conditions it matches every key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The alias matches this pattern.
    pub alias: Option<Glob>,
    /// It has these tags.
    pub tags: Vec<TagCondition>,
    /// It belongs to this enterprise project.
    pub enterprise_project_id: Option<Box<str>>,
    /// It has this algorithm.
    pub key_spec: Option<Box<str>>,
}

impl Selector {
    /// How many conditions there are; each tag is one.
    #[must_use]
    pub fn conditions(&self) -> usize {
        let one = usize::from;
        one(self.alias.is_some())
            + self.tags.len()
            + one(self.enterprise_project_id.is_some())
            + one(self.key_spec.is_some())
    }

    /// Whether all conditions hold for the key. A key may have a tag of `unsure_tags` that the list does not show.
    #[must_use]
    pub fn matches(&self, key: &ListedKey, unsure_tags: &[Box<str>]) -> Match<'_> {
        let alias = self.alias.as_ref().map(|glob| match key.alias() {
            Some(alias) => Match::from(glob.matches(alias)),
            None if glob.matches_everything() => Match::Yes,
            None => Match::Unsure(Attribute::Alias),
        });
        let equals = |wanted: &Option<Box<str>>, actual: &Option<Arc<str>>, attribute| {
            let wanted = wanted.as_ref()?;
            let sure = actual.as_ref().map(|actual| Match::from(**wanted == **actual));
            Some(sure.unwrap_or(Match::Unsure(attribute)))
        };
        let tags = self.tags.iter().map(|condition| {
            if key.tags.iter().any(|tag| condition.holds_for(tag)) {
                Match::Yes
            } else if unsure_tags.contains(&condition.key) {
                Match::Unsure(Attribute::Tag(&condition.key))
            } else {
                Match::No
            }
        });
        let conditions = [
            alias,
            equals(&self.enterprise_project_id, &key.enterprise_project_id, Attribute::EnterpriseProject),
            equals(&self.key_spec, &key.key_spec, Attribute::KeySpec),
        ];
        // One condition that does not hold is enough.
        conditions.into_iter().flatten().chain(tags).fold(Match::Yes, |all, one| match (all, one) {
            (Match::No, _) | (_, Match::No) => Match::No,
            (Match::Unsure(attribute), _) | (_, Match::Unsure(attribute)) => Match::Unsure(attribute),
            (Match::Yes, Match::Yes) => Match::Yes,
        })
    }
}

/// Whether a selector matches a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// All conditions hold.
    Yes,
    /// One does not.
    No,
    /// It depends on this attribute, which the list does not show.
    Unsure(Attribute<'a>),
}

impl From<bool> for Match<'_> {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// An attribute of a listed key that a rule can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute<'a> {
    Alias,
    /// The tag with this key.
    Tag(&'a str),
    /// The enterprise project that it belongs to.
    EnterpriseProject,
    KeySpec,
}

impl fmt::Display for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias => f.write_str("alias"),
            Self::Tag(key) => write!(f, "tag {key}"),
            Self::EnterpriseProject => f.write_str("enterprise_project_id"),
            Self::KeySpec => f.write_str("key_spec"),
        }
    }
}

/// A condition on a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagCondition {
    /// The tag's key.
    pub key: Box<str>,
    /// Its value; nothing for any value.
    pub value: Option<Box<str>>,
}

impl TagCondition {
    fn holds_for(&self, tag: &Tag) -> bool {
        self.key == tag.key && self.value.as_ref().is_none_or(|value| *value == tag.value)
    }
}

/// A pattern for an alias: `*` stands for any text, `?` for any one character, everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

impl Glob {
    /// The pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches every text.
    fn matches_everything(&self) -> bool {
        !self.0.is_empty() && self.0.chars().all(|character| character == '*')
    }

    /// Whether the pattern matches the whole text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut text) = (self.0.chars(), text.chars());
        // The pattern after the last `*`, and the text that this `*` does not match yet.
        let mut star = None;
        loop {
            if pattern.as_str().starts_with('*') {
                pattern.next();
                star = Some((pattern.clone(), text.clone()));
                continue;
            }
            match (pattern.clone().next(), text.clone().next()) {
                (None, None) => return true,
                (Some(wanted), Some(actual)) if wanted == '?' || wanted == actual => {
                    pattern.next();
                    text.next();
                }
                _ => {
                    // The `*` matches one more character, and the rest is tried again.
                    let Some((after, untaken)) = &mut star else { return false };
                    if untaken.next().is_none() {
                        return false;
                    }
                    (pattern, text) = (after.clone(), untaken.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_the_whole_alias() {
        for (pattern, text, expected) in [
            ("pay-*", "pay-", true),
            ("pay-*", "pay-cards", true),
            ("pay-*", "repay-cards", false),
            ("*-prod", "pay-prod-prod", true),
            ("*-prod", "pay-prod-", false),
            ("pay-?", "pay-1", true),
            ("pay-?", "pay-", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("pay", "PAY", false),
            ("ü?", "üß", true),
            ("**", "x", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn an_exemption_applies_through_its_last_day_and_is_reported_before() {
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        let until = LastDay { date: "1970-04-10".into(), ends: day(100) };
        let exemption = Exemption { reason: "x".into(), until: Some(until) };
        let at = |now| (exemption.has_ended(now), exemption.ends_soon(now));
        // Its last day begins with 99.
        assert_eq!(at(day(69) - Duration::from_secs(1)), (false, false));
        assert_eq!(at(day(69)), (false, true));
        assert_eq!(at(day(100) - Duration::from_secs(1)), (false, true));
        assert_eq!(at(day(100)), (true, true));
        let for_good = Exemption { until: None, ..exemption.clone() };
        assert!(!for_good.has_ended(day(100_000)) && !for_good.ends_soon(day(100_000)));
    }
}
