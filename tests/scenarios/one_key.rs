//! `plan --key` and `apply --key`: one key is read, written and reported, and no other.

use kms_rotationd::evidence::reader::read;
use kms_rotationd::evidence::record::{Event, KeyRecord, Record};
use kms_rotationd::evidence::verify::verify;
use kms_simulator::{Fault, Key, Operation, ProjectSetup, Rule};
use serde_json::{Value, json};

use super::cloud::{Cloud, setup};
use super::program::{Finished, Program};
use super::site::{Policy, Site};
use super::{ACCOUNT, PROJECT, key_id};

const OTHER: &str = "fedcba9876543210fedcba9876543210";
const ALL_AT_90: &str = "{select: {}, rotation_interval: 90}";

/// Ten keys that are off, with the names `key-0` to `key-9`.
fn ten() -> impl Iterator<Item = Key> {
    (0..10).map(|number| Key::new(key_id(number)).alias(format!("key-{number}")))
}

fn text(site: &Site, arguments: &[&str]) -> Finished {
    Program::start(site.command(arguments)).finish()
}

fn of_key(site: &Site, command: &str, key: &str) -> Finished {
    let arguments = [command, "--policy", "policy.yaml", "--key", key, "--output", "json", "--log-format", "json"];
    text(site, &arguments)
}

/// The ids in a report.
fn reported(finished: &Finished) -> Vec<String> {
    finished.report().keys().map(|key| key["key_id"].as_str().unwrap().to_owned()).collect()
}

/// Changes a key's setting as another user does.
fn set_rotation(cloud: &Cloud, key_id: &str, enabled: bool) {
    assert!(cloud.change_key(PROJECT, key_id, |key| key.rotation.enabled = enabled), "{key_id}");
}

#[test]
fn only_the_key_is_read_written_and_reported() {
    let cloud = Cloud::of(ten());
    let site = Site::new(&Policy::at(cloud.url()).entry(ALL_AT_90));
    let whole = site.once("plan");
    for key in [key_id(3), "key-3".to_owned()] {
        cloud.forget_requests();
        let planned = of_key(&site, "plan", &key);
        assert_eq!((planned.code, reported(&planned)), (Some(3), vec![key_id(3)]), "{key}: {planned:?}");
        let steps = |finished: &Finished| finished.report().keys().find(|row| row["key_id"] == key_id(3)).cloned();
        assert_eq!(steps(&planned).map(|row| row["planned"].clone()), steps(&whole).map(|row| row["planned"].clone()));
        assert_eq!((cloud.requests(Operation::ListKeys), cloud.all_requests()), (1, 2), "{key}");
    }
    cloud.forget_requests();
    let applied = of_key(&site, "apply", "key-3");
    assert_eq!((applied.code, reported(&applied), &*applied.key(&key_id(3))), (Some(0), vec![key_id(3)], "compliant"));
    assert_eq!(cloud.rotation(&key_id(3)), (true, 90));
    // List, read, enable, update, read back.
    assert_eq!((cloud.all_requests(), cloud.write_requests()), (5, 2));
    let on: Vec<_> = (0..10).filter(|number| cloud.rotation(&key_id(*number)).0).collect();
    assert_eq!(on, [3]);
    let shown = text(&site, &["plan", "--policy", "policy.yaml", "--key", "key-3"]);
    assert_eq!(shown.code, Some(0));
    assert!(shown.stdout.contains(&format!("✓ {}  key-3  90 days", key_id(3))), "{}", shown.stdout);
    assert!(shown.stdout.ends_with("\n1 of 1 key on policy. A run would change nothing.\n"), "{}", shown.stdout);
}

#[test]
fn an_alias_in_several_projects_is_all_of_these_keys_and_no_limit_of_changes_holds_them_back() {
    let other = ProjectSetup::new(OTHER, "eu-de_team").domain(ACCOUNT).token("of-the-other");
    let other = other.key(Key::new(key_id(20)).alias("key-3")).key(Key::new(key_id(21)).alias("key-4"));
    let cloud = Cloud::start(setup(ten()).project(other));
    let policy = Policy { guards: "{max_changes_per_run: 1}", ..Policy::at(cloud.url()) }.entry(ALL_AT_90);
    let site = Site::new(&policy);
    site.write("other-token", "of-the-other");
    let second = Policy { name: "other", project_id: OTHER, ..Policy::at(cloud.url()) };
    let second = second.with("{token_file: other-token}").entry(ALL_AT_90);
    site.write("policy.yaml", &(policy.text() + &second.project()));
    let applied = of_key(&site, "apply", "key-3");
    assert_eq!((applied.code, reported(&applied)), (Some(0), vec![key_id(3), key_id(20)]), "{applied:?}");
    assert_eq!(cloud.write_requests(), 4);

    // Of a project that has it, only that project is reported; one that may have it too is a failure.
    let planned = of_key(&site, "plan", "key-5");
    assert_eq!((planned.code, planned.report().0["projects"].as_array().map(Vec::len)), (Some(3), Some(1)));
    let refused = Policy { project_id: "00000000000000000000000000000000", ..second };
    site.write("policy.yaml", &(policy.text() + &refused.project()));
    let planned = of_key(&site, "plan", "key-5");
    assert_eq!((planned.code, reported(&planned)), (Some(1), vec![key_id(5)]), "the other may have the alias too");
    assert_eq!(of_key(&site, "plan", &key_id(5)).code, Some(3), "the id is of one key");
}

