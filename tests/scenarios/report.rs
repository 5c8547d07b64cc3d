//! `report`: the audit report by the real program, its files and exit codes.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::audit_log::{EvidenceLog, id};
use super::audit_story::story;
use super::program::{Finished, Program, binary};

const P: &str = "payments";

/// A log of one key that is on policy.
fn on_policy() -> EvidenceLog {
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &[P]);
    let state = log.on_policy("pay", 10);
    log.appear(P, &id(0), state);
    log.run();
    log.run_for(3);
    log
}

fn report(log: &Path, arguments: &[&str]) -> Finished {
    let mut command = binary(&["report", "--evidence"]);
    command.arg(log).args(arguments);
    Program::start(command).finish()
}

#[test]
fn the_exit_code_is_that_of_the_worst_verdict() {
    let log = on_policy().close();
    let done = report(log.path(), &["--format", "json"]);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&done.stdout).unwrap()["totals"]["met"], 1);
    let mut off = on_policy();
    off.off_policy(P, &id(0));
    off.run();
    assert_eq!(report(off.close().path(), &[]).code, Some(1));
    let mut hidden = on_policy();
    hidden.wait(100);
    hidden.run();
    assert_eq!(report(hidden.close().path(), &[]).code, Some(1));
    let mut free = on_policy();
    free.exempt(P, &id(0), "2026-12-31");
    free.run();
    assert_eq!(report(free.close().path(), &["--from", "2026-01-04"]).code, Some(0));
}

#[test]
fn the_report_of_a_log_that_does_not_verify_is_made_and_ends_with_4() {
    let log = on_policy().close();
    let file = log.path().join("00000000000000000000.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("kms-1", "kms-2", 1)).unwrap();
    let page = log.path().join("report.html");
    let done = report(log.path(), &["--output-file", page.to_str().unwrap()]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("REWRITTEN"), "{done:?}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("The evidence does not verify.") && page.contains("REWRITTEN"));
}

#[test]
fn every_format_is_written_to_its_file_and_the_same_each_time() {
    let log = story(8, true);
    let folder = tempfile::tempdir().unwrap();
    for format in ["html", "json", "ocsf", "oscal", "cbom"] {
        let file = folder.path().join(format);
        let path = file.to_str().unwrap();
        let done = report(log.path(), &["--format", format, "--output-file", path, "--to", "2026-03-31"]);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stdout.starts_with(&format!("SIMULATED: {path}: 2026-01-01 to 2026-03-31: ")), "{done:?}");
        let again = report(log.path(), &["--format", format, "--to", "2026-03-31"]);
        assert_eq!(again.stdout, fs::read_to_string(file).unwrap(), "{format}");
    }
    let tables = folder.path().join("tables");
    let done = report(log.path(), &["--format", "csv", "--output-file", tables.to_str().unwrap()]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let mut names: Vec<_> = fs::read_dir(&tables).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["departures.csv", "gaps.csv", "keys.csv", "rotations.csv"]);
}

#[test]
fn an_anchor_from_elsewhere_is_named_on_the_cover() {
    let mut log = on_policy();
    let elsewhere = tempfile::tempdir().unwrap();
    let anchor = elsewhere.path().join("anchor");
    fs::copy(log.folder.path().join("checkpoint"), &anchor).unwrap();
    log.run_for(1);
    let log = log.close();
    let done = report(log.path(), &["--anchor", anchor.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("anchored until 2026-01-04 06:00 UTC"), "{}", done.stdout);
    assert!(!done.stdout.contains("no checkpoint kept elsewhere was given"));
    fs::write(&anchor, "nothing\n").unwrap();
    let refused = report(log.path(), &["--anchor", anchor.to_str().unwrap()]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("found no anchor in "), "{refused:?}");
}

#[test]
fn usage_errors_end_with_2_and_say_why() {
    let log = on_policy().close();
    let empty = tempfile::tempdir().unwrap();
    for (folder, arguments, why) in [
        (empty.path(), &[][..], "has no evidence log; expected a folder with log.json"),
        (log.path(), &["--from", "2026-02-30"], "expected a day such as 2026-06-30"),
        (log.path(), &["--from", "2026-02-01", "--to", "2026-01-01"], "--to 2026-01-01 is before --from 2026-02-01"),
        (log.path(), &["--from", "2027-01-01"], "the evidence is of 2026-01-01 to 2026-01-04"),
        (log.path(), &["--project", "nowhere"], "no log has a project `nowhere`; there are: payments"),
        (log.path(), &["--format", "csv"], "add --output-file FOLDER"),
        (log.path(), &["--format", "pdf"], "html, json, csv, ocsf, oscal, cbom"),
        (log.path(), &["--anchor", "/nowhere"], "cannot read the anchor in /nowhere"),
    ] {
        let done = report(folder, arguments);
        assert_eq!(done.code, Some(2), "{arguments:?}: {done:?}");
        assert!(done.stderr.contains(why) && done.stdout.is_empty(), "{arguments:?}: {done:?}");
    }
    let missing = report(log.path(), &["--output-file", "/nowhere/report.html"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("cannot write /nowhere/report.html"), "{missing:?}");
}

#[test]
fn nothing_of_the_log_is_changed() {
    let log = on_policy().close();
    let content = |folder: &Path| {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (fs::read(&file).unwrap(), file)).collect::<Vec<_>>()
    };
    let before = content(log.path());
    assert_eq!(report(log.path(), &[]).code, Some(0));
    assert_eq!(content(log.path()), before);
}
