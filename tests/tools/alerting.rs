//! From the cloud to the pager: the shipped alerts in a real Prometheus, on a key that somebody puts off its policy.

use kms_rotationd::simulator::OperationSet;

use super::cloud::{Cloud, rotating};
use super::prometheus::Prometheus;
use super::site::{Policy, Site};
use super::{KEY, PROJECT, eventually};

const OFF_POLICY: &str = "alertname=\"KmsKeyOffPolicy\",severity=\"critical\",project=\"payments\"";

pub(crate) fn a_key_off_policy_fires_an_alert_that_ends_once_the_key_is_mended() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
    let daemon = site.run();
    let prometheus = Prometheus::watching(&daemon);
    let alert = |state: &str| prometheus.query(&format!("ALERTS{{{OFF_POLICY},alertstate=\"{state}\"}}"));
    eventually("the key is seen on its policy", || {
        !prometheus.query("kms_rotation_key_status{status=\"compliant\"} == 1").is_empty()
    });
    assert!(alert("firing").is_empty() && alert("pending").is_empty());

    // The daemon may not mend what somebody has done.
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
