//! The output of `apply` and `plan`, compared with golden files.
//!
//! To write the files again after an intended change: `UPDATE_GOLDEN=1 cargo test --test library`; read the diff.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use kms_rotationd::policy::{self, PolicyRefused};
use kms_rotationd::rotation::decide::{Reason, Status, decide_setting};
use kms_rotationd::rotation::key::{DesiredRotation, Reading, Reapply};
use kms_rotationd::rotation::observed::ObservedKey;
use kms_rotationd::rotation::project::Mode;
use kms_rotationd::rotation::report::{KeyReport, Report};
use kms_rotationd::views::{Purpose, RefusedPolicy, TextStyle, write_json, write_json_without_run, write_text};

use serde_json::{Value, json};

use super::sample::{account, changed, compliant, days, exempt, off, one_of_each, project, report, unknown};

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

/// The default format.
fn plain(purpose: Purpose) -> TextStyle<'static> {
    TextStyle { purpose, policy_file: Path::new("policy.yaml"), all: false, colour: false, simulated: false }
}

#[test]
fn apply_reports_changes_and_problems() {
    assert_golden("apply.txt", &text(&account(), plain(Purpose::Applied)));
}

#[test]
fn plan_reports_planned_changes_and_problems() {
    assert_golden("plan.txt", &text(&account(), plain(Purpose::Planned)));
}

#[test]
fn the_option_all_lists_every_key() {
    let all = text(&account(), TextStyle { all: true, ..plain(Purpose::Planned) });
    assert_golden("plan-all.txt", &all);
    let report = account();
    for (_, key) in report.keys() {
        assert_eq!(all.matches(key.subject.as_str()).count(), 1, "{}", key.subject);
    }
}

#[test]
fn control_characters_of_the_cloud_are_escaped() {
    let text = text(&one_of_each(), plain(Purpose::Applied));
    assert!(text.contains("a<b>&\"c\\\u{fffd}\u{fffd}[31m'ü"), "{text}");
    assert!(text.contains("get-key-rotation-status: HTTP 502 <html>"), "{text}");
}

#[test]
fn a_project_on_policy_is_two_lines() {
    let settled = report(vec![project("p", Mode::Enforce, (0..5_000).map(compliant).collect())]);
    let head = "p  open-telekom-cloud eu-de, enforce\n\n5000 of 5000 keys on policy. ";
    assert_eq!(text(&settled, plain(Purpose::Planned)), format!("{head}A run would change nothing.\n"));
    assert_eq!(text(&settled, plain(Purpose::Applied)), format!("{head}0 changes made in 3.2 s.\n"));
}

#[test]
fn a_repeated_interval_is_reported() {
    let mut always = changed(0);
    always.changes[0].before = always.rotation;
    let planned = KeyReport {
        planned: decide_setting(
            DesiredRotation { reapply: Reapply::Always, ..DesiredRotation::exactly(days(90)) },
            &ObservedKey::new(Reading::Rotation(always.rotation.unwrap())),
        )
        .steps,
        ..compliant(0)
    };
    for (purpose, key) in [(Purpose::Applied, always), (Purpose::Planned, planned)] {
        let report = report(vec![project("p", Mode::Enforce, vec![key])]);
        let text = text(&report, plain(purpose));
        assert!(text.contains("90 days  policy.yaml:12  sent again, by reapply: always\n"), "{text}");
    }
}

#[test]
fn colour_adds_only_escape_sequences() {
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
    write_json(&one_of_each(), false, &mut out).unwrap();
    let document: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&document["policy"], &document["next_run_at"]), (&Value::Null, &Value::Null));
    assert_eq!(document["run"]["result"], "failure");
    assert_eq!(document["projects"][0]["keys"][1]["changes"][0]["interval_days"], 90);
    assert_eq!(document["projects"][1]["keys"][0]["planned"][0]["step"], "enable_rotation");
}

#[test]
fn the_document_shows_selectors_and_exemptions() {
    let mut out = Vec::new();
    write_json(&account(), false, &mut out).unwrap();
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

/// The problems of this policy.
fn refused(policy: &str) -> PolicyRefused {
    match policy::read(policy.as_bytes(), "policy.yaml", |_| None, SystemTime::UNIX_EPOCH) {
        Ok(_) => panic!("{policy} is valid"),
        Err(problems) => PolicyRefused::Invalid(problems),
    }
}

#[test]
fn a_document_without_a_run_has_every_field_and_the_problems() {
    let with_run = |report: &Report| {
        let mut out = Vec::new();
        write_json(report, false, &mut out).unwrap();
        serde_json::from_slice::<Value>(&out).unwrap()
    };
    let without = |refused: Option<RefusedPolicy<'_>>| {
        let mut out = Vec::new();
        write_json_without_run(refused, false, &mut out).unwrap();
        serde_json::from_slice::<Value>(&out).unwrap()
    };
    let invalid = refused("projects: []\nmood: x\n");
    let (error, problems) = (invalid.to_string(), serde_json::to_value(&invalid).unwrap());
    let file = Path::new("policy.yaml");
    let document = without(Some(RefusedPolicy { file, error: &error, problems: &problems }));
    assert_eq!(fields(&document, ""), fields(&with_run(&account()), ""));
    assert_eq!((&document["run"], &document["next_run_at"]), (&Value::Null, &Value::Null));
    assert_eq!(document["projects"], json!([]));
    let unknown = json!({"compliant": null, "non_compliant": null, "unknown": null, "exempt": null, "uncovered": null});
    assert_eq!(document["summary"], unknown, "nobody has counted");
    let policy = &document["policy"];
    assert_eq!((&policy["file"], &policy["reload_successful"]), (&json!("policy.yaml"), &json!(false)));
    assert_eq!((&policy["loaded_at"], policy["error"].as_str()), (&Value::Null, Some(&*error)));
    let places: Vec<_> = policy["problems"].as_array().unwrap().iter().map(|at| (&at["line"], &at["column"])).collect();
    assert_eq!(places, [(&json!(1), &json!(11)), (&json!(2), &json!(1))]);

    let unreadable = PolicyRefused::Unreadable(policy::read_file(Path::new("/nowhere/policy.yaml")).unwrap_err());
    let problem = &serde_json::to_value(unreadable).unwrap()[0];
    assert_eq!(fields(problem, ""), fields(policy, "/problems/0"));
    assert_eq!((&problem["line"], &problem["file"]), (&Value::Null, &json!("/nowhere/policy.yaml")));
    assert!(problem["message"].as_str().unwrap().contains("No such file"), "{problem}");

    let stopped = without(None);
    assert_eq!((fields(&stopped, ""), &stopped["policy"]), (fields(&document, ""), &Value::Null));
}

