//! The shipped alerts in a real Prometheus, for a key that goes off policy.

use kms_simulator::{Key, OperationSet};

use super::cloud::{Cloud, rotating};
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
    assert_eq!(alert("firing")[0]["metric"]["key_id"], KEY);
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
        let fires = prometheus.query(&format!("ALERTS{{{OFF_POLICY},alertstate=\"firing\"}}"));
        fires.iter().any(|alert| alert["metric"]["key_id"] == KEY)
    });
    let of_target = prometheus.query("{__name__=~\"kms_rotation_.*\",project=\"platform\"}");
    let taken = |series: &&serde_json::Value| series["metric"]["key_id"].is_string();
    assert_eq!(of_target.iter().filter(taken).count(), 0, "{of_target:?}");
}
