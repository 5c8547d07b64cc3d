//! Clouds that do not offer the status call: writing without reading.

use kms_simulator::{Behaviour, Fault, Key, Operation, OperationSet, Rule, Setup};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::cloud::{Cloud, off, rotating, setup};
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::{KEY, PROJECT, TOKEN};

const UNREADABLE: &str = "unknown: status_unreadable";

/// A cloud with this answer to the status call.
fn status_answers(key: Key, fault: Fault) -> Setup {
    setup([key]).fault(Rule::always(fault).on(Operation::ReadStatus))
}

/// A key that is off gets the policy's interval with two writes, and is reported as unreadable.
#[track_caller]
fn assert_written_without_reading(setup: Setup) {
    let cloud = Cloud::start(setup);
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), UNREADABLE));
    assert_eq!(cloud.rotation(KEY), (true, 90));
    assert_eq!((cloud.asked(Operation::EnableRotation), cloud.sent(KEY)), (1, vec![90]));
    let changes = applied.messages("rotation changed");
    let steps: Vec<_> = changes.iter().map(|change| change["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["enable_rotation", "update_interval"]);
}

#[test]
fn an_unpublished_status_call_leads_to_writing_without_reading() {
    assert_written_without_reading(setup([off()]).behave(|cloud| cloud.unknown = Operation::ReadStatus.into()));
}

#[test]
fn a_status_call_answered_with_a_bare_404_leads_to_writing_without_reading() {
    assert_written_without_reading(status_answers(off(), Fault::html(404)));
}

#[test]
fn a_status_call_answered_with_405_leads_to_writing_without_reading() {
    assert_written_without_reading(status_answers(off(), Fault::kms(405, "KMS.0215")));
}

#[test]
fn a_status_call_answered_with_501_leads_to_writing_without_reading() {
    assert_written_without_reading(status_answers(off(), Fault::html(501)));
}

#[test]
fn a_forbidden_status_call_causes_no_write_and_names_the_permission() {
    for fault in [Fault::kms(403, "KMS.0307"), Fault::html(403), Fault::kms(400, "KMS.0306")] {
        let cloud = Cloud::start(status_answers(off(), fault));
        let site = Site::new(&Policy::of_one_key(cloud.url()));
        for _ in 0..2 {
            let applied = site.apply();
            assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: access_denied"));
            let error = applied.report().key_error(KEY);
            assert!(error.contains("the user needs the permission kms:cmk:getRotation"), "{error}");
        }
        assert_eq!(cloud.write_requests(), 0);
    }
}

#[test]
fn an_error_body_with_status_200_is_a_failure() {
    let shapes = [
        r#"{"error":{"error_code":"KMS.0101","error_msg":"broken"}}"#,
        r#"{"error_code":"KMS.0101","error_msg":"broken"}"#,
        r#"{"key_rotation_enabled":false,"error_code":"KMS.0101","error_msg":"broken"}"#,
    ];
    for error in shapes {
        let kms = StandIn::start(move |_| answer("200 OK", "x-request-id: req-7\r\n", error));
        let applied = Site::new(&Policy::of_one_key(&kms.url())).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: read_failed"), "{error}");
        let said = applied.report().key_error(KEY);
        assert!(said.contains("HTTP 200") && said.contains("KMS.0101 broken (request req-7)"), "{said}");
        assert!(kms.bodies("enable-key-rotation").is_empty() && kms.bodies("update-key-rotation-interval").is_empty());
    }
    // Without the status call, only this shows that the write was refused.
    let kms = StandIn::start(|asked| {
        let body = if asked.call() == "enable-key-rotation" { r#"{"error_code":"KMS.0101"}"# } else { "" };
        answer("200 OK", "", body)
    });
    let applied = Site::new(&Policy::of_one_key(&kms.url())).apply();
    assert_eq!(applied.key(KEY), "unknown: status_unreadable, write_failed");
    assert!(applied.messages("rotation changed").is_empty());
}

#[test]
fn a_status_without_the_flag_leads_to_writing_without_reading() {
    for status in ["", "{}", r#"{"rotation_interval":90}"#, r#"{"key_rotation_enabled":null}"#] {
        let cloud = StandIn::start(move |asked| {
            answer("200 OK", "", if asked.call() == "get-key-rotation-status" { status } else { "" })
        });
        let applied = Site::new(&Policy::of_one_key(&cloud.url())).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), UNREADABLE), "{status}");
        assert_eq!(cloud.bodies("enable-key-rotation").len(), 1);
        let intervals = cloud.bodies("update-key-rotation-interval");
        let interval: Value = serde_json::from_str(&intervals[0]).unwrap();
        assert_eq!((intervals.len(), &interval["rotation_interval"]), (1, &json!(90)));
        assert_eq!(interval["sequence"].as_str().map(str::len), Some(36));
        for asked in cloud.asked() {
            assert!(asked.headers.contains("content-type: application/json"), "{asked:?}");
            assert!(asked.headers.contains(&format!("x-auth-token: {}", TOKEN.to_ascii_lowercase())), "{asked:?}");
        }
    }
}