/// The last sentence of a report, after the state of the keys.
fn end(purpose: Purpose, report: &Report) -> String {
    let text = text(report, plain(purpose));
    let (_, end) = text.trim_end().rsplit('\n').next().unwrap().split_once(". ").unwrap();
    end.to_owned()
}

#[test]
fn plan_reports_only_facts_that_it_could_read() {
    let planned = |mode, keys| end(Purpose::Planned, &report(vec![project("p", mode, keys)]));
    let enforced = |keys| planned(Mode::Enforce, keys);
    assert_eq!(enforced(vec![compliant(0), exempt(1)]), "A run would change nothing.");
    assert_eq!(enforced(vec![unknown(0), unknown(1)]), "No changes found, but 2 keys could not be read.");
    assert_eq!(
        enforced(vec![off(0), unknown(1)]),
        "A run would change 1 key with 2 writes, but 1 key could not be read."
    );
    assert_eq!(
        planned(Mode::Monitor, vec![off(0), compliant(1)]),
        "A run would change nothing. Would change if enforced: 1 key with 2 writes."
    );
    assert_eq!(planned(Mode::Monitor, vec![unknown(0)]), "No changes found, but 1 key could not be read.");

    let mut stopped = Report::clone(&report(vec![project("p", Mode::Enforce, vec![compliant(0)])]));
    stopped.interrupted = true;
    let told = "No changes found; the command was stopped early.";
    assert_eq!(end(Purpose::Planned, &stopped), told);
}

#[test]
fn a_planned_write_to_an_unreadable_key_is_not_counted_as_a_change() {
    let unread = || KeyReport {
        reasons: Reason::StatusUnreadable.into(),
        planned: off(0).planned,
        rotation: None,
        status: Status::Unknown,
        ..off(0)
    };
    let report_in = |mode| report(vec![project("p", mode, vec![unread()])]);
    let enforced = text(&report_in(Mode::Enforce), plain(Purpose::Planned));
    let sent = "; a run would send, without reading: enable rotation, set the interval to 90 days\n";
    assert!(enforced.contains("\n  unknown: 1\n") && enforced.contains(sent), "{enforced}");
    assert!(enforced.ends_with(". No changes found, but 1 key could not be read.\n"), "{enforced}");
    let monitored = text(&report_in(Mode::Monitor), plain(Purpose::Planned));
    assert!(!monitored.contains("send") && !monitored.contains("if enforced"), "{monitored}");
}

#[test]
fn apply_names_the_keys_with_an_unconfirmed_change() {
    let lost = KeyReport { alias: None, changes: changed(0).changes, ..unknown(0) };
    let hidden = KeyReport { reasons: off(1).reasons.with(Reason::NotVerified), changes: changed(1).changes, ..off(1) };
    let applied = |keys| end(Purpose::Applied, &report(vec![project("p", Mode::Enforce, keys)]));
    assert_eq!(applied(vec![changed(2), off(3)]), "1 change made in 3.2 s.");
    assert_eq!(applied(vec![lost, hidden, changed(2)]), "3 changes made in 3.2 s, not confirmed for 2 keys.");
}

/// The names of the fields of an object in the document.
fn fields(document: &Value, pointer: &str) -> BTreeSet<String> {
    let object = document.pointer(pointer).and_then(Value::as_object);
    object.unwrap_or_else(|| panic!("no object at {pointer}")).keys().cloned().collect()
}

#[tokio::test]
async fn the_documentation_has_every_field_of_the_document() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md")).unwrap();
    let (_, section) = text.split_once("\n## JSON\n").expect("there is a section on JSON");
    let table = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    let described: BTreeMap<String, BTreeSet<String>> = table
        .skip(1)
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            // Every code span is a field.
            let names = cells[2].split('`').skip(1).step_by(2);
            (cells[1].trim_matches('`').to_owned(), names.map(ToOwned::to_owned).collect())
        })
        .collect();

    let document = super::server::document_of(account()).await;
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
    let mut expected: BTreeMap<_, _> =
        expected.into_iter().map(|(name, pointer)| (name.to_owned(), fields(&document, pointer))).collect();
    let problems = serde_json::to_value(refused("projects: []")).unwrap();
    expected.insert("problems[]".to_owned(), fields(&problems, "/0"));
    assert_eq!(described, expected);
}
