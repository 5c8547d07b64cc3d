//! A cloud and a network with every known kind of failure.

use std::net::TcpListener;
use std::time::Duration;

use kms_simulator::{Fault, Garbage, Hold, Key, KeyState, Operation, OperationSet, Preset, Rule, Setup};
use rustix::process::Signal;

use super::account::EVERY_KEY;
use super::cloud::{Cloud, many, off, rotating, setup, unlisted};
use super::program::Program;
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::{KEY, PROJECT, TOKEN, key_id};

/// A retry budget that will be exhausted, but allows a few attempts on a busy machine.
const ENOUGH_TO_RETRY: &str = "5s";

/// The first call of every kind has this fault; one run repairs the key nevertheless.
#[track_caller]
fn assert_survived(fault: &Fault) {
    assert_survived_within("2m", fault);
}

/// The same with this request timeout, for a fault that lasts longer.
#[track_caller]
fn assert_survived_within(request_timeout: &'static str, fault: &Fault) {
    assert_survived_by(request_timeout, Operation::ListKeys, setup([off()]), fault);
    // Without permission to list keys, each is described.
    assert_survived_by(request_timeout, Operation::DescribeKey, unlisted(off()), fault);
}

#[track_caller]
fn assert_survived_by(request_timeout: &'static str, look: Operation, setup: Setup, fault: &Fault) {
    let strike = |operation: Operation| Rule::next(1, fault.clone()).on(operation);
    let calls =
        [Operation::Authenticate, look, Operation::ReadStatus, Operation::EnableRotation, Operation::UpdateInterval];
    let cloud = Cloud::start(calls.map(strike).into_iter().fold(setup, Setup::fault));
    let policy = Policy { request_timeout, ..Policy::of_one_key(cloud.url()).password(None) };
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!(cloud.rotation(KEY), (true, 90));
    cloud.assert_only_sent(90);
    assert_eq!(cloud.faults_injected(), 5);
}

#[test]
fn a_500_is_survived() {
    assert_survived(&Fault::kms(500, "KMS.0100"));
}

#[test]
fn a_502_with_a_page_of_html_is_survived() {
    assert_survived(&Fault::html(502));
}

#[test]
fn a_503_is_survived() {
    assert_survived(&Fault::kms(503, "KMS.0104"));
}

#[test]
fn a_504_with_a_page_of_html_is_survived() {
    assert_survived(&Fault::html(504));
}

#[test]
fn a_408_is_survived() {
    assert_survived(&Fault::html(408));
}

#[test]
fn a_429_is_survived() {
    assert_survived(&Fault::throttled());
}

#[test]
fn a_429_with_an_invalid_retry_after_is_survived() {
    assert_survived(&Fault::throttled().retry_after("soon"));
    assert_survived(&Fault::throttled().retry_after("-5"));
}

#[test]
fn a_reset_before_the_request_took_effect_is_survived() {
    assert_survived(&Fault::reset());
}

#[test]
fn a_reset_after_the_request_took_effect_is_survived() {
    assert_survived(&Fault::reset().after_applying());
}

#[test]
fn a_truncated_answer_is_survived() {
    assert_survived(&Fault::cut_off());
}

#[test]
fn an_answer_with_a_reset_in_its_middle_is_survived() {
    assert_survived(&Fault::cut_off_by_reset());
}

#[test]
fn an_answer_slower_than_the_timeout_is_survived() {
    assert_survived_within("1s", &Fault::drip(Duration::from_millis(800)));
}

#[test]
fn a_missing_answer_is_survived() {
    assert_survived_within("1s", &Fault::hang());
}

#[test]
fn retry_after_of_a_429_is_respected() {
    let cloud = Cloud::start(
        setup([rotating(90)]).fault(Rule::next(1, Fault::throttled().retry_after("2")).on(Operation::ReadStatus)),
    );
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let arguments = ["apply", "--policy", "policy.yaml", "--log-format", "json", "--log-level", "debug"];
    let applied = Program::start(site.command(&arguments)).finish();
    assert_eq!((applied.code, cloud.asked(Operation::ReadStatus)), (Some(0), 2));
    let waits = applied.messages("attempt failed, retrying");
    // The normal wait would be fifty milliseconds at most.
    assert_eq!((waits.len(), &waits[0]["wait_ms"]), (1, &"2000".into()));
}

