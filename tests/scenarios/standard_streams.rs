//! `-` as a file: the policy from standard input, and results to standard output.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::cloud::{Cloud, off, rotating};
use super::program::{Daemon, Finished, Program, binary};
use super::site::{Policy, Site};
use super::{KEY, key_id};

/// The command with the site's policy as standard input.
fn fed(site: &Site, arguments: &[&str]) -> Program {
    Program::fed(site.command(arguments), Stdio::from(File::open(site.path("policy.yaml")).unwrap()))
}

fn end(site: &Site, arguments: &[&str]) -> Finished {
    fed(site, arguments).finish()
}

#[test]
fn every_command_reads_a_policy_from_standard_input() {
    let cloud = Cloud::of([off()]);
    let mut site = Site::new(&Policy::of_one_key(cloud.url()));
    let checked = end(&site, &["check", "--policy", "-"]);
    assert!(checked.code == Some(0) && checked.stdout.starts_with("-: valid, 1 entry in 1 project"), "{checked:?}");
    let planned = end(&site, &["plan", "--policy", "-"]);
    assert_eq!(planned.code, Some(3));
    assert!(planned.stdout.contains("  off → 90 days  -:14  rotation is off\n"), "{}", planned.stdout);
    site.set("KMS_ROTATIOND_POLICY", "-");
    assert_eq!(end(&site, &["apply"]).code, Some(0));
    assert_eq!(cloud.rotation(KEY), (true, 90));
    let rehearsed = end(&site, &["rehearse", "--once", "--policy", "-"]);
    assert_eq!(rehearsed.code, Some(0), "{rehearsed:?}");
}

#[test]
fn problems_of_standard_input_have_their_line_and_column() {
    let site = Site::new(&Policy::at("http://127.0.0.1:1").key("not-a-key", 90));
    for (command, on_output) in [("check", true), ("plan", false), ("apply", false), ("run", false)] {
        let ended = end(&site, &[command, "--policy", "-"]);
        let told = if on_output { &ended.stdout } else { &ended.stderr };
        assert!(ended.code == Some(2) && told.starts_with("-:14:14: `key_id` is the string `not-a-key`"), "{ended:?}");
    }
    let machine: Value =
        serde_json::from_str(&end(&site, &["check", "--policy", "-", "--output", "json"]).stdout).unwrap();
    assert_eq!((&machine[0]["file"], &machine[0]["line"]), (&json!("-"), &json!(14)));
    let empty = Program::start(site.command(&["check", "--policy", "-"])).finish();
    assert!(empty.code == Some(2) && empty.stdout.starts_with("-:1:1: the file is empty"), "{empty:?}");
    let folder =
        Program::fed(site.command(&["plan", "--policy", "-"]), File::open(site.folder()).unwrap().into()).finish();
    assert!(folder.stderr.contains("read the policy on standard input: Is a directory"), "{folder:?}");
    // A file of this name needs a path.
    fs::copy(site.path("policy.yaml"), site.path("-")).unwrap();
    let file = Program::start(site.command(&["check", "--policy", "./-"])).finish();
    assert!(file.stdout.starts_with("./-:14:14: "), "{file:?}");
}

#[test]
fn the_daemon_reads_standard_input_once_and_keeps_its_policy_at_a_reload() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let arguments = ["run", "--policy", "-", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let daemon = Daemon::serving(fed(&site, &arguments));
    daemon.await_runs(1);
    daemon.signal(Signal::HUP);
    let line = daemon.await_message("policy reload failed; still using the previous policy");
    let why = "the policy on standard input is not a regular file, so it cannot be read again; use a regular file";
    assert_eq!(line["problems"], why, "{line}");
    assert_eq!((daemon.get("/healthz").0, daemon.status().key(KEY)), (200, "compliant".to_owned()));
    assert_eq!(daemon.stop().code, Some(0));
}

fn output(mut command: Command) -> (Option<i32>, Vec<u8>, String) {
    let ended = command.stdin(Stdio::null()).output().unwrap();
    (ended.status.code(), ended.stdout, String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn results_of_the_evidence_log_go_to_standard_output() {
    let cloud = Cloud::of((0..3).map(|number| kms_simulator::Key::new(key_id(number))));
    let evidence = "{directory: evidence, name: payments}".to_owned();
    let site = Site::new(&Policy { evidence, ..Policy::of_keys(cloud.url(), (0..3).map(key_id)) });
    assert_eq!(site.apply().code, Some(0));
    let folder = site.path("evidence").display().to_string();
    let run = |arguments: &[&str]| output(binary(arguments));

    let (code, pack, summary) = run(&["evidence", "pack", &folder, "--output-file", "-"]);
    assert_eq!(code, Some(0), "{summary}");
    assert!(summary.starts_with("-:\n  payments-"), "{summary}");
    let mut pack = tar::Archive::new(&pack[..]);
    let names: Vec<_> = pack.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.iter().any(|name| name.ends_with("report.html")), "{names:?}");

    let prove = |more: &[&str]| run(&[&["evidence", "prove", &folder, "--seq", "1"], more].concat());
    let report = |more: &[&str]| run(&[&["report", "--evidence", &folder, "--format", "json"], more].concat());
    assert_eq!(prove(&["--output-file", "-"]), prove(&[]));
    assert_eq!(report(&["--output-file", "-"]), report(&[]));
    assert!(!site.path("-").exists());
}

#[test]
fn a_rehearsal_refuses_to_mix_its_report_with_its_own_lines() {
    let site = Site::new(&Policy::of_one_key("http://127.0.0.1:1"));
    let arguments = ["rehearse", "--policy", "policy.yaml", "--fast-forward", "2d", "--once", "--report", "-"];
    let ended = Program::start(site.command(&arguments)).finish();
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""));
    assert!(ended.stderr.contains("expected a file: standard output has the lines of the command"), "{ended:?}");
}
