//! The evidence log of `run`, `apply` and `plan`: what is recorded when, what a later process continues with, and what
//! happens if nothing can be recorded.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kms_rotationd::audit::model::Verdict;
use kms_rotationd::audit::{Request, make};
use kms_rotationd::evidence::anchor::{Anchor, anchors};
use kms_rotationd::evidence::log::{Log, LogOptions};
use kms_rotationd::evidence::reader::read;
use kms_rotationd::evidence::record::{Event, KeyRecord, Record, WritePhase};
use kms_rotationd::evidence::verify::{Verification, verify};
use kms_simulator::{Fault, Hold, Operation, Rule};
use rustix::process::Signal;

use super::cloud::{Cloud, many, off, rotating, setup};
use super::program::Daemon;
use super::site::{Policy, Site};
use super::{KEY, PROJECT, TOKEN, eventually, key_id};

fn with_log(policy: Policy) -> Policy {
    Policy { evidence: "{directory: evidence, name: payments}".to_owned(), ..policy }
}

fn records(folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    read(folder, |entry| records.push(entry.record)).unwrap();
    records
}

/// Each record in short, such as `key repaired`.
fn in_short(records: &[Record]) -> Vec<String> {
    let short = |record: &Record| match record {
        Record::Segment(_) => "segment".to_owned(),
        Record::Start(_) => "start".to_owned(),
        Record::Policy(_) => "policy".to_owned(),
        Record::Project(_) => "project".to_owned(),
        Record::Snapshot(_) => "snapshot".to_owned(),
        Record::Key(key) => format!("key {:?}", key.event).to_lowercase(),
        Record::Write(write) => format!("{:?} {}", write.phase, write.step).to_lowercase(),
        Record::Unreadable(_) => "unreadable".to_owned(),
        Record::Readable(_) => "readable".to_owned(),
        Record::Run(run) => format!("run {}", run.result),
        Record::Gap(_) => "gap".to_owned(),
        Record::Prune(_) => "prune".to_owned(),
        Record::Recovered(_) => "recovered".to_owned(),
    };
    records.iter().map(short).collect()
}

fn keys(records: &[Record]) -> impl Iterator<Item = &KeyRecord> {
    records.iter().filter_map(|record| if let Record::Key(key) = record { Some(&**key) } else { None })
}

#[track_caller]
fn only(folder: &Path, anchors: &[Anchor]) -> Verification {
    let [one] = verify(folder, anchors).unwrap().try_into().unwrap();
    one
}

/// Changes a key's setting as another user does.
fn set_rotation(cloud: &Cloud, key_id: &str, enabled: bool, days: u32) {
    let changed = cloud.change_key(PROJECT, key_id, |key| {
        (key.rotation.enabled, key.rotation.interval_days) = (enabled, days);
    });
    assert!(changed, "{key_id}");
}

/// Makes one more run.
#[track_caller]
fn run_again(daemon: &Daemon<'_>) {
    let runs = daemon.runs();
    daemon.signal(Signal::HUP);
    daemon.await_runs(runs + 1);
}

/// A series of the log's metrics, by its beginning and its end.
fn evidence_metric(daemon: &Daemon<'_>, name: &str) -> Option<String> {
    let (_, text) = daemon.get("/metrics");
    text.lines().find(|line| line.starts_with(&format!("kms_rotation_evidence_{name}{{"))).map(ToOwned::to_owned)
}

