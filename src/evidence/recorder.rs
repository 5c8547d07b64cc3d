//! Records the runs of a process: the [`RunRecorder`] of `run` and `apply`.
//!
//! A log that cannot be written or opened never ends a run. It is tried again with each run, and meanwhile the write
//! gate is blocked if the policy says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::{error, info};

use super::journal::Journal;
use super::log::{LogError, LogOptions};
use super::record::{Setting, StartRecord, WritePhase, WriteRecord};
use super::restore::Restored;
use crate::reconcile::{RunRecorder, RunTiming, WriteEnd, WriteIntent};
use crate::rotation::decide::Step;
use crate::rotation::key::{KeyId, Rotation, RotationInterval};
use crate::rotation::past::KeyPast;
use crate::rotation::report::{ProjectReport, Report};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::small_file;
use crate::support::write_gate::WriteBlock;
use zeroize::Zeroizing;

/// The metric with the newest checkpoint changes at most this often: each value is a series of its own.
const SHOWN_FOR: Duration = Duration::from_secs(3600);

/// Where the log is, and how it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderSettings {
    /// Its folder.
    pub folder: PathBuf,
    /// The name in the origin of a new log.
    pub name: String,
    /// The private key, if it is not made in the folder.
    pub signing_key: Option<SigningKeySource>,
    /// The end of the origin of a new log; random if it is not set.
    pub origin_suffix: Option<String>,
    /// How long records are kept.
    pub retention: Option<Duration>,
    /// Whether writes to the cloud are blocked while nothing can be recorded.
    pub stops_writes: bool,
    pub simulated: bool,
    /// Whether records are synced to the disk.
    pub sync: bool,
    /// A text, and what records have instead.
    pub replaced: Option<(String, String)>,
}

/// Where a private key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningKeySource {
    /// A file in PEM form.
    File(PathBuf),
    /// A text in PEM form.
    Pem(Zeroizing<String>),
}

/// What is shown of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderStatus {
    /// The name of the log; empty if it could never be opened.
    pub origin: String,
    /// The records on the disk.
    pub records: u64,
    /// The size and the root of a checkpoint of the last hour.
    pub checkpoint: Option<(u64, String)>,
    /// Whether the last attempt to write it succeeded.
    pub write_successful: bool,
}

/// Records runs in the log of a policy, if it has one.
pub struct Recorder {
    state: Arc<Mutex<State>>,
    /// Apart, so that no call waits for the disk.
    writes: Mutex<Writes>,
    clock: Clock,
    /// The process, for the record of its start.
    start: Box<dyn Fn() -> StartRecord + Send + Sync>,
    block: WriteBlock,
    show: Box<dyn Fn(Option<RecorderStatus>) + Send + Sync>,
}

#[derive(Default)]
struct State {
    settings: Option<RecorderSettings>,
    /// The text of the policy in force.
    policy: Option<Arc<str>>,
    /// The log, once it could be opened.
    journal: Option<Journal>,
    /// Whether the last attempt failed.
    is_failing: bool,
    shown: Option<(SystemTime, u64, String)>,
}

/// The writes of the run under way.
#[derive(Default)]
struct Writes {
    /// Those with an intent and without an end, in a stable order.
    open: BTreeMap<(Arc<str>, KeyId, Option<u16>), WriteIntent>,
    /// Records that are not appended yet.
    ended: Vec<WriteRecord>,
}

impl Recorder {
    /// A recorder without a log.
    #[must_use]
    pub fn new(
        clock: Clock,
        start: impl Fn() -> StartRecord + Send + Sync + 'static,
        block: WriteBlock,
        show: impl Fn(Option<RecorderStatus>) + Send + Sync + 'static,
    ) -> Self {
        let (state, writes) = (Arc::default(), Mutex::default());
        Self { state, writes, clock, start: Box::new(start), block, show: Box::new(show) }
    }

    /// A policy with these settings and this text came into force. Opens its log, if it is another one, and returns
    /// what that has of the keys.
    ///
    /// # Errors
    ///
    /// The log cannot be opened. Each run tries again.
    pub fn policy_in_force(
        &self,
        settings: Option<RecorderSettings>,
        policy: Option<Arc<str>>,
    ) -> Result<Option<Restored>, LogError> {
        let mut state = self.state();
        let is_same_log = |known: &RecorderSettings, new: &RecorderSettings| {
            (&known.folder, &known.signing_key) == (&new.folder, &new.signing_key)
        };
        let keeps_log = matches!((&state.settings, &settings), (Some(known), Some(new)) if is_same_log(known, new));
        if !keeps_log {
            state.journal = None;
            state.shown = None;
        }
        (state.settings, state.policy) = (settings, policy);
        let opened = state.open(&*self.start, self.clock.now()).inspect_err(|error| state.failed(&ErrorChain(error)));
        if state.settings.is_none() {
            state.is_failing = false;
        }
        self.publish(&state);
        opened
    }

