//! The answer of `get-key-rotation-status` (`docs/kms-api.md` 1.2), in the dialect of a cloud.

use std::fmt::Write;

use crate::behaviour::{Dialect, NeverRotated};
use crate::encoding::milliseconds;
use crate::key::{Key, RotationSetting};

/// The body of the answer.
pub(super) fn status(key: &Key, setting: RotationSetting, dialect: Dialect, never: NeverRotated) -> String {
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::Value;

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
