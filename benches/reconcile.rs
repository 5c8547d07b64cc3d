//! Measures a whole run: the real daemon against the simulator, each in a process, compared with a bare loop that sends
//! the same requests with the same client library and concurrency.
//!
//! `cargo bench --bench reconcile` prints one row for each number of keys, job and server latency; words after `--`
//! select rows: `cargo bench --bench reconcile -- 200 0ms`. Linux only: CPU time and memory are read from /proc.
//!
//! `cargo bench --bench reconcile -- many-projects` measures up to 1 000 projects in one process instead, and
//! `cargo bench --bench reconcile -- beside-official-client` compares the daemon with a script that uses the official
//! Python client.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a failed measurement should end with a message")]

mod beside_official_client;
mod many_projects;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use kms_simulator::{Journal, Key, ProjectSetup, RotationSetting, Setup, Simulator};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

const TOKEN_LENGTH: usize = 4096;
const ACCESS_KEY_ID: &str = "EXAMPLEAK0123456789A";
const PROJECT: &str = "00000000000000000000000000000000";
const USER: &str = "rotator";
const ACCOUNT: &str = "simulated";
const PASSWORD: &str = "correct horse";
const SECRET_ACCESS_KEY: &str = "ExampleSecretKey0123456789abcdefghijKLMN";
const CONCURRENCY: usize = 32;
/// Keys on a page of the list at the start of a run.
const PAGE: usize = 2_000;
/// Calls for one key, in the daemon's order.
const NOTHING: [&str; 1] = ["get-key-rotation-status"];
const FULL: [&str; 4] =
    ["get-key-rotation-status", "enable-key-rotation", "update-key-rotation-interval", "get-key-rotation-status"];

#[derive(Clone, Copy, PartialEq)]
enum Job {
    OffToOn,
    NothingToDo,
}

impl Job {
    fn name(self) -> &'static str {
        match self {
            Self::OffToOn => "off → on/90",
            Self::NothingToDo => "nothing to do",
        }
    }

    fn calls(self) -> &'static [&'static str] {
        match self {
            Self::OffToOn => &FULL,
            Self::NothingToDo => &NOTHING,
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", projects, keys, job, latency] => {
            serve(projects.parse().unwrap(), keys.parse().unwrap(), job, latency.parse().unwrap());
        }
        ["bare", keys, job, url] => bare(keys.parse().unwrap(), job, url),
        ["beside-official-client", wanted @ ..] => beside_official_client::measure(wanted),
        ["many-projects", wanted @ ..] => many_projects::measure(wanted),
        wanted => measure(wanted),
    }
}

fn key_id(at: usize) -> String {
    format!("{at:08x}-0000-4000-8000-{at:012x}")
}

