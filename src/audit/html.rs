//! The report as one HTML document, for people: on a screen, in light and dark, and on paper.
//!
//! It loads nothing and works without its script, which only filters rows. The templates in `html/` are `report.html`
//! for what is over all logs, and `log.html` for one log. Rows are made one by one while the document is written.
//!
//! Templates call functions with references to their arguments, so that `*` stands before a value that is copied.

use std::io::{self, BufWriter, Write};

use askama::Template;

use super::bar::{self, COLUMNS, Part, Span, Tick};
use super::model::{Combined, Departure, Gap, Key, Observer, Project, Report, Rotation, Verdict};
use super::time::{DAY, Time, length};
use super::{timeline, words};
use crate::views::wording;

const STYLE: &str = include_str!("html/report.css");
const SCRIPT: &str = include_str!("html/report.js");
/// The most rows of a table of events. The other formats have all of them.
const MAX_ROWS: usize = 10_000;

/// The order on the cover.
const VERDICTS: [Verdict; 4] = [Verdict::Met, Verdict::NotMet, Verdict::NotShown, Verdict::NotApplicable];

/// Writes the document.
///
/// # Errors
///
/// The destination cannot be written.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, out);
    let span = Span { from: report.period.begins_at, to: report.period.ends_at };
    Page { report, span }.write_into(&mut out)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The document.
#[derive(Template)]
#[template(path = "audit/html/report.html")]
struct Page<'a> {
    report: &'a Report,
    span: Span,
}

impl<'a> Page<'a> {
    fn title(&self) -> String {
        let period = &self.report.period;
        format!("Key rotation, {} to {}", period.from, period.to)
    }

    /// "6 of 8 keys met the policy; 1 not met; 1 not shown".
    fn headline(&self) -> String {
        let totals = &self.report.totals;
        let judged = totals.total() - totals.not_applicable;
        let mut text = format!("{} of {} met the rotation policy", totals.met, wording::count(judged, "key", "keys"));
        for verdict in [Verdict::NotMet, Verdict::NotShown, Verdict::NotApplicable] {
            if totals.of(verdict) > 0 {
                text = format!("{text}; {} {}", totals.of(verdict), words::verdict(verdict));
            }
        }
        text
    }

    /// The shares of the verdicts, for the bar on the cover.
    fn shares(&self) -> impl Iterator<Item = Part> {
        let totals = self.report.totals;
        let verdicts = VERDICTS.into_iter().map(move |verdict| (verdict, totals.of(verdict)));
        verdicts.filter(|(_, keys)| *keys > 0).scan(0, |end, (verdict, width)| {
            let x = *end;
            *end += width;
            Some(Part { class: verdict.as_str(), x, width })
        })
    }

    fn projects(&self) -> String {
        let observers = self.report.observers.iter();
        let mut names: Vec<&str> =
            observers.flat_map(|observer| observer.projects.iter().map(|project| &*project.name)).collect();
        names.sort_unstable();
        names.dedup();
        let all = if self.report.parameters.projects.is_empty() { "all projects of the log: " } else { "" };
        format!("{all}{}", names.join(", "))
    }

    fn has_several(&self) -> bool {
        self.report.observers.len() > 1
    }

    fn logs(&self) -> impl Iterator<Item = Log<'a>> {
        let (report, span, has_several) = (self.report, self.span, self.has_several());
        let log =
            move |(at, observer): (usize, &'a Observer)| Log { number: at + 1, report, observer, span, has_several };
        report.observers.iter().enumerate().map(log)
    }

    /// The keys over all logs, problems first.
    fn combined(&self) -> Vec<&'a Combined> {
        let mut keys: Vec<_> = self.report.combined.iter().collect();
        keys.sort_by_key(|key| key.verdict);
        keys
    }
}

/// One log.
#[derive(Template)]
#[template(path = "audit/html/log.html")]
struct Log<'a> {
    number: usize,
    report: &'a Report,
    observer: &'a Observer,
    span: Span,
    has_several: bool,
}

