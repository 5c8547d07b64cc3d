//! README, docs/ and the shipped files agree with the program: policies, commands, outputs, permissions, metrics,
//! reasons, links.
//!
//! After an intended change of the program, `UPDATE_DOCS=1 cargo test --locked --test scenarios documents::` writes the
//! outputs and the generated tables of the documents again.

mod alerts;
mod commands;
mod generated;
mod kubernetes;
mod links;
mod metrics;
mod reasons;
mod reference;
pub(crate) mod repository;
mod resources;
mod sessions;
mod units;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use kms_rotationd::policy::{self, Policy};
use kms_rotationd::rotation::project::{Cloud, Mode};
use serde_json::Value;
use tempfile::TempDir;

use crate::{eventually, program};
use repository::{all_blocks, blocks, files, root, text};

/// The secrets of the documents' examples.
const TOKEN: &str = "a-token-of-a-file";
const PASSWORD: &str = "a-password";

/// The policy, which must be valid without a warning.
fn valid(yaml: &str, file: &str) -> Policy {
    match policy::read(yaml.as_bytes(), file, |_| None, SystemTime::UNIX_EPOCH) {
        Ok((policy, warnings)) if warnings.is_empty() => policy,
        Ok((_, problems)) | Err(problems) => panic!("{problems}"),
    }
}

/// README and the documents in docs/.
fn documents() -> Vec<String> {
    let docs = files("docs").into_iter().filter(|file| Path::new(file).extension().is_some_and(|found| found == "md"));
    let mut documents: Vec<_> = ["README.md".to_owned()].into_iter().chain(docs).collect();
    documents.sort();
    assert!(documents.len() >= 7, "{documents:?}");
    documents
}

#[test]
fn the_policies_in_the_documents_are_valid() {
    let mut clouds = BTreeMap::new();
    for document in documents() {
        for block in all_blocks(&document) {
            let begins = |field| block.text.starts_with(field);
            let is_policy = block.language == "yaml" && (begins("projects:") || begins("defaults:"));
            // One shows the output of `check` for mistakes, and one has no keys, for `init`.
            if is_policy && !["file: mistakes.yaml", "file: projects.yaml"].contains(&&*block.mark) {
                let policy = valid(&block.text, &document);
                clouds.entry(document.clone()).or_insert_with(Vec::new).push(policy.projects[0].cloud);
            }
        }
    }
    let of = |document: &str| clouds.get(document).cloned().unwrap_or_default();
    assert_eq!(of("README.md"), [Cloud::OpenTelekomCloud]);
    let otc = Cloud::OpenTelekomCloud;
    assert_eq!(of("docs/policy.md"), [Cloud::HuaweiCloud, otc, otc, otc]);
    assert_eq!(of("docs/monitoring.md"), [Cloud::OpenTelekomCloud]);
}

#[test]
fn readme_has_at_most_200_lines() {
    let lines = text("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines: move details to docs/");
}

#[test]
fn the_web_configuration_is_valid_with_and_without_what_is_commented_out() {
    let blocks = blocks("docs/operations.md", "yaml");
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
fn shipped_files_use_existing_ports_and_commands() {
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
fn every_yaml_reader_reads_the_days_in_examples_as_text() {
    let mut found = 0;
    for file in files("config").into_iter().chain(documents()) {
        let text = text(&file);
        for (at, start) in
            text.match_indices("until: ").filter(|(at, start)| !text[at + start.len()..].starts_with('…'))
        {
            assert!(text[at + start.len()..].starts_with('"'), "{file}: {}", text[at..].lines().next().unwrap());
            found += 1;
        }
    }
    assert!(found >= 2, "{found}");
}

#[test]
fn ci_runs_the_test_command_of_readme() {
    let commands = blocks("README.md", "sh");
    let test = commands[1].trim();
    assert!(test.starts_with("cargo test"), "{test}");
    let called = text(".ci/run").lines().any(|line| line.split(" 2>&1").next() == Some(test));
    assert!(called, ".ci/run does not call `{test}`");
}

/// Ends the program with the test, however that ends.
struct Running(Child, #[expect(dead_code, reason = "removed with it")] Option<TempDir>);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rehearsal of README after its first run, and its address.
fn rehearsal() -> (Running, String) {
    let commands = blocks("README.md", "sh");
    let (cargo, arguments) = commands[0].split_once(" -- ").unwrap();
    assert!(cargo.starts_with("cargo run"), "{cargo}");
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_kms-rotationd"))
        .args(arguments.split_whitespace())
        .arg("--evidence")
        .arg(folder.path())
        .args(["--listen", "127.0.0.1:0"])
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut running = Running(child.unwrap(), Some(folder));
    let out = running.0.stdout.take().unwrap();
    let line = BufReader::new(out).lines().map(Result::unwrap).find(|line| line.ends_with("status page")).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    await_first_run(&address);
    (running, address)
}

/// Waits until the daemon at this address has ended its first run.
fn await_first_run(address: &str) {
    eventually("the end of the first run", || program::get(address, "/readyz").0 != 503);
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
    assert_eq!(off_policy, 3, "README names three: {status}");
}

fn get(address: &str, path: &str) -> String {
    let (status, body) = program::get(address, path);
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn the_documented_permissions_match_the_calls() {
    let blocks = blocks("docs/credentials.md", "json");
    let policies: Vec<Value> = blocks.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
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
