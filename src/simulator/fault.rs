//! Faults and when they strike: by script ("the next three interval writes") or by rate ("a tenth of all KMS calls").
//!
//! A fault is two decisions: whether the request is carried out, and what becomes of its answer. Everything random
//! comes from one seeded generator, so that a run with the same requests in the same order meets the same faults.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use hyper::body::Bytes;

use super::answer::{Answer, Delivery};
use super::operation::{Operation, OperationSet};

/// An answer of 200 that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// Not JSON.
    NotJson,
    /// JSON that breaks off, under a length that says so.
    Truncated,
    /// JSON of another shape.
    WrongShape,
    /// No body.
    Empty,
}

impl Garbage {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::NotJson, Self::Truncated, Self::WrongShape, Self::Empty];
}

#[derive(Clone, Debug)]
enum Effect {
    /// The answer goes out as it is.
    Nothing,
    /// A proxy's page instead of the answer.
    Html(u16),
    /// An error of the KMS instead of the answer.
    Kms(u16, &'static str, &'static str),
    /// An error of the gateway instead of the answer.
    Gateway(u16, &'static str, &'static str),
    /// A 200 that means nothing instead of a 200 or 201.
    Garbage(Garbage),
    /// The answer, on a bad way.
    Delivery(Delivery),
}

/// Something that goes wrong with one request.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    carried_out: bool,
    delay: Option<(Duration, Duration)>,
    retry_after: Option<Box<str>>,
}

impl Fault {
    fn new(effect: Effect, carried_out: bool) -> Self {
        Self { effect, carried_out, delay: None, retry_after: None }
    }

    /// A proxy's HTML page of this status; the request is not carried out.
    #[must_use]
    pub fn html(status: u16) -> Self {
        Self::new(Effect::Html(status), false)
    }

    /// An error body of the KMS; the request is not carried out.
    #[must_use]
    pub fn kms(status: u16, code: &'static str) -> Self {
        Self::new(Effect::Kms(status, code, "The request failed."), false)
    }

    /// An error body of the API gateway; the request is not carried out.
    #[must_use]
    pub fn gateway(status: u16, code: &'static str) -> Self {
        Self::new(Effect::Gateway(status, code, "The request failed."), false)
    }

    /// 429 as the gateway was seen to answer it; without `Retry-After` unless one is given.
    #[must_use]
    pub fn throttled() -> Self {
        const TEXT: &str =
            "The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute";
        Self::new(Effect::Gateway(429, "APIGW.0308", TEXT), false)
    }

    /// 401 of the gateway: the credentials are refused.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(Effect::Gateway(401, "APIGW.0301", "Incorrect IAM authentication information"), false)
    }

    /// 401 of the gateway for an access key that is locked after too many failures.
    #[must_use]
    pub fn access_locked() -> Self {
        Self::new(Effect::Gateway(401, "APIGW.0301", ACCESS_LOCKED), false)
    }

    /// The connection is reset; the request is not carried out.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(Effect::Delivery(Delivery::Reset), false)
    }

    /// No answer, ever; the request is not carried out.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Effect::Delivery(Delivery::Hang), false)
    }

    /// The request is carried out, and the connection closed in the middle of the answer's body.
    #[must_use]
    pub fn cut_off() -> Self {
        Self::new(Effect::Delivery(Delivery::CutOff { reset: false }), true)
    }

    /// The request is carried out, and the connection reset in the middle of the answer's body.
    #[must_use]
    pub fn cut_off_by_reset() -> Self {
        Self::new(Effect::Delivery(Delivery::CutOff { reset: true }), true)
    }

    /// The request is carried out, and the answer's body sent byte by byte with this pause before each.
    #[must_use]
    pub fn drip(pause: Duration) -> Self {
        Self::new(Effect::Delivery(Delivery::Drip(pause)), true)
    }

    /// The request is carried out, and where it succeeds the answer is a 200 that means nothing.
    #[must_use]
    pub fn garbage(garbage: Garbage) -> Self {
        Self::new(Effect::Garbage(garbage), true)
    }

    /// The request is carried out and answered, this much later.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::delay_between(delay, delay)
    }

    /// The request is carried out and answered, later by something between the two.
    #[must_use]
    pub fn delay_between(shortest: Duration, longest: Duration) -> Self {
        Self { delay: Some((shortest, longest)), ..Self::new(Effect::Nothing, true) }
    }

    /// The request is carried out, whatever its answer: a write takes effect and its answer is lost.
    #[must_use]
    pub fn after_applying(self) -> Self {
        Self { carried_out: true, ..self }
    }

    /// With this text as `Retry-After`: seconds, a date, or something that is neither.
    #[must_use]
    pub fn retry_after(self, text: &str) -> Self {
        Self { retry_after: Some(text.into()), ..self }
    }

    /// Whether the request is carried out.
    pub(super) fn carries_out(&self) -> bool {
        self.carried_out
    }

    /// What becomes of the answer; nothing was answered where the request was not carried out.
    pub(super) fn strike(&self, answer: Option<Answer>, request_id: &str) -> (Answer, Delivery) {
        let answer = answer.unwrap_or_else(|| Answer::json(200, Bytes::new()));
        let (mut answer, delivery) = match self.effect {
            Effect::Html(status) => (Answer::html(status), Delivery::Whole),
            Effect::Kms(status, code, text) => (Answer::kms(status, code, text), Delivery::Whole),
            Effect::Gateway(status, code, text) => (Answer::gateway(status, code, text, request_id), Delivery::Whole),
            Effect::Garbage(garbage) if answer.status < 300 => (garble(garbage, answer), Delivery::Whole),
            Effect::Nothing | Effect::Garbage(_) => (answer, Delivery::Whole),
            Effect::Delivery(delivery) => (with_a_body(answer), delivery),
        };
        answer.retry_after.clone_from(&self.retry_after);
        (answer, delivery)
    }
}