    /// Tries again what failed.
    fn retry(&self) {
        let mut state = self.state();
        let now = self.clock.now();
        match state.open(&*self.start, now) {
            Ok(_) => {
                if let Some(journal) = &mut state.journal {
                    // Also the checkpoint, which a full disk refuses longer than a record.
                    let done = journal.commit(now).and_then(|()| journal.end_run(now));
                    state.ended(done);
                }
            }
            Err(error) => state.failed(&ErrorChain(&error)),
        }
        self.publish(&state);
    }

    /// Makes durable what is appended, on a thread that may wait for the disk if anything is synced.
    async fn commit(&self, also: impl FnOnce(&mut Journal, SystemTime) -> std::io::Result<()> + Send + 'static) {
        let (state, now) = (Arc::clone(&self.state), self.clock.now());
        let commit = move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(journal) = &mut state.journal {
                let done = journal.commit(now).and_then(|()| also(journal, now));
                state.ended(done);
            }
        };
        let waits = self.state().settings.as_ref().is_some_and(|settings| settings.sync);
        if waits {
            // It ends with an error only if it panicked.
            let _ = tokio::task::spawn_blocking(commit).await;
        } else {
            commit();
        }
        self.publish(&self.state());
    }

    /// Shows the state, and blocks the gate or opens it.
    fn publish(&self, state: &State) {
        let stops = state.settings.as_ref().is_some_and(|settings| settings.stops_writes);
        self.block.set(stops && state.is_failing);
        (self.show)(state.settings.as_ref().map(|_| RecorderStatus {
            origin: state.journal.as_ref().map(|journal| journal.origin().to_owned()).unwrap_or_default(),
            records: state.journal.as_ref().map_or(0, Journal::records),
            checkpoint: state.shown.as_ref().map(|(_, size, root)| (*size, root.clone())),
            write_successful: !state.is_failing,
        }));
    }

    /// Appends the ends of writes.
    fn append_ended(&self, state: &mut State) {
        let ended = std::mem::take(&mut self.writes().ended);
        if let Some(journal) = &mut state.journal {
            let now = self.clock.now();
            for record in &ended {
                journal.append(now, record);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Opens the log if it is not open. Returns what it has of the keys, if it was opened now.
    fn open(&mut self, start: &dyn Fn() -> StartRecord, now: SystemTime) -> Result<Option<Restored>, LogError> {
        let Some(settings) = &self.settings else { return Ok(None) };
        if self.journal.as_ref().is_some_and(|journal| !journal.is_lost()) {
            if let Some(journal) = &mut self.journal {
                journal.keep_for(settings.retention);
                if let Some(policy) = &self.policy {
                    journal.policy_in_force(policy, now);
                }
            }
            return Ok(None);
        }
        // Before the lock is taken again.
        self.journal = None;
        let key = |source: &SigningKeySource| match source {
            SigningKeySource::Pem(pem) => Ok(pem.clone()),
            SigningKeySource::File(path) => {
                small_file::read_text(path).map_err(|error| LogError::File { path: path.clone(), error })
            }
        };
        let options = LogOptions {
            name: settings.name.clone(),
            origin_suffix: settings.origin_suffix.clone(),
            signing_key: settings.signing_key.as_ref().map(key).transpose()?,
            simulated: settings.simulated,
            sync: settings.sync,
            replaced: settings.replaced.clone(),
        };
        let file = |error| LogError::File { path: settings.folder.clone(), error };
        let (mut journal, restored) = Journal::open(&settings.folder, &options, settings.retention, now)?;
        journal.append(now, &start());
        if let Some(policy) = &self.policy {
            journal.policy_in_force(policy, now);
        }
        journal.commit(now).map_err(file)?;
        self.journal = Some(journal);
        self.succeeded();
        Ok(Some(restored))
    }

    fn ended(&mut self, done: std::io::Result<()>) {
        match done {
            Ok(()) => self.succeeded(),
            Err(error) => self.failed(&error),
        }
    }

    fn succeeded(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            info!("the evidence log is written again");
        }
    }

    fn failed(&mut self, error: &dyn std::fmt::Display) {
        let stops = self.settings.as_ref().is_some_and(|settings| settings.stops_writes);
        if !std::mem::replace(&mut self.is_failing, true) {
            let consequence = if stops {
                "keys are only read until it can be written"
            } else {
                "keys are kept on policy all the same"
            };
            error!(%error, consequence, "cannot write the evidence log; retrying with each run");
        }
    }

    /// A checkpoint is on the disk: it may be shown now.
    fn anchor(&mut self, now: SystemTime) {
        let Some(journal) = &self.journal else { return };
        let Some(checkpoint) = journal.newest_checkpoint() else { return };
        let root = checkpoint.root.to_string();
        if journal.is_synced() {
            info!(origin = checkpoint.origin, size = checkpoint.size, root, "evidence checkpoint");
        }
        let is_recent = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age < SHOWN_FOR);
        if !self.shown.as_ref().is_some_and(|(at, ..)| is_recent(at)) {
            self.shown = Some((now, checkpoint.size, root));
        }
    }
}

