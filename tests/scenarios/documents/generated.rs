//! Parts of the documents that a test generates: each stands between `<!-- generated: NAME -->` and `<!-- end -->`.

use super::repository::{TO_UPDATE, change, text, updates};

/// Splits a document into what stands before the part, the part, and what stands after it.
fn split<'t>(document: &str, text: &'t str, name: &str) -> (&'t str, &'t str, &'t str) {
    let begin = format!("<!-- generated: {name} -->\n");
    let at = text.find(&begin).unwrap_or_else(|| panic!("{document} has no {}", begin.trim_end())) + begin.len();
    let (part, _) = text[at..].split_once("<!-- end -->").unwrap_or_else(|| panic!("{document}: {name} has no end"));
    (&text[..at], part, &text[at + part.len()..])
}

/// The part of a document, as it is.
pub(crate) fn part(document: &str, name: &str) -> String {
    let text = text(document);
    split(document, &text, name).1.to_owned()
}

/// Fails if the part of the document is not this text; with `UPDATE_DOCS` set, writes it.
#[track_caller]
pub(crate) fn assert_part(document: &str, name: &str, expected: &str) {
    if updates() {
        change(document, |text| {
            let (before, _, after) = split(document, text, name);
            format!("{before}{expected}{after}")
        });
    }
    let found = part(document, name);
    let missing: Vec<_> = expected.lines().filter(|line| !found.lines().any(|other| other == *line)).collect();
    let stale: Vec<_> = found.lines().filter(|line| !expected.lines().any(|other| other == *line)).collect();
    assert!(
        found == expected,
        "{document}: the part `{name}` is out of date. Missing: {missing:#?}\nNot expected: {stale:#?}\n\
         {TO_UPDATE}"
    );
}
