//! When faults are injected: for the next calls ("the next three interval writes") or by rate ("a tenth of all KMS
//! calls").
//!
//! Everything random comes from one seeded generator: the same requests in the same order get the same faults.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::delivery::Hold;
use super::fault::Fault;
use super::operation::{Operation, OperationSet};

#[derive(Clone, Copy, Debug)]
enum When {
    Next(u64),
    Rate(f64),
    Always,
}

/// Which calls get which fault.
#[derive(Clone, Debug)]
pub struct Rule {
    when: When,
    faults: Arc<[Fault]>,
    operations: OperationSet,
    key_id: Option<Box<str>>,
    skipped: u64,
}

impl Rule {
    fn new(when: When, faults: Arc<[Fault]>) -> Self {
        Self { when, faults, operations: OperationSet::KMS, key_id: None, skipped: 0 }
    }

    /// The next `calls` calls get the fault.
    #[must_use]
    pub fn next(calls: u64, fault: Fault) -> Self {
        Self::new(When::Next(calls), [fault].into())
    }

    /// This share of the calls, 0 to 1, gets one of the faults.
    #[must_use]
    pub fn rate(share: f64, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::new(When::Rate(share), faults.into_iter().collect())
    }

    /// Every call gets the fault.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self::new(When::Always, [fault].into())
    }

    /// Only these operations; by default, every call of KMS and none of IAM.
    #[must_use]
    pub fn on(self, operations: impl Into<OperationSet>) -> Self {
        Self { operations: operations.into(), ..self }
    }

    /// Only calls for this key.
    #[must_use]
    pub fn key(self, key_id: impl Into<Box<str>>) -> Self {
        Self { key_id: Some(key_id.into()), ..self }
    }

    /// Skips the first `calls` calls that it would apply to.
    #[must_use]
    pub fn after(self, calls: u64) -> Self {
        Self { skipped: calls, ..self }
    }

    fn fires(&mut self, operation: Operation, key_id: Option<&str>, rng: &mut Rng) -> bool {
        let applies = self.operations.contains(operation)
            && !self.faults.is_empty()
            && (self.key_id.is_none() || self.key_id.as_deref() == key_id);
        if !applies {
            return false;
        }
        if self.skipped > 0 {
            self.skipped -= 1;
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

/// The active rules, in order.
#[derive(Debug)]
pub(super) struct FaultRules {
    rules: Vec<Rule>,
    /// The faults of an outage, if there is one.
    outage: Option<Arc<[Fault]>>,
    rng: Rng,
    injected: u64,
}

/// The delay, hold and fault of one request.
pub(super) struct FaultDecision {
    pub(super) delay: Duration,
    pub(super) hold: Option<Hold>,
    pub(super) fault: Option<(Arc<[Fault]>, usize)>,
}

impl FaultDecision {
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref().and_then(|(faults, at)| faults.get(*at))
    }
}

impl FaultRules {
    pub(super) fn new(rules: Vec<Rule>, seed: u64) -> Self {
        Self { rules, outage: None, rng: Rng::with_seed(seed), injected: 0 }
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.retain(|rule| !rule.is_spent());
        self.rules.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Begins or ends an outage of KMS and IAM: their gateway answers every call. It comes before all rules.
    pub(super) fn set_outage(&mut self, begins: bool) {
        self.outage = begins.then(|| [Fault::html(502), Fault::html(504)].into());
    }

    /// Number of requests with a fault other than a delay.
    pub(super) fn faults_injected(&self) -> u64 {
        self.injected
    }

    /// An outage decides, or else the first rule with a fault. The delays of the rules up to it add up; the last hold applies.
    pub(super) fn decide(&mut self, operation: Operation, key_id: Option<&str>) -> FaultDecision {
        let is_metadata = OperationSet::METADATA.contains(operation);
        if let Some(faults) = self.outage.as_ref().filter(|_| !is_metadata) {
            self.injected += 1;
            let fault = (Arc::clone(faults), self.rng.usize(..faults.len()));
            return FaultDecision { delay: Duration::ZERO, hold: None, fault: Some(fault) };
        }
        let (mut delay, mut hold) = (Duration::ZERO, None);
        for rule in &mut self.rules {
            if !rule.fires(operation, key_id, &mut self.rng) {
                continue;
            }
            let at = if rule.faults.len() > 1 { self.rng.usize(..rule.faults.len()) } else { 0 };
            let Some(fault) = rule.faults.get(at) else { continue };
            delay += fault.random_delay(&mut self.rng);
            hold = fault.hold().cloned().or(hold);
            if !fault.is_delay_only() {
                self.injected += 1;
                return FaultDecision { delay, hold, fault: Some((Arc::clone(&rule.faults), at)) };
            }
        }
        FaultDecision { delay, hold, fault: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::delivery::Delivery;
    use super::*;

    fn status(decision: &FaultDecision) -> Option<u16> {
        decision.fault().map(|fault| fault.apply(None, "id").0.status)
    }

    #[test]
    fn a_rule_for_the_next_calls_injects_no_further_faults() {
        let mut fault_rules = FaultRules::new(Vec::new(), 1);
        fault_rules.add(Rule::next(2, Fault::html(502)).on(Operation::UpdateInterval).key("a").after(1));
        let mut seen = Vec::new();
        for (operation, key) in [
            (Operation::UpdateInterval, "a"),
            (Operation::EnableRotation, "a"),
            (Operation::UpdateInterval, "b"),
            (Operation::UpdateInterval, "a"),
            (Operation::UpdateInterval, "a"),
            (Operation::UpdateInterval, "a"),
        ] {
            seen.push(status(&fault_rules.decide(operation, Some(key))));
        }
        assert_eq!(seen, [None, None, None, Some(502), Some(502), None]);
        assert_eq!(fault_rules.faults_injected(), 2);
    }

    #[test]
    fn a_rate_is_exact_spares_iam_and_repeats_with_its_seed() {
        let run = |seed| {
            let rule = Rule::rate(0.1, [Fault::kms(500, "KMS.0100"), Fault::html(502), Fault::html(504)]);
            let mut fault_rules = FaultRules::new(vec![rule], seed);
            let iam = (0..100).filter(|_| fault_rules.decide(Operation::Authenticate, None).fault.is_some()).count();
            assert_eq!(iam, 0);
            (0..10_000).map(|_| status(&fault_rules.decide(Operation::ReadStatus, Some("k")))).collect::<Vec<_>>()
        };
        let first = run(7);
        let injected = first.iter().flatten().count();
        assert!((850..1150).contains(&injected), "{injected} of 10000");
        for status in [500, 502, 504] {
            assert!(first.iter().flatten().filter(|seen| **seen == status).count() > 200);
        }
        assert_eq!(first, run(7));
        assert_ne!(first, run(8));
    }

    #[test]
    fn delays_add_up_and_keep_the_fault() {
        let tick = Duration::from_millis(10);
        let rules = vec![
            Rule::always(Fault::delay(tick)),
            Rule::always(Fault::delay_between(tick, tick * 2)),
            Rule::next(1, Fault::hang()),
        ];
        let mut fault_rules = FaultRules::new(rules, 3);
        let decision = fault_rules.decide(Operation::ReadStatus, None);
        assert!((tick * 2..=tick * 3).contains(&decision.delay));
        assert_eq!(decision.fault().unwrap().apply(None, "id").1, Delivery::Hang);
        assert!(fault_rules.decide(Operation::ReadStatus, None).fault.is_none());
    }
}
