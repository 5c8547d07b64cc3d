//! README and what ships around the program say what is so: policies, commands, permissions, metrics, links.

mod alerts;
mod kubernetes;
mod metrics;
mod reference;
mod repository;
mod resources;
mod units;
mod ways;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::SystemTime;

use kms_rotationd::policy::{self, Policy};
use kms_rotationd::rotation::project::{Cloud, Mode};
use serde_json::Value;

use repository::{blocks, files, root, text};

/// The policy, which must be valid without a warning.
fn valid(yaml: &str, file: &str) -> Policy {
    match policy::read(yaml.as_bytes(), file, |_| None, SystemTime::UNIX_EPOCH) {
        Ok((policy, warnings)) if warnings.is_empty() => policy,
        Ok((_, problems)) | Err(problems) => panic!("{problems}"),
    }
}

#[test]
fn the_smallest_policies_are_valid() {
    let blocks = blocks("yaml");
    let whole = blocks.iter().filter(|yaml| yaml.starts_with("projects:"));
    let policies: Vec<_> = whole.map(|yaml| valid(yaml, "README.md")).collect();
    let clouds: Vec<_> = policies.iter().map(|policy| policy.projects[0].cloud).collect();
    assert_eq!(clouds, [Cloud::HuaweiCloud, Cloud::OpenTelekomCloud]);
}

#[test]
fn the_web_configuration_is_valid_with_and_without_what_is_commented_out() {
    let blocks = blocks("yaml");
    let yaml = blocks.iter().find(|yaml| yaml.starts_with("tls_server_config:")).unwrap();
    for yaml in
        [yaml.clone(), yaml.replace("# client_", "client_").replace("# min_", "min_").replace("# bearer", "bearer")]
    {
        let config = kms_rotationd::web::config::read(yaml.as_bytes(), Path::new("/etc/web.yaml"), |_| None);
        let (config, warnings) = config.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(warnings.is_empty(), "{warnings}");
        let files: Vec<_> = config.files().collect();
        assert!(config.users.len() == 1 && files.starts_with(&[Path::new("/etc/server.crt")]), "{files:?}");
        assert_eq!(files.len(), if yaml.contains("# bearer") { 2 } else { 4 });
    }
}

#[test]
fn what_ships_around_the_program_knows_its_port_and_its_commands() {
    let help = Command::new(env!("CARGO_BIN_EXE_kms-rotationd")).args(["run", "--help"]).env_clear().output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("[default: 127.0.0.1:9847]") && help.contains("KMS_ROTATIOND_WEB_CONFIG"), "{help}");
    assert!(text("systemd/kms-rotationd.socket").contains("\nListenStream=127.0.0.1:9847\n"));
    assert!(text("systemd/kms-rotationd.service").contains("\n#Environment=KMS_ROTATIOND_WEB_CONFIG="));
    let containerfile = text("Containerfile");
    let check = containerfile.lines().find(|line| line.starts_with("HEALTHCHECK ")).unwrap();
    let (_, command) = check.split_once("CMD ").unwrap();
    let [program, arguments @ ..] = &*serde_json::from_str::<Vec<String>>(command).unwrap() else {
        panic!("{command}")
    };
    assert!(containerfile.contains(&format!("ENTRYPOINT [\"{program}\"]")), "{program}");
    let helped = Command::new(env!("CARGO_BIN_EXE_kms-rotationd")).args(arguments).arg("--help").output().unwrap();
    assert!(helped.status.success(), "{command}");
}

#[test]
fn every_yaml_reader_takes_the_days_in_examples_for_text() {
    let mut found = 0;
    for file in files("config").into_iter().chain(["README.md".to_owned()]) {
        let text = text(&file);
        for (at, start) in text.match_indices("until: ") {
            assert!(text[at + start.len()..].starts_with('"'), "{file}: {}", text[at..].lines().next().unwrap());
            found += 1;
        }
    }
    assert!(found >= 2, "{found}");
}

#[test]
fn ci_runs_the_test_command_of_readme() {
    let commands = blocks("sh");
    let test = commands[1].trim();
    assert!(test.starts_with("cargo test"), "{test}");
    let called = text(".ci/run").lines().any(|line| line.split(" 2>&1").next() == Some(test));
    assert!(called, ".ci/run does not call `{test}`");
}

/// Ends the program with the test, however that ends.
struct Running {
    child: Child,
    /// Kept open, so that the program can go on writing.
    log: Option<BufReader<ChildStderr>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rehearsal of README, once its first run has ended, and where it serves.
fn rehearsal() -> (Running, String) {
    let commands = blocks("sh");
    let (cargo, arguments) = commands[0].split_once(" -- ").unwrap();
    assert!(cargo.starts_with("cargo run"), "{cargo}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_kms-rotationd"))
        .args(arguments.split_whitespace())
        .args(["--listen", "127.0.0.1:0"])
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let mut running = Running { child, log: None };
    let line = BufReader::new(out).lines().map(Result::unwrap).find(|line| line.ends_with("status page")).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    // The program says when the run has ended; whoever reads the log waits no longer than that.
    let mut log = BufReader::new(err);
    let mut ended = String::new();
    while !ended.contains("run ended") {
        ended.clear();
        assert!(log.read_line(&mut ended).unwrap() > 0, "the program ended before its first run did");
    }
    running.log = Some(log);
    (running, address)
}

#[test]
fn the_rehearsal_of_readme_brings_every_key_that_can_rotate_to_its_policy() {
    let (_running, address) = rehearsal();
    let status: Value = serde_json::from_str(&get(&address, "/api/v1/status")).unwrap();
    let keys = status["projects"].as_array().unwrap().iter().flat_map(|project| {
        let monitored = project["mode"] == "monitor";
        project["keys"].as_array().unwrap().iter().map(move |key| (monitored, key))
    });
    let mut off_policy = 0;
    for (monitored, key) in keys {
        let cannot = key["reasons"][0] == "key_disabled" || key["reasons"][0] == "pending_deletion";
        let excused = key["status"] == "exempt" || cannot || monitored;
        assert!(key["status"] == "compliant" || excused, "{key}");
        off_policy += usize::from(key["status"] == "non_compliant");
    }
    assert_eq!(off_policy, 3, "README speaks of three: {status}");
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: */*\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

#[test]
fn the_permissions_are_those_of_the_calls_that_are_made() {
    let policies: Vec<Value> = blocks("json").iter().map(|json| serde_json::from_str(json).unwrap()).collect();
    let actions = |mode| {
        let policy = &policies[usize::from(mode == Mode::Monitor)];
        let statements = policy["Statement"].as_array().unwrap().iter();
        let actions = statements.flat_map(|statement| statement["Action"].as_array().unwrap());
        actions.map(|action| action.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let read = ["kms:cmk:list", "kms:cmkTag:list", "kms:cmkTag:listInstance", "kms:cmk:get", "kms:cmk:getRotation"];
    let write = ["kms:cmk:enableRotation", "kms:cmk:updateRotation"];
    assert_eq!(actions(Mode::Monitor), read.map(str::to_owned).into());
    assert_eq!(actions(Mode::Enforce), read.into_iter().chain(write).map(str::to_owned).collect());
    assert!(policies.iter().all(|policy| policy["Version"] == "1.1"));
}

#[test]
fn links_lead_somewhere() {
    for file in ["README.md", "CHANGELOG.md"] {
        let text = text(file);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let missing: Vec<PathBuf> = targets
            .filter(|target| !target.contains("://"))
            .map(|target| root().join(target))
            .filter(|target| !target.exists())
            .collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
}
