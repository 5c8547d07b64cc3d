//! The key that a person asks for: by its id, or by its exact alias.

use std::fmt;
use std::str::FromStr;

use super::assignment::Assignment;
use super::key::KeyId;
use super::rule::Matcher;

/// A key's id or alias. Several projects can have a key with the same alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyName {
    Id(KeyId),
    Alias(Box<str>),
}

impl KeyName {
    /// Whether the assignment is of this key, or of an entry of the policy that names it.
    #[must_use]
    pub fn is_of(&self, assignment: &Assignment<'_>) -> bool {
        match self {
            Self::Id(key_id) => assignment.subject.key_id() == Some(*key_id),
            Self::Alias(alias) => {
                let listed = assignment.listed.and_then(|key| key.alias());
                let named = match assignment.rule.map(|rule| &rule.matcher) {
                    Some(Matcher::Alias(named)) => Some(&**named),
                    _ => None,
                };
                listed.or(named) == Some(&**alias)
            }
        }
    }
}

/// A text of the form of a key id is an id: an entry's `alias` must not look like one either.
impl FromStr for KeyName {
    type Err = EmptyKeyName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(key_id) => Ok(Self::Id(key_id)),
            Err(_) if text.is_empty() => Err(EmptyKeyName),
            Err(_) => Ok(Self::Alias(text.into())),
        }
    }
}

/// There is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyKeyName;

impl fmt::Display for EmptyKeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected the id or the alias of a key")
    }
}

impl std::error::Error for EmptyKeyName {}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(key_id) => f.write_str(key_id.as_str()),
            Self::Alias(alias) => f.write_str(alias),
        }
    }
}
