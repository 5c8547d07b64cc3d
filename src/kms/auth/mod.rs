//! Credentials: where they come from, one file for each kind, and one cache above them all (`session`).
//!
//! Whatever the kind, it ends in a token or an access key, and a request gets either through one seam,
//! `Proof::authenticate`. `signing` is the pure function behind the second.

mod access_key;
mod agency;
mod ecs_agency;
mod iam;
mod id_token;
mod password;
mod secret;
mod session;
pub mod signing;
mod token;
mod trial;

use std::time::SystemTime;

use super::error::{Error, Kind};
use super::observe::Operation;

pub use access_key::{AccessKeyFiles, KeyName};
pub use agency::{Account, Agency};
pub use iam::ProjectScope;
pub(super) use iam::unfit;
pub use id_token::IdToken;
pub use password::Password;
pub use secret::SecretSource;
pub(super) use session::{Proof, Session};

/// How to log in to a project. Holds where secrets are, never a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    /// Who asks.
    pub login: Login,
    /// The agency of another account that is assumed on top.
    pub agency: Option<Agency>,
}

impl Credentials {
    /// Whether IAM is asked for anything.
    #[must_use]
    pub fn need_iam(&self) -> bool {
        self.agency.is_some() || matches!(self.login, Login::Password(_) | Login::IdToken(_))
    }
}

impl From<Login> for Credentials {
    fn from(login: Login) -> Self {
        Self { login, agency: None }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Login {
    /// Whoever gave this IAM token and keeps it fresh.
    Token(SecretSource),
    /// A user with a password, for which IAM gives tokens.
    Password(Password),
    /// A user with an access key, who signs.
    AccessKey(AccessKeyFiles),
    /// The virtual machine itself, through its metadata service.
    EcsAgency {
        /// Where the service is, when not where every machine has it.
        metadata_endpoint: Option<String>,
    },
    /// A workload that an identity provider vouches for.
    IdToken(IdToken),
}

impl Login {
    /// Where the secret is, for who has to look why it is refused.
    fn place(&self) -> String {
        match self {
            Self::Token(source) => format!("token from {source}"),
            Self::Password(Password { user_name, password, .. }) => {
                format!("user {user_name}, password from {password}")
            }
            Self::AccessKey(AccessKeyFiles { id, secret, .. }) => format!("access key from {id} and {secret}"),
            Self::EcsAgency { .. } => "temporary access key of the machine's agency".to_owned(),
            Self::IdToken(IdToken { provider_id, token }) => format!("{token}, vouched for by {provider_id}"),
        }
    }
}

/// From when to when credentials hold, by this machine's clock.
type Lifetime = (SystemTime, SystemTime);
