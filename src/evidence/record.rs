//! What the log records of keys: each one in full when a segment begins, and what changes from run to run.
//!
//! A pure function of reports. Values have the names that they have in the JSON of `/api/v1/status`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::line::time;
use crate::rotation::assignment::Subject;
use crate::rotation::decide::Reason;
use crate::rotation::report::{KeyReport, ProjectReport, Report};

/// A key as a run has seen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyState {
    pub alias: Option<String>,
    pub status: String,
    pub reasons: Vec<String>,
    pub enabled: Option<bool>,
    pub interval_days: Option<u32>,
    pub policy_interval_days: Option<u16>,
    pub created_at: Option<String>,
    pub last_rotation_at: Option<String>,
    pub rotations: Option<u64>,
    pub material_since: Option<String>,
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
    /// Its status, reasons, name or requirement changed.
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

/// A change of a key.
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
    pub material_age_seconds: Option<u64>,
}

/// A key in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    pub project: String,
    pub key_id: String,
    /// When it was read.
    pub observed_at: Option<String>,
    #[serde(flatten)]
    pub state: KeyState,
}

/// The keys of the last run.
#[derive(Clone, Debug, Default)]
pub struct KnownKeys {
    keys: BTreeMap<(Arc<str>, Subject), Known>,
    /// The number of the last run.
    run: u64,
}

#[derive(Clone, Debug)]
struct Known {
    state: KeyState,
    observed: Option<SystemTime>,
    material_since: Option<SystemTime>,
    /// The last run that had it.
    run: u64,
}

impl KnownKeys {
    /// Takes the keys of a run, and returns what has changed since the one before: in the order of the report, and then
    /// the keys that are gone. A key is gone if it is missing on a complete list, or if its project is.
    pub fn update(&mut self, report: &Report) -> Vec<KeyRecord> {
        self.run += 1;
        let mut records = Vec::new();
        for (project, key) in report.keys() {
            let known = Known::of(key, self.run);
            let before = self.keys.get(&(Arc::clone(&project.name), key.subject.clone()));
            records.extend(changes(project, key, before, &known));
            self.keys.insert((Arc::clone(&project.name), key.subject.clone()), known);
        }
        let listed = report.projects.iter().map(|project| (&*project.name, project.listed));
        let is_complete: HashMap<_, _> = listed.collect();
        let run = self.run;
        self.keys.retain(|(project, subject), known| {
            if known.run == run || report.interrupted || is_complete.get(&**project) == Some(&false) {
                return true;
            }
            let mut record = KeyRecord::of(project, subject, Event::Vanished, known.observed, Some(report.ended));
            record.before = Some(known.state.clone());
            records.push(record);
            false
        });
        records
    }

    /// Each key in full.
    pub fn snapshot(&self) -> impl Iterator<Item = SnapshotRecord> {
        self.keys.iter().map(|((project, subject), known)| SnapshotRecord {
            project: project.to_string(),
            key_id: subject.to_string(),
            observed_at: known.observed.map(time),
            state: known.state.clone(),
        })
    }
}

impl Known {
    fn of(key: &KeyReport, run: u64) -> Self {
        let rotation = key.rotation;
        let state = KeyState {
            alias: key.alias.as_deref().map(ToOwned::to_owned),
            status: key.status.to_string(),
            reasons: key.reasons.iter().map(|reason| reason.to_string()).collect(),
            enabled: rotation.map(|rotation| rotation.enabled),
            interval_days: rotation.and_then(|rotation| rotation.interval_days),
            policy_interval_days: key.desired.map(|desired| desired.interval.days()),
            created_at: key.created.map(time),
            last_rotation_at: rotation.and_then(|rotation| rotation.last_rotated).map(time),
            rotations: rotation.and_then(|rotation| rotation.rotations),
            material_since: key.material_since.map(time),
        };
        Self { state, observed: key.observed, material_since: key.material_since, run }
    }
}

/// What has changed of a key. A rotation, a change of the setting and a change of the status have a record each.
fn changes(project: &ProjectReport, key: &KeyReport, before: Option<&Known>, after: &Known) -> Vec<KeyRecord> {
    let record = |event, by| {
        let mut record =
            KeyRecord::of(&project.name, &key.subject, event, before.and_then(|known| known.observed), key.observed);
        record.by = by;
        record.before = before.map(|known| known.state.clone());
        record.after = Some(after.state.clone());
        record
    };
    let Some(known) = before else { return vec![record(Event::Appeared, None)] };
    let (was, is) = (&known.state, &after.state);
    let mut records = Vec::new();
    if key.new_rotations > 0 {
        let mut rotated = record(Event::Rotated, Some(Cause::Cloud));
        let age = after.material_since.zip(known.material_since).map(|(new, old)| new.duration_since(old));
        rotated.material_age_seconds = age.and_then(Result::ok).map(|age| age.as_secs());
        records.push(rotated);
    }
    let setting = |state: &KeyState| (state.enabled, state.interval_days);
    // The setting before the first write is what another user has left.
    let found = key.changes.first().and_then(|change| change.before).map(|found| KeyState {
        enabled: Some(found.enabled),
        interval_days: found.interval_days,
        ..was.clone()
    });
    let left = found.as_ref().unwrap_or(if key.changes.is_empty() { is } else { was });
    if was.enabled.is_some() && left.enabled.is_some() && setting(was) != setting(left) {
        let mut drift = record(Event::Drift, Some(Cause::Other));
        drift.after = Some(left.clone());
        records.push(drift);
    }
    if !key.changes.is_empty() {
        let mut repaired = record(Event::Repaired, Some(Cause::Us));
        repaired.before = Some(left.clone());
        records.push(repaired);
    }
    let is_judged_otherwise = (&was.status, &was.reasons, &was.alias, was.policy_interval_days)
        != (&is.status, &is.reasons, &is.alias, is.policy_interval_days);
    if is_judged_otherwise {
        let exempted = Reason::Exempted.as_str();
        let is_new = key.reasons.contains(Reason::Exempted) && was.reasons.iter().all(|reason| reason != exempted);
        records.push(record(if is_new { Event::Exempted } else { Event::Status }, None));
    }
    records
}

impl KeyRecord {
    fn of(
        project: &str,
        subject: &Subject,
        event: Event,
        seen_after: Option<SystemTime>,
        seen_by: Option<SystemTime>,
    ) -> Self {
        Self {
            project: project.to_owned(),
            key_id: subject.to_string(),
            event,
            by: None,
            before: None,
            after: None,
            seen_after: seen_after.map(time),
            seen_by: seen_by.map(time),
            material_age_seconds: None,
        }
    }
}
