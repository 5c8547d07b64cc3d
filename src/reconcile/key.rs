//! One key in one run: it is observed, and where a write is due, steps are taken one at a time, with a reading after
//! each, until none is left.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::guard::ChangeBudget;
use super::progress::{Order, Progress, Standing, has_interval};
use super::{Failure, Reconciler};
use crate::kms::{Backoff, Error, Kind, Kms, Receipt, Settled};
use crate::policy::types::Project;
use crate::rotation::decide::{Status, Step, Verdict};
use crate::rotation::key::{CallFailure, KeyDescription, Reading, Rotation, RotationInterval};
use crate::rotation::observed::{Enabling, Hold, WrittenBefore};
use crate::rotation::report::{Change, KeyError, KeyReport};

/// Waits before reading again a key whose accepted write does not show yet. The first reading follows at once; in all
/// as long as the vendor's own tool polls, five seconds (API sheet, section 0).
const READ_BACK_WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(750),
    Duration::from_millis(1_500),
    Duration::from_millis(2_500),
];

/// How often a key may start over because the cloud says that rotation is off after it was on. Whoever switches it off
/// twice within a run will do so a third time.
const RESTARTS: u32 = 2;

/// A reading that is older is repeated before a write: others change keys as well.
const READING_HOLDS: Duration = Duration::from_secs(60);

/// What the keys of one project share in a run.
pub(super) struct KeyRun<'a, K> {
    pub(super) kms: &'a K,
    pub(super) project: &'a Project,
    pub(super) reconciler: &'a Reconciler,
    pub(super) may_write: bool,
    /// Whether what cases have from the list is of this run.
    pub(super) listed: bool,
    /// What bounds the changes of the run.
    pub(super) budget: &'a ChangeBudget,
    /// The project's place in the policy, by which the budget is shared.
    pub(super) place: usize,
    /// What ended the project's run early.
    pub(super) failure: &'a Failure<'a>,
}

