//! The status page: the state of every key for people, at `/`.
//!
//! One HTML document without external resources, made from the templates in `page/`: `head.html`, a `key_row.html` for
//! each key, `foot.html`. Filters are links and a form that the server answers; a small script filters without a
//! request and fetches fresh rows from time to time. Problems come first. The page is sent row by row from the last
//! report.
//!
//! Templates call functions with references to their arguments, so that `*` stands before a value that is copied.

use std::sync::Arc;
use std::time::SystemTime;

use askama::Template;
use askama::filters::Safe;

use super::document::{Document, KeyCursor};
use super::filter::Filter;
use super::snapshot::Snapshot;
use super::wording::{self, PROBLEMS_FIRST};
use crate::rotation::assignment::Subject;
use crate::rotation::decide::Status;
use crate::rotation::key::{DesiredRotation, Rotation};
use crate::rotation::report::{KeyReport, ProjectReport, Report, Tally};
use crate::support::version::VERSION;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// What the page may load and run: its own style and script, named by their hash, and fresh copies of itself.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
    style-src 'sha256-TBLugmG/8sJmwrnl2w4F1kKqFQX99j2RcbhA5dmRmCw='; \
    script-src 'sha256-nKnYxA7QHaMbW3MpzLDTwSntoq5PgnkoaWnius6Ba8w='; \
    img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The page over the last report.
pub(crate) struct Page {
    report: Option<Arc<Report>>,
    filter: Filter,
    /// How many rows match the filter.
    shown: usize,
    part: Part,
}

/// The next part to write.
enum Part {
    /// What comes before the rows, already rendered: it needs the snapshot.
    Head(Vec<u8>),
    /// The next key with the status at this index of [`PROBLEMS_FIRST`].
    Rows(usize, KeyCursor),
    Foot,
    End,
}

impl Page {
    /// The page of this snapshot, with the keys that match the filter.
    pub(crate) fn new(snapshot: &Snapshot, filter: Filter) -> Self {
        let report = snapshot.report.clone();
        let all = report.iter().flat_map(|report| report.keys());
        let shown = all.filter(|(project, key)| filter.shows(project, key)).count();
        let mut head = Vec::with_capacity(16 * 1024);
        append(&Head::new(snapshot, &filter, shown), &mut head);
        Self { report, filter, shown, part: Part::Head(head) }
    }
}

impl Document for Page {
    fn next_part(&mut self, piece: &mut Vec<u8>) -> bool {
        self.part = match std::mem::replace(&mut self.part, Part::End) {
            Part::End => return false,
            Part::Head(head) => {
                piece.extend_from_slice(&head);
                Part::Rows(0, KeyCursor::default())
            }
            Part::Rows(rank, mut cursor) => match (&self.report, PROBLEMS_FIRST.get(rank)) {
                (Some(report), Some(status)) => match cursor.next(report) {
                    Some((project, key)) => {
                        if key.status == *status && self.filter.shows(project, key) {
                            append(&KeyRow { project, key }, piece);
                        }
                        Part::Rows(rank, cursor)
                    }
                    None => Part::Rows(rank + 1, KeyCursor::default()),
                },
                _ => Part::Foot,
            },
            Part::Foot => {
                append(&Foot { report: self.report.as_deref(), shown: self.shown }, piece);
                Part::End
            }
        };
        true
    }
}

/// Writes a template with the line break at its end, which askama drops.
fn append(template: &impl Template, piece: &mut Vec<u8>) {
    // Neither a template here nor writing to a `Vec` fails.
    let _ = Template::write_into(template, piece);
    piece.push(b'\n');
}

/// What comes before the rows.
#[derive(Template)]
#[template(path = "views/page/head.html")]
struct Head<'a> {
    snapshot: &'a Snapshot,
    report: Option<&'a Report>,
    filter: &'a Filter,
    tally: Tally,
    headline: String,
    shown: usize,
}

impl<'a> Head<'a> {
    fn new(snapshot: &'a Snapshot, filter: &'a Filter, shown: usize) -> Self {
        let report = snapshot.report.as_deref();
        let tally = report.map(Report::tally).unwrap_or_default();
        let headline = match report {
            Some(_) => wording::headline(&tally).to_string(),
            None => "Waiting for the first run".to_owned(),
        };
        Self { snapshot, report, filter, tally, headline, shown }
    }

