//! Writes that may or may not have taken effect.

use std::time::Duration;

use kms_simulator::{Fault, Operation, Rule};

use super::cloud::{Cloud, off, rotating, setup};
use super::program::Program;
use super::site::{Policy, Site};
use super::{KEY, PROJECT};

/// Long enough for every real answer, short enough to wait for a missing one.
const SHORT: &str = "1s";

/// The first write of each kind has this fault after it was applied: it is not repeated.
#[track_caller]
fn assert_not_repeated(fault: &Fault) {
    assert_writes(fault, 1);
}

/// The first write of each kind has this fault and is not applied: it is repeated once.
#[track_caller]
fn assert_repeated(fault: &Fault) {
    assert_writes(fault, 2);
}

#[track_caller]
fn assert_writes(fault: &Fault, times: u64) {
    let strike = |operation: Operation| Rule::next(1, fault.clone()).on(operation);
    let faults = [Operation::EnableRotation, Operation::UpdateInterval].map(strike);
    let cloud = Cloud::start(faults.into_iter().fold(setup([off()]), kms_simulator::Setup::fault));
    let policy = Policy { request_timeout: SHORT, ..Policy::of_one_key(cloud.url()) };
    let site = Site::new(&policy);
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "compliant");
    assert_eq!(cloud.rotation(KEY), (true, 90));
    assert_eq!(cloud.asked(Operation::EnableRotation), times, "enable");
    assert_eq!(cloud.asked(Operation::UpdateInterval), times, "update");
    assert_eq!(cloud.writes_applied(PROJECT, KEY), 2);
    cloud.assert_only_sent(90);
    // Counted as one successful call each.
    for operation in ["enable_rotation", "update_interval"] {
        let counted = |result: &str| {
            let labels = format!("project=\"payments\",operation=\"{operation}\",result=\"{result}\"");
            daemon.metric(&format!("kms_rotation_operations_total{{{labels}}}")).unwrap()
        };
        assert_eq!((counted("success"), counted("failure")), (1.0, 0.0), "{operation}");
    }
    let log = daemon.stop();
    assert_eq!(log.messages("rotation changed").len(), 2);
}

#[test]
fn a_write_that_was_applied_and_answered_with_502_is_not_repeated() {
    assert_not_repeated(&Fault::html(502).after_applying());
}

#[test]
fn a_write_that_was_applied_and_answered_with_504_is_not_repeated() {
    assert_not_repeated(&Fault::html(504).after_applying());
}

#[test]
fn a_write_that_was_applied_and_whose_connection_was_reset_is_not_repeated() {
    assert_not_repeated(&Fault::reset().after_applying());
}

#[test]
fn a_write_that_was_applied_and_never_answered_is_not_repeated() {
    assert_not_repeated(&Fault::hang().after_applying());
}

#[test]
fn a_write_that_was_applied_and_whose_answer_broke_off_is_not_repeated() {
    assert_not_repeated(&Fault::cut_off());
    assert_not_repeated(&Fault::cut_off_by_reset());
}

#[test]
fn a_write_that_was_applied_and_answered_too_slowly_is_not_repeated() {
    assert_not_repeated(&Fault::drip(Duration::from_millis(800)));
}

#[test]
fn a_write_that_was_lost_behind_a_502_is_repeated() {
    assert_repeated(&Fault::html(502));
}

#[test]
fn a_write_that_was_lost_behind_a_504_is_repeated() {
    assert_repeated(&Fault::html(504));
}

#[test]
fn a_write_that_was_lost_with_its_connection_is_repeated() {
    assert_repeated(&Fault::reset());
}

#[test]
fn a_write_that_was_lost_in_silence_is_repeated() {
    assert_repeated(&Fault::hang());
}

#[test]
fn an_unclear_write_ends_with_the_time_limit_of_the_operation() {
    let lost = Rule::always(Fault::html(502)).on(Operation::EnableRotation);
    let cloud = Cloud::start(setup([off()]).fault(lost));
    let policy = Policy { max_elapsed: "5s", ..Policy::of_one_key(cloud.url()) };
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "non_compliant: rotation_disabled, write_failed"));
    assert!(cloud.asked(Operation::EnableRotation) > 1);
    assert_eq!(cloud.rotation(KEY), (false, 0));
}

#[test]
fn an_unclear_interval_for_a_key_on_policy_is_repeated_once_and_reported() {
    for lost in [Fault::html(502), Fault::html(504).after_applying(), Fault::reset()] {
        let cloud = Cloud::start(setup([rotating(90)]).fault(Rule::always(lost).on(Operation::UpdateInterval)));
        let site = Site::new(&Policy::at(cloud.url()).always(KEY, 90));
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant: not_verified"));
        assert_eq!(cloud.asked(Operation::UpdateInterval), 2);
        let error = applied.report().key_error(KEY);
        assert!(error.starts_with("update_interval: "), "{error}");
        let text = Program::start(site.command(&["apply", "--policy", "policy.yaml"])).finish().stdout;
        assert!(text.contains("on policy, but the interval could not be sent again: 1"), "{text}");
    }
    // A refusal too.
    let refused = Rule::always(Fault::kms(403, "KMS.0307")).on(Operation::UpdateInterval);
    let cloud = Cloud::start(setup([rotating(90)]).fault(refused));
    let applied = Site::new(&Policy::at(cloud.url()).always(KEY, 90)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant: access_denied"));
}

#[test]
fn an_unclear_write_is_not_repeated_if_reading_back_fails() {
    let cloud = Cloud::start(
        setup([off()])
            .fault(Rule::next(1, Fault::html(504).after_applying()).on(Operation::EnableRotation))
            .fault(Rule::always(Fault::kms(500, "KMS.0100")).on(Operation::ReadStatus).after(1)),
    );
    let policy = Policy { max_elapsed: "500ms", ..Policy::of_one_key(cloud.url()) };
    let site = Site::new(&policy);
    let applied = site.apply();
    assert_eq!(applied.code, Some(1));
    assert!(applied.key(KEY).starts_with("unknown: read_failed"), "{}", applied.key(KEY));
    assert_eq!(cloud.write_requests(), 1);
    cloud.clear_faults();
    assert_eq!(site.apply().key(KEY), "compliant");
    assert_eq!((cloud.asked(Operation::EnableRotation), cloud.sent(KEY)), (1, vec![90]));
}
