//! The audit report: what evidence logs show of each key over a period, for auditors and for their programs.
//!
//! [`make`] verifies the logs, reads them once more record by record, and judges each key. The result is a
//! [`model::Report`], a plain value. Each format is a file that renders it: [`html`], [`json`], [`csv`], [`ocsf`],
//! [`oscal`] and [`cbom`].
//!
//! The same logs, program and parameters give the same bytes: no clock and no random number is used, and the report has
//! the time of the newest record, not the time at which it was made.

mod bar;
pub mod cbom;
mod collect;
mod combine;
pub mod csv;
pub mod html;
mod ids;
pub mod json;
mod judge;
mod key;
mod keyline;
mod looks;
pub mod model;
mod observer;
pub mod ocsf;
pub mod oscal;
pub mod time;
mod timeline;
mod words;

use std::collections::HashSet;
use std::path::PathBuf;

use collect::Collector;
use model::{Parameters, Period, Report};
use observer::{ReadLog, Window};
use time::{Day, Time};

use crate::evidence::anchor::Anchor;
use crate::evidence::folder::ReadError;
use crate::evidence::verify::Verification;
use crate::support::version::VERSION;

/// What a report is to be made of.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The folders of the logs.
    pub folders: Vec<PathBuf>,
    /// The first day; the first one of the logs without it.
    pub from: Option<Day>,
    /// The last day; the last one of the logs without it.
    pub to: Option<Day>,
    /// Only these projects; all if empty.
    pub projects: Vec<String>,
    /// How many keys the sample has, and what decides which.
    pub sample: usize,
    pub seed: u64,
    pub anchors: Vec<Anchor>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A folder has no log, or a file of it cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// Two folders have the same log.
    #[error("the log {0} is given twice")]
    Twice(String),
    /// The last day is before the first one.
    #[error("--to {to} is before --from {from}")]
    Days { from: Day, to: Day },
    /// No log has a record of these days.
    #[error("no record of these days: the evidence is of {first} to {newest}")]
    NoRecord { first: Day, newest: Day },
    /// No log has a record at all.
    #[error("the evidence log in {} has no record", .0.display())]
    Empty(PathBuf),
    /// No log has the project.
    #[error("no log has a project `{name}`; there are: {known}")]
    UnknownProject { name: String, known: String },
}

/// Makes a report.
///
/// # Errors
///
/// There is no log, it cannot be read, or it has nothing of these days or projects. A log that does not verify is no
/// error: see [`Report::verified`].
pub fn make(request: &Request) -> Result<Report, ReportError> {
    let Request { from, to, .. } = *request;
    if let (Some(from), Some(to)) = (from, to)
        && to < from
    {
        return Err(ReportError::Days { from, to });
    }
    let mut projects = request.projects.clone();
    projects.sort_unstable();
    projects.dedup();
    let begins = from.map_or(Time(i64::MIN), Day::start);
    let ends = to.map_or(Time(i64::MAX), Day::end);
    let mut logs = Vec::new();
    for folder in &request.folders {
        let collector = || Collector::new(&projects, begins, ends);
        let log = observer::read(folder, &request.anchors, collector)?;
        if log.collected.first.is_none() {
            return Err(ReportError::Empty(folder.clone()));
        }
        logs.push(log);
    }
    let mut origins = HashSet::new();
    for log in logs.iter().flat_map(|log| &log.verifications) {
        if let Some(origin) = &log.origin
            && !origins.insert(origin)
        {
            return Err(ReportError::Twice(origin.clone()));
        }
    }
    check_projects(&projects, &logs)?;
    let first = logs.iter().filter_map(|log| log.collected.first).min().unwrap_or_default();
    let newest = logs.iter().map(|log| log.collected.newest()).max().unwrap_or_default();
    let window = Window {
        from: if from.is_some() { begins } else { first },
        // What the newest record shows has a millisecond, so that it counts like every other reading.
        to: ends.min(newest.after(1)),
        sample: request.sample,
        seed: request.seed,
    };
    if window.to <= window.from || window.to <= first {
        return Err(ReportError::NoRecord { first: first.day(), newest: newest.day() });
    }
    let period = Period {
        from: window.from.day(),
        to: to.unwrap_or(newest.day()).min(newest.day()),
        cut: to.filter(|to| *to > newest.day()),
        begins_at: window.from,
        ends_at: window.to,
    };
    let verified = logs.iter().flat_map(|log| &log.verifications).all(Verification::is_consistent);
    let observers: Vec<_> = logs.into_iter().map(|log| observer::observer(log, window)).collect();
    let combined = if observers.len() > 1 { combine::combine(&observers) } else { Vec::new() };
    let anchors = request.anchors.len();
    Ok(Report {
        simulated: observers.iter().any(|observer| observer.simulated),
        version: VERSION,
        as_of: newest,
        verified,
        period,
        parameters: Parameters { from, to, projects, sample: request.sample, seed: request.seed, anchors },
        totals: combine::totals(&observers, &combined),
        observers,
        combined,
    })
}

/// Every project that was asked for is in a log.
fn check_projects(projects: &[String], logs: &[ReadLog<'_>]) -> Result<(), ReportError> {
    let is_known = |name: &str| logs.iter().any(|log| log.collected.names.contains(name));
    let Some(unknown) = projects.iter().find(|name| !is_known(name)) else { return Ok(()) };
    let mut known: Vec<&str> = logs.iter().flat_map(|log| log.collected.names.iter().map(|name| &**name)).collect();
    known.sort_unstable();
    known.dedup();
    Err(ReportError::UnknownProject { name: unknown.clone(), known: known.join(", ") })
}
