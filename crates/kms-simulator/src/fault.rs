//! The faults that can be injected into a request.
//!
//! A fault decides whether the request is carried out, and how its answer is changed. The rules in `rule` decide when.

use std::time::Duration;

use fastrand::Rng;
use hyper::body::Bytes;

use super::answer::{ACCESS_LOCKED, Answer};
use super::delivery::{Delivery, Hold};

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

/// A wrong page of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadListing {
    /// `truncated` is always "true", and the marker is that of the page itself.
    SameMarker,
    /// `truncated` is always "true", and each page is the first one with a new marker.
    SameKeys,
    /// The page begins with the last key of the page before.
    Repeated,
    /// `truncated` is always "true", and the marker is empty.
    NoMarker,
    /// `{}`
    Empty,
    /// Ids without details.
    NoDetails,
    /// `truncated` is "false" although there is a marker and more keys follow.
    NotTruncated,
    /// The total is 500 too large.
    LargerTotal,
    /// From the second page on, the first key is deleted: the others move up, and one of them is on no page.
    OneGone,
    /// Each page has one new key, and `truncated` is always "true".
    Endless,
}

impl BadListing {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::SameMarker,
        Self::SameKeys,
        Self::Repeated,
        Self::NoMarker,
        Self::Empty,
        Self::NoDetails,
        Self::NotTruncated,
        Self::LargerTotal,
        Self::OneGone,
        Self::Endless,
    ];

    /// The total in the answer, if `total` is the real one.
    pub(super) fn total(bad: Option<Self>, total: usize) -> usize {
        match bad {
            Some(Self::LargerTotal) => total + 500,
            _ => total,
        }
    }
}

/// A wrong answer of `get-key-rotation-status`: what it states about past rotations. The setting is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRotation {
    /// The number of rotations is one smaller, as before the last one; 0 stays 0.
    CountBack,
    /// The time of the last rotation is in seconds, also in dialects with milliseconds (`docs/kms-api.md` 1.2).
    TimeInSeconds,
    /// The last rotation is a day in the future.
    TimeInTheFuture,
    /// The last rotation is a day before the key was created.
    TimeBeforeCreation,
    /// There was at least one rotation, and the time is that of a key that never rotated.
    CountWithoutTime,
}

impl BadRotation {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::CountBack, Self::TimeInSeconds, Self::TimeInTheFuture, Self::TimeBeforeCreation, Self::CountWithoutTime];
}

/// An answer that is wrong in a part, for the calls that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrongAnswer {
    Listing(BadListing),
    Rotation(BadRotation),
}

impl WrongAnswer {
    /// How a listing is wrong.
    pub(super) fn listing(self) -> Option<BadListing> {
        match self {
            Self::Listing(bad) => Some(bad),
            Self::Rotation(_) => None,
        }
    }

    /// How the status of a key's rotation is wrong.
    pub(super) fn rotation(self) -> Option<BadRotation> {
        match self {
            Self::Rotation(bad) => Some(bad),
            Self::Listing(_) => None,
        }
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
    /// A wrong answer, if the request is one that has it.
    Wrong(WrongAnswer),
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
        Self::new(Effect::Wrong(WrongAnswer::Listing(bad)), true)
    }

    /// The request is carried out; if it reads the rotation status, what the answer states about past rotations is
    /// wrong.
    #[must_use]
    pub fn rotation_answer(bad: BadRotation) -> Self {
        Self::new(Effect::Wrong(WrongAnswer::Rotation(bad)), true)
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

    /// How the answer is wrong.
    pub(super) fn wrong_answer(&self) -> Option<WrongAnswer> {
        match self.effect {
            Effect::Wrong(wrong) => Some(wrong),
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
            Effect::Nothing | Effect::Garbage(_) | Effect::Wrong(_) => (answer, Delivery::Whole),
            Effect::Delivery(delivery) => (with_a_body(answer), delivery),
        };
        answer.retry_after.clone_from(&self.retry_after);
        (answer, delivery)
    }
}

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
