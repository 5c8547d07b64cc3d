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
    /// Why; empty for a compliant key.
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
    pub error: Option<Box<str>>,
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

    fn is_success(&self) -> bool {
        self.knows_coverage() && !self.keys.iter().any(|key| self.coverage.is_problem(key.status))
    }

    fn is_success_but_for_monitor_mode(&self) -> bool {
        let is_problem = |key: &KeyReport| self.coverage.is_problem(key.status) && !self.holds_back(key);
        self.could_read_all() && !self.keys.iter().any(is_problem)
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

    /// Every key is on its policy or exempt, and every key was looked at; where a project requires it, every key is
    /// under an entry.
    #[must_use]
    pub fn is_success(&self) -> bool {
        !self.interrupted && self.projects.iter().all(ProjectReport::is_success)
    }

    /// No key is unknown, and every key was looked at; where a project requires coverage, its keys could be listed.
    #[must_use]
    pub fn could_read_all(&self) -> bool {
        !self.interrupted && self.projects.iter().all(ProjectReport::could_read_all)
    }

    /// As [`is_success`](Self::is_success), but keys that could be read and that only monitor mode leaves off their
    /// policy do not count.
    #[must_use]
    pub fn is_success_but_for_monitor_mode(&self) -> bool {
        !self.interrupted && self.projects.iter().all(ProjectReport::is_success_but_for_monitor_mode)
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
