//! Workload identity by STS v5: a token of an `OpenID` Connect provider is exchanged for a temporary access key of an
//! agency that trusts it (`docs/kms-api.md` 5.4).
//!
//! It is one unsigned call, authenticated by the token in its body.

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::access_key::AccessKey;
use super::body;
use super::iam::{IamExchange, RequestAuth};
use super::lifetime::Lifetime;
use crate::kms::error::{Error, ErrorKind};
use crate::kms::observe::Operation;
use crate::kms::secret::SecretLocation;
use crate::kms::transport::{Method, SetUpError, Url, address};

/// An agency, the provider that it trusts, and the provider's token.
#[derive(Clone, Debug, PartialEq)]
pub struct OidcAgency {
    /// The base address of STS, without a slash at its end.
    pub endpoint: String,
    pub provider_urn: String,
    pub agency_urn: String,
    /// The provider's token, read anew at each login: it lives for minutes.
    pub token: SecretLocation,
    /// The name of the session in the cloud's audit log.
    pub session_name: String,
    /// The requested lifetime of the temporary key.
    pub duration_seconds: u32,
    /// A policy that limits the key's permissions.
    pub policy: Option<String>,
    /// The ids of further such policies.
    pub policy_ids: Vec<String>,
}

impl OidcAgency {
    /// A temporary access key, requested like those of `iam`, but from STS.
    pub(super) async fn access_key(
        &self,
        iam: &IamExchange<'_>,
        token: &SecretString,
    ) -> Result<(AccessKey, Option<Lifetime>), Error> {
        let body = body::json(&Assuming {
            provider_urn: &self.provider_urn,
            agency_urn: &self.agency_urn,
            agency_session_name: &self.session_name,
            id_token: token.expose_secret(),
            duration_seconds: self.duration_seconds,
            policy: self.policy.as_deref(),
            policy_ids: &self.policy_ids,
        });
        let endpoint = self
            .url()
            .map_err(|error| Error::new(Operation::Authenticate, ErrorKind::Credentials, error.to_string()))?;
        let sts = IamExchange { executor: iam.executor, endpoint: &endpoint, budget: iam.budget };
        let now = iam.executor.clock.now();
        sts.exchange(Method::Post, "v5/agencies/assume-with-oidc", RequestAuth::None, body, Some(token), |answer| {
            AccessKey::parse(&answer.body, answer.date(), now).ok_or_else(|| {
                let text = "STS answered without a temporary access key; is HUAWEICLOUD_SDK_STS_ENDPOINT right?";
                super::iam::failed(answer, text)
            })
        })
        .await
    }

    fn url(&self) -> Result<Url, SetUpError> {
        address(&self.endpoint, "")
    }
}

#[derive(Serialize)]
struct Assuming<'a> {
    provider_urn: &'a str,
    agency_urn: &'a str,
    agency_session_name: &'a str,
    id_token: &'a str,
    duration_seconds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policy_ids: &'a [String],
}
