//! A policy that changes while the daemon runs.

use std::fs;
use std::os::unix::fs::symlink;

use kms_simulator::{Fault, Hold, Key, Operation, Rule};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use super::cloud::{Cloud, rotating};
use super::eventually;
use super::program::Daemon;
use super::site::{Policy, Site};
use super::{KEY, PROJECT, key_id};

const LOADED: &str = "kms_rotation_policy_reload_successful";
const LOADED_AT: &str = "kms_rotation_policy_reload_success_timestamp_seconds";

/// The same policy with another interval.
fn at(cloud: &Cloud, days: u32) -> Policy {
    Policy::at(cloud.url()).key(KEY, days)
}

/// The change started a run that sent the new interval.
#[track_caller]
fn assert_in_force(cloud: &Cloud, daemon: &Daemon<'_>, days: u32) {
    eventually(&format!("{days} days are in force"), || {
        let report = daemon.status();
        report.keys().any(|key| key["policy_interval_days"] == days) && report.key(KEY) == "compliant"
    });
    assert_eq!(cloud.rotation(KEY), (true, days));
    assert_eq!(daemon.status().0["run"]["trigger"], "reload");
    assert_eq!(daemon.metric(LOADED), Some(1.0));
}

/// A policy that is changed like this is loaded soon, both the first time and the second.
#[track_caller]
fn assert_loaded_when(change: impl Fn(&Site, &str)) {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&at(&cloud, 90));
    let daemon = site.run();
    daemon.await_runs(1);
    for days in [120, 150] {
        change(&site, &at(&cloud, days).text());
        assert_in_force(&cloud, &daemon, days);
    }
}

#[test]
fn an_overwritten_policy_is_loaded_and_run() {
    assert_loaded_when(|site, text| site.write("policy.yaml", text));
}

#[test]
fn a_policy_replaced_by_rename_is_loaded_and_run() {
    assert_loaded_when(|site, text| {
        site.write("policy.yaml.new", text);
        fs::rename(site.path("policy.yaml.new"), site.path("policy.yaml")).unwrap();
    });
}

#[test]
fn a_replaced_config_map_is_loaded_and_run_every_time() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&at(&cloud, 90));
    fs::remove_file(site.path("policy.yaml")).unwrap();
    // Like the kubelet: policy.yaml -> ..data/policy.yaml, ..data -> a folder of this version.
    let swap = |version: &str, days| {
        fs::create_dir(site.path(version)).unwrap();
        site.write(&format!("{version}/policy.yaml"), &at(&cloud, days).text());
        symlink(version, site.path("..data_tmp")).unwrap();
        fs::rename(site.path("..data_tmp"), site.path("..data")).unwrap();
    };
    swap("..first", 90);
    symlink("..data/policy.yaml", site.path("policy.yaml")).unwrap();
    let daemon = site.run();
    daemon.await_runs(1);
    for (version, days) in [("..second", 120), ("..third", 150), ("..fourth", 180)] {
        swap(version, days);
        assert_in_force(&cloud, &daemon, days);
    }
}

#[test]
fn a_bad_policy_is_refused_and_the_old_one_is_kept() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&at(&cloud, 90).every_second());
    let daemon = site.run();
    daemon.await_runs(1);
    site.write("policy.yaml", &at(&cloud, 120).text().replace("mode: enforce", "mode: enforced"));
    let line = daemon.await_message("policy reload failed; still using the previous policy");
    assert_eq!(line["level"], "ERROR");
    assert!(line["problems"].as_str().unwrap().contains(":9: `mode` is the string `enforced`"), "{line}");
    eventually("the refusal shows", || daemon.metric(LOADED) == Some(0.0));
    let policy = daemon.status().0["policy"].clone();
    assert_eq!(policy["reload_successful"], false);
    assert!(policy["error"].as_str().unwrap().contains(":9: `mode` is the string `enforced`"), "{policy}");
    assert!(daemon.get("/").1.contains(":9: `mode` is the string `enforced`"), "the page says so too");
    assert_eq!((daemon.get("/readyz").0, daemon.get("/healthz").0), (200, 200));

    // The old policy is still applied, on its schedule.
    cloud.change_key(super::PROJECT, KEY, |key| key.rotation.interval_days = 365);
    eventually("the old policy holds", || cloud.rotation(KEY) == (true, 90));
    cloud.assert_only_sent(90);

    site.write("policy.yaml", &at(&cloud, 120).text());
    eventually("the repaired policy is loaded", || daemon.metric(LOADED) == Some(1.0));
    eventually("the repaired policy holds", || cloud.rotation(KEY) == (true, 120));
    assert_eq!(daemon.status().0["policy"]["error"], serde_json::Value::Null);
}

