//! The metadata service of an instance: the keys of the agency that is attached to it, with a token before them or
//! without.
//!
//! It answers on the same address as KMS and IAM, by paths of its own. It is no part of the cloud's API: no gateway
//! stands before it, and it answers in plain text what is not the keys themselves.

use std::time::Duration;

use hyper::HeaderMap;
use serde_json::{Map, Value};

use super::access::Reach;
use super::answer::Answer;
use super::behaviour::MetadataTokens;
use super::operation::Operation;
use super::world::World;

/// The longest life of a token, in seconds; the one that clients ask for.
const LONGEST_TOKEN: u64 = 21_600;
/// How long an instance's keys live unless told otherwise. No document says.
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
        let Some(seconds @ 1..=LONGEST_TOKEN) = seconds else { return Answer::html(400) };
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
        Answer::value(200, &self.issue_temporary_key(Reach::Own(None), KEYS_LIFETIME))
    }
}