#[test]
fn a_missing_key_is_not_taken_for_a_missing_call() {
    let cloud = Cloud::of([]);
    assert_eq!(Site::new(&Policy::of_one_key(cloud.url())).apply().key(KEY), "unknown: not_found");
    assert_eq!(cloud.write_requests(), 0);
}

/// A server with the two writes only.
fn only_writes(behaviour: &mut Behaviour) {
    behaviour.unknown = OperationSet::READS;
}

#[test]
fn a_server_with_only_the_two_writes_gets_the_interval_after_an_accepted_enable() {
    assert_written_without_reading(setup([off()]).behave(only_writes));
}

#[test]
fn a_key_that_is_on_gets_the_interval_once_in_the_lifetime_of_a_process() {
    let cloud = Cloud::start(setup([rotating(365)]).behave(only_writes));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    for processes in 1..=2 {
        let daemon = site.run();
        daemon.await_runs(1);
        assert_eq!(cloud.sent(KEY).len(), processes);
        for runs in 2..=3 {
            daemon.signal(Signal::HUP);
            daemon.await_runs(runs);
        }
        assert_eq!(daemon.status().key(KEY), UNREADABLE);
        let enabled = "{project=\"payments\",operation=\"enable_rotation\",result=\"success\"}";
        assert_eq!(daemon.metric(&format!("kms_rotation_operations_total{enabled}")), Some(3.0));
        assert_eq!(daemon.stop().code, Some(0));
        assert_eq!(cloud.sent(KEY), vec![90; processes]);
    }
    assert_eq!(cloud.asked(Operation::EnableRotation), 6);
    assert_eq!(cloud.rotation(KEY), (true, 90));
}

#[test]
fn a_key_that_was_switched_off_between_runs_gets_enable_and_interval_again() {
    let cloud = Cloud::start(setup([off()]).behave(only_writes));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.change_key(PROJECT, KEY, |key| key.rotation.enabled = false);
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    assert_eq!((cloud.rotation(KEY), cloud.sent(KEY)), ((true, 90), vec![90, 90]));
}

#[test]
fn an_enable_that_took_effect_despite_a_500_is_followed_by_the_interval() {
    let failed = || Rule::next(1, Fault::html(500).after_applying()).on(Operation::EnableRotation);
    let cloud = Cloud::start(setup([rotating(365)]).behave(only_writes));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.change_key(PROJECT, KEY, |key| key.rotation.enabled = false);
    cloud.fault(failed());
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    assert_eq!((cloud.rotation(KEY), cloud.sent(KEY)), ((true, 90), vec![90, 90]));
    // For a readable key it is reported as a change.
    let cloud = Cloud::start(setup([off()]).fault(failed()));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    let changes = applied.messages("rotation changed");
    let steps: Vec<_> = changes.iter().map(|change| change["step"].as_str().unwrap()).collect();
    assert_eq!((steps, &*applied.key(KEY)), (vec!["enable_rotation", "update_interval"], "compliant"));
}

#[test]
fn a_refused_enable_does_not_repeat_the_interval() {
    let cloud = Cloud::start(setup([rotating(365)]).behave(only_writes));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.fault(Rule::next(1, Fault::kms(403, "KMS.0307")).on(Operation::EnableRotation));
    for runs in 2..=3 {
        daemon.signal(Signal::HUP);
        daemon.await_runs(runs);
    }
    assert_eq!((cloud.asked(Operation::EnableRotation), cloud.sent(KEY)), (3, vec![90]));
}

#[test]
fn a_key_that_could_be_read_is_not_written_after_one_odd_answer() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    let mut runs = 1;
    let mut next_run = |refused: u64| {
        cloud.fault(Rule::next(refused, Fault::html(404)).on(Operation::ReadStatus));
        daemon.signal(Signal::HUP);
        runs += 1;
        daemon.await_runs(runs);
        daemon.status().key(KEY)
    };
    assert_eq!(next_run(1), "unknown: read_failed");
    assert_eq!(next_run(0), "compliant");
    assert_eq!(cloud.write_requests(), 0);
    // Also if this continues: the key could be read before.
    assert_eq!(next_run(1), "unknown: read_failed");
    assert_eq!(next_run(1), "unknown: read_failed");
    assert_eq!(cloud.write_requests(), 0);
    let error = daemon.status().key_error(KEY);
    assert!(error.starts_with("read_status: HTTP 404"), "{error}");
}

#[test]
fn an_unreadable_interval_under_a_maximum_is_not_written() {
    for (key, left, sent) in [(rotating(30), 30, vec![]), (off(), 90, vec![90])] {
        let cloud = Cloud::start(setup([key]).behave(only_writes));
        let entry = format!("{{key_id: {KEY}, max_rotation_interval: 90}}");
        let applied = Site::new(&Policy::at(cloud.url()).entry(&entry)).apply();
        assert_eq!((&*applied.key(KEY), cloud.rotation(KEY)), (UNREADABLE, (true, left)));
        assert_eq!(cloud.sent(KEY), sent);
    }
}

