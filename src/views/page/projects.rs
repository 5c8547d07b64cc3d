//! The projects of the page: how each is reached and how its keys are, and what is wrong with more than one of them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::rotation::decide::Status;
use crate::rotation::project::{Coverage, Proof};
use crate::rotation::report::{ProjectReport, Tally};
use crate::views::query::PageQuery;
use crate::views::snapshot::CallCounts;
use crate::views::wording::{self, PROBLEMS_FIRST};

/// The most projects that are shown unless all are asked for.
const SHOWN: usize = 20;
/// The most projects that a notice names.
const NAMED: usize = 5;

/// One project's row.
pub(super) struct ProjectRow<'r> {
    pub(super) project: &'r ProjectReport,
    pub(super) tally: Tally,
    calls: Option<&'r CallCounts>,
    /// How many other projects have the same error.
    pub(super) shares_error_with: usize,
}

impl ProjectRow<'_> {
    /// The statuses that occur, problems first, with the number of keys.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Status, usize)> {
        PROBLEMS_FIRST.into_iter().map(|status| (status, self.tally.of(status))).filter(|(_, keys)| *keys > 0)
    }

    /// What differs from a usual project.
    pub(super) fn marks(&self) -> impl Iterator<Item = &'static str> {
        let coverage = (self.project.coverage == Coverage::Required).then_some("coverage required");
        let proof = (self.project.proof == Proof::Required).then_some("proof required");
        coverage.into_iter().chain(proof)
    }

    /// When the credentials in use expire.
    pub(super) fn expiry(&self) -> Option<SystemTime> {
        self.calls.and_then(|calls| calls.credentials_expiry)
    }

    /// Requests since the start, and those among them that were sent again.
    pub(super) fn requests(&self) -> Option<(u64, u64)> {
        self.calls.map(|calls| (calls.requests, calls.retries))
    }

    fn is_ill(&self) -> bool {
        self.project.failure.is_some()
    }

    fn problems(&self) -> usize {
        let is_problem = |status: &Status| self.project.coverage.is_problem(*status);
        Status::ALL.iter().filter(|status| is_problem(status)).map(|status| self.tally.of(*status)).sum()
    }
}

/// An error that several projects have.
pub(super) struct SharedError<'r> {
    pub(super) text: &'r str,
    pub(super) projects: usize,
    pub(super) names: String,
}

/// The projects of a page.
pub(super) struct Projects<'r> {
    pub(super) rows: Vec<ProjectRow<'r>>,
    /// Projects that are not shown.
    pub(super) hidden: usize,
    pub(super) shared_errors: Vec<SharedError<'r>>,
}

/// The rows of these projects: those with errors first, then those with the most problems, if not all are shown.
pub(super) fn projects<'r>(
    all: impl Iterator<Item = (&'r ProjectReport, Tally)>,
    calls: &'r [CallCounts],
    query: &PageQuery,
) -> Projects<'r> {
    let calls: BTreeMap<&str, &CallCounts> = calls.iter().map(|calls| (&*calls.project, calls)).collect();
    let row = |(project, tally): (&'r ProjectReport, Tally)| ProjectRow {
        project,
        tally,
        calls: calls.get(&*project.name).copied(),
        shares_error_with: 0,
    };
    let mut rows: Vec<_> = all.map(row).collect();
    let mut by_cause: BTreeMap<&str, Vec<&ProjectReport>> = BTreeMap::new();
    for row in &rows {
        if let Some(failure) = &row.project.failure {
            by_cause.entry(cause(failure)).or_default().push(row.project);
        }
    }
    for row in &mut rows {
        let failure = row.project.failure.as_deref();
        row.shares_error_with = failure.and_then(|failure| by_cause.get(cause(failure))).map_or(0, |all| all.len() - 1);
    }
    let mut shared_errors: Vec<_> =
        by_cause.values().filter(|all| all.len() > 1).filter_map(|all| shared(all)).collect();
    shared_errors.sort_by_key(|error| std::cmp::Reverse(error.projects));
    if rows.len() > SHOWN && !query.all_projects {
        rows.sort_by_key(|row| std::cmp::Reverse((row.is_ill(), row.problems())));
    }
    let shown = if query.all_projects { usize::MAX } else { SHOWN };
    let hidden = rows.len().saturating_sub(shown);
    rows.truncate(shown);
    Projects { rows, hidden, shared_errors }
}

fn shared<'r>(projects: &[&'r ProjectReport]) -> Option<SharedError<'r>> {
    let text = cause(projects.first()?.failure.as_deref()?);
    let mut names: Vec<_> = projects.iter().take(NAMED).map(|project| project.name.to_string()).collect();
    if projects.len() > NAMED {
        names.push(format!("{} more", projects.len() - NAMED));
    }
    Some(SharedError { text, projects: projects.len(), names: names.join(", ") })
}

/// The error without the cloud's id of the request, which differs from request to request.
fn cause(failure: &str) -> &str {
    failure.split_once(" (request ").map_or(failure, |(cause, _)| cause)
}

/// A number of requests, and how many of them were sent again.
pub(super) fn requests((requests, retries): (u64, u64)) -> String {
    let count =
        |number: u64, one, many| wording::count(usize::try_from(number).unwrap_or(usize::MAX), one, many).to_string();
    match retries {
        0 => count(requests, "request", "requests"),
        _ => format!("{}, {retries} of them sent again", count(requests, "request", "requests")),
    }
}