impl RunRecorder for Recorder {
    fn begin_run(&self) -> BoxFuture<'_, ()> {
        async {
            let is_due = {
                let state = self.state();
                state.settings.is_some() && (state.is_failing || state.journal.as_ref().is_none_or(Journal::is_lost))
            };
            if is_due {
                self.retry();
            }
        }
        .boxed()
    }

    fn intend<'a>(&'a self, project: &'a ProjectReport, intents: Vec<WriteIntent>) -> BoxFuture<'a, ()> {
        async move {
            let new: Vec<_> = {
                let mut writes = self.writes();
                intents.into_iter().filter(|intent| writes.open.insert(id(intent), intent.clone()).is_none()).collect()
            };
            if new.is_empty() || self.state().journal.is_none() {
                return;
            }
            {
                let mut state = self.state();
                self.append_ended(&mut state);
                let now = self.clock.now();
                if let Some(journal) = &mut state.journal {
                    // A process that is killed now leaves the project to the next one.
                    journal.new_project(project, now);
                    for intent in &new {
                        journal.append(now, &record(intent, WritePhase::Intent));
                    }
                }
            }
            self.commit(|_, _| Ok(())).await;
        }
        .boxed()
    }

    fn write_ended(&self, write: &WriteIntent, end: WriteEnd) {
        let (phase, error, request_id) = match end {
            WriteEnd::Applied { request_id } => (WritePhase::Applied, None, request_id),
            WriteEnd::Failed { error, request_id } => (WritePhase::Failed, Some(error), request_id),
            WriteEnd::Unclear { error } => (WritePhase::Unclear, Some(error), None),
            WriteEnd::NotSent => (WritePhase::NotSent, None, None),
        };
        let request_id = request_id.map(Into::into);
        let mut writes = self.writes();
        writes.open.remove(&id(write));
        writes.ended.push(WriteRecord { request_id, error, ..record(write, phase) });
    }

    fn run_ended<'a>(
        &'a self,
        report: &'a Arc<Report>,
        timing: RunTiming,
        past: &'a (dyn Fn(&str, KeyId) -> KeyPast + Sync),
    ) -> BoxFuture<'a, ()> {
        async move {
            {
                let mut state = self.state();
                let unsent = std::mem::take(&mut self.writes().open);
                self.append_ended(&mut state);
                let now = self.clock.now();
                let Some(journal) = &mut state.journal else { return };
                for intent in unsent.values() {
                    journal.append(now, &record(intent, WritePhase::NotSent));
                }
                journal.run_ended(report, timing, past, now);
            }
            self.commit(Journal::end_run).await;
            let now = self.clock.now();
            let mut state = self.state();
            if !state.is_failing {
                state.anchor(now);
            }
            self.publish(&state);
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        async {
            {
                let mut state = self.state();
                if self.writes().ended.is_empty() {
                    return;
                }
                self.append_ended(&mut state);
            }
            self.commit(Journal::end_run).await;
        }
        .boxed()
    }
}

/// What identifies a write within a run: the interval, or nothing for enabling.
fn id(WriteIntent { project, key_id, step, .. }: &WriteIntent) -> (Arc<str>, KeyId, Option<u16>) {
    (Arc::clone(project), *key_id, interval_days(*step))
}

fn interval_days(step: Step) -> Option<u16> {
    step.interval().map(RotationInterval::days)
}

fn record(WriteIntent { project, key_id, step, interval, before }: &WriteIntent, phase: WritePhase) -> WriteRecord {
    let setting = |rotation: Rotation| Setting { enabled: rotation.enabled, interval_days: rotation.interval_days };
    WriteRecord {
        project: project.to_string(),
        key_id: key_id.to_string(),
        step: step.as_str().to_owned(),
        interval_days: interval.map(RotationInterval::days),
        phase,
        before: before.map(setting),
        request_id: None,
        error: None,
    }
}
