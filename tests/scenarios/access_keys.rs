//! `access_key`: requests are signed, and a refused key is not tried until it is locked.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use kms_simulator::{Fault, Hold, Key, Operation, ProjectSetup, Rule, Setup};
use serde_json::Value;

use super::cloud::{Cloud, from_the_eleventh_on, many, off, rotating, setup};
use super::front::{Authority, Front};
use super::site::{Policy, Site};
use super::{KEY, PROJECT, key_id};

pub(crate) const ACCESS: &str = "AKOFTHESETESTS000001";
pub(crate) const SECRET: &str = "sEcReTkEy-5b0e7d3c9a1f2846ZyXwVuTsRq";
/// The id in the policy, the secret in a file.
pub(crate) const BY_VALUE: &str = "{access_key: {access_key_id: AKOFTHESETESTS000001, secret_access_key_file: secret}}";
/// Id and secret in files.
pub(crate) const BY_FILE: &str = "{access_key: {access_key_id_file: access, secret_access_key_file: secret}}";
const REFUSED: &str = "unknown: authentication_failed";

/// A cloud with these keys and the access key.
pub(crate) fn keyed(keys: impl IntoIterator<Item = Key>) -> Setup {
    setup(keys).access_key(ACCESS, SECRET)
}

/// A folder with the access key in files.
pub(crate) fn site(policy: &Policy) -> Site {
    let site = Site::new(policy);
    site.write("access", &format!("{ACCESS}\n"));
    site.write("secret", &format!("{SECRET}\n"));
    site
}

