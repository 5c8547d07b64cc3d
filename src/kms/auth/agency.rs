//! Assuming an agency: another account has delegated its project, and IAM gives credentials for it (API sheet, 5.1).

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::access_key::AccessKey;
use super::iam::{Asker, Iam, ProjectScope, Token};
use super::{Error, Lifetime};

/// An agency of another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agency {
    /// The account that delegates.
    pub account: Named,
    /// The agency's name.
    pub name: String,
    /// How long temporary keys shall hold; tokens hold as long as IAM likes.
    pub duration: Option<Duration>,
}

/// An account or a user, as IAM knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By name.
    Name(String),
    /// By id.
    Id(String),
}

impl Named {
    /// As IAM is told.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Name(name) => json!({ "name": name }),
            Self::Id(id) => json!({ "id": id }),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Name(text) | Self::Id(text)) = self;
        f.write_str(text)
    }
}

impl fmt::Display for Agency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agency {} of {}", self.name, self.account)
    }
}

impl Agency {
    /// A token for the project of the delegating account, for somebody with a token of their own account.
    pub(super) async fn token(
        &self,
        iam: &Iam<'_>,
        own: &SecretString,
        project: &ProjectScope,
    ) -> Result<Token, Error> {
        let scope = match &project.id {
            Some(id) => json!({ "id": id }),
            None => json!({ "name": project.name, "domain": self.account.json() }),
        };
        let scope = json!({ "project": scope });
        iam.token(Asker::Token(own), self.identity(None), Some(scope), None).await
    }

    /// A temporary key of the delegating account, for somebody with a key.
    pub(super) async fn access_key(
        &self,
        iam: &Iam<'_>,
        own: &AccessKey,
    ) -> Result<(AccessKey, Option<Lifetime>), Error> {
        iam.access_key(Asker::Key(own), self.identity(self.duration), None).await
    }

    fn identity(&self, duration: Option<Duration>) -> Value {
        let mut role = json!({ "agency_name": self.name });
        match &self.account {
            Named::Name(name) => role["domain_name"] = json!(name),
            Named::Id(id) => role["domain_id"] = json!(id),
        }
        if let Some(duration) = duration {
            role["duration_seconds"] = json!(duration.as_secs());
        }
        json!({"methods": ["assume_role"], "assume_role": role})
    }
}
