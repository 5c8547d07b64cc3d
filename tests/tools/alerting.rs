//! The shipped alerts in a real Prometheus, for keys that go off policy or that the cloud does not rotate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use kms_simulator::{Key, OperationSet};
use rustix::process::Signal;
use serde_json::Value;

use super::cloud::{Cloud, rotating, setup};
use super::prometheus::Prometheus;
use super::site::{Policy, Site};
use super::{KEY, PROJECT, eventually, key_id};

const OFF_POLICY: &str = "alertname=\"KmsKeyOffPolicy\",severity=\"critical\",project=\"payments\"";

pub(crate) fn a_key_off_policy_fires_an_alert_until_it_is_repaired() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
    let daemon = site.run();
    let prometheus = Prometheus::watching(&daemon);
    let alert = |state: &str| prometheus.query(&format!("ALERTS{{{OFF_POLICY},alertstate=\"{state}\"}}"));
    eventually("the key is reported on policy", || {
        !prometheus.query("kms_rotation_key_status{status=\"compliant\"} == 1").is_empty()
    });
    assert!(alert("firing").is_empty() && alert("pending").is_empty());

    // The daemon has no permission to repair the change.
    cloud.behave(|behaviour| behaviour.forbidden = OperationSet::WRITES);
    assert!(cloud.change_key(PROJECT, KEY, |key| key.rotation.enabled = false));
    eventually("the alert fires", || !alert("firing").is_empty());
    let firing = alert("firing");
    assert_eq!((firing.len(), &firing[0]["metric"]["reason"]), (1, &"access_denied".into()), "one for the cause");
    let pending = format!("count_over_time(ALERTS{{{OFF_POLICY},alertstate=\"pending\"}}[1m])");
    assert!(!prometheus.query(&pending).is_empty(), "it was pending before");

    cloud.behave(|behaviour| behaviour.forbidden = OperationSet::default());
    eventually("the alert is over", || alert("firing").is_empty() && alert("pending").is_empty());
    assert_eq!(cloud.rotation(KEY), (true, 90));
    assert!(!prometheus.query("kms_rotation_key_status{status=\"compliant\"} == 1").is_empty());
}

pub(crate) fn a_target_label_does_not_silence_an_alert() {
    let cloud = Cloud::of([Key::new(KEY), Key::new(key_id(0))]);
    cloud.behave(|behaviour| behaviour.forbidden = OperationSet::WRITES);
    let policy = Policy::of_one_key(cloud.url()).every_second();
    let watched = Policy { name: "watched", mode: "monitor", ..Policy::at(cloud.url()) }.key(&key_id(0), 90);
    let site = Site::new(&policy);
    site.write("policy.yaml", &(policy.text() + &watched.project()));
    let daemon = site.run();
    let labels = "{project: platform, mode: any, status: any, reason: any}";
    let prometheus = Prometheus::watching_as(&daemon, labels);
    eventually("the target has its labels", || !prometheus.query("up{project=\"platform\"} == 1").is_empty());
    eventually("the alert fires", || {
        !prometheus.query(&format!("ALERTS{{{OFF_POLICY},alertstate=\"firing\"}}")).is_empty()
    });
    let of_target = prometheus.query("{__name__=~\"kms_rotation_.*\",project=\"platform\"}");
    let taken = |series: &&serde_json::Value| series["metric"]["key_id"].is_string();
    assert_eq!(of_target.iter().filter(taken).count(), 0, "{of_target:?}");
}

/// The alerts on keys off policy and on their material that fire: name, severity and project, in order.
fn firing(prometheus: &Prometheus) -> Vec<[String; 3]> {
    let names = "KmsKeyOffPolicy|KmsRotationOverdue|KmsRotationMaterialTooOld";
    let firing = prometheus.query(&format!("ALERTS{{alertname=~\"{names}\",alertstate=\"firing\"}}"));
    let label = |alert: &Value, label: &str| alert["metric"][label].as_str().unwrap().to_owned();
    let mut firing: Vec<_> =
        firing.iter().map(|alert| ["alertname", "severity", "project"].map(|name| label(alert, name))).collect();
    firing.sort();
    firing
}

