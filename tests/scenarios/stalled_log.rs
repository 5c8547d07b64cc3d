//! A log that nobody takes: a collector that hangs, a terminal that is stopped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::cloud::{Cloud, many};
use super::program::{get, series_in};
use super::site::{Policy, Site};
use super::{eventually, key_id};

/// A daemon that logs each of its calls, and whose log is read only where a test says so.
struct Unread {
    process: Child,
    log: Option<BufReader<ChildStderr>>,
    address: String,
}

impl Unread {
    fn start(site: &Site) -> Self {
        let arguments = ["run", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];
        let mut command = site.command(&[&arguments[..], &["--log-level", "debug"]].concat());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut daemon = Self { process, log: None, address: String::new() };
        let mut log = BufReader::new(daemon.process.stderr.take().unwrap());
        while daemon.address.is_empty() {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ends before it serves");
            let line: Value = serde_json::from_str(&line).unwrap();
            line["address"].as_str().unwrap_or_default().clone_into(&mut daemon.address);
        }
        daemon.log = Some(log);
        daemon
    }

    /// How many runs have ended well.
    fn runs(&self) -> f64 {
        let (_, metrics) = get(&self.address, "/metrics");
        series_in(&metrics, "kms_rotation_runs_total{result=\"success\",trigger=\"schedule\"}").unwrap()
    }

    #[track_caller]
    fn stop(&mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keys in a cloud, each of which is a line of the log in each run.
fn cloud(keys: usize) -> (Cloud, Site) {
    let cloud = Cloud::of(many(keys).into_iter().map(|key| key.rotating(90)));
    let policy = Policy::of_keys(cloud.url(), (0..keys).map(key_id)).every_second();
    let site = Site::new(&Policy { concurrency: 32, ..policy });
    (cloud, site)
}

#[test]
fn a_log_that_nobody_takes_stops_neither_runs_nor_answers_nor_signals() {
    let (_cloud, site) = cloud(500);
    let mut daemon = Unread::start(&site);
    // One says more than a pipe holds.
    eventually("two runs", || daemon.runs() >= 2.0);
    daemon.stop();
}

#[test]
fn lines_that_were_lost_are_told_of_once_somebody_reads_again() {
    let (_cloud, site) = cloud(2_000);
    let mut daemon = Unread::start(&site);
    // They say more than may wait.
    eventually("three runs", || daemon.runs() >= 3.0);
    let mut log = daemon.log.take().unwrap();
    let reading = thread::spawn(move || {
        let mut whole = String::new();
        log.read_to_string(&mut whole).unwrap();
        whole
    });
    let runs = daemon.runs();
    eventually("a run that is read", || daemon.runs() > runs);
    daemon.stop();
    let whole = reading.join().unwrap();
    let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lost = "log lines were lost, since nobody took them from standard error";
    let told = lines.iter().find(|line| line["message"] == lost).unwrap();
    assert!(told["level"] == "WARN" && told["lines"].as_u64().unwrap() > 0, "{told}");
    // The last ones as well.
    assert!(lines.iter().any(|line| line["message"] == "stopping after the calls in flight"));
}
