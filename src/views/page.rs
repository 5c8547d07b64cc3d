//! The status page: the state of every project and key for people, at `/`, and of one key at `/keys/PROJECT/KEY_ID`.
//!
//! Each is one HTML document without external resources, made from the templates in `page/`. The server filters, sorts,
//! groups and cuts the keys into pages of 200; links and a form say which. A small script sends the form while its user
//! types, and fetches the page again from time to time, which costs no more than a few bytes if nothing has changed.
//!
//! Templates call functions with references to their arguments, so that `*` stands before a value that is copied.

mod key_page;
mod projects;
mod rows;
mod selection;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use askama::Template;
use askama::filters::{Escaper, Safe};

pub(crate) use key_page::key_page;
use projects::{ProjectRow, Projects, projects};
use selection::{Selection, select};

use super::escape::Html;
use super::query::{Group, PageQuery, Sort};
use super::snapshot::Snapshot;
use super::wording::{self, PROBLEMS_FIRST};
use crate::rotation::decide::Status;
use crate::rotation::report::{ProjectReport, Report, Tally};
use crate::support::version::VERSION;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// What the page may load and run: its own style and script, named by their hash, and fresh copies of itself.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
    style-src 'sha256-8S4GCnkNn+AF/v+GNvbLphajCzFTf+lV9LxBTxaNUpE='; \
    script-src 'sha256-dfQrsjHB9W/QzqnLW8pdzdvq57nwi0snM5RBHYe4I5A='; \
    img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The most selectors without a key that have a notice.
const IDLE_SHOWN: usize = 5;

/// The page with the projects and keys of this snapshot that the query asks for.
pub(crate) fn status_page(snapshot: &Snapshot, query: &PageQuery) -> Vec<u8> {
    let shown = Shown::of(snapshot);
    let mut page = Vec::with_capacity(256 * 1024);
    let selection = shown.as_ref().map(|shown| select(&shown.report, query));
    append(&StatusPage::new(snapshot, query, shown.as_ref(), selection.as_ref()), &mut page);
    page
}

/// Writes a template with the line break at its end, which askama drops.
fn append(template: &impl Template, page: &mut Vec<u8>) {
    // Neither a template here nor writing to a `Vec` fails.
    let _ = Template::write_into(template, page);
    page.push(b'\n');
}

/// The report that is shown: of the last run, or, before the first one has ended, of what that has read so far.
struct Shown<'s> {
    report: Cow<'s, Report>,
    /// By project.
    tallies: Vec<Tally>,
    is_preview: bool,
}

impl<'s> Shown<'s> {
    fn of(snapshot: &'s Snapshot) -> Option<Self> {
        if let Some(report) = &snapshot.report {
            let tallies = report.projects.iter().map(ProjectReport::tally).collect();
            return Some(Self { report: Cow::Borrowed(report), tallies, is_preview: false });
        }
        let run = snapshot.run.as_ref().filter(|run| !run.projects.is_empty())?;
        let (reports, tallies) = run.projects.iter().map(|project| (project.report.clone(), project.tally)).unzip();
        let report = Report {
            trigger: run.trigger,
            started: run.started,
            ended: run.started,
            took: Duration::ZERO,
            interrupted: false,
            standby: false,
            max_changes: 0,
            only: None,
            projects: reports,
        };
        Some(Self { report: Cow::Owned(report), tallies, is_preview: true })
    }

    fn projects(&self) -> impl Iterator<Item = (&ProjectReport, Tally)> {
        self.report.projects.iter().zip(self.tallies.iter().copied())
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "views/page/status.html")]
struct StatusPage<'a> {
    snapshot: &'a Snapshot,
    query: &'a PageQuery,
    /// The report of the last run.
    report: Option<&'a Report>,
    projects: Projects<'a>,
    /// Number of projects that the query asks for.
    project_count: usize,
    /// Of the projects that the query asks for.
    tally: Tally,
    headline: String,
    selection: Option<&'a Selection<'a>>,
    /// The first run is under way, and only its first keys are shown.
    is_preview: bool,
}

impl<'a> StatusPage<'a> {
    fn new(
        snapshot: &'a Snapshot,
        query: &'a PageQuery,
        shown: Option<&'a Shown<'a>>,
        selection: Option<&'a Selection<'a>>,
    ) -> Self {
        let all = || shown.into_iter().flat_map(Shown::projects);
        let whole: Tally = all().map(|(_, tally)| tally).sum();
        let headline = match (&snapshot.report, &snapshot.run) {
            (Some(_), _) => wording::headline(&whole).to_string(),
            (None, Some(run)) => wording::first_run(run),
            (None, None) => "waiting for the first run".to_owned(),
        };
        let of_query = || all().filter(|(project, _)| query.shows_project(project));
        Self {
            snapshot,
            query,
            report: snapshot.report.as_deref(),
            projects: projects(of_query(), &snapshot.calls, query),
            project_count: of_query().count(),
            tally: of_query().map(|(_, tally)| tally).sum(),
            headline,
            selection,
            is_preview: shown.is_some_and(|shown| shown.is_preview),
        }
    }

