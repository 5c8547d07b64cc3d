//! Up to 1 000 projects with 100 keys each in one process, which may open 1 024 files: `check`, the start, ten runs
//! with a change of the policy file before each one after the first, memory, and the longest answer of `/healthz`
//! meanwhile.
//!
//! Answers take no time, so that a run shows what the daemon itself takes. Words after `many-projects` select rows:
//! `1000` is that number of projects, and `unscraped`, `gzip` or `text` how the metrics are read between the runs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    ACCOUNT, Job, PASSWORD, Server, USER, cpu_seconds, key_id, median, peak_rss_mib, project_id, rss_mib, scrape,
};

const KEYS: usize = 100;
const RUNS: usize = 10;
const OPEN_FILES: u32 = 1_024;
/// For what follows a run, such as compressing its metrics.
const AFTER_RUN: Duration = Duration::from_millis(500);
/// Between two requests of `/healthz`.
const PAUSE: Duration = Duration::from_millis(5);

/// How the metrics are read after each run.
#[derive(Clone, Copy, PartialEq)]
enum Scrape {
    Never,
    Gzip,
    Text,
}

impl Scrape {
    fn name(self) -> &'static str {
        match self {
            Self::Never => "unscraped",
            Self::Gzip => "gzip",
            Self::Text => "text",
        }
    }
}

pub(super) fn measure(wanted: &[&str]) {
    println!(
        "{KEYS} keys a project, {OPEN_FILES} open files; health: the longest answer of /healthz in the first run, \
         and in {} reloads and the runs after them",
        RUNS - 1
    );
    println!(
        "{:>8}  {:<9}  {:>8}  {:>9}  {:>8}  {:>7}  {:>8}  {:>9}  {:>9}  {:>9}  {:>8}  {:>9}",
        "projects",
        "scrape",
        "check ms",
        "(CPU) ms",
        "start ms",
        "run s",
        "CPU s",
        "reload ms",
        "health ms",
        "health ms",
        "RSS MiB",
        "peak MiB"
    );
    for projects in [10, 100, 1_000] {
        for scrape in [Scrape::Never, Scrape::Gzip, Scrape::Text] {
            let row = [projects.to_string(), scrape.name().to_owned()];
            if wanted.iter().all(|word| row.iter().any(|cell| cell == word)) {
                measure_row(projects, scrape);
            }
        }
    }
}

fn measure_row(projects: usize, scraped: Scrape) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(projects, KEYS, Job::NothingToDo, 0);
    let policy = write_policy(folder.path(), projects, &server.url);
    let (check, check_cpu): (Vec<_>, Vec<_>) = (0..3).map(|_| check(&policy)).unzip();

    let begin = Instant::now();
    let mut daemon = limited(&["run", "--listen", "127.0.0.1:0", "--log-format", "json"], &policy);
    let id = daemon.id();
    let mut log = BufReader::new(daemon.stderr.take().unwrap()).lines();
    let mut find = |is_it: &dyn Fn(&serde_json::Value) -> bool| {
        let mut events = log.by_ref().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
        events.find(is_it).unwrap()
    };
    let address = find(&|event| event["address"].is_string())["address"].as_str().unwrap().to_owned();
    await_health(&address);
    let start = milliseconds(begin);

    let (longest, ended) = (Mutex::new(0.0_f64), AtomicBool::new(false));
    let (mut runs, mut run_cpu, mut reloads, mut first_health) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let took = await_health(&address);
                let mut longest = longest.lock().unwrap();
                *longest = longest.max(took);
                drop(longest);
                thread::park_timeout(PAUSE);
            }
        });
        for run in 0..RUNS {
            if run > 0 {
                let asked = Instant::now();
                // The daemon notices it when the file is closed.
                writeln!(File::options().append(true).open(&policy).unwrap(), "# version {run}").unwrap();
                find(&|event| event["message"] == "policy reloaded");
                reloads.push(milliseconds(asked));
            }
            let before = cpu_seconds(id);
            let event = find(&|event| event["message"].as_str().is_some_and(|it| it.starts_with("run finished")));
            assert_eq!(event["compliant"].as_u64(), Some((projects * KEYS) as u64), "{event}");
            run_cpu.push(cpu_seconds(id) - before);
            runs.push(event["took_ms"].as_f64().unwrap() / 1_000.0);
            if scraped != Scrape::Never {
                scrape(&address, scraped == Scrape::Gzip);
            }
            thread::park_timeout(AFTER_RUN);
            if run == 0 {
                first_health = std::mem::take(&mut *longest.lock().unwrap());
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    println!(
        "{projects:>8}  {:<9}  {:>8.0}  {:>9.0}  {start:>8.0}  {:>7.3}  {:>8.2}  {:>9.0}  {first_health:>9.1}  \
         {:>9.1}  {:>8.1}  {:>9.1}",
        scraped.name(),
        median(check),
        median(check_cpu),
        median(runs),
        median(run_cpu),
        median(reloads),
        longest.into_inner().unwrap(),
        rss_mib(id, "VmRSS:"),
        peak_rss_mib(id),
    );
    Command::new("kill").args(["-TERM", &id.to_string()]).status().unwrap();
    daemon.wait().unwrap();
    server.end();
}

/// The program with this policy and a hard limit of open files.
fn limited(arguments: &[&str], policy: &Path) -> Child {
    Command::new("/bin/sh")
        .args(["-c", &format!("ulimit -n {OPEN_FILES} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_kms-rotationd")])
        .args(arguments)
        .arg("--policy")
        .arg(policy)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Wall and CPU time of `check` in milliseconds.
fn check(policy: &Path) -> (f64, f64) {
    let begin = Instant::now();
    let mut check = limited(&["check"], policy);
    let mut text = String::new();
    check.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    check.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let wall = milliseconds(begin);
    assert!(text.contains(": valid, "), "{text}");
    // It has ended, or is about to.
    let cpu = cpu_seconds(check.id()) * 1_000.0;
    assert!(check.wait().unwrap().success());
    (wall, cpu)
}

/// Asks for `/healthz` on a new connection, and returns the time until the answer in milliseconds.
fn await_health(address: &str) -> f64 {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    milliseconds(begin)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

fn write_policy(folder: &Path, projects: usize, url: &str) -> PathBuf {
    let secret = folder.join("password");
    std::fs::write(&secret, PASSWORD).unwrap();
    let mut text = format!(
        "schedule: {{cron: \"0 0 1 1 *\"}}\nlimits: {{requests_per_second: 100000}}\ndefaults:\n  \
         cloud: open-telekom-cloud\n  region: eu-de\n  credentials:\n    \
         password: {{user_name: {USER}, domain_name: {ACCOUNT}, password_file: {}}}\nprojects:\n",
        secret.display()
    );
    for project in 0..projects {
        let id = project_id(project);
        writeln!(
            text,
            "  - name: project-{project:04}\n    project_id: {id}\n    kms_endpoint: {url}\n    iam_endpoint: {url}\n    \
             keys:"
        )
        .unwrap();
        for key in project * KEYS..(project + 1) * KEYS {
            writeln!(text, "      - key_id: {}\n        rotation_interval: 90", key_id(key)).unwrap();
        }
    }
    let path = folder.join("policy.yaml");
    std::fs::write(&path, text).unwrap();
    path
}