#[test]
fn a_deleted_policy_stays_loaded() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&at(&cloud, 90).every_second());
    let daemon = site.run();
    fs::remove_file(site.path("policy.yaml")).unwrap();
    let seen = daemon.runs();
    daemon.await_runs(seen + 2);
    assert_eq!((daemon.metric(LOADED), daemon.status().key(KEY)), (Some(1.0), "compliant".to_owned()));
    daemon.signal(Signal::HUP);
    eventually("being asked to read it is refused", || daemon.metric(LOADED) == Some(0.0));
    assert_eq!(daemon.status().key(KEY), "compliant");
}

#[test]
fn a_refused_file_is_reported_when_the_valid_one_before_it_is_loaded() {
    let cloud = Cloud::of([rotating(90)]);
    let hold = Hold::new();
    cloud.fault(Rule::next(1, Fault::held(&hold)).on(Operation::ReadStatus));
    let site = Site::new(&at(&cloud, 90));
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 1);
    let start = daemon.metric(LOADED_AT).unwrap();
    site.write("policy.yaml", &at(&cloud, 120).text());
    daemon.signal(Signal::HUP);
    daemon.await_message("policy reloaded");
    let second = daemon.metric(LOADED_AT).unwrap();
    assert!(second > start && daemon.metric(LOADED) == Some(1.0), "{start} {second}");
    site.write("policy.yaml", "projects: []\n");
    daemon.signal(Signal::HUP);
    daemon.await_message("policy reload failed; still using the previous policy");
    assert_eq!((daemon.runs(), daemon.metric(LOADED)), (0, Some(0.0)));

    hold.release();
    daemon.await_runs(2);
    assert_eq!((cloud.rotation(KEY), &*daemon.status().key(KEY)), ((true, 120), "compliant"));
    assert_eq!((daemon.metric(LOADED), daemon.metric(LOADED_AT)), (Some(0.0), Some(second)));
    assert_ne!(daemon.status().0["policy"]["error"], serde_json::Value::Null);
    site.write("policy.yaml", &at(&cloud, 150).text());
    assert_in_force(&cloud, &daemon, 150);
}

/// Makes the policy a pipe.
fn pipe(site: &Site) {
    fs::remove_file(site.path("policy.yaml")).unwrap();
    mkfifoat(CWD, site.path("policy.yaml"), Mode::RUSR | Mode::WUSR).unwrap();
}

