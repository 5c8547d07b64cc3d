//! The status page: the state of every key for people, at `/`.
//!
//! One HTML document without outside parts. Filters are links and a form, which the server understands; a small script
//! does the same without a round trip and fetches fresh rows now and then. Problems come first. Streamed row by row
//! from the last report.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::SystemTime;

use super::document::{Document, KeyCursor};
use super::filter::Filter;
use super::snapshot::Snapshot;
use super::wording::{self, PROBLEMS_FIRST};
use crate::rotation::assignment::Subject;
use crate::rotation::decide::Status;
use crate::rotation::key::Rotation;
use crate::rotation::report::{KeyReport, ProjectReport, Report, Tally};
use crate::support::printable::{REPLACEMENT, is_unprintable};
use crate::support::version::VERSION;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// What the page may load and run: its own style and script, known by their hash, and fresh copies of itself.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
    style-src 'sha256-1BRsHTXmy9XHTyDbRZQZzX1s6Smo/GpSEdns8jHkfrg='; \
    script-src 'sha256-r3CjJ/oi/c+tU6iRiso1Rd8Y+uZ4JKjZMuHUcYcOQ94='; \
    img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The page over the last report.
pub(crate) struct Page {
    report: Option<Arc<Report>>,
    filter: Filter,
    /// How many rows the filter leaves.
    shown: usize,
    part: Part,
}

/// What comes next.
enum Part {
    /// This text.
    Head(String),
    /// The next key of the status with this place in [`PROBLEMS_FIRST`].
    Rows(usize, KeyCursor),
    /// What follows the table.
    Tail,
    /// Nothing.
    End,
}

impl Page {
    /// The page as of now.
    pub(crate) fn new(snapshot: &Snapshot, filter: Filter) -> Self {
        let report = snapshot.report.clone();
        let all = report.iter().flat_map(|report| report.keys());
        let shown = all.filter(|(project, key)| filter.shows(project, key)).count();
        let mut head = String::with_capacity(16 * 1024);
        // Writing to a `String` does not fail.
        let _ = write_head(&mut head, snapshot, &filter, shown);
        Self { report, filter, shown, part: Part::Head(head) }
    }
}

impl Document for Page {
    fn next_part(&mut self, piece: &mut Vec<u8>) -> bool {
        let mut row = String::new();
        self.part = match std::mem::replace(&mut self.part, Part::End) {
            Part::End => return false,
            Part::Head(head) => {
                piece.extend_from_slice(head.as_bytes());
                Part::Rows(0, KeyCursor::default())
            }
            Part::Rows(rank, mut cursor) => match (&self.report, PROBLEMS_FIRST.get(rank)) {
                (Some(report), Some(status)) => match cursor.next(report) {
                    Some((project, key)) => {
                        if key.status == *status && self.filter.shows(project, key) {
                            let _ = write_row(&mut row, project, key);
                        }
                        Part::Rows(rank, cursor)
                    }
                    None => Part::Rows(rank + 1, KeyCursor::default()),
                },
                _ => Part::Tail,
            },
            Part::Tail => {
                let none = match &self.report {
                    None => "No run has ended yet.",
                    Some(report) if report.tally().total() == 0 => {
                        "The policy names no key, and the projects have none."
                    }
                    Some(_) => "No key fits the filter.",
                };
                let hidden = if self.shown > 0 { " hidden" } else { "" };
                let _ = write!(
                    row,
                    "</tbody></table>\n<p id=\"none\"{hidden}>{none}</p></main>\n{FOOTER}<script>{SCRIPT}</script>\n\
                     </body></html>\n"
                );
                Part::End
            }
        };
        piece.extend_from_slice(row.as_bytes());
        true
    }
}

const FOOTER: &str = "<footer>The same as <a href=\"/api/v1/status\">JSON</a> and as \
    <a href=\"/metrics\">metrics</a>.</footer>\n";

