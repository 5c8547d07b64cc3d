//! One write to a key, from its first sending until it is known how it ended: rules 2 and 4 to 7 of "What a run does to
//! a key" in `docs/how-it-works.md`. Each arrow to the right ends the write; the key is then judged anew (`act`).
//!
//! ```text
//! send ◄───────────────────────────────────────┐
//!  ├─ unclear end ─► wait, read ─► resolve ─┬──┘ send again
//!  │                                        ├──► found applied
//!  │                                        └──► given up
//!  ├─ accepted ────────────────────────────────► applied, read back; enabling first goes on to the interval
//!  ├─ rotation is on (KMS.2901) ───────────────► found on, read back
//!  ├─ rotation is off (KMS.0313) ──────────────► started over, read back
//!  ├─ the key cannot rotate ───────────────────► blocked
//!  ├─ not sent, another replica writes ────────► unchanged
//!  └─ any other error ─────────────────────────► failed, read back if it may be applied
//! ```

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::act::READ_BACK_WAITS;
use super::effect::{Effect, Evidence, Resolution, is_in_effect, resolve, was_so_before};
use super::key_run::{KeyRun, Standing};
use super::project_run::ProjectRun;
use super::recorder::{WriteEnd, WriteIntent};
use crate::kms::{Error, ErrorKind, Kms, Receipt, SendMode, WriteOperation};
use crate::rotation::decide::Step;
use crate::rotation::key::{CallFailure, Reading, Rotation, RotationBlocker, RotationInterval};
use crate::rotation::material::whole_days;
use crate::rotation::observed::WrittenBefore;
use crate::rotation::report::Change;

/// How often a key may start over in one run because rotation is off after it was on. Something that switches it off
/// twice will do so again.
const RESTARTS: u32 = 2;

/// A write, and what is known of it.
struct WriteAttempt {
    step: Step,
    /// The setting before the first sending; `None` if it cannot be read.
    before: Option<Rotation>,
    sendings: u32,
    effect: Effect,
}

impl WriteAttempt {
    fn new(step: Step, before: Option<Rotation>) -> Self {
        Self { step, before, sendings: 0, effect: Effect::NotApplied }
    }

    fn sent(&mut self, result: &Result<Receipt, Error>) {
        self.sendings += 1;
        self.effect = self.effect.after(result);
    }
}

