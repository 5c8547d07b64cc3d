//! One key in one run: it is observed, and where a write is due, steps are taken one at a time, with a reading after
//! each, until none is left.

use std::time::Duration;

use tokio::time::Instant;

use super::guard::ChangeBudget;
use super::progress::{Order, Progress, Standing};
use super::{Failure, Reconciler};
use crate::kms::{Error, Kind, Kms};
use crate::policy::types::Project;
use crate::rotation::decide::{Status, Step, Verdict};
use crate::rotation::key::{CallFailure, KeyDescription, Reading};
use crate::rotation::observed::{Enabling, Hold};
use crate::rotation::report::{KeyError, KeyReport};

/// Waits before reading again a key whose accepted write does not show yet. The first reading follows at once; in all
/// as long as the vendor's own tool polls, five seconds (API sheet, section 0).
pub(super) const READ_BACK_WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(750),
    Duration::from_millis(1_500),
    Duration::from_millis(2_500),
];

/// How often a key may start over because the cloud says that rotation is off after it was on. Whoever switches it off
/// twice within a run will do so a third time.
pub(super) const RESTARTS: u32 = 2;

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
            self.write(step, &mut key).await;
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
    pub(super) async fn read_back(&self, key: &mut Progress<'_>) {
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

    /// Keeps the error for the report; one that ends the whole project's run is the project's, and is logged once.
    pub(super) fn note(&self, key: &mut Progress<'_>, error: &Error) {
        if !self.failure.ends_run(error) {
            key.error = Some(KeyError::new(&error.cause(), error.request_id()));
        }
    }

    /// Waits; false when the program was told to stop meanwhile.
    pub(super) async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.reconciler.stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}