fn write_head(out: &mut String, snapshot: &Snapshot, filter: &Filter, shown: usize) -> fmt::Result {
    let report = snapshot.report.as_deref();
    let tally = report.map(Report::tally).unwrap_or_default();
    let headline = match report {
        Some(_) => wording::headline(&tally).to_string(),
        None => "Waiting for the first run".to_owned(),
    };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"30\"></noscript>\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{headline} · kms-rotationd</title>\n\
         <style>{STYLE}</style></head><body>\n\
         <header id=\"summary\"><p class=\"product\">kms-rotationd {VERSION}</p>\n<h1>{headline}</h1>\n"
    )?;
    write_runs(out, snapshot)?;
    write_notices(out, snapshot)?;
    write_bar(out, &tally)?;
    out.push_str(
        "</header>\n<p id=\"lost\" class=\"notice\" role=\"status\" hidden>\
         The daemon does not answer. This is what it said last.</p>\n",
    );
    out.push_str("<main><div class=\"controls\"><nav id=\"statuses\" aria-label=\"Keys by status\">");
    write_filter_link(out, filter, None, tally.total(), "all")?;
    for status in PROBLEMS_FIRST {
        if tally.of(status) > 0 || filter.status == Some(status) || status == Status::Compliant {
            write_filter_link(out, filter, Some(status), tally.of(status), wording::status(status))?;
        }
    }
    out.push_str("</nav>\n<form method=\"get\" action=\"/\" role=\"search\">");
    if let Some(status) = filter.status {
        write!(out, "<input type=\"hidden\" name=\"status\" value=\"{status}\">")?;
    }
    writeln!(
        out,
        "<input id=\"q\" type=\"search\" name=\"q\" value=\"{}\" placeholder=\"Key, project or reason\" \
         aria-label=\"Show keys that contain\" autocomplete=\"off\"><button>Filter</button></form></div>",
        Escaped(&filter.text)
    )?;
    let total = wording::count(tally.total(), "key", "keys");
    write!(
        out,
        "<table id=\"keys\"><caption id=\"caption\" aria-live=\"polite\"><span id=\"shown\">{shown}</span> of {total}, problems first; times are UTC\
         </caption>\n<thead><tr><th scope=\"col\" class=\"c-status\">Status</th><th scope=\"col\" class=\"c-key\">Key\
         </th><th scope=\"col\" class=\"c-project\">Project</th><th scope=\"col\">Details</th>\
         <th scope=\"col\" class=\"c-interval\">Interval</th><th scope=\"col\" class=\"c-rotated\">Last rotated</th>\
         <th scope=\"col\" class=\"c-observed\">Observed</th></tr></thead>\n<tbody id=\"rows\">\n"
    )
}

fn write_runs(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    out.push_str("<p class=\"runs\">");
    if let Some(report) = &snapshot.report {
        let changes = wording::count(report.changes(), "change", "changes");
        let took = wording::took(report.took);
        write!(
            out,
            "Last run {}<span id=\"age\"></span> ({}, {took}, {changes})",
            Moment(report.ended),
            report.trigger.as_str()
        )?;
    } else {
        out.push_str("No run has ended yet");
    }
    if let Some(at) = snapshot.next_run {
        write!(out, " · next {}", Moment(at))?;
    }
    if let Some(policy) = &snapshot.policy {
        let file = policy.file.to_string_lossy();
        write!(out, " · policy <code>{}</code> loaded {}", Escaped(&file), Moment(policy.at))?;
    }
    out.push_str("</p>\n");
    Ok(())
}

/// What is wrong with more than a key.
fn write_notices(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    if let Some(error) = &snapshot.reload_error {
        let text = "The policy file was refused, the one before stays in force:";
        writeln!(out, "<p class=\"notice\">{text} {}</p>", Escaped(&error.message))?;
    }
    if !snapshot.acting {
        out.push_str("<p class=\"notice mild\">Standing by: another replica acts, this one only looks.</p>\n");
    }
    let Some(run) = &snapshot.report else { return Ok(()) };
    if run.interrupted {
        out.push_str("<p class=\"notice\">The last run was stopped before it had looked at every key.</p>\n");
    }
    if run.held_back() > 0 {
        let [what, remedy] = wording::held_back(run.held_back());
        writeln!(out, "<p class=\"notice mild\">{what} {remedy}</p>")?;
    }
    for project in &run.projects {
        let name = Escaped(&project.name);
        if let Some(failure) = &project.failure {
            writeln!(out, "<p class=\"notice\">{name}: {}</p>", Escaped(failure))?;
        }
        for line in &project.idle_entries {
            writeln!(out, "<p class=\"notice mild\">{name}: {}: {}</p>", wording::place(*line), wording::IDLE_ENTRY)?;
        }
    }
    let mut unlisted = run.projects.iter().filter(|project| !project.listed);
    if let Some(first) = unlisted.next() {
        write!(out, "<p class=\"notice mild\">{}", Escaped(&first.name))?;
        for project in unlisted {
            write!(out, ", {}", Escaped(&project.name))?;
        }
        writeln!(out, ": {}</p>", wording::COVERAGE_NOT_KNOWN)?;
    }
    Ok(())
}

