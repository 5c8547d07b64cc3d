//! `apply` and `plan`: one run, its report, its exit code.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::arguments::{LogOptions, OutputFormat, ReportOptions};
use super::progress_line::ProgressLine;
use super::rehearsal::{self, Rehearsal};
use super::simulation_arguments::Simulation;
use super::{Exit, fail, print, print_refusal, recording, variable, wants_colour};
use crate::connect::Connector;
use crate::daemon::{PolicyFile, Signals, warn_of_exposed_secrets};
use crate::policy::Policy;
use crate::policy::types::Guards;
use crate::reconcile::{Intent, Memory, Reconciler, RunRequest};
use crate::rotation::key_name::KeyName;
use crate::rotation::report::{Report, Trigger};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::printable::printable;
use crate::support::write_gate::WriteGate;
use crate::views::{Purpose, RefusedPolicy, TextStyle, write_json, write_json_without_run, write_text};
use crate::yaml::nearest::nearest;

pub(super) async fn apply(
    file: &Path,
    options: &ReportOptions,
    allow_many: bool,
    log: &LogOptions,
    progress_line: Option<&ProgressLine>,
) -> Exit {
    let (policy, text) = match load(file, options, log) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match run(&policy, text, Intent::Apply, allow_many, options, progress_line).await {
        Ok(report) => {
            let is_on_policy = report.is_on_policy() && !may_miss_the_key(&report);
            let exit = if is_on_policy { Exit::Success } else { Exit::Failed };
            print_report(&report, Purpose::Applied, file, options, exit)
        }
        Err(exit) => print_without_report(options, None, exit),
    }
}

pub(super) async fn plan(
    file: &Path,
    options: &ReportOptions,
    log: &LogOptions,
    progress_line: Option<&ProgressLine>,
) -> Exit {
    let (policy, text) = match load(file, options, log) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match run(&policy, text, Intent::Plan, false, options, progress_line).await {
        Ok(report) => {
            let exit = if may_miss_the_key(&report) {
                Exit::Failed
            } else if report.could_read_all() && report.planned().next().is_some() {
                Exit::Unfinished
            } else if report.is_on_policy_but_for_monitor_mode() {
                Exit::Success
            } else {
                Exit::Failed
            };
            print_report(&report, Purpose::Planned, file, options, exit)
        }
        Err(exit) => print_without_report(options, None, exit),
    }
}

/// Loads the policy, and its text if that is recorded; or prints its problems and returns the exit code.
fn load(file: &Path, options: &ReportOptions, log: &LogOptions) -> Result<(Policy, Option<Arc<str>>), Exit> {
    let mut policy_file = PolicyFile::new(file.to_owned(), variable, Clock::system());
    match policy_file.read() {
        Ok(policy) => {
            warn_of_exposed_secrets(&policy);
            Ok((policy, policy_file.text()))
        }
        Err(refused) => {
            let exit = print_refusal(&refused, log);
            let (error, problems) =
                (ErrorChain(&refused).to_string(), serde_json::to_value(&refused).unwrap_or_default());
            Err(print_without_report(options, Some(RefusedPolicy { file, error: &error, problems: &problems }), exit))
        }
    }
}

