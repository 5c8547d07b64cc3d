//! The documents show commands with their output. Each document is a session: its files are written to a folder, its
//! commands run there against a simulated cloud, and each `<!-- output -->` block is what the `sh` block before it
//! prints.
//!
//! A document's `policy.yaml` is used as it is, and so is `projects.yaml`. Only the folder of its secrets is the test's, and the addresses of the
//! simulated cloud are added at its end, so that line numbers stay the same. Times, ids of requests and versions may
//! differ.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use kms_simulator::{Dialect, Key, ProjectSetup, Setup, Simulator};
use tempfile::TempDir;

use super::repository::{TO_UPDATE, all_blocks, change, updates};
use super::{PASSWORD, Running, TOKEN, await_first_run, get};
use crate::PROJECT;

/// Where the documents' `curl` finds the daemon.
const SERVED_AT: &str = "http://127.0.0.1:9847";

/// The keys of the cloud that the documents show.
fn keys() -> [Key; 6] {
    [
        Key::new("0d0466b0-e727-4d9c-b35d-f84bb474a37f").alias("pay-cards"),
        Key::new("1b6a9ee0-1c4f-4b59-8d3f-6a2f5f5b7f10").alias("pay-orders").rotating(365),
        Key::new("2c9f27a8-6f2a-4a3e-9f0e-0c7d1e2a4b11").alias("ledger").rotating(180),
        Key::new("3e1d5c7b-92aa-4f11-b0c6-55d2f0a97c12").alias("reports"),
        Key::new("4f3b8d21-0d5e-4c7a-a1b9-7e6c3d2f1a13").alias("pay-legacy"),
        Key::new("5a7c9e43-3b1d-4e8f-8c2a-9f0d4b6e2c14").default_of("evs"),
    ]
}

async fn cloud() -> Simulator {
    let project = ProjectSetup::new(PROJECT, "eu-de").domain("my-account").dialect(Dialect::OpenTelekomCloud);
    let setup = Setup::new().project(project.keys(keys()).token(TOKEN)).login("kms-rotation", "my-account", PASSWORD);
    Simulator::start(setup).await.unwrap()
}

/// A folder for a document's files, in which its commands run.
struct Session {
    folder: TempDir,
    cloud: String,
    /// The daemon, if the document has started one, and its address.
    daemon: Option<(Running, String)>,
}

impl Session {
    fn new(cloud: String) -> Self {
        let session = Self { folder: tempfile::tempdir().unwrap(), cloud, daemon: None };
        std::fs::create_dir(session.path().join("secrets")).unwrap();
        session.write("secrets/token", TOKEN);
        session.write("secrets/password", PASSWORD);
        session
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
        let mut permissions = std::fs::metadata(self.path().join(name)).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        std::fs::set_permissions(self.path().join(name), permissions).unwrap();
    }

    /// A file that the document shows.
    fn show(&self, name: &str, text: &str) {
        let secrets = format!("_file: {}/secrets/", self.path().display());
        let text = text.replace("_file: /run/secrets/", &secrets);
        let url = &self.cloud;
        match name {
            // One call after another, so that the lines of the log are always in the same order.
            "policy.yaml" | "projects.yaml" => self.write(
                name,
                &format!(
                    "{text}\n    kms_endpoint: {url}\n    iam_endpoint: {url}\n\
                     limits: {{requests_per_second: 10000, concurrency: 1}}\n"
                ),
            ),
            _ => self.write(name, &format!("{text}\n")),
        }
    }

    fn command(&self, program: &str) -> Command {
        let own = Path::new(env!("CARGO_BIN_EXE_kms-rotationd")).parent().unwrap();
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [own.as_os_str(), &path].join(OsStr::new(":"));
        command.current_dir(self.path()).env_clear().env("PATH", path);
        command
    }

    /// Runs the commands in a shell, and returns all that they print.
    fn shell(&self, commands: &str, input: &str) -> String {
        let mut shell = self.command("sh");
        shell.args(["-c", &format!("exec 2>&1\n{commands}")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        // The input is shorter than a pipe's buffer.
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), input.as_bytes()).unwrap();
        String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap()
    }