/// A temporary key from the simulated metadata service.
pub(crate) fn temporary_key(cloud: &Cloud) -> [String; 3] {
    let mut stream = TcpStream::connect(cloud.url().rsplit('/').next().unwrap()).unwrap();
    write!(stream, "GET /openstack/latest/securitykey HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = &answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()];
    let body: Value = serde_json::from_str(body).unwrap();
    ["access", "secret", "securitytoken"].map(|name| body["credential"][name].as_str().unwrap().to_owned())
}

#[test]
fn a_key_named_in_the_policy_signs_every_request() {
    let cloud = Cloud::start(keyed([off()]));
    let applied = site(&Policy::of_one_key(cloud.url()).with(BY_VALUE)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!(cloud.access_key_requests(ACCESS), cloud.all_requests());
    assert_eq!((cloud.requests(Operation::Authenticate), cloud.authentication_failures()), (0, 0));
}

#[test]
fn a_key_with_its_id_in_a_file_signs_requests() {
    let cloud = Cloud::start(keyed([off()]));
    assert_eq!(site(&Policy::of_one_key(cloud.url()).with(BY_FILE)).apply().key(KEY), "compliant");
    assert_eq!(cloud.access_keys_seen(), [ACCESS]);
}

#[test]
fn a_temporary_key_in_files_is_sent_with_its_security_token() {
    let cloud = Cloud::of([off()]);
    let [access, secret, token] = temporary_key(&cloud);
    let credentials = "{access_key: {access_key_id_file: access, secret_access_key_file: secret, \
                       security_token_file: security_token}}";
    let site = site(&Policy::of_one_key(cloud.url()).with(credentials));
    site.write("access", &access);
    site.write("secret", &format!("{secret}\r\n"));
    site.write("security_token", &format!("{token}\n"));
    assert_eq!(site.apply().key(KEY), "compliant");
    assert_eq!(cloud.access_keys_seen(), [access]);
    site.write("security_token", "of-somebody-else");
    assert_eq!(site.apply().key(KEY), REFUSED);
}

#[test]
fn every_login_without_a_metadata_service_works_over_https_with_a_private_authority() {
    let authority = Authority::new();
    for credentials in [
        "{token_file: token}",
        "{password: {user_name: rotator, domain_name: ACCOUNT, password_file: password}}",
        BY_VALUE,
        BY_FILE,
        "{id_token: {provider_id: provider, token_file: token}}",
        "{access_key: {access_key_id_file: access, secret_access_key_file: secret}, \
         assume_agency: {domain_name: DELEGATING, agency_name: rotation}}",
    ] {
        let agency = credentials.contains("assume_agency");
        let setup = keyed([off()]).identity_provider("provider", super::TOKEN);
        let cloud = Cloud::start(if agency { setup.agency("DELEGATING", "d1", "rotation", [PROJECT]) } else { setup });
        let front = Front::tls(cloud.url(), &authority);
        let site = site(&Policy::of_one_key(&front.https()).with(credentials).field("ca_file: ca.pem"));
        site.write("ca.pem", &authority.pem);
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{credentials}: {applied:#?}");
        assert_eq!(cloud.rotation(KEY), (true, 90));
    }
}

#[test]
fn a_refused_key_is_tried_once_in_a_run_however_many_keys_there_are() {
    let cloud = Cloud::start(keyed(many(30)));
    for wrong in [BY_VALUE, BY_FILE] {
        cloud.forget_requests();
        let site = site(&Policy::of_keys(cloud.url(), (0..30).map(key_id)).with(wrong));
        site.write("secret", "not-it");
        let applied = site.apply();
        assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30));
        assert!((0..30).all(|n| applied.key(&key_id(n)) == REFUSED), "{applied:#?}");
        assert_eq!((cloud.access_key_refusals(ACCESS), cloud.all_requests()), (1, 1));
        let error = applied.report().error();
        // The cloud's message, and the action.
        assert!(error.contains("APIGW.0301") && error.contains("verify aksk"), "{error}");
        assert!(error.contains("secret") && error.contains("not changed"), "{error}");
        assert_eq!(applied.log().iter().filter(|line| line["level"] == "ERROR").count(), 1, "{}", applied.stderr);
    }
}

#[test]
fn a_key_refused_in_mid_run_is_not_tried_on_every_remaining_key() {
    for concurrency in [1, 4] {
        let cloud = Cloud::start(keyed(many(40)).fault(Rule::always(Fault::unauthorized()).after(1)));
        let policy = Policy::of_keys(cloud.url(), (0..40).map(key_id)).with(BY_VALUE);
        let site = site(&Policy { concurrency, ..policy });
        site.write("secret", SECRET);
        let applied = site.apply();
        assert!((0..40).all(|n| applied.key(&key_id(n)) == REFUSED), "{applied:#?}");
        // The requests in flight at the first refusal, and one retry.
        assert!(cloud.requests(Operation::ReadStatus) <= u64::from(concurrency) + 1, "{}", cloud.all_requests());
        assert_eq!(cloud.requests(Operation::ListKeys), 1);
    }
}

#[test]
fn an_unknown_key_is_reported_with_the_clouds_message() {
    let cloud = Cloud::of([off()]);
    let applied = site(&Policy::of_one_key(cloud.url()).with(BY_VALUE)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    assert!(applied.report().error().contains("not exist"), "{}", applied.report().error());
    assert_eq!(cloud.all_requests(), 1);
}

/// A run in which the secret's file changes while the first request waits for its refusal.
fn refused_while_the_file_becomes(secret: &str) -> (Cloud, String) {
    let hold = Hold::new();
    let rule = Rule::next(1, Fault::held(&hold)).on(Operation::ListKeys);
    let cloud = Cloud::start(keyed([off()]).fault(rule));
    let site = site(&Policy::of_one_key(cloud.url()).with(BY_FILE));
    site.write("secret", "of-yesterday");
    let daemon = site.run();
    cloud.await_requests(Operation::ListKeys, 1);
    site.write("secret", secret);
    hold.release();
    daemon.await_runs(1);
    let key = daemon.status().key(KEY);
    drop(daemon);
    (cloud, key)
}

#[test]
fn a_refused_key_whose_files_have_changed_is_tried_once_more() {
    let (cloud, key) = refused_while_the_file_becomes(SECRET);
    assert_eq!(key, "compliant");
    assert_eq!(cloud.access_key_refusals(ACCESS), 1);
}

#[test]
fn a_changed_key_that_is_also_refused_ends_the_projects_run() {
    let (cloud, key) = refused_while_the_file_becomes("of-tomorrow");
    assert_eq!(key, REFUSED);
    assert_eq!((cloud.access_key_refusals(ACCESS), cloud.all_requests()), (2, 2));
}

#[test]
fn five_projects_with_one_wrong_key_never_lock_it() {
    let ids = ["1", "2", "3", "4", "5"].map(|digit| &*Box::leak(digit.repeat(32).into_boxed_str()));
    let names = ["one", "two", "three", "four", "five"];
    let projects = ids.iter().map(|id| ProjectSetup::new(*id, "eu-de").key(off()));
    let cloud = Cloud::start(projects.fold(Setup::new().access_key(ACCESS, SECRET), Setup::project));
    let project = |at: usize| {
        let policy = Policy::of_one_key(cloud.url()).with(BY_VALUE);
        Policy { name: names[at], project_id: ids[at], ..policy }
    };
    let site = site(&project(0));
    let others: String = (1..5).map(|at| project(at).project()).collect();
    site.write("policy.yaml", &(project(0).text() + &others));
    site.write("secret", "not-it");
    let applied = site.apply();
    assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 5));
    assert_eq!((cloud.access_key_refusals(ACCESS), cloud.access_key_is_locked(ACCESS)), (1, false));
    // Each of the five reports the cloud's message and the action.
    for project in applied.report().0["projects"].as_array().unwrap() {
        let error = project["error"].as_str().unwrap();
        assert!(error.contains("APIGW.0301") && error.contains("verify aksk"), "{error}");
        assert_eq!((error.matches("not changed").count(), error.matches("APIGW").count()), (1, 1), "{error}");
        assert_eq!(project["keys"][0]["reasons"][0], "authentication_failed", "{project}");
    }
    site.write("secret", SECRET);
    assert_eq!(site.apply().report().count("compliant"), 5);
}

