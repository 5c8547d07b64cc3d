//! The report of `apply` and `plan` for a terminal: a table by project, then one line that sums up.
//!
//! Text of the cloud (names, errors) is printed without its control characters, so that a key's name cannot move the
//! cursor. Whether to colour is the caller's choice, who knows the terminal.

use std::fmt::Write as _;
use std::io;

use super::words;
use crate::rotation::decide::Status;
use crate::rotation::key::{Bound, KeyId, Rotation};
use crate::rotation::report::{KeyReport, ProjectReport, Report};

/// What the report is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Tell what was done.
    Applied,
    /// Tell what a run would do.
    Planned,
}

/// Widest name that still gets a column of its own; a longer one pushes its row's rest to the right.
const ALIAS_WIDTH: usize = 32;
/// The widest status: `off policy`.
const STATUS_WIDTH: usize = 10;
/// The widest interval: `365 d → 365 d`.
const INTERVAL_WIDTH: usize = 13;

/// Writes a report.
///
/// # Errors
/// Those of `out`.
pub fn write_text(report: &Report, purpose: Purpose, colour: bool, out: &mut dyn io::Write) -> io::Result<()> {
    let mut row = String::new();
    for project in &report.projects {
        let ProjectReport { name, cloud, region, mode, .. } = project;
        let bold = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        writeln!(out, "{}{name}{}  {} {region}, {}", bold.0, bold.1, cloud.as_str(), mode.as_str())?;
        if let Some(failure) = &project.failure {
            writeln!(out, "  {}", printable(failure))?;
        }
        let aliases = project.keys.iter().map(|key| printable(alias(key)).chars().count());
        let alias_width = aliases.max().unwrap_or_default().min(ALIAS_WIDTH);
        for key in &project.keys {
            row.clear();
            write_row(&mut row, key, alias_width, colour);
            writeln!(out, "{}", row.trim_end())?;
            if let Some(error) = &key.error {
                writeln!(out, "  {:1$}  {2}", "", KeyId::LENGTH, printable(error))?;
            }
        }
        writeln!(out)?;
    }
    writeln!(out, "{}", summary(report, purpose))
}

fn alias(key: &KeyReport) -> &str {
    key.alias.as_deref().unwrap_or_default()
}

/// One key. Writing to a `String` does not fail.
fn write_row(row: &mut String, key: &KeyReport, alias_width: usize, colour: bool) {
    let _ = write!(row, "  {}  ", key.subject);
    if alias_width > 0 {
        let _ = write!(row, "{:alias_width$}  ", printable(alias(key)));
    }
    let (on, off) = if colour { (status_colour(key.status), "\x1b[0m") } else { ("", "") };
    let _ = write!(row, "{on}{:STATUS_WIDTH$}{off}  {:INTERVAL_WIDTH$}  ", words::status(key.status), interval(key));
    let mut separator = "";
    if !key.reasons.is_empty() {
        let _ = write!(row, "{}", words::reasons(key.reasons));
        separator = "; ";
    }
    for change in &key.changes {
        let _ = write!(row, "{separator}{}", words::taken(change.step));
        separator = "; ";
    }
    let mut would = "would ";
    for step in key.planned.iter() {
        let _ = write!(row, "{separator}{would}{step}");
        (separator, would) = (", ", "");
    }
}

/// The interval, and the policy's where it is another and the key could be brought to it.
fn interval(key: &KeyReport) -> String {
    let actual = match key.rotation {
        Some(rotation) if !rotation.enabled => "off".to_owned(),
        Some(Rotation { interval_days: Some(days), .. }) => format!("{days} d"),
        _ => "?".to_owned(),
    };
    match key.desired {
        Some(desired) if !matches!(key.status, Status::Compliant | Status::Exempt) => {
            let most = if desired.bound == Bound::Longest { "≤ " } else { "" };
            format!("{actual} → {most}{} d", desired.interval.days())
        }
        _ => actual,
    }
}

fn summary(report: &Report, purpose: Purpose) -> String {
    let mut line = words::headline(&report.tally()).to_string();
    let done = match purpose {
        Purpose::Applied => {
            format!(". {} made in {}", words::count(report.changes(), "change", "changes"), words::took(report.took))
        }
        Purpose::Planned => match report.planned().count() {
            0 => ". A run would change nothing".to_owned(),
            keys => {
                let keys = words::count(keys, "key", "keys");
                let writes = words::count(report.planned().map(|steps| steps.iter().count()).sum(), "write", "writes");
                format!(". A run would change {keys} with {writes}")
            }
        },
    };
    line.push_str(&done);
    line.push_str(if report.interrupted { "; it was stopped before it had looked at every key." } else { "." });
    line
}

fn status_colour(status: Status) -> &'static str {
    match status {
        Status::Compliant => "\x1b[32m",
        Status::NonCompliant => "\x1b[31m",
        Status::Unknown | Status::Uncovered => "\x1b[33m",
        Status::Exempt => "\x1b[2m",
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_the_cloud_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\r\nü\u{9b}"), "a\u{fffd}[31mb\u{fffd}\u{fffd}ü\u{fffd}");
    }
}