    /// The projects of which not every key is known.
    fn unlisted(&self) -> impl Iterator<Item = &'a ProjectReport> {
        self.report.into_iter().flat_map(|report| &report.projects).filter(|project| !project.listed)
    }

    /// The parts of the bar, problems last.
    fn shares(&self) -> impl Iterator<Item = Share> {
        let shares = PROBLEMS_FIRST.into_iter().rev().map(|status| (status, self.tally.of(status)));
        shares.filter(|(_, width)| *width > 0).scan(0, |end, (status, width)| {
            let from = *end;
            *end += width;
            Some(Share { status, from, width })
        })
    }

    /// The links that filter by status: all keys, then the statuses that occur.
    fn links(&self) -> impl Iterator<Item = FilterLink> {
        let all = self.link(None, self.tally.total(), "all");
        let occurs = |status: &Status| {
            self.tally.of(*status) > 0 || self.filter.status == Some(*status) || *status == Status::Compliant
        };
        let statuses = PROBLEMS_FIRST.into_iter().filter(occurs);
        let links = statuses.map(|status| self.link(Some(status), self.tally.of(status), wording::status(status)));
        std::iter::once(all).chain(links)
    }

    fn link(&self, status: Option<Status>, keys: usize, text: &'static str) -> FilterLink {
        let class = status.map(Status::as_str).unwrap_or_default();
        FilterLink { query: self.filter.query_for(status), class, is_current: self.filter.status == status, keys, text }
    }
}

/// A part of the bar above the table.
struct Share {
    status: Status,
    from: usize,
    width: usize,
}

/// A link that shows the keys with one status, or all keys.
struct FilterLink {
    query: String,
    class: &'static str,
    is_current: bool,
    keys: usize,
    text: &'static str,
}

/// One key's row.
#[derive(Template)]
#[template(path = "views/page/key_row.html")]
struct KeyRow<'a> {
    project: &'a ProjectReport,
    key: &'a KeyReport,
}

/// What the interval's column shows first.
enum Interval {
    Off,
    Days(u32),
    Unknown,
    NotRead,
}

/// What the last rotation's column shows.
enum LastRotation {
    At(SystemTime),
    /// Never, and when the key was created, where that is known.
    Never(Option<SystemTime>),
    /// What the cloud shows makes no sense.
    Unknown,
    NotRead,
}

impl KeyRow<'_> {
    /// The key's name, unless the row already calls it so, as that of an entry without a key.
    fn alias(&self) -> Option<&str> {
        self.key.alias.as_deref().filter(|_| matches!(self.key.subject, Subject::Key(_)))
    }

    fn interval(&self) -> Interval {
        match self.key.rotation {
            Some(Rotation { enabled: false, .. }) => Interval::Off,
            Some(Rotation { interval_days: Some(days), .. }) => Interval::Days(days),
            None if !self.could_not_be_read() => Interval::NotRead,
            Some(Rotation { interval_days: None, .. }) | None => Interval::Unknown,
        }
    }

    /// Whether the key was to be read, unlike an exempt one.
    fn could_not_be_read(&self) -> bool {
        matches!(self.key.subject, Subject::Key(_)) && matches!(self.key.status, Status::NonCompliant | Status::Unknown)
    }

    /// The policy's interval, if the key's differs.
    fn wanted_interval(&self) -> Option<impl std::fmt::Display> {
        let accepts = |desired: &DesiredRotation| match self.interval() {
            Interval::Days(days) => desired.accepts(days),
            Interval::Off | Interval::Unknown | Interval::NotRead => self.key.status == Status::Exempt,
        };
        self.key.desired.filter(|desired| !accepts(desired)).map(wording::wanted)
    }

    fn last_rotation(&self) -> LastRotation {
        match (self.key.rotation, self.key.material_since) {
            (None, _) if !self.could_not_be_read() => LastRotation::NotRead,
            (Some(Rotation { last_rotated: Some(at), .. }), Some(_)) => LastRotation::At(at),
            (Some(Rotation { last_rotated: None, rotations: None | Some(0), .. }), _) => {
                LastRotation::Never(self.key.created)
            }
            _ => LastRotation::Unknown,
        }
    }
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

/// What follows the rows.
#[derive(Template)]
#[template(path = "views/page/foot.html")]
struct Foot<'a> {
    report: Option<&'a Report>,
    shown: usize,
}

impl Foot<'_> {
    /// Why the table has no row, if it has none.
    fn why_empty(&self) -> &'static str {
        match self.report {
            None => "No run has ended yet.",
            Some(report) if report.keys().next().is_none() => {
                "No keys: the policy lists none, and the projects have none."
            }
            Some(_) => "No keys match.",
        }
    }
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
