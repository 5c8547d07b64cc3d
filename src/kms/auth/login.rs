//! How to log in to a project: the kinds of credentials, and where each keeps its secret.

use super::access_key::AccessKeyFiles;
use super::agency::Agency;
use super::id_token::IdToken;
use super::password::Password;
use super::pod::PodIdentity;
use super::sts::OidcAgency;
use crate::kms::endpoint::METADATA_ENDPOINT;
use crate::kms::secret::SecretLocation;

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
    pub(in crate::kms) fn own_endpoint(&self) -> Option<&str> {
        match self {
            Self::OidcAgency(agency) => Some(&agency.endpoint),
            _ => None,
        }
    }

    /// The address on this machine or its link that is asked for credentials; nothing where none is asked.
    pub(in crate::kms) fn link_local_endpoint(&self) -> Option<&str> {
        match self {
            Self::EcsAgency { metadata_endpoint } => Some(metadata_endpoint.as_deref().unwrap_or(METADATA_ENDPOINT)),
            Self::Pod(pod) => Some(&pod.uri),
            _ => None,
        }
    }

    /// Whether what it gives opens whatever project the user may open, as a signature does, and not one alone.
    pub(in crate::kms) fn is_for_any_project(&self) -> bool {
        !matches!(self, Self::Token(_) | Self::Password(_))
    }

    /// Where the secret is, for who has to look why it is refused.
    pub(super) fn secret_location(&self) -> String {
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
