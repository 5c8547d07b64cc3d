//! A YAML document with positions, its decoding by tables, and what is wrong with it. It knows no policy: policy files
//! and web configuration files are both read here.
//!
//! `tree` keeps the position of every key and value, `decode` and `scalar` collect every problem of one pass by the
//! tables of `schema`, and `problem` shows them. [`foreign_yaml`] reads the files of other programs, of which only
//! some fields matter.

pub(crate) mod decode;
mod foreign;
pub(crate) mod nearest;
pub(crate) mod problem;
pub(crate) mod scalar;
pub(crate) mod schema;
mod snippet;
pub(crate) mod source;
mod syntax;
pub(crate) mod tree;

use std::borrow::Cow;
use std::time::SystemTime;

pub use decode::NamedFile;
pub use foreign::foreign_yaml;
pub use problem::{Problem, Problems, Severity};
pub use source::Position;

use decode::{Decoder, Environment};
use problem::Finding;
use source::{Source, Span};
use tree::{Node, Value};

/// What `meaning` finds in the tree of the file, if it finds no error.
pub(crate) fn read<T>(
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