#[test]
fn permanent_throttling_is_reported() {
    let cloud = Cloud::start(setup([off()]).fault(Rule::always(Fault::throttled())));
    let policy = Policy { max_elapsed: "300ms", ..Policy::of_one_key(cloud.url()) };
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: throttled"));
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn an_unreadable_status_causes_no_write() {
    for fault in [Fault::kms(500, "KMS.0100"), Fault::html(502), Fault::reset(), Fault::kms(400, "KMS.0308")] {
        let cloud = Cloud::start(setup([off()]).fault(Rule::always(fault).on(Operation::ReadStatus)));
        let policy = Policy { max_elapsed: "300ms", ..Policy::of_one_key(cloud.url()) };
        let applied = Site::new(&policy).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: read_failed"));
        assert_eq!(cloud.write_requests(), 0);
    }
}

/// An unusable status causes no write, and the next run repairs the key.
#[track_caller]
fn assert_garbage_is_passed_over(garbage: Garbage) {
    let cloud = Cloud::start(setup([off()]).fault(Rule::next(1, Fault::garbage(garbage)).on(Operation::ReadStatus)));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let first = site.apply();
    assert_eq!((first.code, &*first.key(KEY)), (Some(1), "unknown: read_failed"));
    assert_eq!(cloud.write_requests(), 0);
    assert_eq!(site.apply().key(KEY), "compliant");
    assert_eq!(cloud.sent(KEY), [90]);
}

#[test]
fn a_status_that_is_not_json_causes_no_write() {
    assert_garbage_is_passed_over(Garbage::NotJson);
}

#[test]
fn a_truncated_status_causes_no_write() {
    assert_garbage_is_passed_over(Garbage::Truncated);
}

#[test]
fn a_status_of_another_shape_causes_no_write() {
    assert_garbage_is_passed_over(Garbage::WrongShape);
}

#[test]
fn an_empty_status_causes_only_the_policys_interval() {
    let cloud =
        Cloud::start(setup([off()]).fault(Rule::next(1, Fault::garbage(Garbage::Empty)).on(Operation::ReadStatus)));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    assert_eq!(site.apply().key(KEY), "unknown: status_unreadable");
    assert_eq!(site.apply().key(KEY), "compliant");
    assert_eq!((cloud.asked(Operation::EnableRotation), cloud.sent(KEY)), (1, vec![90]));
}

#[test]
fn a_write_is_accepted_with_any_body() {
    for garbage in Garbage::ALL {
        let cloud = Cloud::start(setup([off()]).fault(Rule::always(Fault::garbage(garbage)).on(OperationSet::WRITES)));
        let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{garbage:?}");
        assert_eq!((cloud.asked(Operation::EnableRotation), cloud.sent(KEY)), (1, vec![90]));
    }
}

#[test]
fn a_tenth_of_errors_over_200_keys_leaves_no_key_off_policy() {
    let cloud = Cloud::start(setup(many(200)).preset(Preset::Flaky));
    let policy = Policy { concurrency: 16, ..Policy::of_keys(cloud.url(), (0..200).map(key_id)) };
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 200), "{}", applied.stderr);
    for n in 0..200 {
        assert_eq!(cloud.rotation(&key_id(n)), (true, 90));
    }
    cloud.assert_only_sent(90);
    assert!(cloud.faults_injected() > 20, "{}", cloud.faults_injected());
}