impl<'a> Log<'a> {
    /// The keys, problems first.
    fn keys(&self) -> Vec<&'a Key> {
        let mut keys: Vec<_> = self.observer.keys.iter().collect();
        keys.sort_by_key(|key| key.verdict);
        keys
    }

    fn bar(&self, key: &Key) -> Bar {
        let label = self::shares(key);
        Bar { parts: bar::parts(key, self.span), rotations: bar::rotations(key, self.span), label }
    }

    fn ticks(&self) -> Vec<Tick> {
        bar::ticks(self.span)
    }

    fn sample(&self) -> impl Iterator<Item = &'a Key> {
        let keys = &self.observer.keys;
        self.observer.sample.iter().filter_map(|at| keys.get(*at))
    }

    /// Keys that the policy does not require to rotate, with the reason.
    fn free(&self) -> impl Iterator<Item = (&'a Key, String)> {
        self.observer.keys.iter().filter_map(|key| words::not_applicable(key).map(|why| (key, why)))
    }

    fn moved(&self) -> impl Iterator<Item = &'a Key> {
        self.observer.keys.iter().filter(|key| key.appeared || key.vanished)
    }

    /// All rotations by time.
    fn rotations(&self) -> Vec<(&'a Key, &'a Rotation)> {
        let all = |key: &'a Key| key.rotations.iter().map(move |rotation| (key, rotation));
        let mut rotations: Vec<_> = self.observer.keys.iter().flat_map(all).collect();
        rotations.sort_by_key(|(_, rotation)| rotation.recorded_at);
        rotations
    }

    /// All departures and repairs by time.
    fn departures(&self) -> Vec<(&'a Key, &'a Departure)> {
        let all = |key: &'a Key| key.departures.iter().map(move |departure| (key, departure));
        let mut departures: Vec<_> = self.observer.keys.iter().flat_map(all).collect();
        departures.sort_by_key(|(_, departure)| departure.at);
        departures
    }
}

/// The bar of a key.
#[derive(Template)]
#[template(path = "audit/html/bar.html")]
struct Bar {
    parts: Vec<Part>,
    rotations: Vec<usize>,
    label: String,
}

/// How many rows a table lacks.
fn left_out(rows: usize) -> usize {
    rows.saturating_sub(MAX_ROWS)
}

/// The shares of a key in words, the greatest part of them.
fn shares(key: &Key) -> String {
    let shares = key.shares;
    let all = [
        (shares.compliant, "on policy"),
        (shares.non_compliant, "off policy"),
        (shares.unknown, "unknown"),
        (shares.not_looked, "no run has looked"),
        (shares.exempt, "exempt"),
        (shares.uncovered, "uncovered"),
    ];
    let parts =
        all.into_iter().filter(|(share, _)| *share > 0.0).map(|(share, name)| format!("{name} {}", percent(share)));
    parts.collect::<Vec<_>>().join(", ")
}

/// A share in per cent. Neither a small one is shown as none, nor one that is not all as all.
fn percent(share: f64) -> String {
    let rounded = format!("{:.1}", share * 100.0);
    match rounded.as_str() {
        "0.0" if share > 0.0 => "< 0.1 %".to_owned(),
        "100.0" if share < 1.0 => "> 99.9 %".to_owned(),
        "100.0" => "100 %".to_owned(),
        "0.0" => "0 %".to_owned(),
        _ => format!("{rounded} %"),
    }
}

/// How many rotations, departures and gaps a log has.
fn events(observer: &Observer) -> String {
    let rotations = || observer.keys.iter().flat_map(|key| &key.rotations);
    let late = rotations().filter(|rotation| rotation.in_time == Some(false)).count();
    let departures = observer.keys.iter().map(|key| key.departures.len()).sum();
    let gaps = observer.gaps.iter().filter(|gap| gap.counts).count();
    format!(
        "{}, {late} of them late; {}; {} longer than allowed",
        wording::count(rotations().count(), "rotation", "rotations"),
        wording::count(departures, "departure or repair", "departures and repairs"),
        wording::count(gaps, "outage or gap", "outages or gaps")
    )
}

/// A number of days.
fn whole_days(days: i64) -> String {
    wording::count(usize::try_from(days).unwrap_or(0), "day", "days").to_string()
}

/// Days of an age in seconds.
fn days(seconds: Option<i64>) -> String {
    seconds.map_or_else(|| "unknown".to_owned(), |seconds| length(seconds.saturating_mul(1_000)).to_string())
}

/// A duration in seconds, as of a grace.
fn duration(seconds: u64) -> String {
    length(i64::try_from(seconds).unwrap_or(i64::MAX / DAY).saturating_mul(1_000)).to_string()
}

/// A time to the minute, or a dash.
fn minute(at: Option<Time>) -> String {
    at.map_or_else(|| "–".to_owned(), |at| at.minute().to_string())
}

fn gap_length(gap: &Gap) -> String {
    length(gap.to.since(gap.from)).to_string()
}

/// Cloud and region of a project.
fn place(project: &Project) -> String {
    project.facts.as_ref().map_or_else(String::new, |facts| format!("{}, {}", facts.cloud, facts.region))
}

/// The name of a key, or its id.
fn name(key: &Key) -> &str {
    key.alias.as_deref().unwrap_or(&key.key_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_to_all_or_none() {
        assert_eq!([0.0, 0.000_1, 0.25, 0.999_9, 1.0].map(percent), ["0 %", "< 0.1 %", "25.0 %", "> 99.9 %", "100 %"]);
    }
}
