//! The daemon's start, signals and end, and what it logs meanwhile.

use std::process::Command;
use std::time::Duration;

use kms_simulator::{Fault, Hold, Key, Operation, OperationSet, Rule};
use rustix::process::Signal;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::cloud::{Cloud, many, off, rotating, setup};
use super::program::{Finished, Program};
use super::site::{Policy, Site};
use super::{KEY, PROJECT, eventually, key_id};

/// Longer than every wait in a test, to detect what never ends.
const FOR_EVER: &str = "5m";

#[track_caller]
fn assert_ends_with_the_calls_in_flight(signal: Signal) {
    let cloud = Cloud::start(setup(many(100)).latency(Duration::from_millis(300)));
    let policy = Policy::of_keys(cloud.url(), (0..100).map(key_id));
    let site = Site::new(&Policy { concurrency: 2, ..policy });
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 3);
    daemon.signal(signal);
    let line = daemon.await_message("shutting down; waiting for requests in flight");
    assert_eq!(line["signal"], if signal == Signal::TERM { "SIGTERM" } else { "SIGINT" });
    let then = cloud.all_requests();
    let ended = daemon.program.finish();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.messages("run interrupted").len(), 1);
    // The two in flight have ended; none was started after the signal, except those on their way when it was counted.
    assert!(cloud.all_requests() <= then + 2, "{then} requests, then {}", cloud.all_requests());
}

#[test]
fn sigterm_in_mid_run_exits_with_0_after_the_requests_in_flight() {
    assert_ends_with_the_calls_in_flight(Signal::TERM);
}

#[test]
fn sigint_in_mid_run_exits_with_0_after_the_requests_in_flight() {
    assert_ends_with_the_calls_in_flight(Signal::INT);
}

