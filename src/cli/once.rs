//! `apply` and `plan`: one run, its report, its exit code.

use std::path::Path;
use std::sync::Arc;

use super::arguments::{LogOptions, OutputFormat, ReportOptions};
use super::progress::Screen;
use super::{Exit, complain, file_limit, load, print, variable, wants_colour};
use crate::clock::Clock;
use crate::daemon::{Connector, Kept, PolicyFile, Signals};
use crate::gate::Gate;
use crate::observability::{Purpose, TextStyle, write_json, write_text};
use crate::policy::types::Guards;
use crate::reconcile::{Headway, Intent, Memory, Reconciler};
use crate::rotation::report::{Report, Trigger};

pub(super) async fn apply(
    file: &Path,
    options: &ReportOptions,
    allow_many: bool,
    log: &LogOptions,
    screen: Option<&Screen>,
) -> Exit {
    match run(file, Intent::Apply, allow_many, log, screen).await {
        Ok(report) => {
            let exit = if report.is_success() { Exit::Well } else { Exit::Failed };
            show(&report, Purpose::Applied, file, options, exit)
        }
        Err(exit) => exit,
    }
}

pub(super) async fn plan(file: &Path, options: &ReportOptions, log: &LogOptions, screen: Option<&Screen>) -> Exit {
    match run(file, Intent::Plan, false, log, screen).await {
        Ok(report) => {
            // Changes to make are what `plan` is asked for, so they are told even where other keys are unknown.
            let exit = if report.planned().next().is_some() && !report.interrupted {
                Exit::Changes
            } else if report.is_success() {
                Exit::Well
            } else {
                Exit::Failed
            };
            show(&report, Purpose::Planned, file, options, exit)
        }
        Err(exit) => exit,
    }
}

async fn run(
    file: &Path,
    intent: Intent,
    allow_many: bool,
    log: &LogOptions,
    screen: Option<&Screen>,
) -> Result<Report, Exit> {
    let policy = load(&mut PolicyFile::new(file.to_owned(), variable, Clock::system()), log)?;
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
    let targets = connector.connect(&policy);
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
    loop {
        tokio::select! {
            biased;
            () = signals.end_now.cancelled() => return Err(Exit::Failed),
            never = &mut progress => match never {},
            report = &mut report => return Ok(report),
            // Whoever asked for this run has gone away.
            () = signals.hang_up.notified() => signals.stop.cancel(),
        }
    }
}

fn show(report: &Report, purpose: Purpose, policy_file: &Path, options: &ReportOptions, exit: Exit) -> Exit {
    let colour = wants_colour(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    print(exit, |out| match options.output.format {
        OutputFormat::Text => write_text(report, TextStyle { purpose, policy_file, all: options.all, colour }, out),
        OutputFormat::Json => write_json(report, out),
    })
}
