//! The values of one key in a report: its verdict, its timeline, and what happened to it.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::model::Verdict;
use super::time::Time;
use crate::evidence::record::{Cause, WritePhase};
use crate::rotation::decide::{Reason, Reasons, Status};
use crate::rotation::key::KeyId;

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

/// Whether this is no id of a key, but of an entry of the policy that stands for keys that are not known.
pub(super) fn is_entry(key_id: &str) -> bool {
    key_id.parse::<KeyId>().is_err()
}

/// Whether it is an entry whose keys could not be listed. One whose key was not found on a list stands for itself.
pub(super) fn is_unlisted(key_id: &str, state: &State) -> bool {
    is_entry(key_id) && !state.reasons.contains(Reason::NotFound)
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn status<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(status.as_str())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn reasons<S: Serializer>(reasons: &Reasons, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(reasons.iter().map(Reason::as_str))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn shown<S: Serializer>(shown: &Shown, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(shown.as_str())
}