#[test]
fn a_key_that_no_project_has_is_an_error_with_the_nearest_alias() {
    let cloud = Cloud::of(ten().chain([Key::new(key_id(30)).alias("payments-orders")]));
    let site = Site::new(&Policy::at(cloud.url()).entry(ALL_AT_90));
    for command in ["plan", "apply"] {
        let ended = text(&site, &[command, "--policy", "policy.yaml", "--key", "payment-order"]);
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
        let told = "kms-rotationd: no key `payment-order` in the policy's projects; did you mean `payments-orders`?\n";
        assert_eq!(ended.stderr, told);
    }
    let machine = of_key(&site, "apply", &key_id(99));
    let document: Value = serde_json::from_str(&machine.stdout).unwrap();
    assert_eq!((machine.code, &document["run"], &document["projects"]), (Some(1), &Value::Null, &json!([])));
    cloud.fault(Rule::next(1, Fault::kms(403, "KMS.0307")).on(Operation::ListKeys));
    let unlisted = text(&site, &["plan", "--policy", "policy.yaml", "--key", "key-3"]);
    assert_eq!(unlisted.code, Some(1));
    let told = "no key `key-3` in the policy's projects; the keys of project `payments` are not known: ";
    assert!(unlisted.stderr.contains(told) && unlisted.stderr.contains("KMS.0307"), "{unlisted:?}");
    assert_eq!(cloud.write_requests(), 0);
    assert_eq!(text(&site, &["plan", "--policy", "policy.yaml", "--key", ""]).code, Some(2));
}

#[test]
fn one_key_does_not_show_that_the_cloud_does_not_offer_the_setting() {
    let cloud = Cloud::start(setup(ten()).behave(|cloud| cloud.unknown = Operation::ReadStatus.into()));
    let site = Site::new(&Policy::at(cloud.url()).entry(ALL_AT_90));
    let applied = of_key(&site, "apply", "key-3");
    assert_eq!((applied.code, &*applied.key(&key_id(3))), (Some(1), "unknown: read_failed"));
    assert!(applied.report().key_error(&key_id(3)).ends_with("; run without --key"), "{applied:?}");
    assert_eq!(cloud.write_requests(), 0);
    assert_eq!(site.apply().key(&key_id(3)), "unknown: status_unreadable");
    assert_eq!(cloud.write_requests(), 20);
}

fn records(site: &Site) -> Vec<Record> {
    let mut records = Vec::new();
    read(&site.path("evidence"), |entry| records.push(entry.record)).unwrap();
    records
}

/// The events of keys, each with the number of the key.
fn events(records: &[Record]) -> Vec<(usize, Event)> {
    let event = |record: &Record| match record {
        Record::Key(key) => {
            let KeyRecord { key_id: id, event, .. } = &**key;
            Some(((0..10).find(|number| *id == key_id(*number)).unwrap(), *event))
        }
        _ => None,
    };
    records.iter().filter_map(event).collect()
}

fn runs(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record, Record::Run(_))).count()
}

#[test]
fn the_evidence_log_has_what_happened_to_the_key_and_no_run_over_all_keys() {
    let cloud = Cloud::of(ten());
    let evidence = "{directory: evidence, name: payments}".to_owned();
    let policy = Policy { evidence, ..Policy::at(cloud.url()) }.entry(ALL_AT_90);
    let site = Site::new(&policy);
    // The log may begin with one key.
    assert_eq!(of_key(&site, "apply", "key-0").code, Some(0));
    assert_eq!((events(&records(&site)), runs(&records(&site))), (vec![(0, Event::Appeared)], 0));
    assert_eq!(site.apply().code, Some(0));
    let appeared: Vec<_> = (0..10).map(|number| (number, Event::Appeared)).collect();
    assert_eq!((events(&records(&site)), runs(&records(&site))), (appeared.clone(), 1));

    // The other keys are left out of the report, and are not gone.
    set_rotation(&cloud, &key_id(3), false);
    set_rotation(&cloud, &key_id(4), false);
    assert_eq!(of_key(&site, "apply", "key-3").code, Some(0));
    let three = [(3, Event::Drift), (3, Event::Repaired)];
    assert_eq!((&events(&records(&site))[10..], runs(&records(&site))), (&three[..], 1));
    // A failure to read one key is not one of the project.
    cloud.fault(Rule::next(1, Fault::kms(403, "KMS.0307")).on(Operation::ReadStatus));
    assert_eq!(of_key(&site, "apply", "key-5").code, Some(1));
    assert_eq!(events(&records(&site)).len(), 12);
    assert!(!records(&site).iter().any(|record| matches!(record, Record::Unreadable(_))));

    // The next run finds what it left, and compares every key with what was recorded of it.
    assert_eq!(site.apply().code, Some(0));
    let four = [(4, Event::Drift), (4, Event::Repaired)];
    assert_eq!((&events(&records(&site))[12..], runs(&records(&site))), (&four[..], 2));
    let [log] = &verify(&site.path("evidence"), &[]).unwrap()[..] else { panic!("one log") };
    assert!(log.is_consistent(), "{log:?}");
    let report = text(&site, &["report", "--evidence", "evidence", "--format", "json"]);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let key = report["observers"][0]["keys"].as_array().unwrap().iter().find(|key| key["key_id"] == key_id(3)).unwrap();
    let departures = key["departures"].as_array().unwrap().iter().map(|departure| &departure["kind"]);
    // The first is the write of the first run.
    assert_eq!(departures.collect::<Vec<_>>(), ["write", "drift", "repaired"], "{key}");
}
