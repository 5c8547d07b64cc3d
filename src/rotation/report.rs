//! What one run saw and did, per key and in total.
//!
//! Everything that is shown of keys comes from a report: metrics, status page, JSON, the text of `apply` and `plan`,
//! the exit code. It is made once at the end of a run and never changed.

use std::fmt;
use std::iter::Sum;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::assignment::Subject;
use super::decide::{Reason, Reasons, Status, Step, Steps};
use super::key::{DesiredRotation, Rotation};
use super::key_name::KeyName;
use super::project::{Cloud, CloudAccess, Coverage, Mode, Proof};
use super::rule::Exemption;

/// What started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The start of the process, or of its time as lease holder; the one run of `apply` or `plan`.
    Start,
    /// The policy's schedule.
    Schedule,
    /// The policy file changed.
    Reload,
    /// SIGHUP.
    Signal,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 4] = [Self::Start, Self::Schedule, Self::Reload, Self::Signal];

    /// The name in metrics, logs and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Reload => "reload",
            Self::Signal => "signal",
        }
    }
}

/// One run over all projects.
#[derive(Clone, Debug)]
pub struct Report {
    /// What started the run.
    pub trigger: Trigger,
    /// When the run began.
    pub started: SystemTime,
    /// When the run ended.
    pub ended: SystemTime,
    /// How long it took, by a clock that cannot be set.
    pub took: Duration,
    /// The run was stopped before it ended by itself.
    pub interrupted: bool,
    /// Another replica writes, so this run only read, at least at its end.
    pub standby: bool,
    /// How many keys that selectors match the run might change.
    pub max_changes: usize,
    /// The key that the run was limited to: other keys were not looked at, and are not gone.
    pub only: Option<KeyName>,
    /// The projects, in the policy's order. A run with one key leaves out projects that do not have it.
    pub projects: Vec<ProjectReport>,
}

/// One project of a run.
#[derive(Clone, Debug)]
pub struct ProjectReport {
    /// Its name in the policy.
    pub name: Arc<str>,
    /// The cloud that it is in.
    pub cloud: Cloud,
    pub region: Arc<str>,
    /// Whether its keys may be written.
    pub mode: Mode,
    /// Whether uncovered keys count as failures.
    pub coverage: Coverage,
    /// Whether material that is too old makes a key off policy.
    pub proof: Proof,
    /// The time after the interval before material is too old.
    pub grace: Duration,
    /// How it is reached.
    pub access: CloudAccess,
    /// Whether its keys could be listed completely, so that none is missing here.
    pub listed: bool,
    /// Whether the setting of a key of it was ever read.
    pub readable: bool,
    /// Why the project's run ended early or is incomplete, for people.
    pub failure: Option<Box<str>>,
    /// The lines of selectors that match no key.
    pub idle_entries: Vec<u32>,
    /// The keys, in the policy's order; uncovered ones are last.
    pub keys: Vec<KeyReport>,
}

/// One key of a run.
#[derive(Clone, Debug)]
pub struct KeyReport {
    pub subject: Subject,
    /// The line of the policy entry that decides for it; `None` if none matches.
    pub entry_line: Option<u32>,
    /// Its name, where it is known; shared with the list of keys.
    pub alias: Option<Arc<str>>,
    /// The rotation that the policy requires; nothing for exempt and uncovered keys.
    pub desired: Option<DesiredRotation>,
    /// Its exemption by the policy, if any.
    pub exemption: Option<Box<Exemption>>,
    pub status: Status,
    /// The reasons for the status. A compliant key has one only if the write of `reapply: always` failed, or because of
    /// its material.
    pub reasons: Reasons,
    /// When it was created, where that is known.
    pub created: Option<SystemTime>,
    /// The setting as last read, in this run or an earlier one.
    pub rotation: Option<Rotation>,
    /// When that was read.
    pub observed: Option<SystemTime>,
    /// Since when its present material is in use, by that reading.
    pub material_since: Option<SystemTime>,
    /// When its next rotation is due, as far as that is known.
    pub rotation_due: Option<SystemTime>,
    /// When it will be overdue, if all readings until then show the same.
    pub overdue_from: Option<SystemTime>,
    /// Rotations of its material that this run has seen for the first time.
    pub new_rotations: u64,
    /// The writes that would bring the key to its policy: the plan of a run that may not write.
    pub planned: Steps,
    /// How old its material will be when the cloud rotates it after these writes, if they postpone that.
    pub age_if_written: Option<Duration>,
    /// The writes that took effect in this run.
    pub changes: Vec<Change>,
    /// The last error of a call for this key, for people.
    pub error: Option<KeyError>,
}