impl<K: Kms> KeyRun<'_, K> {
    /// Finds out how a key is, and what stands in the way of a write. Writes nothing.
    pub(super) async fn observe<'o>(&self, order: Order<'o>) -> Progress<'o> {
        let mut key = Progress::new(order);
        let remembered = self.reconciler.memory.recall(&self.project.name, order.key_id);
        key.observed.written_before = remembered.written;
        key.observed.hindrance = remembered.hindrance(self.reconciler.clock.now());
        match &order.case.listed {
            // A list says all that a description would.
            Some(listed) => (key.described, key.alias) = (self.listed, listed.description.alias.clone()),
            None => key.alias = remembered.alias,
        }
        self.read(&mut key).await;
        // Before the first write to a key: is there anything that forbids it? A refused write would stand in the
        // customer's audit log as a failed operation, run after run.
        let verdict = key.verdict();
        if !key.described && verdict.status == Status::NonCompliant && !verdict.steps.is_empty() {
            self.describe(&mut key).await;
        }
        key
    }

    /// Takes the steps that lead to the policy, as far as they can be taken.
    pub(super) async fn act(&self, mut key: Progress<'_>) -> KeyReport {
        if key.asked.elapsed() > READING_HOLDS {
            let was_compliant = key.verdict().status == Status::Compliant;
            self.read_back(&mut key).await;
            let verdict = key.verdict();
            if was_compliant && verdict.status != Status::Compliant {
                // It has taken no part in the guards, so it is left to the next run.
                return self.ended(key, verdict);
            }
        }
        let mut waits = READ_BACK_WAITS.iter();
        loop {
            let verdict = key.verdict();
            if self.reconciler.stop.is_cancelled() && key.owes_interval && verdict.status != Status::Compliant {
                self.send_owed_interval(&mut key).await;
                let verdict = key.verdict();
                return self.ended(key, verdict);
            }
            let Some(step) = verdict.steps.first() else {
                match waits.next() {
                    Some(wait) if verdict.awaits_visibility() && self.pause(*wait).await => {
                        self.read_back(&mut key).await;
                        continue;
                    }
                    _ => return self.ended(key, verdict),
                }
            };
            if self.reconciler.stop.is_cancelled() || !self.reconciler.gate.is_open() {
                return self.ended(key, verdict);
            }
            let is_unplanned = key.standing == Standing::Unplanned && step == Step::EnableRotation;
            if is_unplanned && !self.budget.has_room() {
                // If it is off after all, it is one change too many.
                key.observed.hold = Some(Hold::ChangeLimit);
                continue;
            }
            self.take(step, &mut key).await;
            if is_unplanned && key.observed.enabling == Enabling::Accepted {
                self.budget.spend();
            }
            waits = READ_BACK_WAITS.iter();
        }
    }

    /// The report of a key that nothing more is done about in this run.
    fn ended(&self, key: Progress<'_>, verdict: Verdict) -> KeyReport {
        let (memory, key_id) = (&self.reconciler.memory, key.order.key_id);
        if key.standing == Standing::OffPolicy && !key.changes.is_empty() {
            let (now, guards) = (self.reconciler.clock.now(), self.budget.guards);
            memory.update(&self.project.name, key_id, |known| known.repaired(now, guards));
        }
        let write_failed = key.observed.failure.is_some();
        if write_failed != memory.recall(&self.project.name, key_id).write_failed {
            memory.update(&self.project.name, key_id, |known| known.write_failed = write_failed);
        }
        key.report(verdict)
    }

    async fn read(&self, key: &mut Progress<'_>) {
        let result = self.kms.read_status(key.order.key_id).await;
        key.asked = Instant::now();
        match result {
            Ok(rotation) => {
                key.observed.reading = Reading::Rotation(rotation);
                key.seen = Some((rotation, self.reconciler.clock.now()));
                if rotation.enabled && rotation.interval_days.is_none() {
                    key.error =
                        Some(KeyError::new("read_status: the answer says that rotation is on, and no interval", None));
                }
            }
            Err(error) => {
                // Only a key that nothing has been found out about yet is worth the question why it cannot be read.
                let unexplained = error.kind() == Kind::Refused && !key.described;
                key.observed.reading = match error.kind() {
                    Kind::NotOffered => Reading::NotOffered,
                    kind => Reading::Failed(kind.into()),
                };
                if let Kind::Hindered(hindrance) = error.kind() {
                    key.observed.hindrance = Some(hindrance);
                }
                self.note(key, &error);
                if unexplained {
                    self.describe(key).await;
                }
            }
        }
    }

    /// Reads the key again, unless the project's cloud does not offer it. An answer that now says nothing is a failure:
    /// others of this run did.
    async fn read_back(&self, key: &mut Progress<'_>) {
        if key.observed.reading != Reading::NotOffered {
            self.read(key).await;
            if key.observed.reading == Reading::NotOffered {
                key.observed.reading = Reading::Failed(CallFailure::Other);
            }
        }
    }

    async fn describe(&self, key: &mut Progress<'_>) {
        key.described = true;
        match self.kms.describe(key.order.key_id).await {
            Ok(KeyDescription { alias, hindrance }) => {
                if key.alias != alias {
                    let memory = &self.reconciler.memory;
                    memory
                        .update(&self.project.name, key.order.key_id, |remembered| remembered.alias.clone_from(&alias));
                    key.alias = alias;
                }
                key.observed.hindrance = hindrance.or(key.observed.hindrance);
            }
            Err(error) => match error.kind() {
                Kind::NotFound | Kind::Credentials | Kind::LoginUnavailable | Kind::NoWay => {
                    key.observed.reading = Reading::Failed(error.kind().into());
                    self.note(key, &error);
                }
                Kind::Hindered(hindrance) => key.observed.hindrance = Some(hindrance),
                // The description is a courtesy: without it, the answer to the write will tell.
                _ => {}
            },
        }
    }

    /// Sends one write and follows it until it is known what became of it.
    async fn take(&self, step: Step, key: &mut Progress<'_>) {
        let before = key.rotation();
        let mut unclear: Option<Backoff> = None;
        loop {
            let result = match step {
                Step::EnableRotation => self.kms.enable_rotation(key.order.key_id).await,
                // Nothing but its answer tells whether it took effect, and each one may start the rotation period anew.
                Step::UpdateInterval(interval) if shows_nothing_new(step, before) => {
                    self.kms.update_interval_once(key.order.key_id, interval).await
                }
                Step::UpdateInterval(interval) => self.kms.update_interval(key.order.key_id, interval).await,
            };
            let repeated = unclear.is_some();
            let doubtful = repeated || result.as_ref().is_err_and(Error::is_maybe_applied);
            let may_be_applied =
                doubtful || result.as_ref().map_or_else(|error| error.kind() == Kind::Unclear, |_| true);
            if step == Step::EnableRotation && may_be_applied {
                key.owes_interval = key.order.desired.interval != RotationInterval::AFTER_ENABLING;
                self.remember_enabled(key, before.is_none());
            }
            let error = match result {
                Ok(receipt) => {
                    self.accepted(step, before, receipt, key);
                    return self.read_back(key).await;
                }
                Err(error) => error,
            };
            match error.kind() {
                Kind::AlreadyOn if step == Step::EnableRotation => {
                    if doubtful && before.is_some() {
                        // It was read as off, and the attempt whose answer was lost or an error has switched it on.
                        self.accepted(step, before, Receipt::default(), key);
                    } else {
                        key.observed.enable_found_on();
                        if before.is_none() {
                            let memory = &self.reconciler.memory;
                            memory.update(&self.project.name, key.order.key_id, |known| known.found_on = true);
                        }
                        // Whether that attempt did it cannot be told from a key that is never read. If it did, the
                        // interval is the cloud's, so it is sent once more.
                        if doubtful {
                            key.observed.written_before = WrittenBefore::Owed;
                        }
                    }
                    return self.read_back(key).await;
                }
                Kind::NotOn if step != Step::EnableRotation && key.restarts < RESTARTS => {
                    key.restarts += 1;
                    key.observed.interval_found_off();
                    // Enabling may just not be visible yet.
                    self.pause(READ_BACK_WAITS[0] * key.restarts).await;
                    return self.read_back(key).await;
                }
                Kind::Unclear => {
                    let mut backoff = unclear.take().unwrap_or_else(|| self.kms.backoff(error.operation()));
                    self.note(key, &error);
                    let wait = backoff.next().map(|wait| wait.max(error.retry_after().unwrap_or_default()));
                    let waited = match wait {
                        Some(wait) => self.pause(wait).await,
                        None => false,
                    };
                    key.seen = None;
                    self.read_back(key).await;
                    if key.shows(step, before) {
                        self.kms.settle(&error, Settled::Applied, &backoff);
                        return self.accepted(step, before, Receipt::default(), key);
                    }
                    if !waited || matches!(key.observed.reading, Reading::Failed(_)) {
                        self.kms.settle(&error, Settled::GivenUp, &backoff);
                        key.observed.failure = Some(CallFailure::Other);
                        return;
                    }
                    if repeated && shows_nothing_new(step, before) {
                        // The key is on policy, and each write of it may start the cloud's rotation period anew.
                        self.kms.settle(&error, Settled::GivenUp, &backoff);
                        self.note(key, &error);
                        key.observed.failure = Some(CallFailure::Unproven);
                        return;
                    }
                    self.kms.settle(&error, Settled::Repeated, &backoff);
                    unclear = Some(backoff);
                }
                Kind::Hindered(hindrance) => {
                    key.observed.hindrance = Some(hindrance);
                    if hindrance.is_permanent() {
                        // So that the next run does not earn another refusal, which the customer's audit log keeps.
                        let (memory, now) = (&self.reconciler.memory, self.reconciler.clock.now());
                        memory.update(&self.project.name, key.order.key_id, |known| {
                            known.hindrance = Some((hindrance, now));
                        });
                    }
                    return self.note(key, &error);
                }
                // Another replica brings it about.
                Kind::Stopped if !self.reconciler.gate.is_open() => return,
                kind => {
                    key.observed.failure = Some(kind.into());
                    self.note(key, &error);
                    if kind.is_transient() || doubtful {
                        // A server that answers 500 may have done it all the same.
                        key.seen = None;
                        self.read_back(key).await;
                    }
                    return;
                }
            }
        }
    }

    /// The program stops after this run has switched rotation on: the cloud's own interval is not to be left, and where
    /// the setting cannot be read, no later process could tell.
    async fn send_owed_interval(&self, key: &mut Progress<'_>) {
        let (key_id, interval) = (key.order.key_id, key.order.desired.interval);
        let before = key.rotation();
        match self.kms.send_owed_interval(key_id, interval).await {
            Ok(receipt) => self.accepted(Step::UpdateInterval(interval), before, receipt, key),
            Err(error) => {
                key.observed.failure = Some(error.kind().into());
                self.note(key, &error);
            }
        }
    }

    fn accepted(&self, step: Step, before: Option<Rotation>, receipt: Receipt, key: &mut Progress<'_>) {
        let to = match step {
            Step::EnableRotation => {
                key.observed.enable_accepted();
                "on".to_owned()
            }
            Step::UpdateInterval(interval) => {
                key.observed.interval_accepted();
                key.owes_interval = false;
                if key.rotation().and_then(|rotation| rotation.interval_days).is_none() {
                    let memory = &self.reconciler.memory;
                    memory.update(&self.project.name, key.order.key_id, |known| {
                        (known.written, known.owed) = (WrittenBefore::Interval(interval), None);
                    });
                }
                interval.to_string()
            }
        };
        let from = match (before, step) {
            (Some(Rotation { enabled: false, .. }), _) | (None, Step::EnableRotation) => "off".to_owned(),
            (Some(Rotation { interval_days: Some(days), .. }), _) => format!("{days} days"),
            _ => "unknown".to_owned(),
        };
        info!(
            key_id = key.order.key_id.as_str(),
            project = &*self.project.name,
            step = step.as_str(),
            from,
            to,
            request_id = receipt.request_id.as_deref(),
            "rotation changed"
        );
        // Why the key cannot be read stays true.
        if key.observed.reading != Reading::NotOffered {
            key.error = None;
        }
        // What was seen before the write is seen no more.
        if before.is_some() && !key.shows(step, None) {
            key.seen = None;
        }
        let at = self.reconciler.clock.now();
        key.changes.push(Change { step, before, at, request_id: receipt.request_id });
    }

    /// Enabling sets the interval back, whether its answer arrived or not.
    fn remember_enabled(&self, key: &Progress<'_>, unreadable: bool) {
        let (memory, key_id) = (&self.reconciler.memory, key.order.key_id);
        if unreadable || matches!(memory.recall(&self.project.name, key_id).written, WrittenBefore::Interval(_)) {
            let written = if unreadable { WrittenBefore::Owed } else { WrittenBefore::Nothing };
            let owed = (unreadable && key.owes_interval).then_some(key.order.desired.interval);
            memory.update(&self.project.name, key_id, |known| (known.written, known.owed) = (written, owed));
        }
    }

    /// Keeps the error for the report; one that ends the whole project's run is the project's, and is logged once.
    fn note(&self, key: &mut Progress<'_>, error: &Error) {
        if !self.failure.ends_run(error) {
            key.error = Some(KeyError::new(&error.cause(), error.request_id()));
        }
    }

    /// Waits; false when the program was told to stop meanwhile.
    async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.reconciler.stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}

/// A reading says nothing of whether the step took effect: the key was as the step would have it (`reapply: always`).
fn shows_nothing_new(step: Step, before: Option<Rotation>) -> bool {
    match step {
        Step::EnableRotation => false,
        Step::UpdateInterval(interval) => before.is_some_and(|before| has_interval(before, interval)),
    }
}