#[test]
fn after_a_signal_a_write_in_flight_is_finished_and_followed_by_its_interval() {
    let hold = Hold::new();
    let rule = Rule::always(Fault::held(&hold)).on(Operation::EnableRotation);
    let cloud = Cloud::start(setup([off()]).fault(rule));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    cloud.await_requests(Operation::EnableRotation, 1);
    daemon.signal(Signal::TERM);
    daemon.await_message("shutting down; waiting for requests in flight");
    hold.release();
    let ended = daemon.program.finish();
    assert_eq!(ended.code, Some(0));
    let changes = ended.messages("rotation changed");
    let steps: Vec<_> = changes.iter().map(|change| change["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["enable_rotation", "update_interval"]);
    assert_eq!(cloud.rotation(KEY), (true, 90));
    assert_eq!(site.apply().key(KEY), "compliant");
    assert_eq!((cloud.asked(Operation::EnableRotation), cloud.sent(KEY)), (1, vec![90]));
}

/// Without the status call, the next process cannot see that the interval is missing.
#[test]
fn the_interval_of_a_key_that_cannot_be_read_is_sent_before_a_stopping_process_ends() {
    for lost in [false, true] {
        let slow = Fault::delay(Duration::from_secs(1));
        let fault = if lost { Fault::html(504).after_applying() } else { slow };
        let cloud = Cloud::start(
            setup([off()])
                .behave(|cloud| cloud.unknown = Operation::ReadStatus.into())
                .fault(Rule::always(fault).on(Operation::EnableRotation))
                .latency(Duration::from_millis(200)),
        );
        let entry = format!("{{key_id: {KEY}, max_rotation_interval: 90}}");
        let site = Site::new(&Policy::at(cloud.url()).entry(&entry));
        let daemon = site.run();
        cloud.await_requests(Operation::EnableRotation, 1);
        assert_eq!(daemon.stop().code, Some(0));
        assert_eq!((cloud.rotation(KEY), cloud.sent(KEY)), ((true, 90), vec![90]), "answer lost: {lost}");
        cloud.clear_faults();
        // A later process does not write, and reports the key as unreadable.
        let applied = site.apply();
        assert_eq!((applied.code, cloud.sent(KEY)), (Some(1), vec![90]));
        let error = applied.report().key_error(KEY);
        assert!(error.contains("its interval is not proven and may be up to 365 days"), "{error}");
    }
}

/// The tests of the retries, with paused time, check that the pause ends at once.
#[test]
fn a_signal_does_not_wait_for_a_pause_between_attempts() {
    let cloud = Cloud::start(setup([off()]).fault(Rule::always(Fault::throttled().retry_after("60"))));
    let site = Site::new(&Policy { max_elapsed: FOR_EVER, ..Policy::of_one_key(cloud.url()) });
    let daemon = site.run_with(&["--log-level", "debug"]);
    daemon.await_message("attempt failed, retrying");
    assert_eq!(daemon.stop().code, Some(0));
    assert_eq!(cloud.all_requests(), 1);
}

#[test]
fn two_signals_at_once_are_one_and_the_call_in_flight_is_finished() {
    for signals in [[Signal::TERM, Signal::INT], [Signal::HUP, Signal::TERM]] {
        let hold = Hold::new();
        let rule = Rule::always(Fault::held(&hold)).on(Operation::EnableRotation);
        let cloud = Cloud::start(setup([off()]).fault(rule));
        let site = Site::new(&Policy::of_one_key(cloud.url()));
        let apply = Program::start(site.command(&["apply", "--policy", "policy.yaml", "--log-format", "json"]));
        cloud.await_requests(Operation::EnableRotation, 1);
        for signal in signals {
            apply.signal(signal);
        }
        apply.await_message("shutting down; waiting for requests in flight");
        hold.release();
        let ended = apply.finish();
        assert_eq!(
            (ended.messages("rotation changed").len(), ended.messages("exiting immediately").len()),
            (2, 0),
            "with the interval that it owes"
        );
    }
}

#[test]
fn a_second_signal_a_second_later_ends_at_once() {
    let cloud = Cloud::start(setup([off()]).fault(Rule::always(Fault::hang())));
    let site = Site::new(&Policy { request_timeout: FOR_EVER, ..Policy::of_one_key(cloud.url()) });
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let seen = cloud.all_requests();
        let daemon = site.run();
        cloud.await_requests(Operation::ListKeys, seen + 1);
        daemon.signal(first);
        daemon.await_message("shutting down; waiting for requests in flight");
        // Until one of them comes a second after the first.
        daemon.program.signal_until(second, "exiting immediately");
        let ended = daemon.program.finish();
        assert_eq!((ended.code, ended.messages("exiting immediately").len()), (Some(1), 1));
    }
}

#[test]
fn a_signal_between_runs_exits_with_0() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_stopped_apply_reports_its_changes_and_exits_with_1() {
    let hold = Hold::new();
    let rule = Rule::always(Fault::held(&hold)).on(Operation::UpdateInterval);
    let cloud = Cloud::start(setup(many(100)).fault(rule));
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..100).map(key_id)));
    let arguments = ["apply", "--policy", "policy.yaml", "--output", "json", "--log-format", "json"];
    let apply = Program::start(site.command(&arguments));
    cloud.await_requests(Operation::UpdateInterval, 1);
    apply.signal(Signal::TERM);
    apply.await_message("shutting down; waiting for requests in flight");
    hold.release();
    let ended = apply.finish();
    assert_eq!((ended.code, &ended.report().0["run"]["interrupted"]), (Some(1), &true.into()));
    assert_eq!(ended.report().keys().count(), 100);
    cloud.assert_only_sent(90);
}

/// The end of a command that gets SIGHUP at its first key, and ignores it or not.
fn hung_up(command: Command, cloud: &Cloud, heeds: bool) -> Finished {
    let hold = Hold::new();
    cloud.fault(Rule::next(1, Fault::held(&hold)).on(Operation::ReadStatus));
    let seen = cloud.requests(Operation::ReadStatus);
    let apply = Program::start(command);
    cloud.await_requests(Operation::ReadStatus, seen + 1);
    apply.signal(Signal::HUP);
    if heeds {
        apply.await_message("shutting down; waiting for requests in flight");
    }
    hold.release();
    apply.finish()
}

