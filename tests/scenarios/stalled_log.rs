//! A blocked log: a collector that hangs, a stopped terminal.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use kms_simulator::Operation;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::cloud::{Cloud, many};
use super::program::{get, series_in};
use super::site::{Policy, Site};
use super::{DEADLINE, eventually, key_id};

/// A daemon that logs each call; its log is read only on request.
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

    /// Number of successful runs.
    fn runs(&self) -> f64 {
        let (_, metrics) = get(&self.address, "/metrics");
        series_in(&metrics, "kms_rotation_runs_total{result=\"success\",trigger=\"schedule\"}").unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    #[track_caller]
    fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Number of keys, each with a log line in each run.
fn cloud(keys: usize) -> (Cloud, Policy) {
    let cloud = Cloud::of(many(keys).into_iter().map(|key| key.rotating(90)));
    let policy = Policy::of_keys(cloud.url(), (0..keys).map(key_id));
    (cloud, Policy { concurrency: 32, ..policy })
}

#[test]
fn a_blocked_log_stops_neither_runs_nor_requests_nor_signals() {
    let (_cloud, policy) = cloud(500);
    let site = Site::new(&policy.every_second());
    let mut daemon = Unread::start(&site);
    // One run logs more than a pipe buffers.
    eventually("two runs", || daemon.runs() >= 2.0);
    daemon.stop();
}

#[test]
fn lost_log_lines_are_counted_when_the_log_is_read_again() {
    let (cloud, policy) = cloud(2_000);
    let site = Site::new(&policy);
    let mut daemon = Unread::start(&site);
    // Three runs log more than the queue holds. The cloud counts the runs, not the daemon.
    for run in 1..=3 {
        cloud.await_requests(Operation::ReadStatus, run * 2_000);
        if run < 3 {
            daemon.signal(Signal::HUP);
        }
    }
    let log = daemon.log.take().unwrap();
    let (lines, read) = channel();
    let reading = thread::spawn(move || {
        for line in log.lines() {
            // The lines after a failed test have no use.
            let _ = lines.send(serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        }
    });
    let lost = "log lines dropped: standard error was not read in time";
    let told = loop {
        let line = read.recv_timeout(DEADLINE).unwrap();
        if line["message"] == lost {
            break line;
        }
    };
    assert!(told["level"] == "WARN" && told["lines"].as_u64().unwrap() > 0, "{told}");
    // The queue is empty and the daemon idle: there is room for the last lines.
    daemon.stop();
    reading.join().unwrap();
    assert!(read.iter().any(|line| line["message"] == "shutting down; waiting for requests in flight"));
}