#[test]
fn a_key_replaced_in_its_files_in_mid_run_does_not_affect_the_result() {
    let hold = Hold::new();
    let cloud = Cloud::start(keyed(many(40)).fault(from_the_eleventh_on(&hold)));
    let site = site(&Policy::of_keys(cloud.url(), (0..40).map(key_id)).with(BY_FILE));
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 11);
    let (next, secret) = ("AKOFTHESETESTS000002", "the-next-secret");
    cloud.set_access_key(next, secret);
    site.write("access", next);
    site.write("secret", secret);
    cloud.revoke_access_key(ACCESS);
    hold.release();
    daemon.await_runs(1);
    assert_eq!(daemon.status().count("compliant"), 40);
    assert_eq!(cloud.access_keys_seen(), [ACCESS, next]);
    assert_eq!(cloud.access_key_refusals(next), 0);
    cloud.assert_only_sent(90);
}

#[test]
fn every_attempt_is_signed_again() {
    let busy = Fault::html(503).retry_after("1");
    let cloud = Cloud::start(keyed([rotating(90)]).fault(Rule::next(2, busy).on(Operation::ListKeys)));
    let front = Front::plain(cloud.url());
    assert_eq!(site(&Policy::of_one_key(&front.http()).with(BY_VALUE)).apply().key(KEY), "compliant");
    for header in ["x-sdk-date", "authorization"] {
        let said = front.header(header);
        // The attempts to list keys, and one call after them.
        let different: HashSet<_> = said.iter().take(3).collect();
        assert_eq!((said.len(), different.len()), (4, 3), "{header}: {said:?}");
    }
    assert_eq!(cloud.authentication_failures(), 0);
}

const APART: &str =
    "this machine's clock differs from the cloud's by more than ten minutes; check its time synchronization";

#[test]
fn a_clock_skew_of_twenty_minutes_is_in_log_and_metric() {
    for (offset, expected) in [(1200, 1200.0), (-1200, -1200.0)] {
        // Not created within the skew.
        let key = off().created(SystemTime::now() - Duration::from_secs(86_400));
        let cloud = Cloud::start(keyed([key]).behave(|cloud| cloud.date_offset_seconds = offset));
        let site = site(&Policy::of_one_key(cloud.url()).with(BY_VALUE));
        let daemon = site.run();
        daemon.await_runs(1);
        assert_eq!(daemon.status().key(KEY), "compliant");
        let skew = daemon.metric("kms_rotation_clock_skew_seconds{project=\"payments\"}").unwrap();
        assert!((skew - expected).abs() < 10.0, "{skew}");
        let told = daemon.stop().messages(APART);
        assert_eq!(told.len(), 1, "once in a run");
        assert_eq!((&*told[0]["level"].to_string(), &told[0]["project"]), ("\"WARN\"", &Value::from("payments")));
    }
}

#[test]
fn a_clock_skew_is_reported_with_the_refused_signature() {
    let ahead = || SystemTime::now() + Duration::from_secs(20 * 60);
    let cloud = Cloud::start(keyed(many(5)).clock(ahead));
    let applied = site(&Policy::of_keys(cloud.url(), (0..5).map(key_id)).with(BY_VALUE)).apply();
    assert_eq!((applied.code, &*applied.key(&key_id(4))), (Some(1), REFUSED));
    assert_eq!((cloud.access_key_refusals(ACCESS), cloud.all_requests()), (1, 1));
    assert!(applied.report().error().contains("signature expired"), "{}", applied.report().error());
    assert_eq!(applied.messages(APART).len(), 1);
}

#[test]
fn missing_empty_or_garbled_key_files_cause_no_request() {
    let cloud = Cloud::start(keyed([off()]));
    let [with_mark, with_blank, with_nul] =
        [format!("\u{feff}{SECRET}\n"), format!("{SECRET} \n"), format!("{SECRET}\0")];
    for (file, content) in [
        ("secret", None),
        ("secret", Some("")),
        ("secret", Some(&*with_mark)),
        ("secret", Some(&*with_blank)),
        ("secret", Some(&*with_nul)),
        ("access", None),
        ("access", Some("a b\n")),
        ("access", Some("\u{feff}AKOFTHESETESTS000001")),
    ] {
        let site = site(&Policy::of_one_key(cloud.url()).with(BY_FILE));
        match content {
            Some(text) => site.write(file, text),
            None => fs::remove_file(site.path(file)).unwrap(),
        }
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED), "{file} {content:?}");
        assert!(applied.report().error().contains(file), "{}", applied.report().error());
    }
    assert_eq!(cloud.all_requests(), 0);
}
