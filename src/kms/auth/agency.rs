//! Assuming an agency: another account has delegated its project, and IAM issues credentials for it
//! (`docs/kms-api.md` 5.1).

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;

use super::access_key::AccessKey;
use super::body::{Identity, Scope, ScopedProject};
use super::iam::{IamExchange, ProjectScope, RequestAuth, Token};
use super::lifetime::Lifetime;
use super::named::Named;
use crate::kms::error::Error;

/// An agency of another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agency {
    /// The account that delegates.
    pub account: Named,
    /// The agency's name.
    pub name: String,
    /// The requested lifetime of temporary keys. IAM chooses that of tokens.
    pub duration: Option<Duration>,
}

impl fmt::Display for Agency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agency {} of {}", self.name, self.account)
    }
}

impl Agency {
    /// A token for the project of the delegating account, issued for a token of the own account.
    pub(super) async fn token(
        &self,
        iam: &IamExchange<'_>,
        own: &SecretString,
        project: Option<&ProjectScope>,
    ) -> Result<Token, Error> {
        let scope = project.map(|project| {
            Scope::Project(match &project.id {
                Some(id) => ScopedProject::Id { id },
                None => ScopedProject::Name { name: &project.name, domain: Some(&self.account) },
            })
        });
        iam.token(RequestAuth::Token(own), self.identity(None), scope, None).await
    }

    /// A temporary key of the delegating account, issued for a key of the own account.
    pub(super) async fn access_key(
        &self,
        iam: &IamExchange<'_>,
        own: &AccessKey,
    ) -> Result<(AccessKey, Option<Lifetime>), Error> {
        iam.access_key(RequestAuth::Key(own), self.identity(self.duration), None).await
    }

    fn identity(&self, duration: Option<Duration>) -> Identity<AssumeRole<'_>> {
        let (domain_name, domain_id) = match &self.account {
            Named::Name(name) => (Some(&**name), None),
            Named::Id(id) => (None, Some(&**id)),
        };
        let duration_seconds = duration.map(|duration| duration.as_secs());
        let by = AssumeRole { agency_name: &self.name, domain_name, domain_id, duration_seconds };
        Identity { method: "assume_role", by }
    }
}

#[derive(Serialize)]
struct AssumeRole<'a> {
    agency_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
}
