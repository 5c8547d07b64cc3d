//! `ecs_agency`: keys of the machine's agency from the metadata service. `tests/library/client/renewal.rs` tests their
//! renewal, with a clock of the test.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kms_simulator::{Fault, Hold, MetadataTokens, Operation, OperationSet, Rule};

use super::cloud::{Cloud, from_the_eleventh_on, many, off, setup};
use super::front::Front;
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::{KEY, eventually, key_id};

const REFUSED: &str = "unknown: authentication_failed";
const UNAVAILABLE: &str = "unknown: login_unavailable";

/// The credentials field for a machine of this cloud.
pub(crate) fn of_the_machine(cloud: &Cloud) -> String {
    format!("{{ecs_agency: {{metadata_endpoint: \"{}\"}}}}", cloud.url())
}

fn policy(cloud: &Cloud) -> Policy {
    Policy::of_one_key(cloud.url()).with(&of_the_machine(cloud))
}

#[test]
fn version_2_of_the_metadata_service_is_used_first() {
    let cloud = Cloud::start(setup([off()]).behave(|cloud| cloud.metadata_tokens = MetadataTokens::Required));
    let applied = Site::new(&policy(&cloud)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!((cloud.requests(Operation::MetadataToken), cloud.requests(Operation::InstanceKeys)), (1, 1));
    assert_eq!(cloud.requests(Operation::Authenticate), 0);
}

#[test]
fn version_1_is_used_without_version_2() {
    for status in [403, 404, 405, 503] {
        let absent = MetadataTokens::Absent(status);
        let cloud = Cloud::start(setup([off()]).behave(|cloud| cloud.metadata_tokens = absent));
        assert_eq!(Site::new(&policy(&cloud)).apply().key(KEY), "compliant", "{status}");
        let asked = (cloud.requests(Operation::MetadataToken), cloud.requests(Operation::InstanceKeys));
        assert_eq!(asked, (1, 1), "{status}");
    }
}

#[test]
fn a_machine_without_an_agency_gets_an_error_with_the_action() {
    let cloud = Cloud::start(setup([off()]).behave(|cloud| cloud.instance_agency = false));
    let applied = Site::new(&policy(&cloud)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    let error = applied.report().error();
    assert!(error.contains("HTTP 401") && error.contains("attach one in the console"), "{error}");
    assert_eq!((cloud.requests(Operation::InstanceKeys), cloud.requests(Operation::ReadStatus)), (1, 0));
}

#[test]
fn another_service_is_not_taken_for_the_metadata_service() {
    for body in ["{}", "<html></html>", r#"{"credential":{"access":"A"}}"#] {
        let service = StandIn::start(move |_| answer("200 OK", "", body));
        let cloud = Cloud::of([off()]);
        let credentials = format!("{{ecs_agency: {{metadata_endpoint: \"{}\"}}}}", service.url());
        let applied = Site::new(&Policy::of_one_key(cloud.url()).with(&credentials)).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED), "{body}");
        assert!(applied.report().error().contains("without an access key"), "{}", applied.report().error());
        assert_eq!(cloud.all_requests(), 0);
    }
}

#[test]
fn an_unavailable_service_is_tried_again() {
    let away = Rule::next(3, Fault::html(503)).on(Operation::InstanceKeys);
    let cloud = Cloud::start(setup([off()]).fault(away));
    assert_eq!(Site::new(&policy(&cloud)).apply().key(KEY), "compliant");
    assert_eq!(cloud.requests(Operation::InstanceKeys), 4);
}

#[test]
fn revoked_keys_are_replaced_in_mid_run() {
    let hold = Hold::new();
    let cloud = Cloud::start(setup(many(40)).fault(from_the_eleventh_on(&hold)));
    let policy = Policy::of_keys(cloud.url(), (0..40).map(key_id)).with(&of_the_machine(&cloud));
    let site = Site::new(&policy);
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 11);
    cloud.revoke_temporary_keys();
    hold.release();
    daemon.await_runs(1);
    assert_eq!(daemon.status().count("compliant"), 40);
    assert_eq!(cloud.requests(Operation::InstanceKeys), 2);
}

#[test]
fn a_token_that_the_service_has_forgotten_is_renewed() {
    let cloud = Cloud::start(setup([off()]).behave(|cloud| cloud.metadata_tokens = MetadataTokens::Required));
    let site = Site::new(&policy(&cloud).every_second());
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.revoke_metadata_tokens();
    cloud.revoke_temporary_keys();
    cloud.await_requests(Operation::InstanceKeys, 2);
    let seen = daemon.runs();
    daemon.await_runs(seen + 1);
    eventually("the new keys are used", || daemon.status().key(KEY) == "compliant");
}

#[test]
fn the_expiry_metric_uses_the_clock_of_this_machine() {
    let cloud = Cloud::start(setup([off()]).clock(|| SystemTime::now() - Duration::from_secs(10 * 60)));
    let site = Site::new(&policy(&cloud));
    let daemon = site.run();
    daemon.await_runs(1);
    let expiry = daemon.metric("kms_rotation_credentials_expiry_timestamp_seconds{project=\"payments\"}").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((expiry - now - 86_400.0).abs() < 300.0, "{expiry}");
}

#[test]
fn no_proxy_is_used_for_the_metadata_service_or_http_on_loopback() {
    let cloud = Cloud::of([off()]);
    let trap = Front::proxy(cloud.url(), None);
    for field in [None, Some(format!("proxy: {{url: \"{}\"}}", trap.http()))] {
        let mut site = Site::new(&field.iter().fold(policy(&cloud), |policy, field| policy.field(field)));
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            site.set(name, &trap.http());
        }
        assert_eq!(site.apply().key(KEY), "compliant");
    }
    assert_eq!(trap.connections(), 0, "{}", trap.heard());
    assert_eq!(cloud.requests(Operation::InstanceKeys), 2);
}

#[test]
fn the_metadata_service_has_a_shorter_timeout_than_the_cloud() {
    let hanging = Rule::always(Fault::hang()).on(OperationSet::METADATA);
    let cloud = Cloud::start(setup([off()]).fault(hanging));
    let policy = Policy { max_elapsed: "1s", request_timeout: "60s", ..policy(&cloud) };
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), UNAVAILABLE));
    assert!(applied.report().error().contains("no answer from"), "{}", applied.report().error());
}
