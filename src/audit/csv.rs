//! The report as tables for spreadsheets: RFC 4180, in UTF-8, with a header line each.
//!
//! A value that a spreadsheet would take for a formula begins with an apostrophe: names of keys come from outside.

use std::io::{self, Write};

use super::model::{Key, Observer, Report, Setting, Stretch};
use super::time::Time;
use super::words;
use crate::evidence::record::{Cause, WritePhase};
use crate::support::printable::printable;

/// A function that writes a table.
pub type Table = fn(&Report, &mut dyn Write) -> io::Result<()>;

/// The files, and what writes each.
pub const FILES: [(&str, Table); 4] =
    [("keys.csv", keys), ("rotations.csv", rotations), ("departures.csv", departures), ("gaps.csv", gaps)];

fn keys(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Lines { out, simulated: report.simulated };
    table.header(
        "log,project,key_id,alias,verdict,why,from,to,appeared,vanished,status,reasons,not_applicable,rotation,\
         policy,share_compliant,share_non_compliant,share_unknown,share_exempt,share_uncovered,share_not_looked,days,\
         days_not_looked,created_at,material_since,last_rotation_at,rotation_due_at,oldest_material_days,rotations,\
         off_policy,not_shown",
    )?;
    for (observer, key) in all_keys(report) {
        let shares = &key.shares;
        let mut line = key_fields(observer, key);
        line.extend([
            key.verdict.as_str().to_owned(),
            words::why(key),
            key.from.to_string(),
            key.to.to_string(),
            key.appeared.to_string(),
            key.vanished.to_string(),
            key.state.status.to_string(),
            key.state.reasons.to_string(),
            words::not_applicable(key).unwrap_or_default(),
            words::setting(key.state.setting),
            words::required(key.state.required),
        ]);
        let shares = [
            shares.compliant,
            shares.non_compliant,
            shares.unknown,
            shares.exempt,
            shares.uncovered,
            shares.not_looked,
        ];
        line.extend(shares.map(|share| format!("{share:.6}")));
        line.extend([key.days, key.days_not_looked].map(|days| days.to_string()));
        let state = &key.state;
        let times = [key.created_at, state.material_since, state.last_rotation_at, state.rotation_due_at];
        line.extend(times.map(time));
        line.push(key.oldest_material_days.map(|days| days.to_string()).unwrap_or_default());
        line.push(key.rotations.len().to_string());
        line.extend([&key.off_policy, &key.not_shown].map(|stretches| all_stretches(stretches)));
        table.line(&line)?;
    }
    Ok(())
}

fn rotations(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Lines { out, simulated: report.simulated };
    table.header(
        "log,project,key_id,alias,recorded_at,rotated_at,seen_after,material_age_seconds,allowed_seconds,in_time,count",
    )?;
    for (observer, key) in all_keys(report) {
        for rotation in &key.rotations {
            let mut line = key_fields(observer, key);
            line.extend([rotation.recorded_at.to_string(), time(rotation.rotated_at), time(rotation.seen_after)]);
            let seconds = [rotation.age_seconds, rotation.allowed_seconds];
            line.extend(seconds.map(|seconds| seconds.map(|seconds| seconds.to_string()).unwrap_or_default()));
            line.push(rotation.in_time.map(|in_time| in_time.to_string()).unwrap_or_default());
            line.push(rotation.count.to_string());
            table.line(&line)?;
        }
    }
    Ok(())
}

fn departures(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Lines { out, simulated: report.simulated };
    table.header(
        "log,project,key_id,alias,at,kind,write,by,before_enabled,before_interval_days,after_enabled,\
         after_interval_days,reasons,seen_after,request_ids,error",
    )?;
    for (observer, key) in all_keys(report) {
        for departure in &key.departures {
            let mut line = key_fields(observer, key);
            line.extend([departure.at.to_string(), departure.kind.as_str().to_owned()]);
            line.extend([phase(departure.write), by(departure.by)].map(str::to_owned));
            line.extend([departure.before, departure.after].into_iter().flat_map(setting));
            line.extend([departure.reasons.to_string(), time(departure.seen_after), departure.request_ids.join(" ")]);
            line.push(departure.error.as_deref().unwrap_or_default().to_owned());
            table.line(&line)?;
        }
    }
    Ok(())
}

