//! Tokens and passwords: requested, cached, renewed, refused.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kms_rotationd::rotation::decide::Reason;
use kms_rotationd::rotation::remedies::remedy;
use kms_simulator::{Fault, Hold, Key, Operation, ProjectSetup, Rule, Setup, TokenRefusal};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use super::access_keys::{BY_VALUE, SECRET, keyed, site as keyed_site};
use super::cloud::{Cloud, from_the_eleventh_on, many, off, rotating, setup, slow_clock};
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER, eventually, key_id};

const REFUSED: &str = "unknown: authentication_failed";
const BY_PASSWORD: &str = "{password: {user_name: rotator, domain_name: ACCOUNT, password_file: password}}";
const UNAVAILABLE: &str = "unknown: login_unavailable";

#[test]
fn a_token_from_a_file_needs_no_iam() {
    let cloud = Cloud::of([off()]);
    assert_eq!(Site::new(&Policy::of_one_key(cloud.url())).apply().code, Some(0));
    assert_eq!(cloud.requests(Operation::Authenticate), 0);
}

#[test]
fn a_password_gets_a_token_for_the_projects_id() {
    let cloud = Cloud::of([off()]);
    assert_eq!(Site::new(&Policy::of_one_key(cloud.url()).password(None)).apply().key(KEY), "compliant");
    assert_eq!(cloud.requests(Operation::Authenticate), 1);
}

#[test]
fn a_password_gets_a_token_for_the_projects_name_in_its_account() {
    // Another account has a project of the same name.
    let other = ProjectSetup::new("fedcba9876543210fedcba9876543210", "eu-de").domain("ANOTHER");
    let cloud = Cloud::start(setup([off()]).project(other));
    assert_eq!(Site::new(&Policy::of_one_key(cloud.url()).password(Some("eu-de"))).apply().key(KEY), "compliant");
    assert_eq!(cloud.requests(Operation::Authenticate), 1);
}

#[test]
fn a_token_for_another_project_is_not_used() {
    let other = ProjectSetup::new("fedcba9876543210fedcba9876543210", "eu-de_other").domain(ACCOUNT);
    let cloud = Cloud::start(setup([off()]).project(other));
    let applied = Site::new(&Policy::of_one_key(cloud.url()).password(Some("eu-de_other"))).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    assert_eq!(cloud.all_requests(), 1);
    let error = applied.report().0["projects"][0]["error"].to_string();
    assert!(error.contains("fedcba9876543210fedcba9876543210") && error.contains(PROJECT), "{error}");
}

#[test]
fn an_unknown_project_is_not_looked_up_again() {
    let cloud = Cloud::of([off()]);
    let applied = Site::new(&Policy::of_one_key(cloud.url()).password(Some("eu-nl"))).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    assert_eq!(cloud.all_requests(), 1);
    let error = applied.report().error();
    assert!(
        error.contains("requesting a token for project eu-nl: HTTP 404 IAM.0004 Could not find the project."),
        "{error}"
    );
}

#[test]
fn a_wrong_password_is_tried_once_in_a_run_however_many_keys_there_are() {
    let cloud = Cloud::of(many(30));
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..30).map(key_id)).password(None));
    site.write("password", "not it");
    for runs in 1..=2 {
        let applied = site.apply();
        assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30));
        assert!((0..30).all(|n| applied.key(&key_id(n)) == REFUSED));
        assert_eq!(applied.log().iter().filter(|line| line["level"] == "ERROR").count(), 1, "{}", applied.stderr);
        assert_eq!((cloud.requests(Operation::Authenticate), cloud.all_requests()), (runs, runs));
    }
}

