//! `rehearse --fast-forward`: the story happens, the daemon sees it, and the same seed repeats it. `--once`: the rehearsal
//! ends by itself.

use std::net::TcpListener;

use serde_json::Value;

use super::program::{Daemon, Finished, Program};
use super::rehearsal::policy;
use super::site::{Policy, Site};

/// A site with the policy for the story and this schedule: every 30 minutes would take a minute without optimisation.
pub(crate) fn story_site(schedule: &str) -> Site {
    let text = include_str!("../../config/policy.story.yaml");
    let (begin, rest) = text.split_once("schedule: {").unwrap();
    let (_, end) = rest.split_once("}\n").unwrap();
    let site = Site::new(&policy(1));
    site.write("story.yaml", &format!("{begin}schedule: {schedule}\n{end}"));
    site
}

fn start(site: &Site, more: &[&str]) -> Program {
    let arguments = ["rehearse", "--log-format", "json", "--log-level", "info,kms_rotationd::kms=debug", "--once"];
    Program::start(site.command(&[&arguments, more].concat()))
}

/// What each request was about, and the answer.
fn requests(ended: &Finished) -> Vec<[Value; 4]> {
    let fields = |line: Value| ["operation", "key_id", "code", "request_id"].map(|field| line[field].clone());
    ended.messages("request").into_iter().map(fields).collect()
}

/// The sentences of the story.
pub(crate) fn sentences(ended: &Finished) -> Vec<&str> {
    let lines = ended.stdout.lines().skip_while(|line| *line != "What happens in the story:").skip(1);
    lines.map_while(|line| line.strip_prefix("  ")).collect()
}

/// The id of the key in the sentence with this text.
#[track_caller]
fn key_in<'f>(ended: &'f Finished, text: &str) -> &'f str {
    let sentence = sentences(ended).into_iter().find(|sentence| sentence.contains(text));
    let sentence = sentence.unwrap_or_else(|| panic!("no sentence with {text:?} in\n{}", ended.stdout));
    sentence.split(['(', ')']).nth(1).unwrap()
}

/// The log lines with this message about the key, after the first run.
fn later<'f>(log: &'f [Value], message: &str, key_id: &str) -> Vec<&'f Value> {
    let is_end = |line: &Value| line["message"].as_str().unwrap().starts_with("run finished");
    let lines = log.iter().skip_while(|line| !is_end(line));
    lines.filter(|line| line["message"] == message && line["key_id"] == key_id).collect()
}

