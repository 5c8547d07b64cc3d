//! `apply` and `plan`: one run, its report, its exit code.

use std::path::Path;
use std::sync::Arc;

use super::arguments::OutputFormat;
use super::{Exit, complain, load, print, wants_colour};
use crate::clock::Clock;
use crate::daemon::{Connector, Signals};
use crate::observability::{Purpose, write_json, write_text};
use crate::reconcile::{Intent, Reconciler, WrittenIntervals};
use crate::rotation::report::{Report, Trigger};

pub(super) async fn apply(file: &Path, format: OutputFormat) -> Exit {
    match run(file, Intent::Apply).await {
        Ok(report) => {
            let exit = if report.is_success() { Exit::Well } else { Exit::Failed };
            show(&report, Purpose::Applied, format, exit)
        }
        Err(exit) => exit,
    }
}

pub(super) async fn plan(file: &Path, format: OutputFormat) -> Exit {
    match run(file, Intent::Plan).await {
        Ok(report) => {
            // Changes to make are what `plan` is asked for, so they are told even where other keys are unknown.
            let exit = if report.has_planned_changes() {
                Exit::Changes
            } else if report.is_success() {
                Exit::Well
            } else {
                Exit::Failed
            };
            show(&report, Purpose::Planned, format, exit)
        }
        Err(exit) => exit,
    }
}

async fn run(file: &Path, intent: Intent) -> Result<Report, Exit> {
    let policy = load(file)?;
    let signals = Signals::listen()
        .map_err(|error| complain(Exit::Failed, &format_args!("cannot listen to signals: {error}")))?;
    let clock = Clock::system();
    let connector = Connector {
        clock: clock.clone(),
        stop: signals.stop.clone(),
        observer: Box::new(|_| Arc::new(())),
        redirect: None,
    };
    let targets = connector.connect(&policy);
    let reconciler =
        Reconciler { clock, stop: signals.stop, progress: Arc::new(|| {}), written: WrittenIntervals::default() };
    tokio::select! {
        biased;
        () = signals.end_now.cancelled() => Err(Exit::Failed),
        report = reconciler.run(&targets, Trigger::Start, intent) => Ok(report),
    }
}

fn show(report: &Report, purpose: Purpose, format: OutputFormat, exit: Exit) -> Exit {
    let colour = wants_colour(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    print(exit, |out| match format {
        OutputFormat::Text => write_text(report, purpose, colour, out),
        OutputFormat::Json => write_json(report, out),
    })
}