#[test]
fn a_refused_secret_waits_for_a_change_however_many_runs_there_are() {
    for (credentials, file, wrong, right) in [
        ("{token_file: token}", "token", "of-nobody", TOKEN),
        (BY_PASSWORD, "password", "not-it", PASSWORD),
        (BY_VALUE, "secret", "not-it", SECRET),
    ] {
        let cloud = Cloud::start(keyed([off()]));
        let site = keyed_site(&Policy::of_one_key(cloud.url()).with(credentials).every_second());
        site.write(file, wrong);
        let daemon = site.run();
        daemon.await_runs(6);
        assert_eq!((&*daemon.status().key(KEY), cloud.all_requests()), (REFUSED, 1), "{credentials}");
        assert!(daemon.status().error().contains("not sent again for 30 minutes"), "{}", daemon.status().error());
        let requests = "kms_rotation_requests_total{project=\"payments\"";
        let (_, metrics) = daemon.get("/metrics");
        let counted = metrics.lines().filter(|line| line.starts_with(requests) && !line.ends_with(" 0"));
        assert_eq!(counted.count(), 1, "{credentials}: no request is counted but the first one");

        site.write(file, right);
        eventually("the right secret is picked up", || daemon.status().key(KEY) == "compliant");
        assert_eq!(cloud.authentication_failures(), 1, "{credentials}");
    }
}

#[test]
fn a_refused_user_does_not_log_in_again_in_each_run() {
    let disabled = Rule::always(Fault::gateway(403, "IAM.0080")).on(Operation::Authenticate);
    let cloud = Cloud::start(keyed([off()]).fault(disabled));
    let site = keyed_site(&Policy::of_one_key(cloud.url()).with(BY_PASSWORD).every_second());
    let daemon = site.run();
    daemon.await_runs(4);
    assert_eq!((&*daemon.status().key(KEY), cloud.all_requests()), (REFUSED, 1));
    let lines = daemon.stop().messages("login failed; the project's keys cannot be checked");
    assert_eq!(lines.len(), 1, "not again because the secret is not sent again: {lines:#?}");
    assert_eq!(lines[0]["remedy"], remedy(Reason::AuthenticationFailed));
}

#[test]
fn a_signal_or_a_new_policy_retries_a_refused_secret_at_once() {
    let cloud = Cloud::start(keyed([off()]));
    let policy = Policy::of_one_key(cloud.url()).with(BY_PASSWORD);
    let site = keyed_site(&policy);
    site.write("password", "not it");
    let daemon = site.run();
    daemon.await_runs(1);
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    assert_eq!((&*daemon.status().key(KEY), cloud.all_requests()), (REFUSED, 2));
    // The client notices no difference.
    site.write("policy.yaml", &(policy.text() + "# another day\n"));
    daemon.await_runs(3);
    assert_eq!((&*daemon.status().key(KEY), cloud.all_requests()), (REFUSED, 3));
}

#[test]
fn a_token_is_kept_between_runs() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).password(None).every_second());
    let daemon = site.run();
    daemon.await_runs(3);
    assert_eq!(cloud.requests(Operation::Authenticate), 1);
}

#[test]
fn a_token_is_renewed_before_it_expires() {
    let setup = setup([rotating(90)]).clock(slow_clock());
    let cloud = Cloud::start(setup.behave(|cloud| cloud.token_lifetime = Duration::from_secs(4)));
    let site = Site::new(&Policy::of_one_key(cloud.url()).password(None).every_second());
    let daemon = site.run();
    cloud.await_requests(Operation::Authenticate, 2);
    let seen = daemon.runs();
    daemon.await_runs(seen + 2);
    assert_eq!(daemon.status().key(KEY), "compliant");
    assert_eq!(cloud.authentication_failures(), 0);
    let expiry = daemon.metric("kms_rotation_credentials_expiry_timestamp_seconds{project=\"payments\"}").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((expiry - now).abs() < 3600.0, "{expiry} is not about {now}");
}

#[test]
fn a_token_that_expires_in_mid_run_fails_no_key() {
    // A wrong clock of the client: the token has expired for the cloud, but not for the client.
    let (jump, clock) = clock();
    let hold = Hold::new();
    let cloud = Cloud::start(setup(many(40)).clock(clock).fault(from_the_eleventh_on(&hold)));
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..40).map(key_id)).password(None));
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 11);
    jump();
    hold.release();
    daemon.await_runs(1);
    assert_eq!(daemon.status().count("compliant"), 40);
    assert_eq!(cloud.requests(Operation::Authenticate), 2);
    cloud.assert_only_sent(90);
}

/// The system's clock, until it jumps ahead by two days.
fn clock() -> (impl Fn(), impl Fn() -> SystemTime + Send + Sync + 'static) {
    let ahead = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&ahead);
    let now = move || SystemTime::now() + Duration::from_secs(shown.load(Ordering::Relaxed));
    (move || ahead.store(48 * 3600, Ordering::Relaxed), now)
}

