//! The keys of one project in one run, stage by stage: all are read, what follows from all readings together is judged,
//! and then the keys that need a change are changed, in the order of the policy.

use futures_util::stream::{self, StreamExt};

use super::guard::Changes;
use super::key::KeyRun;
use super::progress::{self, Order, Progress, Standing};
use crate::kms::Kms;
use crate::kms::endpoint::may_lack_rotation;
use crate::rotation::cover::{Case, Course};
use crate::rotation::decide::Status;
use crate::rotation::key::{Bound, CallFailure, Hindrance, Reading};
use crate::rotation::observed::{Hold, WrittenBefore};
use crate::rotation::project::Mode;
use crate::rotation::report::KeyReport;

impl<K: Kms> KeyRun<'_, K> {
    /// Every key, at most `concurrency` at a time; the reports are in the order of the cases.
    pub(super) async fn all(&self, cases: &[Case<'_>], concurrency: usize) -> Vec<KeyReport> {
        let headway = &self.reconciler.headway;
        headway.find(cases.len());
        let mut done: Vec<(usize, KeyReport)> = Vec::with_capacity(cases.len());
        let mut orders = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            match case.course {
                Course::Settled(status, reasons) => done.push((at, progress::settled(case, status, reasons))),
                Course::Observe(desired) => orders.extend(Order::of(case, desired).map(|order| (at, order))),
            }
        }
        headway.finish(done.len());
        let mut keys = self.observe_all(orders, concurrency).await;
        self.judge_not_offered(&mut keys);
        self.hold_back(&mut keys).await;
        let mut reports = stream::iter(keys)
            .map(|(at, key)| async move {
                let (verdict, is_open) = (key.verdict(), key.is_open);
                let acts = self.may_write && !verdict.steps.is_empty() && self.reconciler.gate.is_open();
                let report = if acts { self.act(key).await } else { key.report(verdict) };
                headway.finish(usize::from(is_open));
                (at, report)
            })
            .buffer_unordered(concurrency);
        while let Some(report) = reports.next().await {
            done.push(report);
        }
        done.sort_unstable_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, report)| report).collect()
    }

    /// Reads every key, and gives them back in the order of the cases.
    async fn observe_all<'o>(&self, orders: Vec<(usize, Order<'o>)>, concurrency: usize) -> Vec<(usize, Progress<'o>)> {
        let mut keys = Vec::with_capacity(orders.len());
        let mut observed = stream::iter(orders)
            .map(|(at, order)| async move { (at, self.observe(order).await) })
            .buffer_unordered(concurrency);
        while let Some((at, mut key)) = observed.next().await {
            key.is_open = key.observed.reading == Reading::NotOffered || !key.verdict().steps.is_empty();
            self.reconciler.headway.finish(usize::from(!key.is_open));
            keys.push((at, key));
        }
        keys.sort_unstable_by_key(|(at, _)| *at);
        keys
    }

    /// That the cloud does not show settings is a property of the project: it holds only where every reading of the run
    /// says so and none ever said otherwise. Else such an answer is a reading that failed.
    fn judge_not_offered(&self, keys: &mut [(usize, Progress<'_>)]) {
        if keys.iter().any(|(_, key)| key.rotation().is_some()) {
            self.reconciler.memory.remember_readable(self.project);
        }
        let is_not_offered = |(_, key): &(usize, Progress<'_>)| key.observed.reading == Reading::NotOffered;
        let holds = keys.iter().all(is_not_offered) && !self.reconciler.memory.is_readable(self.project);
        for (_, key) in keys.iter_mut().filter(|key| is_not_offered(key)) {
            if !holds {
                key.observed.reading = Reading::Failed(CallFailure::Other);
            } else if may_lack_rotation(self.project.cloud, &self.project.region) {
                // The Swiss region documents no rotation calls at all (API sheet, section 2.3).
                key.observed.hindrance.get_or_insert(Hindrance::RotationUnsupported);
            }
        }
    }

    /// Marks the keys that are not to be written in this run, although they are off policy.
    async fn hold_back(&self, keys: &mut [(usize, Progress<'_>)]) {
        let (memory, now) = (&self.reconciler.memory, self.reconciler.clock.now());
        let (mut new, mut again) = (Vec::new(), Vec::new());
        for (_, key) in keys.iter_mut() {
            let verdict = key.verdict();
            if verdict.steps.is_empty() || verdict.status == Status::Compliant || self.project.mode == Mode::Monitor {
                continue;
            }
            let is_off = verdict.status == Status::NonCompliant;
            if is_off {
                key.standing = Standing::OffPolicy;
            }
            let remembered = memory.recall(&self.project.name, key.order.key_id);
            // What cannot be read is only asked, by enabling it, whether it is still as this process has left it.
            let desired = key.order.desired;
            let is_left_alone = remembered.found_on && desired.bound == Bound::Longest;
            let is_set = match key.observed.written_before {
                WrittenBefore::Interval(interval) => interval == desired.interval,
                WrittenBefore::Nothing => is_left_alone,
                WrittenBefore::Owed => false,
            };
            if remembered.is_flapping(now, self.budget.guards) {
                key.observed.hold = Some(Hold::Flapping);
            } else if key.order.is_selected() {
                if is_set && !is_off {
                    key.standing = Standing::Unplanned;
                } else if remembered.write_failed {
                    again.push(key);
                } else {
                    new.push(key);
                }
            }
        }
        let share = self.budget.share(self.place, Changes { new: new.len(), again: again.len() }).await;
        for key in new.into_iter().skip(share.new).chain(again.into_iter().skip(share.again)) {
            key.observed.hold = Some(Hold::ChangeLimit);
        }
    }
}
