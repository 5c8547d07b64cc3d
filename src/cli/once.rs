//! `apply` and `plan`: one run, its report, its exit code.

use std::path::Path;
use std::sync::Arc;

use super::arguments::{LogOptions, OutputFormat, ReportOptions};
use super::progress_line::Screen;
use super::{Exit, complain, file_limit, print, refuse, variable, wants_colour};
use crate::connect::{Connector, Kept};
use crate::daemon::{PolicyFile, Signals, warn_of_exposed_secrets};
use crate::policy::Policy;
use crate::policy::types::Guards;
use crate::reconcile::{Headway, Intent, Memory, Reconciler};
use crate::rotation::report::{Report, Trigger};
use crate::support::clock::Clock;
use crate::support::error_chain::Chain;
use crate::support::write_gate::Gate;
use crate::views::{Purpose, RefusedPolicy, TextStyle, write_json, write_json_without_run, write_text};

pub(super) async fn apply(
    file: &Path,
    options: &ReportOptions,
    allow_many: bool,
    log: &LogOptions,
    screen: Option<&Screen>,
) -> Exit {
    let policy = match load(file, options, log) {
        Ok(policy) => policy,
        Err(exit) => return exit,
    };
    match run(&policy, Intent::Apply, allow_many, screen).await {
        Ok(report) => {
            let exit = if report.is_on_policy() { Exit::Well } else { Exit::Failed };
            show(&report, Purpose::Applied, file, options, exit)
        }
        Err(exit) => show_no_run(options, None, exit),
    }
}

pub(super) async fn plan(file: &Path, options: &ReportOptions, log: &LogOptions, screen: Option<&Screen>) -> Exit {
    let policy = match load(file, options, log) {
        Ok(policy) => policy,
        Err(exit) => return exit,
    };
    match run(&policy, Intent::Plan, false, screen).await {
        Ok(report) => {
            let exit = if report.could_read_all() && report.planned().next().is_some() {
                Exit::Changes
            } else if report.is_on_policy_but_for_monitor_mode() {
                Exit::Well
            } else {
                Exit::Failed
            };
            show(&report, Purpose::Planned, file, options, exit)
        }
        Err(exit) => show_no_run(options, None, exit),
    }
}

/// The policy; or the exit code after its problems were shown.
fn load(file: &Path, options: &ReportOptions, log: &LogOptions) -> Result<Policy, Exit> {
    match PolicyFile::new(file.to_owned(), variable, Clock::system()).read() {
        Ok(policy) => {
            warn_of_exposed_secrets(&policy);
            Ok(policy)
        }
        Err(refused) => {
            let exit = refuse(&refused, log);
            let (error, problems) = (Chain(&refused).to_string(), serde_json::to_value(&refused).unwrap_or_default());
            Err(show_no_run(options, Some(RefusedPolicy { file, error: &error, problems: &problems }), exit))
        }
    }
}

async fn run(policy: &Policy, intent: Intent, allow_many: bool, screen: Option<&Screen>) -> Result<Report, Exit> {
    let signals = Signals::listen_unless_ignored()
        .map_err(|error| complain(Exit::Failed, &format_args!("cannot listen to signals: {error}")))?;
    let clock = Clock::system();
    let mut connector = Connector {
        clock: clock.clone(),
        stop: signals.stop.clone(),
        gate: Gate::default(),
        observer: Box::new(|_| Arc::new(())),
        environment: variable,
        redirect: None,
        kept: Kept::for_descriptors(file_limit()),
    };
    let targets = connector.connect(policy);
    let (gate, memory, headway) = (Gate::default(), Memory::default(), Headway::default());
    let reconciler = Reconciler { clock, stop: signals.stop.clone(), gate, memory, headway };
    let most = if allow_many { usize::MAX } else { policy.guards.max_changes_per_run };
    let guards = Guards { max_changes_per_run: most, ..policy.guards };
    let whose = match &policy.projects[..] {
        [project] => project.name.to_string(),
        projects => format!("{} projects", projects.len()),
    };
    let mut report = std::pin::pin!(reconciler.run(&targets, Trigger::Start, intent, guards));
    let mut progress = std::pin::pin!(async {
        match screen {
            Some(screen) => screen.follow(&whose, &reconciler.headway).await,
            None => std::future::pending().await,
        }
    });
    tokio::select! {
        biased;
        () = signals.exit_now.cancelled() => Err(Exit::Failed),
        never = &mut progress => match never {},
        report = &mut report => Ok(report),
    }
}

fn show(report: &Report, purpose: Purpose, policy_file: &Path, options: &ReportOptions, exit: Exit) -> Exit {
    let colour = wants_colour(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    print(exit, |out| match options.output.format {
        OutputFormat::Text => write_text(report, TextStyle { purpose, policy_file, all: options.all, colour }, out),
        OutputFormat::Json => write_json(report, out),
    })
}

/// Without a report there is nothing to show to people, but whatever reads JSON is given a document all the same.
fn show_no_run(options: &ReportOptions, refused: Option<RefusedPolicy<'_>>, exit: Exit) -> Exit {
    match options.output.format {
        OutputFormat::Text => exit,
        OutputFormat::Json => print(exit, |out| write_json_without_run(refused, out)),
    }
}
