//! The values of a report: what the formats render, and the content of the JSON format. Those of one key are in `key`.
//!
//! Texts that occur often are shared.

use std::sync::Arc;

use serde::Serialize;

pub use super::key::{
    Departure, DepartureKind, Key, NotApplicable, Piece, Required, Rotation, Setting, Shares, Shown, State, Stretch,
    StretchCause,
};
use super::time::{Day, Time};

/// A report over a period.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// A log of it is of a simulated cloud.
    pub simulated: bool,
    /// Of the program that made it.
    pub version: &'static str,
    /// The time of the newest record.
    pub as_of: Time,
    /// Whether every log is complete and unchanged, as far as checkpoints and anchors show.
    pub verified: bool,
    pub period: Period,
    pub parameters: Parameters,
    /// How many keys have each verdict, over all logs.
    pub totals: Totals,
    /// Each log, and what it shows.
    pub observers: Vec<Observer>,
    /// The verdict over all logs, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub combined: Vec<Combined>,
}

/// The days of a report, and the time of it that the logs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Period {
    /// The first day.
    pub from: Day,
    /// The last day; if the logs end earlier, the day of the newest record.
    pub to: Day,
    /// The last day that was asked for, if the logs end earlier.
    pub cut: Option<Day>,
    /// Its first moment; of the whole logs, the time of the first record.
    pub begins_at: Time,
    /// The first moment after it; if the logs end earlier, a millisecond after the newest record.
    pub ends_at: Time,
}

/// What the report was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameters {
    pub from: Option<Day>,
    pub to: Option<Day>,
    /// Only these projects; all if empty.
    pub projects: Vec<String>,
    pub sample: usize,
    pub seed: u64,
    /// How many anchors were given.
    pub anchors: usize,
}

/// What the log shows of a key over the period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was off policy, or its material too old.
    NotMet,
    /// The log does not show whether it was on policy.
    NotShown,
    /// The policy required no rotation of it.
    NotApplicable,
    /// It was on policy whenever it was read, and its material never too old.
    Met,
}

impl Verdict {
    /// Every verdict, problems first.
    pub const ALL: [Self; 4] = [Self::NotMet, Self::NotShown, Self::NotApplicable, Self::Met];

    /// The name in all formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotMet => "not_met",
            Self::NotShown => "not_shown",
            Self::NotApplicable => "not_applicable",
            Self::Met => "met",
        }
    }
}

/// How many keys have each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub met: usize,
    pub not_met: usize,
    pub not_shown: usize,
    pub not_applicable: usize,
}

impl Totals {
    pub(super) fn count(verdicts: impl Iterator<Item = Verdict>) -> Self {
        let mut totals = Self::default();
        for verdict in verdicts {
            *match verdict {
                Verdict::Met => &mut totals.met,
                Verdict::NotMet => &mut totals.not_met,
                Verdict::NotShown => &mut totals.not_shown,
                Verdict::NotApplicable => &mut totals.not_applicable,
            } += 1;
        }
        totals
    }

    /// The keys with this verdict.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> usize {
        match verdict {
            Verdict::Met => self.met,
            Verdict::NotMet => self.not_met,
            Verdict::NotShown => self.not_shown,
            Verdict::NotApplicable => self.not_applicable,
        }
    }

    /// All keys.
    #[must_use]
    pub fn total(&self) -> usize {
        self.met + self.not_met + self.not_shown + self.not_applicable
    }
}

/// One evidence log with the logs that continue it, and what they show.
#[derive(Clone, Debug, Serialize)]
pub struct Observer {
    /// The origin of its first log.
    pub origin: String,
    pub simulated: bool,
    /// The first log, and then the logs that continue it.
    pub logs: Vec<LogFacts>,
    pub first_record_at: Time,
    pub newest_record_at: Time,
    pub programs: Vec<Program>,
    pub policies: Vec<PolicyInForce>,
    /// How many runs have looked at the keys within the period.
    pub runs: usize,
    pub days: i64,
    /// The days on which it has not looked.
    pub days_not_looked: i64,
    pub gaps: Vec<Gap>,
    pub totals: Totals,
    pub projects: Vec<Project>,
    /// By project and key.
    pub keys: Vec<Key>,
    /// The places of sampled keys in `keys`.
    pub sample: Vec<usize>,
}

/// A log, and what its verification has shown.
#[derive(Clone, Debug, Serialize)]
pub struct LogFacts {
    pub origin: String,
    pub created_at: String,
    /// To verify its checkpoints with, as C2SP has it.
    pub public_key: String,
    pub continues: Option<String>,
    /// The number of its first record that is kept.
    pub first_record: u64,
    pub size: u64,
    pub root: String,
    /// The records that its newest checkpoint states.
    pub signed: Option<u64>,
    /// The records that an anchor from elsewhere states, and the time of the last of them.
    pub anchored: Option<u64>,
    pub anchored_until: Option<Time>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// A program that has written the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    pub version: String,
    pub revision: String,
    pub executable_sha256: Option<String>,
    pub host: Option<String>,
    pub replica: Option<String>,
    /// When it was first started.
    pub from: Time,
    /// How often it was started.
    pub starts: usize,
}

/// A policy and when it was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyInForce {
    pub sha256: Arc<str>,
    pub from: Time,
    pub to: Time,
    pub text: Arc<str>,
}

/// Why the log shows nothing for some time, of a whole project or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// The period begins before the log.
    BeforeLog,
    /// No run has looked.
    NotLooked,
    /// Records were given up.
    RecordsLost,
    /// A run was stopped before it had finished.
    Interrupted,
    /// No key of a project could be read.
    Unreadable,
}

impl GapKind {
    /// The name in all formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeLog => "before_log",
            Self::NotLooked => "not_looked",
            Self::RecordsLost => "records_lost",
            Self::Interrupted => "interrupted",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A time for which the log shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    pub kind: GapKind,
    pub from: Time,
    pub to: Time,
    /// Whether it is longer than the gap rule allows, so that keys count as not shown.
    pub counts: bool,
    /// Of one project, or of all.
    pub project: Option<Arc<str>>,
    pub why: Option<String>,
}

/// A project as it was at the end of the period, and its keys in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Project {
    pub name: Arc<str>,
    #[serde(flatten)]
    pub facts: Option<ProjectFacts>,
    pub keys: usize,
    pub appeared: usize,
    pub vanished: usize,
    pub uncovered: usize,
    pub exempt: usize,
    pub totals: Totals,
}

/// What a project is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProjectFacts {
    pub cloud: String,
    pub region: String,
    pub endpoint: Option<String>,
    pub project_id: Option<String>,
    pub principal: Option<String>,
    pub mode: String,
    pub coverage: String,
    pub proof: String,
    pub grace_seconds: u64,
    pub listed: bool,
}

/// A key over all logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Combined {
    pub project: Arc<str>,
    pub key_id: Arc<str>,
    pub alias: Option<Arc<str>>,
    pub verdict: Verdict,
    /// By each log; `None` if it does not have the key.
    pub verdicts: Vec<Option<Verdict>>,
}
