//! The answer of `get-key-rotation-status` (`docs/kms-api.md` 1.2), in the dialect of a cloud.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::behaviour::{Dialect, NeverRotated};
use crate::encoding::milliseconds;
use crate::fault::BadRotation;
use crate::key::{Key, RotationSetting};

const DAY: Duration = Duration::from_secs(86_400);

/// What the answer states about past rotations.
pub(super) struct Past {
    rotations: u32,
    last: Option<SystemTime>,
    in_seconds: bool,
}

impl Past {
    /// The rotations of the key, or what a fault makes of them.
    pub(super) fn of(key: &Key, dialect: Dialect, bad: Option<BadRotation>, now: SystemTime) -> Self {
        let in_seconds = dialect == Dialect::AllText;
        let past = Self { rotations: key.rotations, last: key.last_rotation, in_seconds };
        match bad {
            None => past,
            Some(BadRotation::CountBack) => Self { rotations: key.rotations.saturating_sub(1), ..past },
            Some(BadRotation::TimeInSeconds) => Self { in_seconds: true, ..past },
            Some(BadRotation::TimeInTheFuture) => Self { last: now.checked_add(DAY), ..past },
            Some(BadRotation::TimeBeforeCreation) => {
                Self { last: key.created.and_then(|created| created.checked_sub(DAY)), ..past }
            }
            Some(BadRotation::CountWithoutTime) => Self { rotations: key.rotations.max(1), last: None, ..past },
        }
    }
}

/// The body of the answer.
pub(super) fn status(setting: RotationSetting, past: &Past, dialect: Dialect, never: NeverRotated) -> String {
    let RotationSetting { enabled, interval_days } = setting;
    let rotations = past.rotations;
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
    let _ = match (past.last, never) {
        (Some(last), _) => {
            let last = milliseconds(last);
            let last = if past.in_seconds { last / 1000 } else { last };
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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    #[test]
    fn the_status_is_the_documented_example_byte_for_byte() {
        let key = Key::new(ID).rotating(30).rotated(3, UNIX_EPOCH + Duration::from_secs(1_501_578_672));
        let status = |dialect| {
            let past = Past::of(&key, dialect, None, UNIX_EPOCH);
            status(key.rotation, &past, dialect, NeverRotated::Absent)
        };
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
            let text = status(key.rotation, &Past::of(&key, Dialect::Huawei, None, UNIX_EPOCH), Dialect::Huawei, never);
            serde_json::from_str::<Value>(&text).unwrap().get("last_rotation_time").cloned()
        };
        assert_eq!(last(NeverRotated::Absent), None);
        assert_eq!(last(NeverRotated::Empty), Some("".into()));
        assert_eq!(last(NeverRotated::Null), Some(Value::Null));
        assert_eq!(last(NeverRotated::Zero), Some(0.into()));
    }

    #[test]
    fn each_bad_answer_is_wrong_in_its_own_way_and_right_in_the_setting() {
        let now = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let last = UNIX_EPOCH + Duration::from_secs(1_501_578_672);
        let answer = |key: &Key, dialect, bad| {
            let past = Past::of(key, dialect, Some(bad), now);
            let text = status(key.rotation, &past, dialect, NeverRotated::Absent);
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            let mut field = |name| answer.as_object_mut().unwrap().remove(name);
            let past = (field("last_rotation_time"), field("number_of_rotations").unwrap());
            (past, answer)
        };
        let key = Key::new(ID).created(UNIX_EPOCH + Duration::from_secs(1_500_000_000)).rotating(30).rotated(3, last);
        for (bad, time, count) in [
            (BadRotation::CountBack, Some("1501578672000"), 2),
            (BadRotation::TimeInSeconds, Some("1501578672"), 3),
            (BadRotation::TimeInTheFuture, Some("1600086400000"), 3),
            (BadRotation::TimeBeforeCreation, Some("1499913600000"), 3),
            (BadRotation::CountWithoutTime, None, 3),
        ] {
            let setting = json!({"key_rotation_enabled": true, "rotation_interval": 30});
            let past = (time.map(Value::from), json!(count));
            assert_eq!(answer(&key, Dialect::Huawei, bad), (past, setting), "{bad:?}");
        }
        let text = |bad| answer(&key, Dialect::AllText, bad).0;
        assert_eq!(text(BadRotation::TimeInSeconds), (Some("1501578672".into()), "3".into()));
        assert_eq!(text(BadRotation::TimeInTheFuture), (Some("1600086400".into()), "3".into()));
        assert_eq!(text(BadRotation::CountBack), (Some("1501578672".into()), "2".into()));

        let never = |bad| answer(&Key::new(ID), Dialect::Huawei, bad).0;
        assert_eq!(never(BadRotation::CountBack), (None, json!(0)));
        assert_eq!(never(BadRotation::TimeInSeconds), (None, json!(0)));
        assert_eq!(never(BadRotation::CountWithoutTime), (None, json!(1)));
    }
}