#[test]
fn a_policy_on_a_pipe_is_read_once_and_survives_a_reload() {
    let cloud = Cloud::of([rotating(90)]);
    let policy = at(&cloud, 90);
    let site = Site::new(&policy);
    pipe(&site);
    let program = site.start_with(&[]);
    fs::write(site.path("policy.yaml"), policy.text()).unwrap();
    let daemon = Daemon::serving(program);
    daemon.await_runs(1);
    daemon.signal(Signal::HUP);
    let line = daemon.await_message("policy reload failed; still using the previous policy");
    assert!(line["problems"].as_str().unwrap().contains("is not a regular file, so it cannot be read again"), "{line}");
    assert_eq!((daemon.get("/healthz").0, daemon.metric(LOADED)), (200, Some(0.0)));
    // A regular file at its path is loaded.
    fs::remove_file(site.path("policy.yaml")).unwrap();
    site.write("policy.yaml", &at(&cloud, 120).text());
    assert_in_force(&cloud, &daemon, 120);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_signal_ends_a_start_that_waits_for_a_pipe() {
    let site = Site::new(&Policy::of_one_key("http://127.0.0.1:9"));
    pipe(&site);
    let program = site.start_with(&[]);
    // Opening the other end of a pipe waits until the program has opened its own.
    let end = fs::File::create(site.path("policy.yaml")).unwrap();
    program.signal(Signal::TERM);
    assert_eq!(program.finish().code, None);
    drop(end);
}

#[test]
fn a_file_written_again_with_the_same_content_starts_no_run() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&at(&cloud, 90));
    let daemon = site.run();
    daemon.await_runs(1);
    site.write("policy.yaml", &at(&cloud, 90).text());
    site.write("another-file", "x");
    // A real change, after one without effect.
    site.write("policy.yaml", &at(&cloud, 120).text());
    assert_in_force(&cloud, &daemon, 120);
    assert_eq!(daemon.runs(), 2);
}

#[test]
fn counters_survive_a_reload() {
    let cloud = Cloud::of([rotating(90), Key::new(key_id(1)).rotating(120)]);
    let site = Site::new(&at(&cloud, 90));
    let daemon = site.run();
    daemon.await_runs(1);
    let reads = || {
        let labels = "project=\"payments\",operation=\"read_status\",result=\"success\"";
        daemon.metric(&format!("kms_rotation_operations_total{{{labels}}}"))
    };
    assert_eq!(reads(), Some(2.0), "one of them for the inventory");
    site.write("policy.yaml", &at(&cloud, 90).key(&key_id(1), 120).text());
    daemon.await_runs(2);
    assert_eq!(reads(), Some(4.0));
    assert_eq!(daemon.metric("kms_rotation_runs_total{result=\"success\",trigger=\"start\"}"), Some(1.0));
    assert_eq!(daemon.metric("kms_rotation_runs_total{result=\"success\",trigger=\"reload\"}"), Some(1.0));
}

#[test]
fn a_key_removed_from_the_policy_is_uncovered_and_one_removed_from_the_cloud_is_gone() {
    let cloud = Cloud::of([rotating(90), Key::new(key_id(1)).rotating(90)]);
    let site = Site::new(&at(&cloud, 90).key(&key_id(1), 90));
    let daemon = site.run();
    daemon.await_runs(1);
    assert!(daemon.get("/metrics").1.contains(&key_id(1)));
    site.write("policy.yaml", &at(&cloud, 90).text());
    daemon.await_runs(2);
    assert_eq!(daemon.status().key(&key_id(1)), "uncovered: uncovered");
    let wanted = format!("kms_rotation_key_policy_interval_seconds{{project=\"payments\",key_id=\"{}\"}}", key_id(1));
    assert_eq!(daemon.metric(&wanted), None);
    cloud.remove_key(PROJECT, &key_id(1));
    daemon.signal(Signal::HUP);
    daemon.await_runs(3);
    assert!(!daemon.get("/metrics").1.contains(&key_id(1)));
    assert_eq!(daemon.status().keys().count(), 1);
}

#[test]
fn a_policy_that_changes_during_a_run_is_loaded_after_it() {
    let cloud = Cloud::of([rotating(90)]);
    let hold = Hold::new();
    cloud.fault(Rule::next(1, Fault::held(&hold)).on(Operation::ReadStatus));
    let site = Site::new(&at(&cloud, 90));
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 1);
    site.write("policy.yaml", &at(&cloud, 120).text());
    hold.release();
    assert_in_force(&cloud, &daemon, 120);
    assert_eq!((daemon.runs(), cloud.sent(KEY)), (2, vec![120]));
}
