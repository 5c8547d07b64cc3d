//! Compares an answer with docs/kms-api.md: status, code, shape of the error, names and JSON types of the fields.
//!
//! Where the documents disagree about a type, each documented one is accepted. The differences are sentences for people
//! and may contain names of fields; they are not recorded.

use serde_json::{Map, Value};

use super::exchange::{Expected, Setting};
use crate::kms::single_call::RawAnswer;
use crate::support::printable::excerpt;

/// The longest name or value of a field that is printed, in characters.
pub(super) const LONGEST: usize = 80;

/// A field: its name, the documented types, and whether every documented answer has it.
type Field = (&'static str, &'static [Kind], bool);

/// `docs/kms-api.md` 1.2
const STATUS: &[Field] = &[
    ("key_rotation_enabled", &[Kind::Boolean, Kind::String], true),
    ("rotation_interval", &[Kind::Number, Kind::String], false),
    ("last_rotation_time", &[Kind::String], false),
    ("number_of_rotations", &[Kind::Number, Kind::String], true),
    ("key_materials", &[Kind::Array], false),
];

/// `docs/kms-api.md` 1.3. One cloud's tables lack the last ones.
const DETAILS: &[Field] = &[
    ("key_id", &[Kind::String], true),
    ("domain_id", &[Kind::String], true),
    ("key_alias", &[Kind::String], true),
    ("realm", &[Kind::String], true),
    ("key_spec", &[Kind::String], false),
    ("key_usage", &[Kind::String], false),
    ("key_description", &[Kind::String], true),
    ("creation_date", &[Kind::String], true),
    ("scheduled_deletion_date", &[Kind::String], true),
    ("key_state", &[Kind::String], true),
    ("default_key_flag", &[Kind::String], true),
    ("key_type", &[Kind::String], true),
    ("expiration_time", &[Kind::String], true),
    ("origin", &[Kind::String], true),
    ("key_rotation_enabled", &[Kind::String], false),
    ("sys_enterprise_project_id", &[Kind::String], false),
    ("keystore_id", &[Kind::String], false),
    ("keystore_type", &[Kind::String], false),
    ("multi_region_key_type", &[Kind::String], false),
    ("pending_days", &[Kind::String], false),
];

/// `docs/kms-api.md` 1.4
const PAGE: &[Field] = &[
    ("keys", &[Kind::Array], true),
    ("key_details", &[Kind::Array], true),
    ("next_marker", &[Kind::String], true),
    ("truncated", &[Kind::String], true),
    ("total", &[Kind::Number], true),
];

/// A JSON type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// The JSON type of a value, in words.
pub(super) fn type_name(value: &Value) -> &'static str {
    Kind::of(value).as_str()
}

/// The fields of a body; `None` if it is no JSON object.
pub(super) fn fields(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

/// How the answer differs from what the documents expect.
pub(super) fn differences(expected: Expected, answer: &RawAnswer) -> Vec<String> {
    let mut found = Vec::new();
    if expected == Expected::Undocumented {
        return found;
    }
    let code = excerpt(&answer.code, LONGEST);
    let object = fields(&answer.body);
    let status = if let Expected::Refused(_) = expected { 400 } else { 200 };
    if answer.status != status {
        found.push(format!("the HTTP status is {}, not {status}", answer.status));
    }
    if let Expected::Refused(expected) = expected {
        if code.is_empty() {
            found.push("there is no error code".to_owned());
        } else if code != expected {
            found.push(format!("the error code is {code}, not {expected}"));
        } else if object.is_none_or(|object| !object.get("error").is_some_and(Value::is_object)) {
            found.push("the error code is not inside of `error`".to_owned());
        }
        return found;
    }
    if !code.is_empty() {
        found.push(format!("it is refused with {code}"));
    }
    if !answer.is_success() {
        return found;
    }
    match (expected, object) {
        (Expected::Accepted, _) if answer.body.trim_ascii().is_empty() => {}
        (_, None) => found.push("the body is no JSON object".to_owned()),
        (Expected::Accepted, Some(object)) => {
            found.extend(object.keys().map(|name| format!("there is a field `{}`", excerpt(name, LONGEST))));
        }
        (Expected::Shows(setting), Some(object)) => {
            compare_fields(&object, STATUS, "", &mut found);
            compare_setting(setting, answer, &mut found);
        }
        (Expected::Status, Some(object)) => compare_fields(&object, STATUS, "", &mut found),
        (Expected::Details, Some(object)) => match object.get("key_info") {
            Some(Value::Object(details)) => compare_fields(details, DETAILS, "", &mut found),
            _ => found.push("there is no object `key_info`".to_owned()),
        },
        (Expected::Page, Some(object)) => {
            compare_fields(&object, PAGE, "", &mut found);
            if let Some(Value::Object(first)) = object.get("key_details").and_then(|details| details.get(0)) {
                compare_fields(first, DETAILS, " of the first key", &mut found);
            }
        }
        (Expected::Refused(_) | Expected::Undocumented, _) => {}
    }
    found
}

fn compare_setting(setting: Setting, answer: &RawAnswer, found: &mut Vec<String>) {
    if let Some(rotation) = answer.rotation()
        && !setting.is_shown_by(rotation)
    {
        found.push(format!("it shows {}, not {setting}", Setting::from(rotation)));
    }
}

/// Adds what differs in names and types; `whose` is added to the name of a field.
fn compare_fields(object: &Map<String, Value>, documented: &[Field], whose: &str, found: &mut Vec<String>) {
    for (name, kinds, is_everywhere) in documented {
        match object.get(*name) {
            None if *is_everywhere => found.push(format!("there is no field `{name}`{whose}")),
            None => {}
            Some(value) if kinds.contains(&Kind::of(value)) => {}
            // No document states how a key that never rotated shows it.
            Some(value) if *name == "last_rotation_time" && (value.is_null() || *value == 0) => {}
            Some(value) => found.push(format!("the field `{name}`{whose} is {}", type_name(value))),
        }
    }
    let unknown = object.iter().filter(|(name, _)| !documented.iter().any(|(known, ..)| *known == name.as_str()));
    found.extend(unknown.map(|(name, value)| {
        let name = excerpt(name, LONGEST);
        format!("there is a field `{name}`{whose}, {}", type_name(value))
    }));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_and_names_that_no_document_has_are_differences_and_those_of_one_document_are_not() {
        let compared = |status: &Value| {
            let mut found = Vec::new();
            compare_fields(status.as_object().unwrap(), STATUS, "", &mut found);
            found
        };
        for documented in [
            json!({"key_rotation_enabled": true, "rotation_interval": 30, "last_rotation_time": "1501578672000",
                   "number_of_rotations": 3}),
            json!({"key_rotation_enabled": "true", "rotation_interval": "30", "number_of_rotations": "3"}),
            json!({"key_rotation_enabled": false, "last_rotation_time": null, "number_of_rotations": 0}),
            json!({"key_rotation_enabled": false, "last_rotation_time": 0, "number_of_rotations": 0}),
        ] {
            assert_eq!(compared(&documented), [""; 0], "{documented}");
        }
        let other = json!({"key_rotation_enabled": 1, "last_rotation_time": 1_501_578_672_u64, "next": {}});
        assert_eq!(
            compared(&other),
            [
                "the field `key_rotation_enabled` is a number",
                "the field `last_rotation_time` is a number",
                "there is no field `number_of_rotations`",
                "there is a field `next`, an object",
            ]
        );
    }
}
