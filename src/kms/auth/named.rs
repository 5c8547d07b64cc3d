//! An account or a user, by name or by id.

use std::fmt;

use serde::Serialize;

/// An account or a user, in the form of IAM's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// By name.
    Name(String),
    /// By id.
    Id(String),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Name(text) | Self::Id(text)) = self;
        f.write_str(text)
    }
}
