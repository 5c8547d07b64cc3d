//! The daemon beside a script that uses the official Python client: the same simulator, keys that are off, signed
//! requests, and the same number of calls in flight. The script makes three calls for each key, the daemon four, since
//! it reads back.
//!
//! Needs Python with `venv`. The client is installed below `target`, in the versions of `requirements.txt`. Words after
//! `beside-official-client` select rows: `200 4` is 200 keys with four calls in flight.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{ACCESS_KEY_ID, Job, Measured, PROJECT, SECRET_ACCESS_KEY, Server, Work, daemon, key_id};

const LATENCY_MS: u64 = 40;
const TIMES: usize = 3;

struct Run {
    requests: u64,
    wall: f64,
    /// CPU time of the process.
    cpu: f64,
    /// How much of it came before the calls; 0 for the daemon, where it is not told apart.
    start_cpu: f64,
    peak_rss_mib: f64,
}

pub(super) fn measure(wanted: &[&str]) {
    let python = installed();
    println!("answers take {LATENCY_MS} ms; medians of {TIMES} runs; Python's wall s is without start and imports");
    println!(
        "{:>6}  {:>9}  {:<8}  {:>8}  {:>8}  {:>5}  {:>7}  {:>10}  {:>8}",
        "keys", "in flight", "client", "requests", "wall s", "ratio", "CPU s", "at start s", "RSS MiB"
    );
    for keys in [200, 2_000] {
        for concurrency in [4, 32] {
            let row = [keys.to_string(), concurrency.to_string()];
            if !wanted.iter().all(|word| row.iter().any(|cell| cell == word)) {
                continue;
            }
            // In turn, so that whatever else the machine does affects both.
            let (ours, official): (Vec<_>, Vec<_>) =
                (0..TIMES).map(|_| (run_daemon(keys, concurrency), run_script(&python, keys, concurrency))).unzip();
            let (ours, official) = (medians(&ours), medians(&official));
            for (client, run) in [("daemon", &ours), ("official", &official)] {
                println!(
                    "{keys:>6}  {concurrency:>9}  {client:<8}  {:>8}  {:>8.3}  {:>5.2}  {:>7.2}  {:>10.2}  {:>8.1}",
                    run.requests,
                    run.wall,
                    run.wall / official.wall,
                    run.cpu,
                    run.start_cpu,
                    run.peak_rss_mib
                );
            }
        }
    }
}

fn medians(runs: &[Run]) -> Run {
    fn median<T: PartialOrd + Copy>(runs: &[Run], figure: fn(&Run) -> T) -> T {
        let mut all: Vec<T> = runs.iter().map(figure).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all[all.len() / 2]
    }
    Run {
        // The daemon reads a key once more if its reading is older than a minute, which depends on the wall time.
        requests: median(runs, |run| run.requests),
        wall: median(runs, |run| run.wall),
        cpu: median(runs, |run| run.cpu),
        start_cpu: median(runs, |run| run.start_cpu),
        peak_rss_mib: median(runs, |run| run.peak_rss_mib),
    }
}

fn run_daemon(keys: usize, concurrency: usize) -> Run {
    let measured =
        daemon(&Work { keys, job: Job::OffToOn, latency_ms: LATENCY_MS, concurrency, signs: true, is_scraped: false });
    let Measured { requests, wall, cpu, peak_rss_mib, .. } = measured;
    Run { requests, wall, cpu, start_cpu: 0.0, peak_rss_mib }
}

fn run_script(python: &Path, keys: usize, concurrency: usize) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let ids = (0..keys).fold(String::new(), |mut ids, at| {
        writeln!(ids, "{}", key_id(at)).unwrap();
        ids
    });
    std::fs::write(&file, ids).unwrap();
    let server = Server::start(1, keys, Job::OffToOn, LATENCY_MS);
    let output = Command::new(python)
        .arg(here().join("client.py"))
        .args([&server.url, PROJECT, ACCESS_KEY_ID, SECRET_ACCESS_KEY])
        .arg(file)
        .arg(concurrency.to_string())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the script ended with {}", output.status);
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| figures[name].as_f64().unwrap();
    Run {
        requests: server.end(),
        wall: figure("wall"),
        cpu: figure("cpu"),
        start_cpu: figure("start_cpu"),
        peak_rss_mib: figure("peak_rss_mib"),
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/beside_official_client")
}

/// The Python of an environment with the official client, which is made by the first run.
fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("official-client");
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    let python = folder.join("bin/python");
    run(Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(here().join("requirements.txt")));
    python
}