    /// Starts the daemon, and returns once its first run has ended.
    fn start(&mut self, command: &str) {
        let arguments = command.split_whitespace().skip(1);
        let mut daemon = self.command(env!("CARGO_BIN_EXE_kms-rotationd"));
        daemon.args(arguments).args(["--listen", "127.0.0.1:0"]).stderr(Stdio::piped());
        let mut daemon = Running(daemon.spawn().unwrap(), None);
        let mut first = Vec::new();
        let log = daemon.0.stderr.as_mut().unwrap();
        while !first.ends_with(b"\n") {
            let mut byte = [0];
            log.read_exact(&mut byte).unwrap();
            first.push(byte[0]);
        }
        let first = String::from_utf8(first).unwrap();
        let address = first.split("address=").nth(1).unwrap_or_else(|| panic!("no address in: {first}"));
        let address = address.split_whitespace().next().unwrap().to_owned();
        await_first_run(&address);
        self.write("log", &first);
        self.daemon = Some((daemon, address));
    }

    /// Stops the daemon as Ctrl-C does, and returns its log.
    fn stop(&mut self) -> String {
        let (mut daemon, address) = self.daemon.take().unwrap();
        let daemon = &mut daemon.0;
        let pid = rustix::process::Pid::from_child(daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut log = std::fs::read_to_string(self.path().join("log")).unwrap();
        daemon.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(daemon.wait().unwrap().success(), "{log}");
        log.replace(&address, SERVED_AT.trim_start_matches("http://"))
    }

    /// `curl` of the daemon, and what its output is piped to.
    fn curl(&self, command: &str) -> String {
        let (_, address) = self.daemon.as_ref().unwrap();
        let (curl, rest) = command.split_once(" | ").unwrap_or((command, "cat"));
        let path = curl.strip_prefix("curl --silent ").and_then(|url| url.strip_prefix(SERVED_AT));
        let path = path.unwrap_or_else(|| panic!("expected `curl --silent {SERVED_AT}/…`: {curl}"));
        self.shell(rest, &get(address, path))
    }
}

/// The output with `0` for values that differ from run to run or build to build: times, durations, request ids.
fn steady(output: &str) -> String {
    output.lines().map(|line| steady_line(line.trim_end())).collect::<Vec<_>>().join("\n")
}

fn steady_line(line: &str) -> String {
    /// A value follows that may be any.
    const BEFORE: [&str; 7] = [
        "took_ms=",
        "request_id=\"",
        "request_id\":\"",
        "duration_seconds\":",
        "version\":\"",
        "revision=\"",
        // The policy names the folder of the test.
        "policy_sha256=\"",
    ];
    // The value of a metric that is a time.
    if let Some((series, value)) = line.rsplit_once(' ')
        && series
            .split('{')
            .next()
            .is_some_and(|name| name.starts_with("kms_rotation_") && name.ends_with("_timestamp_seconds"))
        && value.parse::<f64>().is_ok()
    {
        return format!("{series} 0");
    }
    let mut steady = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let word_begins = !steady.ends_with(|c: char| c.is_ascii_alphanumeric());
        let length = if word_begins && is_time(rest) {
            // To the minute for people, or RFC 3339.
            if rest[10..].starts_with('T') { rest.find('Z').map_or(0, |z| z + 1) } else { 16 }
        } else if steady.ends_with(" in ") {
            duration(rest)
        } else if BEFORE.iter().any(|before| steady.ends_with(before)) {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-')).unwrap_or(rest.len())
        } else {
            0
        };
        if length > 0 {
            steady.push('0');
            rest = &rest[length..];
        } else {
            steady.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    steady
}

/// The length of the duration at the start of the text: a number, a blank and a unit.
fn duration(text: &str) -> usize {
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(0);
    let unit = ["ms", "s"]
        .into_iter()
        .find(|unit| text[number..].strip_prefix(' ').is_some_and(|rest| rest.starts_with(&format!("{unit}."))));
    unit.map_or(0, |unit| number + 1 + unit.len())
}

/// Whether the text begins with a day.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 16
        && bytes[..10]
            .iter()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() })
        && matches!(bytes[10], b'T' | b' ')
        && bytes[13] == b':'
}

