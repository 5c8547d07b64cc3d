//! YAML files of other programs, such as `clouds.yaml`.

use serde_json::Value;

use super::source::Source;
use super::tree::{self, Node};

/// The file's content, with each scalar as the text that was written, or `null`. `None` if it is not YAML.
///
/// Scalars stay texts because an account can be named `00000000001000080327` and a password can be `12e4567`.
#[must_use]
pub(crate) fn foreign_yaml(text: &str) -> Option<Value> {
    let source = Source::new(text);
    let tree = tree::parse_foreign(&source).ok()?;
    Some(as_written(&source, &tree))
}

fn as_written(source: &Source<'_>, node: &Node<'_>) -> Value {
    match &node.value {
        tree::Value::Null => Value::Null,
        tree::Value::List(items) => items.iter().map(|item| as_written(source, item)).collect(),
        // The last of equal keys applies, as in Python's reader.
        tree::Value::Mapping(pairs) => Value::Object(
            pairs.iter().filter_map(|(key, value)| Some((scalar(source, key)?, as_written(source, value)))).collect(),
        ),
        _ => scalar(source, node).into(),
    }
}

fn scalar(source: &Source<'_>, node: &Node<'_>) -> Option<String> {
    match node.value {
        tree::Value::Bool(_) | tree::Value::Number => Some(source.slice(node.span).to_owned()),
        _ => node.text().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_scalar_stays_the_text_that_was_written() {
        for text in [
            "00000000001000080327",
            "12345678",
            "0001",
            "0x5A",
            "0o17",
            "1_000",
            "12e4567",
            "-.inf",
            ".nan",
            "1.50",
            "99999999999999999999999999999999999999999999",
            "true",
            "False",
            "yes",
            "2024-01-02",
            "1:30",
        ] {
            for yaml in [
                format!("field: {text}"),
                format!("field:   {text}   # not this"),
                format!("{{field: {text}, other: 1}}"),
                format!("field: '{text}'"),
                format!("field: !!str {text}"),
                format!("first: &name {text}\nfield: *name"),
                format!("first: &name {{field: {text}}}\n<<: *name"),
            ] {
                let read = foreign_yaml(&yaml).unwrap_or_else(|| panic!("{yaml} is not read"));
                assert_eq!(read["field"], *text, "{yaml}");
            }
        }
        assert_eq!(
            foreign_yaml("{a: null, b: ~, c: , d: ''}"),
            Some(json!({"a": null, "b": null, "c": null, "d": ""}))
        );
    }

    #[test]
    fn merge_keys_and_duplicate_keys_are_accepted() {
        let merged = "base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\nown: {<<: *base, b: 4}\n7: [x, 08]";
        assert_eq!(
            foreign_yaml(merged),
            Some(json!({"base": {"a": "1", "b": "2"}, "own": {"a": "1", "b": "4"}, "7": ["x", "08"]}))
        );
        assert_eq!(foreign_yaml("clouds: ["), None);
    }
}
