//! When faults strike: by script ("the next three interval writes") or by rate ("a tenth of all KMS calls").
//!
//! Everything random comes from one seeded generator, so that a run with the same requests in the same order meets the
//! same faults.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::fault::{Fault, Hold};
use super::operation::{Operation, OperationSet};

#[derive(Clone, Copy, Debug)]
enum When {
    Next(u64),
    Rate(f64),
    Always,
}

/// When which fault strikes.
#[derive(Clone, Debug)]
pub struct Rule {
    when: When,
    faults: Arc<[Fault]>,
    operations: OperationSet,
    key_id: Option<Box<str>>,
    spared: u64,
}

impl Rule {
    fn new(when: When, faults: Arc<[Fault]>) -> Self {
        Self { when, faults, operations: OperationSet::KMS, key_id: None, spared: 0 }
    }

    /// The fault strikes the next calls, so many of them.
    #[must_use]
    pub fn next(calls: u64, fault: Fault) -> Self {
        Self::new(When::Next(calls), [fault].into())
    }

    /// One of the faults strikes this share of the calls, 0 to 1.
    #[must_use]
    pub fn rate(share: f64, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::new(When::Rate(share), faults.into_iter().collect())
    }

    /// The fault strikes every call.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self::new(When::Always, [fault].into())
    }

    /// Only on these calls; without it, on every call of the KMS and none of IAM.
    #[must_use]
    pub fn on(self, operations: impl Into<OperationSet>) -> Self {
        Self { operations: operations.into(), ..self }
    }

    /// Only on calls for this key.
    #[must_use]
    pub fn key(self, key_id: impl Into<Box<str>>) -> Self {
        Self { key_id: Some(key_id.into()), ..self }
    }

    /// Not on the first calls that it would apply to, so many of them.
    #[must_use]
    pub fn after(self, calls: u64) -> Self {
        Self { spared: calls, ..self }
    }

    fn fires(&mut self, operation: Operation, key_id: Option<&str>, rng: &mut Rng) -> bool {
        let applies = self.operations.contains(operation)
            && !self.faults.is_empty()
            && (self.key_id.is_none() || self.key_id.as_deref() == key_id);
        if !applies {
            return false;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return false;
        }
        match &mut self.when {
            When::Next(0) => false,
            When::Next(left) => {
                *left -= 1;
                true
            }
            When::Rate(share) => rng.f64() < *share,
            When::Always => true,
        }
    }

    fn is_spent(&self) -> bool {
        matches!(self.when, When::Next(0))
    }
}

/// The rules in force, in order.
#[derive(Debug)]
pub(super) struct Script {
    rules: Vec<Rule>,
    rng: Rng,
    struck: u64,
}

/// What strikes one request.
pub(super) struct Strike {
    pub(super) delay: Duration,
    pub(super) hold: Option<Hold>,
    pub(super) fault: Option<(Arc<[Fault]>, usize)>,
}

impl Strike {
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref().and_then(|(faults, at)| faults.get(*at))
    }
}

impl Script {
    pub(super) fn new(rules: Vec<Rule>, seed: u64) -> Self {
        Self { rules, rng: Rng::with_seed(seed), struck: 0 }
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.retain(|rule| !rule.is_spent());
        self.rules.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// How many requests were struck by more than a delay.
    pub(super) fn struck(&self) -> u64 {
        self.struck
    }

    /// The first rule that fires decides; delays of the rules that fire up to it add up, and the last hold holds.
    pub(super) fn strike(&mut self, operation: Operation, key_id: Option<&str>) -> Strike {
        let (mut delay, mut hold) = (Duration::ZERO, None);
        for rule in &mut self.rules {
            if !rule.fires(operation, key_id, &mut self.rng) {
                continue;
            }
            let at = if rule.faults.len() > 1 { self.rng.usize(..rule.faults.len()) } else { 0 };
            let Some(fault) = rule.faults.get(at) else { continue };
            delay += fault.delay_drawn(&mut self.rng);
            hold = fault.hold().cloned().or(hold);
            if !fault.is_mere_delay() {
                self.struck += 1;
                return Strike { delay, hold, fault: Some((Arc::clone(&rule.faults), at)) };
            }
        }
        Strike { delay, hold, fault: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::Delivery;
    use super::*;

    fn status(strike: &Strike) -> Option<u16> {
        strike.fault().map(|fault| fault.strike(None, "id").0.status)
    }

    #[test]
    fn a_scripted_fault_strikes_its_calls_and_no_more() {
        let mut script = Script::new(Vec::new(), 1);
        script.add(Rule::next(2, Fault::html(502)).on(Operation::UpdateInterval).key("a").after(1));
        let mut seen = Vec::new();
        for (operation, key) in [
            (Operation::UpdateInterval, "a"),
            (Operation::EnableRotation, "a"),
            (Operation::UpdateInterval, "b"),
            (Operation::UpdateInterval, "a"),
            (Operation::UpdateInterval, "a"),
            (Operation::UpdateInterval, "a"),
        ] {
            seen.push(status(&script.strike(operation, Some(key))));
        }
        assert_eq!(seen, [None, None, None, Some(502), Some(502), None]);
        assert_eq!(script.struck(), 2);
    }

    #[test]
    fn a_rate_is_kept_spares_iam_and_repeats_with_its_seed() {
        let run = |seed| {
            let rule = Rule::rate(0.1, [Fault::kms(500, "KMS.0100"), Fault::html(502), Fault::html(504)]);
            let mut script = Script::new(vec![rule], seed);
            let iam = (0..100).filter(|_| script.strike(Operation::Authenticate, None).fault.is_some()).count();
            assert_eq!(iam, 0);
            (0..10_000).map(|_| status(&script.strike(Operation::ReadStatus, Some("k")))).collect::<Vec<_>>()
        };
        let first = run(7);
        let struck = first.iter().flatten().count();
        assert!((850..1150).contains(&struck), "{struck} of 10000");
        for status in [500, 502, 504] {
            assert!(first.iter().flatten().filter(|seen| **seen == status).count() > 200);
        }
        assert_eq!(first, run(7));
        assert_ne!(first, run(8));
    }

    #[test]
    fn delays_add_up_and_do_not_hide_the_fault_behind_them() {
        let tick = Duration::from_millis(10);
        let rules = vec![
            Rule::always(Fault::delay(tick)),
            Rule::always(Fault::delay_between(tick, tick * 2)),
            Rule::next(1, Fault::hang()),
        ];
        let mut script = Script::new(rules, 3);
        let strike = script.strike(Operation::ReadStatus, None);
        assert!((tick * 2..=tick * 3).contains(&strike.delay));
        assert_eq!(strike.fault().unwrap().strike(None, "id").1, Delivery::Hang);
        assert!(script.strike(Operation::ReadStatus, None).fault.is_none());
    }
}
