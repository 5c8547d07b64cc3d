//! What changed of keys and projects from run to run: a pure function of reports.
//!
//! It compares each run with what the log has of the runs before, and keeps only the last report for that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::line::time;
use super::record::{
    Cause, Event, ExemptionState, KeyRecord, KeyState, ReadableRecord, SnapshotRecord, UnreadableRecord,
};
use super::tree::Hash;
use crate::rotation::assignment::Subject;
use crate::rotation::decide::{Reason, Reasons, Status};
use crate::rotation::key::{Bound, DesiredRotation};
use crate::rotation::report::{KeyReport, ProjectReport, Report};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Key(Box<KeyRecord>),
    Unreadable(UnreadableRecord),
    Readable(ReadableRecord),
}

/// What the log has of the keys, by project.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    projects: BTreeMap<Arc<str>, RecordedProject>,
}

/// What the log has of the keys of a project.
#[derive(Clone, Debug, Default)]
struct RecordedProject {
    keys: Keys,
    /// Keys that the last report lacks, and that a complete list would show.
    missing: Vec<KeyReport>,
    /// The last run could read none of them.
    is_unreadable: bool,
}

#[derive(Clone, Debug)]
enum Keys {
    /// Of the project with this index in the report.
    Reported(Arc<Report>, usize),
    Restored(Vec<KeyReport>),
}

impl Default for Keys {
    fn default() -> Self {
        Self::Restored(Vec::new())
    }
}

impl RecordedProject {
    fn keys(&self) -> impl Iterator<Item = &KeyReport> {
        let keys = match &self.keys {
            Keys::Reported(report, index) => &report.projects[*index].keys,
            Keys::Restored(keys) => keys,
        };
        keys.iter().chain(&self.missing)
    }
}

impl Recorded {
    /// What the log of an earlier process has.
    pub(super) fn restore(&mut self, project: &Arc<str>, keys: Vec<KeyReport>, is_unreadable: bool) {
        let restored = RecordedProject { keys: Keys::Restored(keys), missing: Vec::new(), is_unreadable };
        self.projects.insert(Arc::clone(project), restored);
    }

    /// Takes the keys of a run, and calls `emit` with each change: in the order of the report, and then the keys that
    /// are gone. A key is gone if it is missing on a complete list, or if its project is. Of an interrupted run only
    /// the keys count that it has read, and of a run with one key only that one.
    pub fn update(&mut self, report: &Arc<Report>, mut emit: impl FnMut(Change)) {
        let mut before = std::mem::take(&mut self.projects);
        for (index, project) in report.projects.iter().enumerate() {
            let known = before.remove(&project.name).unwrap_or_default();
            let new = known.update(report, index, &mut emit);
            self.projects.insert(Arc::clone(&project.name), new);
        }
        if report.interrupted || report.only.is_some() {
            self.projects.extend(before);
            return;
        }
        for (name, gone) in before {
            gone.keys().for_each(|key| emit(vanished(&name, key, report)));
        }
    }

    /// Each key in full. The caller adds the memory.
    pub fn snapshot(&self) -> impl Iterator<Item = (&Arc<str>, &Subject, SnapshotRecord)> {
        self.projects.iter().flat_map(|(name, project)| {
            project.keys().map(move |key| {
                let record = SnapshotRecord {
                    project: name.to_string(),
                    key_id: key.subject.to_string(),
                    observed_at: key.observed.map(time),
                    state: KeyState::of(key),
                    memory: super::record::KeyMemory::default(),
                };
                (name, &key.subject, record)
            })
        })
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.projects.values().map(|project| project.keys().count()).sum()
    }

    /// The SHA-256 of the states of all keys, as `docs/evidence.md` has it: a line for each key in the order of
    /// project and key, and one for a project that cannot be read.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let mut hash = Sha256::new();
        for (name, project) in &self.projects {
            if project.is_unreadable {
                hash.update(format!("{name}\tunreadable\n"));
                continue;
            }
            let mut keys: Vec<_> = project.keys().collect();
            keys.sort_unstable_by(|one, other| one.subject.as_str().cmp(other.subject.as_str()));
            for key in keys {
                hash.update(state_line(name, key));
            }
        }
        Hash(hash.finalize().into())
    }
}

