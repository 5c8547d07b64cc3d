//! Runs that the schedule starts.

use std::time::Duration;

use kms_simulator::{Key, Operation};
use rustix::process::Signal;

use super::cloud::{Cloud, many, rotating, setup};
use super::site::{Policy, Site};
use super::{KEY, key_id};

#[test]
fn the_schedule_starts_runs() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
    let daemon = site.run();
    daemon.await_runs(3);
    let scheduled = daemon.metric("kms_rotation_runs_total{result=\"success\",trigger=\"schedule\"}");
    assert!(scheduled >= Some(2.0), "{scheduled:?}");
    assert_eq!(daemon.metric("kms_rotation_runs_total{result=\"success\",trigger=\"start\"}"), Some(1.0));
    let next = daemon.metric("kms_rotation_next_run_timestamp_seconds");
    assert!(next > daemon.metric("kms_rotation_last_run_timestamp_seconds").map(|last| last - 5.0), "{next:?}");
    assert_eq!(daemon.status().0["run"]["trigger"], "schedule");
}

#[test]
fn runs_longer_than_the_schedule_never_overlap() {
    let cloud =
        Cloud::start(setup((0..3).map(|n| Key::new(key_id(n)).rotating(90))).latency(Duration::from_millis(500)));
    let policy = Policy::of_keys(cloud.url(), (0..3).map(key_id)).every_second();
    let site = Site::new(&Policy { concurrency: 1, ..policy });
    let daemon = site.run_with(&["--log-level", "debug"]);
    daemon.await_runs(3);
    daemon.signal(Signal::HUP);
    daemon.await_runs(4);
    let log = daemon.stop().log();
    let runs: Vec<_> =
        log.iter().filter_map(|line| line["message"].as_str()).filter(|message| message.starts_with("run ")).collect();
    assert!(runs.len() >= 8, "{runs:?}");
    for pair in runs.chunks_exact(2) {
        assert_eq!(pair[0], "run started", "{runs:?}");
        assert!(["run finished", "run interrupted"].contains(&pair[1]), "{runs:?}");
    }
}

#[test]
fn without_run_on_start_only_the_schedule_or_a_signal_starts_a_run() {
    let cloud = Cloud::of(many(1));
    let policy = Policy::of_keys(cloud.url(), [key_id(0)]);
    let site = Site::new(&Policy { schedule: r#"{cron: "0 0 1 1 *", run_on_start: false}"#, ..policy });
    let daemon = site.run();
    assert_eq!(daemon.get("/readyz").0, 503);
    assert_eq!(daemon.get("/healthz").0, 200);
    assert!(daemon.metric("kms_rotation_next_run_timestamp_seconds") > Some(0.0));
    assert_eq!(cloud.all_requests(), 0);
    daemon.signal(Signal::HUP);
    daemon.await_runs(1);
    assert_eq!((daemon.get("/readyz").0, cloud.rotation(&key_id(0))), (200, (true, 90)));
    assert_eq!(daemon.metric("kms_rotation_runs_total{result=\"success\",trigger=\"start\"}"), Some(0.0));
}

#[test]
fn without_run_on_start_the_first_tick_makes_the_first_run() {
    let cloud = Cloud::of([rotating(90)]);
    let policy = Policy::of_one_key(cloud.url());
    let site = Site::new(&Policy { schedule: r#"{cron: "* * * * * *", run_on_start: false}"#, ..policy });
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().0["run"]["trigger"], "schedule");
    assert_eq!(daemon.status().key(KEY), "compliant");
}

#[test]
fn a_new_schedule_applies_after_the_reload() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    site.write("policy.yaml", &Policy::of_one_key(cloud.url()).every_second().text());
    daemon.await_runs(4);
    let scheduled = daemon.metric("kms_rotation_runs_total{result=\"success\",trigger=\"schedule\"}");
    assert!(scheduled >= Some(2.0), "{scheduled:?}");
    assert!(cloud.requests(Operation::ReadStatus) >= 4);
}
