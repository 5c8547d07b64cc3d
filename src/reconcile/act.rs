//! One key in one run, after its first reading: a state machine. The rules are those of "What a run does to a key" in
//! `docs/how-it-works.md`.
//!
//! ```text
//! read ─► decide ──┬─ a step is left ────────────────────────► write it (`write`), decide again
//!           ▲      ├─ an accepted write does not show yet ───► wait, read again, decide again
//!           └──────┤
//!                  ├─ it would exceed the limit of changes ──► hold it, decide again
//!                  ├─ stopping, and the interval is due ─────► send the interval, end
//!                  └─ nothing is left to do ─────────────────► end
//! ```

use std::time::Duration;

use super::key_run::{KeyRun, Standing};
use super::project_run::ProjectRun;
use crate::kms::Kms;
use crate::rotation::decide::{Status, Step};
use crate::rotation::observed::Hold;
use crate::rotation::report::KeyReport;

/// Waits before a key is read again whose accepted write does not show yet. The first reading follows the write at
/// once; five seconds in all, as long as the vendor's own tool polls (`docs/kms-api.md` 0).
pub(super) const READ_BACK_WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(750),
    Duration::from_millis(1_500),
    Duration::from_millis(2_500),
];

/// A reading that is older is repeated before a write, since others change keys too.
const READING_HOLDS: Duration = Duration::from_secs(60);

/// What a run does next to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Rules 2 to 4: a write is due.
    Write(Step),
    /// Rule 2: the last write was accepted and does not show yet.
    ReadAgain(Duration),
    /// The limit of changes is reached.
    Hold,
    /// The program stops, and this run has switched rotation on: the interval that enabling set must not stay.
    SendDueInterval,
    /// The key is on policy (rule 3), unknown (rules 1 and 7), blocked (rule 6), held or given up; or the run may not
    /// go on.
    End,
}

impl<K: Kms> ProjectRun<'_, K> {
    /// Brings the key to its policy, as far as that is possible in this run.
    pub(super) async fn act(&self, mut key: KeyRun<'_>) -> KeyReport {
        if !self.refresh(&mut key).await {
            return self.end(key);
        }
        loop {
            match self.next(&key) {
                Next::Write(step) => {
                    self.write(step, &mut key).await;
                    key.read_backs = 0;
                }
                Next::ReadAgain(wait) => {
                    if !self.pause(wait).await {
                        return self.end(key);
                    }
                    key.read_backs += 1;
                    self.read_back(&mut key).await;
                }
                Next::Hold => key.observed.hold = Some(Hold::ChangeLimit),
                Next::SendDueInterval => {
                    self.send_due_interval(&mut key).await;
                    return self.end(key);
                }
                Next::End => return self.end(key),
            }
        }
    }

    /// Repeats a reading that is older than a minute. False where the key was on policy then and is not any more: the
    /// guards have not counted it, so it is left to the next run.
    async fn refresh(&self, key: &mut KeyRun<'_>) -> bool {
        if key.read_at.elapsed() <= READING_HOLDS {
            return true;
        }
        let was_compliant = key.verdict().status == Status::Compliant;
        self.read_back(key).await;
        !was_compliant || key.verdict().status == Status::Compliant
    }

    fn next(&self, key: &KeyRun<'_>) -> Next {
        let (verdict, stops) = (key.verdict(), self.reconciler.stop.is_cancelled());
        if stops && key.interval_due && verdict.status != Status::Compliant {
            return Next::SendDueInterval;
        }
        let Some(step) = verdict.steps.first() else {
            let wait = READ_BACK_WAITS.get(key.read_backs).filter(|_| verdict.awaits_visibility());
            return wait.map_or(Next::End, |wait| Next::ReadAgain(*wait));
        };
        if stops || !self.reconciler.gate.is_open() {
            Next::End
        } else if key.is_unplanned(step) && !self.budget.has_room() {
            Next::Hold
        } else {
            Next::Write(step)
        }
    }

    /// The report of a key that this run is done with; the memory keeps what later runs need.
    fn end(&self, key: KeyRun<'_>) -> KeyReport {
        let (memory, key_id) = (&self.reconciler.memory, key.task.key_id);
        if key.standing == Standing::OffPolicy && !key.changes.is_empty() {
            let (now, guards) = (self.reconciler.clock.now(), self.budget.guards);
            self.remember(key_id, |known| known.repaired(now, guards));
        }
        let write_failed = key.observed.failure.is_some();
        if write_failed != memory.recall(&self.project.name, key_id).write_failed {
            self.remember(key_id, |known| known.write_failed = write_failed);
        }
        self.report(key)
    }

    /// Waits; false when the program stops in the meantime.
    pub(super) async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.reconciler.stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}
