//! `ecs_agency`: the keys of the agency that the machine has, from a metadata service that may be away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kms_rotationd::simulator::{Fault, Key, MetadataTokens, Operation, OperationSet, Rule};

use super::cloud::{Cloud, off, setup};
use super::front::Front;
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::{KEY, eventually, key_id};

const REFUSED: &str = "unknown: authentication_failed";
const UNAVAILABLE: &str = "unknown: login_unavailable";

/// How to log in with the keys of a machine of this cloud.
pub(crate) fn of_the_machine(cloud: &Cloud) -> String {
    format!("{{ecs_agency: {{metadata_endpoint: \"{}\"}}}}", cloud.url())
}

fn policy(cloud: &Cloud) -> Policy {
    Policy::of_one_key(cloud.url()).with(&of_the_machine(cloud))
}

/// So many keys that are right already, with an answer each 20 ms and one at a time: a run that goes on.
fn steady(cloud: &Cloud, keys: usize) -> Policy {
    let policy = Policy::of_keys(cloud.url(), (0..keys).map(key_id)).with(&of_the_machine(cloud));
    Policy { concurrency: 1, ..policy }
}

fn right(keys: usize) -> impl Iterator<Item = Key> {
    (0..keys).map(|n| Key::new(key_id(n)).rotating(90))
}

#[test]
fn the_token_protected_version_is_asked_first() {
    let cloud = Cloud::start(setup([off()]).behave(|cloud| cloud.metadata_tokens = MetadataTokens::Required));
    let applied = Site::new(&policy(&cloud)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!((cloud.requests(Operation::MetadataToken), cloud.requests(Operation::InstanceKeys)), (1, 1));
    assert_eq!(cloud.requests(Operation::Authenticate), 0);
}

#[test]
fn the_plain_version_is_asked_where_the_protected_one_is_absent() {
    for status in [403, 404, 405, 503] {
        let absent = MetadataTokens::Absent(status);
        let cloud = Cloud::start(setup([off()]).behave(|cloud| cloud.metadata_tokens = absent));
        assert_eq!(Site::new(&policy(&cloud)).apply().key(KEY), "compliant", "{status}");
        let asked = (cloud.requests(Operation::MetadataToken), cloud.requests(Operation::InstanceKeys));
        assert_eq!(asked, (1, 1), "{status}");
    }
}

#[test]
fn a_machine_without_an_agency_is_told_what_to_do() {
    let cloud = Cloud::start(setup([off()]).behave(|cloud| cloud.instance_agency = false));
    let applied = Site::new(&policy(&cloud)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    let error = applied.report().error();
    assert!(error.contains("HTTP 401") && error.contains("attached in the console"), "{error}");
    assert_eq!((cloud.requests(Operation::InstanceKeys), cloud.requests(Operation::ReadStatus)), (1, 0));
}

#[test]
fn a_service_that_answers_something_else_is_no_metadata_service() {
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
fn a_service_that_is_away_at_the_start_is_asked_again() {
    let away = Rule::next(3, Fault::html(503)).on(Operation::InstanceKeys);
    let cloud = Cloud::start(setup([off()]).fault(away));
    assert_eq!(Site::new(&policy(&cloud)).apply().key(KEY), "compliant");
    assert_eq!(cloud.requests(Operation::InstanceKeys), 4);
}

#[test]
fn keys_that_live_for_seconds_are_renewed_before_they_end() {
    let lifetime = Some(Duration::from_secs(2));
    let latency = Fault::delay(Duration::from_millis(20));
    let cloud = Cloud::start(
        setup(right(150)).fault(Rule::always(latency)).behave(|cloud| cloud.temporary_key_lifetime = lifetime),
    );
    let applied = Site::new(&steady(&cloud, 150)).apply();
    assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 150));
    assert!(cloud.requests(Operation::InstanceKeys) >= 2);
    assert_eq!(cloud.authentication_failures(), 0, "none was used to its bitter end");
}

#[test]
fn while_the_service_is_away_the_old_keys_go_on() {
    let lifetime = Some(Duration::from_secs(4));
    let latency = Fault::delay(Duration::from_millis(20));
    // From the second time on, for two times.
    let away = Rule::next(2, Fault::html(503)).on(Operation::InstanceKeys).after(1);
    let setup = setup(right(250)).fault(Rule::always(latency)).fault(away);
    let cloud = Cloud::start(setup.behave(|cloud| cloud.temporary_key_lifetime = lifetime));
    let applied = Site::new(&steady(&cloud, 250)).apply();
    assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 250));
    assert_eq!(applied.messages("could not renew the credentials; the old ones still hold").len(), 1);
    assert_eq!(cloud.authentication_failures(), 0);
    assert_eq!(cloud.requests(Operation::ReadStatus), 250);
}

