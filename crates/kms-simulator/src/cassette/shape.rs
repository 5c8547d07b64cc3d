//! Puts values of the simulated cloud into a recorded body: its fields, its JSON types, its unit of time.

use serde_json::{Map, Number, Value};

/// Times, in milliseconds in the values and in any unit in the recording.
const TIMES: [&str; 4] = ["creation_date", "scheduled_deletion_date", "expiration_time", "last_rotation_time"];
const LAST_ROTATION: &str = "last_rotation_time";

/// The recorded body with these values. A recorded field without a value keeps what was recorded; a value without a
/// recorded field is left out.
pub(super) fn fill(template: &Value, values: &Value) -> Value {
    field("", template, Some(values)).unwrap_or_default()
}

/// The field; `None` if it must be left out.
fn field(name: &str, template: &Value, value: Option<&Value>) -> Option<Value> {
    match (template, value) {
        // The recorded key has rotated, and this one has not.
        (_, None) if name == LAST_ROTATION && !is_empty(template) => None,
        (_, None) => Some(template.clone()),
        (Value::Object(template), Some(Value::Object(values))) => Some(object(template, values)),
        (Value::Array(items), Some(Value::Array(values))) => Some(match items.first() {
            Some(first) => values.iter().filter_map(|value| field(name, first, Some(value))).collect(),
            None => values.clone().into(),
        }),
        (_, Some(value)) => Some(scalar(name, template, value)),
    }
}

fn object(template: &Map<String, Value>, values: &Map<String, Value>) -> Value {
    let fields = template.iter().filter_map(|(name, of)| Some((name.clone(), field(name, of, values.get(name))?)));
    let mut filled: Map<String, Value> = fields.collect();
    // The recorded key has not rotated, and this one has.
    if let Some(last) = values.get(LAST_ROTATION).filter(|last| !is_empty(last)) {
        filled.entry(LAST_ROTATION).or_insert_with(|| last.clone());
    }
    Value::Object(filled)
}

fn is_empty(value: &Value) -> bool {
    matches!(&*text(value), "" | "0")
}

/// The text of a value that is neither an array nor an object.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => String::new(),
    }
}

/// The value in the type of the recorded one.
fn scalar(name: &str, template: &Value, value: &Value) -> Value {
    let (recorded, mut text) = (text(template), text(value));
    if TIMES.contains(&name) {
        text = in_unit(&recorded, &text);
    }
    if matches!(&*recorded, "0" | "1") {
        text = match &*text {
            "true" => "1".to_owned(),
            "false" => "0".to_owned(),
            _ => text,
        };
    }
    match template {
        Value::String(_) => text.into(),
        Value::Number(_) => text.parse::<Number>().map_or_else(|_| value.clone(), Value::Number),
        Value::Bool(_) => matches!(&*text, "true" | "1").into(),
        Value::Null if text.is_empty() => Value::Null,
        _ => value.clone(),
    }
}

/// Milliseconds in the unit of the recorded time, by its digits (`docs/kms-api.md` 1.2).
fn in_unit(recorded: &str, milliseconds: &str) -> String {
    match (recorded.len(), milliseconds.parse::<u64>()) {
        (10, Ok(milliseconds)) => (milliseconds / 1000).to_string(),
        (16, Ok(milliseconds)) => milliseconds.saturating_mul(1000).to_string(),
        _ => milliseconds.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_get_the_recorded_types_and_fields() {
        let values = json!({"key_rotation_enabled": true, "rotation_interval": 90, "last_rotation_time": "1501578672000",
                            "number_of_rotations": 3});
        for (template, filled) in [
            (
                json!({"key_rotation_enabled": "false", "rotation_interval": "30", "last_rotation_time": "1700000000",
                       "number_of_rotations": "0", "field_1": "text"}),
                json!({"key_rotation_enabled": "true", "rotation_interval": "90", "last_rotation_time": "1501578672",
                       "number_of_rotations": "3", "field_1": "text"}),
            ),
            (
                json!({"key_rotation_enabled": 0, "last_rotation_time": 1_700_000_000_000_000_u64}),
                json!({"key_rotation_enabled": 1, "last_rotation_time": 1_501_578_672_000_000_u64}),
            ),
            (
                json!({"key_rotation_enabled": false, "last_rotation_time": null}),
                json!({"key_rotation_enabled": true, "last_rotation_time": "1501578672000"}),
            ),
            (json!({"rotation_interval": 1}), json!({"rotation_interval": 90, "last_rotation_time": "1501578672000"})),
        ] {
            assert_eq!(fill(&template, &values), filled, "{template}");
        }
    }

    #[test]
    fn a_key_that_never_rotated_shows_it_as_recorded() {
        let values = json!({"number_of_rotations": 0});
        for never in [json!(""), json!(null), json!(0), json!("0")] {
            let template = json!({"last_rotation_time": never, "number_of_rotations": 0});
            assert_eq!(fill(&template, &values), template);
        }
        let rotated = json!({"last_rotation_time": "1700000000000", "number_of_rotations": 2});
        assert_eq!(fill(&rotated, &values), json!({"number_of_rotations": 0}));
    }

    #[test]
    fn every_item_of_a_list_has_the_shape_of_the_recorded_one() {
        let template = json!({"keys": ["text"], "key_details": [{"key_id": "text", "key_state": 2}], "total": "1"});
        let values = json!({
            "keys": ["a", "b"], "total": 2, "next_marker": "",
            "key_details": [{"key_id": "a", "key_state": "2", "realm": "r"}, {"key_id": "b", "key_state": "3"}],
        });
        let details = json!([{"key_id": "a", "key_state": 2}, {"key_id": "b", "key_state": 3}]);
        assert_eq!(fill(&template, &values), json!({"keys": ["a", "b"], "key_details": details, "total": "2"}));
    }
}