/// Concurrent refused calls cause one new token.
#[track_caller]
fn assert_one_renewal_for_many_calls(refusal: TokenRefusal) {
    let hold = Hold::new();
    let rule = Rule::next(8, Fault::held(&hold)).on(Operation::ReadStatus);
    let cloud = Cloud::start(setup(many(40)).fault(rule).behave(|cloud| cloud.token_refusal = refusal));
    let policy = Policy::of_keys(cloud.url(), (0..40).map(key_id)).password(None);
    let site = Site::new(&Policy { concurrency: 8, ..policy });
    let daemon = site.run();
    // The first eight are accepted already; later ones are refused.
    cloud.await_requests(Operation::ReadStatus, 8);
    cloud.revoke_tokens();
    hold.release();
    daemon.await_runs(1);
    assert_eq!(daemon.status().count("compliant"), 40);
    assert_eq!(cloud.requests(Operation::Authenticate), 2);
    let refused = cloud.authentication_failures();
    assert!((1..=8).contains(&refused), "{refused} refused");
}

#[test]
fn a_token_revoked_in_mid_run_is_renewed_once_for_all_calls_refused_by_kms() {
    assert_one_renewal_for_many_calls(TokenRefusal::Kms);
}

#[test]
fn a_token_revoked_in_mid_run_is_renewed_once_for_all_calls_refused_by_the_gateway() {
    assert_one_renewal_for_many_calls(TokenRefusal::Gateway);
}

#[test]
fn each_kind_of_refused_token_causes_one_renewal_and_one_retry() {
    let refusals = [
        Fault::unauthorized(),
        Fault::gateway(401, "APIGW.0307"),
        Fault::html(401),
        Fault::kms(403, "KMS.0301"),
        Fault::kms(403, "KMS.0302"),
        Fault::kms(403, "KMS.0303"),
    ];
    for refusal in refusals {
        for operation in [Operation::ReadStatus, Operation::EnableRotation, Operation::UpdateInterval] {
            let cloud = Cloud::start(setup([off()]).fault(Rule::next(1, refusal.clone()).on(operation)));
            let applied = Site::new(&Policy::of_one_key(cloud.url()).password(None)).apply();
            assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{refusal:?} {operation:?}");
            assert_eq!(cloud.requests(Operation::Authenticate), 2, "{refusal:?} {operation:?}");
            assert_eq!(cloud.writes_applied(PROJECT, KEY), 2);
        }
    }
}

#[test]
fn a_new_token_that_is_also_refused_ends_the_projects_run() {
    let cloud = Cloud::start(setup(many(30)).fault(Rule::always(Fault::unauthorized())));
    let policy = Policy::of_keys(cloud.url(), (0..30).map(key_id)).password(None);
    let applied = Site::new(&Policy { concurrency: 1, ..policy }).apply();
    assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30));
    assert!((0..30).all(|n| applied.key(&key_id(n)) == REFUSED));
    assert_eq!((cloud.requests(Operation::Authenticate), cloud.all_requests()), (2, 4));
}

#[test]
fn a_token_of_another_project_is_denied_and_not_renewed_again_and_again() {
    let cloud = Cloud::start(setup([off()]).fault(Rule::always(Fault::kms(403, "KMS.0321"))));
    let applied = Site::new(&Policy::of_one_key(cloud.url()).password(None)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: access_denied"));
    assert_eq!(cloud.requests(Operation::Authenticate), 1);
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn a_write_without_permission_is_reported_as_access_denied() {
    let cloud = Cloud::start(setup([off()]).behave(|cloud| cloud.forbidden = Operation::EnableRotation.into()));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "non_compliant: rotation_disabled, access_denied"));
    assert_eq!(cloud.asked(Operation::EnableRotation), 1);
}

#[test]
fn a_changed_password_file_is_used_when_the_token_expires() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).password(None).every_second());
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.set_password(USER, ACCOUNT, "the next one");
    site.write("password", "the next one\r\n");
    cloud.revoke_tokens();
    cloud.await_requests(Operation::Authenticate, 2);
    let seen = daemon.runs();
    daemon.await_runs(seen + 1);
    assert_eq!(daemon.status().key(KEY), "compliant");
}

