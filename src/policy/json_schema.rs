//! The policy's JSON Schema (draft 2020-12), for editors and for who writes policies with programs.
//!
//! Rendered from the tables of the decoder. It refuses nothing that the decoder takes, and says less: two entries that
//! exclude one another, a date that no calendar has or a file that is missing are for `check` to tell.

use serde_json::{Map, Value, json};

use super::document::POLICY;
use crate::yaml::schema::{Form, Kind, Known, Need, Schema};

/// No blank at its ends, and no control character. Spelt out, since not every language in which schemas are read has
/// names for classes of characters (`\p{Cc}`).
const TEXT: &str = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$";

/// The schema of a policy file.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = mapping(&POLICY);
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), "policy of kms-rotationd".into());
    schema.into()
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
    let apart = schema.apart.iter().map(|apart| json!({"not": {"required": [apart.field, apart.other]}}));
    let all_of: Vec<_> = one_of.chain(apart).collect();
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

fn property(known: &Known) -> Value {
    let mut object = kind(&known.kind);
    let description = match known.kind.words() {
        Some(words) => format!("{words}; {}", known.about),
        None => known.about.to_owned(),
    };
    object.insert("description".to_owned(), description.into());
    if let Need::Default(default) = known.need {
        // Every one is JSON, which a test sees to.
        object.insert("default".to_owned(), serde_json::from_str(default).unwrap_or(Value::Null));
    }
    object.into()
}

fn kind(kind: &Kind) -> Map<String, Value> {
    let value = match kind {
        Kind::Mapping(schema) => return mapping(schema),
        Kind::List(schema) => json!({"type": "array", "minItems": 1, "items": mapping(schema)}),
        Kind::Texts(texts) => json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"minLength": 1, "maxLength": texts.longest_key},
            "additionalProperties": {"type": "string", "maxLength": texts.longest_value},
        }),
        Kind::Text(text) => {
            json!({"type": "string", "minLength": 1, "maxLength": text.longest, "pattern": TEXT})
        }
        Kind::Form(Form { pattern, digits: true, .. }) => json!({"type": ["string", "number"], "pattern": pattern}),
        Kind::Form(Form { pattern, .. }) => json!({"type": "string", "pattern": pattern}),
        Kind::Path => json!({"type": "string", "minLength": 1}),
        Kind::Address(_) => json!({"type": "string", "pattern": r"^https?://[^\s/?#@\\]+/?$"}),
        Kind::Choice(names) => json!({"enum": names()}),
        Kind::Count(count) => json!({"type": "integer", "minimum": count.least, "maximum": count.most}),
        Kind::Rate(rate) => json!({"type": "number", "minimum": rate.least, "maximum": rate.most}),
        // Numbers with their units; the bounds are in the description.
        Kind::Span(_) => json!({"type": "string", "pattern": r"^[^-]*[0-9][^-]*[A-Za-zµμ][^-]*$"}),
        Kind::Boolean => json!({"type": "boolean"}),
    };
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