#[test]
fn redirects_are_not_followed_with_the_token() {
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"] {
        let trap = StandIn::start(|_| answer("200 OK", "", r#"{"key_rotation_enabled":true}"#));
        let location = format!("location: {}/elsewhere\r\n", trap.url());
        let cloud = StandIn::start(move |_| answer(status, &location, ""));
        let applied = Site::new(&Policy::of_one_key(&cloud.url())).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: read_failed"), "{status}");
        assert_eq!(cloud.bodies("get-key-rotation-status").len(), 1, "{status} is final");
        assert!(cloud.asked()[0].headers.contains(&TOKEN.to_ascii_lowercase()));
        assert!(trap.asked().is_empty(), "{status}: {:?}", trap.asked());
    }
}

#[test]
fn redirects_of_iam_are_not_followed_with_the_password() {
    let trap = StandIn::start(|_| answer("201 Created", "x-subject-token: t\r\n", "{}"));
    let location = format!("location: {}/v3/auth/tokens\r\n", trap.url());
    let iam = StandIn::start(move |_| answer("307 Temporary Redirect", &location, ""));
    let applied = Site::new(&Policy::of_one_key(&iam.url()).password(None)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: authentication_failed"));
    assert_eq!(iam.asked().len(), 1);
    assert!(trap.asked().is_empty());
}

#[test]
fn a_body_above_the_limit_is_an_error() {
    let status = r#"{"key_rotation_enabled":true,"rotation_interval":90}"#;
    // Every call gets this answer, so that nothing shows when the key was created.
    let read = "compliant: rotation_unproven";
    let padded = |length: usize| format!("{status}{}", " ".repeat(length - status.len()));
    for (body, expected) in [(padded(512 * 1024), read), (padded(9 * 1024 * 1024), "unknown: read_failed")] {
        let cloud = StandIn::start(move |_| answer("200 OK", "", &body));
        let policy = Policy { max_elapsed: "300ms", ..Policy::of_one_key(&cloud.url()) };
        assert_eq!(Site::new(&policy).apply().key(KEY), expected);
    }
}

#[test]
fn an_unreachable_endpoint_makes_every_key_unknown() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let policy = Policy::of_keys(&format!("http://{closed}"), (0..20).map(key_id));
    let applied = Site::new(&Policy { max_elapsed: "300ms", ..policy }).apply();
    assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 20));
    assert_eq!(applied.key(&key_id(7)), "unknown: read_failed");
}

#[test]
fn an_unreachable_endpoint_uses_one_retry_budget_for_all_keys() {
    let cloud = Cloud::start(setup(many(20)).fault(Rule::always(Fault::html(504))));
    let policy = Policy::of_keys(cloud.url(), (0..20).map(key_id));
    let site = Site::new(&Policy { max_elapsed: ENOUGH_TO_RETRY, concurrency: 1, ..policy });
    assert_eq!(site.apply().report().count("unknown"), 20);
    assert!(cloud.requests(Operation::ListKeys) > 1, "{}", cloud.requests(Operation::ListKeys));
    let asked = |n| cloud.key_requests(PROJECT, &key_id(n), Operation::ReadStatus);
    let after: Vec<u64> = (0..20).map(asked).collect();
    assert_eq!(after, [[1; 8].as_slice(), [0; 12].as_slice()].concat());
}

#[test]
fn a_failed_list_does_not_reduce_the_retries_of_status_reads() {
    let broken = Rule::always(Fault::kms(500, "KMS.0100")).on(Operation::ListKeys);
    let busy = Rule::next(3, Fault::kms(503, "KMS.0104")).on(Operation::ReadStatus);
    let cloud = Cloud::start(setup([off()]).fault(broken).fault(busy));
    let policy = Policy { max_elapsed: ENOUGH_TO_RETRY, ..Policy::of_one_key(cloud.url()) };
    assert_eq!(Site::new(&policy).apply().key(KEY), "compliant");
}

/// Otherwise a call that is made once in a run would never be retried again.
#[test]
fn each_run_has_a_full_retry_budget() {
    let cloud = Cloud::start(setup([rotating(90)]).fault(Rule::always(Fault::html(502)).on(Operation::ListKeys)));
    let site = Site::new(&Policy { max_elapsed: "1s", ..Policy::at(cloud.url()).entry(EVERY_KEY) });
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().count("unknown"), 1);
    for runs in 2..=3 {
        cloud.clear_faults();
        cloud.fault(Rule::next(1, Fault::html(502)).on(Operation::ListKeys));
        daemon.signal(Signal::HUP);
        daemon.await_runs(runs);
        assert_eq!(daemon.status().key(KEY), "compliant", "run {runs}");
    }
}

