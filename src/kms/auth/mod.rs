//! Credentials: where they come from (`source`), one file for each kind, and one cache above them all (`session`).
//!
//! Whatever the kind, it ends in a token or an access key, and a request gets either through one seam,
//! `Credential::authenticate`. `signing` is the pure function behind the second.

mod access_key;
mod agency;
mod body;
mod ecs_agency;
mod iam;
mod id_token;
mod password;
mod pod;
mod probe;
mod refusals;
mod secret;
mod session;
pub mod signing;
mod source;
mod sts;
mod token;
mod wiped_json;

use std::time::{Duration, SystemTime};

use super::error::{Error, Kind};
use super::observe::{Code, Operation};

pub use access_key::{AccessKeyFiles, AccessKeyIdSource};
pub use agency::{Agency, Named};
pub use iam::ProjectScope;
pub(super) use iam::unfit;
pub use id_token::IdToken;
pub use password::Password;
pub use pod::PodIdentity;
pub(super) use refusals::{Refusals, holds};
pub use secret::{SecretLocation, Unreadable};
pub(super) use session::{Credential, Session};
pub use sts::OidcAgency;
pub use wiped_json::WipedJson;

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
    Token(SecretLocation),
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
    /// A workload that a provider vouches for to STS.
    OidcAgency(OidcAgency),
    /// A pod, by the agent on its node.
    Pod(PodIdentity),
}

impl Login {
    /// An address of the cloud, beside IAM's, that is asked for credentials.
    pub(super) fn own_endpoint(&self) -> Option<&str> {
        match self {
            Self::OidcAgency(agency) => Some(&agency.endpoint),
            _ => None,
        }
    }

    /// The address on this machine or its link that is asked for credentials; nothing where none is asked.
    pub(super) fn link_local_endpoint(&self) -> Option<&str> {
        match self {
            Self::EcsAgency { metadata_endpoint } => {
                Some(metadata_endpoint.as_deref().unwrap_or(ecs_agency::METADATA_ENDPOINT))
            }
            Self::Pod(pod) => Some(&pod.uri),
            _ => None,
        }
    }

    /// Whether what it gives opens whatever project the user may open, as a signature does, and not one alone.
    pub(super) fn is_for_any_project(&self) -> bool {
        !matches!(self, Self::Token(_) | Self::Password(_))
    }

    /// Where the secret is, for who has to look why it is refused.
    fn secret_location(&self) -> String {
        match self {
            Self::Token(source) => format!("token from {source}"),
            Self::Password(Password { user, password, .. }) => format!("user {user}, password from {password}"),
            Self::AccessKey(AccessKeyFiles { id, secret, .. }) => format!("access key from {id} and {secret}"),
            Self::EcsAgency { .. } => "temporary access key of the machine's agency".to_owned(),
            Self::IdToken(IdToken { provider_id, token }) => format!("{token}, vouched for by {provider_id}"),
            Self::OidcAgency(OidcAgency { provider_urn, agency_urn, token, .. }) => {
                format!("{token}, vouched for by {provider_urn} for {agency_urn}")
            }
            Self::Pod(PodIdentity { token, .. }) => format!("the pod's token from {token}"),
        }
    }
}

/// What it means that an attempt at a login has failed: it may pass and is tried again, the service fails by itself, or
/// it has refused.
fn login_failure(error: Error) -> Error {
    match (error.kind(), error.code()) {
        (Kind::Stopped | Kind::Unreachable, _) => error,
        (kind, _) if kind.is_transient() => error,
        (_, Some(Code::Http(500..))) => error.with_kind(Kind::LoginUnavailable),
        _ => error.with_kind(Kind::Credentials),
    }
}

/// The error of a login that is not tried again in this run.
fn login_failed(error: Error) -> Error {
    match error.kind() {
        Kind::Stopped | Kind::Unreachable | Kind::Shortage | Kind::LoginUnavailable => error,
        kind if kind.is_transient() => error.with_kind(Kind::LoginUnavailable),
        _ => error.with_kind(Kind::Credentials),
    }
}

/// From when to when credentials hold, by this machine's clock.
type Lifetime = (SystemTime, SystemTime);

/// The lifetime of credentials that came `now` and end at a time by the cloud's clock. That clock may differ from this
/// machine's, so what counts is the span to the end from when the cloud says that it answered. Nothing where they would
/// have ended before they came: that tells of the clocks and not of the credentials.
fn lifetime(end: SystemTime, answered: Option<SystemTime>, now: SystemTime) -> Option<Lifetime> {
    /// A date has whole seconds, and is up to one older than the answer.
    const WHOLE: Duration = Duration::from_secs(1);
    let span = end.duration_since(answered.map_or(now, |answered| answered + WHOLE)).ok()?;
    Some((now, now + span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_hold_for_the_same_span_however_far_the_clocks_are_apart() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for cloud in [1_000, 500_000, 999_999_999] {
            assert_eq!(lifetime(at(cloud + 601), Some(at(cloud)), at(500_000)), Some((at(500_000), at(500_600))));
        }
        assert_eq!(lifetime(at(900), None, at(500)), Some((at(500), at(900))), "with no other clock, by this one");
        assert_eq!(lifetime(at(400), None, at(500)), None);
        assert_eq!(lifetime(at(400), Some(at(500)), at(100)), None);
    }
}