/// Why a key is unknown or unchanged, for people: the cloud's status, code, message and request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    text: Box<str>,
    /// Length of the cause in the text, in bytes.
    cause: usize,
}

impl KeyError {
    /// An error with this cause, and the cloud's request id where there is one.
    #[must_use]
    pub fn new(cause: &str, request_id: Option<&str>) -> Self {
        let text = request_id.map_or_else(|| cause.to_owned(), |id| format!("{cause} (request {id})"));
        Self { text: text.into(), cause: cause.len() }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text without the request id: the same from request to request.
    #[must_use]
    pub fn cause(&self) -> &str {
        self.text.get(..self.cause).unwrap_or(&self.text)
    }

    /// Adds a sentence.
    pub fn add(&mut self, text: &str) {
        self.text = format!("{}; {text}", self.text).into();
    }
}

impl KeyReport {
    /// The last error of a call for this key, for people.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_ref().map(KeyError::as_str)
    }

    /// Whether the key is disabled or scheduled for deletion. A person has intended that, and it does not rotate then.
    pub(crate) fn is_inactive(&self) -> bool {
        [Reason::KeyDisabled, Reason::PendingDeletion].iter().any(|each| self.reasons.contains(*each))
    }

    /// Whether the key is off policy only for reasons that no run can repair, and that do not fail one. A key that is
    /// disabled or pending deletion fails none for its material either: it would fail all of them.
    fn awaits_others(&self, proof: Proof) -> bool {
        let is_beyond_a_run = |reason| match reason {
            Reason::KeyDisabled | Reason::PendingDeletion | Reason::RotationUnproven => true,
            Reason::MaterialTooOld | Reason::RotationOverdue => self.is_inactive() || proof == Proof::Reported,
            _ => false,
        };
        self.status == Status::NonCompliant && self.reasons.iter().all(is_beyond_a_run)
    }

    /// Whether the key is off policy because of its material, which no write makes younger.
    fn has_failing_material(&self, proof: Proof) -> bool {
        self.reasons.contains(Reason::RotationOverdue)
            || proof == Proof::Required && self.reasons.contains(Reason::MaterialTooOld)
    }
}

/// A write that took effect.
#[derive(Clone, Debug)]
pub struct Change {
    /// What was written.
    pub step: Step,
    /// The setting before it, where it could be read.
    pub before: Option<Rotation>,
    /// When the cloud accepted it, or a reading showed it.
    pub at: SystemTime,
    /// The cloud's request id, where it gave one.
    pub request_id: Option<Box<str>>,
}

/// How many keys have each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([usize; Status::ALL.len()]);

impl Tally {
    /// The keys with this status.
    #[must_use]
    pub fn of(&self, status: Status) -> usize {
        self.0[status as usize]
    }

    /// All keys.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, status: Status) {
        self.0[status as usize] += 1;
    }

    /// A key that was counted has another status now.
    pub(super) fn moved(&mut self, from: Status, to: Status) {
        self.0[from as usize] = self.0[from as usize].saturating_sub(1);
        self.add(to);
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, tally| Self(std::array::from_fn(|at| sum.0[at] + tally.0[at])))
    }
}