#[test]
fn keys_that_are_taken_away_are_replaced_in_mid_run() {
    let latency = Rule::always(Fault::delay(Duration::from_millis(20)));
    let cloud = Cloud::start(setup((0..40).map(|n| Key::new(key_id(n)))).fault(latency));
    let policy = Policy::of_keys(cloud.url(), (0..40).map(key_id)).with(&of_the_machine(&cloud));
    let site = Site::new(&policy);
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 10);
    cloud.revoke_temporary_keys();
    daemon.await_runs(1);
    assert_eq!(daemon.status().count("compliant"), 40);
    assert_eq!(cloud.requests(Operation::InstanceKeys), 2);
}

#[test]
fn a_service_that_has_forgotten_its_tokens_is_no_hindrance() {
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
fn keys_are_renewed_in_time_whatever_the_clock_of_the_cloud_says() {
    // Further apart, signatures would be refused.
    const APART: Duration = Duration::from_secs(10 * 60);
    for ahead in [true, false] {
        let clock = move || if ahead { SystemTime::now() + APART } else { SystemTime::now() - APART };
        let lifetime = Some(Duration::from_secs(3));
        let latency = Rule::always(Fault::delay(Duration::from_millis(20)));
        let setup = setup(right(200)).clock(clock).fault(latency);
        let cloud = Cloud::start(setup.behave(|cloud| cloud.temporary_key_lifetime = lifetime));
        let applied = Site::new(&steady(&cloud, 200)).apply();
        assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 200), "ahead: {ahead}");
        // A key holds for two seconds at least, and the run takes little more than four.
        let renewals = cloud.requests(Operation::InstanceKeys);
        assert!((2..=60).contains(&renewals), "ahead: {ahead}, {renewals} times");
        assert_eq!(cloud.authentication_failures(), 0, "ahead: {ahead}, none was used to its bitter end");
    }
}

#[test]
fn when_the_keys_end_is_told_by_the_clock_of_this_machine() {
    let cloud = Cloud::start(setup([off()]).clock(|| SystemTime::now() - Duration::from_secs(10 * 60)));
    let site = Site::new(&policy(&cloud));
    let daemon = site.run();
    daemon.await_runs(1);
    let expiry = daemon.metric("kms_rotation_credentials_expiry_timestamp_seconds{project=\"payments\"}").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((expiry - now - 86_400.0).abs() < 60.0, "{expiry}");
}

#[test]
fn no_proxy_ever_sees_the_metadata_service_or_plain_http_on_loopback() {
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
fn a_metadata_service_that_never_answers_is_not_waited_for_as_long_as_the_cloud() {
    let hanging = Rule::always(Fault::hang()).on(OperationSet::METADATA);
    let cloud = Cloud::start(setup([off()]).fault(hanging));
    let policy = Policy { max_elapsed: "1s", request_timeout: "60s", ..policy(&cloud) };
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), UNAVAILABLE));
    assert!(applied.report().error().contains("no answer from"), "{}", applied.report().error());
}