#[test]
fn apply_is_stopped_by_the_end_of_its_terminal_but_not_under_nohup() {
    let cloud = Cloud::of((0..2).map(|n| Key::new(key_id(n)).rotating(90)));
    let policy = Policy::of_keys(cloud.url(), (0..2).map(key_id));
    let site = Site::new(&Policy { concurrency: 1, ..policy });
    for command in ["apply", "plan"] {
        let command = site.command(&[command, "--policy", "policy.yaml", "--output", "json", "--log-format", "json"]);
        // Like nohup, without redirections.
        let mut nohup = Command::new("/bin/sh");
        nohup.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
        nohup.env_clear().current_dir(site.folder());
        assert_eq!(hung_up(command, &cloud, true).report().0["run"]["interrupted"], true);
        assert_eq!(hung_up(nohup, &cloud, false).report().0["run"]["interrupted"], false);
    }
}

#[test]
fn sighup_runs_again() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    let runs = |labels: &str| daemon.metric(&format!("kms_rotation_runs_total{{{labels}}}"));
    assert_eq!(runs("result=\"success\",trigger=\"start\""), Some(1.0));
    assert_eq!(runs("result=\"success\",trigger=\"signal\""), Some(1.0));
    assert_eq!(daemon.status().0["run"]["trigger"], "signal");
}

#[test]
fn ten_signals_during_a_run_make_one_more_run() {
    let hold = Hold::new();
    let rule = Rule::next(1, Fault::held(&hold)).on(Operation::ReadStatus);
    let cloud = Cloud::start(setup([rotating(90)]).fault(rule));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 1);
    for _ in 0..10 {
        daemon.signal(Signal::HUP);
        daemon.await_message("policy reloaded");
    }
    hold.release();
    daemon.await_runs(2);
    assert_eq!(daemon.stop().messages("run finished").len(), 2);
}

#[test]
fn the_daemon_is_healthy_at_once_and_ready_after_the_first_run() {
    let hold = Hold::new();
    let cloud = Cloud::start(setup([rotating(90)]).fault(Rule::always(Fault::held(&hold))));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    assert_eq!(daemon.get("/healthz").0, 200);
    assert_eq!(daemon.get("/readyz"), (503, "the first run has not ended yet\n".to_owned()));
    assert_eq!(daemon.get("/metrics").0, 200);
    assert_eq!(daemon.get("/").0, 200);
    hold.release();
    eventually("the daemon is ready", || daemon.get("/readyz").0 == 200);
    assert_eq!(daemon.get("/healthz").0, 200);
    assert_eq!(daemon.status().key(KEY), "compliant");
}

#[test]
fn a_daemon_is_ready_after_a_failed_first_run_and_reports_the_problems() {
    let cloud = Cloud::of([]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.get("/readyz").0, 200);
    let labels = format!("project=\"payments\",key_id=\"{KEY}\"");
    let finding = format!("kms_rotation_key_finding{{{labels},reason=\"not_found\"}}");
    assert_eq!(daemon.metric(&finding), Some(1.0));
    assert_eq!(daemon.metric("kms_rotation_runs_total{result=\"failure\",trigger=\"start\"}"), Some(1.0));
    assert_eq!(daemon.metric("kms_rotation_last_success_timestamp_seconds"), Some(0.0));
}

#[test]
fn killed_in_mid_run_and_started_again_it_converges() {
    let cloud = Cloud::of(many(60));
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..60).map(key_id)));
    for writes in [5, 40] {
        // It continues no further.
        cloud.fault(Rule::always(Fault::hang().after_applying()).on(OperationSet::WRITES).after(writes));
        let seen = cloud.write_requests();
        let daemon = site.run();
        eventually("writes are made", || cloud.write_requests() > seen + writes);
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.program.finish().code, None);
        cloud.clear_faults();
    }
    assert!((0..60).any(|n| cloud.rotation(&key_id(n)) != (true, 90)), "it was killed before the end");
    let applied = site.apply();
    assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 60));
    assert!((0..60).all(|n| cloud.rotation(&key_id(n)) == (true, 90)));
    cloud.assert_only_sent(90);
}

