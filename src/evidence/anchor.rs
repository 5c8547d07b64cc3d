//! Anchors: what a log was at one size, kept where the writer of the log cannot change it.
//!
//! An anchor is a signed checkpoint, a line of the program's journal, or the metric of the newest checkpoint as
//! Prometheus returns it. All have origin, size and root.

use serde_json::Value;

use super::note::Checkpoint;

/// What a log was at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub checkpoint: Checkpoint,
    /// The signed note, if it is one. The others are as trustworthy as the place where they were kept.
    pub note: Option<String>,
}

/// The anchors in a file: a note, a piece of the journal as text or JSON, or the JSON of a Prometheus query.
#[must_use]
pub fn anchors(text: &str) -> Vec<Anchor> {
    if let Ok(checkpoint) = Checkpoint::parse_unverified(text) {
        return vec![Anchor { checkpoint, note: Some(text.to_owned()) }];
    }
    let mut found = Vec::new();
    match serde_json::from_str::<Value>(text) {
        Ok(json) => in_json(&json, &mut found),
        Err(_) => text.lines().for_each(|line| in_line(line, &mut found)),
    }
    found
}

/// A line of a journal: JSON, or text with `origin=…`, `size=…` and `root=…`.
fn in_line(line: &str, found: &mut Vec<Anchor>) {
    if let Ok(json @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(line) {
        return in_json(&json, found);
    }
    let field = |name: &str| {
        let mut words = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        words.next().map(|value| value.trim_matches('"'))
    };
    found.extend(anchor(field("origin"), field("size"), field("root")));
}

/// Every object with origin, size and root, at any depth; and texts that contain such an object, as the message of
/// `journalctl -o json`.
fn in_json(json: &Value, found: &mut Vec<Anchor>) {
    match json {
        Value::Object(members) => {
            let text =
                |name: &str| members.get(name).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
            let [origin, size, root] = ["origin", "size", "root"].map(text);
            found.extend(anchor(origin.as_deref(), size.as_deref(), root.as_deref()));
            members.values().for_each(|value| in_json(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| in_json(value, found)),
        Value::String(text) if text.contains("root") => in_line(text, found),
        _ => {}
    }
}

fn anchor(origin: Option<&str>, size: Option<&str>, root: Option<&str>) -> Option<Anchor> {
    let (origin, size, root) = (origin?.to_owned(), size?.parse().ok()?, root?.parse().ok()?);
    Some(Anchor { checkpoint: Checkpoint { origin, size, root }, note: None })
}