#[test]
fn a_changed_token_file_is_used_by_the_next_run() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.revoke_tokens();
    eventually("the old token is refused", || daemon.status().key(KEY) == REFUSED);
    cloud.add_token(PROJECT, "another-token", None);
    site.write("token", "another-token\n");
    eventually("the new token is used", || daemon.status().key(KEY) == "compliant");
}

#[test]
fn a_missing_empty_or_garbled_token_file_makes_the_keys_unknown_without_a_request() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    for content in [None, Some(""), Some("\n"), Some("two words\n"), Some("two\nlines\n"), Some("umlaut-ü")] {
        match content {
            Some(text) => site.write("token", text),
            None => std::fs::remove_file(site.path("token")).unwrap(),
        }
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED), "{content:?}");
        let error = applied.report().0["projects"][0]["error"].as_str().unwrap().to_owned();
        assert!(error.contains("token"), "{content:?}: {error}");
    }
    std::fs::write(site.path("token"), b"\xff\xfe").unwrap();
    assert_eq!(site.apply().key(KEY), REFUSED);
    assert_eq!(cloud.all_requests(), 0);
}

#[test]
fn a_missing_password_file_causes_no_login() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).password(None));
    std::fs::remove_file(site.path("password")).unwrap();
    let applied = site.apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    assert_eq!(cloud.all_requests(), 0);
}

#[test]
fn a_password_file_with_control_characters_is_named_and_not_sent() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).password(None));
    for (content, fault) in [
        (format!("\u{feff}{PASSWORD}\n"), "it begins with a byte order mark; save it as UTF-8 without one"),
        (format!("{PASSWORD}\0"), "it has a control character (U+0000)"),
        (format!("{USER}\n{PASSWORD}\n"), "it has a control character (U+000A)"),
    ] {
        site.write("password", &content);
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
        let error = applied.report().error();
        assert!(error.contains(&format!("cannot use password: {fault}")), "{error}");
    }
    assert_eq!(cloud.all_requests(), 0);
}

#[test]
fn a_login_is_retried_while_iam_is_down() {
    for fault in [Fault::html(500), Fault::html(502), Fault::throttled(), Fault::reset(), Fault::html(410)] {
        let cloud = Cloud::start(setup([off()]).fault(Rule::next(2, fault).on(Operation::Authenticate)));
        let applied = Site::new(&Policy::of_one_key(cloud.url()).password(None)).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
        assert_eq!(cloud.requests(Operation::Authenticate), 3);
    }
}

#[test]
fn while_iam_stays_down_keys_are_unknown_without_requests_to_kms() {
    let cloud = Cloud::start(setup(many(5)).fault(Rule::always(Fault::html(503)).on(Operation::Authenticate)));
    let policy = Policy::of_keys(cloud.url(), (0..5).map(key_id)).password(None);
    let applied = Site::new(&Policy { max_elapsed: "300ms", ..policy }).apply();
    assert_eq!((applied.code, &*applied.key(&key_id(4))), (Some(1), UNAVAILABLE));
    assert_eq!(cloud.requests(Operation::ReadStatus), 0);
}

#[test]
fn a_failing_or_unreachable_iam_is_not_a_refusal() {
    let faults = [Fault::html(500), Fault::html(501), Fault::html(502), Fault::html(599), Fault::throttled()];
    for fault in faults.into_iter().chain([Fault::reset(), Fault::html(408), Fault::hang()]) {
        let cloud = Cloud::start(setup([off()]).fault(Rule::always(fault.clone()).on(Operation::Authenticate)));
        let policy = Policy { max_elapsed: "100ms", request_timeout: "300ms", ..Policy::of_one_key(cloud.url()) };
        let applied = Site::new(&policy.password(None)).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), UNAVAILABLE), "{fault:?}");
        let error = applied.report().error();
        assert!(!error.contains(USER), "who logs in is not to blame: {error}");
        assert_eq!(applied.messages("login failed; the project's keys cannot be checked").len(), 0);
    }
}

