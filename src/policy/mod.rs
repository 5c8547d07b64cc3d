//! The policy file: what its users want of which keys.
//!
//! [`load`] reads the file and [`read`] its bytes; both give the whole [`Policy`] or every [problem](Problems) that
//! keeps it from being one. [`types`] is what the rest of the program works with, [`calendar`] says when runs are due.
//! Nothing here touches the network or the files that a policy names.
//!
//! On the way from bytes to policy: `tree` keeps places, `decode` and its neighbours collect problems by the tables of
//! `schema`, `conflict` looks across projects, [`problem`] tells it all. [`json_schema`] shows the same tables to editors.

pub mod calendar;
mod conflict;
mod credentials;
mod decode;
mod document;
mod endpoint;
mod entry;
pub mod file;
mod foreign;
mod json_schema;
mod nearest;
pub mod problem;
mod project;
mod region;
mod scalar;
mod schema;
mod selector;
mod snippet;
mod source;
mod syntax;
mod tree;
pub mod types;
pub mod web;

use std::borrow::Cow;
use std::path::Path;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

pub use calendar::Calendar;
pub use endpoint::{cloud_address, neighbour_address};
pub use file::{UnreadableFile, read_file};
pub use foreign::foreign_yaml;
pub use json_schema::json_schema;
pub use problem::{Problem, Problems, Severity};
pub use project::is_project_id;
pub use source::Place;
pub use types::Policy;

use decode::{Decoder, Environment};
use problem::{Finding, Unplaced};
use source::{Source, Span};
use tree::{Node, Value};

/// A policy, and the warnings about it.
pub type Accepted = (Policy, Problems);

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file could not be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// The file is no valid policy, for these reasons.
    #[error("{0}")]
    Invalid(Problems),
}

/// A list of problems as [`Problems`] has it. A file that cannot be read is one problem, without line and column.
impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Invalid(problems) => problems.serialize(serializer),
            Self::Unreadable(error) => [Unplaced::new(error)].serialize(serializer),
        }
    }
}

/// Reads the policy file at `path`. `environment` gives the variables that its paths may name, and `now` tells which of
/// its exemptions are over.
///
/// # Errors
///
/// The file cannot be read, or is no valid policy.
pub fn load(path: &Path, environment: impl Fn(&str) -> Option<String>, now: SystemTime) -> Result<Accepted, Refused> {
    let bytes = read_file(path)?;
    read(&bytes, &path.display().to_string(), environment, now).map_err(Refused::Invalid)
}

/// Reads a policy from the bytes of a file; `file` is what problems call it.
///
/// # Errors
///
/// The bytes are no valid policy: everything that is wrong with them, warnings among it.
pub fn read(
    bytes: &[u8],
    file: &str,
    environment: impl Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<Accepted, Problems> {
    decode(bytes, file, &environment, now, "a policy with `projects`", document::policy)
}

/// What `meaning` finds in the tree of the file, if it finds no error.
fn decode<T>(
    bytes: &[u8],
    file: &str,
    environment: Environment<'_>,
    now: SystemTime,
    expected: &str,
    meaning: impl FnOnce(&mut Decoder<'_>, &Node<'_>) -> Option<T>,
) -> Result<(T, Problems), Problems> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(error) => return Err(not_utf8(bytes, file, error.valid_up_to())),
    };
    // A byte order mark is no character of the first line.
    let source = Source::new(text.strip_prefix('\u{feff}').unwrap_or(&text));
    let tree = match tree::parse(&source) {
        Ok(tree) => tree,
        Err(fault) => return Err(Problems::new(file, &source, vec![fault])),
    };
    let mut decoder = Decoder::new(&source, environment, now);
    let meant = match tree.value {
        Value::Null => {
            decoder.error(Span::new(0, 0), format!("the file is empty, expected {expected}"));
            None
        }
        _ => meaning(&mut decoder, &tree),
    };
    let findings = decoder.findings;
    match meant {
        Some(meant) if !findings.iter().any(Finding::is_error) => Ok((meant, Problems::new(file, &source, findings))),
        _ => Err(Problems::new(file, &source, findings)),
    }
}

fn not_utf8(bytes: &[u8], file: &str, offset: usize) -> Problems {
    // What stands before the offset is the same in the repaired text.
    let text = String::from_utf8_lossy(bytes);
    let mut finding =
        Finding::error(Span::new(offset, offset), format!("not UTF-8 from byte {offset} on, expected UTF-8 text"));
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        finding.help("this looks like UTF-16: save the file as UTF-8");
    }
    Problems::new(file, &Source::new(&text), vec![finding])
}