/// One line of the digest.
fn state_line(project: &str, key: &KeyReport) -> String {
    let rotation = key.rotation;
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    format!(
        "{project}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
        key.subject,
        key.status,
        reasons(key.reasons).join(","),
        text(rotation.map(|rotation| rotation.enabled.to_string())),
        text(rotation.and_then(|rotation| rotation.interval_days).map(|days| days.to_string())),
        text(rotation.and_then(|rotation| rotation.rotations).map(|count| count.to_string())),
        text(rotation.and_then(|rotation| rotation.last_rotated).map(time)),
    )
}

impl RecordedProject {
    fn update(mut self, report: &Arc<Report>, index: usize, emit: &mut impl FnMut(Change)) -> Self {
        let project = &report.projects[index];
        if let Some(unreadable) = unreadable(project, report.started) {
            // One key does not show that no key of the project can be read.
            if !self.is_unreadable && !report.interrupted && report.only.is_none() {
                self.is_unreadable = true;
                emit(Change::Unreadable(unreadable));
            }
            // The keys of a new project are recorded all the same: nothing else shows that there are any.
            if self.keys().next().is_some() {
                return self;
            }
        } else if report.only.is_none() && std::mem::take(&mut self.is_unreadable) {
            emit(Change::Readable(ReadableRecord { project: project.name.to_string() }));
        }
        let mut known: HashMap<_, _> = self.keys().map(|key| (&key.subject, key)).collect();
        for key in &project.keys {
            let before = known.remove(&key.subject);
            if !report.interrupted || key.observed.is_some_and(|at| at >= report.started) {
                changes(project, key, before, emit);
            }
        }
        let is_gone = project.listed && !report.interrupted && report.only.is_none();
        let mut missing = Vec::new();
        // In the order of before.
        for key in self.keys().filter(|key| known.contains_key(&key.subject)) {
            if is_gone {
                emit(vanished(&project.name, key, report));
            } else {
                missing.push(key.clone());
            }
        }
        Self { keys: Keys::Reported(Arc::clone(report), index), missing, is_unreadable: self.is_unreadable }
    }
}

/// The record of a project of which no key could be read, for a reason that concerns all of them.
fn unreadable(project: &ProjectReport, started: SystemTime) -> Option<UnreadableRecord> {
    let mut governed = project.keys.iter().filter(|key| key.desired.is_some());
    let first = governed.next()?;
    let is_own = [Reason::NotFound, Reason::StatusUnreadable].iter().any(|own| first.reasons.contains(*own));
    let is_unread = |key: &KeyReport| {
        key.status == Status::Unknown
            && key.reasons == first.reasons
            && key.observed.is_none_or(|observed| observed < started)
    };
    if is_own || !is_unread(first) || !governed.all(is_unread) {
        return None;
    }
    let error = project.failure.as_deref().or(first.error());
    Some(UnreadableRecord {
        project: project.name.to_string(),
        reasons: reasons(first.reasons),
        error: error.map(ToOwned::to_owned),
    })
}

fn vanished(project: &str, key: &KeyReport, report: &Report) -> Change {
    let mut record = record_of(project, &key.subject, Event::Vanished);
    (record.seen_after, record.seen_by) = (key.observed.map(time), Some(time(report.ended)));
    record.before = Some(KeyState::of(key));
    Change::Key(Box::new(record))
}

fn record_of(project: &str, subject: &Subject, event: Event) -> KeyRecord {
    KeyRecord {
        project: project.to_owned(),
        key_id: subject.to_string(),
        event,
        by: None,
        before: None,
        after: None,
        seen_after: None,
        seen_by: None,
        material_age_seconds: None,
        error: None,
        memory: None,
    }
}

