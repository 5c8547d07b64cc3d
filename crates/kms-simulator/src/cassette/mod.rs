//! A cassette: recorded answers of a real cloud, which the simulated cloud gives instead of its own.
//!
//! The calls are carried out on the simulated keys as ever; `kms::played` decides which recorded answer belongs to a
//! call, and `shape` puts the values of the simulated key into its fields. The format is that of the repository's
//! `probe.md`; nothing here is shared with the program that records.

mod read;
mod shape;

use serde_json::Value;

use super::answer::{Answer, ContentType};
use super::operation::Operation;

/// Recorded answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Cassette {
    cloud: String,
    region: String,
    /// The interval that enabling sets on a key without one before, in days.
    pub(super) interval_after_enabling: Option<u32>,
    /// Whether enabling keeps an interval that was chosen before.
    pub(super) enabling_keeps_interval: bool,
    calls: Vec<RecordedCall>,
}

/// What distinguishes two calls of the same operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Situation {
    UsableKey,
    DefaultKey,
    AsymmetricKey,
    WithoutLimit,
    LimitOf2000,
    ShortSequence,
    NeverOn,
    Off,
    OffWithInterval,
    On,
    SameInterval,
    TooShort,
    TooLong,
}

impl Situation {
    const ALL: [Self; 13] = [
        Self::UsableKey,
        Self::DefaultKey,
        Self::AsymmetricKey,
        Self::WithoutLimit,
        Self::LimitOf2000,
        Self::ShortSequence,
        Self::NeverOn,
        Self::Off,
        Self::OffWithInterval,
        Self::On,
        Self::SameInterval,
        Self::TooShort,
        Self::TooLong,
    ];

    /// The name in a cassette.
    fn as_str(self) -> &'static str {
        match self {
            Self::UsableKey => "usable key",
            Self::DefaultKey => "default key",
            Self::AsymmetricKey => "asymmetric key",
            Self::WithoutLimit => "without limit",
            Self::LimitOf2000 => "limit of 2000",
            Self::ShortSequence => "sequence of 32 characters",
            Self::NeverOn => "rotation never on",
            Self::Off => "rotation off",
            Self::OffWithInterval => "rotation off, interval chosen before",
            Self::On => "rotation on",
            Self::SameInterval => "same interval",
            Self::TooShort => "interval too short",
            Self::TooLong => "interval too long",
        }
    }
}

/// The recorded body.
#[derive(Clone, Debug, PartialEq)]
enum Body {
    Empty,
    Json(Value),
    /// Not recorded: text or HTML.
    Other,
}

/// A recorded call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RecordedCall {
    operation: Operation,
    situation: Situation,
    status: u16,
    content_type: ContentType,
    /// In seconds.
    retry_after: Option<String>,
    body: Body,
    /// The number of keys on a page that is followed by another one.
    pub(super) page_size: Option<u64>,
}

impl Cassette {
    /// The cloud that was recorded, as policies name it.
    #[must_use]
    pub fn cloud(&self) -> &str {
        &self.cloud
    }

    /// Its region, or `other`.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The number of recorded calls.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The recorded call in the first of these situations that was recorded.
    pub(super) fn find(&self, operation: Operation, situations: &[Situation]) -> Option<&RecordedCall> {
        situations.iter().find_map(|situation| {
            self.calls.iter().find(|call| call.operation == operation && call.situation == *situation)
        })
    }
}

impl RecordedCall {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
            && !matches!(&self.body, Body::Json(body) if body.get("error").is_some() || body.get("error_code").is_some())
    }

    /// The answer as recorded.
    pub(super) fn answer(&self) -> Answer {
        let answer = match &self.body {
            Body::Empty => Answer::json(self.status, ""),
            Body::Json(body) => Answer::value(self.status, body),
            Body::Other if self.content_type == ContentType::Html => Answer::html(self.status),
            Body::Other => Answer::text(self.status, "text"),
        };
        Answer { content_type: self.content_type, retry_after: self.retry_after.as_deref().map(Into::into), ..answer }
    }

    /// The answer in the recorded shape, with the values of this body.
    pub(super) fn with_values(&self, values: &Value) -> Answer {
        match &self.body {
            Body::Json(template) => Answer { body: shape::fill(template, values).to_string().into(), ..self.answer() },
            Body::Empty | Body::Other => self.answer(),
        }
    }
}
