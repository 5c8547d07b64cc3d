//! JSON and YAML of other programs and services, with secrets in it.

use std::ops::Deref;

use serde_json::Value;
use zeroize::Zeroize;

/// A parsed text that is wiped on drop.
pub struct WipedJson(Value);

impl From<Value> for WipedJson {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl Deref for WipedJson {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Drop for WipedJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
