//! The identities of the cloud, and what they may use: users, agencies, and agencies that trust a provider.

use sha2::{Digest, Sha256};

use super::lockout::Lockout;
use crate::encoding::hex;

/// The projects that an identity may use, by token or by signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Permissions {
    /// Every project, except those that an agency of another account delegates. `None`: in no account.
    OwnAccount(Option<Box<str>>),
    /// The projects that an agency delegates.
    Agency {
        /// The account that delegates.
        domain_name: Box<str>,
        project_ids: Vec<String>,
    },
    /// One project: the token is from a file, and its owner is not known.
    Project(Box<str>),
}

/// The scope of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Nothing,
    Project(Box<str>),
    /// An account, by its name.
    Domain(Box<str>),
}

/// A user of the simulated IAM.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user_name: String,
    pub(crate) domain_name: String,
    pub(crate) password: String,
}

/// A user, and the lockout after wrong passwords.
pub(crate) struct User {
    pub(crate) login: Login,
    pub(crate) lock: Lockout,
}

/// Projects that an account delegates.
#[derive(Clone)]
pub(crate) struct Agency {
    /// The account that delegates.
    pub(crate) domain_name: String,
    pub(crate) domain_id: String,
    pub(crate) name: String,
    pub(crate) project_ids: Vec<String>,
}

impl Agency {
    pub(crate) fn delegates(&self, project_id: &str) -> bool {
        self.project_ids.iter().any(|id| id == project_id)
    }

    /// The permissions of everyone who assumes it.
    pub(crate) fn permissions(&self) -> Permissions {
        Permissions::Agency { domain_name: self.domain_name.as_str().into(), project_ids: self.project_ids.clone() }
    }
}

/// An agency that trusts a provider, and the only accepted token of that provider.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) provider_urn: String,
    pub(crate) agency_urn: String,
    pub(crate) accepted: String,
}

/// The id of a user.
pub(crate) fn user_id(user_name: &str, domain_name: &str) -> String {
    made_up_id(&format!("{user_name}@{domain_name}"))
}

/// 32 hexadecimal digits, derived from a name.
pub(crate) fn made_up_id(name: &str) -> String {
    let mut id = hex(&Sha256::digest(name));
    id.truncate(32);
    id
}
