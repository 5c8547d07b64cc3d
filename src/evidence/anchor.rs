//! Anchors: what a log was at one size, kept where the writer of the log cannot change it.
//!
//! An anchor is a signed checkpoint, a line of the program's journal, or the metric of the newest checkpoint as
//! Prometheus returns it. All have origin, size and root. Copies of `checkpoints.jsonl` and proofs contain signed
//! checkpoints.

use serde_json::Value;

use super::note::Checkpoint;
use super::proof::Proof;

/// What an anchor is, for users.
pub const EXPECTED: &str = "expected a signed checkpoint (as `evidence checkpoint` prints it), log lines of the \
                            program with \"evidence checkpoint\", or the JSON of a Prometheus query for \
                            kms_rotation_evidence_checkpoint_info";

/// What a log was at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub checkpoint: Checkpoint,
    /// The signed note, if it is one. The others are as trustworthy as the place where they were kept.
    pub note: Option<String>,
}

/// The anchors in a file: notes one after the other, a piece of the journal as text or JSON, or the JSON of a Prometheus
/// query.
#[must_use]
pub fn anchors(text: &str) -> Vec<Anchor> {
    if let Some(notes) = notes(text) {
        return notes;
    }
    if let Ok(proof) = text.parse::<Proof>() {
        return notes(&proof.note).unwrap_or_default();
    }
    let mut found = Vec::new();
    match serde_json::from_str::<Value>(text) {
        Ok(json) => in_json(&json, &mut found),
        Err(_) => text.lines().for_each(|line| in_line(line, &mut found)),
    }
    found
}

/// The notes that a text consists of, if it does. A note ends with its last signature.
fn notes(text: &str) -> Option<Vec<Anchor>> {
    let (mut found, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let signatures = rest.find("\n\n")? + 2;
        let of_signatures = rest[signatures..].split_inclusive('\n').take_while(|line| line.starts_with('\u{2014}'));
        let (note, after) = rest.split_at(signatures + of_signatures.map(str::len).sum::<usize>());
        let checkpoint = Checkpoint::parse_unverified(note).ok()?;
        found.push(Anchor { checkpoint, note: Some(note.to_owned()) });
        rest = after.trim_start_matches('\n');
    }
    Some(found)
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
        Value::String(text) if text.contains("\n\n\u{2014}") => found.extend(notes(text).unwrap_or_default()),
        Value::String(text) if text.contains("root") => in_line(text, found),
        _ => {}
    }
}

fn anchor(origin: Option<&str>, size: Option<&str>, root: Option<&str>) -> Option<Anchor> {
    let (origin, size, root) = (origin?.to_owned(), size?.parse().ok()?, root?.parse().ok()?);
    Some(Anchor { checkpoint: Checkpoint { origin, size, root }, note: None })
}
