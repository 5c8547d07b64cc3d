//! Renders the policy's JSON Schema (draft 2020-12) from the tables of the decoder, for editors and generators.
//!
//! The schema accepts every valid policy, and also some invalid ones: only `check` reports conflicting entries, dates
//! that do not exist, and missing files.

use serde_json::{Map, Value, json};

use super::document::POLICY;
use super::project::PROJECT;
use crate::yaml::schema::{FieldKind, FieldSchema, Form, Need, Schema};

/// No space at the ends and no control character. Without character classes such as `\p{Cc}`, which not all readers of
/// schemas support.
const TEXT: &str = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$";

/// The schema of a policy file.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = mapping(&POLICY);
    let inherited = PROJECT.fields.iter().filter(|known| known.need == Need::RequiredOrInherited);
    schema.insert("allOf".to_owned(), inherited.map(|known| required_unless_default(known.name)).collect());
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), "policy of kms-rotationd".into());
    schema.into()
}

/// Every project requires the field if `defaults` does not set it.
fn required_unless_default(name: &str) -> Value {
    json!({
        "if": {"required": ["defaults"], "properties": {"defaults": {"required": [name]}}},
        "else": {"properties": {"projects": {"items": {"required": [name]}}}},
    })
}

fn mapping(schema: &Schema) -> Map<String, Value> {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    set("type", "object".into());
    set("additionalProperties", false.into());
    set("properties", schema.fields.iter().map(|known| (known.name.to_owned(), property(known))).collect());
    let required = schema.fields.iter().filter(|known| known.need == Need::Required).map(|known| known.name);
    let required: Vec<Value> = required.map(Value::from).collect();
    if !required.is_empty() {
        set("required", required.into());
    }
    let one_of = schema.one_of.iter().map(|group| {
        let each: Vec<_> = group.iter().map(|name| json!({"required": [name]})).collect();
        json!({"oneOf": each})
    });
    let exclusions =
        schema.exclusions.iter().map(|exclusion| json!({"not": {"required": [exclusion.field, exclusion.other]}}));
    let all_of: Vec<_> = one_of.chain(exclusions).collect();
    if !all_of.is_empty() {
        set("allOf", all_of.into());
    }
    let together: Map<_, _> =
        schema.together.iter().flat_map(|[a, b]| [(a, b), (b, a)]).map(|(a, b)| (a.to_string(), json!([b]))).collect();
    if !together.is_empty() {
        set("dependentRequired", together.into());
    }
    object
}

fn property(known: &FieldSchema) -> Value {
    let mut object = kind(&known.kind);
    let description = match known.kind.words() {
        Some(words) => format!("{words}; {}", known.about),
        None => known.about.to_owned(),
    };
    object.insert("description".to_owned(), description.into());
    if let Need::Default(default) = known.need {
        // A test checks that every default is JSON.
        object.insert("default".to_owned(), serde_json::from_str(default).unwrap_or(Value::Null));
    }
    object.into()
}

fn kind(kind: &FieldKind) -> Map<String, Value> {
    let value = match kind {
        FieldKind::Mapping(schema) => return mapping(schema),
        FieldKind::List(schema) => json!({"type": "array", "minItems": 1, "items": mapping(schema)}),
        FieldKind::TextMap(map) => json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"minLength": 1, "maxLength": map.longest_key},
            "additionalProperties": {"type": "string", "maxLength": map.longest_value},
        }),
        FieldKind::Text(text) => {
            json!({"type": "string", "minLength": 1, "maxLength": text.longest, "pattern": TEXT})
        }
        FieldKind::Form(Form { pattern, numeric: true, .. }) => {
            json!({"type": ["string", "number"], "pattern": pattern})
        }
        FieldKind::Form(Form { pattern, .. }) => json!({"type": "string", "pattern": pattern}),
        FieldKind::Path => json!({"type": "string", "minLength": 1}),
        FieldKind::Address(_) => json!({"type": "string", "pattern": r"^https?://[^\s/?#@\\]+/?$"}),
        FieldKind::Choice(names) => json!({"enum": names()}),
        FieldKind::Count(count) => json!({"type": "integer", "minimum": count.least, "maximum": count.most}),
        FieldKind::Rate(rate) => json!({"type": "number", "minimum": rate.least, "maximum": rate.most}),
        // Numbers with units; the bounds are in the description.
        FieldKind::Duration(_) => json!({"type": "string", "pattern": r"^[^-]*[0-9][^-]*[A-Za-zµμ][^-]*$"}),
        FieldKind::Boolean => json!({"type": "boolean"}),
    };
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
