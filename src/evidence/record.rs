//! The records of the log. Values have the names that they have in the JSON of `/api/v1/status`.
//!
//! Times are RFC 3339 in UTC. Other files of this module make the records ([`changes`](super::changes),
//! [`recorder`](super::recorder)) and read them ([`reader`](super::reader)).

use serde::{Deserialize, Serialize};

use super::tree::Hash;

/// The process that writes the log has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    pub version: String,
    pub revision: String,
    /// The SHA-256 of the running program, in hexadecimal digits.
    pub executable_sha256: Option<String>,
    pub host: Option<String>,
    /// The kernel's id of this boot.
    pub boot_id: Option<String>,
    /// The name of this replica, where a lease decides which one writes.
    pub replica: Option<String>,
    /// The cloud is a simulated one.
    pub simulated: bool,
}

/// The policy that is in force from now on. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The SHA-256 of the text, in hexadecimal digits.
    pub sha256: String,
    pub text: String,
}

/// A project of the policy as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRecord {
    pub project: String,
    pub cloud: String,
    pub region: String,
    /// The URL of the KMS.
    pub endpoint: Option<String>,
    /// The project's id in the cloud.
    pub project_id: Option<String>,
    /// The user, access key or agency that logs in.
    pub principal: Option<String>,
    /// `enforce` or `monitor`.
    pub mode: String,
    /// `reported` or `required`.
    pub coverage: String,
    /// `reported` or `required`.
    pub proof: String,
    /// The time after the interval before material is too old.
    pub grace_seconds: u64,
    /// Whether its keys could be listed completely.
    pub listed: bool,
    /// Whether a key of it was ever read.
    pub readable: bool,
}

/// A key as a run has seen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyState {
    pub alias: Option<String>,
    pub status: String,
    pub reasons: Vec<String>,
    pub enabled: Option<bool>,
    pub interval_days: Option<u32>,
    /// The interval that the policy requires: exactly this one, or …
    pub policy_interval_days: Option<u16>,
    /// … at most this one.
    pub policy_max_interval_days: Option<u16>,
    pub exemption: Option<ExemptionState>,
    pub created_at: Option<String>,
    pub last_rotation_at: Option<String>,
    pub rotations: Option<u64>,
    pub material_since: Option<String>,
    pub rotation_due_at: Option<String>,
}

/// The exemption of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExemptionState {
    pub reason: String,
    /// The last day on which it holds, `2027-03-31`.
    pub until: Option<String>,
}

/// What a later process must know of a key beside its state, to continue where this one ended. Values that follow from
/// the state are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyMemory {
    /// The cloud's state of the key: `enabled`, `disabled`, `pending_deletion` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_state: Option<String>,
    /// Since when every reading showed the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undisturbed_since: Option<String>,
    /// The last write or the last change of the setting that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_began: Option<String>,
    /// The setting after an accepted write that no reading has followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
    /// The rotations that later readings are compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted: Option<Rotations>,
    /// The most rotations that were believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub furthest: Option<Rotations>,
    /// The last reading contradicts the trusted rotations.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub doubted: bool,
    /// When the key was last repaired.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
    /// Why the cloud refused to rotate it, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The interval that is still to be sent to a key whose setting cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_due_days: Option<u16>,
}

/// A rotation setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub enabled: bool,
    pub interval_days: Option<u32>,
}

/// The cloud's record of rotations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotations {
    pub rotations: u64,
    pub last_rotation_at: Option<String>,
}

/// A write that the cloud refused, since the key cannot rotate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub reason: String,
    pub at: String,
}

/// A key in full, at the beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    pub project: String,
    pub key_id: String,
    /// When it was read.
    pub observed_at: Option<String>,
    pub state: KeyState,
    pub memory: KeyMemory,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The cloud has replaced its material.
    Rotated,
    /// Its setting changed, and not by this program.
    Drift,
    /// This program changed its setting.
    Repaired,
    /// The policy exempts it from now on.
    Exempted,
    /// Something else of it changed, such as status, reasons, name or requirement.
    Status,
    /// It was not there before.
    Appeared,
    /// It is not there any more.
    Vanished,
}

/// Who caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Us,
    Other,
    Cloud,
}

/// A change of a key. Of several changes in one run the last one has the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub project: String,
    pub key_id: String,
    pub event: Event,
    pub by: Option<Cause>,
    /// Nothing for a key that appeared.
    pub before: Option<KeyState>,
    /// Nothing for a key that vanished.
    pub after: Option<KeyState>,
    /// When the key was read before the change; nothing if it never was.
    pub seen_after: Option<String>,
    /// When it was read after the change.
    pub seen_by: Option<String>,
    /// At a rotation, how old the material was that the cloud replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub material_age_seconds: Option<u64>,
    /// Why it is unknown or unchanged: the cloud's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<KeyMemory>,
}

