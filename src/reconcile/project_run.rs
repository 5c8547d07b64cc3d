//! The keys of one project in one run, stage by stage: list them, read all, judge all readings together, share the
//! limit of changes, and then change the keys that need it, in the order of the policy.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use futures_util::stream::{self, StreamExt};

use super::Reconciler;
use super::guard::{ChangeBudget, Changes};
use super::key_run::{KeyRun, KeyTask, Standing};
use super::memory::Remembered;
use super::observe::created;
use super::project_failure::ProjectFailure;
use super::recorder::WriteIntent;
use crate::kms::endpoint::may_lack_rotation;
use crate::kms::{ErrorKind, Kms, SendMode};
use crate::policy::types::Project;
use crate::rotation::assignment::{Action, Assignment, Assignments, assign_rules};
use crate::rotation::decide::Status;
use crate::rotation::key::{Bound, CallFailure, KeyId, Reading, RotationBlocker};
use crate::rotation::key_name::KeyName;
use crate::rotation::material::SHORTEST_GAP;
use crate::rotation::observed::{Hold, WrittenBefore};
use crate::rotation::project::Mode;
use crate::rotation::report::{KeyReport, ProjectReport};

/// The run of one project: what its keys share.
pub(super) struct ProjectRun<'a, K> {
    pub(super) kms: &'a K,
    pub(super) project: &'a Project,
    pub(super) reconciler: &'a Reconciler,
    pub(super) may_write: bool,
    /// Whether descriptions in the list of keys are of this run.
    pub(super) listed: bool,
    /// Whether no key of the project can be missing.
    pub(super) is_complete: bool,
    pub(super) budget: &'a ChangeBudget,
    /// The project's index in the policy, by which the budget is shared.
    pub(super) index: usize,
    pub(super) failure: &'a ProjectFailure<'a>,
    /// When three more scheduled runs should be over.
    pub(super) gap_after: Option<SystemTime>,
    /// The only key of the run, if it is limited to one.
    pub(super) only: Option<&'a KeyName>,
}

/// Which share of the run's changes a key takes.
enum Claim {
    None,
    /// Its last write did not fail.
    New,
    /// Its last write failed, so it comes after all others.
    Again,
}

/// What a project's run has found.
pub(super) struct Findings {
    /// In the order of the policy.
    pub(super) keys: Vec<KeyReport>,
    /// Lines of selectors that match no key.
    pub(super) idle_entries: Vec<u32>,
    /// Whether no key of the project can be missing.
    pub(super) is_complete: bool,
}

