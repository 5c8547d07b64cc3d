//! YAML files of other programs, of which only some fields are of interest.

/// The file's content as plain values; nothing where it is no YAML.
#[must_use]
pub fn foreign_yaml(text: &str) -> Option<serde_json::Value> {
    serde_saphyr::from_str(text).ok()
}