/// The rotations that were observed in all projects.
fn rotations(prometheus: &Prometheus) -> String {
    let sum = prometheus.query("sum(kms_rotation_rotations_observed_total)");
    sum[0]["value"][1].as_str().unwrap().to_owned()
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn old_material_fires_one_alert_for_each_project_until_the_cloud_rotates_the_keys() {
    let last = SystemTime::now() - 200 * DAY;
    let cloud = Cloud::of((0..3).map(|n| Key::new(key_id(n)).rotating(90).rotated(2, last).forgotten()));
    cloud.behave(|behaviour| behaviour.rotation_delay = Duration::ZERO);
    let policy = Policy::of_keys(cloud.url(), (0..2).map(key_id)).every_second();
    let strict = Policy { name: "strict", ..Policy::at(cloud.url()) }.field("proof: required").key(&key_id(2), 90);
    let site = Site::new(&policy);
    site.write("policy.yaml", &(policy.text() + &strict.project()));
    let daemon = site.run();
    let prometheus = Prometheus::watching(&daemon);
    let of_strict = ["KmsRotationMaterialTooOld", "critical", "strict"];
    let of_payments = ["KmsRotationMaterialTooOld", "warning", "payments"];
    eventually("the alerts fire", || firing(&prometheus) == [of_strict, of_payments]);
    assert_eq!(prometheus.query("kms_rotation_key_status{status=\"non_compliant\"} == 1").len(), 1, "in one project");
    assert_eq!(rotations(&prometheus), "0");

    for key in 0..2 {
        assert!(cloud.change_key(PROJECT, &key_id(key), |key| key.forgotten = false));
    }
    eventually("the alert for one project is over", || firing(&prometheus) == [of_strict]);
    assert!(cloud.change_key(PROJECT, &key_id(2), |key| key.forgotten = false));
    eventually("no alert fires", || firing(&prometheus).is_empty());
    eventually("the rotations are counted", || rotations(&prometheus) == "3");
}

pub(crate) fn a_cloud_that_forgets_a_rotation_fires_an_alert_until_it_rotates_the_key() {
    let hours = Arc::new(AtomicU32::new(0));
    let clock = Arc::clone(&hours);
    let rotated = rotating(30).rotated(2, SystemTime::now() - DAY).forgotten();
    let later = move || SystemTime::now() + clock.load(Ordering::Relaxed) * HOUR;
    let cloud = Cloud::start(setup([rotated]).clock(later));
    cloud.behave(|behaviour| behaviour.rotation_delay = Duration::ZERO);
    let site = Site::new(&Policy::at(cloud.url()).field("grace: 1h").key(KEY, 30));
    let daemon = site.run();
    let prometheus = Prometheus::watching(&daemon);
    daemon.await_runs(1);
    // Exactly one run at each time: of clocks that differ, the daemon knows the cloud's only to the second, and a time
    // before that of the last reading would start its watch anew.
    let run_after = |later: u32| {
        let runs = daemon.runs();
        hours.fetch_add(later, Ordering::Relaxed);
        daemon.signal(Signal::HUP);
        daemon.await_runs(runs + 1);
    };
    // It reads the key at least once a day, and so knows that nothing disturbed the rotation.
    (0..36).for_each(|_| run_after(20));
    let too_old = ["KmsRotationMaterialTooOld", "warning", "payments"];
    eventually("the material is too old", || firing(&prometheus) == [too_old]);
    run_after(2);
    let overdue = ["KmsRotationOverdue", "critical", "payments"];
    eventually("the alert fires", || firing(&prometheus) == [too_old, overdue]);

    assert!(cloud.change_key(PROJECT, KEY, |key| key.forgotten = false));
    run_after(1);
    eventually("no alert fires", || firing(&prometheus).is_empty());
    eventually("the rotation is counted", || rotations(&prometheus) == "1");
}