/// The first one is [`PROJECT`].
fn project_id(at: usize) -> String {
    format!("{at:032x}")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The simulator's process: prints its URL, and at the end of its input the number of requests and of keys on policy.
fn serve(projects: usize, keys: usize, job: &str, latency_ms: u64) {
    let on = job == Job::NothingToDo.name();
    let key = |at| {
        let key = Key::new(key_id(at)).alias(format!("key-{at}"));
        if on { key.rotating(90) } else { key }
    };
    let of_project = |at: usize| {
        let project = ProjectSetup::new(project_id(at), "eu-de").domain(ACCOUNT);
        project.keys((at * keys..(at + 1) * keys).map(key))
    };
    let mut setup = (1..projects)
        .map(of_project)
        .fold(Setup::new().project(of_project(0).token("t".repeat(TOKEN_LENGTH))), Setup::project)
        .login(USER, ACCOUNT, PASSWORD)
        .access_key(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
        .journal(Journal::Counts);
    if latency_ms > 0 {
        setup = setup.latency(Duration::from_millis(latency_ms));
    }
    runtime().block_on(async {
        let simulator = Simulator::start(setup).await.unwrap();
        println!("{}", simulator.url());
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        end.await.unwrap().unwrap();
        let on_policy = RotationSetting { enabled: true, interval_days: 90 };
        let keys = (0..projects).flat_map(|at| simulator.handle().keys(&project_id(at)));
        let on_policy = keys.filter(|key| key.rotation == on_policy).count();
        println!("{} {on_policy}", simulator.handle().all_requests());
    });
}

/// The bare loop's process: prints the wall time in seconds.
fn bare(keys: usize, job: &str, url: &str) {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let calls = if job == Job::NothingToDo.name() { Job::NothingToDo.calls() } else { Job::OffToOn.calls() };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-auth-token", HeaderValue::from_str(&"t".repeat(TOKEN_LENGTH)).unwrap());
    runtime().block_on(async {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(8))
            .pool_max_idle_per_host(CONCURRENCY)
            .tls_certs_only([])
            .no_proxy()
            .default_headers(headers)
            .build()
            .unwrap();
        let send = async |call: &str, body: String| {
            let url = format!("{url}/v1.0/{PROJECT}/kms/{call}");
            let answer = client.post(url).body(body).send().await.unwrap().error_for_status().unwrap();
            answer.bytes().await.unwrap();
        };
        let begin = Instant::now();
        for marker in (0..keys).step_by(PAGE) {
            send("list-keys", format!(r#"{{"limit":"{PAGE}","marker":"{marker}"}}"#)).await;
        }
        stream::iter(0..keys)
            .for_each_concurrent(CONCURRENCY, |at| {
                let send = &send;
                async move {
                    for call in calls {
                        let interval = if *call == FULL[2] { r#","rotation_interval":90"# } else { "" };
                        send(call, format!(r#"{{"key_id":"{}"{interval}}}"#, key_id(at))).await;
                    }
                }
            })
            .await;
        println!("{}", begin.elapsed().as_secs_f64());
    });
}

struct Server {
    keys: usize,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    /// A simulator with this number of keys in each of these projects.
    fn start(projects: usize, keys: usize, job: Job, latency_ms: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &projects.to_string(), &keys.to_string(), job.name(), &latency_ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        output.read_line(&mut url).unwrap();
        Self { keys: projects * keys, child, input, output, url: url.trim().to_owned() }
    }

    /// Ends the simulator and returns the number of requests. Every key must be on policy.
    fn end(mut self) -> u64 {
        drop(self.input.take());
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        self.child.wait().unwrap();
        let (requests, on_policy) = line.trim().split_once(' ').unwrap();
        assert_eq!(on_policy.parse(), Ok(self.keys), "keys on policy");
        requests.parse().unwrap()
    }
}

/// What the daemon does, and how.
struct Work {
    keys: usize,
    job: Job,
    latency_ms: u64,
    concurrency: usize,
    /// Signs its requests with an access key, instead of sending a token.
    signs: bool,
    /// Its metrics are read every second.
    is_scraped: bool,
}

struct Measured {
    wall: f64,
    cpu: f64,
    peak_rss_mib: f64,
    requests: u64,
    first_request_ms: f64,
    scrape_ms: (f64, f64),
}

fn measure(wanted: &[&str]) {
    println!(
        "concurrency {CONCURRENCY}; the daemon is scraped every second; first request: from the start of the process"
    );
    println!(
        "{:>6}  {:<13}  {:>7}  {:>8}  {:>9}  {:>5}  {:>7}  {:>10}  {:>8}  {:>8}  {:>9}  {:>8}  {:>8}",
        "keys",
        "job",
        "latency",
        "wall s",
        "bare s",
        "ratio",
        "CPU s",
        "CPU ms/key",
        "RSS MiB",
        "requests",
        "first ms",
        "scrape ms",
        "gzip ms"
    );
    for latency_ms in [0, 40] {
        for keys in [200, 2_000, 10_000] {
            for job in [Job::OffToOn, Job::NothingToDo] {
                let row = [keys.to_string(), format!("{latency_ms}ms"), job.name().to_owned()];
                if !wanted.iter().all(|word| row.iter().any(|cell| cell == word)) {
                    continue;
                }
                let bare = bare_loop(keys, job, latency_ms);
                let work = Work { keys, job, latency_ms, concurrency: CONCURRENCY, signs: false, is_scraped: true };
                let daemon = daemon(&work);
                println!(
                    "{keys:>6}  {:<13}  {latency_ms:>4} ms  {:>8.3}  {bare:>9.3}  {:>5.2}  {:>7.3}  {:>10.3}  {:>8.1}  \
                     {:>8}  {:>9.1}  {:>8.1}  {:>8.1}",
                    job.name(),
                    daemon.wall,
                    daemon.wall / bare,
                    daemon.cpu,
                    daemon.cpu * 1_000.0 / f64::from(u32::try_from(keys).unwrap()),
                    daemon.peak_rss_mib,
                    daemon.requests,
                    daemon.first_request_ms,
                    daemon.scrape_ms.0,
                    daemon.scrape_ms.1,
                );
            }
        }
    }
}

fn bare_loop(keys: usize, job: Job, latency_ms: u64) -> f64 {
    let server = Server::start(1, keys, job, latency_ms);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["bare", &keys.to_string(), job.name(), &server.url])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    server.end();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn daemon(work: &Work) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(1, work.keys, work.job, work.latency_ms);
    let policy = write_policy(folder.path(), work, &server.url);
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kms-rotationd"))
        .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--policy"])
        .arg(policy)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = loop {
        let line = lines.next().unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(address) = event["address"].as_str() {
            break address.to_owned();
        }
    };
    let ended = std::sync::atomic::AtomicBool::new(!work.is_scraped);
    let (took_ms, first_request) = std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut first = None;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                if first.is_none() {
                    // Poll without a pause until the first request is visible.
                    let text = scrape(&address, false).0;
                    first = has_begun(&text).then(|| begin.elapsed());
                    std::thread::yield_now();
                } else {
                    scrape(&address, true);
                    std::thread::park_timeout(Duration::from_secs(1));
                }
            }
            first
        });
        let took = loop {
            let line = lines.next().unwrap();
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["message"].as_str().is_some_and(|message| message.starts_with("run finished")) {
                assert_eq!(event["compliant"].as_u64(), Some(work.keys as u64), "{line}");
                break event["took_ms"].as_f64().unwrap();
            }
        };
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        scraper.thread().unpark();
        (took, scraper.join().unwrap())
    });
    let cpu = cpu_seconds(child.id());
    let plain = median((0..5).map(|_| scrape(&address, false).1));
    let gzip = median((0..5).map(|_| scrape(&address, true).1));
    let peak_rss_mib = peak_rss_mib(child.id());
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    child.wait().unwrap();
    Measured {
        wall: took_ms / 1_000.0,
        cpu,
        peak_rss_mib,
        requests: server.end(),
        first_request_ms: first_request.map_or(f64::NAN, |at| at.as_secs_f64() * 1_000.0),
        scrape_ms: (plain, gzip),
    }
}

