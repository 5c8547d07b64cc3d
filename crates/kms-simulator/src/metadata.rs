//! The metadata service of an instance: keys of the attached agency, with or without a token (`docs/kms-api.md` 5.3).
//! And the agent on a node, which gives keys to a pod for the token of the pod (`docs/kms-api.md` 5.4).
//!
//! Both have the same address as KMS and IAM, and other paths. They are not part of the cloud's API: there is no
//! gateway in front of them, and their errors are plain text or HTML.

use std::time::Duration;

use hyper::HeaderMap;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::behaviour::MetadataTokens;
use super::credentials::identity::Permissions;
use super::encoding::iso;
use super::issue;
use super::operation::Operation;
use super::world::World;

/// Longest lifetime of a token, in seconds; clients request it (`docs/kms-api.md` 5.3).
const MAX_TOKEN_SECONDS: u64 = 21_600;
/// Default lifetime of an instance's keys; not documented.
const INSTANCE_KEYS_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Default lifetime of a pod's keys; not documented.
const POD_KEYS_LIFETIME: Duration = Duration::from_secs(3600);

/// Every call of the metadata service and of the agent.
pub(super) fn answer(
    world: &mut World,
    operation: Operation,
    headers: &HeaderMap,
    body: Option<&Map<String, Value>>,
) -> Answer {
    match operation {
        Operation::PodKeys => pod_keys(world, headers, body),
        Operation::MetadataToken => metadata_token(world, headers),
        _ => instance_keys(world, headers),
    }
}

fn metadata_token(world: &mut World, headers: &HeaderMap) -> Answer {
    if let MetadataTokens::Absent(status) = world.behaviour.metadata_tokens {
        return Answer::html(status);
    }
    let seconds = headers.get("x-metadata-token-ttl-seconds").and_then(|seconds| seconds.to_str().ok()?.parse().ok());
    let Some(seconds @ 1..=MAX_TOKEN_SECONDS) = seconds else { return Answer::html(400) };
    let token: String = (0..48).map(|_| world.rng.alphanumeric()).collect();
    let now = world.now();
    world.metadata_tokens.retain(|_, expires| *expires > now);
    world.metadata_tokens.insert(token.as_str().into(), now + Duration::from_secs(seconds));
    Answer::text(200, token)
}

fn instance_keys(world: &mut World, headers: &HeaderMap) -> Answer {
    let valid = headers.get("x-metadata-token").map(|token| {
        let expires = token.to_str().ok().and_then(|token| world.metadata_tokens.get(token));
        expires.is_some_and(|expires| *expires > world.now())
    });
    match (world.behaviour.metadata_tokens, valid) {
        (MetadataTokens::Absent(_), _) | (MetadataTokens::Optional, None) | (_, Some(true)) => {}
        (MetadataTokens::Required, None) | (_, Some(false)) => return Answer::html(401),
    }
    if !world.behaviour.instance_agency {
        return Answer::text(401, "Please configure Cloud Service Agency first");
    }
    let key = issue::temporary_key(world, Permissions::OwnAccount(None), INSTANCE_KEYS_LIFETIME);
    Answer::value(200, &issue::credential(&key))
}

/// Keys of a pod's agency for the pod's token, sent as in the file.
fn pod_keys(world: &mut World, headers: &HeaderMap, body: Option<&Map<String, Value>>) -> Answer {
    if body.is_none_or(|body| !body.is_empty()) {
        return Answer::text(400, "expected an empty JSON object");
    }
    let sent = headers.get("authorization").and_then(|token| token.to_str().ok());
    match (&world.pod_token, sent) {
        (None, _) => return Answer::html(404),
        (Some(accepted), Some(sent)) if accepted == sent => {}
        _ => return Answer::text(401, "the token is not that of a pod"),
    }
    let key = issue::temporary_key(world, Permissions::OwnAccount(None), POD_KEYS_LIFETIME);
    let credentials = json!({
        "accessKeyId": key.access,
        "secretAccessKey": key.secret,
        "securityToken": key.security_token,
        "expiration": iso(key.expires),
    });
    Answer::value(200, &json!({ "credentials": credentials }))
}