#[test]
fn a_run_records_its_intents_before_its_writes_and_then_what_it_found_and_did() {
    let hold = Hold::new();
    let cloud = Cloud::start(setup([off()]).fault(Rule::next(1, Fault::held(&hold)).on(Operation::EnableRotation)));
    let site = Site::new(&with_log(Policy::of_one_key(cloud.url())));
    let folder = site.path("evidence");
    let daemon = site.run();
    cloud.await_requests(Operation::EnableRotation, 1);
    let before = ["segment", "start", "policy", "project", "intent enable_rotation", "intent update_interval"]
        .map(ToOwned::to_owned);
    assert_eq!(in_short(&records(&folder)), before, "on the disk while the write is in flight");
    hold.release();
    let line = daemon.await_message("evidence checkpoint");
    daemon.await_runs(1);
    let after = ["applied enable_rotation", "applied update_interval", "key appeared", "run success"];
    let all = records(&folder);
    assert_eq!(in_short(&all), [&before[..], &after.map(ToOwned::to_owned)].concat());
    let verified = only(&folder, &anchors(&line.to_string()));
    assert!(verified.is_consistent() && verified.anchored.len() == 1, "{verified:?}");
    assert_eq!(line["size"], verified.size);
    let origin = verified.origin.as_deref().unwrap();
    assert!(origin.starts_with("kms-rotationd/payments/"), "{origin}");
    for (name, value) in [("records", verified.size), ("write_successful", 1)] {
        let series = format!("kms_rotation_evidence_{name}{{origin=\"{origin}\"}} {value}");
        assert_eq!(evidence_metric(&daemon, name), Some(series));
    }
    let root = line["root"].as_str().unwrap();
    let info = format!(
        "kms_rotation_evidence_checkpoint_info{{origin=\"{origin}\",size=\"{}\",root=\"{root}\"}} 1",
        verified.size
    );
    assert_eq!(evidence_metric(&daemon, "checkpoint_info"), Some(info));

    let [_, Record::Start(start), Record::Policy(policy), ..] = &all[..] else { panic!("{all:?}") };
    assert!(start.executable_sha256.as_ref().is_some_and(|hash| hash.len() == 64) && !start.simulated);
    assert_eq!(policy.text, fs::read_to_string(site.path("policy.yaml")).unwrap());
    let Some(Record::Project(project)) = all.iter().find(|record| matches!(record, Record::Project(_))) else {
        panic!("{all:?}")
    };
    assert_eq!((project.endpoint.as_deref(), project.project_id.as_deref()), (Some(cloud.url()), Some(PROJECT)));
    assert_eq!(project.principal.as_deref(), Some("owner of the token from token"));
    let enabled = all.iter().find_map(|record| match record {
        Record::Write(write) if write.phase == WritePhase::Applied => Some(write),
        _ => None,
    });
    assert!(enabled.unwrap().request_id.is_some());
    // Another run records that nothing has changed, and the daemon's end adds nothing.
    run_again(&daemon);
    daemon.stop();
    assert_eq!(in_short(&records(&folder))[all.len()..], ["run success"]);
    let text = fs::read_to_string(folder.join("00000000000000000000.jsonl")).unwrap();
    assert!(!text.contains(TOKEN), "no secret");
}

#[test]
fn what_others_change_and_what_an_outage_hides_is_recorded() {
    let cloud = Cloud::start(setup(many(3)));
    let policy = Policy { mode: "monitor", max_elapsed: "100ms", ..Policy::of_keys(cloud.url(), (0..3).map(key_id)) };
    let site = Site::new(&with_log(policy));
    let folder = site.path("evidence");
    let daemon = site.run();
    daemon.await_runs(1);
    let first = records(&folder).len();
    set_rotation(&cloud, &key_id(1), false, 365);
    run_again(&daemon);
    let seen = records(&folder).split_off(first);
    let [key] = keys(&seen).filter(|key| key.event == Event::Drift).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((&*key.key_id, key.after.as_ref().unwrap().enabled), (&*key_id(1), Some(false)));
    assert!(key.seen_after < key.seen_by);

    let before = records(&folder).len();
    cloud.fault(Rule::always(Fault::html(502)));
    run_again(&daemon);
    run_again(&daemon);
    cloud.clear_faults();
    run_again(&daemon);
    let short = in_short(&records(&folder).split_off(before));
    let expected = ["unreadable", "run failure", "run failure", "readable", "run failure"];
    assert_eq!(short.iter().filter(|record| *record != "project").collect::<Vec<_>>(), expected);
    daemon.stop();
    assert!(only(&folder, &[]).is_consistent());
}

#[test]
fn keys_that_could_never_be_listed_are_in_the_report_until_they_are() {
    let refused = Rule::always(Fault::kms(403, "KMS.0306")).on(Operation::ListKeys);
    let cloud = Cloud::start(setup([rotating(90)]).fault(refused));
    let site = Site::new(&with_log(Policy::at(cloud.url()).entry("{select: {}, rotation_interval: 90}")));
    let request = Request { folders: vec![site.path("evidence")], ..Request::default() };
    let verdicts = || {
        let report = make(&request).unwrap();
        let keys = report.observers.into_iter().flat_map(|observer| observer.keys);
        keys.map(|key| (key.verdict, key.key_id.to_string())).collect::<Vec<_>>()
    };
    site.apply();
    let [(Verdict::NotShown, entry)] = &verdicts()[..] else { panic!("the entry stands for its keys") };
    assert!(entry.starts_with("entry@"), "{entry}");
    cloud.clear_faults();
    site.apply();
    assert_eq!(verdicts(), [(Verdict::Met, KEY.to_owned())], "less than a day is within the gap rule");
}

