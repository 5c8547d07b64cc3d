//! The real binary as a process: arguments, log, exit code, HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::marker::PhantomData;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;

use super::guest::{connect, exchange};
use super::site::Site;
use super::{DEADLINE, eventually};

/// The binary, without the machine's environment variables.
pub(crate) fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kms-rotationd"));
    command.args(arguments).env_clear();
    command
}

/// A running process. It is killed if the test ends first.
pub(crate) struct Program {
    child: Child,
    log: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
    stdout: Option<JoinHandle<String>>,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) fn start(command: Command) -> Self {
        Self::fed(command, Stdio::null())
    }

    /// The same with this standard input.
    pub(crate) fn fed(mut command: Command, stdin: Stdio) -> Self {
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, log) = channel();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stderr = thread::spawn(move || {
            let mut whole = String::new();
            for line in BufReader::new(stderr).lines() {
                let line = line.unwrap();
                whole.push_str(&line);
                whole.push('\n');
                // The receiver may be gone.
                let _ = lines.send(line);
            }
            whole
        });
        let stdout = thread::spawn(move || {
            let mut whole = String::new();
            BufReader::new(stdout).read_to_string(&mut whole).unwrap();
            whole
        });
        Self { child, log, stderr: Some(stderr), stdout: Some(stdout) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Prevents the process from opening more files or connections, or permits it again.
    pub(crate) fn limit_files(&self, limit: Rlimit) -> Rlimit {
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends the signal again and again, until the log has a line with this message.
    #[track_caller]
    pub(crate) fn signal_until(&self, signal: Signal, message: &str) {
        eventually(message, || {
            // It may have ended since.
            let _ = kill_process(Pid::from_child(&self.child), signal);
            let has_come =
                |line: String| serde_json::from_str::<Value>(&line).is_ok_and(|line| line["message"] == message);
            self.log.try_iter().any(has_come)
        });
    }

    /// Waits for the next log line with this message.
    #[track_caller]
    pub(crate) fn await_message(&self, message: &str) -> Value {
        self.await_line("message", message)
    }

    /// Waits for the next log line with this text in a field.
    #[track_caller]
    pub(crate) fn await_line(&self, field: &str, text: &str) -> Value {
        let begin = Instant::now();
        let mut passed = String::new();
        while let Ok(line) = self.log.recv_timeout(DEADLINE.saturating_sub(begin.elapsed())) {
            match serde_json::from_str::<Value>(&line) {
                Ok(line) if line[field] == text => return line,
                _ => passed = passed + &line + "\n",
            }
        }
        panic!("no line {text:?} in\n{passed}");
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let begin = Instant::now();
        loop {
            match self.log.recv_timeout(DEADLINE.saturating_sub(begin.elapsed())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the program does not end"),
            }
        }
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let stdout = self.stdout.take().unwrap().join().unwrap();
        Finished { code: self.child.wait().unwrap().code(), stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// The lines of the log.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines of the log with this message.
    pub(crate) fn messages(&self, message: &str) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["message"] == message).collect()
    }

    /// The report on standard output.
    #[track_caller]
    pub(crate) fn report(&self) -> Report {
        match serde_json::from_str(&self.stdout) {
            Ok(report) => Report(report),
            Err(error) => panic!("no report ({error}): {self:#?}"),
        }
    }

    /// A key's status and reasons: `unknown: read_failed, not_verified`.
    #[track_caller]
    pub(crate) fn key(&self, key_id: &str) -> String {
        self.report().key(key_id)
    }
}

/// The JSON of `apply`, `plan` and `/api/v1/status`.
pub(crate) struct Report(pub(crate) Value);

impl Report {
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Value> {
        let projects = self.0["projects"].as_array().unwrap();
        projects.iter().flat_map(|project| project["keys"].as_array().unwrap())
    }

    pub(crate) fn key(&self, key_id: &str) -> String {
        let key = self.keys().find(|key| key["key_id"] == key_id).unwrap();
        let status = key["status"].as_str().unwrap();
        let reasons: Vec<_> =
            key["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect();
        if reasons.is_empty() { status.to_owned() } else { format!("{status}: {}", reasons.join(", ")) }
    }

    /// A key's status, whatever the reasons are.
    #[track_caller]
    pub(crate) fn key_status(&self, key_id: &str) -> String {
        let key = self.key(key_id);
        key.split(':').next().unwrap_or_default().to_owned()
    }

    /// A key's last error.
    #[track_caller]
    pub(crate) fn key_error(&self, key_id: &str) -> String {
        let key = self.keys().find(|key| key["key_id"] == key_id).unwrap();
        key["error"].as_str().unwrap().to_owned()
    }

    /// The error that ended a project's run.
    pub(crate) fn error(&self) -> String {
        self.0["projects"][0]["error"].as_str().unwrap_or_default().to_owned()
    }

    /// Number of keys with a status.
    pub(crate) fn count(&self, status: &str) -> u64 {
        self.0["summary"][status].as_u64().unwrap()
    }
}

/// The status and the body of an answer.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    // 1.0, so that the answer ends with the connection and has no chunks.
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// `run` or `rehearse`, serving. Its folder has to outlive it.
pub(crate) struct Daemon<'s> {
    pub(crate) program: Program,
    pub(crate) address: String,
    site: PhantomData<&'s Site>,
}

impl Daemon<'_> {
    /// Waits until it serves.
    #[track_caller]
    pub(crate) fn start(command: Command) -> Self {
        Self::serving(Program::start(command))
    }

    /// The same for a started program.
    #[track_caller]
    pub(crate) fn serving(program: Program) -> Self {
        let address = program.await_message("serving")["address"].as_str().unwrap().to_owned();
        Self { program, address, site: PhantomData }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    #[track_caller]
    pub(crate) fn await_message(&self, message: &str) -> Value {
        self.program.await_message(message)
    }

    /// Number of ended runs in the metrics.
    pub(crate) fn runs(&self) -> u64 {
        let (_, text) = self.get("/metrics");
        let counters = text.lines().filter(|line| line.starts_with("kms_rotation_runs_total{"));
        counters.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Waits for this number of ended runs.
    #[track_caller]
    pub(crate) fn await_runs(&self, count: u64) {
        eventually(&format!("{count} runs"), || self.runs() >= count);
    }

    /// Stops it with SIGTERM.
    #[track_caller]
    pub(crate) fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        self.program.finish()
    }

    /// The status and the body of an answer.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(&self.address, path)
    }

    pub(crate) fn status(&self) -> Report {
        Report(serde_json::from_str(&self.get("/api/v1/status").1).unwrap())
    }

    /// The value of a series, written as in the text format.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        series_in(&text, series)
    }

    /// The same with a login.
    pub(crate) fn metric_with(&self, series: &str, authorization: &str) -> Option<f64> {
        series_in(&exchange(connect(&self.address), "/metrics", authorization).unwrap().body, series)
    }
}

pub(crate) fn series_in(text: &str, series: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}