fn gaps(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Lines { out, simulated: report.simulated };
    table.header("log,project,kind,from,to,seconds,counts,why")?;
    for observer in &report.observers {
        for gap in &observer.gaps {
            table.line(&[
                observer.origin.clone(),
                gap.project.as_deref().unwrap_or_default().to_owned(),
                gap.kind.as_str().to_owned(),
                gap.from.to_string(),
                gap.to.to_string(),
                (gap.to.since(gap.from) / 1_000).to_string(),
                gap.counts.to_string(),
                gap.why.clone().unwrap_or_default(),
            ])?;
        }
    }
    Ok(())
}

fn all_keys(report: &Report) -> impl Iterator<Item = (&Observer, &Key)> {
    report.observers.iter().flat_map(|observer| observer.keys.iter().map(move |key| (observer, key)))
}

/// What each line of a key begins with.
fn key_fields(observer: &Observer, key: &Key) -> Vec<String> {
    let alias = key.alias.as_deref().unwrap_or_default();
    [&observer.origin, &*key.project, &*key.key_id, alias].map(str::to_owned).to_vec()
}

fn time(at: Option<Time>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

fn setting(setting: Option<Setting>) -> [String; 2] {
    let days = setting.and_then(|setting| setting.interval_days);
    let enabled = setting.map(|setting| setting.enabled.to_string());
    [enabled.unwrap_or_default(), days.map(|days| days.to_string()).unwrap_or_default()]
}

/// `CAUSE FROM/TO` for each stretch.
fn all_stretches(stretches: &[Stretch]) -> String {
    let one = |stretch: &Stretch| format!("{} {}/{}", stretch.cause.as_str(), stretch.from, stretch.to);
    stretches.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn by(by: Option<Cause>) -> &'static str {
    match by {
        Some(Cause::Us) => "us",
        Some(Cause::Other) => "other",
        Some(Cause::Cloud) => "cloud",
        None => "",
    }
}

fn phase(phase: Option<WritePhase>) -> &'static str {
    match phase {
        Some(WritePhase::Intent) => "cut_off",
        Some(WritePhase::Applied) => "applied",
        Some(WritePhase::Failed) => "failed",
        Some(WritePhase::Unclear) => "unclear",
        Some(WritePhase::NotSent) => "not_sent",
        None => "",
    }
}

/// A table that is being written. Its first column states a simulation.
struct Lines<'a> {
    out: &'a mut dyn Write,
    simulated: bool,
}

impl Lines<'_> {
    fn header(&mut self, names: &str) -> io::Result<()> {
        write!(self.out, "simulated,{names}\r\n")
    }

    fn line(&mut self, fields: &[String]) -> io::Result<()> {
        self.out.write_all(if self.simulated { b"SIMULATED" } else { b"" })?;
        for field in fields {
            write!(self.out, ",{}", quoted(field))?;
        }
        self.out.write_all(b"\r\n")
    }
}

/// A value in a form that no program takes for a formula, for another value or for another line.
fn quoted(field: &str) -> String {
    let mut text = printable(field);
    if text.trim_start().starts_with(['=', '+', '-', '@', '|', '%']) {
        text.insert(0, '\'');
    }
    if text.contains([',', '"', '\'', ';', ' ']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_a_formula_or_ends_the_line() {
        assert_eq!(quoted("pay-1"), "pay-1");
        assert_eq!(quoted("=HYPERLINK(\"http://x\",\"y\")"), "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\"");
        for formula in ["=1", "+1", "-1", "@x", " =1", "|x"] {
            assert!(quoted(formula).starts_with("\"'"), "{formula}");
        }
        assert_eq!(quoted("a\r\nb\tc"), "a\u{fffd}\u{fffd}b\u{fffd}c");
        assert_eq!(quoted("a,b;c"), "\"a,b;c\"");
    }
}
