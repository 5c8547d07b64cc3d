//! A log, and what it has of the policy, the projects and the keys: turns runs into records and begins segments.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tracing::{error, warn};

use super::changes::{Change, Recorded};
use super::line::time;
use super::log::{Log, LogError, LogOptions, Opened};
use super::note::Checkpoint;
use super::record::{Counts, KeyMemory, PolicyRecord, ProjectRecord, RecordType, RunRecord};
use super::restore::{Restored, restore};
use crate::reconcile::RunTiming;
use crate::rotation::decide::Status;
use crate::rotation::key::{DAY, KeyId};
use crate::rotation::material::SHORTEST_GAP;
use crate::rotation::past::KeyPast;
use crate::rotation::report::{ProjectReport, Report, Tally};
use crate::support::hex::hex;

/// Returns what the process remembers of a key.
type PastOf<'a> = &'a (dyn Fn(&str, KeyId) -> KeyPast + Sync);

/// An open log.
pub(super) struct Journal {
    log: Log,
    recorded: Recorded,
    projects: HashMap<Arc<str>, ProjectRecord>,
    policy: Option<PolicyRecord>,
    /// The SHA-256 of the last policy in the log.
    policy_sha256: Option<String>,
    retention: Option<Duration>,
    /// When old segments were last looked for.
    pruned: Option<SystemTime>,
    /// Records were given up, so that the next segment must have every key.
    lacks_records: bool,
    /// Closed segments may be uncompressed.
    compresses: bool,
    newest: Option<Checkpoint>,
    is_synced: bool,
}

impl Journal {
    /// Opens the log in a folder. Returns what it has of the keys.
    pub(super) fn open(
        folder: &Path,
        options: &LogOptions,
        retention: Option<Duration>,
        now: SystemTime,
    ) -> Result<(Self, Restored), LogError> {
        let (log, opened) = Log::open(folder, options, now)?;
        if let Opened::Left(why) = &opened {
            let (begun, origin) = (log.folder().display().to_string(), &log.identity().origin);
            error!(%why, begun, origin, "the evidence log is damaged; it is left as it is, and a new one is begun");
        }
        let mut restored = restore(folder).map_err(|error| LogError::File { path: folder.to_owned(), error })?;
        let journal = Self {
            recorded: std::mem::take(&mut restored.recorded),
            projects: std::mem::take(&mut restored.project_records),
            policy: None,
            policy_sha256: restored.policy_sha256.take(),
            retention,
            pruned: None,
            lacks_records: false,
            compresses: false,
            newest: None,
            is_synced: options.sync,
            log,
        };
        Ok((journal, restored))
    }

    pub(super) fn origin(&self) -> &str {
        &self.log.identity().origin
    }

    /// The records on the disk.
    pub(super) fn records(&self) -> u64 {
        self.log.durable_size()
    }

    pub(super) fn newest_checkpoint(&self) -> Option<&Checkpoint> {
        self.newest.as_ref()
    }

    pub(super) fn is_synced(&self) -> bool {
        self.is_synced
    }

    pub(super) fn is_lost(&self) -> bool {
        self.log.is_lost()
    }

    pub(super) fn append(&mut self, at: SystemTime, record: &impl RecordType) {
        self.log.append(at, record);
    }

    /// Sets how long records are kept.
    pub(super) fn keep_for(&mut self, retention: Option<Duration>) {
        self.retention = retention;
    }

    /// A policy with this text is in force; it is recorded if it is another one.
    pub(super) fn policy_in_force(&mut self, text: &str, now: SystemTime) {
        let record = PolicyRecord { sha256: hex(&Sha256::digest(text)), text: text.to_owned() };
        if self.policy_sha256.as_ref() != Some(&record.sha256) {
            self.log.append(now, &record);
            self.policy_sha256 = Some(record.sha256.clone());
        }
        self.policy = Some(record);
    }

    /// Makes durable what is appended.
    pub(super) fn commit(&mut self, now: SystemTime) -> io::Result<()> {
        let had_gap = self.log.has_gap();
        self.log.commit(now)?;
        self.lacks_records |= had_gap;
        Ok(())
    }

    /// Appends what a run has found and done. A segment that is due begins after it. A run with one key has no record of
    /// its own: those of runs show when all keys were looked at.
    pub(super) fn run_ended(&mut self, report: &Arc<Report>, timing: RunTiming, past: PastOf<'_>, now: SystemTime) {
        for project in &report.projects {
            self.project(project, now);
        }
        if !report.interrupted && report.only.is_none() {
            self.projects.retain(|name, _| report.projects.iter().any(|project| project.name == *name));
        }
        let log = &mut self.log;
        self.recorded.update(report, |change| match change {
            Change::Key(mut key) => {
                if let (Ok(key_id), true) = (key.key_id.parse(), key.after.is_some()) {
                    key.memory = Some(KeyMemory::of(&past(&key.project, key_id)));
                }
                log.append(now, &*key);
            }
            Change::Unreadable(record) => log.append(now, &record),
            Change::Readable(record) => log.append(now, &record),
        });
        if report.only.is_none() {
            let record = self.run_record(report, timing);
            self.log.append(now, &record);
        }
        if (self.lacks_records || self.log.is_segment_due(now)) && !self.log.has_gap() {
            // An error comes again with the next commit.
            let _ = self.begin_segment(past, now);
        }
    }

