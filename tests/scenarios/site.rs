//! The folder in which the program runs, with policy and secrets, and its commands.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::program::{Daemon, Finished, Program, binary};
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER};

/// A policy of one project, with short waits between attempts and a long timeout for each, for slow machines.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    pub(crate) project_id: &'static str,
    pub(crate) schedule: &'static str,
    pub(crate) max_elapsed: &'static str,
    pub(crate) concurrency: u32,
    pub(crate) request_timeout: &'static str,
    pub(crate) kms: String,
    pub(crate) iam: String,
    pub(crate) mode: &'static str,
    pub(crate) credentials: String,
    pub(crate) cloud: &'static str,
    pub(crate) region: &'static str,
    /// The guards; empty for the defaults.
    pub(crate) guards: &'static str,
    /// The evidence log; empty for none.
    pub(crate) evidence: String,
    /// Further fields of the project, one a line.
    pub(crate) more: Vec<String>,
    pub(crate) keys: Vec<String>,
}

impl Policy {
    /// One project at this address, without keys, with the token in the folder.
    pub(crate) fn at(url: &str) -> Self {
        Self {
            name: "payments",
            project_id: PROJECT,
            // Once a year: never during a test.
            schedule: r#"{cron: "0 0 1 1 *"}"#,
            max_elapsed: "10m",
            concurrency: 4,
            request_timeout: "2m",
            kms: url.to_owned(),
            iam: url.to_owned(),
            mode: "enforce",
            credentials: "{token_file: token}".to_owned(),
            cloud: "open-telekom-cloud",
            region: "eu-de",
            guards: "",
            evidence: String::new(),
            more: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// The same with the key of most tests at 90 days.
    pub(crate) fn of_one_key(url: &str) -> Self {
        Self::at(url).key(KEY, 90)
    }

    /// The same with these keys at 90 days.
    pub(crate) fn of_keys(url: &str, keys: impl IntoIterator<Item = String>) -> Self {
        keys.into_iter().fold(Self::at(url), |policy, key| policy.key(&key, 90))
    }

    pub(crate) fn key(mut self, key_id: &str, days: u32) -> Self {
        self.keys.push(format!("{{key_id: {key_id}, rotation_interval: {days}}}"));
        self
    }

    /// The same with this entry.
    pub(crate) fn entry(mut self, entry: &str) -> Self {
        self.keys.push(entry.to_owned());
        self
    }

    pub(crate) fn always(mut self, key_id: &str, days: u32) -> Self {
        self.keys.push(format!("{{key_id: {key_id}, rotation_interval: {days}, reapply: always}}"));
        self
    }

    /// With the password in the folder, scoped by the project's id or by this name.
    pub(crate) fn password(self, project_name: Option<&str>) -> Self {
        let scope = project_name.map(|name| format!(", project_name: {name}")).unwrap_or_default();
        let password = format!("user_name: {USER}, domain_name: {ACCOUNT}, password_file: password{scope}");
        Self { credentials: format!("{{password: {{{password}}}}}"), ..self }
    }

    /// With these credentials.
    pub(crate) fn with(self, credentials: &str) -> Self {
        Self { credentials: credentials.to_owned(), ..self }
    }

    /// With an additional field in the project.
    pub(crate) fn field(mut self, field: &str) -> Self {
        self.more.push(field.to_owned());
        self
    }

    /// Without project id.
    pub(crate) fn without_id(self) -> Self {
        Self { project_id: "", ..self }
    }

    pub(crate) fn every_second(self) -> Self {
        Self { schedule: r#"{cron: "* * * * * *"}"#, ..self }
    }

    /// The whole file.
    pub(crate) fn text(&self) -> String {
        let Self { schedule, max_elapsed, concurrency, request_timeout, guards, evidence, .. } = self;
        let guards = if guards.is_empty() { String::new() } else { format!("guards: {guards}\n") };
        let evidence = if evidence.is_empty() { String::new() } else { format!("evidence: {evidence}\n") };
        format!(
            "{evidence}{guards}schedule: {schedule}\n\
             retry: {{initial_interval: 10ms, max_interval: 50ms, max_elapsed: {max_elapsed}}}\n\
             limits: {{requests_per_second: 10000, concurrency: {concurrency}, request_timeout: {request_timeout}}}\n\
             projects:\n{}",
            self.project()
        )
    }

    /// The project alone, to append it to another policy.
    pub(crate) fn project(&self) -> String {
        let Self { name, cloud, region, project_id, kms, iam, mode, credentials, keys, .. } = self;
        let mut text = format!("- name: {name}\n  cloud: {cloud}\n  region: {region}\n");
        if !project_id.is_empty() {
            let _ = writeln!(text, "  project_id: {project_id}");
        }
        let _ = write!(
            text,
            "  kms_endpoint: {kms}\n  iam_endpoint: {iam}\n  mode: {mode}\n  credentials: {credentials}\n"
        );
        for field in &self.more {
            let _ = writeln!(text, "  {field}");
        }
        text.push_str("  keys:\n");
        for key in keys {
            let _ = writeln!(text, "  - {key}");
        }
        text
    }
}

/// A folder with `policy.yaml`, `token` and `password`, in which the program is started.
pub(crate) struct Site {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Site {
    pub(crate) fn new(policy: &Policy) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() };
        site.write("policy.yaml", &policy.text());
        site.write("token", &format!("{TOKEN}\n"));
        site.write("password", &format!("{PASSWORD}\n"));
        site
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.set_mode(name, 0o600);
    }

    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Sets a variable for all later commands; they have no other variables.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn has_variables(&self) -> bool {
        !self.variables.is_empty()
    }

    /// The program in this folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary(arguments);
        command.current_dir(self.folder());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A command on the policy to its end, with the report as JSON and the log as JSON.
    #[track_caller]
    pub(crate) fn once(&self, command: &str) -> Finished {
        let arguments = [command, "--policy", "policy.yaml", "--output", "json", "--log-format", "json"];
        Program::start(self.command(&arguments)).finish()
    }

    #[track_caller]
    pub(crate) fn apply(&self) -> Finished {
        self.once("apply")
    }

    /// The daemon, serving on a free port.
    #[track_caller]
    pub(crate) fn run(&self) -> Daemon<'_> {
        self.run_with(&[])
    }

    #[track_caller]
    pub(crate) fn run_with(&self, more: &[&str]) -> Daemon<'_> {
        Daemon::serving(self.start_with(more))
    }

    /// The daemon, which may not be serving yet.
    pub(crate) fn start_with(&self, more: &[&str]) -> Program {
        let arguments = ["run", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];
        Program::start(self.command(&[&arguments, more].concat()))
    }
}
