//! KMS: validates a call, carries it out on a key, and answers in the dialect of the project's cloud.
//!
//! As in `docs/kms-api.md` 1 and 2. The caller is already authenticated; faults are injected elsewhere.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::behaviour::{Dialect, NeverRotated, SuccessBody};
use super::key::{Key, Refusal, RotationSetting, is_key_id};
use super::listing::{BadListing, Details, list_keys};
use super::operation::Operation;
use super::tags::query;
use super::world::World;

pub(super) type Body = Map<String, Value>;

impl World {
    pub(super) fn kms(
        &mut self,
        operation: Operation,
        project_id: &str,
        headers: &HeaderMap,
        body: Option<&Body>,
        bad_listing: Option<BadListing>,
    ) -> Result<Answer, Answer> {
        let Some(project) = self.projects.get_mut(project_id) else { return Err(key_not_found()) };
        let behaviour = &self.behaviour;
        let dialect = project.dialect.unwrap_or(behaviour.dialect);
        if dialect == Dialect::OpenTelekomCloud && !is_json(headers) {
            return Err(Answer::kms(400, "KMS.0214", "The request format is incorrect."));
        }
        let body = body.ok_or_else(|| Answer::kms(400, "KMS.0202", "The request is not a valid JSON message."))?;
        check_sequence(body)?;
        if operation == Operation::ListKeys {
            return list_keys(&mut project.keys, body, dialect, behaviour, bad_listing);
        }
        if operation == Operation::QueryByTag {
            return query(&mut project.keys, body, dialect, behaviour, bad_listing);
        }
        let key_id = key_id(body)?;
        let interval_days = match operation {
            Operation::UpdateInterval => Some(interval_days(body)?),
            _ => None,
        };
        if !behaviour.rotation_offered && operation != Operation::DescribeKey {
            return Err(refused(Refusal("KMS.0319", "The current KMS version does not support key rotation.")));
        }
        let stored = project.keys.get_mut(key_id).ok_or_else(key_not_found)?;
        let lag = behaviour.visibility_lag;
        match (operation, interval_days) {
            (Operation::EnableRotation, _) => stored.write(lag, Key::enable_rotation),
            (Operation::DisableRotation, _) => stored.write(lag, Key::disable_rotation),
            (_, Some(days)) => stored.write(lag, |key| key.update_interval(days)),
            (Operation::DescribeKey, _) => {
                let details = json!({"key_info": Details::of(stored, dialect)});
                return Ok(Answer::value(200, &details));
            }
            _ => {
                if let Some(refusal) = stored.key.unrotatable().filter(|_| behaviour.status_refused_where_unrotatable) {
                    return Err(refused(refusal));
                }
                let setting = stored.read();
                return Ok(Answer::json(200, status(&stored.key, setting, dialect, behaviour.never_rotated)));
            }
        }
        .map_err(refused)?;
        let documented = if dialect == Dialect::OpenTelekomCloud { SuccessBody::Object } else { SuccessBody::Empty };
        Ok(match behaviour.success_body.unwrap_or(documented) {
            SuccessBody::Empty => Answer::json(200, ""),
            SuccessBody::Object => Answer::json(200, "{}"),
        })
    }
}

fn refused(Refusal(code, text): Refusal) -> Answer {
    Answer::kms(400, code, text)
}

pub(super) fn key_not_found() -> Answer {
    Answer::kms(404, "KMS.0207", "The key does not exist.")
}

/// Whether the content type is JSON, with any charset.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// An optional parameter that must be text.
pub(super) fn text<'a>(body: &'a Body, name: &str) -> Result<Option<&'a str>, Answer> {
    match body.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Answer::kms(400, "KMS.0308", &format!("The parameter {name} is invalid."))),
    }
}

fn check_sequence(body: &Body) -> Result<(), Answer> {
    match body.get("sequence") {
        None => Ok(()),
        Some(Value::String(text)) if text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
        Some(_) => Err(Answer::kms(400, "KMS.0206", "The sequence is invalid.")),
    }
}

fn key_id(body: &Body) -> Result<&str, Answer> {
    let key_id = body.get("key_id").ok_or_else(|| Answer::kms(400, "KMS.0204", "The parameter key_id is missing."))?;
    key_id.as_str().filter(|key_id| is_key_id(key_id)).ok_or_else(bad_key_id)
}

