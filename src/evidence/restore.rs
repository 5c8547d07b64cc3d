//! What a log has of the keys at its end, for the process that continues it, and for `plan`.
//!
//! Only the last segment is read, since it opens with every key; and the one before it if the last one was cut while it
//! was opened.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::changes::Recorded;
use super::folder;
use super::line;
use super::log::opening;
use super::memory::parsed;
use super::reader::{Entry, parse_time, read_lines};
use super::record::{
    Event, KeyMemory, KeyRecord, KeyState, ProjectRecord, Record, RunRecord, SnapshotRecord, WritePhase, WriteRecord,
};
use crate::reconcile::RestoredProject;
use crate::rotation::assignment::Subject;
use crate::rotation::decide::{Reason, Reasons, Status, Step, Steps};
use crate::rotation::key::{Bound, DesiredRotation, RotationInterval};
use crate::rotation::past::KeyPast;
use crate::rotation::report::KeyReport;
use crate::rotation::rule::{Exemption, LastDay};

/// The end of a log.
#[derive(Debug, Default)]
pub struct Restored {
    /// What later runs are compared with.
    pub recorded: Recorded,
    /// What the process remembers of the keys.
    pub projects: HashMap<Arc<str>, RestoredProject>,
    /// The last record of each project.
    pub project_records: HashMap<Arc<str>, ProjectRecord>,
    /// The SHA-256 of the policy in force, in hexadecimal digits.
    pub policy_sha256: Option<String>,
}

/// Reads the end of the log in a folder, or of the one in a sub-folder that continues it. Without a log there is
/// nothing.
///
/// # Errors
///
/// A file cannot be read.
pub fn restore(folder: &Path) -> io::Result<Restored> {
    let segments = match folder::active(folder).and_then(|active| folder::segments(&active)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Restored::default()),
        segments => segments?,
    };
    let mut end = LogEnd::default();
    let mut contents = Vec::new();
    for segment in segments.iter().rev() {
        let content = segment.read()?;
        let is_complete = opening(&content, segment.first).is_some_and(|record| {
            // The first segment opens a log without keys.
            let lines = line::lines(&content).filter(|(_, is_complete)| *is_complete).count() as u64;
            lines > record.opening
        });
        contents.push((segment.first, content));
        if is_complete {
            break;
        }
    }
    for (first, content) in contents.into_iter().rev() {
        read_lines(&content, first, &mut |entry| end.add(entry));
    }
    Ok(end.into_restored())
}

/// What the records so far have of projects and keys.
#[derive(Default)]
struct LogEnd {
    projects: BTreeMap<String, ProjectEnd>,
    policy_sha256: Option<String>,
}

#[derive(Default)]
struct ProjectEnd {
    record: Option<ProjectRecord>,
    is_unreadable: bool,
    keys: BTreeMap<String, KeyEnd>,
    /// The writes to keys, also to those without a record yet.
    writes: HashMap<String, Writes>,
    /// When the last run began that could read it, and after when a reading leaves a gap.
    last_run: Option<(SystemTime, Option<SystemTime>)>,
}

struct KeyEnd {
    state: KeyState,
    memory: KeyMemory,
    observed: Option<SystemTime>,
}

/// The writes to one key.
#[derive(Default)]
struct Writes {
    /// Rotation was switched on, or may have been, without a reading before.
    is_enabled: bool,
    /// The interval that is to be sent after that.
    interval_days: Option<u16>,
    /// Intents without an end.
    open: u32,
}