impl<K: Kms> ProjectRun<'_, K> {
    /// Takes one step: sends the write until it is known how it ended, and reads the key back where that shows more.
    pub(super) async fn write(&self, step: Step, key: &mut KeyRun<'_>) {
        let (key_id, before) = (key.task.key_id, key.rotation());
        match step {
            Step::EnableRotation => {
                self.carry_out(WriteAttempt::new(step, before), self.kms.enable_rotation(key_id), key).await;
                if self.goes_on_to_interval(key) {
                    // Its interval is not read in between: enabling is documented to set another one.
                    let before = before.map(|before| Rotation { enabled: true, interval_days: None, ..before });
                    self.write_interval(key.task.desired.interval, before, key).await;
                }
                if key.is_unread {
                    self.read_back(key).await;
                }
            }
            Step::UpdateInterval(interval) => self.write_interval(interval, before, key).await,
        }
    }

    async fn write_interval(&self, interval: RotationInterval, before: Option<Rotation>, key: &mut KeyRun<'_>) {
        let write = WriteAttempt::new(Step::UpdateInterval(interval), before);
        let same = was_so_before(write.step, before);
        let mode = if same { SendMode::Once } else { SendMode::Retried };
        self.carry_out(write, self.kms.update_interval(key.task.key_id, interval, mode), key).await;
    }

    /// Rule 2: whether enabling was accepted, and the policy's interval can follow it without a reading.
    fn goes_on_to_interval(&self, key: &KeyRun<'_>) -> bool {
        let is_open = !self.reconciler.stop.is_cancelled() && self.reconciler.gate.is_open();
        key.is_unread && key.interval_due && is_open
    }

    async fn carry_out(&self, mut write: WriteAttempt, mut operation: impl WriteOperation, key: &mut KeyRun<'_>) {
        self.intend(&write, key).await;
        loop {
            let result = operation.send().await;
            write.sent(&result);
            if write.effect == Effect::MaybeApplied {
                key.history.maybe_written();
                self.remember(key.task.key_id, |known| known.history = key.history);
            }
            if write.step == Step::EnableRotation && write.effect != Effect::NotApplied {
                self.interval_became_due(&write, key);
                if key.standing == Standing::Unplanned {
                    self.budget.spend();
                    key.standing = Standing::Unguarded;
                }
            }
            let error = match result {
                Ok(receipt) => {
                    self.applied(&write, receipt, key);
                    // The interval may come first.
                    if write.step != Step::EnableRotation {
                        self.read_back(key).await;
                    }
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Unclear => error,
                Err(error) => return self.not_accepted(&write, &error, key).await,
            };
            match self.resolve_unclear(&write, &mut operation, &error, key).await {
                Resolution::SendAgain => {}
                Resolution::FoundApplied => {
                    operation.found_applied();
                    return self.applied(&write, Receipt::default(), key);
                }
                Resolution::GiveUp(failure) => {
                    key.observed.failure = Some(failure);
                    self.record(&write, WriteEnd::Unclear { error: error.cause() }, key);
                    return;
                }
            }
        }
    }

    /// Rule 5: waits and reads, to find out what became of a write whose end was unclear.
    async fn resolve_unclear(
        &self,
        write: &WriteAttempt,
        operation: &mut impl WriteOperation,
        unclear: &Error,
        key: &mut KeyRun<'_>,
    ) -> Resolution {
        self.note(key, unclear);
        let may_go_on = match operation.next_wait() {
            Some(wait) => self.pause(wait).await,
            None => false,
        };
        self.read_back(key).await;
        let evidence = Evidence::of(write.step, write.before, key.observed.reading);
        let resolution = resolve(evidence, may_go_on, write.sendings);
        if resolution == Resolution::GiveUp(CallFailure::Unproven) {
            self.note(key, unclear);
        }
        resolution
    }

    /// Makes the intent durable. An intent that follows from the first readings is durable already.
    async fn intend(&self, write: &WriteAttempt, key: &KeyRun<'_>) {
        if let Some(recorder) = &self.reconciler.recorder {
            recorder.intend(&self.head(), vec![self.intent(write, key)]).await;
        }
    }

    /// The write as the log has it.
    fn intent(&self, write: &WriteAttempt, key: &KeyRun<'_>) -> WriteIntent {
        let (project, key_id) = (Arc::clone(&self.project.name), key.task.key_id);
        WriteIntent {
            project,
            key_id,
            step: write.step,
            interval: key.task.interval_with(write.step),
            before: write.before,
        }
    }

    fn record(&self, write: &WriteAttempt, end: WriteEnd, key: &KeyRun<'_>) {
        if let Some(recorder) = &self.reconciler.recorder {
            recorder.write_ended(&self.intent(write, key), end);
        }
    }

    fn record_failure(&self, write: &WriteAttempt, error: &Error, key: &KeyRun<'_>) {
        self.record(write, WriteEnd::without_effect(error, write.effect == Effect::MaybeApplied), key);
    }

    /// The write was refused or failed: rules 4, 6 and 7.
    async fn not_accepted(&self, write: &WriteAttempt, error: &Error, key: &mut KeyRun<'_>) {
        self.record_failure(write, error, key);
        match (error.kind(), write.step) {
            (ErrorKind::AlreadyOn, Step::EnableRotation) => {
                self.found_on(write, key);
                self.read_back(key).await;
            }
            (ErrorKind::NotOn, Step::UpdateInterval(_)) if key.restarts < RESTARTS => {
                key.restarts += 1;
                // Enabling was accepted and is not sent again before a reading shows rotation off.
                if !key.is_unread {
                    key.observed.interval_found_off();
                }
                // Enabling may just not be visible yet.
                self.pause(READ_BACK_WAITS[0] * key.restarts).await;
                self.read_back(key).await;
            }
            // Rotation is on, so the key can rotate.
            (ErrorKind::Blocked(blocker), _) if !(key.is_unread && blocker.is_permanent()) => {
                self.blocked(blocker, error, key);
            }
            // Another replica writes from now on.
            (ErrorKind::Stopped, _) if !self.reconciler.gate.is_open() => {}
            (kind, _) => {
                key.observed.failure = Some(kind.into());
                self.note(key, error);
                if kind.is_transient() || write.effect == Effect::MaybeApplied {
                    self.read_back(key).await;
                }
            }
        }
    }

    /// `KMS.2901`: rotation is on. An earlier attempt of this write has switched it on, or it was on before.
    fn found_on(&self, write: &WriteAttempt, key: &mut KeyRun<'_>) {
        match (write.effect, write.before) {
            // It was read as off, so the earlier attempt has switched it on.
            (Effect::MaybeApplied, Some(_)) => self.applied(write, Receipt::default(), key),
            (effect, before) => {
                key.observed.enable_found_on();
                if before.is_none() {
                    self.remember(key.task.key_id, |known| known.found_on = true);
                }
                // No reading shows whether the earlier attempt has switched it on. If it has, the interval is the one
                // that enabling sets, so the policy's is sent.
                if effect == Effect::MaybeApplied {
                    key.observed.written_before = WrittenBefore::IntervalDue;
                }
            }
        }
    }

    /// Rule 6: the key cannot be rotated, or not now.
    fn blocked(&self, blocker: RotationBlocker, error: &Error, key: &mut KeyRun<'_>) {
        key.observed.blocker = Some(blocker);
        if blocker.is_permanent() {
            // The customer's audit log keeps each refusal, so the next runs do not cause another.
            let now = self.reconciler.clock.now();
            self.remember(key.task.key_id, |known| known.blocker = Some((blocker, now)));
        }
        self.note(key, error);
    }

    /// The program stops after it has switched rotation on: the policy's interval is still sent. The one that
    /// enabling sets must not stay, and where the setting cannot be read, no later process could find it.
    pub(super) async fn send_due_interval(&self, key: &mut KeyRun<'_>) {
        let (key_id, interval) = (key.task.key_id, key.task.desired.interval);
        let write = WriteAttempt::new(Step::UpdateInterval(interval), key.rotation());
        // Not once more at the end of the run.
        self.remember(key_id, |known| known.is_sent_at_stop = true);
        self.intend(&write, key).await;
        match self.kms.update_interval(key_id, interval, SendMode::AtExit).send().await {
            Ok(receipt) => {
                key.observed.failure = None;
                self.applied(&write, receipt, key);
            }
            Err(error) => {
                key.observed.failure = Some(error.kind().into());
                self.record_failure(&write, &error, key);
                self.note(key, &error);
            }
        }
    }

    /// Rule 2: rotation was switched on, or may have been. Enabling sets an interval of its own, so the policy's is
    /// still to be sent.
    fn interval_became_due(&self, write: &WriteAttempt, key: &mut KeyRun<'_>) {
        key.interval_due = key.task.desired.interval != RotationInterval::AFTER_ENABLING;
        let (memory, key_id, unreadable) = (&self.reconciler.memory, key.task.key_id, write.before.is_none());
        if unreadable || matches!(memory.recall(&self.project.name, key_id).written, WrittenBefore::Interval(_)) {
            let written = if unreadable { WrittenBefore::IntervalDue } else { WrittenBefore::Nothing };
            let due = (unreadable && key.interval_due).then_some(key.task.desired.interval);
            self.remember(key_id, |known| (known.written, known.interval_due) = (written, due));
        }
    }

    /// The write took effect, as its answer or a reading shows.
    fn applied(&self, write: &WriteAttempt, receipt: Receipt, key: &mut KeyRun<'_>) {
        match write.step {
            Step::EnableRotation => key.observed.enable_accepted(),
            Step::UpdateInterval(interval) => self.interval_applied(interval, key),
        }
        let at = self.kms.cloud_time();
        let age = write.step.interval().and_then(|interval| key.history.age_after_write(interval, at));
        self.log_change(write, &receipt, age, key);
        self.record(write, WriteEnd::Applied { request_id: receipt.request_id.clone() }, key);
        key.history.written(write.step, at);
        self.remember(key.task.key_id, |known| known.history = key.history);
        // Why the setting cannot be read stays true.
        if key.observed.reading != Reading::NotOffered {
            key.error = None;
        }
        // A reading from before the write is out of date.
        if write.before.is_some() && !key.rotation().is_some_and(|now| is_in_effect(write.step, now)) {
            key.is_unread = true;
        }
        let (at, request_id) = (self.reconciler.clock.now(), receipt.request_id);
        key.changes.push(Change { step: write.step, before: write.before, at, request_id });
    }

    fn interval_applied(&self, interval: RotationInterval, key: &mut KeyRun<'_>) {
        key.observed.interval_accepted();
        key.interval_due = false;
        let unreadable = key.rotation().and_then(|rotation| rotation.interval_days).is_none();
        self.remember(key.task.key_id, |known| {
            // Also one of an earlier run, in which the setting could not be read.
            known.interval_due = None;
            if unreadable {
                known.written = WrittenBefore::Interval(interval);
            }
        });
    }

    /// `age`: how old the material will be when the cloud rotates it, if the write postpones that.
    fn log_change(&self, write: &WriteAttempt, receipt: &Receipt, age: Option<Duration>, key: &KeyRun<'_>) {
        let from = match (write.before, write.step) {
            (Some(Rotation { enabled: false, .. }), _) | (None, Step::EnableRotation) => "off".to_owned(),
            (Some(Rotation { interval_days: Some(days), .. }), _) => format!("{days} days"),
            (Some(Rotation { interval_days: None, .. }), _) => "on".to_owned(),
            (None, Step::UpdateInterval(_)) => "unknown".to_owned(),
        };
        let to = match write.step {
            Step::EnableRotation => "on".to_owned(),
            Step::UpdateInterval(interval) => interval.to_string(),
        };
        info!(
            alias = key.alias(),
            key_id = key.task.key_id.as_str(),
            project = &*self.project.name,
            step = write.step.as_str(),
            from,
            to,
            request_id = receipt.request_id.as_deref(),
            postpones = age.map(|age| format!("material up to {} days old before it is rotated", whole_days(age))),
            "rotation changed"
        );
    }
}