/// A write to the cloud: the intent before it, and then how it ended. An intent without an end was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRecord {
    pub project: String,
    pub key_id: String,
    /// `enable_rotation` or `update_interval`.
    pub step: String,
    /// The interval that the step sets, or that is to be sent after enabling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_days: Option<u16>,
    pub phase: WritePhase,
    /// The setting before it, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Setting>,
    /// The cloud's id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Why it was not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far a write has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WritePhase {
    /// It may be sent from now on.
    Intent,
    /// The cloud accepted it, or a reading showed it.
    Applied,
    /// The cloud refused it, or it could not be sent.
    Failed,
    /// It may have been applied: its answer was lost.
    Unclear,
    /// It was not sent in this run.
    NotSent,
}

/// No key of the project can be read from now on. All of them are unknown until [`ReadableRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableRecord {
    pub project: String,
    pub reasons: Vec<String>,
    pub error: Option<String>,
}

/// Keys of the project can be read again: each is as it was last recorded, but for the records that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadableRecord {
    pub project: String,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// `start`, `schedule`, `reload` or `signal`.
    pub trigger: String,
    /// `success`, `failure` or `interrupted`.
    pub result: String,
    /// Whether it was allowed to write.
    pub acting: bool,
    pub started_at: String,
    pub duration_seconds: f64,
    /// How many keys have each status.
    pub keys: Counts,
    /// Whether the keys of every project could be listed completely.
    pub listed: bool,
    /// The writes that took effect.
    pub changes: usize,
    /// How far the cloud's clocks are ahead of this one, at most; negative if they are behind.
    pub clock_skew_seconds: Option<i64>,
    /// The SHA-256 of the sorted states of all keys, see `docs/evidence.md`.
    pub states_sha256: Hash,
    pub next_run_at: Option<String>,
    /// A run that starts later leaves a gap: no run has read the keys in between.
    pub gap_after: Option<String>,
}

impl RunRecord {
    /// The result of a run that was stopped before it had finished.
    pub(crate) const INTERRUPTED: &str = "interrupted";
}

/// How many keys have each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub compliant: usize,
    pub non_compliant: usize,
    pub unknown: usize,
    pub exempt: usize,
    pub uncovered: usize,
}

/// Records that were given up, since they could not be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRecord {
    pub from: String,
    pub to: String,
    pub records: u64,
    pub why: String,
}

/// Old segments were removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneRecord {
    /// The number of the first record that is kept.
    pub first: u64,
    /// The names of the removed files.
    pub files: Vec<String>,
}

/// The first record of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// The segment before it; `None` for the first one.
    pub previous: Option<PreviousSegment>,
    /// The number of records before this one.
    pub tree_size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// The frontier of their tree, from which it is continued without them.
    pub frontier: Vec<Hash>,
    /// How many records follow that the segment opens with: the policy, the projects, and each key in full.
    #[serde(default)]
    pub opening: u64,
}

/// A closed segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSegment {
    /// Its name while it was written.
    pub file: String,
    /// The SHA-256 of its content, not compressed, in base64.
    pub sha256: Hash,
}

/// What a crash has left of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TornTail {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in base64.
    pub sha256: Hash,
}

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident($type:ty) = $text:literal,)+) => {
        /// A record of any type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record { $($(#[$doc])* $name(Box<$type>),)+ }

        $(impl RecordType for $type { const NAME: &'static str = $text; })+

        impl Record {
            /// Reads the record in a line; `None` if its type is not known to this version, or its fields are not those
            /// of its type.
            pub(super) fn parse(kind: &str, line: &[u8]) -> Option<Self> {
                match kind {
                    $($text => serde_json::from_slice(line).ok().map(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

/// The name of a type of records.
pub trait RecordType: Serialize {
    /// The value of the field `type`.
    const NAME: &'static str;
}

records! {
    Segment(SegmentRecord) = "segment",
    Start(StartRecord) = "start",
    Policy(PolicyRecord) = "policy",
    Project(ProjectRecord) = "project",
    Snapshot(SnapshotRecord) = "snapshot",
    Key(KeyRecord) = "key",
    Write(WriteRecord) = "write",
    Unreadable(UnreadableRecord) = "unreadable",
    Readable(ReadableRecord) = "readable",
    Run(RunRecord) = "run",
    Gap(GapRecord) = "gap",
    Prune(PruneRecord) = "prune",
    Recovered(TornTail) = "recovered",
}