#[test]
fn a_run_that_changes_nothing_logs_its_begin_and_its_end() {
    let keys: Vec<_> = (0..5).map(key_id).collect();
    let cloud = Cloud::of(keys.iter().map(|id| Key::new(id).rotating(90)));
    let site = Site::new(&Policy::of_keys(cloud.url(), keys).every_second());
    let daemon = site.run();
    daemon.await_runs(3);
    let log = daemon.stop().log();
    let said: Vec<_> = log.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!((said[0], *said.last().unwrap()), ("serving", "shutting down; waiting for requests in flight"));
    assert_eq!(said[1], "kms-rotationd started");
    let runs = &said[2..said.len() - 1];
    assert!(runs.len() >= 6 && runs.chunks(2).all(|run| run == ["run started", "run finished"]), "{said:?}");
    let policy = std::fs::read(site.path("policy.yaml")).unwrap();
    let digest: Vec<_> = Sha256::digest(policy).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        (&log[1]["policy_sha256"], &log[1]["version"]),
        (&json!(digest.concat()), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert!(log.iter().all(|line| line["level"] == "INFO"));
}

#[test]
fn each_change_logs_key_step_before_after_and_the_clouds_request_id() {
    let cloud = Cloud::of([Key::new(key_id(0)), Key::new(key_id(1)).rotating(365)]);
    let site = Site::new(&Policy { concurrency: 1, ..Policy::of_keys(cloud.url(), (0..2).map(key_id)) });
    let daemon = site.run();
    daemon.await_runs(1);
    let log = daemon.stop();
    let changes = log.messages("rotation changed");
    let told: Vec<_> = changes
        .iter()
        .map(|line| ["key_id", "step", "from", "to", "project"].map(|name| line[name].as_str().unwrap_or("none")))
        .collect();
    let (first, second) = (key_id(0), key_id(1));
    assert_eq!(
        told,
        [
            [&*first, "enable_rotation", "off", "on", "payments"],
            [&*first, "update_interval", "on", "90 days", "payments"],
            [&*second, "update_interval", "365 days", "90 days", "payments"],
        ]
    );
    let ids: Vec<_> = changes.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| id.len() == 32), "{ids:?}");
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    assert_eq!(log.messages("run finished")[0]["changes"], 3);
}

#[test]
fn a_problem_is_logged_when_it_starts_and_when_it_ends() {
    let cloud = Cloud::of([]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
    let daemon = site.run();
    daemon.await_runs(3);
    cloud.set_key(PROJECT, rotating(90));
    daemon.await_message("key recovered");
    let log = daemon.stop();
    let problems = log.messages("key needs attention");
    assert_eq!((problems.len(), &problems[0]["reasons"]), (1, &"not_found".into()));
}

#[test]
fn the_debug_log_has_the_sequence_sent_to_the_cloud() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run_with(&["--log-level", "debug"]);
    daemon.await_runs(1);
    let requests = daemon.stop().messages("request");
    let sequences: std::collections::HashSet<_> =
        requests.iter().map(|line| line["sequence"].as_str().unwrap().to_owned()).collect();
    let asked = u64::try_from(requests.len()).unwrap();
    assert_eq!((asked, sequences.len()), (cloud.all_requests(), requests.len()));
    assert!(requests.iter().any(|line| line["operation"] == "enable_rotation" && line["code"] == "200"));
}

#[test]
fn requests_and_retries_are_counted_by_result() {
    let fault = Rule::next(2, Fault::html(502)).on(Operation::ReadStatus);
    let cloud = Cloud::start(setup([rotating(90)]).fault(fault));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    let counted = |name: &str, label: &str| {
        daemon.metric(&format!("kms_rotation_{name}{{project=\"payments\",operation=\"read_status\",{label}}}"))
    };
    assert_eq!(counted("requests_total", "code=\"502\""), Some(2.0));
    assert_eq!(counted("requests_total", "code=\"200\""), Some(1.0));
    assert_eq!(counted("retries_total", "reason=\"502\""), Some(2.0));
    assert_eq!(counted("operations_total", "result=\"success\""), Some(1.0));
    assert_eq!(counted("operations_total", "result=\"failure\""), Some(0.0));
}