/// The gateway's text for a locked access key.
pub(super) const ACCESS_LOCKED: &str = "AK access failed to reach the limit, forbidden";

fn garble(garbage: Garbage, answer: Answer) -> Answer {
    let body = match garbage {
        Garbage::NotJson => Bytes::from_static(b"\x1f\x8b\x08 upstream says hello \xff\xfe"),
        Garbage::Truncated => {
            let whole = with_a_body(answer).body;
            whole.slice(..whole.len() / 2)
        }
        Garbage::WrongShape => Bytes::from_static(br#"[{"key_rotation_enabled":{"value":[1,2,3]}},null]"#),
        Garbage::Empty => Bytes::new(),
    };
    Answer::json(200, body)
}

/// An empty body cannot break off.
fn with_a_body(answer: Answer) -> Answer {
    if answer.body.len() < 2 { Answer { body: Bytes::from_static(b"{}"), ..answer } } else { answer }
}

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

    /// The first rule that fires decides; delays of the rules that fire up to it add up.
    pub(super) fn strike(&mut self, operation: Operation, key_id: Option<&str>) -> Strike {
        let mut delay = Duration::ZERO;
        for rule in &mut self.rules {
            if !rule.fires(operation, key_id, &mut self.rng) {
                continue;
            }
            let at = if rule.faults.len() > 1 { self.rng.usize(..rule.faults.len()) } else { 0 };
            let Some(fault) = rule.faults.get(at) else { continue };
            if let Some((shortest, longest)) = fault.delay {
                delay += shortest + longest.saturating_sub(shortest).mul_f64(self.rng.f64());
            }
            if !matches!(fault.effect, Effect::Nothing) {
                self.struck += 1;
                return Strike { delay, fault: Some((Arc::clone(&rule.faults), at)) };
            }
        }
        Strike { delay, fault: None }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn garbage_stands_for_successes_only() {
        let refused = Answer::kms(403, "KMS.0303", "expired");
        let (answer, _) = Fault::garbage(Garbage::NotJson).strike(Some(refused.clone()), "id");
        assert_eq!(answer.body, refused.body);
        for garbage in Garbage::ALL {
            let success = Answer::json(200, r#"{"key_rotation_enabled":true}"#);
            let (answer, _) = Fault::garbage(garbage).strike(Some(success), "id");
            assert_eq!(answer.status, 200);
            let parsed = serde_json::from_slice::<serde_json::Value>(&answer.body);
            assert_eq!(parsed.is_ok(), garbage == Garbage::WrongShape, "{garbage:?}");
        }
    }
}