#[test]
fn a_refused_connection_to_iam_is_not_a_refused_login() {
    let cloud = Cloud::of(many(5));
    let policy = Policy::of_keys(cloud.url(), (0..5).map(key_id)).password(None);
    let policy = Policy { iam: "http://127.0.0.1:1".to_owned(), max_elapsed: "100ms", ..policy };
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 5));
    assert_eq!((&*applied.key(&key_id(0)), &*applied.key(&key_id(4))), (UNAVAILABLE, UNAVAILABLE));
    assert!(applied.report().error().contains("no connection to 127.0.0.1:1"), "{}", applied.report().error());
    let levels = ["WARN", "ERROR"].map(|level| applied.log().iter().filter(|line| line["level"] == level).count());
    assert_eq!(levels, [1, 0], "it may pass by itself: {}", applied.stderr);
    assert_eq!(cloud.all_requests(), 0);
}

#[test]
fn a_token_revoked_while_iam_is_down_is_not_a_refused_login() {
    let away = Rule::always(Fault::html(503)).on(Operation::Authenticate).after(1);
    let refused = Rule::always(Fault::unauthorized()).on(Operation::ReadStatus);
    let cloud = Cloud::start(setup(many(3)).fault(away).fault(refused));
    let policy = Policy::of_keys(cloud.url(), (0..3).map(key_id)).password(None);
    let applied = Site::new(&Policy { max_elapsed: "100ms", concurrency: 1, ..policy }).apply();
    assert!((0..3).all(|n| applied.key(&key_id(n)) == UNAVAILABLE), "{}", applied.stdout);
    let error = applied.report().error();
    assert!(error.contains("HTTP 401") && error.contains("HTTP 503"), "{error}");
    assert_eq!(cloud.requests(Operation::ReadStatus), 1);
}

#[test]
fn an_answer_of_iam_without_a_token_is_an_error() {
    let iam = StandIn::start(|_| answer("200 OK", "", "{}"));
    let applied = Site::new(&Policy::of_one_key(&iam.url()).password(None)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    assert_eq!(iam.asked().len(), 1);
    assert_eq!(iam.asked()[0].path, "/v3/auth/tokens?nocatalog=true");
}

#[test]
fn tokens_of_many_kilobytes_are_used() {
    let cloud = Cloud::start(setup([off()]).token_length(16 * 1024));
    assert_eq!(Site::new(&Policy::of_one_key(cloud.url()).password(None)).apply().key(KEY), "compliant");
}

#[test]
fn one_project_without_credentials_does_not_stop_the_other() {
    let other = "fedcba9876543210fedcba9876543210";
    let there = ProjectSetup::new(other, "eu-nl").domain(ACCOUNT).key(Key::new(key_id(1)));
    let cloud = Cloud::start(
        Setup::new().project(there).project(ProjectSetup::new(PROJECT, "eu-de")).login(USER, ACCOUNT, PASSWORD),
    );
    let first = Policy::of_one_key(cloud.url());
    let second = Policy { name: "archive", project_id: other, ..Policy::at(cloud.url()).password(None) };
    let site = Site::new(&first);
    site.write("policy.yaml", &(first.text() + &second.key(&key_id(1), 90).project()));
    site.write("token", "of-nobody");
    let applied = site.apply();
    assert_eq!(applied.code, Some(1));
    assert_eq!((&*applied.key(KEY), &*applied.key(&key_id(1))), (REFUSED, "compliant"));
}

#[test]
fn a_secret_in_a_pipe_without_a_writer_does_not_block() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    fs::remove_file(site.path("token")).unwrap();
    mkfifoat(CWD, site.path("token"), Mode::RUSR | Mode::WUSR).unwrap();
    let daemon = site.run();
    daemon.await_runs(1);
    let report = daemon.status();
    assert_eq!(report.key(KEY), REFUSED);
    assert!(report.error().contains("not a regular file"), "{}", report.error());
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_failure_that_stays_is_logged_once_and_its_end_too() {
    let cloud = Cloud::of(many(3));
    let policy = Policy::of_keys(cloud.url(), (0..3).map(key_id)).every_second();
    let site = Site::new(&policy.with("{token_file: token}"));
    site.write("token", "not-the-token");
    let daemon = site.run();
    daemon.await_runs(4);
    site.write("token", TOKEN);
    daemon.await_message("the project's keys can be checked again");
    let log = daemon.stop().log();
    let said = |message: &str| log.iter().filter(|line| line["message"] == *message).count();
    assert_eq!(said("login failed; the project's keys cannot be checked"), 1, "{log:#?}");
    assert_eq!(said("the project's keys can be checked again"), 1);
}
