//! Proof of rotation: what the program shows of the age of key material, and of keys that it cannot or need not write.

use std::time::{Duration, SystemTime};

use kms_simulator::{Fault, Key, KeyState, Operation, OperationSet, Rule};
use rustix::process::Signal;
use serde_json::Value;

use super::cloud::{Cloud, rotating, setup, unlisted};
use super::program::{Daemon, Report};
use super::site::{Policy, Site};
use super::{KEY, PROJECT, key_id};

fn days_ago(days: u32) -> SystemTime {
    SystemTime::now() - days * Duration::from_secs(86_400)
}

/// The key of most tests at 90 days. The cloud rotated it `days` days ago.
fn rotated(days: u32) -> Key {
    rotating(90).created(days_ago(1_000)).rotated(7, days_ago(days))
}

/// The report after one more run.
#[track_caller]
fn run_again(daemon: &Daemon<'_>) -> Report {
    let runs = daemon.runs();
    daemon.signal(Signal::HUP);
    daemon.await_runs(runs + 1);
    daemon.status()
}

fn fields(report: &Report, key_id: &str) -> Value {
    report.keys().find(|key| key["key_id"] == key_id).unwrap().clone()
}

#[test]
fn old_material_is_a_finding_and_off_policy_where_proof_is_required() {
    let cloud = Cloud::of([rotated(93).forgotten()]);
    for (proof, grace, code, key) in [
        ("reported", "2d", 0, "compliant: material_too_old"),
        ("required", "2d", 1, "non_compliant: material_too_old"),
        ("required", "4d", 0, "compliant"),
    ] {
        let policy = Policy::of_one_key(cloud.url()).field(&format!("proof: {proof}"));
        let site = Site::new(&policy.field(&format!("grace: {grace}")));
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(code), key), "{proof}");
        let daemon = site.run();
        daemon.await_runs(1);
        let result = if code == 0 { "success" } else { "failure" };
        let runs = format!("kms_rotation_runs_total{{result=\"{result}\",trigger=\"start\"}}");
        assert_eq!(daemon.metric(&runs), Some(1.0), "{proof}");
    }
    assert_eq!(cloud.write_requests(), 0, "no write makes material younger");
}

#[test]
fn what_was_read_last_stays_when_the_key_cannot_be_read() {
    let cloud = Cloud::of([rotated(10)]);
    let site = Site::new(&Policy { max_elapsed: "200ms", ..Policy::of_one_key(cloud.url()) });
    let daemon = site.run();
    daemon.await_runs(1);
    let before = fields(&daemon.status(), KEY);
    assert_eq!((&before["status"], &before["rotations"]), (&"compliant".into(), &7.into()));
    for operations in [OperationSet::from(Operation::ReadStatus), OperationSet::ALL] {
        cloud.fault(Rule::always(Fault::html(503)).on(operations));
        let after = fields(&run_again(&daemon), KEY);
        assert_eq!((&after["status"], &after["reasons"][0]), (&"unknown".into(), &"read_failed".into()));
        for field in [
            "enabled",
            "interval_days",
            "created_at",
            "last_rotation_at",
            "rotations",
            "material_since",
            "rotation_due_at",
            "observed_at",
        ] {
            assert!(!before[field].is_null(), "{field}");
            assert_eq!(after[field], before[field], "{field}");
        }
        let labels = format!("project=\"payments\",key_id=\"{KEY}\"");
        assert_eq!(daemon.metric(&format!("kms_rotation_key_enabled{{{labels}}}")), Some(1.0));
        assert_eq!(daemon.metric(&format!("kms_rotation_key_rotations{{{labels}}}")), Some(7.0));
    }
}

#[test]
fn every_key_that_can_rotate_is_in_the_inventory_at_the_cost_of_one_reading_a_day() {
    let kinds = [
        ("compliant", Key::new(key_id(0)).rotating(90)),
        ("uncovered", Key::new(key_id(1)).rotating(60).alias("forgotten")),
        ("exempt", Key::new(key_id(2)).rotating(365).alias("legacy")),
        ("non_compliant", Key::new(key_id(3)).rotating(90).state(KeyState::Disabled)),
        ("non_compliant", Key::new(key_id(4)).rotating(90).state(KeyState::PendingDeletion)),
    ];
    let unread =
        [Key::new(key_id(5)).default_of("evs"), Key::new(key_id(6)).imported(), Key::new(key_id(7)).spec("RSA_2048")];
    let cloud = Cloud::start(setup(kinds.iter().map(|(_, key)| key.clone()).chain(unread)));
    let policy = Policy::of_keys(cloud.url(), [0, 3, 4].map(key_id)).entry("{alias: legacy, exempt: {reason: old}}");
    let site = Site::new(&policy);
    let daemon = site.run();
    daemon.await_runs(1);
    let report = &run_again(&daemon);
    for (number, (status, key)) in kinds.iter().enumerate() {
        let shown = fields(report, &key_id(number));
        let days = Value::from(key.rotation.interval_days);
        assert_eq!((&shown["status"], &shown["interval_days"]), (&Value::from(*status), &days), "{number}");
        assert!(shown["observed_at"].is_string() && shown["material_since"].is_string(), "{shown}");
        let reads = cloud.key_requests(PROJECT, &key_id(number), Operation::ReadStatus);
        assert_eq!(reads, if number == 0 { 2 } else { 1 }, "{number}");
    }
    for number in 5..8 {
        let shown = fields(report, &key_id(number));
        assert_eq!((&shown["status"], &shown["observed_at"]), (&"exempt".into(), &Value::Null));
        assert_eq!(cloud.key_requests(PROJECT, &key_id(number), Operation::ReadStatus), 0);
    }
}

