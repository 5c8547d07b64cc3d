//! Reads YAML files by tables of fields, and reports every problem with its position. `policy` and `web` bring the
//! tables.
//!
//! `tree` parses the text and keeps the position of every key and value; `syntax` explains its errors. `decode` and
//! `scalar` check the tree against the tables of `schema` and collect all problems in one pass; `problem_list` shows
//! them. `write` writes values. `foreign_yaml` reads the files of other programs.

pub(crate) mod decode;
mod foreign;
pub(crate) mod nearest;
pub(crate) mod problem;
mod problem_list;
pub(crate) mod scalar;
pub(crate) mod schema;
mod snippet;
pub(crate) mod source;
mod syntax;
pub(crate) mod tree;
pub(crate) mod wording;
pub(crate) mod write;

use std::time::SystemTime;

pub use decode::NamedFile;
pub(crate) use foreign::foreign_yaml;
pub use problem::{Problem, Severity};
pub use problem_list::Problems;
pub use source::Position;

use decode::{Decoder, VariableLookup};
use problem::Finding;
pub(crate) use problem_list::UnreadableFileProblem;
use source::{Source, Span};
use tree::{Node, Value};

/// Parses a file and decodes it with `decode`. Returns the value and the warnings, or all problems. `expected` is what
/// an empty file lacks.
pub(crate) fn read<T>(
    bytes: &[u8],
    file: &str,
    environment: VariableLookup<'_>,
    now: SystemTime,
    expected: &str,
    decode: impl FnOnce(&mut Decoder<'_>, &Node<'_>) -> Option<T>,
) -> Result<(T, Problems), Problems> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, file, error.valid_up_to()))?;
    // A byte order mark does not count as a column of the first line.
    let source = Source::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    let tree = match tree::parse(&source) {
        Ok(tree) => tree,
        Err(error) => return Err(Problems::new(file, &source, vec![syntax::explain(&source, &error)])),
    };
    let mut decoder = Decoder::new(&source, environment, now);
    let value = match tree.value {
        Value::Null => {
            decoder.error(Span::new(0, 0), format!("the file is empty, expected {expected}"));
            None
        }
        _ => decode(&mut decoder, &tree),
    };
    let findings = decoder.findings;
    match value {
        Some(value) if !findings.iter().any(Finding::is_error) => Ok((value, Problems::new(file, &source, findings))),
        _ => Err(Problems::new(file, &source, findings)),
    }
}

fn not_utf8(bytes: &[u8], file: &str, offset: usize) -> Problems {
    // The replacement characters are after the offset, so the position is right.
    let text = String::from_utf8_lossy(bytes);
    let is_utf16 = matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
    let help = if is_utf16 { "the file seems to be UTF-16: save it as UTF-8" } else { "save the file as UTF-8" };
    let mut finding = Finding::error(Span::new(offset, offset), format!("invalid UTF-8 at byte {offset}"));
    finding.help(help);
    Problems::new(file, &Source::new(&text), vec![finding])
}
