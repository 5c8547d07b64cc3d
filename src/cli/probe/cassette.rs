//! The cassette: the clear answers of the script as JSON, to be replayed by `rehearse --cassette`.
//!
//! docs/probe.md describes the format. The simulated cloud reads it with code of its own.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::exchange::Exchange;
use super::questions::{Source, page_size};
use super::sanitise;
use crate::kms::single_call::SingleCall;
use crate::policy::is_known_region;

/// The name of the format.
const FORMAT: &str = "kms-rotationd cassette";
/// Its version; a reader refuses a newer one.
const VERSION: u32 = 1;

#[derive(Serialize)]
pub(super) struct Cassette {
    format: &'static str,
    version: u32,
    cloud: &'static str,
    /// One that the cloud documents, or `other`.
    region: String,
    /// The interval that enabling sets on a key without one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_after_enabling: Option<u32>,
    /// Whether enabling keeps an interval that was chosen before.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabling_keeps_interval: Option<bool>,
    calls: Vec<RecordedCall>,
}

/// A call and its answer.
#[derive(Serialize)]
struct RecordedCall {
    call: &'static str,
    situation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_interval: Option<u16>,
    status: u16,
    headers: BTreeMap<&'static str, String>,
    /// `empty`, `json` or `other`
    body_kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    /// The number of keys on a page that is followed by another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    page_size: Option<usize>,
}

impl Cassette {
    /// The cassette of these answers.
    pub(super) fn of(source: &Source<'_>) -> Self {
        let (interval_after_enabling, enabling_keeps_interval) = source.after_enabling();
        let is_known = is_known_region(source.cloud, source.region);
        Self {
            format: FORMAT,
            version: VERSION,
            cloud: source.cloud.as_str(),
            region: if is_known { source.region.to_owned() } else { "other".to_owned() },
            interval_after_enabling,
            enabling_keeps_interval,
            calls: source.exchanges.iter().filter_map(RecordedCall::of).collect(),
        }
    }
}

impl RecordedCall {
    fn of(exchange: &Exchange) -> Option<Self> {
        let answer = exchange.answer()?;
        let step = exchange.step;
        let is_empty = answer.body.trim_ascii().is_empty();
        let body = serde_json::from_slice(&answer.body).ok().map(|body| sanitise::body(&body));
        let mut headers = BTreeMap::new();
        if let Some(kind) = &answer.content_type {
            headers.insert("content-type", sanitise::content_type(kind).to_owned());
        }
        if let Some(wait) = &answer.retry_after {
            headers.insert("retry-after", sanitise::retry_after(wait));
        }
        headers.extend(answer.other_headers.iter().map(|name| (*name, "present".to_owned())));
        let rotation_interval = match step.call {
            SingleCall::SetInterval(_, days) => Some(days),
            _ => None,
        };
        let page_size = match step.call {
            SingleCall::ListKeys(_) => page_size(answer),
            _ => None,
        };
        Some(Self {
            call: step.call.path(),
            situation: step.situation.as_str(),
            rotation_interval,
            status: answer.status,
            headers,
            body_kind: match (is_empty, &body) {
                (true, _) => "empty",
                (false, Some(_)) => "json",
                (false, None) => "other",
            },
            body,
            page_size,
        })
    }
}