#[test]
fn a_refused_reading_for_the_inventory_is_no_finding_and_no_failure_and_is_not_repeated() {
    let cloud = Cloud::of([rotating(90), Key::new(key_id(1)).alias("other")]);
    cloud.fault(Rule::always(Fault::kms(403, "KMS.0307")).on(Operation::ReadStatus).key(key_id(1)));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    let report = run_again(&daemon);
    assert_eq!(report.key(&key_id(1)), "uncovered: uncovered");
    assert_eq!(fields(&report, &key_id(1))["error"], Value::Null);
    assert_eq!(cloud.key_requests(PROJECT, &key_id(1), Operation::ReadStatus), 1);
    let operations = |result: &str| {
        let labels = format!("project=\"payments\",operation=\"read_status\",result=\"{result}\"");
        daemon.metric(&format!("kms_rotation_operations_total{{{labels}}}"))
    };
    assert_eq!((operations("failure"), operations("success")), (Some(0.0), Some(2.0)));
}

#[test]
fn without_a_list_a_key_that_never_rotated_is_described_once_for_its_age() {
    let cloud = Cloud::start(unlisted(rotating(90).created(days_ago(10))));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    let key = fields(&run_again(&daemon), KEY);
    assert_eq!((&key["status"], &key["reasons"]), (&"compliant".into(), &Value::Array(Vec::new())));
    assert_eq!(key["material_since"], key["created_at"]);
    assert_eq!(cloud.requests(Operation::DescribeKey), 1);
    // Neither permission: the age stays unknown, and the refusal fails nothing.
    let both = OperationSet::of(&[Operation::ListKeys, Operation::DescribeKey]);
    let cloud = Cloud::start(setup([rotating(90)]).behave(|cloud| cloud.forbidden = both));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant: rotation_unproven"));
}

#[test]
fn without_a_list_a_key_that_was_found_disabled_is_described_until_it_is_enabled_again() {
    let cloud = Cloud::start(unlisted(rotating(90).state(KeyState::Disabled)));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "non_compliant: key_disabled");
    assert_eq!(run_again(&daemon).key(KEY), "non_compliant: key_disabled");
    cloud.change_key(PROJECT, KEY, |key| key.state = KeyState::Enabled);
    assert_eq!(run_again(&daemon).key(KEY), "compliant");
    run_again(&daemon);
    assert_eq!(cloud.requests(Operation::DescribeKey), 3, "and no longer");
}

#[test]
fn a_key_that_was_listed_as_disabled_stays_so_while_the_list_fails() {
    let cloud = Cloud::of([rotating(90).state(KeyState::Disabled)]);
    let site = Site::new(&Policy { max_elapsed: "200ms", ..Policy::of_one_key(cloud.url()) });
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.fault(Rule::always(Fault::html(500)).on(Operation::ListKeys));
    for _ in 0..2 {
        assert_eq!(run_again(&daemon).key(KEY), "non_compliant: key_disabled");
    }
}

#[test]
fn a_write_that_postpones_a_rotation_is_shown_by_plan_and_logged_by_apply() {
    let key = rotating(365).created(days_ago(1_000)).rotated(2, days_ago(300) - Duration::from_secs(12 * 3_600));
    let cloud = Cloud::of([key, Key::new(key_id(1)).rotating(365)]);
    let policy = Policy::of_one_key(cloud.url()).key(&key_id(1), 90);
    let site = Site::new(&policy);
    let planned = site.command(&["plan", "--policy", "policy.yaml"]).output().unwrap();
    let text = String::from_utf8(planned.stdout).unwrap();
    let postponed = "its material will be up to 391 days old before the cloud rotates it";
    let of = |id: &str| text.lines().find(|line| line.contains(id)).unwrap().to_owned();
    assert!(of(KEY).contains(postponed), "{text}");
    assert!(!of(&key_id(1)).contains("days old"), "a new key's rotation is brought forward: {text}");
    let applied = site.apply();
    let log = |id: &str| applied.messages("rotation changed").into_iter().find(|line| line["key_id"] == id).unwrap();
    assert_eq!(log(KEY)["postpones"], "material up to 391 days old before it is rotated");
    assert_eq!(log(&key_id(1))["postpones"], Value::Null);
}
