//! What `apply` and `plan` print, against golden files.
//!
//! To renew the files after a wanted change: `UPDATE_GOLDEN=1 cargo test --test observability`, then read the diff.

use std::path::Path;

use kms_rotationd::observability::{Purpose, write_json, write_text};
use kms_rotationd::rotation::report::Report;

use crate::sample::{compliant, one_of_each, project, report};

/// Compares with a file under `tests/golden`.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} differs; it is now\n{text}");
}

fn text(report: &Report, purpose: Purpose, colour: bool) -> String {
    let mut out = Vec::new();
    write_text(report, purpose, colour, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn apply_tells_what_was_done() {
    assert_golden("observability-apply.txt", &text(&one_of_each(), Purpose::Applied, false));
}

#[test]
fn plan_tells_what_a_run_would_change() {
    assert_golden("observability-plan.txt", &text(&one_of_each(), Purpose::Planned, false));
    let settled = report(vec![project("p", kms_rotationd::rotation::project::Mode::Enforce, vec![compliant(0)])]);
    assert!(text(&settled, Purpose::Planned, false).ends_with("1 of 1 key on policy. A run would change nothing.\n"));
}

#[test]
fn colour_adds_escapes_and_changes_no_word() {
    let plain = text(&one_of_each(), Purpose::Applied, false);
    let coloured = text(&one_of_each(), Purpose::Applied, true);
    assert!(!plain.contains('\x1b') && coloured.contains("\x1b[31m"));
    let mut stripped = coloured;
    for escape in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        stripped = stripped.replace(escape, "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn a_command_prints_the_document_of_the_api() {
    let mut out = Vec::new();
    write_json(&one_of_each(), &mut out).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&document["policy"], &document["next_run_at"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(document["run"]["result"], "failure");
    assert_eq!(document["projects"][0]["keys"][1]["changes"][0]["interval_days"], 90);
    assert_eq!(document["projects"][1]["keys"][0]["planned"][0]["step"], "enable_rotation");
}