impl LogEnd {
    fn add(&mut self, Entry { at, record, .. }: Entry) {
        match record {
            Record::Policy(policy) => self.policy_sha256 = Some(policy.sha256),
            Record::Project(record) => {
                let project = self.projects.entry(record.project.clone()).or_default();
                project.record = Some(*record);
            }
            Record::Snapshot(record) => {
                let SnapshotRecord { project, key_id, observed_at, state, memory } = *record;
                let key = KeyEnd { state, memory, observed: parsed(observed_at.as_ref()) };
                self.projects.entry(project).or_default().keys.insert(key_id, key);
            }
            Record::Key(record) => self.key(*record),
            Record::Write(record) => self.write(*record, at),
            Record::Unreadable(record) => self.projects.entry(record.project).or_default().is_unreadable = true,
            Record::Readable(record) => self.projects.entry(record.project).or_default().is_unreadable = false,
            Record::Run(record) => self.run(&record),
            // What happened meanwhile is not known.
            Record::Gap(_) => {
                for key in self.projects.values_mut().flat_map(|project| project.keys.values_mut()) {
                    key.memory.undisturbed_since = None;
                }
            }
            Record::Segment(_) | Record::Start(_) | Record::Prune(_) | Record::Recovered(_) => {}
        }
    }

    fn key(&mut self, record: KeyRecord) {
        let KeyRecord { project, key_id, event, after, seen_by, memory, .. } = record;
        let keys = &mut self.projects.entry(project).or_default().keys;
        match after {
            Some(state) if event != Event::Vanished => {
                let known = keys.remove(&key_id).map(|key| key.memory);
                let (memory, observed) = (memory.or(known).unwrap_or_default(), parsed(seen_by.as_ref()));
                keys.insert(key_id, KeyEnd { state, memory, observed });
            }
            _ => {
                keys.remove(&key_id);
            }
        }
    }

    fn write(&mut self, record: WriteRecord, at: SystemTime) {
        let WriteRecord { project, key_id, step, interval_days, phase, before, .. } = record;
        let project = self.projects.entry(project).or_default();
        if phase == WritePhase::Failed
            && let Some(refused) = project.keys.get_mut(&key_id).and_then(|key| key.memory.refused.as_mut())
        {
            refused.at = line::time(at);
        }
        let writes = project.writes.entry(key_id.clone()).or_default();
        let (is_enabling, is_unread) = (step == Step::EnableRotation.as_str(), before.is_none());
        writes.open = match phase {
            WritePhase::Intent => writes.open + 1,
            _ => writes.open.saturating_sub(1),
        };
        match phase {
            WritePhase::Intent => writes.interval_days = interval_days.filter(|_| is_unread),
            WritePhase::Applied | WritePhase::Unclear if is_enabling => writes.is_enabled |= is_unread,
            WritePhase::Applied => {
                *writes = Writes { open: writes.open, ..Writes::default() };
                if let Some(key) = project.keys.get_mut(&key_id) {
                    key.memory.interval_due_days = None;
                }
            }
            WritePhase::Unclear | WritePhase::Failed | WritePhase::NotSent => {}
        }
    }

    fn run(&mut self, record: &RunRecord) {
        let Some(started) = parse_time(&record.started_at) else { return };
        let gap_after = parsed(record.gap_after.as_ref());
        for project in self.projects.values_mut() {
            if !project.is_unreadable {
                project.last_run = Some((started, gap_after));
            }
            // An incomplete run need not have come to every key.
            let is_listed = project.record.as_ref().is_some_and(|project| project.listed);
            let is_complete = is_listed && record.result != RunRecord::INTERRUPTED;
            project.writes.retain(|key_id, writes| {
                let Some(key) = project.keys.get_mut(key_id) else { return !is_complete };
                let is_due = writes.is_enabled || writes.open > 0 && !is_complete;
                key.memory.interval_due_days = writes.interval_days.filter(|_| is_due).or(key.memory.interval_due_days);
                false
            });
        }
    }

