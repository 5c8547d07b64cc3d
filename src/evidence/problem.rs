//! What can be wrong with a log, in words.

use std::fmt;

use serde_json::{Value, json};

/// The size that a checkpoint or an anchor states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The number of records.
    pub size: u64,
    /// The time in `checkpoints.jsonl`, if it has this checkpoint.
    pub at: Option<String>,
    /// Whether it is an anchor, and not a checkpoint in the folder.
    pub is_anchor: bool,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is shorter than a checkpoint or anchor.
    Truncated { stated: Stated, found: u64, until: Option<String> },
    /// The first records differ from what a checkpoint or anchor states. At the size of `unchanged` they did not.
    Rewritten { stated: Stated, unchanged: Option<Stated> },
    /// The log's key has signed two roots of the same size.
    Forked { one: Stated, other: Stated },
    /// A line that a checkpoint states is no record.
    NotARecord { record: u64 },
    /// A segment does not follow the one before it.
    Segment { first: u64, why: &'static str },
    /// A checkpoint or anchor that the log's key has not signed.
    NotSigned { what: String },
    /// `log.json` is missing or damaged, or its public key cannot be used.
    Identity(String),
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, at, is_anchor } = self;
        f.write_str(if *is_anchor { "the anchor over " } else { "the checkpoint over " })?;
        f.write_str(&records(*size))?;
        at.as_ref().map_or(Ok(()), |at| write!(f, ", signed {at}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { stated, found, until } => {
                write!(f, "TRUNCATED: {} found", records(*found))?;
                until.as_ref().map_or(Ok(()), |until| write!(f, ", the last one of {until}"))?;
                write!(f, "; missing records are stated by {stated}")
            }
            Self::Rewritten { stated, unchanged } => {
                let first = unchanged.as_ref().map_or(0, |unchanged| unchanged.size);
                let last = stated.size.saturating_sub(1);
                f.write_str("REWRITTEN: ")?;
                if first < last {
                    write!(f, "a record between number {first} and number {last} differs")?;
                } else {
                    write!(f, "record number {last} differs")?;
                }
                write!(f, " from what was stated by {stated}")?;
                unchanged.as_ref().map_or(Ok(()), |unchanged| write!(f, "; {unchanged}, still matches"))
            }
            Self::Forked { one, other } => write!(
                f,
                "FORKED: the log's key has signed two different logs of {}: {one}, and {other}",
                records(one.size)
            ),
            Self::NotARecord { record } => {
                write!(f, "REWRITTEN: the line of record number {record} is not that record")
            }
            Self::Segment { first, why } => write!(f, "REWRITTEN: the segment of record number {first} {why}"),
            Self::NotSigned { what } => write!(f, "NOT SIGNED: {what} has no valid signature by the log's key"),
            Self::Identity(why) => write!(f, "UNKNOWN KEY: {why}"),
        }
    }
}

impl Stated {
    fn json(&self) -> Value {
        json!({"size": self.size, "at": self.at, "anchor": self.is_anchor})
    }
}

impl Problem {
    /// For programs: the kind, what it is about, and the text.
    pub(super) fn json(&self) -> Value {
        let mut json = match self {
            Self::Truncated { stated, found, .. } => {
                json!({"kind": "truncated", "stated": stated.json(), "records": found})
            }
            Self::Rewritten { stated, unchanged } => {
                let unchanged = unchanged.as_ref().map(Stated::json);
                json!({"kind": "rewritten", "stated": stated.json(), "unchanged": unchanged})
            }
            Self::Forked { one, other } => json!({"kind": "forked", "stated": one.json(), "other": other.json()}),
            Self::NotARecord { record } => json!({"kind": "rewritten", "record": record}),
            Self::Segment { first, .. } => json!({"kind": "rewritten", "segment": first}),
            Self::NotSigned { .. } => json!({"kind": "not_signed"}),
            Self::Identity(_) => json!({"kind": "unknown_key"}),
        };
        json["text"] = self.to_string().into();
        json
    }
}

/// A number of records in words.
pub(super) fn records(number: u64) -> String {
    if number == 1 { "1 record".to_owned() } else { format!("{number} records") }
}
