//! What the evidence log would give back after a restart, kept in memory: what runs intend is durable before it is
//! sent, and how a write ended with the next thing that is made durable.
//!
//! It follows `evidence::restore`, which has tests of its own: an interval is due where an enabling without a reading
//! has an intent and no end, or took effect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kms_rotationd::reconcile::{RestoredProject, RunRecorder, RunTiming, WriteEnd, WriteIntent};
use kms_rotationd::rotation::decide::Step;
use kms_rotationd::rotation::key::{KeyId, RotationInterval};
use kms_rotationd::rotation::past::KeyPast;
use kms_rotationd::rotation::project::Cloud;
use kms_rotationd::rotation::report::{ProjectReport, Report};

use super::cloud::key_id;

/// The durable part.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    /// A key of the project was ever read.
    pub(super) readable: bool,
    /// What the last complete run has left, by the key's number.
    past: BTreeMap<KeyId, KeyPast>,
    /// What was written since.
    writes: BTreeMap<KeyId, Writes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Writes {
    /// Intents without an end.
    open: u32,
    /// The interval that belongs to an intent without a reading.
    interval: Option<RotationInterval>,
    /// Enabling took effect, or may have.
    is_enabled: bool,
}

impl Durable {
    /// The interval that is still to be sent to a key.
    pub(super) fn interval_due(&self, key: usize) -> Option<RotationInterval> {
        let (id, writes) = (key_id(key), self.writes.get(&key_id(key)));
        let due = writes.and_then(|writes| writes.interval.filter(|_| writes.is_enabled || writes.open > 0));
        due.or_else(|| self.past.get(&id)?.interval_due)
    }

    pub(super) fn refused(&self, key: usize) -> bool {
        self.past.get(&key_id(key)).is_some_and(|past| past.refused.is_some())
    }

    /// The last description has shown that the key is disabled or the like.
    pub(super) fn is_blocked(&self, key: usize) -> bool {
        self.past.get(&key_id(key)).is_some_and(|past| past.described.is_some())
    }

    /// What a new process continues with.
    pub(super) fn restored(&self, keys: usize) -> RestoredProject {
        let keys = (0..keys).map(|key| {
            let mut past = self.past.get(&key_id(key)).cloned().unwrap_or_default();
            if self.writes.get(&key_id(key)).is_some_and(|writes| writes.open > 0) {
                past.history.maybe_written();
            }
            past.interval_due = self.interval_due(key);
            (key_id(key), past)
        });
        RestoredProject {
            cloud: Cloud::HuaweiCloud.as_str().to_owned(),
            region: super::process::REGION.to_owned(),
            endpoint: None,
            project_id: Some(super::process::PROJECT_ID.to_owned()),
            readable: self.readable,
            keys: keys.collect(),
        }
    }

    fn end(&mut self, intent: &WriteIntent, end: &WriteEnd) {
        let writes = self.writes.entry(intent.key_id).or_default();
        writes.open = writes.open.saturating_sub(1);
        match (end, intent.step) {
            (WriteEnd::Applied { .. } | WriteEnd::Unclear { .. }, Step::EnableRotation) => {
                writes.is_enabled |= intent.before.is_none();
            }
            (WriteEnd::Applied { .. }, Step::UpdateInterval(_)) => {
                *writes = Writes { open: writes.open, ..Writes::default() };
                if let Some(past) = self.past.get_mut(&intent.key_id) {
                    past.interval_due = None;
                }
            }
            _ => {}
        }
    }
}

/// The log of one process.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    durable: Durable,
    open: Vec<WriteIntent>,
    ended: Vec<(WriteIntent, WriteEnd)>,
}

impl Log {
    pub(super) fn new(durable: Durable) -> Self {
        Self(Mutex::new(State { durable, ..State::default() }))
    }

    /// What is left if the process ends now.
    pub(super) fn durable(&self) -> Durable {
        self.0.lock().unwrap().durable.clone()
    }
}

impl State {
    fn sync(&mut self) {
        for (intent, end) in std::mem::take(&mut self.ended) {
            self.durable.end(&intent, &end);
        }
    }
}

impl RunRecorder for Log {
    fn begin_run(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn intend<'a>(&'a self, project: &'a ProjectReport, intents: Vec<WriteIntent>) -> BoxFuture<'a, ()> {
        let mut state = self.0.lock().unwrap();
        state.sync();
        state.durable.readable |= project.readable;
        for intent in intents {
            if state.open.contains(&intent) {
                continue;
            }
            let writes = state.durable.writes.entry(intent.key_id).or_default();
            writes.open += 1;
            writes.interval = intent.interval.filter(|_| intent.before.is_none());
            state.open.push(intent);
        }
        std::future::ready(()).boxed()
    }

    fn write_ended(&self, write: &WriteIntent, end: WriteEnd) {
        let mut state = self.0.lock().unwrap();
        state.open.retain(|open| open != write);
        state.ended.push((write.clone(), end));
    }

    fn run_ended<'a>(
        &'a self,
        report: &'a Arc<Report>,
        _: RunTiming,
        past: &'a (dyn Fn(&str, KeyId) -> KeyPast + Sync),
    ) -> BoxFuture<'a, ()> {
        let mut state = self.0.lock().unwrap();
        state.sync();
        // What was not sent has ended too.
        for intent in std::mem::take(&mut state.open) {
            let writes = state.durable.writes.entry(intent.key_id).or_default();
            writes.open = writes.open.saturating_sub(1);
        }
        state.durable.readable |= report.projects.iter().any(|project| project.readable);
        let mut writes = std::mem::take(&mut state.durable.writes);
        for project in &report.projects {
            let is_complete = project.listed && !report.interrupted;
            for key_id in project.keys.iter().filter_map(|key| key.subject.key_id()) {
                // With the guard against flapping off, repairs have no effect. Without them there are fewer states.
                let past = past(&project.name, key_id);
                // What the process could not send before it ended is still due. An incomplete run need not have
                // come to the key.
                let is_due = |writes: &Writes| writes.is_enabled || writes.open > 0 && !is_complete;
                let due = writes.remove(&key_id).filter(is_due).and_then(|writes| writes.interval);
                let past = KeyPast { repairs: Vec::new(), interval_due: due.or(past.interval_due), ..past };
                state.durable.past.insert(key_id, past);
            }
        }
        // No run has come to them.
        state.durable.writes = writes;
        std::future::ready(()).boxed()
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().sync();
        std::future::ready(()).boxed()
    }
}
