//! Workload identity: a token of an identity provider, such as a projected service account token, is exchanged for a
//! temporary access key (`docs/kms-api.md` 5.4).

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::access_key::AccessKey;
use super::body::Identity;
use super::iam::{IamExchange, RequestAuth};
use super::lifetime::Lifetime;
use crate::kms::error::Error;
use crate::kms::secret::SecretLocation;

/// The requested lifetime of the temporary key, as in the vendor's own client.
const DURATION_SECONDS: u32 = 6 * 3600;

/// A login by the token of an identity provider.
#[derive(Clone, Debug, PartialEq)]
pub struct IdToken {
    /// The identity provider's id in IAM.
    pub provider_id: String,
    /// Its token, read anew at each login: it lives for minutes.
    pub token: SecretLocation,
}

impl IdToken {
    /// A temporary access key. Calls `on_accepted` when the token was accepted.
    pub(super) async fn access_key(
        &self,
        iam: &IamExchange<'_>,
        token: &SecretString,
        on_accepted: impl Fn(),
    ) -> Result<(AccessKey, Option<Lifetime>), Error> {
        let unscoped = iam.token_for_id_token(&self.provider_id, token).await?.text;
        on_accepted();
        let by = Token { id: unscoped.expose_secret(), duration_seconds: DURATION_SECONDS };
        iam.access_key(RequestAuth::Token(&unscoped), Identity { method: "token", by }, Some(&unscoped)).await
    }
}

#[derive(Serialize)]
struct Token<'a> {
    id: &'a str,
    duration_seconds: u32,
}
