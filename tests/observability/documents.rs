//! What `apply` and `plan` print, against golden files.
//!
//! To renew the files after a wanted change: `UPDATE_GOLDEN=1 cargo test --test observability`, then read the diff.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kms_rotationd::observability::{Purpose, TextStyle, write_json, write_text};
use kms_rotationd::rotation::decide::decide;
use kms_rotationd::rotation::key::{DesiredRotation, Reading, Reapply};
use kms_rotationd::rotation::observed::ObservedKey;
use kms_rotationd::rotation::report::{KeyReport, Report};

use serde_json::{Value, json};

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
    let document: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&document["policy"], &document["next_run_at"]), (&Value::Null, &Value::Null));
    assert_eq!(document["run"]["result"], "failure");
    assert_eq!(document["projects"][0]["keys"][1]["changes"][0]["interval_days"], 90);
    assert_eq!(document["projects"][1]["keys"][0]["planned"][0]["step"], "enable_rotation");
}

#[test]
fn the_document_tells_what_selectors_and_exemptions_make_of_keys() {
    let mut out = Vec::new();
    write_json(&account(), &mut out).unwrap();
    let document: Value = serde_json::from_slice(&out).unwrap();
    let project = &document["projects"][0];
    assert_eq!((&project["coverage"], &project["keys_listed"]), (&json!("reported"), &json!(true)));
    assert_eq!((&project["idle_entries"], &project["summary"]["uncovered"]), (&json!([25]), &json!(23)));
    let closed = &document["projects"][1];
    assert_eq!((&closed["coverage"], &closed["keys_listed"]), (&json!("required"), &json!(false)));

    let of = |at: usize, field: &str| project["keys"][at][field].clone();
    assert_eq!((of(1, "policy_interval_days"), of(1, "policy_max_interval_days")), (json!(90), Value::Null));
    assert_eq!((of(2, "policy_interval_days"), of(2, "policy_max_interval_days")), (json!(90), json!(90)));
    assert_eq!(of(2, "exemption"), Value::Null);
    assert_eq!(of(8, "exemption"), json!({"reason": "retired in March, <SEC-112>", "until": "2027-03-31"}));
    assert_eq!(of(10, "exemption")["until"], Value::Null);
    assert_eq!((of(11, "key_id"), of(11, "entry_line")), (json!("alias/legacy-hsm"), json!(22)));
    assert_eq!((of(13, "status"), of(13, "entry_line")), (json!("uncovered"), Value::Null));
}

/// The names of the fields of an object in the document.
fn fields(document: &Value, pointer: &str) -> BTreeSet<String> {
    let object = document.pointer(pointer).and_then(Value::as_object);
    object.unwrap_or_else(|| panic!("no object at {pointer}")).keys().cloned().collect()
}

#[tokio::test]
async fn readme_describes_every_field_of_the_document() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## JSON\n").expect("README has a section on JSON");
    let table = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    let described: BTreeMap<String, BTreeSet<String>> = table
        .skip(1)
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            // Whatever is set as code is a field.
            let names = cells[2].split('`').skip(1).step_by(2);
            (cells[1].trim_matches('`').to_owned(), names.map(ToOwned::to_owned).collect())
        })
        .collect();

    let document = crate::server::document_of(account()).await;
    let expected = [
        ("the document", ""),
        ("policy", "/policy"),
        ("run", "/run"),
        ("summary", "/summary"),
        ("projects[]", "/projects/0"),
        ("keys[]", "/projects/0/keys/0"),
        ("exemption", "/projects/0/keys/8/exemption"),
        ("planned[]", "/projects/0/keys/3/planned/0"),
        ("changes[]", "/projects/2/keys/0/changes/0"),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(name, pointer)| (name.to_owned(), fields(&document, pointer))).collect();
    assert_eq!(described, expected);
}
