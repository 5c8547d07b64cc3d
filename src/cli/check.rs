//! `check`: the problems of a policy, what it names on this machine, and the exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use super::arguments::OutputFormat;
use super::{Exit, fail, print, render, variable};
use crate::connect::environment::{self, FoundCredentials, NamedProject};
use crate::daemon::warn_of_exposed_secrets;
use crate::kms::auth::Named;
use crate::policy::types::{Credentials, Policy};
use crate::policy::{self, PolicyRefused};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::printable::printable;
use crate::yaml::{NamedFile, Position, Problems, Severity};

/// With `strict`, a policy with warnings is refused.
pub(super) fn check(file: &Path, format: OutputFormat, strict: bool) -> Exit {
    let (accepted, mut problems) = match policy::load(file, variable, Clock::system().now()) {
        Ok((policy, warnings)) => (Some(policy), warnings),
        Err(PolicyRefused::Invalid(problems)) => (None, problems),
        Err(refused) => {
            let exit = fail(Exit::Invalid, &ErrorChain(&refused));
            return match format {
                OutputFormat::Text => exit,
                OutputFormat::Json => print(exit, |out| {
                    serde_json::to_writer_pretty(&mut *out, &refused)?;
                    writeln!(out)
                }),
            };
        }
    };
    let exposed = accepted.as_ref().map_or(0, warn_of_exposed_secrets);
    if let Some(policy) = &accepted {
        warn_of_missing_files(policy, &mut problems);
    }
    let logins = accepted.iter().flat_map(|policy| environment_logins(policy, &mut problems)).collect::<Vec<_>>();
    let accepted = accepted.filter(|_| problems.count(Severity::Error) == 0);
    let warnings = problems.count(Severity::Warning) + exposed;
    let refused = accepted.as_ref().filter(|_| strict && warnings > 0).map(|_| warnings);
    let exit = if accepted.is_some() && refused.is_none() { Exit::Success } else { Exit::Invalid };
    print(exit, |out| match format {
        OutputFormat::Json => {
            for EnvironmentLogin { project, position, source, cloud_project } in logins {
                let message = format!("project `{project}` uses credentials of the environment: {source}");
                problems.add(Severity::Note, position, &message);
                let message = format!("project `{project}` uses the cloud's project {cloud_project}");
                problems.add(Severity::Note, position, &message);
            }
            serde_json::to_writer_pretty(&mut *out, &problems)?;
            writeln!(out)
        }
        OutputFormat::Text => {
            out.write_all(render(&problems, io::stdout().is_terminal()).as_bytes())?;
            for EnvironmentLogin { project, source, cloud_project, .. } in logins {
                writeln!(out, "{project}: environment: {source}")?;
                writeln!(out, "{project}: project: {}", printable(&cloud_project))?;
            }
            if let Some(policy) = accepted {
                writeln!(out, "{}", summary(file, &policy))?;
            }
            match refused {
                Some(1) => writeln!(out, "{}: --strict refuses 1 warning", file.display()),
                Some(warnings) => writeln!(out, "{}: --strict refuses {warnings} warnings", file.display()),
                None => Ok(()),
            }
        }
    })
}

/// Warns of files in the policy that do not exist on this machine, which may not be the daemon's. Each is reported
/// once, by its field: the value may be a secret that was entered by mistake.
fn warn_of_missing_files(policy: &Policy, problems: &mut Problems) {
    let mut known = BTreeSet::new();
    for NamedFile { field, position, path } in policy.files.iter().filter(|file| known.insert(&file.path)) {
        let wrong = match std::fs::metadata(path) {
            Ok(file) if file.is_file() => continue,
            Ok(_) => "is not a regular file",
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                if path.is_relative() {
                    "does not exist in the current folder"
                } else {
                    "does not exist on this machine"
                }
            }
            // The daemon's user may have the permission.
            Err(_) => continue,
        };
        problems.add(Severity::Warning, *position, &format!("the file that `{field}` names {wrong}"));
    }
}

/// The login of a project with `environment: {}`.
struct EnvironmentLogin {
    project: Arc<str>,
    /// Of the field in the policy.
    position: Position,
    source: String,
    /// The cloud's project, and where it is named.
    cloud_project: String,
}

/// Finds the logins of projects with `environment: {}`. An incomplete login is an error; another project than the
/// policy's is a warning.
fn environment_logins(policy: &Policy, problems: &mut Problems) -> Vec<EnvironmentLogin> {
    let projects = policy.projects.iter().filter(|project| project.credentials == Credentials::Environment);
    // Projects that share credentials in `defaults` lack the same.
    let mut incomplete: BTreeMap<(Position, String), Vec<String>> = BTreeMap::new();
    let logins = projects
        .filter_map(|project| {
            let (name, position) = (Arc::clone(&project.name), project.credentials_at);
            match environment::find(variable, project) {
                Ok(found) => {
                    let (cloud_project, warning) = cloud_project(&found);
                    if let Some(warning) = warning {
                        problems.add(Severity::Warning, position, &format!("project `{name}` has {warning}"));
                    }
                    Some(EnvironmentLogin { project: name, position, source: found.source, cloud_project })
                }
                Err(error) => {
                    incomplete.entry((position, ErrorChain(&error).to_string())).or_default().push(format!("`{name}`"));
                    None
                }
            }
        })
        .collect();
    for ((position, error), names) in incomplete {
        let message = match &names[..] {
            [name] => format!("project {name} has no credentials: {error}"),
            names => format!("projects {} have no credentials: {error}", names.join(", ")),
        };
        problems.add(Severity::Error, position, &message);
    }
    logins
}

/// The cloud's project and where it is named; and a warning if the environment names another id. A name is only
/// mentioned: it may belong to the same project.
fn cloud_project(
    FoundCredentials { scope, scope_origin, overridden, .. }: &FoundCredentials,
) -> (String, Option<String>) {
    let project = scope.id.as_ref().unwrap_or(&scope.name);
    let shown = format!("{project}, from {scope_origin}");
    match overridden {
        Some(NamedProject { project: Named::Id(id), origin }) if id != project => {
            (shown, Some(format!("project_id {project}; {origin} ({id}) is ignored")))
        }
        Some(NamedProject { project: Named::Name(name), origin }) => {
            (format!("{shown}; {origin} ({name}) is ignored"), None)
        }
        _ => (shown, None),
    }
}

fn summary(file: &Path, policy: &Policy) -> String {
    let entries: usize = policy.projects.iter().map(|project| project.keys.len()).sum();
    let entries = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    let projects = match policy.projects.len() {
        1 => "1 project".to_owned(),
        count => format!("{count} projects"),
    };
    let schedule = policy.schedule.calendar.describe();
    format!("{}: valid, {entries} in {projects}; {schedule}", file.display())
}
