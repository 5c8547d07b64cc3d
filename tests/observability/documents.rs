//! What `apply` and `plan` print, against golden files.
//!
//! To renew the files after a wanted change: `UPDATE_GOLDEN=1 cargo test --test observability`, then read the diff.

use std::path::Path;

use kms_rotationd::observability::{Purpose, TextStyle, write_json, write_text};
use kms_rotationd::rotation::decide::decide;
use kms_rotationd::rotation::key::{DesiredRotation, ObservedKey, Reading, Reapply};
use kms_rotationd::rotation::report::{KeyReport, Report};

use crate::sample::{account, changed, compliant, days, one_of_each, project, report};

/// Compares with a file under `tests/golden`.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} differs; it is now\n{text}");
}

fn text(report: &Report, style: TextStyle<'_>) -> String {
    let mut out = Vec::new();
    write_text(report, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// As it is where nothing is asked for.
fn plain(purpose: Purpose) -> TextStyle<'static> {
    TextStyle { purpose, policy_file: Path::new("policy.yaml"), all: false, colour: false }
}

#[test]
fn apply_tells_what_was_done_and_what_is_a_problem() {
    assert_golden("observability-apply.txt", &text(&account(), plain(Purpose::Applied)));
}

#[test]
fn plan_tells_what_a_run_would_change_and_what_is_a_problem() {
    assert_golden("observability-plan.txt", &text(&account(), plain(Purpose::Planned)));
}

#[test]
fn every_key_is_listed_where_that_is_asked_for() {
    let all = text(&account(), TextStyle { all: true, ..plain(Purpose::Planned) });
    assert_golden("observability-plan-all.txt", &all);
    let report = account();
    for (_, key) in report.keys() {
        assert_eq!(all.matches(key.subject.as_str()).count(), 1, "{}", key.subject);
    }
}

#[test]
fn text_of_the_cloud_moves_no_cursor() {
    let text = text(&one_of_each(), plain(Purpose::Applied));
    assert!(text.contains("a<b>&\"c\\\u{fffd}\u{fffd}[31m'ü"), "{text}");
    assert!(text.contains("get-key-rotation-status: HTTP 502 <html>"), "{text}");
}

#[test]
fn a_settled_project_is_two_lines() {
    let mode = kms_rotationd::rotation::project::Mode::Enforce;
    let settled = report(vec![project("p", mode, (0..5_000).map(compliant).collect())]);
    let head = "p  open-telekom-cloud eu-de, enforce\n\n5000 of 5000 keys on policy. ";
    assert_eq!(text(&settled, plain(Purpose::Planned)), format!("{head}A run would change nothing.\n"));
    assert_eq!(text(&settled, plain(Purpose::Applied)), format!("{head}0 changes made in 3.2 s.\n"));
}

#[test]
fn an_interval_that_is_sent_again_is_told_of() {
    let mut always = changed(0);
    always.changes[0].before = always.rotation;
    let planned = KeyReport {
        planned: decide(
            DesiredRotation { reapply: Reapply::Always, ..DesiredRotation::exactly(days(90)) },
            &ObservedKey::new(Reading::Rotation(always.rotation.unwrap())),
        )
        .steps,
        ..compliant(0)
    };
    for (purpose, key) in [(Purpose::Applied, always), (Purpose::Planned, planned)] {
        let report = report(vec![project("p", kms_rotationd::rotation::project::Mode::Enforce, vec![key])]);
        let text = text(&report, plain(purpose));
        assert!(text.contains("90 days  policy.yaml:12  sent again, by reapply: always\n"), "{text}");
    }
}

#[test]
fn colour_adds_escapes_and_changes_no_word() {
    for purpose in [Purpose::Applied, Purpose::Planned] {
        let plain = TextStyle { all: true, ..plain(purpose) };
        let coloured = text(&account(), TextStyle { colour: true, ..plain });
        let plain = text(&account(), plain);
        assert!(!plain.contains('\x1b') && coloured.contains("\x1b[31m"));
        let mut stripped = coloured;
        for escape in ["0", "1", "2", "31", "32", "33", "34"] {
            stripped = stripped.replace(&format!("\x1b[{escape}m"), "");
        }
        assert_eq!(stripped, plain);
    }
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