#[test]
fn a_status_without_an_interval_causes_no_write_to_a_key_that_is_on() {
    for interval in ["null", r#""x""#, "-5", "90.5"] {
        let status = format!(r#"{{"key_rotation_enabled":true,"rotation_interval":{interval}}}"#);
        let kms = StandIn::start(move |_| answer("200 OK", "", &status));
        let applied = Site::new(&Policy::of_one_key(&kms.url())).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: read_failed"), "{interval}");
        let error = applied.report().key_error(KEY);
        assert_eq!(error, "read_status: the answer shows rotation on, without an interval");
        assert!(kms.bodies("update-key-rotation-interval").is_empty());
    }
    let kms = StandIn::start(|_| answer("200 OK", "", r#"{"key_rotation_enabled":true,"rotation_interval":90.0}"#));
    let read = "compliant: rotation_unproven";
    assert_eq!(Site::new(&Policy::of_one_key(&kms.url())).apply().key(KEY), read, "nothing shows its age");
}

#[test]
fn an_empty_status_is_an_error() {
    for status in ["202 Accepted", "204 No Content", "206 Partial Content"] {
        let kms = StandIn::start(move |_| answer(status, "", "{}"));
        let applied = Site::new(&Policy::of_one_key(&kms.url())).apply();
        assert_eq!(applied.key(KEY), "unknown: read_failed", "{status}");
        assert!(kms.asked().iter().all(|asked| !asked.path.contains("enable") && !asked.path.contains("update")));
    }
}

#[test]
fn a_changed_interval_in_the_policy_is_sent() {
    let cloud = Cloud::start(setup([rotating(365)]).behave(only_writes));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    site.write("policy.yaml", &Policy::at(cloud.url()).key(KEY, 180).text());
    daemon.await_runs(2);
    assert_eq!(cloud.sent(KEY), [90, 180]);
}

#[test]
fn reapply_always_sends_the_interval_in_every_run_without_reading() {
    let cloud = Cloud::start(setup([rotating(90)]).behave(only_writes));
    let site = Site::new(&Policy::at(cloud.url()).always(KEY, 90));
    let daemon = site.run();
    daemon.await_runs(1);
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    assert_eq!(cloud.sent(KEY), [90, 90]);
}

#[test]
fn an_unclear_enable_is_repeated_without_reading_and_reported_only_if_confirmed() {
    let lost = Rule::next(1, Fault::html(504).after_applying()).on(Operation::EnableRotation);
    let cloud = Cloud::start(setup([off()]).behave(only_writes).fault(lost));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!(applied.key(KEY), UNREADABLE);
    assert_eq!((cloud.asked(Operation::EnableRotation), cloud.sent(KEY)), (2, vec![90]));
    assert_eq!(cloud.rotation(KEY), (true, 90));
    // The refusal does not show whether rotation was on before, but that the interval was sent.
    let changes = applied.messages("rotation changed");
    assert_eq!(changes.iter().map(|change| &change["step"]).collect::<Vec<_>>(), ["update_interval"]);
}

#[test]
fn an_unclear_interval_is_repeated_without_reading() {
    let lost = Rule::next(1, Fault::reset()).on(Operation::UpdateInterval);
    let cloud = Cloud::start(setup([off()]).behave(only_writes).fault(lost));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!(applied.key(KEY), UNREADABLE);
    assert_eq!((cloud.sent(KEY), cloud.rotation(KEY)), (vec![90, 90], (true, 90)));
}

#[test]
fn a_refused_write_shows_that_a_key_cannot_rotate() {
    let kinds: [(Key, &str); 3] = [
        (off().imported(), "exempt: imported_material"),
        (off().spec("RSA_2048"), "exempt: unsupported_key_type"),
        (off().state(kms_simulator::KeyState::Disabled), "non_compliant: key_disabled"),
    ];
    for (key, expected) in kinds {
        let cloud = Cloud::start(setup([key]).behave(only_writes));
        assert_eq!(Site::new(&Policy::of_one_key(cloud.url())).apply().key(KEY), expected);
        assert_eq!(cloud.sent(KEY), Vec::<u64>::new());
    }
}

#[test]
fn a_plan_against_a_server_that_cannot_be_read_writes_nothing() {
    let cloud = Cloud::start(setup([rotating(365)]).behave(only_writes));
    let planned = Site::new(&Policy::of_one_key(cloud.url())).once("plan");
    assert_eq!((planned.code, &*planned.key(KEY)), (Some(1), UNREADABLE));
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn an_interval_that_an_earlier_run_owed_is_not_sent_again_at_the_stop() {
    let unpublished = Rule::next(1, Fault::kms(405, "KMS.0215")).on(Operation::ReadStatus);
    let applied = Rule::always(Fault::kms(500, "KMS.0100").after_applying()).on(Operation::EnableRotation);
    let cloud = Cloud::start(setup([off()]).fault(unpublished).fault(applied));
    let site = Site::new(&Policy { max_elapsed: "100ms", ..Policy::of_one_key(cloud.url()) });
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!((cloud.rotation(KEY), cloud.sent(KEY)), ((true, 365), vec![]));
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    assert_eq!(daemon.stop().code, Some(0));
    assert_eq!((cloud.rotation(KEY), cloud.sent(KEY)), ((true, 90), vec![90]));
}