#[test]
fn a_later_process_continues_where_the_one_before_ended() {
    let cloud = Cloud::start(setup([off()]));
    let site = Site::new(&with_log(Policy::of_one_key(cloud.url())));
    let folder = site.path("evidence");
    let daemon = site.run();
    daemon.await_runs(1);
    let status = daemon.status();
    daemon.stop();
    let first = records(&folder).len();
    for round in 0..2 {
        let applied = site.apply();
        assert_eq!(applied.code, Some(0), "{applied:#?}");
        let short = in_short(&records(&folder).split_off(first));
        assert_eq!(short, ["start", "run success"].repeat(round + 1), "no key has changed");
    }
    // `plan` only reads it.
    let before = fs::read(folder.join("00000000000000000000.jsonl")).unwrap();
    assert_eq!(site.once("plan").code, Some(0));
    assert_eq!(fs::read(folder.join("00000000000000000000.jsonl")).unwrap(), before);
    let due = |report: &super::program::Report| report.keys().next().unwrap()["rotation_due_at"].clone();
    assert_eq!(due(&site.once("plan").report()), due(&status), "the write of the first process still counts");
}

#[test]
fn an_interval_that_a_killed_process_owes_is_sent_by_the_next_one() {
    let hold = Hold::new();
    let cloud = Cloud::start(
        setup([off()])
            .behave(|cloud| cloud.unknown = Operation::ReadStatus.into())
            .fault(Rule::next(1, Fault::held(&hold).after_applying()).on(Operation::EnableRotation)),
    );
    let entry = "{select: {}, max_rotation_interval: 90}";
    let site = Site::new(&with_log(Policy::at(cloud.url()).entry(entry)));
    let daemon = site.run();
    cloud.await_requests(Operation::EnableRotation, 1);
    eventually("the write is applied", || cloud.rotation(KEY).0);
    daemon.signal(Signal::KILL);
    daemon.program.finish();
    hold.release();
    assert_eq!(cloud.rotation(KEY), (true, 365), "enabling has set its own interval");
    // Without the log nothing is known of the interval, and a shorter one would be on policy.
    let without = Site::new(&Policy::at(cloud.url()).entry(entry));
    without.apply();
    assert_eq!(cloud.rotation(KEY), (true, 365));
    // A run that does not come to the key changes nothing about that.
    cloud.fault(Rule::always(Fault::kms(403, "KMS.0306")).on(Operation::ListKeys));
    site.apply();
    assert_eq!(cloud.rotation(KEY), (true, 365));
    cloud.clear_faults();
    site.apply();
    assert_eq!(cloud.rotation(KEY), (true, 90));
}

#[test]
fn an_interval_that_a_stopped_process_could_not_set_is_set_by_the_next_one_and_one_that_it_set_is_not() {
    for at_stop in ["set", "refused"] {
        let hold = Hold::new();
        let refusals = if at_stop == "set" { 1 } else { 2 };
        let refusal = Fault::kms(403, "KMS.0306");
        let cloud = Cloud::start(
            setup([off()])
                .behave(|cloud| cloud.unknown = Operation::ReadStatus.into())
                .fault(Rule::next(refusals, refusal).on(Operation::UpdateInterval))
                .fault(Rule::next(1, Fault::held(&hold)).on(Operation::ReadStatus).after(1)),
        );
        let entry = format!("{{key_id: {KEY}, max_rotation_interval: 90}}");
        let site = Site::new(&with_log(Policy::at(cloud.url()).entry(&entry)));
        let daemon = site.run();
        daemon.await_runs(1);
        daemon.signal(Signal::HUP);
        cloud.await_requests(Operation::ReadStatus, 2);
        daemon.signal(Signal::TERM);
        daemon.await_message("shutting down; waiting for requests in flight");
        hold.release();
        daemon.program.finish();
        assert_eq!(cloud.sent(KEY), [90, 90], "{at_stop}");
        assert_eq!(cloud.rotation(KEY), (true, if at_stop == "set" { 90 } else { 365 }));
        let intervals = cloud.asked(Operation::UpdateInterval);
        site.apply();
        assert_eq!(cloud.rotation(KEY), (true, 90), "{at_stop}");
        let sent = cloud.asked(Operation::UpdateInterval) - intervals;
        assert_eq!(sent, u64::from(at_stop == "refused"), "{at_stop}");
    }
}

