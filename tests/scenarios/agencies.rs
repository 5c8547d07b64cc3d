//! `assume_agency` with each kind of login that can assume one, and `id_token`.

use kms_simulator::{Fault, Operation, ProjectSetup, Rule, Setup};

use super::access_keys::{ACCESS, BY_VALUE, SECRET, site};
use super::cloud::{Cloud, off, setup};
use super::machine::of_the_machine;
use super::site::Policy;
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, USER, eventually};

const REFUSED: &str = "unknown: authentication_failed";
const BY_PASSWORD: &str = "{password: {user_name: rotator, domain_name: ACCOUNT, password_file: password}}";
const DOMAIN_ID: &str = "d0ffd0ffd0ffd0ffd0ffd0ffd0ffd0ff";

/// A cloud in which another account has delegated the project to the agency `rotation`.
fn delegating() -> Setup {
    let project = ProjectSetup::new(PROJECT, "eu-de").domain("DELEGATING").key(off());
    Setup::new().project(project).login(USER, ACCOUNT, PASSWORD).access_key(ACCESS, SECRET).agency(
        "DELEGATING",
        DOMAIN_ID,
        "rotation",
        [PROJECT],
    )
}

/// The three kinds of login that can assume an agency.
fn kinds(cloud: &Cloud) -> [String; 3] {
    [BY_PASSWORD.to_owned(), BY_VALUE.to_owned(), of_the_machine(cloud)]
}

fn by_name(agency: &str) -> String {
    format!("assume_agency: {{domain_name: DELEGATING, agency_name: {agency}}}")
}

#[test]
fn each_kind_of_login_uses_the_delegated_project_by_the_accounts_name_or_id() {
    for domain in ["domain_name: DELEGATING", &format!("domain_id: {DOMAIN_ID}")] {
        let cloud = Cloud::start(delegating());
        for (at, credentials) in kinds(&cloud).into_iter().enumerate() {
            let assume = format!("assume_agency: {{{domain}, agency_name: rotation}}");
            let applied = site(&Policy::of_one_key(cloud.url()).with(&credentials).field(&assume)).apply();
            let found = (applied.code, &*applied.key(KEY));
            assert_eq!(found, (Some(0), "compliant"), "{credentials} {domain}: {applied:#?}");
            let keys = u64::try_from(at).unwrap();
            assert_eq!((cloud.requests(Operation::AgencyToken), cloud.requests(Operation::TemporaryKeys)), (1, keys));
        }
    }
}

#[test]
fn without_the_agency_the_project_is_denied() {
    let cloud = Cloud::start(delegating());
    for credentials in kinds(&cloud) {
        let applied = site(&Policy::of_one_key(cloud.url()).with(&credentials)).apply();
        assert_eq!(applied.code, Some(1), "{credentials}");
        assert!(applied.key(KEY).starts_with("unknown: "), "{credentials}: {}", applied.key(KEY));
        assert_eq!(cloud.rotation(KEY), (false, 0));
    }
}

#[test]
fn an_unknown_agency_is_reported_with_the_clouds_message() {
    let cloud = Cloud::start(delegating());
    for credentials in kinds(&cloud) {
        cloud.forget_requests();
        let policy = Policy::of_one_key(cloud.url()).with(&credentials).field(&by_name("retired"));
        let applied = site(&policy).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED), "{credentials}");
        let error = applied.report().error();
        assert!(error.contains("Could not find the agency") && error.contains("IAM.0004"), "{error}");
        assert_eq!(cloud.requests(Operation::AgencyToken) + cloud.requests(Operation::TemporaryKeys), 1);
    }
}

#[test]
fn an_agency_can_be_part_of_the_credentials_and_have_a_duration() {
    let cloud = Cloud::start(delegating());
    let credentials =
        BY_VALUE.replace("}}", "}, assume_agency: {domain_name: DELEGATING, agency_name: rotation, duration: 1h}}");
    let site = site(&Policy::of_one_key(cloud.url()).with(&credentials));
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "compliant");
    let expiry = daemon.metric("kms_rotation_credentials_expiry_timestamp_seconds{project=\"payments\"}").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((expiry - now - 3600.0).abs() < 60.0, "{expiry}");
}

#[test]
fn a_wrong_key_or_password_for_an_agency_is_tried_once() {
    let cloud = Cloud::start(delegating());
    for credentials in [BY_PASSWORD, BY_VALUE] {
        cloud.forget_requests();
        let site = site(&Policy::of_one_key(cloud.url()).with(credentials).field(&by_name("rotation")));
        site.write("password", "not-it");
        site.write("secret", "not-it");
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED), "{credentials}");
        assert_eq!((cloud.authentication_failures(), cloud.all_requests()), (1, 1), "{credentials}");
    }
}

#[test]
fn refused_keys_of_an_agency_are_renewed_in_mid_run() {
    for (at, credentials) in [BY_PASSWORD, BY_VALUE].into_iter().enumerate() {
        let refuse = Rule::next(1, Fault::unauthorized()).on(Operation::EnableRotation);
        let cloud = Cloud::start(delegating().fault(refuse));
        let policy = Policy::of_one_key(cloud.url()).with(credentials).field(&by_name("rotation"));
        assert_eq!(site(&policy).apply().key(KEY), "compliant", "{credentials}");
        let renewed = [Operation::AgencyToken, Operation::TemporaryKeys][at];
        assert_eq!(cloud.requests(renewed), 2, "{credentials}");
    }
}

const ID_TOKEN: &str = "{id_token: {provider_id: cluster, token_file: jwt}}";

#[test]
fn an_identity_providers_token_file_is_read_at_each_login() {
    let cloud = Cloud::start(setup([off()]).identity_provider("cluster", "eyJ-first"));
    let site = site(&Policy::of_one_key(cloud.url()).with(ID_TOKEN).every_second());
    site.write("jwt", "eyJ-first\n");
    let daemon = site.run();
    daemon.await_runs(2);
    assert_eq!((&*daemon.status().key(KEY), cloud.requests(Operation::IdToken)), ("compliant", 1));
    cloud.set_id_token("cluster", "eyJ-second");
    site.write("jwt", "eyJ-second\n");
    cloud.revoke_temporary_keys();
    cloud.await_requests(Operation::IdToken, 2);
    let seen = daemon.runs();
    daemon.await_runs(seen + 1);
    eventually("the second token is used", || daemon.status().key(KEY) == "compliant");
    // The temporary keys were refused, never the provider's token.
    assert_eq!(cloud.requests(Operation::IdToken), 2);
}

#[test]
fn a_wrong_identity_token_is_tried_once() {
    let cloud = Cloud::start(setup([off()]).identity_provider("cluster", "eyJ-right"));
    let site = site(&Policy::of_one_key(cloud.url()).with(ID_TOKEN));
    site.write("jwt", "eyJ-wrong");
    let applied = site.apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    assert!(applied.report().error().contains("invalid or has expired"), "{}", applied.report().error());
    assert_eq!(cloud.all_requests(), 1);
}

#[test]
fn an_unknown_identity_provider_is_named() {
    let cloud = Cloud::of([off()]);
    let site = site(&Policy::of_one_key(cloud.url()).with(ID_TOKEN));
    site.write("jwt", "eyJ-right");
    let applied = site.apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    let error = applied.report().error();
    assert!(error.contains("Could not find the identity provider") && error.contains("cluster"), "{error}");
    assert_eq!(cloud.all_requests(), 1);
}