#[test]
fn writes_that_fail_for_every_key_share_one_retry_budget() {
    let failing = Rule::always(Fault::html(503)).on(OperationSet::WRITES);
    let cloud = Cloud::start(setup(many(20)).fault(failing));
    let policy = Policy::of_keys(cloud.url(), (0..20).map(key_id));
    let applied = Site::new(&Policy { max_elapsed: ENOUGH_TO_RETRY, concurrency: 1, ..policy }).apply();
    assert_eq!(applied.report().count("non_compliant"), 20);
    let asked = |n| cloud.key_requests(PROJECT, &key_id(n), Operation::EnableRotation);
    assert!(asked(0) > 1, "{}", asked(0));
    assert_eq!((1..20).map(asked).sum::<u64>(), 8);
}

#[test]
fn a_key_deleted_in_mid_run_is_not_found() {
    let cloud = Cloud::start(unlisted(off()));
    let applied = changed_before_the_first_write(&cloud, || cloud.remove_key(PROJECT, KEY));
    assert_eq!(applied, "unknown: not_found");
    assert_eq!(cloud.write_requests(), 1);
}

#[test]
fn a_key_disabled_in_mid_run_is_off_policy_for_being_disabled() {
    let cloud = Cloud::start(unlisted(off()));
    let disable = |key: &mut Key| key.state = KeyState::Disabled;
    let applied = changed_before_the_first_write(&cloud, || {
        cloud.change_key(PROJECT, KEY, disable);
    });
    assert_eq!(applied, "non_compliant: key_disabled");
    assert_eq!(cloud.write_requests(), 1);
}

/// The key's result if this happens between reading it and the first write.
#[track_caller]
fn changed_before_the_first_write(cloud: &Cloud, change: impl FnOnce()) -> String {
    // The description is the last call before the first write.
    let hold = Hold::new();
    cloud.fault(Rule::next(1, Fault::held(&hold)).on(Operation::DescribeKey));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    cloud.await_requests(Operation::DescribeKey, 1);
    change();
    hold.release();
    daemon.await_runs(1);
    daemon.status().key(KEY)
}

#[test]
fn the_clouds_error_is_in_the_report() {
    let cloud = Cloud::start(
        setup([rotating(365)]).fault(Rule::always(Fault::kms(400, "KMS.0320")).on(Operation::UpdateInterval)),
    );
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!(applied.key(KEY), "non_compliant: interval_mismatch, write_failed");
    let error = applied.report().keys().next().unwrap()["error"].clone();
    let error = error.as_str().unwrap();
    assert!(error.contains("HTTP 400 KMS.0320") && error.contains("request "), "{error}");
}

#[test]
fn the_clouds_answer_survives_in_log_json_and_page_and_another_cause_is_logged_once() {
    let refused = |code: &'static str| Rule::always(Fault::kms(403, code)).on(Operation::ReadStatus);
    let garbage = Rule::always(Fault::garbage(Garbage::NotJson)).on(Operation::ReadStatus);
    let cloud = Cloud::of([rotating(90)]);
    let daemon_site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = daemon_site.run();
    daemon.await_runs(1);
    let causes = [
        (refused("KMS.0307"), "read_status: HTTP 403 KMS.0307"),
        (refused("KMS.0326"), "read_status: HTTP 403 KMS.0326"),
        (garbage, "read_status: HTTP 200 from 127.0.0.1"),
        (Rule::always(Fault::html(404)).on(Operation::ReadStatus), "read_status: HTTP 404"),
    ];
    let mut runs = 1;
    for (fault, cause) in &causes {
        cloud.clear_faults();
        cloud.fault(fault.clone());
        // An unchanged cause is not logged again.
        for _ in 0..2 {
            daemon.signal(Signal::HUP);
            runs += 1;
            daemon.await_runs(runs);
        }
        let error = daemon.status().key_error(KEY);
        assert!(error.starts_with(cause) && error.contains("(request "), "{error}");
        assert!(daemon.get("/").1.contains(&error.replace('\'', "&#39;")), "{error}");
    }
    let ended = daemon.stop();
    let said: Vec<_> = ended.messages("key needs attention").iter().map(|line| line["error"].to_string()).collect();
    assert_eq!(said.len(), causes.len(), "{said:#?}");
    for (said, (_, cause)) in said.iter().zip(&causes) {
        assert!(said.contains(cause), "{said}");
    }
}