#[test]
fn a_deleted_segment_is_reported_and_a_new_log_is_begun_while_keys_are_kept_on_policy() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&with_log(Policy::of_one_key(cloud.url())));
    let folder = site.path("evidence");
    let daemon = site.run();
    daemon.await_runs(1);
    fs::remove_file(folder.join("00000000000000000000.jsonl")).unwrap();
    set_rotation(&cloud, KEY, false, 365);
    run_again(&daemon);
    assert_eq!(cloud.rotation(KEY), (true, 90));
    let damaged = daemon.await_message("the evidence log is damaged; it is left as it is, and a new one is begun");
    let begun = Path::new(damaged["begun"].as_str().unwrap()).to_owned();
    run_again(&daemon);
    let successful = evidence_metric(&daemon, "write_successful").unwrap();
    assert!(successful.ends_with(" 1"), "{successful}");
    daemon.stop();
    let begun = site.path(begun.to_str().unwrap());
    assert!(in_short(&records(&begun)).contains(&"key appeared".to_owned()), "the new log has every key");
    let [old, new] = verify(&folder, &[]).unwrap().try_into().unwrap();
    assert!(!old.is_consistent() && new.is_consistent(), "{old:?} {new:?}");
    assert_eq!(new.continues, old.origin);
}

#[test]
fn while_nothing_can_be_recorded_keys_are_kept_on_policy_or_only_read_as_the_policy_says() {
    for (on_failure, writes) in [("continue", true), ("stop", false)] {
        let cloud = Cloud::of([off()]);
        let evidence = format!("{{directory: evidence, on_failure: {on_failure}}}");
        let site = Site::new(&Policy { evidence, ..Policy::of_one_key(cloud.url()) });
        // A file where the folder should be.
        site.write("evidence", "");
        let daemon = site.run();
        daemon.await_runs(1);
        assert_eq!(cloud.rotation(KEY).0, writes, "{on_failure}");
        assert_eq!(daemon.metric("kms_rotation_acting"), Some(f64::from(u8::from(writes))));
        assert!(evidence_metric(&daemon, "write_successful").unwrap().ends_with(" 0"));
        fs::remove_file(site.path("evidence")).unwrap();
        run_again(&daemon);
        daemon.await_message("the evidence log is written again");
        assert_eq!(cloud.rotation(KEY), (true, 90), "{on_failure}");
        assert_eq!(daemon.metric("kms_rotation_acting"), Some(1.0));
        let log = daemon.stop();
        let failed = log.messages("cannot write the evidence log; retrying with each run");
        assert_eq!(failed.len(), 1, "once, however often it fails");
    }
}

#[test]
fn apply_waits_for_the_lock_and_then_goes_on_or_ends_as_the_policy_says() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&with_log(Policy::of_one_key(cloud.url())));
    let daemon = site.run();
    daemon.await_runs(1);
    let applied = |on_failure: &str| {
        let evidence = format!("{{directory: {}, on_failure: {on_failure}}}", site.path("evidence").display());
        let other = Site::new(&Policy { evidence, ..Policy::of_one_key(cloud.url()) });
        std::thread::scope(|scope| scope.spawn(|| other.apply()).join().unwrap())
    };
    set_rotation(&cloud, KEY, false, 365);
    let stopped = applied("stop");
    assert_eq!((stopped.code, cloud.rotation(KEY).0), (Some(1), false), "nothing is written");
    assert!(stopped.stderr.contains("another process writes the evidence log"), "{}", stopped.stderr);
    let gone_on = applied("continue");
    assert_eq!((gone_on.code, cloud.rotation(KEY).0), (Some(0), true));
    assert_eq!(gone_on.messages("going on without the evidence log").len(), 1);
}

