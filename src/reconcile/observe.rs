//! Reading one key: rules 1, 4 and 6 of "What a run does to a key" in `docs/how-it-works.md`. Writes nothing.

use std::time::SystemTime;

use tokio::time::Instant;

use super::key_run::{KeyRun, KeyTask};
use super::project_run::ProjectRun;
use crate::kms::{Error, ErrorKind, Kms, SendMode};
use crate::rotation::assignment::Assignment;
use crate::rotation::decide::Status;
use crate::rotation::key::{CallFailure, KeyDescription, KeyState, Reading, Rotation};
use crate::rotation::material::{History, Observation};
use crate::rotation::report::KeyError;

impl<K: Kms> ProjectRun<'_, K> {
    /// Reads the key, and finds out what blocks its rotation if a write is due.
    pub(super) async fn observe<'o>(&self, task: KeyTask<'o>) -> KeyRun<'o> {
        let mut key = KeyRun::new(task);
        let remembered = self.reconciler.memory.recall(&self.project.name, task.key_id);
        key.observed.written_before = remembered.written;
        let now = self.reconciler.clock.now();
        key.observed.blocker = remembered.blocker(now);
        match &task.assignment.listed {
            // A list has all that a description has.
            Some(listed) => (key.described, key.alias) = (self.listed, listed.description.alias.clone()),
            None => key.alias = remembered.alias.clone(),
        }
        (key.history, key.state) = (remembered.history, self.listed_state(task.assignment));
        key.history.created = created(task.assignment).or(key.history.created);
        let was_blocked = task.assignment.listed.and_then(|listed| listed.description.blocker).or(remembered.described);
        let was_blocked = was_blocked.filter(|blocker| !blocker.is_permanent());
        let is_optional_call_due = remembered.is_optional_call_due(now);
        // Not kept while the key is read, at which thousands of keys may be.
        drop(remembered);
        self.read(&mut key).await;
        // The setting of a key that is disabled or pending deletion stays as it was, and no list of this run shows
        // whether the key still is.
        if key.rotation().is_some() && !key.described && was_blocked.is_some() {
            key.observed.blocker = was_blocked;
            self.describe(&mut key, SendMode::Retried).await;
        }
        // Before the first write, so that a write that would be refused is not sent: the customer's audit log would
        // have a failed operation in every run.
        let verdict = key.verdict();
        if !key.described && verdict.status == Status::NonCompliant && !verdict.steps.is_empty() {
            self.describe(&mut key, SendMode::Retried).await;
        }
        let needs_creation = key.rotation().is_some() && !key.described && lacks_creation(&key.history);
        if needs_creation && is_optional_call_due {
            self.remember(task.key_id, |known| known.optional_call_made(now));
            self.describe(&mut key, SendMode::Optional).await;
        }
        key
    }

    async fn read(&self, key: &mut KeyRun<'_>) {
        let result = self.kms.read_status(key.task.key_id, SendMode::Retried).await;
        (key.read_at, key.is_unread) = (Instant::now(), false);
        match result {
            Ok(rotation) => {
                key.observed.reading = Reading::Rotation(rotation);
                key.new_rotations += self.seen(rotation, key.state, &mut key.history);
                let is_settled = !rotation.enabled || key.task.desired.is_met_by(rotation);
                self.remember(key.task.key_id, |known| {
                    known.history = key.history;
                    // An interval that an earlier run still had to send is there, or there is no rotation that needs it.
                    known.interval_due = known.interval_due.filter(|_| !is_settled);
                });
                if rotation.enabled && rotation.interval_days.is_none() {
                    let text = "read_status: the answer shows rotation on, without an interval";
                    key.error = Some(KeyError::new(text, None));
                }
            }
            Err(error) => self.reading_failed(&error, key).await,
        }
    }

    async fn reading_failed(&self, error: &Error, key: &mut KeyRun<'_>) {
        key.observed.reading = match error.kind() {
            ErrorKind::NotOffered => Reading::NotOffered,
            kind => Reading::Failed(kind.into()),
        };
        if let ErrorKind::Blocked(blocker) = error.kind() {
            key.observed.blocker = Some(blocker);
        }
        self.note(key, error);
        // The description may explain the refusal.
        if error.kind() == ErrorKind::Refused && !key.described {
            self.describe(key, SendMode::Retried).await;
        }
    }

    /// Reads the key again, unless the project's cloud does not offer the setting (rule 4). If it does, an answer
    /// without the setting is a failed reading.
    pub(super) async fn read_back(&self, key: &mut KeyRun<'_>) {
        if key.observed.reading != Reading::NotOffered {
            self.read(key).await;
            if key.observed.reading == Reading::NotOffered {
                key.observed.reading = Reading::Failed(CallFailure::Other);
            }
        }
    }

    /// Adds a reading to what is known of a key. Returns how many rotations it shows for the first time.
    pub(super) fn seen(&self, rotation: Rotation, state: Option<KeyState>, history: &mut History) -> u64 {
        let (at, read_at) = (self.kms.cloud_time(), self.reconciler.clock.now());
        let new_rotations =
            history.observe(Observation { rotation, state, at, read_at, gap_after: self.gap_after(at) });
        // The lease holder writes, which this process does not see.
        if !self.reconciler.gate.is_open() {
            history.maybe_written();
        }
        new_rotations
    }

    /// The key's state, if the list of this run shows it.
    pub(super) fn listed_state(&self, assignment: &Assignment<'_>) -> Option<KeyState> {
        assignment.listed.filter(|_| self.listed)?.description.state
    }

    async fn describe(&self, key: &mut KeyRun<'_>, mode: SendMode) {
        key.described = true;
        match self.kms.describe(key.task.key_id, mode).await {
            Ok(KeyDescription { alias, blocker, created, .. }) => {
                if key.alias != alias {
                    self.remember(key.task.key_id, |remembered| remembered.alias.clone_from(&alias));
                    key.alias = alias;
                }
                key.history.created = created.or(key.history.created);
                self.remember(key.task.key_id, |known| (known.history, known.described) = (key.history, blocker));
                key.observed.blocker = blocker.or(key.observed.blocker.filter(|known| known.is_permanent()));
            }
            Err(_) if mode == SendMode::Optional => {}
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::Credentials | ErrorKind::LoginUnavailable | ErrorKind::Unreachable => {
                    key.observed.reading = Reading::Failed(error.kind().into());
                    // An earlier description does not show whether the key is still disabled or pending deletion.
                    key.observed.blocker = key.observed.blocker.filter(|known| known.is_permanent());
                    self.note(key, &error);
                }
                ErrorKind::Blocked(blocker) => key.observed.blocker = Some(blocker),
                // The run goes on without a description: a write that is blocked will be refused.
                _ => {}
            },
        }
    }

    /// Keeps the error for the key's report. One that ends the project's run is kept for the project (rule 7).
    pub(super) fn note(&self, key: &mut KeyRun<'_>, error: &Error) {
        if !self.failure.ends_run(error) {
            key.error = Some(KeyError::new(&error.cause(), error.request_id()));
        }
    }
}

/// When the key was created, by the list.
pub(super) fn created(assignment: &Assignment<'_>) -> Option<SystemTime> {
    assignment.listed?.description.created
}

/// Whether the age of the material is the age of the key, and that is unknown.
fn lacks_creation(history: &History) -> bool {
    history.created.is_none() && history.last().is_some_and(|last| last.rotation.last_rotated.is_none())
}
