//! The values of a report: what the formats render, and the content of the JSON format.
//!
//! Texts that occur often are shared.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::time::{Day, Time};
use crate::evidence::record::{Cause, WritePhase};
use crate::rotation::decide::{Reasons, Status};

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
    pub begins_at: Time,
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

/// One evidence log with those that continue it, and what they show.
#[derive(Clone, Debug, Serialize)]
pub struct Observer {
    /// The origin of its first log.
    pub origin: String,
    pub simulated: bool,
    /// Of each log: the first, and then those that continue it.
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

/// One key over the period.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    pub project: Arc<str>,
    pub key_id: Arc<str>,
    pub alias: Option<Arc<str>>,
    pub verdict: Verdict,
    /// Why the policy required no rotation of it at the end.
    pub not_applicable: Option<NotApplicable>,
    /// Since when the log has it within the period.
    pub from: Time,
    pub to: Time,
    pub appeared: bool,
    pub vanished: bool,
    pub created_at: Option<Time>,
    /// How it was at the end, or when it vanished.
    pub state: State,
    pub shares: Shares,
    pub days: i64,
    pub days_not_looked: i64,
    /// The greatest age of its material that the log shows within the period.
    pub oldest_material_days: Option<i64>,
    /// When it was off policy, or its material too old.
    pub off_policy: Vec<Stretch>,
    pub not_shown: Vec<Stretch>,
    pub rotations: Vec<Rotation>,
    pub departures: Vec<Departure>,
    pub timeline: Vec<Piece>,
}

/// Why the policy required no rotation of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotApplicable {
    #[serde(serialize_with = "reasons")]
    pub reasons: Reasons,
    /// The policy's text for an exemption.
    pub exemption: Option<Arc<str>>,
    /// The last day of the exemption.
    pub until: Option<Arc<str>>,
}

/// A rotation setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub enabled: bool,
    pub interval_days: Option<u32>,
}

/// The interval that the policy requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Required {
    pub days: u16,
    /// Shorter ones are on policy too.
    pub at_most: bool,
}

/// A key at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    #[serde(serialize_with = "status")]
    pub status: Status,
    #[serde(serialize_with = "reasons")]
    pub reasons: Reasons,
    pub setting: Option<Setting>,
    pub required: Option<Required>,
    pub material_since: Option<Time>,
    pub last_rotation_at: Option<Time>,
    pub rotations: Option<u64>,
    pub rotation_due_at: Option<Time>,
    /// The place of the exemption among those of the log.
    #[serde(skip)]
    pub(super) exemption: Option<u32>,
}

/// The shares of the time in each status. Their sum is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    pub compliant: f64,
    pub non_compliant: f64,
    pub unknown: f64,
    pub exempt: f64,
    pub uncovered: f64,
    /// No run has looked.
    pub not_looked: f64,
}

/// What the log shows of a key during a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Status(Status),
    NotLooked,
}

impl Shown {
    /// The name in all formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status(status) => status.as_str(),
            Self::NotLooked => "not_looked",
        }
    }
}

/// A part of a key's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    pub from: Time,
    pub to: Time,
    #[serde(rename = "status", serialize_with = "shown")]
    pub shown: Shown,
    #[serde(serialize_with = "reasons")]
    pub reasons: Reasons,
}

/// Why a stretch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StretchCause {
    /// The key was off policy.
    OffPolicy,
    /// A run has found it off policy, and repaired it.
    FoundAndRepaired,
    /// Its material was older than interval and grace.
    MaterialTooOld,
    /// The period begins before the log.
    BeforeLog,
    /// No run has looked.
    NotLooked,
    /// It could not be read.
    Unreadable,
    /// Readings contradict each other.
    Contradictory,
    /// The start of its material is unknown.
    MaterialUnknown,
    /// It was rotated several times since it was read, and the times are unknown.
    RotationsMissed,
}

impl StretchCause {
    /// The name in all formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OffPolicy => "off_policy",
            Self::FoundAndRepaired => "found_and_repaired",
            Self::MaterialTooOld => "material_too_old",
            Self::BeforeLog => "before_log",
            Self::NotLooked => "not_looked",
            Self::Unreadable => "unreadable",
            Self::Contradictory => "contradictory",
            Self::MaterialUnknown => "material_unknown",
            Self::RotationsMissed => "rotations_missed",
        }
    }
}

/// A time in which a key was off policy or not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    pub from: Time,
    pub to: Time,
    pub cause: StretchCause,
    #[serde(serialize_with = "reasons")]
    pub reasons: Reasons,
    /// When the key was last seen otherwise, if it may have begun earlier.
    pub seen_after: Option<Time>,
}

/// The cloud has replaced the material of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// When the log recorded it.
    pub recorded_at: Time,
    /// When it was rotated, as the cloud shows it.
    pub rotated_at: Option<Time>,
    pub seen_after: Option<Time>,
    /// How old the material was that was replaced.
    pub age_seconds: Option<i64>,
    /// The interval of the policy and the grace at that time.
    pub allowed_seconds: Option<i64>,
    /// Whether the age was within them.
    pub in_time: Option<bool>,
    /// How many rotations happened since the reading before; above 1 the times of earlier ones are unknown.
    pub count: u64,
}

/// What happened to a key's setting or status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DepartureKind {
    Drift,
    Repaired,
    OffPolicy,
    OnPolicy,
    Exempted,
    NoLongerExempt,
    Unknown,
    /// A write, and how far it came.
    Write,
}

impl DepartureKind {
    /// The name in all formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Repaired => "repaired",
            Self::OffPolicy => "off_policy",
            Self::OnPolicy => "on_policy",
            Self::Exempted => "exempted",
            Self::NoLongerExempt => "no_longer_exempt",
            Self::Unknown => "unknown",
            Self::Write => "write",
        }
    }
}

/// A departure from the policy, or a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Departure {
    pub at: Time,
    pub kind: DepartureKind,
    pub by: Option<Cause>,
    pub before: Option<Setting>,
    pub after: Option<Setting>,
    #[serde(serialize_with = "reasons")]
    pub reasons: Reasons,
    pub seen_after: Option<Time>,
    /// Of a write: how far it came.
    pub write: Option<WritePhase>,
    /// The cloud's ids of the requests.
    pub request_ids: Vec<Box<str>>,
    pub error: Option<Arc<str>>,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn status<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(status.as_str())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn reasons<S: Serializer>(reasons: &Reasons, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(reasons.iter().map(crate::rotation::decide::Reason::as_str))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn shown<S: Serializer>(shown: &Shown, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(shown.as_str())
}