pub(super) fn bad_key_id() -> Answer {
    Answer::kms(400, "KMS.0205", "The key_id is invalid.")
}

fn interval_days(body: &Body) -> Result<u32, Answer> {
    let missing = || Answer::kms(400, "KMS.0204", "The parameter rotation_interval is missing.");
    let interval = body.get("rotation_interval").ok_or_else(missing)?;
    interval
        .as_u64()
        .filter(|days| (30..=365).contains(days))
        .and_then(|days| u32::try_from(days).ok())
        .ok_or_else(|| Answer::kms(400, "KMS.3001", "The rotation_interval must be an integer from 30 to 365."))
}

pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// The answer of `get-key-rotation-status` (`docs/kms-api.md` 1.2).
fn status(key: &Key, setting: RotationSetting, dialect: Dialect, never: NeverRotated) -> String {
    let RotationSetting { enabled, interval_days } = setting;
    let rotations = key.rotations;
    let mut text = String::with_capacity(144);
    // Writing to a string does not fail.
    let _ = match dialect {
        // Not documented: an interval that was never set is absent in one dialect and zero in the others.
        Dialect::Huawei if interval_days == 0 => write!(text, r#"{{"key_rotation_enabled":{enabled}"#),
        Dialect::Huawei => {
            write!(text, r#"{{"key_rotation_enabled":{enabled},"rotation_interval":{interval_days}"#)
        }
        Dialect::OpenTelekomCloud => {
            write!(text, r#"{{"key_rotation_enabled":"{enabled}","rotation_interval":{interval_days}"#)
        }
        Dialect::AllText => {
            write!(text, r#"{{"key_rotation_enabled":"{enabled}","rotation_interval":"{interval_days}""#)
        }
    };
    let _ = match (key.last_rotation, never) {
        (Some(last), _) => {
            let last = milliseconds(last);
            let last = if dialect == Dialect::AllText { last / 1000 } else { last };
            write!(text, r#","last_rotation_time":"{last}""#)
        }
        (None, NeverRotated::Absent) => Ok(()),
        (None, NeverRotated::Empty) => write!(text, r#","last_rotation_time":"""#),
        (None, NeverRotated::Null) => write!(text, r#","last_rotation_time":null"#),
        (None, NeverRotated::Zero) => write!(text, r#","last_rotation_time":0"#),
    };
    let _ = match dialect {
        Dialect::Huawei => write!(text, r#","number_of_rotations":{rotations}}}"#),
        Dialect::OpenTelekomCloud | Dialect::AllText => write!(text, r#","number_of_rotations":"{rotations}"}}"#),
    };
    text
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ID: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    #[test]
    fn the_status_is_the_documented_example_byte_for_byte() {
        let key = Key::new(ID).rotating(30).rotated(3, UNIX_EPOCH + Duration::from_secs(1_501_578_672));
        let status = |dialect| status(&key, key.rotation, dialect, NeverRotated::Absent);
        assert_eq!(
            status(Dialect::Huawei),
            r#"{"key_rotation_enabled":true,"rotation_interval":30,"last_rotation_time":"1501578672000","number_of_rotations":3}"#
        );
        assert_eq!(
            status(Dialect::OpenTelekomCloud),
            r#"{"key_rotation_enabled":"true","rotation_interval":30,"last_rotation_time":"1501578672000","number_of_rotations":"3"}"#
        );
        assert_eq!(
            status(Dialect::AllText),
            r#"{"key_rotation_enabled":"true","rotation_interval":"30","last_rotation_time":"1501578672","number_of_rotations":"3"}"#
        );
    }

    #[test]
    fn a_key_that_never_rotated_has_four_forms_of_the_time() {
        let key = Key::new(ID);
        let last = |never| {
            let text = status(&key, key.rotation, Dialect::Huawei, never);
            serde_json::from_str::<Value>(&text).unwrap().get("last_rotation_time").cloned()
        };
        assert_eq!(last(NeverRotated::Absent), None);
        assert_eq!(last(NeverRotated::Empty), Some("".into()));
        assert_eq!(last(NeverRotated::Null), Some(Value::Null));
        assert_eq!(last(NeverRotated::Zero), Some(0.into()));
    }
}