    fn into_restored(self) -> Restored {
        let mut restored = Restored { policy_sha256: self.policy_sha256, ..Restored::default() };
        for (name, project) in self.projects {
            let name: Arc<str> = name.into();
            let Some(record) = project.record.clone() else { continue };
            let mut reports = Vec::with_capacity(project.keys.len());
            let mut keys = Vec::with_capacity(project.keys.len());
            for (key_id, key) in &project.keys {
                let subject = subject(key_id);
                let past = project.past(key_id, key);
                let grace = std::time::Duration::from_secs(record.grace_seconds);
                reports.extend(report(subject.clone(), &key.state, &past, grace));
                keys.extend(subject.key_id().map(|key_id| (key_id, past)));
            }
            // Keys that were written and killed the process before their first record.
            let unrecorded = project.writes.keys().filter(|key_id| !project.keys.contains_key(*key_id));
            keys.extend(unrecorded.filter_map(|key_id| {
                let interval_due = project.interval_due(key_id);
                Some((key_id.parse().ok()?, KeyPast { interval_due, ..KeyPast::default() }))
            }));
            restored.recorded.restore(&name, reports, project.is_unreadable);
            let known = RestoredProject {
                cloud: record.cloud.clone(),
                region: record.region.clone(),
                endpoint: record.endpoint.clone(),
                project_id: record.project_id.clone(),
                readable: record.readable,
                keys,
            };
            restored.projects.insert(Arc::clone(&name), known);
            restored.project_records.insert(name, record);
        }
        restored
    }
}

impl ProjectEnd {
    fn past(&self, key_id: &str, key: &KeyEnd) -> KeyPast {
        let (mut observed, mut gap_after) = (key.observed, None);
        if let (Some((started, gap)), true) = (self.last_run, is_read_by_every_run(&key.state)) {
            (observed, gap_after) = (observed.max(Some(started)), gap);
        }
        let mut past = key.memory.past(&key.state, observed, gap_after);
        // A write whose end is not recorded may have been applied.
        if self.writes.get(key_id).is_some_and(|writes| writes.open > 0) {
            past.history.maybe_written();
        }
        past.interval_due = self.interval_due(key_id).or(past.interval_due);
        past
    }

    /// The interval that the last run has left to be sent.
    fn interval_due(&self, key_id: &str) -> Option<RotationInterval> {
        let writes = self.writes.get(key_id)?;
        let due = writes.interval_days.filter(|_| writes.is_enabled || writes.open > 0);
        due.and_then(RotationInterval::from_days)
    }
}

/// Whether every run that reaches its project reads the key.
fn is_read_by_every_run(state: &KeyState) -> bool {
    let is_judged_by_reading = [Status::Compliant, Status::NonCompliant].iter().any(|it| it.as_str() == state.status);
    let is_skipped = |reason: &String| {
        [Reason::KeyDisabled, Reason::PendingDeletion, Reason::NotFound].iter().any(|it| it.as_str() == reason)
    };
    is_judged_by_reading && !state.reasons.iter().any(is_skipped)
}

fn subject(text: &str) -> Subject {
    text.parse().map_or_else(|_| Subject::Entry(text.into()), Subject::Key)
}

/// The report of the run that recorded this state, as far as later runs are compared with it.
fn report(subject: Subject, state: &KeyState, past: &KeyPast, grace: std::time::Duration) -> Option<KeyReport> {
    let interval = |days: Option<u16>, bound| {
        Some(DesiredRotation { bound, ..DesiredRotation::exactly(RotationInterval::from_days(days?)?) })
    };
    let reasons = state.reasons.iter().filter_map(|name| Reason::named(name));
    let history = &past.history;
    Some(KeyReport {
        subject,
        entry_line: None,
        alias: state.alias.as_deref().map(Into::into),
        desired: interval(state.policy_interval_days, Bound::Exact)
            .or_else(|| interval(state.policy_max_interval_days, Bound::Longest)),
        exemption: state.exemption.as_ref().map(|exemption| {
            let ends = SystemTime::UNIX_EPOCH;
            let until = exemption.until.as_deref().map(|date| LastDay { date: date.into(), ends });
            Box::new(Exemption { reason: exemption.reason.as_str().into(), until })
        }),
        status: Status::named(&state.status)?,
        reasons: reasons.fold(Reasons::NONE, Reasons::with),
        created: history.created,
        rotation: state.rotation(),
        observed: history.last().map(|last| last.read_at),
        material_since: parsed(state.material_since.as_ref()),
        rotation_due: parsed(state.rotation_due_at.as_ref()),
        overdue_from: history.overdue_from(grace),
        new_rotations: 0,
        planned: Steps::NONE,
        age_if_written: None,
        changes: Vec::new(),
        error: None,
    })
}