    /// Records a project if the log does not have it. That it has changed is recorded at the end of the run.
    pub(super) fn new_project(&mut self, project: &ProjectReport, now: SystemTime) {
        if !self.projects.contains_key(&project.name) {
            self.project(project, now);
        }
    }

    /// Records a project if it is new or has changed. What is not known now stays as it was.
    fn project(&mut self, project: &ProjectReport, now: SystemTime) {
        let known = self.projects.get(&project.name);
        let access = &project.access;
        let or_known = |new: &Option<Arc<str>>, known: Option<&Option<String>>| {
            new.as_deref().map(ToOwned::to_owned).or_else(|| known.cloned().flatten())
        };
        let record = ProjectRecord {
            project: project.name.to_string(),
            cloud: project.cloud.as_str().to_owned(),
            region: project.region.to_string(),
            endpoint: or_known(&access.endpoint, known.map(|known| &known.endpoint)),
            project_id: or_known(&access.project_id, known.map(|known| &known.project_id)),
            principal: or_known(&access.principal, known.map(|known| &known.principal)),
            mode: project.mode.as_str().to_owned(),
            coverage: project.coverage.as_str().to_owned(),
            proof: project.proof.as_str().to_owned(),
            grace_seconds: project.grace.as_secs(),
            listed: project.listed,
            readable: project.readable,
        };
        if known != Some(&record) {
            self.log.append(now, &record);
            self.projects.insert(Arc::clone(&project.name), record);
        }
    }

    fn run_record(&self, report: &Report, timing: RunTiming) -> RunRecord {
        let result = match (report.interrupted, report.is_success()) {
            (true, _) => RunRecord::INTERRUPTED,
            (false, true) => "success",
            (false, false) => "failure",
        };
        let skews = report.projects.iter().filter_map(|project| project.access.clock_skew_seconds);
        RunRecord {
            trigger: report.trigger.as_str().to_owned(),
            result: result.to_owned(),
            acting: !report.standby,
            started_at: time(report.started),
            duration_seconds: (self.duration(report).as_secs_f64() * 1_000.0).round() / 1_000.0,
            keys: counts(&report.tally()),
            listed: report.projects.iter().all(|project| project.listed),
            changes: report.changes(),
            clock_skew_seconds: skews.max_by_key(|skew| skew.unsigned_abs()),
            states_sha256: self.recorded.digest(),
            next_run_at: timing.next_run.map(time),
            gap_after: timing.gap_after.max(Some(report.started + SHORTEST_GAP)).map(time),
        }
    }

    /// How long a run took. A log that is not synced is of a rehearsal whose clock jumps: it is the same each time.
    fn duration(&self, report: &Report) -> Duration {
        if self.is_synced { report.took } else { report.ended.duration_since(report.started).unwrap_or_default() }
    }

    /// Begins a segment, which opens with the policy, the projects and every key.
    fn begin_segment(&mut self, past: PastOf<'_>, now: SystemTime) -> io::Result<()> {
        let Self { log, recorded, projects, policy, .. } = self;
        let mut projects: Vec<_> = projects.values().collect();
        projects.sort_unstable_by(|one, other| one.project.cmp(&other.project));
        let opening = u64::from(policy.is_some()) + (projects.len() + recorded.len()) as u64;
        log.begin_segment(now, opening, |log| {
            if let Some(policy) = policy {
                log.append(now, policy);
            }
            for project in projects {
                log.append(now, project);
            }
            for (project, subject, mut snapshot) in recorded.snapshot() {
                if let Some(key_id) = subject.key_id() {
                    snapshot.memory = KeyMemory::of(&past(project, key_id));
                }
                log.append(now, &snapshot);
            }
        })?;
        (self.lacks_records, self.compresses) = (false, true);
        Ok(())
    }

    /// Ends a run whose records are on the disk: signs a checkpoint, and compresses and removes old segments.
    pub(super) fn end_run(&mut self, now: SystemTime) -> io::Result<()> {
        let is_due = self.pruned.is_none_or(|at| now.duration_since(at).is_ok_and(|ago| ago >= DAY));
        if let Some(before) = self.retention.and_then(|kept| now.checked_sub(kept)).filter(|_| is_due) {
            self.pruned = Some(now);
            let files = self.log.prune(before, now)?;
            if files > 0 {
                warn!(files, "old segments of the evidence log were removed, as its retention says");
            }
        }
        self.newest = Some(self.log.checkpoint(now)?);
        if std::mem::take(&mut self.compresses) {
            self.log.compress_closed()?;
        }
        Ok(())
    }
}

fn counts(tally: &Tally) -> Counts {
    Counts {
        compliant: tally.of(Status::Compliant),
        non_compliant: tally.of(Status::NonCompliant),
        unknown: tally.of(Status::Unknown),
        exempt: tally.of(Status::Exempt),
        uncovered: tally.of(Status::Uncovered),
    }
}
