//! The report of `apply` and `plan` for a terminal: by project, what changes and what is a problem; then the totals.
//!
//! Keys on policy are only counted, unless all keys are requested. Text from the cloud and from the policy (names,
//! errors, reasons) is made printable, so that a key's name cannot move the cursor. The caller decides about colours.
//!
//! The columns are kept by hand because a table crate lays out one table, and these rows share the widths of a
//! project's sections.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use super::wording;
use crate::rotation::assignment::Subject;
use crate::rotation::decide::{Reason, Status, Step, Steps};
use crate::rotation::key::{Bound, DesiredRotation, KeyId, Rotation};
use crate::rotation::project::{Coverage, Mode};
use crate::rotation::report::{Change, KeyReport, ProjectReport, Report, Tally};
use crate::support::printable::printable;

/// The command that the report is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `apply`: what was changed.
    Applied,
    /// `plan`: what a run would change.
    Planned,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug)]
pub struct TextStyle<'a> {
    pub purpose: Purpose,
    /// The policy file as given on the command line, so that editors find its lines.
    pub policy_file: &'a Path,
    /// List all keys, also those on policy and exempt.
    pub all: bool,
    /// Use colours.
    pub colour: bool,
    /// The cloud is a simulated one.
    pub simulated: bool,
}

/// The widest name that fits its column; a longer one pushes the rest of its row to the right.
const ALIAS_WIDTH: usize = 32;
/// The most keys listed of a section in which they are alike.
const LISTED: usize = 20;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BLUE: &str = "\x1b[34m";

/// Writes a report.
///
/// # Errors
/// Those of `out`.
pub fn write_text(report: &Report, style: TextStyle<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let file = printable(&style.policy_file.to_string_lossy());
    let mut text = Text { style, file, out };
    if style.simulated {
        let simulated = text.coloured(YELLOW, wording::SIMULATED);
        writeln!(text.out, "{simulated}\n")?;
    }
    for project in &report.projects {
        text.project(project, report.only.is_some())?;
        if report.projects.len() > 1 {
            let totals = totals(style.purpose, report.interrupted, &[project], "");
            writeln!(text.out, "  {totals}")?;
        }
        writeln!(text.out)?;
    }
    if report.postponed() > 0 {
        let [what, remedy] = wording::postponed(report);
        writeln!(text.out, "{what}\n{remedy}\n")?;
    }
    let projects: Vec<_> = report.projects.iter().collect();
    let took = format!(" in {}", wording::took(report.took));
    let totals = totals(style.purpose, report.interrupted, &projects, &took);
    let end = if report.interrupted { "; the command was stopped early." } else { "." };
    writeln!(text.out, "{totals}{end}")
}

/// The sections of a project, in the order of the report.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Change,
    IfEnforced,
    HeldBack,
    OffPolicy,
    Unknown,
    Unconfirmed,
    TooOld,
    Uncovered,
    EndsSoon,
    Exempt,
    OnPolicy,
}

impl Section {
    const ALL: [Self; 11] = [
        Self::Change,
        Self::IfEnforced,
        Self::HeldBack,
        Self::OffPolicy,
        Self::Unknown,
        Self::Unconfirmed,
        Self::TooOld,
        Self::Uncovered,
        Self::EndsSoon,
        Self::Exempt,
        Self::OnPolicy,
    ];

    fn of(purpose: Purpose, project: &ProjectReport, key: &KeyReport) -> Self {
        let is_planned = purpose == Purpose::Planned && !key.planned.is_empty();
        match key.status {
            _ if key.reasons.contains(Reason::ChangeLimit) => Self::HeldBack,
            // The writes to a key that cannot be read may change nothing.
            Status::Unknown => Self::Unknown,
            Status::Compliant if purpose == Purpose::Applied && !key.changes.is_empty() => Self::Change,
            _ if is_planned && project.holds_back(key) => Self::IfEnforced,
            _ if is_planned => Self::Change,
            Status::NonCompliant => Self::OffPolicy,
            Status::Uncovered => Self::Uncovered,
            Status::Exempt if key.reasons.contains(Reason::ExemptionEndsSoon) => Self::EndsSoon,
            Status::Exempt => Self::Exempt,
            Status::Compliant if key.reasons.contains(Reason::MaterialTooOld) => Self::TooOld,
            Status::Compliant if key.reasons.is_empty() || key.reasons == Reason::RotationUnproven.into() => {
                Self::OnPolicy
            }
            Status::Compliant => Self::Unconfirmed,
        }
    }

