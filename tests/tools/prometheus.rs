//! A real Prometheus with the shipped configuration, if it is installed.
//!
//! It scrapes one daemon on the loopback. The scrape interval and each `for` are short, so that tests are fast; the
//! expressions of the rules are unchanged.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::program::{Daemon, Program, get};

/// A running Prometheus; it ends when it is dropped.
pub(crate) struct Prometheus {
    address: String,
    _program: Program,
    _folder: TempDir,
}

impl Prometheus {
    /// A Prometheus that scrapes this daemon.
    pub(crate) fn watching(daemon: &Daemon<'_>) -> Self {
        Self::watching_as(daemon, "{}")
    }

    /// The same, with these target labels.
    pub(crate) fn watching_as(daemon: &Daemon<'_>, labels: &str) -> Self {
        Self::configured(daemon, labels, str::to_owned)
    }

    /// A Prometheus that scrapes this daemon and sends its alerts to this Alertmanager.
    pub(crate) fn notifying(daemon: &Daemon<'_>, alertmanager: &str) -> Self {
        Self::configured(daemon, "{}", |text| {
            let Some((before, section)) = text.split_once("\n# alerting:\n") else { return text.to_owned() };
            let section = section.replace("\n# ", "\n").replacen("# ", "", 1).replace("127.0.0.1:9093", alertmanager);
            format!("{before}\nalerting:\n{section}")
        })
    }

    fn configured(daemon: &Daemon<'_>, labels: &str, change: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in ["prometheus.yaml", "rules.yaml", "thresholds.yaml"] {
            let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus").join(file);
            let text = hastened(&fs::read_to_string(shipped).unwrap(), daemon, labels);
            fs::write(folder.path().join(file), change(&text)).unwrap();
        }
        let data = folder.path().join("data");
        Self::start(folder, &data)
    }

    fn start(folder: TempDir, data: &Path) -> Self {
        let mut command = Command::new("prometheus");
        command.args(["--config.file=prometheus.yaml", "--log.format=json"]);
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        let program = Program::start({
            command.args(["--web.listen-address=127.0.0.1:0"]).current_dir(folder.path());
            command
        });
        let address = program.await_line("msg", "Listening on")["address"].as_str().unwrap().to_owned();
        Self { address, _program: program, _folder: folder }
    }

    /// Status and body of the answer to a query.
    pub(crate) fn answer(&self, expression: &str) -> (u16, String) {
        get(&self.address, &format!("/api/v1/query?query={}", escaped(expression)))
    }

    /// The current result of a query.
    #[track_caller]
    pub(crate) fn query(&self, expression: &str) -> Vec<Value> {
        let (status, body) = self.answer(expression);
        // It is not ready yet.
        if status == 503 {
            return Vec::new();
        }
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }
}

/// A configuration file with short intervals, the daemon as target, and the target labels.
fn hastened(shipped: &str, daemon: &Daemon<'_>, labels: &str) -> String {
    let mut text = String::new();
    for line in shipped.lines() {
        let line = match line.trim_start().split_once(": ") {
            Some(("for", length)) => line.replace(length, "1s"),
            Some(("scrape_interval", length)) => line.replace(length, "200ms"),
            _ if line == "rule_files:" => "global: {evaluation_interval: 200ms}\nrule_files:".to_owned(),
            Some(("- targets", _)) => format!("      - {{targets: [\"{}\"], labels: {labels}}}", daemon.address),
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Text encoded for a query string.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