/// Finds what has changed of a key. A rotation, a change of the setting and another change have a record each.
fn changes(project: &ProjectReport, key: &KeyReport, before: Option<&KeyReport>, emit: &mut impl FnMut(Change)) {
    let after = KeyState::of;
    let record = |event, by| {
        let mut record = record_of(&project.name, &key.subject, event);
        record.by = by;
        record.before = before.map(KeyState::of);
        record.after = Some(after(key));
        record.seen_after = before.and_then(|before| before.observed).map(time);
        record.seen_by = key.observed.map(time);
        record.error = key.error().map(ToOwned::to_owned);
        record
    };
    let mut emit = |record: KeyRecord| emit(Change::Key(Box::new(record)));
    let Some(was) = before else { return emit(record(Event::Appeared, None)) };
    let mut is_recorded = false;
    if key.new_rotations > 0 {
        let mut rotated = record(Event::Rotated, Some(Cause::Cloud));
        let age = key.material_since.zip(was.material_since).map(|(new, old)| new.duration_since(old));
        rotated.material_age_seconds = age.and_then(Result::ok).map(|age| age.as_secs());
        emit(rotated);
        is_recorded = true;
    }
    let setting = |key: &KeyReport| key.rotation.map(|rotation| (rotation.enabled, rotation.interval_days));
    // The setting before the first write is what another user has left.
    let found = key.changes.first().map(|change| change.before);
    let left = match found {
        Some(found) => found.map(|found| (found.enabled, found.interval_days)).or(setting(was)),
        None => setting(key),
    };
    let with_left = |mut state: KeyState| {
        if let Some((enabled, interval_days)) = left {
            (state.enabled, state.interval_days) = (Some(enabled), interval_days);
        }
        state
    };
    if setting(was).is_some() && left.is_some() && setting(was) != left {
        let mut drift = record(Event::Drift, Some(Cause::Other));
        if found.is_some() {
            drift.after = Some(with_left(KeyState::of(was)));
        }
        emit(drift);
        is_recorded = true;
    }
    if !key.changes.is_empty() {
        let mut repaired = record(Event::Repaired, Some(Cause::Us));
        repaired.before = Some(with_left(KeyState::of(was)));
        emit(repaired);
        is_recorded = true;
    }
    let judged =
        |key: &KeyReport| (key.status, key.reasons, key.alias.clone(), key.desired.map(requirement), exemption(key));
    let is_judged_otherwise = judged(was) != judged(key);
    // What a later process continues with. Keys that need not rotate are read once a day only, which leaves gaps.
    let overdue_from = |key: &KeyReport| key.overdue_from.filter(|_| key.desired.is_some());
    let proof = |key: &KeyReport| (key.rotation_due, overdue_from(key), key.material_since);
    if is_judged_otherwise || !is_recorded && proof(was) != proof(key) {
        let is_new = key.reasons.contains(Reason::Exempted) && !was.reasons.contains(Reason::Exempted);
        emit(record(if is_new { Event::Exempted } else { Event::Status }, None));
    }
}

/// What the policy requires of the interval.
fn requirement(desired: DesiredRotation) -> (u16, Bound) {
    (desired.interval.days(), desired.bound)
}

fn exemption(key: &KeyReport) -> Option<ExemptionState> {
    let exemption = key.exemption.as_ref()?;
    let until = exemption.until.as_ref().map(|until| until.date.to_string());
    Some(ExemptionState { reason: exemption.reason.to_string(), until })
}

fn reasons(reasons: Reasons) -> Vec<String> {
    reasons.iter().map(|reason| reason.to_string()).collect()
}

impl KeyState {
    /// The state of a key as a run reports it.
    #[must_use]
    pub fn of(key: &KeyReport) -> Self {
        let rotation = key.rotation;
        let interval =
            |bound| key.desired.filter(|desired| desired.bound == bound).map(|desired| desired.interval.days());
        Self {
            alias: key.alias.as_deref().map(ToOwned::to_owned),
            status: key.status.to_string(),
            reasons: reasons(key.reasons),
            enabled: rotation.map(|rotation| rotation.enabled),
            interval_days: rotation.and_then(|rotation| rotation.interval_days),
            policy_interval_days: interval(Bound::Exact),
            policy_max_interval_days: interval(Bound::Longest),
            exemption: exemption(key),
            created_at: key.created.map(time),
            last_rotation_at: rotation.and_then(|rotation| rotation.last_rotated).map(time),
            rotations: rotation.and_then(|rotation| rotation.rotations),
            material_since: key.material_since.map(time),
            rotation_due_at: key.rotation_due.map(time),
        }
    }
}