#[test]
fn a_real_run_refuses_the_log_of_a_simulated_cloud() {
    let site = Site::new(&with_log(Policy::of_one_key("http://127.0.0.1:1")));
    let options = LogOptions {
        name: "payments".to_owned(),
        origin_suffix: None,
        signing_key: None,
        simulated: true,
        sync: true,
        replaced: None,
    };
    drop(Log::open(&site.path("evidence"), &options, SystemTime::now()).unwrap());
    for command in ["run", "apply"] {
        let arguments = [command, "--policy", "policy.yaml"];
        let ended = super::program::Program::start(site.command(&arguments)).finish();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains("is of a simulated cloud; use another directory"), "{}", ended.stderr);
    }
}

/// A kill is only a crash of the process: what was written stays in the system's cache.
#[test]
fn a_log_verifies_after_each_of_a_hundred_kills_in_the_middle_of_a_run() {
    let cloud = Cloud::start(setup(many(8)).latency(Duration::from_millis(2)));
    let keys = (0..8).map(key_id);
    let site = Site::new(&with_log(Policy::of_keys(cloud.url(), keys)));
    let folder = site.path("evidence");
    let mut anchor = Vec::new();
    for number in 0..100_u64 {
        (0..8).for_each(|key| set_rotation(&cloud, &key_id(key), key % 3 == 0, 365));
        let requests = cloud.all_requests();
        let daemon = site.start_with(&[]);
        // Between the first request and the last one.
        eventually("the run is under way", || cloud.all_requests() >= requests + 1 + number % 30);
        daemon.signal(Signal::KILL);
        daemon.finish();
        let found = only(&folder, &anchor);
        assert!(found.is_consistent() && found.anchored.len() == anchor.len(), "after {number} kills: {found:?}");
        if let Ok(note) = fs::read_to_string(folder.join("checkpoint")) {
            anchor = anchors(&note);
        }
    }
    let daemon = site.run();
    daemon.await_runs(1);
    daemon.stop();
    assert!(only(&folder, &anchor).is_consistent());
    (0..8).for_each(|key| assert_eq!(cloud.rotation(&key_id(key)), (true, 90)));
    let all = records(&folder);
    let started = all.iter().filter(|record| matches!(record, Record::Start(_))).count();
    assert!(started > 50, "{started} processes have begun to record");
}

#[test]
fn a_policy_can_begin_and_end_its_log_while_the_daemon_runs() {
    let cloud = Cloud::of([rotating(90)]);
    let policy = Policy::of_one_key(cloud.url());
    let site = Site::new(&policy);
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(evidence_metric(&daemon, "records"), None);
    site.write("policy.yaml", &with_log(policy.clone()).text());
    run_again(&daemon);
    assert!(evidence_metric(&daemon, "records").is_some());
    site.write("policy.yaml", &policy.text());
    run_again(&daemon);
    // The daemon may have noticed the first change by itself, and this was the run of the first signal.
    eventually("the log is no longer shown", || evidence_metric(&daemon, "records").is_none());
    let recorded = records(&site.path("evidence")).len();
    run_again(&daemon);
    daemon.stop();
    assert_eq!(records(&site.path("evidence")).len(), recorded);
}

#[test]
fn a_rehearsal_leaves_the_log_of_the_policy_alone_and_records_only_into_an_empty_folder() {
    let site = Site::new(&with_log(Policy::of_one_key("http://127.0.0.1:1")));
    let rehearse = |more: &[&str]| {
        let arguments = ["rehearse", "--policy", "policy.yaml", "--once"];
        super::program::Program::start(site.command(&[&arguments, more].concat())).finish()
    };
    assert_eq!(rehearse(&[]).code, Some(0));
    assert!(!site.path("evidence").exists());
    assert_eq!(rehearse(&["--evidence", "rehearsed"]).code, Some(0));
    let log = only(&site.path("rehearsed"), &[]);
    assert!(log.simulated && log.is_consistent(), "{log:?}");
    assert!(log.origin.is_some_and(|origin| origin.starts_with("kms-rotationd/simulated/rehearsal/")));
    let again = rehearse(&["--evidence", "rehearsed"]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("it is not empty; a rehearsal needs a folder of its own"), "{again:?}");
    assert!(!site.path("evidence").exists());
}
