//! The parameters in the body of a KMS call, and what refuses them (`docs/kms-api.md` 1.6 and 3).

use serde_json::{Map, Value};

use crate::answer::Answer;
use crate::key::is_key_id;

/// The body of a KMS call.
pub(super) type Body = Map<String, Value>;

/// An optional parameter that must be text.
pub(super) fn text<'a>(body: &'a Body, name: &str) -> Result<Option<&'a str>, Answer> {
    match body.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Answer::kms(400, "KMS.0308", &format!("The parameter {name} is invalid."))),
    }
}

/// Checks the optional `sequence`.
pub(super) fn check_sequence(body: &Body) -> Result<(), Answer> {
    match body.get("sequence") {
        None => Ok(()),
        Some(Value::String(text)) if text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
        Some(_) => Err(Answer::kms(400, "KMS.0206", "The sequence is invalid.")),
    }
}

/// The mandatory `key_id`.
pub(super) fn key_id(body: &Body) -> Result<&str, Answer> {
    let key_id = body.get("key_id").ok_or_else(|| Answer::kms(400, "KMS.0204", "The parameter key_id is missing."))?;
    key_id.as_str().filter(|key_id| is_key_id(key_id)).ok_or_else(bad_key_id)
}

pub(super) fn bad_key_id() -> Answer {
    Answer::kms(400, "KMS.0205", "The key_id is invalid.")
}

/// The mandatory `rotation_interval`.
pub(super) fn interval_days(body: &Body) -> Result<u32, Answer> {
    let missing = || Answer::kms(400, "KMS.0204", "The parameter rotation_interval is missing.");
    let interval = body.get("rotation_interval").ok_or_else(missing)?;
    interval
        .as_u64()
        .filter(|days| (30..=365).contains(days))
        .and_then(|days| u32::try_from(days).ok())
        .ok_or_else(|| Answer::kms(400, "KMS.3001", "The rotation_interval must be an integer from 30 to 365."))
}

/// A number, or a number as text (`docs/kms-api.md` 1.4).
pub(super) fn number(body: &Body, name: &str, code: &str) -> Result<Option<u64>, Answer> {
    let number = match body.get(name) {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    number.map(Some).ok_or_else(|| Answer::kms(400, code, &format!("The parameter {name} is invalid.")))
}

pub(super) fn key_not_found() -> Answer {
    Answer::kms(404, "KMS.0207", "The key does not exist.")
}
