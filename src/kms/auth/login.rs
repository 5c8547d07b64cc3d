//! How to log in to a project: the kinds of credentials, and where each keeps its secret.

use super::access_key::AccessKeyFiles;
use super::agency::Agency;
use super::id_token::IdToken;
use super::password::Password;
use super::pod::PodIdentity;
use super::sts::OidcAgency;
use crate::kms::endpoint::METADATA_ENDPOINT;
use crate::kms::secret::SecretLocation;

/// How to log in to a project. Contains the locations of secrets, never a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    pub login: Login,
    /// The agency of another account that is assumed on top.
    pub agency: Option<Agency>,
}

impl Credentials {
    /// Whether IAM is used.
    #[must_use]
    pub fn need_iam(&self) -> bool {
        self.agency.is_some() || matches!(self.login, Login::Password(_) | Login::IdToken(_))
    }

    /// Who logs in, for the record; contains no secret.
    pub(in crate::kms) fn principal(&self) -> String {
        let login = self.login.principal();
        match &self.agency {
            Some(Agency { account, name, .. }) => format!("{login}, as agency {name} of account {account}"),
            None => login,
        }
    }
}

impl From<Login> for Credentials {
    fn from(login: Login) -> Self {
        Self { login, agency: None }
    }
}

/// The kind of login.
#[derive(Clone, Debug, PartialEq)]
pub enum Login {
    /// An IAM token that another process renews.
    Token(SecretLocation),
    /// A user with a password, for which IAM issues tokens.
    Password(Password),
    /// A user with an access key, which signs requests.
    AccessKey(AccessKeyFiles),
    /// The virtual machine itself, through its metadata service.
    EcsAgency {
        /// The address of the service; nothing for the usual one.
        metadata_endpoint: Option<String>,
    },
    /// A workload with a token of an identity provider, exchanged at IAM.
    IdToken(IdToken),
    /// A workload with a token of an `OpenID` Connect provider, exchanged at STS.
    OidcAgency(OidcAgency),
    /// A pod, through the agent on its node.
    Pod(PodIdentity),
}

impl Login {
    /// The cloud's endpoint that issues credentials, if it is not IAM.
    pub(in crate::kms) fn own_endpoint(&self) -> Option<&str> {
        match self {
            Self::OidcAgency(agency) => Some(&agency.endpoint),
            _ => None,
        }
    }

    /// The address on this machine or its link that issues credentials, if any.
    pub(in crate::kms) fn link_local_endpoint(&self) -> Option<&str> {
        match self {
            Self::EcsAgency { metadata_endpoint } => Some(metadata_endpoint.as_deref().unwrap_or(METADATA_ENDPOINT)),
            Self::Pod(pod) => Some(&pod.uri),
            _ => None,
        }
    }

    /// Whether its credential is for every project of the user, as an access key is.
    pub(in crate::kms) fn is_for_any_project(&self) -> bool {
        !matches!(self, Self::Token(_) | Self::Password(_))
    }

    /// Who logs in.
    fn principal(&self) -> String {
        match self {
            Self::Token(source) => format!("owner of the token from {source}"),
            Self::Password(Password { user, domain: Some(domain), .. }) => format!("user {user} of account {domain}"),
            Self::Password(Password { user, domain: None, .. }) => format!("user {user}"),
            Self::AccessKey(AccessKeyFiles { id, .. }) => format!("access key {id}"),
            Self::EcsAgency { .. } => "agency of the virtual machine".to_owned(),
            Self::IdToken(IdToken { provider_id, .. }) => format!("identity provider {provider_id}"),
            Self::OidcAgency(OidcAgency { provider_urn, agency_urn, .. }) => {
                format!("identity provider {provider_urn}, agency {agency_urn}")
            }
            Self::Pod(_) => "identity of the pod".to_owned(),
        }
    }

    /// The location of the secret, for the error of a refusal.
    pub(super) fn secret_location(&self) -> String {
        match self {
            Self::Token(source) => format!("token from {source}"),
            Self::Password(Password { user, password, .. }) => format!("user {user}, password from {password}"),
            Self::AccessKey(AccessKeyFiles { id, secret, .. }) => format!("access key from {id} and {secret}"),
            Self::EcsAgency { .. } => "temporary access key of the machine's agency".to_owned(),
            Self::IdToken(IdToken { provider_id, token }) => format!("{token}, identity provider {provider_id}"),
            Self::OidcAgency(OidcAgency { provider_urn, agency_urn, token, .. }) => {
                format!("{token}, identity provider {provider_urn}, agency {agency_urn}")
            }
            Self::Pod(PodIdentity { token, .. }) => format!("the pod's token from {token}"),
        }
    }
}
