//! What one run saw and did, per key and in total.
//!
//! A report is the only source of everything that is shown of keys: metrics, status page, JSON, the text of `apply`
//! and `plan`, the exit code. It is made once at the end of a run and never changed.

use std::fmt;
use std::iter::Sum;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cover::Subject;
use super::decide::{Reason, Reasons, Status, Step, Steps};
use super::key::{DesiredRotation, Rotation};
use super::project::{Cloud, Coverage, Mode};
use super::rule::Exemption;

/// What woke a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The start of the process, or of its time as the one of several replicas that acts; a single run of `apply` or
    /// `plan`.
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
    /// What woke the run.
    pub trigger: Trigger,
    /// When the run began.
    pub started: SystemTime,
    /// When the run ended.
    pub ended: SystemTime,
    /// How long it took, whatever happened to the clock meanwhile.
    pub took: Duration,
    /// The run was stopped before it had looked at every key.
    pub interrupted: bool,
    /// Another replica acts, so that this run only looked, at least at its end.
    pub standby: bool,
    /// The projects, in the policy's order.
    pub projects: Vec<ProjectReport>,
}

/// One project of a run.
#[derive(Clone, Debug)]
pub struct ProjectReport {
    /// The policy's name for it.
    pub name: Arc<str>,
    /// The cloud that it is in.
    pub cloud: Cloud,
    /// The region.
    pub region: Arc<str>,
    /// Whether its keys may be written.
    pub mode: Mode,
    /// What keys that no entry speaks of count for.
    pub coverage: Coverage,
    /// Whether its keys could be listed, so that none is missing here.
    pub listed: bool,
    /// What ended the project's run early or kept it from being complete, for people.
    pub failure: Option<Box<str>>,
    /// The lines of selectors that no key meets.
    pub idle_entries: Vec<u32>,
    /// The keys, in the policy's order; those that no entry speaks of are last.
    pub keys: Vec<KeyReport>,
}

/// One key of a run.
#[derive(Clone, Debug)]
pub struct KeyReport {
    /// The key.
    pub subject: Subject,
    /// The line of the policy entry that decides for it; nothing where none does.
    pub entry_line: Option<u32>,
    /// Its name, where the run learned it.
    pub alias: Option<Box<str>>,
    /// What the policy wants of it; nothing where it wants nothing.
    pub desired: Option<DesiredRotation>,
    /// Why the policy excuses it, where it does.
    pub exemption: Option<Box<Exemption>>,
    /// The key against its policy.
    pub status: Status,
    /// Why; of a compliant key, only that a write was made for all that (`reapply: always`) and failed.
    pub reasons: Reasons,
    /// The setting as last read in this run.
    pub rotation: Option<Rotation>,
    /// When that was read.
    pub observed: Option<SystemTime>,
    /// What would still bring the key to its policy: the plan of a run that may not write.
    pub planned: Steps,
    /// The writes that took effect in this run.
    pub changes: Vec<Change>,
    /// The last error of a call for this key, for people.
    pub error: Option<KeyError>,
}

/// Why a key is not known or not changed, for people: the cloud's status, code and message, and its id of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    text: Box<str>,
    /// How much of the text is the cause.
    cause: usize,
}

impl KeyError {
    /// An error with this cause, and the cloud's id of the request where there was one.
    #[must_use]
    pub fn new(cause: &str, request_id: Option<&str>) -> Self {
        let text = request_id.map_or_else(|| cause.to_owned(), |id| format!("{cause} (request {id})"));
        Self { text: text.into(), cause: cause.len() }
    }

    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stays the same from request to request.
    #[must_use]
    pub fn cause(&self) -> &str {
        self.text.get(..self.cause).unwrap_or(&self.text)
    }

    /// Says one thing more.
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

    /// It is off policy for what no run can mend.
    fn awaits_a_person(&self) -> bool {
        let mut reasons = self.reasons.iter();
        self.status == Status::NonCompliant
            && reasons.any(|reason| matches!(reason, Reason::KeyDisabled | Reason::PendingDeletion))
    }
}

/// A write that took effect.
#[derive(Clone, Debug)]
pub struct Change {
    /// What was written.
    pub step: Step,
    /// The setting before it, where it could be read.
    pub before: Option<Rotation>,
    /// When the cloud accepted it, or was found to have applied it.
    pub at: SystemTime,
    /// The cloud's id of the request, where it gave one.
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

    fn add(&mut self, status: Status) {
        self.0[status as usize] += 1;
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
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.keys.iter().for_each(|key| tally.add(key.status));
        tally
    }

    /// The writes that a run would make: none where the project's mode forbids them.
    pub fn planned(&self) -> impl Iterator<Item = Steps> {
        let keys = self.keys.iter().filter(|_| self.mode == Mode::Enforce);
        keys.map(|key| key.planned).filter(|planned| !planned.is_empty())
    }

    /// How many writes took effect.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.keys.iter().map(|key| key.changes.len()).sum()
    }

    /// Whether its keys are known as far as they have to be for coverage.
    fn knows_coverage(&self) -> bool {
        self.listed || self.coverage == Coverage::Reported
    }

    /// Whether a run would change the key if the project's mode did not forbid it.
    #[must_use]
    pub fn holds_back(&self, key: &KeyReport) -> bool {
        self.mode == Mode::Monitor && !key.planned.is_empty()
    }

    /// No key is off policy, unknown, or uncovered where that counts, except the keys that `is_excused` accepts, and no
    /// key can be missing where that counts.
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
    pub fn tally(&self) -> Tally {
        self.projects.iter().map(ProjectReport::tally).sum()
    }

    /// The run did all that a run can do: every key was looked at, and none is off policy but for being disabled or
    /// about to be deleted, which somebody else has decided. Where a project requires it, every key is under an entry.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.all(|project| project.is_on_policy_but_for(KeyReport::awaits_a_person))
    }

    /// Every key was looked at and is on its policy or exempt; where a project requires it, every key is under an entry.
    #[must_use]
    pub fn is_on_policy(&self) -> bool {
        self.all(|project| project.is_on_policy_but_for(|_| false))
    }

    /// As [`is_on_policy`](Self::is_on_policy), but keys that could be read and that only monitor mode leaves off their
    /// policy do not count.
    #[must_use]
    pub fn is_on_policy_but_for_monitor_mode(&self) -> bool {
        self.could_read_all() && self.all(|project| project.is_on_policy_but_for(|key| project.holds_back(key)))
    }

    /// No key is unknown, and every key was looked at; where a project requires coverage, its keys could be listed.
    #[must_use]
    pub fn could_read_all(&self) -> bool {
        self.all(ProjectReport::could_read_all)
    }

    /// The run was not stopped, and each project is like this.
    fn all(&self, is_so: impl Fn(&ProjectReport) -> bool) -> bool {
        !self.interrupted && self.projects.iter().all(is_so)
    }

    /// The writes that a run would make: none where the project's mode forbids them.
    pub fn planned(&self) -> impl Iterator<Item = Steps> {
        self.projects.iter().flat_map(ProjectReport::planned)
    }

    /// How many keys were left as they are because the run had changed as many as it may.
    #[must_use]
    pub fn held_back(&self) -> usize {
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