/// The share of each status. Says nothing that the numbers do not say, so it is hidden from readers of the text.
fn write_bar(out: &mut String, tally: &Tally) -> fmt::Result {
    let total = tally.total();
    if total == 0 {
        return Ok(());
    }
    write!(out, "<svg class=\"bar\" viewBox=\"0 0 {total} 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">")?;
    let mut left = 0;
    for status in PROBLEMS_FIRST.into_iter().rev().filter(|status| tally.of(*status) > 0) {
        let width = tally.of(status);
        write!(out, "<rect class=\"{status}\" x=\"{left}\" width=\"{width}\" height=\"1\"/>")?;
        left += width;
    }
    out.push_str("</svg>\n");
    Ok(())
}

/// A link that shows the keys of one status, or all.
fn write_filter_link(out: &mut String, filter: &Filter, to: Option<Status>, count: usize, name: &str) -> fmt::Result {
    let class = to.map(Status::as_str).unwrap_or_default();
    let query = filter.query_for(to);
    let current = if filter.status == to { " aria-current=\"true\"" } else { "" };
    write!(
        out,
        "<a href=\"/{}\" class=\"{class}\" data-status=\"{class}\"{current}><b>{count}</b> {name}</a>",
        Escaped(&query)
    )
}

fn write_row(out: &mut String, project: &ProjectReport, key: &KeyReport) -> fmt::Result {
    let status = key.status;
    write!(
        out,
        "<tr data-status=\"{status}\"><td><span class=\"badge {status}\">{} {}</span></td><td class=\"key\">",
        wording::sign(status),
        wording::status(status)
    )?;
    // An entry that stands for its key is called by its name already.
    if let (Subject::Key(_), Some(alias)) = (&key.subject, &key.alias) {
        write!(out, "<b>{}</b>", Escaped(alias))?;
    }
    write!(out, "<code>{}</code></td><td>{}</td><td>", Escaped(key.subject.as_str()), Escaped(&project.name))?;
    if !key.reasons.is_empty() {
        write!(out, "<p>{}</p>", Escaped(&wording::why(key).to_string()))?;
    }
    if let Some(error) = key.error() {
        write!(out, "<p class=\"more\">{}</p>", Escaped(error))?;
    }
    for change in &key.changes {
        write!(out, "<p class=\"more\">{} {}</p>", wording::taken(change.step), Moment(change.at))?;
    }
    let mut lead = "<p class=\"more\">would ";
    for step in key.planned.iter() {
        write!(out, "{lead}{step}")?;
        lead = ", ";
    }
    if !key.planned.is_empty() {
        out.push_str("</p>");
    }
    if let Some(line) = key.entry_line {
        write!(out, "<p class=\"more\">{}</p>", wording::place(line))?;
    }
    out.push_str("</td><td data-label=\"Interval\">");
    write_interval(out, key)?;
    out.push_str("</td><td data-label=\"Last rotated\">");
    write_moment(out, key.rotation.and_then(|rotation| rotation.last_rotated))?;
    out.push_str("</td><td class=\"observed\" data-label=\"Observed\">");
    write_moment(out, key.observed)?;
    out.push_str("</td></tr>\n");
    Ok(())
}

/// The interval, and the policy's below it where it is another and the key could be brought to it.
fn write_interval(out: &mut String, key: &KeyReport) -> fmt::Result {
    match key.rotation {
        Some(rotation) if !rotation.enabled => out.push_str("off"),
        Some(Rotation { interval_days: Some(days), .. }) => {
            write!(out, "{days} days")?;
            if key.desired.is_none_or(|desired| desired.accepts(days)) {
                return Ok(());
            }
        }
        _ => {
            let asked =
                matches!(key.subject, Subject::Key(_)) && matches!(key.status, Status::NonCompliant | Status::Unknown);
            out.push_str(if asked { "<span class=\"none\">unknown</span>" } else { "<span class=\"none\">–</span>" });
        }
    }
    match key.desired {
        Some(desired) if key.status != Status::Exempt => {
            write!(out, "<p class=\"more\">policy: {}</p>", wording::wanted(desired))
        }
        _ => Ok(()),
    }
}

fn write_moment(out: &mut String, at: Option<SystemTime>) -> fmt::Result {
    match at {
        Some(at) => {
            let [date, time] = wording::date_and_time(at);
            write!(out, "<time datetime=\"{}\">{date} <span>{time}</span></time>", wording::rfc3339(at))
        }
        None => write!(out, "<span class=\"none\">–</span>"),
    }
}

/// A time to the minute; exact for machines.
struct Moment(SystemTime);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<time datetime=\"{}\">{}</time>", wording::rfc3339(self.0), wording::minute(self.0))
    }
}

/// Text in HTML, between tags and in quoted attributes. What would turn the direction of writing, beyond its own end
/// too, or not be seen is replaced.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stays = |c| !matches!(c, '&' | '<' | '>' | '"' | '\'') && !is_unprintable(c);
        let mut rest = self.0;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| !stays(*c)) {
            f.write_str(&rest[..at])?;
            match c {
                '&' => f.write_str("&amp;"),
                '<' => f.write_str("&lt;"),
                '>' => f.write_str("&gt;"),
                '"' => f.write_str("&quot;"),
                '\'' => f.write_str("&#39;"),
                _ => f.write_char(REPLACEMENT),
            }?;
            rest = &rest[at + c.len_utf8()..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(Escaped("a<b>&\"'ü").to_string(), "a&lt;b&gt;&amp;&quot;&#39;ü");
        assert_eq!(Escaped("a\u{202e}b\u{2066}").to_string(), "a\u{fffd}b\u{fffd}");
    }

    /// A browser refuses a style or a script that does not have the hash which the policy names.
    #[test]
    fn the_security_policy_names_style_and_script() {
        for (source, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
            let wanted = format!("{source} 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
            assert!(CONTENT_SECURITY_POLICY.contains(&wanted), "the policy must say {wanted}");
        }
    }
}
