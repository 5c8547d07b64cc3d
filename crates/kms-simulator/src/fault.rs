//! The faults that can be injected into a request.
//!
//! A fault decides whether the request is carried out, and how its answer is changed. The rules in `rule` decide when.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use hyper::body::Bytes;
use tokio::sync::Semaphore;

use super::answer::{Answer, Delivery};
use super::listing::BadListing;

/// A 200 with an unusable body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// Not JSON.
    NotJson,
    /// JSON that ends early; the `Content-Length` is that of the part.
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

/// Holds answers back until it is released, so that a test can act in between. Clones share it.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Semaphore>);

impl Hold {
    /// A hold that is not released.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Releases the answers, now and from now on.
    pub fn release(&self) {
        self.0.close();
    }

    pub(super) async fn released(&self) {
        // There are no permits: this ends when the semaphore is closed.
        let _ = self.0.acquire().await;
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Debug)]
enum Effect {
    /// The answer is not changed.
    Nothing,
    /// A proxy's page instead of the answer.
    Html(u16),
    /// An error of the KMS instead of the answer.
    Kms(u16, &'static str, &'static str),
    /// An error of the gateway instead of the answer.
    Gateway(u16, &'static str, &'static str),
    /// A 200 with an unusable body instead of a 200 or 201.
    Garbage(Garbage),
    /// A wrong page, if the request lists keys.
    Listing(BadListing),
    /// The answer is not sent normally.
    Delivery(Delivery),
}

/// A fault that is injected into one request.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    carried_out: bool,
    delay: Option<(Duration, Duration)>,
    hold: Option<Hold>,
    retry_after: Option<Box<str>>,
}

impl Fault {
    fn new(effect: Effect, carried_out: bool) -> Self {
        Self { effect, carried_out, delay: None, hold: None, retry_after: None }
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

    /// 429 as recorded from the gateway (`docs/kms-api.md` 3.2), without `Retry-After`.
    #[must_use]
    pub fn throttled() -> Self {
        const TEXT: &str =
            "The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute";
        Self::new(Effect::Gateway(429, "APIGW.0308", TEXT), false)
    }

    /// 401 of the gateway: the credentials are refused (`docs/kms-api.md` 3.2).
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(Effect::Gateway(401, "APIGW.0301", "Incorrect IAM authentication information"), false)
    }

    /// 401 of the gateway for a locked access key (`docs/kms-api.md` 3.2).
    #[must_use]
    pub fn access_locked() -> Self {
        Self::new(Effect::Gateway(401, "APIGW.0301", ACCESS_LOCKED), false)
    }

    /// The connection is reset; the request is not carried out.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(Effect::Delivery(Delivery::Reset), false)
    }

    /// The answer never comes; the request is not carried out.
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

    /// The request is carried out; if it succeeds, the answer is a 200 with an unusable body.
    #[must_use]
    pub fn garbage(garbage: Garbage) -> Self {
        Self::new(Effect::Garbage(garbage), true)
    }

    /// The request is carried out; if it lists or searches keys, the answer is a wrong page.
    #[must_use]
    pub fn listing(bad: BadListing) -> Self {
        Self::new(Effect::Listing(bad), true)
    }

    /// The request is carried out, and answered after this delay.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::delay_between(delay, delay)
    }

    /// The request is carried out, and answered after a random delay between the two.
    #[must_use]
    pub fn delay_between(shortest: Duration, longest: Duration) -> Self {
        Self { delay: Some((shortest, longest)), ..Self::new(Effect::Nothing, true) }
    }

    /// The request is carried out, and answered when the hold is released.
    #[must_use]
    pub fn held(hold: &Hold) -> Self {
        Self { hold: Some(hold.clone()), ..Self::new(Effect::Nothing, true) }
    }

    /// The request is carried out before the fault: a write takes effect, and its answer is lost.
    #[must_use]
    pub fn after_applying(self) -> Self {
        Self { carried_out: true, ..self }
    }

    /// Adds `Retry-After` with this text: seconds, a date, or garbage.
    #[must_use]
    pub fn retry_after(self, text: &str) -> Self {
        Self { retry_after: Some(text.into()), ..self }
    }

    /// Whether the request is carried out.
    pub(super) fn carries_out(&self) -> bool {
        self.carried_out
    }

    /// How a listing is made wrong.
    pub(super) fn bad_listing(&self) -> Option<BadListing> {
        match self.effect {
            Effect::Listing(bad) => Some(bad),
            _ => None,
        }
    }

    /// Whether the answer is only late.
    pub(super) fn is_delay_only(&self) -> bool {
        matches!(self.effect, Effect::Nothing)
    }

    /// The delay of this answer.
    pub(super) fn random_delay(&self, rng: &mut Rng) -> Duration {
        self.delay.map_or(Duration::ZERO, |(shortest, longest)| {
            shortest + longest.saturating_sub(shortest).mul_f64(rng.f64())
        })
    }

    /// The hold that the answer waits for.
    pub(super) fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Changes the answer; `None` if the request was not carried out.
    pub(super) fn apply(&self, answer: Option<Answer>, request_id: &str) -> (Answer, Delivery) {
        let answer = answer.unwrap_or_else(|| Answer::json(200, Bytes::new()));
        let (mut answer, delivery) = match self.effect {
            Effect::Html(status) => (Answer::html(status), Delivery::Whole),
            Effect::Kms(status, code, text) => (Answer::kms(status, code, text), Delivery::Whole),
            Effect::Gateway(status, code, text) => (Answer::gateway(status, code, text, request_id), Delivery::Whole),
            Effect::Garbage(garbage) if answer.status < 300 => (garble(garbage, answer), Delivery::Whole),
            Effect::Nothing | Effect::Garbage(_) | Effect::Listing(_) => (answer, Delivery::Whole),
            Effect::Delivery(delivery) => (with_a_body(answer), delivery),
        };
        answer.retry_after.clone_from(&self.retry_after);
        (answer, delivery)
    }
}

/// The gateway's text for a locked access key (`docs/kms-api.md` 3.2).
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

/// An empty body cannot be cut off.
fn with_a_body(answer: Answer) -> Answer {
    if answer.body.len() < 2 { Answer { body: Bytes::from_static(b"{}"), ..answer } } else { answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_replaces_successes_only() {
        let refused = Answer::kms(403, "KMS.0303", "expired");
        let (answer, _) = Fault::garbage(Garbage::NotJson).apply(Some(refused.clone()), "id");
        assert_eq!(answer.body, refused.body);
        for garbage in Garbage::ALL {
            let success = Answer::json(200, r#"{"key_rotation_enabled":true}"#);
            let (answer, _) = Fault::garbage(garbage).apply(Some(success), "id");
            assert_eq!(answer.status, 200);
            let parsed = serde_json::from_slice::<serde_json::Value>(&answer.body);
            assert_eq!(parsed.is_ok(), garbage == Garbage::WrongShape, "{garbage:?}");
        }
    }
}