    /// The projects of which not every key is known.
    fn unlisted(&self) -> Vec<&'a ProjectReport> {
        self.report.into_iter().flat_map(|report| &report.projects).filter(|project| !project.listed).collect()
    }

    /// Projects and lines of selectors that match no key.
    fn idle(&self) -> impl Iterator<Item = (&'a str, u32)> {
        let projects = self.report.into_iter().flat_map(|report| &report.projects);
        projects.flat_map(|project| project.idle_entries.iter().map(|line| (&*project.name, *line)))
    }

    /// The links that filter by status: all keys, then the statuses that occur.
    fn links(&self) -> impl Iterator<Item = FilterLink> {
        let all = self.link(None, self.tally.total(), "all");
        let occurs = |status: &Status| {
            self.tally.of(*status) > 0 || self.query.status == Some(*status) || *status == Status::Compliant
        };
        let statuses = PROBLEMS_FIRST.into_iter().filter(occurs);
        let links = statuses.map(|status| self.link(Some(status), self.tally.of(status), wording::status(status)));
        std::iter::once(all).chain(links)
    }

    fn link(&self, status: Option<Status>, keys: usize, text: &'static str) -> FilterLink {
        let class = status.map(Status::as_str).unwrap_or_default();
        let address = self.query.with_status(status).address();
        FilterLink { address, class, is_current: self.query.status == status, keys, text }
    }

    /// The columns of the table of keys that can be sorted.
    fn columns() -> impl Iterator<Item = Column> {
        let column = |(sort, class, text)| Column { sort, class, text };
        let columns = [
            (Some(Sort::Status), "c-status", "Status"),
            (Some(Sort::Name), "c-key", "Key"),
            (Some(Sort::Project), "c-project", "Project"),
            (None, "", "Reason and what to do"),
            (Some(Sort::Interval), "c-interval", "Interval"),
            (Some(Sort::Rotated), "c-rotated", "Last rotated"),
            (Some(Sort::Due), "c-due", "Due"),
            (Some(Sort::Observed), "c-observed", "Observed"),
        ];
        columns.into_iter().map(column)
    }

    /// The value of `aria-sort` of a column, if the keys are sorted by it.
    fn order_of(&self, sort: Sort) -> Option<&'static str> {
        let order = if self.query.descending { "descending" } else { "ascending" };
        (self.query.sort == sort).then_some(order)
    }

    fn is_empty(&self) -> bool {
        self.selection.is_none_or(|selection| selection.total == 0)
    }

    /// Why the table has no row.
    fn why_empty(&self) -> &'static str {
        match (self.report, &self.snapshot.run) {
            (None, Some(_)) => "No key is read yet.",
            (None, None) => "No run has ended yet.",
            (Some(report), _) if report.keys().next().is_none() => {
                "No keys: the policy lists none, and the projects have none."
            }
            (Some(_), _) => "No keys match.",
        }
    }
}

/// A link that shows the keys with one status, or all keys.
struct FilterLink {
    address: String,
    class: &'static str,
    is_current: bool,
    keys: usize,
    text: &'static str,
}

/// A column of the table of keys.
struct Column {
    /// Its order, if it has one.
    sort: Option<Sort>,
    class: &'static str,
    text: &'static str,
}

/// The bar with the share of each status.
#[derive(Template)]
#[template(path = "views/page/bar.html")]
struct Bar {
    total: usize,
    shares: Vec<Share>,
}

struct Share {
    status: Status,
    from: usize,
    width: usize,
}

/// Problems are last, at the right.
fn bar(tally: &Tally) -> Safe<Bar> {
    let mut end = 0;
    let mut shares = Vec::new();
    for status in PROBLEMS_FIRST.into_iter().rev().filter(|status| tally.of(*status) > 0) {
        let width = tally.of(status);
        shares.push(Share { status, from: end, width });
        end += width;
    }
    Safe(Bar { total: end, shares })
}

/// Text in which commands and fields are in backquotes.
fn prose(text: &str) -> Safe<String> {
    let mut html = String::with_capacity(text.len() + 64);
    for (at, part) in text.split('`').enumerate() {
        let [begin, end] = if at % 2 == 1 { ["<code>", "</code>"] } else { [""; 2] };
        html.push_str(begin);
        // Writing to a `String` does not fail.
        let _ = Html.write_escaped_str(&mut html, part);
        html.push_str(end);
    }
    Safe(html)
}

/// A time to the minute for people, exact for machines.
#[derive(Template)]
#[template(path = "views/page/minute.html")]
struct Minute {
    at: SystemTime,
}

/// The function that templates call; they pass references.
fn minute(at: &SystemTime) -> Safe<Minute> {
    Safe(Minute { at: *at })
}

/// A time in a narrow column: the day, and the time of day below it; a dash if there is none.
#[derive(Template)]
#[template(path = "views/page/day_and_time.html")]
struct DayAndTime {
    at: Option<SystemTime>,
}

fn day_and_time(at: Option<SystemTime>) -> Safe<DayAndTime> {
    Safe(DayAndTime { at })
}

/// The address of the page of one project.
fn project_address(query: &PageQuery, row: &ProjectRow<'_>) -> String {
    query.with_project(&row.project.name).address()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A browser refuses a style or a script whose hash the policy does not name.
    #[test]
    fn the_security_policy_names_style_and_script() {
        for (source, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
            let wanted = format!("{source} 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
            assert!(CONTENT_SECURITY_POLICY.contains(&wanted), "the policy must say {wanted}");
        }
    }
}
