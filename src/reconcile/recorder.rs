//! The trait through which runs reach the evidence log.
//!
//! Before a write is sent, its intent is durable; before a run is reported, what it found and did is durable.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;

use super::effect::Effect;
use crate::kms::{Error, ErrorKind, Receipt};
use crate::rotation::decide::Step;
use crate::rotation::key::{KeyId, Rotation, RotationInterval};
use crate::rotation::past::KeyPast;
use crate::rotation::report::{ProjectReport, Report};

/// Records what runs intend, do and find. It never fails a run: where nothing can be recorded and the policy then
/// forbids writes, it closes the write gate.
pub trait RunRecorder: Send + Sync {
    /// A run begins: tries again what could not be written before.
    fn begin_run(&self) -> BoxFuture<'_, ()>;

    /// Makes intents durable, unless they are open already. They concern keys of this project, without its keys.
    fn intend<'a>(&'a self, project: &'a ProjectReport, intents: Vec<WriteIntent>) -> BoxFuture<'a, ()>;

    /// A write has ended.
    fn write_ended(&self, write: &WriteIntent, end: WriteEnd);

    /// A run has ended. `past` returns what the process remembers of a key.
    fn run_ended<'a>(
        &'a self,
        report: &'a Arc<Report>,
        timing: RunTiming,
        past: &'a (dyn Fn(&str, KeyId) -> KeyPast + Sync),
    ) -> BoxFuture<'a, ()>;

    /// Makes durable what was recorded since the last run.
    fn flush(&self) -> BoxFuture<'_, ()>;
}

/// A write that is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteIntent {
    pub project: Arc<str>,
    pub key_id: KeyId,
    pub step: Step,
    /// The interval that the step sets, or that is to be sent after enabling.
    pub interval: Option<RotationInterval>,
    /// The setting before it, where it could be read.
    pub before: Option<Rotation>,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// The cloud accepted it, or a reading showed it.
    Applied { request_id: Option<Box<str>> },
    /// The cloud refused it, or it could not be sent.
    Failed { error: String, request_id: Option<Box<str>> },
    /// It may have been applied: its answer was lost.
    Unclear { error: String },
    /// It was not sent.
    NotSent,
}

impl WriteEnd {
    /// The end of a write that has not taken effect, as far as that is known.
    pub(super) fn without_effect(error: &Error, is_maybe_applied: bool) -> Self {
        if is_maybe_applied {
            Self::Unclear { error: error.cause() }
        } else if error.kind() == ErrorKind::Stopped {
            Self::NotSent
        } else {
            Self::Failed { error: error.cause(), request_id: error.request_id().map(Into::into) }
        }
    }
}

/// The end of a write that was sent once.
impl From<&Result<Receipt, Error>> for WriteEnd {
    fn from(result: &Result<Receipt, Error>) -> Self {
        match result {
            Ok(Receipt { request_id }) => Self::Applied { request_id: request_id.clone() },
            Err(error) => Self::without_effect(error, Effect::NotApplied.after(result) == Effect::MaybeApplied),
        }
    }
}

/// The schedule around a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTiming {
    /// When the next run is due.
    pub next_run: Option<SystemTime>,
    /// A run that starts later leaves a gap.
    pub gap_after: Option<SystemTime>,
}