    fn heading(self, purpose: Purpose, project: &ProjectReport) -> &'static str {
        match (self, purpose, project.mode) {
            (Self::Change, Purpose::Applied, _) => "changed",
            (Self::Change, Purpose::Planned, _) => "to change",
            (Self::HeldBack, ..) => "postponed by max_changes_per_run",
            (Self::IfEnforced, ..) => "would change if enforced",
            (Self::OffPolicy, Purpose::Applied, Mode::Enforce) => "still off policy",
            (Self::OffPolicy, Purpose::Planned, Mode::Enforce) => "off policy, cannot be fixed here",
            (Self::OffPolicy, _, Mode::Monitor) => "off policy (monitor mode)",
            (Self::Unknown, ..) => "unknown",
            (Self::Unconfirmed, ..) => "on policy, but the interval could not be sent again",
            (Self::TooOld, ..) => "on policy, but the key material is too old",
            (Self::Uncovered, ..) if project.coverage == Coverage::Required => "uncovered, though coverage is required",
            (Self::Uncovered, ..) => "uncovered, not matched by any policy entry",
            (Self::EndsSoon, ..) => "exempt, ends soon",
            (Self::Exempt, ..) => "exempt",
            (Self::OnPolicy, ..) => "on policy",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Change | Self::IfEnforced => "~",
            Self::HeldBack | Self::Unconfirmed | Self::TooOld | Self::EndsSoon => "!",
            Self::OffPolicy => wording::sign(Status::NonCompliant),
            Self::Unknown => wording::sign(Status::Unknown),
            Self::Uncovered => wording::sign(Status::Uncovered),
            Self::Exempt => wording::sign(Status::Exempt),
            Self::OnPolicy => wording::sign(Status::Compliant),
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Change | Self::IfEnforced => BLUE,
            Self::OffPolicy => RED,
            Self::HeldBack | Self::Unknown | Self::Unconfirmed | Self::TooOld | Self::Uncovered | Self::EndsSoon => {
                YELLOW
            }
            Self::Exempt => DIM,
            Self::OnPolicy => GREEN,
        }
    }

    /// The most keys of the section that are listed.
    fn shown(self, all: bool) -> usize {
        match self {
            _ if all => usize::MAX,
            Self::Change | Self::IfEnforced | Self::OffPolicy | Self::EndsSoon => usize::MAX,
            // An outage, a mistake in a selector or a first policy: these keys are alike.
            Self::HeldBack | Self::Unknown | Self::Unconfirmed | Self::TooOld | Self::Uncovered => LISTED,
            Self::Exempt | Self::OnPolicy => 0,
        }
    }
}

struct Text<'a> {
    style: TextStyle<'a>,
    /// The policy file, printable.
    file: String,
    out: &'a mut dyn Write,
}

/// One key, ready to be aligned.
struct Row<'a> {
    key: &'a KeyReport,
    alias: String,
    setting: String,
    position: String,
    details: String,
}

