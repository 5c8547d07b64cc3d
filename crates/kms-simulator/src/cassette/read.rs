//! Reads a cassette, and refuses one that is broken or newer than this program.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Body, Cassette, RecordedCall, Situation};
use crate::answer::ContentType;
use crate::operation::Operation;

const FORMAT: &str = "kms-rotationd cassette";
const VERSION: u32 = 1;

/// What every version has.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u32,
    cloud: String,
    region: String,
    interval_after_enabling: Option<u32>,
    enabling_keeps_interval: Option<bool>,
    calls: Vec<Call>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    #[serde(rename = "call")]
    path: String,
    situation: String,
    #[serde(rename = "rotation_interval")]
    _rotation_interval: Option<u16>,
    status: u16,
    headers: HashMap<String, String>,
    body_kind: String,
    body: Option<Value>,
    page_size: Option<u64>,
}

impl Cassette {
    /// Reads the text of a cassette.
    ///
    /// # Errors
    ///
    /// It is not a cassette, is broken, or has a newer version: a sentence for people, with the line and column, or the
    /// number of the call.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let head: Head = serde_json::from_slice(json).map_err(|error| format!("it is not a cassette: {error}"))?;
        if head.format != FORMAT {
            return Err(format!("it is not a cassette: `format` is not {FORMAT:?}"));
        }
        if head.version != VERSION {
            return Err(format!(
                "it has version {}, and this program reads version {VERSION}; use the program that recorded it",
                head.version
            ));
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|error| format!("it is a broken cassette: {error}"))?;
        let calls = (1..).zip(document.calls).map(|(number, call)| {
            RecordedCall::read(call).map_err(|why| format!("it is a broken cassette: call {number}: {why}"))
        });
        Ok(Self {
            calls: calls.collect::<Result<_, _>>()?,
            cloud: document.cloud,
            region: document.region,
            interval_after_enabling: document.interval_after_enabling,
            enabling_keeps_interval: document.enabling_keeps_interval == Some(true),
        })
    }
}

impl RecordedCall {
    fn read(call: Call) -> Result<Self, String> {
        let operation = Operation::of_kms(&call.path).map(|(operation, _)| operation);
        let operation = operation.ok_or_else(|| format!("unknown call `{}`", call.path))?;
        let situation = Situation::ALL.into_iter().find(|situation| situation.as_str() == call.situation);
        let situation = situation.ok_or_else(|| format!("unknown situation `{}`", call.situation))?;
        if !(200..600).contains(&call.status) {
            return Err(format!("`status` is {}, expected 200 to 599", call.status));
        }
        let body = match (&*call.body_kind, call.body) {
            ("empty", None) => Body::Empty,
            ("json", Some(body)) => Body::Json(body),
            ("other", None) => Body::Other,
            (kind, _) => {
                return Err(format!("`body_kind` is `{kind}`, expected `empty`, `other`, or `json` with a `body`"));
            }
        };
        let content_type = match call.headers.get("content-type").map(String::as_str) {
            Some("text/html") => ContentType::Html,
            Some("text/plain") => ContentType::Text,
            _ => ContentType::Json,
        };
        let retry_after = call.headers.get("retry-after").filter(|wait| wait.parse::<u32>().is_ok()).cloned();
        Ok(Self {
            operation,
            situation,
            status: call.status,
            content_type,
            retry_after,
            body,
            page_size: call.page_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "format": FORMAT, "version": 1, "cloud": "huawei-cloud", "region": "other",
            "calls": [{
                "call": "enable-key-rotation", "situation": "rotation on", "status": 200, "headers": {},
                "body_kind": "empty",
            }],
        })
    }

    #[test]
    fn a_cassette_is_read() {
        let cassette = Cassette::read(document().to_string().as_bytes()).unwrap();
        assert_eq!((cassette.cloud(), cassette.region(), cassette.calls()), ("huawei-cloud", "other", 1));
        assert!(cassette.find(Operation::EnableRotation, &[Situation::Off, Situation::On]).unwrap().is_success());
        assert_eq!(cassette.find(Operation::EnableRotation, &[Situation::Off]), None);
    }

    #[test]
    fn what_is_wrong_with_a_cassette_is_stated() {
        let broken = |pointer: &str, value: Value| {
            let mut document = document();
            *document.pointer_mut(pointer).unwrap() = value;
            Cassette::read(document.to_string().as_bytes()).unwrap_err()
        };
        for (pointer, value, why) in [
            ("/format", json!("tape"), "it is not a cassette: `format` is not \"kms-rotationd cassette\""),
            ("/version", json!(2), "it has version 2, and this program reads version 1"),
            ("/calls/0/status", json!(99), "call 1: `status` is 99, expected 200 to 599"),
            ("/calls/0/call", json!("rotate"), "call 1: unknown call `rotate`"),
            ("/calls/0/situation", json!("on fire"), "call 1: unknown situation `on fire`"),
            ("/calls/0/body_kind", json!("json"), "call 1: `body_kind` is `json`, expected `empty`"),
            ("/calls/0", json!({"call": "x"}), "it is a broken cassette: missing field"),
            ("/calls", json!({}), "it is a broken cassette: invalid type: map, expected a sequence"),
        ] {
            let said = broken(pointer, value);
            assert!(said.contains(why), "{said}");
        }
        for text in ["", "{", "[]", "{}", "not json"] {
            assert!(Cassette::read(text.as_bytes()).unwrap_err().starts_with("it is not a cassette: "), "{text}");
        }
    }
}