impl<K: Kms> ProjectRun<'_, K> {
    /// The whole run, with at most `concurrency` keys at a time.
    pub(super) async fn run(mut self, concurrency: usize, now: SystemTime) -> Findings {
        let survey = self.reconciler.survey(self.kms, self.project, now, self.failure).await;
        (self.listed, self.is_complete) = (survey.is_current(), survey.is_complete());
        let Assignments { mut all, mut idle } = assign_rules(&self.project.keys, survey.listing(), now);
        if let Some(only) = self.only {
            all.retain(|assignment| only.is_of(assignment));
            idle.clear();
        }
        let keys = self.all_keys(&all, concurrency).await;
        Findings { keys, idle_entries: idle.iter().map(|rule| rule.line).collect(), is_complete: survey.is_complete() }
    }

    /// Reads every key and then changes the keys that need it; the reports are in the order of the assignments.
    async fn all_keys(&self, assignments: &[Assignment<'_>], concurrency: usize) -> Vec<KeyReport> {
        let progress = &self.reconciler.progress;
        progress.add_found(assignments.len());
        let mut done: Vec<(usize, KeyReport)> = Vec::with_capacity(assignments.len());
        let others = assignments.iter().enumerate().filter_map(|(at, assignment)| match assignment.action {
            Action::Skip(status, reasons) => Some((at, assignment, status, reasons)),
            Action::Observe(_) => None,
        });
        let others: Vec<_> = others.collect();
        progress.add_read(others.len());
        let mut keys = self.observe_all(assignments, &mut done, concurrency).await;
        self.judge_not_offered(&mut keys, &done);
        self.hold_back(&mut keys).await;
        self.record_intents(&keys).await;
        let mut reports = stream::iter(keys)
            .map(|(at, key)| async move { (at, self.finish(key).await) })
            .buffer_unordered(concurrency);
        while let Some(report) = reports.next().await {
            done.push(report);
        }
        drop(reports);
        let new_rotations = self.read_others(others.iter().map(|(_, assignment, ..)| *assignment), concurrency).await;
        progress.add_done(others.len() - new_rotations.len());
        done.extend(others.into_iter().map(|(at, assignment, status, reasons)| {
            let mut report = self.reconciler.skipped(self.project, assignment, status, reasons, self.kms.cloud_time());
            let key_id = assignment.subject.key_id();
            report.new_rotations = key_id.and_then(|key_id| new_rotations.get(&key_id).copied()).unwrap_or(0);
            (at, report)
        }));
        done.sort_unstable_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, report)| report).collect()
    }

    /// Reads every key. A key that nothing is left to do for is reported at once, since the state of a key takes twice
    /// the memory of its report; the others are returned in the order of the assignments.
    async fn observe_all<'o>(
        &self,
        assignments: &'o [Assignment<'o>],
        done: &mut Vec<(usize, KeyReport)>,
        concurrency: usize,
    ) -> Vec<(usize, KeyRun<'o>)> {
        let mut keys = Vec::new();
        let tasks = assignments.iter().enumerate().filter_map(|(at, assignment)| match assignment.action {
            Action::Observe(desired) => Some((at, KeyTask::of(assignment, desired)?)),
            Action::Skip(..) => None,
        });
        let mut observed = stream::iter(tasks)
            .map(|(at, task)| async move { (at, self.observe(task).await) })
            .buffer_unordered(concurrency);
        while let Some((at, mut key)) = observed.next().await {
            let needs_nothing = key.verdict().steps.is_empty();
            key.is_done = key.observed.reading != Reading::NotOffered && (needs_nothing || !self.may_write);
            self.reconciler.progress.add_read(1);
            self.reconciler.progress.add_done(usize::from(key.is_done));
            self.reconciler.progress.key_read(self.index, || self.head(), || self.report(key.clone()));
            if key.is_done && needs_nothing {
                done.push((at, self.report(key)));
            } else {
                // At once, since growing by and by leaves holes in the memory. Most projects have none.
                if keys.is_empty() {
                    keys.reserve_exact(assignments.len() - done.len());
                }
                keys.push((at, key));
            }
        }
        keys.sort_unstable_by_key(|(at, _)| *at);
        keys
    }

    /// Makes the intents of all writes durable that follow from the readings.
    async fn record_intents(&self, keys: &[(usize, KeyRun<'_>)]) {
        let Some(recorder) = &self.reconciler.recorder else { return };
        let intents = keys.iter().filter(|(_, key)| self.acts(key)).flat_map(|(_, key)| {
            let (task, before) = (key.task, key.rotation());
            let intent = move |step| WriteIntent {
                project: Arc::clone(&self.project.name),
                key_id: task.key_id,
                step,
                interval: task.interval_with(step),
                before,
            };
            key.verdict().steps.iter().map(intent)
        });
        let intents: Vec<_> = intents.collect();
        if !intents.is_empty() {
            recorder.intend(&self.head(), intents).await;
        }
    }

    /// The project's report without its keys.
    pub(super) fn head(&self) -> ProjectReport {
        self.reconciler.head(self.project, self.kms.access(), self.is_complete)
    }

    /// Whether a change of the key is due and allowed.
    fn acts(&self, key: &KeyRun<'_>) -> bool {
        self.may_write && !key.verdict().steps.is_empty() && self.reconciler.gate.is_open()
    }

    /// Changes the key where that is due and allowed.
    async fn finish(&self, key: KeyRun<'_>) -> KeyReport {
        let is_done = key.is_done;
        let report = if self.acts(&key) {
            let report = self.act(key).await;
            self.reconciler.progress.key_changed(self.index, &report);
            report
        } else {
            self.report(key)
        };
        self.reconciler.progress.add_done(usize::from(!is_done));
        report
    }

    /// Rule 4: *not offered* is a property of the project. It holds only if every reading of the run got such an
    /// answer, and no key of the project was ever read. Otherwise such an answer is a failed reading. A run with one key
    /// has too few readings to tell.
    fn judge_not_offered(&self, keys: &mut [(usize, KeyRun<'_>)], done: &[(usize, KeyReport)]) {
        // Not the reading alone: a key that was read may have failed since, as with a login that is refused after it.
        let was_read = keys.iter().any(|(_, key)| key.history.last().is_some());
        if was_read || done.iter().any(|(_, key)| key.observed.is_some()) {
            self.reconciler.memory.remember_readable(self.project);
        }
        let is_not_offered = |(_, key): &(usize, KeyRun<'_>)| key.observed.reading == Reading::NotOffered;
        let may_hold =
            done.is_empty() && keys.iter().all(is_not_offered) && !self.reconciler.memory.is_readable(self.project);
        let holds = may_hold && self.only.is_none();
        for (_, key) in keys.iter_mut().filter(|key| is_not_offered(key)) {
            if may_hold
                && !holds
                && let Some(error) = &mut key.error
            {
                error.add("one key does not show whether the cloud offers the call; run without --key");
            }
            if !holds {
                key.observed.reading = Reading::Failed(CallFailure::Other);
            } else if may_lack_rotation(self.project.cloud, &self.project.region) {
                // The Swiss region documents no rotation calls at all (`docs/kms-api.md` 2.3).
                key.observed.blocker.get_or_insert(RotationBlocker::RotationUnsupported);
            }
        }
    }

    /// The guards: marks keys that are off policy and must not be written in this run.
    async fn hold_back(&self, keys: &mut [(usize, KeyRun<'_>)]) {
        if self.project.mode == Mode::Monitor {
            self.budget.share(self.index, Changes::default()).await;
            return;
        }
        let now = self.reconciler.clock.now();
        let (mut new, mut again) = (Vec::new(), Vec::new());
        for (_, key) in keys.iter_mut() {
            match self.claim(key, now) {
                Claim::None => {}
                Claim::New => new.push(key),
                Claim::Again => again.push(key),
            }
        }
        let share = self.budget.share(self.index, Changes { new: new.len(), again: again.len() }).await;
        for key in new.into_iter().skip(share.new).chain(again.into_iter().skip(share.again)) {
            key.observed.hold = Some(Hold::ChangeLimit);
        }
    }

    /// Which share of the run's changes the key takes. Only changes that selectors bring are limited.
    fn claim(&self, key: &mut KeyRun<'_>, now: SystemTime) -> Claim {
        let verdict = key.verdict();
        if verdict.steps.is_empty() || verdict.status == Status::Compliant {
            return Claim::None;
        }
        if verdict.status == Status::NonCompliant {
            key.standing = Standing::OffPolicy;
        }
        let remembered = self.reconciler.memory.recall(&self.project.name, key.task.key_id);
        if remembered.is_flapping(now, self.budget.guards) {
            key.observed.hold = Some(Hold::Flapping);
            Claim::None
        } else if !key.task.is_selected() {
            Claim::None
        } else if key.standing != Standing::OffPolicy && is_as_left(key, &remembered) {
            key.standing = Standing::Unplanned;
            Claim::None
        } else if remembered.write_failed {
            Claim::Again
        } else {
            Claim::New
        }
    }

    /// Reads the keys that the run does nothing to, once a day: no key of the inventory is left without its setting.
    /// Returns the rotations that were seen for the first time.
    async fn read_others<'o>(
        &self,
        assignments: impl Iterator<Item = &'o Assignment<'o>>,
        concurrency: usize,
    ) -> HashMap<KeyId, u64> {
        let now = self.reconciler.clock.now();
        let (memory, project) = (&self.reconciler.memory, &self.project.name);
        let due = assignments.filter(|assignment| can_rotate(assignment)).filter_map(|assignment| {
            let key_id = assignment.subject.key_id()?;
            let remembered = memory.recall(project, key_id);
            remembered.is_optional_call_due(now).then_some((key_id, assignment, remembered.history))
        });
        let go_on = AtomicBool::new(true);
        let read = stream::iter(due).map(async |(key_id, assignment, mut history)| {
            if !go_on.load(Ordering::Relaxed) {
                return None;
            }
            let new_rotations = match self.kms.read_status(key_id, SendMode::Optional).await {
                Ok(rotation) => {
                    memory.remember_readable(self.project);
                    history.created = created(assignment).or(history.created);
                    self.seen(rotation, self.listed_state(assignment), &mut history)
                }
                Err(error) => {
                    // The next run goes on with the keys after it.
                    if ends_optional_calls(error.kind()) {
                        go_on.store(false, Ordering::Relaxed);
                    }
                    0
                }
            };
            self.reconciler.progress.add_done(1);
            self.remember(key_id, |known| {
                known.history = history;
                known.optional_call_made(now);
            });
            Some((key_id, new_rotations))
        });
        read.buffer_unordered(concurrency).filter_map(async |read| read).collect().await
    }

    /// The report of a key that the run is done with.
    pub(super) fn report(&self, key: KeyRun<'_>) -> KeyReport {
        key.report(self.project.proof, self.kms.cloud_time())
    }

    /// When a reading at this time is followed by a gap: after three scheduled runs, and not within a day.
    pub(super) fn gap_after(&self, at: SystemTime) -> SystemTime {
        self.gap_after.max(Some(at + SHORTEST_GAP)).unwrap_or(at)
    }

    /// Changes what later runs of this process remember of the key.
    pub(super) fn remember(&self, key_id: KeyId, change: impl FnOnce(&mut Remembered)) {
        self.reconciler.memory.update(&self.project.name, key_id, change);
    }
}

/// Whether an optional call failed for a reason that concerns other keys too and may pass.
fn ends_optional_calls(kind: ErrorKind) -> bool {
    use ErrorKind::{Credentials, LoginUnavailable, Stopped, Unreachable};
    kind.is_transient() || matches!(kind, Credentials | LoginUnavailable | Unreachable | Stopped)
}

/// Whether the key can rotate by its kind.
fn can_rotate(assignment: &Assignment<'_>) -> bool {
    let is_known =
        matches!(assignment.action, Action::Skip(Status::Exempt | Status::Uncovered | Status::NonCompliant, _));
    let blocker = assignment.listed.and_then(|key| key.description.blocker);
    is_known && !blocker.is_some_and(RotationBlocker::is_permanent)
}

/// Whether a key whose setting cannot be read is expected to be as this process has left it. Enabling is then sent only
/// to find out whether rotation is still on.
fn is_as_left(key: &KeyRun<'_>, remembered: &Remembered) -> bool {
    match key.observed.written_before {
        WrittenBefore::Interval(interval) => interval == key.task.desired.interval,
        WrittenBefore::Nothing => remembered.found_on && key.task.desired.bound == Bound::Longest,
        WrittenBefore::IntervalDue => false,
    }
}