fn write_policy(folder: &Path, work: &Work, url: &str) -> std::path::PathBuf {
    let secret = if work.signs { SECRET_ACCESS_KEY.to_owned() } else { "t".repeat(TOKEN_LENGTH) };
    std::fs::write(folder.join("secret"), secret).unwrap();
    let file = format!("{}/secret", folder.display());
    let credentials = if work.signs {
        format!("access_key: {{access_key_id: {ACCESS_KEY_ID}, secret_access_key_file: {file}}}")
    } else {
        format!("token_file: {file}")
    };
    let mut text = format!(
        "schedule: {{cron: \"0 0 1 1 *\"}}\n\
         limits: {{requests_per_second: 100000, concurrency: {}}}\n\
         projects:\n  - name: bench\n    cloud: open-telekom-cloud\n    region: eu-de\n    project_id: {PROJECT}\n    \
         kms_endpoint: {url}\n    iam_endpoint: {url}\n    credentials: {{{credentials}}}\n    keys:\n",
        work.concurrency
    );
    for at in 0..work.keys {
        writeln!(text, "      - key_id: {}\n        rotation_interval: 90", key_id(at)).unwrap();
    }
    let path = folder.join("policy.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The metrics, as text or compressed, and the duration in milliseconds.
fn scrape(address: &str, gzip: bool) -> (Vec<u8>, f64) {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    let encoding = if gzip { "Accept-Encoding: gzip\r\n" } else { "" };
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{encoding}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    (answer, begin.elapsed().as_secs_f64() * 1_000.0)
}

/// Whether the metrics contain a request.
fn has_begun(metrics: &[u8]) -> bool {
    let text = String::from_utf8_lossy(metrics);
    let mut reads = text.lines().filter(|line| line.starts_with("kms_rotation_requests_total{"));
    reads.any(|line| line.contains("list_keys") && !line.ends_with(" 0"))
}

fn median(all: impl IntoIterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = all.into_iter().collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Hundredths of a second on Linux, user and system.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_rss_mib(pid: u32) -> f64 {
    rss_mib(pid, "VmHWM:")
}

/// `VmHWM:` is the most memory so far, `VmRSS:` the present one.
fn rss_mib(pid: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
