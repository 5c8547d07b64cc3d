//! Keys for workloads with a token of their cluster: from STS, for a token of a trusted identity provider, and from the
//! agent on a node, for the token of a pod (`docs/kms-api.md` 5.4).
//!
//! STS is part of the cloud's API. The agent is not: like the metadata service it answers on the node, without a
//! gateway, and a pod's environment contains its URL; here its path is [`POD_PATH`].

use std::time::Duration;

use hyper::HeaderMap;
use serde_json::{Map, Value, json};

use super::access::Permissions;
use super::answer::Answer;
use super::iam::{bad_request, iso, not_found};
use super::operation::Operation;
use super::setup::Setup;
use super::world::World;

/// The path of the node's agent.
pub(super) const POD_PATH: &str = "/v1/credentials";
/// Default lifetime of keys of STS, in seconds (`docs/kms-api.md` 5.4), and of a pod's keys, which is not documented.
const DEFAULT_DURATION: u64 = 3600;

/// An agency that trusts a provider, and the only accepted token of that provider.
#[derive(Clone)]
pub(super) struct Trust {
    pub(super) provider_urn: String,
    pub(super) agency_urn: String,
    pub(super) accepted: String,
}

impl Setup {
    /// Adds an agency that trusts a provider at STS, and the only accepted token of that provider.
    #[must_use]
    pub fn oidc_agency(
        mut self,
        provider_urn: impl Into<String>,
        agency_urn: impl Into<String>,
        accepted_jwt: impl Into<String>,
    ) -> Self {
        let (provider_urn, agency_urn) = (provider_urn.into(), agency_urn.into());
        self.trusts.push(Trust { provider_urn, agency_urn, accepted: accepted_jwt.into() });
        self
    }

    /// Adds an agent for pods at [`Simulator::pod_url`](super::Simulator::pod_url), with its only accepted token.
    #[must_use]
    pub fn pod_identity(self, accepted_token: impl Into<String>) -> Self {
        Self { pod_token: Some(accepted_token.into()), ..self }
    }
}

impl World {
    /// Keys of an agency for a token of a provider.
    pub(super) fn assume_with_oidc(&mut self, body: Option<&Map<String, Value>>) -> Result<Answer, Answer> {
        let text = |name: &str| {
            let text = body.and_then(|body| body.get(name)).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.ok_or_else(|| bad_request(&format!("The {name} is missing.")))
        };
        let (provider_urn, agency_urn) = (text("provider_urn")?, text("agency_urn")?);
        let (session, token) = (text("agency_session_name")?, text("id_token")?);
        let seconds = match body.and_then(|body| body.get("duration_seconds")) {
            None => DEFAULT_DURATION,
            Some(seconds) => seconds.as_u64().ok_or_else(|| bad_request("The duration_seconds is no number."))?,
        };
        let mut trusts = self.trusts.iter();
        let trust = trusts.find(|trust| trust.agency_urn == agency_urn && trust.provider_urn == provider_urn);
        let trust = trust.ok_or_else(|| not_found("Could not find the agency, or it does not trust the provider."))?;
        if trust.accepted != token {
            self.authentication_failures += 1;
            return Err(Answer::iam_code(401, "IAM.0001", "The ID token is invalid or has expired."));
        }
        self.permit(Operation::AssumeWithOidc)?;
        let key = self.new_temporary_key(Permissions::OwnAccount(None), Duration::from_secs(seconds));
        Ok(Answer::value(
            200,
            &json!({
                "assumed_agency": {"urn": format!("{agency_urn}/{session}")},
                "credentials": {
                    "access_key_id": key.access,
                    "secret_access_key": key.secret,
                    "security_token": key.security_token,
                    "expiration": iso(key.expires),
                },
            }),
        ))
    }

    /// Keys of a pod's agency for the pod's token, sent as in the file.
    pub(super) fn pod_keys(&mut self, headers: &HeaderMap, body: Option<&Map<String, Value>>) -> Answer {
        if body.is_none_or(|body| !body.is_empty()) {
            return Answer::text(400, "expected an empty JSON object");
        }
        let sent = headers.get("authorization").and_then(|token| token.to_str().ok());
        match (&self.pod_token, sent) {
            (None, _) => return Answer::html(404),
            (Some(accepted), Some(sent)) if accepted == sent => {}
            _ => return Answer::text(401, "the token is not that of a pod"),
        }
        let key = self.new_temporary_key(Permissions::OwnAccount(None), Duration::from_secs(DEFAULT_DURATION));
        let credentials = json!({
            "accessKeyId": key.access,
            "secretAccessKey": key.secret,
            "securityToken": key.security_token,
            "expiration": iso(key.expires),
        });
        Answer::value(200, &json!({ "credentials": credentials }))
    }
}
