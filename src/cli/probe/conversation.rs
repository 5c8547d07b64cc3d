//! Makes the calls of a probe one after the other, prints each answer, and keeps it.
//!
//! A read is repeated until its answer is clear, and until it shows what a write before it has set: a write may become
//! visible late. A write without a clear answer is followed by a read, and sent once more if it had no effect. `script`
//! and `restore` decide which calls are made.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::compare::differences;
use super::exchange::{Exchange, Expected, Outcome, Purpose, Setting, Situation, Step};
use super::text;
use crate::cli::{Exit, print};
use crate::kms::KmsClient;
use crate::kms::single_call::{RawAnswer, SingleCall};
use crate::policy::types::Retry;
use crate::rotation::key::{KeyId, Rotation};

/// How often a read is made at most, as the vendor's own tool does after enabling (`docs/kms-api.md` 0).
const MOST_READINGS: u32 = 5;

/// Why the script ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A signal has asked for it.
    Signal,
    /// A call has failed, or the key cannot be probed, for this reason.
    Failed(String),
    /// The user has not confirmed it.
    NotConfirmed(String),
}

/// The calls about one key, and their answers so far.
pub(super) struct Conversation<'k> {
    pub(super) kms: &'k KmsClient,
    pub(super) retry: Retry,
    /// Cancelled by a signal: no further call of the script is made.
    pub(super) stop: CancellationToken,
    pub(super) exchanges: Vec<Exchange>,
    /// A write was sent, so the key may have to be restored.
    pub(super) has_written: bool,
    /// The last reading of the key; `None` if a write was sent since.
    pub(super) last_read: Option<Rotation>,
}

impl Conversation<'_> {
    /// A read of the script.
    ///
    /// # Errors
    ///
    /// There is no clear answer after some attempts, or a signal came.
    pub(super) async fn read(&mut self, step: Step) -> Result<RawAnswer, Stop> {
        self.read_for(step, Purpose::Script).await
    }

    /// The key's status in the script.
    ///
    /// # Errors
    ///
    /// As of [`read`](Self::read); or the answer does not have the setting.
    pub(super) async fn status(&mut self, key_id: KeyId, expected: Expected) -> Result<Rotation, Stop> {
        self.status_for(key_id, expected, Purpose::Script).await
    }

    async fn status_for(&mut self, key_id: KeyId, expected: Expected, purpose: Purpose) -> Result<Rotation, Stop> {
        let call = SingleCall::ReadStatus(key_id);
        let step = Step { call, situation: Situation::On, expected, section: "1.2 and 2.2" };
        let answer = self.read_for(step, purpose).await?;
        let rotation = answer.rotation().ok_or_else(|| Stop::Failed("the status does not have the setting".to_owned()));
        self.last_read = rotation.clone().ok();
        rotation
    }

    async fn read_for(&mut self, step: Step, purpose: Purpose) -> Result<RawAnswer, Stop> {
        let mut readings = 0;
        let outcome = loop {
            self.check_stop()?;
            let outcome = self.send(step.call).await;
            readings += 1;
            if readings == MOST_READINGS || is_settled(step.expected, &outcome) {
                break outcome;
            }
            self.wait(readings).await;
        };
        let answer = outcome.clear().cloned();
        self.note(step, purpose, outcome, readings);
        answer.ok_or_else(|| Stop::Failed(format!("{} has no clear answer", step.call.path())))
    }

    /// A write of the script, which has this effect on the setting if it is accepted. Returns the answer; nothing if
    /// only a reading shows that the write took effect.
    ///
    /// # Errors
    ///
    /// There is no clear answer to two attempts, or a signal came.
    pub(super) async fn write(
        &mut self,
        key_id: KeyId,
        step: Step,
        effect: Option<Setting>,
    ) -> Result<Option<RawAnswer>, Stop> {
        for (attempt, purpose) in [(1, Purpose::Script), (2, Purpose::AfterUnclear)] {
            self.check_stop()?;
            let outcome = self.send(step.call).await;
            let answer = outcome.clear().cloned();
            let is_final = matches!(outcome, Outcome::Unanswered { is_final: true, .. });
            self.note(step, purpose, outcome, 1);
            if answer.is_some() {
                return Ok(answer);
            }
            if is_final {
                break;
            }
            self.wait(attempt).await;
            let expected = effect.map_or(Expected::Status, Expected::Shows);
            let rotation = self.status_for(key_id, expected, Purpose::AfterUnclear).await?;
            if effect.is_some_and(|effect| effect.is_shown_by(rotation)) {
                return Ok(None);
            }
        }
        Err(Stop::Failed(format!("{} has no clear answer", step.call.path())))
    }

    /// Makes one call.
    pub(super) async fn send(&mut self, call: SingleCall) -> Outcome {
        if call.is_write() {
            self.has_written = true;
            self.last_read = None;
        }
        Outcome::of(self.kms.single_call(call).await)
    }

    /// Prints and keeps an answer. The situation of a status is that which it shows.
    pub(super) fn note(&mut self, mut step: Step, purpose: Purpose, outcome: Outcome, readings: u32) {
        let answer = outcome.clear();
        if let SingleCall::ReadStatus(_) = step.call
            && matches!(step.expected, Expected::Status | Expected::Shows(_))
        {
            step.situation = answer.and_then(RawAnswer::rotation).map_or(step.situation, Situation::of);
        }
        let differences = match answer {
            Some(answer) if purpose == Purpose::Script && answer.repeats_secret => {
                vec!["the body repeats a secret of the request".to_owned()]
            }
            Some(answer) if purpose == Purpose::Script => differences(step.expected, answer),
            _ => Vec::new(),
        };
        let exchange = Exchange { step, purpose, outcome, readings, differences };
        let number = self.exchanges.len() + 1;
        // A closed pipe ends no probe: the key must be restored.
        print(Exit::Success, |out| text::row(number, &exchange, out));
        self.exchanges.push(exchange);
    }

    fn check_stop(&self) -> Result<(), Stop> {
        if self.stop.is_cancelled() { Err(Stop::Signal) } else { Ok(()) }
    }

    /// Waits before the next attempt, not longer than until a signal.
    async fn wait(&self, attempt: u32) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(self.pause(attempt)) => {}
        }
    }

    /// How long to wait after this number of attempts.
    pub(super) fn pause(&self, attempt: u32) -> Duration {
        let Retry { initial_interval, max_interval, .. } = self.retry;
        initial_interval.saturating_mul(1 << (attempt - 1).min(16)).min(max_interval)
    }
}

/// Whether another reading would not be different.
fn is_settled(expected: Expected, outcome: &Outcome) -> bool {
    match (outcome.clear(), expected) {
        (None, _) => matches!(outcome, Outcome::Unanswered { is_final: true, .. }),
        // Neither a refusal nor an answer without a setting is a write that is not visible yet.
        (Some(answer), Expected::Shows(setting)) => {
            answer.rotation().is_none_or(|rotation| setting.is_shown_by(rotation))
        }
        (Some(_), _) => true,
    }
}