async fn run(
    policy: &Policy,
    text: Option<Arc<str>>,
    intent: Intent,
    allow_many: bool,
    options: &ReportOptions,
    progress_line: Option<&ProgressLine>,
) -> Result<Arc<Report>, Exit> {
    let only = options.key.as_ref();
    let signals = Signals::listen_unless_ignored()
        .map_err(|error| fail(Exit::Failed, &format_args!("cannot install signal handlers: {error}")))?;
    let (clock, memory) = (Clock::system(), Memory::default());
    let (block, gate) = WriteGate::default().blockable();
    let rehearsal = match options.simulated {
        Some(Simulation { faults }) => Some(
            Rehearsal::of_command(policy, faults)
                .await
                .map_err(|error| fail(Exit::Failed, &format_args!("cannot start the simulated cloud: {error}")))?,
        ),
        None => None,
    };
    let recorder = match rehearsal {
        // The evidence log of the policy is of the real cloud.
        Some(_) => None,
        None => recording::of_command(policy, text, intent, block, &memory).await?,
    };
    let mut connector = Connector {
        clock: clock.clone(),
        stop: signals.stop.clone(),
        gate: gate.clone(),
        observer: Box::new(|_| Arc::new(())),
        environment: if rehearsal.is_some() { |_| None } else { variable },
        endpoint_override: rehearsal.as_ref().map(Rehearsal::endpoint_override),
        cache: rehearsal::client_cache(rehearsal.as_ref()),
    };
    let targets = connector.connect(policy);
    let reconciler = Reconciler { clock, stop: signals.stop.clone(), gate, memory, progress: Arc::default(), recorder };
    // A key that a person asks for is not a mistake in a selector.
    let is_unlimited = allow_many || only.is_some();
    let max_changes_per_run = if is_unlimited { usize::MAX } else { policy.guards.max_changes_per_run };
    let guards = Guards { max_changes_per_run, ..policy.guards };
    let scope = match &policy.projects[..] {
        [project] => project.name.to_string(),
        projects => format!("{} projects", projects.len()),
    };
    let request = RunRequest { trigger: Trigger::Start, intent, guards, next_run: None, gap_after: None };
    let mut report = std::pin::pin!(async {
        match only {
            Some(key) => reconciler.run_key(&targets, request, key).await,
            None => reconciler.run(&targets, request).await,
        }
    });
    let mut progress = std::pin::pin!(async {
        match progress_line {
            Some(progress_line) => progress_line.follow(&scope, &reconciler.progress).await,
            None => std::future::pending().await,
        }
    });
    let report = tokio::select! {
        biased;
        () = signals.exit_now.cancelled() => return Err(Exit::Failed),
        never = &mut progress => match never {},
        report = &mut report => report,
    };
    match only {
        Some(key) if report.keys().next().is_none() => {
            Err(fail(Exit::Failed, &without_key(key, &report, &reconciler.memory.aliases())))
        }
        _ => Ok(report),
    }
}

/// Whether a project may have the key too that the run was limited to: its keys could not be listed.
fn may_miss_the_key(report: &Report) -> bool {
    report.only.is_some() && report.projects.iter().any(|project| project.keys.is_empty())
}

/// Why there is nothing to report of a key.
fn without_key(key: &KeyName, report: &Report, aliases: &[Box<str>]) -> String {
    let key = key.to_string();
    let name = printable(&key);
    if report.interrupted {
        return format!("stopped before the key `{name}` was found");
    }
    let mut text = format!("no key `{name}` in the policy's projects");
    if let Some(near) = nearest(&key, aliases.iter().map(|alias| &**alias)) {
        // Writing to a `String` does not fail.
        let _ = write!(text, "; did you mean `{}`?", printable(near));
    }
    for project in report.projects.iter().filter(|project| !project.listed) {
        let why = project.failure.as_deref().unwrap_or("the key list is not available");
        let _ = write!(text, "; the keys of project `{}` are not known: {}", printable(&project.name), printable(why));
    }
    text
}

fn print_report(report: &Report, purpose: Purpose, policy_file: &Path, options: &ReportOptions, exit: Exit) -> Exit {
    let colour = wants_colour(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    let all = options.all || options.key.is_some();
    let simulated = options.simulated.is_some();
    print(exit, |out| match options.output.format {
        OutputFormat::Text => write_text(report, TextStyle { purpose, policy_file, all, colour, simulated }, out),
        OutputFormat::Json => write_json(report, simulated, out),
    })
}

/// Without a report, only JSON is printed: its readers expect a document.
fn print_without_report(options: &ReportOptions, refused: Option<RefusedPolicy<'_>>, exit: Exit) -> Exit {
    match options.output.format {
        OutputFormat::Text => exit,
        OutputFormat::Json => print(exit, |out| write_json_without_run(refused, options.simulated.is_some(), out)),
    }
}