impl ProjectReport {
    /// How many keys have each status.
    #[must_use]
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.keys.iter().for_each(|key| tally.add(key.status));
        tally
    }

    /// How many keys have each reason, in the order of [`Reason::ALL`].
    #[must_use]
    pub(crate) fn findings(&self) -> [usize; Reason::ALL.len()] {
        let mut findings = [0; Reason::ALL.len()];
        for reason in self.keys.iter().flat_map(|key| key.reasons.iter()) {
            findings[reason as usize] += 1;
        }
        findings
    }

    /// The rotations that the run has seen for the first time.
    #[must_use]
    pub(crate) fn new_rotations(&self) -> u64 {
        self.keys.iter().fold(0, |sum, key| sum.saturating_add(key.new_rotations))
    }

    /// The writes that a run would make: none in monitor mode.
    pub fn planned(&self) -> impl Iterator<Item = Steps> {
        let keys = self.keys.iter().filter(|_| self.mode == Mode::Enforce);
        keys.map(|key| key.planned).filter(|planned| !planned.is_empty())
    }

    /// How many writes took effect.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.keys.iter().map(|key| key.changes.len()).sum()
    }

    /// Whether its keys are known completely, or need not be.
    fn knows_coverage(&self) -> bool {
        self.listed || self.coverage == Coverage::Reported
    }

    /// Whether only monitor mode keeps a run from changing the key.
    #[must_use]
    pub(crate) fn holds_back(&self, key: &KeyReport) -> bool {
        self.mode == Mode::Monitor && !key.planned.is_empty()
    }

    /// Whether no key is off policy, unknown or (where coverage is required) uncovered, apart from keys that
    /// `is_excused` accepts; and whether no key can be missing, where coverage is required.
    fn is_on_policy_but_for(&self, is_excused: impl Fn(&KeyReport) -> bool) -> bool {
        let fails = |key: &KeyReport| self.coverage.is_problem(key.status) && !is_excused(key);
        self.knows_coverage() && !self.keys.iter().any(fails)
    }

    fn could_read_all(&self) -> bool {
        self.knows_coverage() && !self.keys.iter().any(|key| key.status == Status::Unknown)
    }
}

impl Report {
    /// Every key with its project.
    pub fn keys(&self) -> impl Iterator<Item = (&ProjectReport, &KeyReport)> {
        self.projects.iter().flat_map(|project| project.keys.iter().map(move |key| (project, key)))
    }

    /// How many keys have each status.
    #[must_use]
    pub(crate) fn tally(&self) -> Tally {
        self.projects.iter().map(ProjectReport::tally).sum()
    }

    /// Whether the run did all that a run can do: every key was read, and none is off policy for a reason that a run can
    /// repair. Where a project requires coverage, a policy entry matches every key; where it requires proof, no material
    /// is too old and no rotation overdue.
    #[must_use]
    pub(crate) fn is_success(&self) -> bool {
        self.all(|project| project.is_on_policy_but_for(|key| key.awaits_others(project.proof)))
    }

    /// Whether every key was read and is on policy or exempt. Where a project requires coverage, a policy entry matches
    /// every key.
    #[must_use]
    pub(crate) fn is_on_policy(&self) -> bool {
        self.all(|project| project.is_on_policy_but_for(|_| false))
    }

    /// As [`is_on_policy`](Self::is_on_policy), but keys that were read and that only monitor mode leaves off policy do
    /// not count.
    #[must_use]
    pub(crate) fn is_on_policy_but_for_monitor_mode(&self) -> bool {
        let holds_back = |project: &ProjectReport, key: &KeyReport| {
            project.holds_back(key) && !key.has_failing_material(project.proof)
        };
        self.could_read_all() && self.all(|project| project.is_on_policy_but_for(|key| holds_back(project, key)))
    }

    /// Whether every key was read and none is unknown. Where a project requires coverage, its keys could be listed.
    #[must_use]
    pub(crate) fn could_read_all(&self) -> bool {
        self.all(ProjectReport::could_read_all)
    }

    /// Whether the run was not stopped, and this holds for every project.
    fn all(&self, is_so: impl Fn(&ProjectReport) -> bool) -> bool {
        !self.interrupted && self.projects.iter().all(is_so)
    }

    /// The writes that a run would make: none in monitor mode.
    pub fn planned(&self) -> impl Iterator<Item = Steps> {
        self.projects.iter().flat_map(ProjectReport::planned)
    }

    /// How many changes were postponed because the limit of changes per run was reached.
    #[must_use]
    pub fn postponed(&self) -> usize {
        self.keys().filter(|(_, key)| key.reasons.contains(Reason::ChangeLimit)).count()
    }

    /// How many writes took effect.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.projects.iter().map(ProjectReport::changes).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, status) in Status::ALL.into_iter().filter(|status| self.of(*status) > 0).enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{} {status}", self.of(status))?;
        }
        Ok(())
    }
}