/// Runs a document, and returns what each of its output blocks should be.
async fn outputs(document: &'static str) -> Vec<String> {
    let cloud = cloud().await;
    let mut session = Session::new(cloud.url());
    // The simulated cloud lives on this thread, so another one waits.
    tokio::task::spawn_blocking(move || {
        let mut outputs = Vec::new();
        let mut of_daemon = None;
        let mut command = String::new();
        for block in all_blocks(document) {
            match (&*block.mark, &*block.language) {
                (mark, _) if mark.starts_with("file: ") => session.show(&mark["file: ".len()..], &block.text),
                ("output", _) if command.starts_with("kms-rotationd run ") => {
                    session.start(&command);
                    of_daemon = Some(outputs.len());
                    outputs.push(String::new());
                }
                ("output", _) if command.starts_with("curl ") => outputs.push(session.curl(&command)),
                ("output", _) => outputs.push(session.shell(&command, "")),
                (_, "sh") => command = block.text,
                _ => {}
            }
        }
        if let Some(at) = of_daemon {
            outputs[at] = session.stop();
        }
        let folder = format!("{}/", session.path().display());
        outputs.into_iter().map(|output| output.replace(&folder, "/run/").trim_end().to_owned()).collect()
    })
    .await
    .unwrap()
}

/// The document with this as the text of an output block.
fn with_output(document: &str, number: usize, output: &str) -> String {
    let begin = document.match_indices("<!-- output -->\n```").nth(number).unwrap().0;
    let at = begin + document[begin..].find("```").unwrap();
    let at = at + document[at..].find('\n').unwrap() + 1;
    let end = at + document[at..].find("```").unwrap();
    format!("{}{output}\n{}", &document[..at], &document[end..])
}

async fn assert_session(document: &'static str) {
    let outputs = outputs(document).await;
    assert!(!outputs.is_empty(), "{document} shows no output");
    for (number, output) in outputs.iter().enumerate() {
        let shown =
            || all_blocks(document).into_iter().filter(|block| block.mark == "output").nth(number).unwrap().text;
        if updates() && steady(&shown()) != steady(output) {
            change(document, |text| with_output(text, number, output));
        }
        let shown = shown();
        assert!(
            steady(&shown) == steady(output),
            "{document}, output {number}: the program prints\n{output}\n\nand the document shows\n{shown}\n\n\
             {TO_UPDATE}"
        );
    }
}

#[tokio::test]
async fn the_outputs_in_readme_match_the_program() {
    assert_session("README.md").await;
}

#[tokio::test]
async fn the_outputs_about_the_policy_match_the_program() {
    assert_session("docs/policy.md").await;
}

#[tokio::test]
async fn the_outputs_about_monitoring_match_the_program() {
    assert_session("docs/monitoring.md").await;
}

#[test]
fn only_values_that_change_from_run_to_run_are_ignored() {
    let steadied = [
        ("2026-11-29T01:41:55.120Z  INFO run finished took_ms=41", "0  INFO run finished took_ms=0"),
        ("valid, 3 entries in 1 project; every 30 minutes", "valid, 3 entries in 1 project; every 30 minutes"),
        ("3 changes made in 3.2 s.", "3 changes made in 0."),
        ("3 changes made in 85 ms.", "3 changes made in 0."),
        ("next run 2026-11-22 06:00 UTC", "next run 0 UTC"),
        ("address=127.0.0.1:9847", "address=127.0.0.1:9847"),
        ("to=\"90 days\" request_id=\"85c0aa2f\"", "to=\"90 days\" request_id=\"0\""),
        ("policy_sha256=\"e75c840a\"", "policy_sha256=\"0\""),
        ("\"at\":\"2026-11-29T01:41:55.120Z\",\"days\":90", "\"at\":\"0\",\"days\":90"),
        ("until 2099-03-31: retired", "until 2099-03-31: retired"),
        (
            "kms_rotation_key_observed_timestamp_seconds{project=\"p\"} 1.79",
            "kms_rotation_key_observed_timestamp_seconds{project=\"p\"} 0",
        ),
        (
            "kms_rotation_key_interval_seconds{project=\"p\"} 7776000",
            "kms_rotation_key_interval_seconds{project=\"p\"} 7776000",
        ),
    ];
    for (output, expected) in steadied {
        assert_eq!(steady(output), expected);
    }
}