#[test]
fn the_daemon_sees_the_story_and_the_same_seed_repeats_it() {
    let site = story_site(r#"{cron: "0 */6 * * *", jitter: 10m}"#);
    let rehearse =
        |more: &[&str]| start(&site, &[&["--policy", "story.yaml", "--fast-forward", "120d"], more].concat());
    // Dates depend on the minute in which a rehearsal begins, so those to be compared begin together.
    let (first, second, other) = (0..5)
        .map(|_| [rehearse(&[]), rehearse(&["--seed", "1"]), rehearse(&["--seed", "2"])].map(Program::finish))
        .map(|[first, second, other]| (first, second, other))
        .find(|(first, second, _)| first.stdout.lines().nth(2) == second.stdout.lines().nth(2))
        .unwrap();
    for ended in [&first, &second, &other] {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(sentences(ended).len() >= 6, "{}", ended.stdout);
        assert!(ended.messages("serving").is_empty() && !ended.stdout.contains("http://"), "{}", ended.stdout);
    }
    assert_eq!(first.stdout, second.stdout);
    assert!(requests(&first).len() > 2_000);
    assert!(requests(&first) == requests(&second), "the same seed makes other requests");
    assert_ne!(first.stdout, other.stdout);
    assert_ne!(sentences(&first)[0], sentences(&other)[0]);
    assert!(requests(&first) != requests(&other));

    let log = first.log();
    let attention = |text, reason| {
        let lines = later(&log, "key needs attention", key_in(&first, text));
        assert!(lines.iter().any(|line| line["reasons"].as_str().unwrap().contains(reason)), "{text}: {lines:?}");
    };
    attention("the cloud misses the rotation", "rotation_overdue");
    attention("only reports it", "rotation_disabled");
    for text in ["the next run switches it on again", "is created with rotation off"] {
        let changes = later(&log, "rotation changed", key_in(&first, text));
        let steps: Vec<_> = changes.iter().map(|line| line["step"].as_str().unwrap()).collect();
        assert_eq!(steps, ["enable_rotation", "update_interval"], "{text}");
    }
    let outage = first.messages("the project's keys cannot be listed");
    assert!(outage.iter().all(|line| line["error"].as_str().unwrap().contains("HTTP 50")), "{outage:?}");
    assert!(outage.iter().any(|line| line["project"] == "payments") && outage.len() >= 2, "{outage:?}");
    assert_eq!(first.messages("fast-forward has reached the present").len(), 1);
    let with_news = log.iter().filter(|line| line["message"].as_str().unwrap().starts_with("run finished"));
    assert!(with_news.clone().count() < 100 && with_news.clone().all(|line| line["at"].is_string()));
}

#[test]
fn the_policy_for_the_story_can_be_rehearsed_as_it_is() {
    let site = story_site("{cron: 0 0 1 1 *}");
    site.write("as-it-is.yaml", include_str!("../../config/policy.story.yaml"));
    let ended = start(&site, &["--policy", "as-it-is.yaml", "--fast-forward", "3d"]).finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let reached = ended.messages("fast-forward has reached the present");
    assert_eq!(reached[0]["jumps"], 144, "a run every thirty minutes");
}

#[test]
fn the_log_says_that_the_present_is_reached_also_by_a_run_at_the_present() {
    // The present is the start of a minute.
    let site = story_site(r#"{cron: "0 * * * * *"}"#);
    let ended = start(&site, &["--policy", "story.yaml", "--fast-forward", "1h"]).finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let reached = ended.messages("fast-forward has reached the present");
    assert!(reached.len() == 1 && reached[0]["jumps"] == 60, "{reached:?}");
}

#[test]
fn a_rehearsal_of_one_run_needs_no_port_and_ends_with_0_in_whatever_state_the_keys_are() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    for schedule in [r#"{cron: "0 0 1 1 *", run_on_start: false}"#, r#"{cron: "* * * * * *"}"#] {
        let site = Site::new(&Policy { schedule, ..policy(6) });
        let ended = start(&site, &["--policy", "policy.yaml", "--listen", &listen]).finish();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let runs = ended.messages("run finished");
        assert_eq!(runs.len(), 1, "{schedule}: {ended:?}");
        assert!(runs[0]["non_compliant"] == 1 && runs[0]["at"].is_null(), "{}", runs[0]);
        assert!(ended.messages("fast-forward has reached the present").is_empty());
        assert!(ended.stdout.starts_with("Simulated cloud with 6 keys of the policy:\n"), "{}", ended.stdout);
        assert!(!ended.stdout.contains("Watch the daemon") && !ended.stdout.contains("story"), "{}", ended.stdout);
    }
}

#[test]
fn a_report_is_named_at_the_end_only_if_it_was_written() {
    let site = Site::new(&policy(1).every_second());
    let arguments = ["rehearse", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let more = ["--fast-forward", "100d", "--report", "report.html"];
    let daemon = Daemon::start(site.command(&[&arguments[..], &more].concat()));
    daemon.await_runs(3);
    let stopped = daemon.stop();
    let why = "report.html was not written: the rehearsal was stopped before it reached the present.";
    assert!(stopped.stdout.lines().any(|line| line == why), "{stopped:?}");
    assert!(!stopped.stdout.contains("Next, open") && !site.path("report.html").exists(), "{stopped:?}");

    let site = story_site(r#"{cron: "0 0 * * *"}"#);
    let failed = start(&site, &["--policy", "story.yaml", "--fast-forward", "2d", "--report", "no/report.html"]);
    let failed = failed.finish();
    assert!(failed.code == Some(1) && failed.stderr.contains("no/report.html"), "{failed:?}");
    assert!(!failed.stdout.contains("report.html"), "{failed:?}");
}

#[test]
fn a_schedule_with_too_many_runs_is_thinned_and_the_rehearsal_says_so() {
    let site = Site::new(&policy(1).every_second());
    let arguments = ["rehearse", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let daemon = Daemon::start(site.command(&[&arguments[..], &["--fast-forward", "100d"]].concat()));
    daemon.await_runs(3);
    let ended = daemon.stop();
    assert_eq!(ended.messages("schedule thinned: it has more runs in this time than a fast-forward makes").len(), 1);
    let sentence = "more than 20000 runs in this time: one is made about every 8 minutes";
    assert!(ended.stdout.contains(sentence), "{}", ended.stdout);
}
