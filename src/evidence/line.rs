//! One record as a line of JSON.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of records.
const VERSION: u8 = 1;

/// What every record begins with, and its own fields.
#[derive(Serialize)]
struct Line<'a, T> {
    v: u8,
    seq: u64,
    at: String,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    fields: &'a T,
}

/// The head of a record that was read. Its texts have no escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Head<'a> {
    v: u8,
    /// Its number in the log, counted from 0.
    seq: u64,
    /// When it was written: RFC 3339, UTC, to the millisecond.
    pub(super) at: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
}

/// A record as the bytes of its line, without the line break.
///
/// # Errors
///
/// The fields cannot be written as a JSON object.
pub(super) fn encode(seq: u64, at: SystemTime, kind: &str, fields: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Line { v: VERSION, seq, at: time(at), kind, fields })
}

/// The head of a line, if the line is the record with this number.
pub(super) fn head(line: &[u8], seq: u64) -> Option<Head<'_>> {
    let head: Head<'_> = serde_json::from_slice(line).ok()?;
    (head.v == VERSION && head.seq == seq).then_some(head)
}

/// A time as records have it.
pub(super) fn time(at: SystemTime) -> String {
    format!("{:.3}", Timestamp::try_from(at).unwrap_or(Timestamp::MAX))
}

/// The lines of a segment and whether each is complete: the last one has no line break if its write was cut.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    content.split_inclusive(|byte| *byte == b'\n').map(|line| match line.strip_suffix(b"\n") {
        Some(line) => (line, true),
        None => (line, false),
    })
}