impl Text<'_> {
    /// Of a run with one key, it does not matter whether other keys can be missing.
    fn project(&mut self, project: &ProjectReport, is_of_one_key: bool) -> io::Result<()> {
        let ProjectReport { name, cloud, region, mode, .. } = project;
        let name = self.coloured(BOLD, &printable(name));
        writeln!(self.out, "{name}  {} {region}, {}", cloud.as_str(), mode.as_str())?;
        if let Some(failure) = &project.failure {
            let failure = self.coloured(RED, &printable(failure));
            writeln!(self.out, "  {failure}")?;
        }
        if !project.listed && !is_of_one_key {
            let what = self.coloured(YELLOW, wording::COVERAGE_NOT_KNOWN);
            writeln!(self.out, "  {what}")?;
        }
        for line in &project.idle_entries {
            let warning = self.coloured(YELLOW, "warning");
            writeln!(self.out, "  {warning}: {}:{line}: {}", self.file, wording::IDLE_ENTRY)?;
        }
        let purpose = self.style.purpose;
        let mut sections: [Vec<&KeyReport>; Section::ALL.len()] = Default::default();
        for key in &project.keys {
            sections[Section::of(purpose, project, key) as usize].push(key);
        }
        let shown: Vec<(Section, usize, Vec<Row<'_>>)> = Section::ALL
            .into_iter()
            .zip(&sections)
            .filter(|(section, keys)| !keys.is_empty() && section.shown(self.style.all) > 0)
            .map(|(section, keys)| {
                let rows =
                    keys.iter().take(section.shown(self.style.all)).map(|key| self.row(section, project.mode, key));
                (section, keys.len(), rows.collect())
            })
            .collect();
        let widths = Widths::of(shown.iter().flat_map(|(_, _, rows)| rows));
        for (section, keys, rows) in &shown {
            let heading = self.coloured(section.colour(), section.heading(purpose, project));
            writeln!(self.out, "  {heading}: {keys}")?;
            for row in rows {
                self.write_row(*section, row, &widths)?;
            }
            if rows.len() < *keys {
                writeln!(self.out, "    … and {} more; --all lists them", keys - rows.len())?;
            }
        }
        Ok(())
    }

    fn row<'k>(&self, section: Section, mode: Mode, key: &'k KeyReport) -> Row<'k> {
        Row {
            key,
            // An entry without a key is already called by its name.
            alias: key.subject.key_id().and(key.alias.as_deref()).map(printable).unwrap_or_default(),
            setting: setting(section, self.style.purpose, key),
            position: key.entry_line.map(|line| format!("{}:{line}", self.file)).unwrap_or_default(),
            details: details(section, self.style.purpose, mode, key),
        }
    }

    fn write_row(&mut self, section: Section, row: &Row<'_>, widths: &Widths) -> io::Result<()> {
        let Row { key, alias, setting, position, details } = row;
        let subject = printable(key.subject.as_str());
        let mut text = format!("{subject:width$}", width = KeyId::LENGTH);
        for (column, width) in [(alias, widths.alias), (setting, widths.setting), (position, widths.position)] {
            if width > 0 {
                // Writing to a `String` does not fail.
                let _ = write!(text, "  {column:width$}");
            }
        }
        let _ = write!(text, "  {}", printable(details));
        let sign = self.coloured(section.colour(), section.sign());
        writeln!(self.out, "    {sign} {}", text.trim_end())?;
        match key.error() {
            Some(error) => writeln!(self.out, "      {}", self.coloured(DIM, &printable(error))),
            None => Ok(()),
        }
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        if self.style.colour { format!("{colour}{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The columns of a project.
struct Widths {
    alias: usize,
    setting: usize,
    position: usize,
}

impl Widths {
    fn of<'r>(rows: impl Iterator<Item = &'r Row<'r>>) -> Self {
        let mut widths = Self { alias: 0, setting: 0, position: 0 };
        for row in rows {
            let wider = |width: &mut usize, text: &str| *width = (*width).max(text.chars().count());
            wider(&mut widths.alias, &row.alias);
            wider(&mut widths.setting, &row.setting);
            wider(&mut widths.position, &row.position);
        }
        Self { alias: widths.alias.min(ALIAS_WIDTH), ..widths }
    }
}

/// The setting as it is, or the change from one setting to the other.
fn setting(section: Section, purpose: Purpose, key: &KeyReport) -> String {
    if matches!(key.subject, Subject::Entry(_)) {
        return String::new();
    }
    let now = key.rotation.map(number);
    match (section, key.desired, key.changes.first()) {
        (Section::Change, Some(desired), Some(change)) if purpose == Purpose::Applied => {
            let before = match (change.before, change.step) {
                (Some(before), _) => number(before),
                (None, Step::EnableRotation) => "off".to_owned(),
                (None, Step::UpdateInterval(_)) => "?".to_owned(),
            };
            let after = now.unwrap_or_else(|| desired.interval.days().to_string());
            if before == after { format!("{after} days") } else { format!("{before} → {after} days") }
        }
        (Section::Exempt | Section::EndsSoon | Section::Uncovered, ..) | (_, None, _) => {
            now.map(with_unit).unwrap_or_default()
        }
        (Section::Unknown, Some(desired), _) => {
            let last = now.map(|now| format!(", last {}", with_unit(now))).unwrap_or_default();
            format!("? → {} days{last}", limit(desired))
        }
        (_, Some(desired), _) if is_met(key) => {
            let now = now.map(with_unit).unwrap_or_default();
            match desired.bound {
                Bound::Exact => now,
                Bound::Longest => format!("{now} ({})", limit(desired)),
            }
        }
        (_, Some(desired), _) => format!("{} → {} days", now.unwrap_or_else(|| "?".to_owned()), limit(desired)),
    }
}

fn number(rotation: Rotation) -> String {
    match rotation {
        Rotation { enabled: false, .. } => "off".to_owned(),
        Rotation { interval_days: Some(days), .. } => days.to_string(),
        Rotation { interval_days: None, .. } => "?".to_owned(),
    }
}

fn with_unit(number: String) -> String {
    if number.starts_with(|first: char| first.is_ascii_digit()) { number + " days" } else { number }
}

fn limit(desired: DesiredRotation) -> String {
    let most = if desired.bound == Bound::Longest { "≤ " } else { "" };
    format!("{most}{}", desired.interval.days())
}

/// Whether the setting is as the policy requires.
fn is_met(key: &KeyReport) -> bool {
    key.desired.zip(key.rotation).is_some_and(|(desired, rotation)| desired.is_met_by(rotation))
}

/// The reasons, and the changes if the setting does not show them.
fn details(section: Section, purpose: Purpose, mode: Mode, key: &KeyReport) -> String {
    let mut details = match section {
        // The heading has the reason.
        Section::Uncovered => String::new(),
        _ => wording::why(key).to_string(),
    };
    let is_same = |change: &Change| change.before.map(number) == key.rotation.map(number);
    match (section, purpose) {
        // The setting shows the change, unless it was right before.
        (Section::Change, Purpose::Applied) if !key.changes.iter().all(is_same) => {}
        (Section::Change | Section::IfEnforced, _) if is_met(key) => {
            let separator = if details.is_empty() { "" } else { "; " };
            let _ = write!(details, "{separator}sent again, by reapply: always");
        }
        (Section::Unknown, Purpose::Planned) if mode == Mode::Enforce && !key.planned.is_empty() => {
            let _ = write!(details, "; {}", wording::unread_steps(key.planned));
        }
        _ => {
            for change in &key.changes {
                let separator = if details.is_empty() { "" } else { "; " };
                let _ = write!(details, "{separator}{}", wording::taken(change.step));
            }
        }
    }
    if let Some(age) = key.age_if_written.filter(|_| purpose == Purpose::Planned) {
        let _ = write!(details, "; {}", wording::age_if_written(age));
    }
    details
}

/// The state of the projects' keys, and what was or would be changed, without a full stop.
fn totals(purpose: Purpose, interrupted: bool, projects: &[&ProjectReport], took: &str) -> String {
    let tally: Tally = projects.iter().map(|project| project.tally()).sum();
    let keys = || projects.iter().flat_map(|project| &project.keys);
    let mut totals = wording::headline(&tally).to_string();
    // Writing to a `String` does not fail.
    match keys().filter(|key| matches!(key.subject, Subject::Entry(_))).count() {
        0 => {}
        1 => totals.push_str("; 1 policy entry counts as one unknown key"),
        entries => _ = write!(totals, "; {entries} policy entries count as one unknown key each"),
    }
    match purpose {
        Purpose::Applied => {
            let changes = projects.iter().map(|project| project.changes()).sum();
            let _ = write!(totals, ". {} made{took}", wording::count(changes, "change", "changes"));
            let unconfirmed = |key: &&KeyReport| {
                let is_known = key.status != Status::Unknown && !key.reasons.contains(Reason::NotVerified);
                !key.changes.is_empty() && !is_known
            };
            let unconfirmed = keys().filter(unconfirmed).count();
            if unconfirmed > 0 {
                let _ = write!(totals, ", not confirmed for {}", wording::count(unconfirmed, "key", "keys"));
            }
        }
        Purpose::Planned => {
            let unread = tally.of(Status::Unknown);
            let could_not = || format!("{} could not be read", wording::count(unread, "key", "keys"));
            // What the writes to a key that cannot be read would change is unknown.
            let known = |mode| {
                let projects = projects.iter().filter(move |project| project.mode == mode);
                let keys = projects.flat_map(|project| &project.keys).filter(|key| key.status != Status::Unknown);
                keys.map(|key| key.planned).filter(|planned| !planned.is_empty()).collect::<Vec<_>>()
            };
            let _ = match (writes(&known(Mode::Enforce)), unread) {
                (None, 0) if interrupted => write!(totals, ". No changes found"),
                (None, 0) => write!(totals, ". A run would change nothing"),
                (None, _) => write!(totals, ". No changes found, but {}", could_not()),
                (Some(writes), 0) => write!(totals, ". A run would change {writes}"),
                (Some(writes), _) => write!(totals, ". A run would change {writes}, but {}", could_not()),
            };
            if let Some(writes) = writes(&known(Mode::Monitor)) {
                let _ = write!(totals, ". Would change if enforced: {writes}");
            }
        }
    }
    totals
}

/// "2 keys with 3 writes"; none without a write.
fn writes(planned: &[Steps]) -> Option<String> {
    let keys = wording::count(planned.len(), "key", "keys");
    let writes = wording::count(planned.iter().map(|steps| steps.iter().count()).sum(), "write", "writes");
    (!planned.is_empty()).then(|| format!("{keys} with {writes}"))
}
