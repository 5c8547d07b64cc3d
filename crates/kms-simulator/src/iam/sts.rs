//! STS: keys for a workload with the token of a trusted identity provider (`docs/kms-api.md` 5.4).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::refusal::{bad_request, not_found};
use crate::access;
use crate::answer::Answer;
use crate::credentials::identity::Permissions;
use crate::encoding::iso;
use crate::issue;
use crate::operation::Operation;
use crate::world::World;

/// Default lifetime of the keys, in seconds (`docs/kms-api.md` 5.4).
const DEFAULT_DURATION: u64 = 3600;

/// Keys of an agency for a token of a provider.
pub(super) fn assume_with_oidc(world: &mut World, body: Option<&Map<String, Value>>) -> Result<Answer, Answer> {
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
    let mut trusts = world.trusts.iter();
    let trust = trusts.find(|trust| trust.agency_urn == agency_urn && trust.provider_urn == provider_urn);
    let trust = trust.ok_or_else(|| not_found("Could not find the agency, or it does not trust the provider."))?;
    if trust.accepted != token {
        world.authentication_failures += 1;
        return Err(Answer::iam_code(401, "IAM.0001", "The ID token is invalid or has expired."));
    }
    access::permit(world, Operation::AssumeWithOidc)?;
    let key = issue::temporary_key(world, Permissions::OwnAccount(None), Duration::from_secs(seconds));
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
