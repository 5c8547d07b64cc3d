//! The metadata service of an instance: keys of the attached agency, with or without a token (`docs/kms-api.md` 5.3).
//!
//! It has the same address as KMS and IAM, and other paths. It is not part of the cloud's API: there is no gateway in
//! front of it, and its errors are plain text or HTML.

use std::time::Duration;

use hyper::HeaderMap;
use serde_json::{Map, Value};

use super::access::Permissions;
use super::answer::Answer;
use super::behaviour::MetadataTokens;
use super::operation::Operation;
use super::world::World;

/// Longest lifetime of a token, in seconds; clients request it (`docs/kms-api.md` 5.3).
const MAX_TOKEN_SECONDS: u64 = 21_600;
/// Default lifetime of an instance's keys; not documented.
const KEYS_LIFETIME: Duration = Duration::from_secs(24 * 3600);

impl World {
    pub(super) fn metadata(
        &mut self,
        operation: Operation,
        headers: &HeaderMap,
        body: Option<&Map<String, Value>>,
    ) -> Answer {
        match operation {
            Operation::PodKeys => self.pod_keys(headers, body),
            Operation::MetadataToken => self.metadata_token(headers),
            _ => self.instance_keys(headers),
        }
    }

    fn metadata_token(&mut self, headers: &HeaderMap) -> Answer {
        if let MetadataTokens::Absent(status) = self.behaviour.metadata_tokens {
            return Answer::html(status);
        }
        let seconds =
            headers.get("x-metadata-token-ttl-seconds").and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let Some(seconds @ 1..=MAX_TOKEN_SECONDS) = seconds else { return Answer::html(400) };
        let token: String = (0..48).map(|_| self.rng.alphanumeric()).collect();
        let now = self.now();
        self.metadata_tokens.retain(|_, expires| *expires > now);
        self.metadata_tokens.insert(token.as_str().into(), now + Duration::from_secs(seconds));
        Answer::text(200, token)
    }

    fn instance_keys(&mut self, headers: &HeaderMap) -> Answer {
        let valid = headers.get("x-metadata-token").map(|token| {
            let expires = token.to_str().ok().and_then(|token| self.metadata_tokens.get(token));
            expires.is_some_and(|expires| *expires > self.now())
        });
        match (self.behaviour.metadata_tokens, valid) {
            (MetadataTokens::Absent(_), _) | (MetadataTokens::Optional, None) | (_, Some(true)) => {}
            (MetadataTokens::Required, None) | (_, Some(false)) => return Answer::html(401),
        }
        if !self.behaviour.instance_agency {
            return Answer::text(401, "Please configure Cloud Service Agency first");
        }
        Answer::value(200, &self.issue_temporary_key(Permissions::OwnAccount(None), KEYS_LIFETIME))
    }
}
