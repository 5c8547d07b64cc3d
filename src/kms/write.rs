//! One write to one key, and the count of how it ended.
//!
//! A clear end is counted by `executor`, like that of any other call. An unclear one ([`ErrorKind::Unclear`]) is counted
//! here by what follows: the write is sent again (a retry), found applied (a success), or given up (a failure, and a
//! sign of an outage).

use std::time::Duration;

use tracing::debug;

use super::client::KmsClient;
use super::error::{Error, ErrorKind};
use super::executor::Executor;
use super::observe::{Code, Operation};
use super::retry::{Backoff, RETRY_TARGET};
use super::route::Route;
use super::transport::Answer;
use super::wire::{self, Unusable};
use super::{Receipt, SendMode, WriteOperation};
use crate::rotation::key::{KeyId, RotationInterval};

/// A write through the client.
pub(super) struct KmsWrite<'c> {
    client: &'c KmsClient,
    key_id: KeyId,
    /// Nothing for `enable-key-rotation`, which takes no interval.
    interval: Option<RotationInterval>,
    mode: SendMode,
    /// The waits, which begin with the first unclear end.
    backoff: Option<Backoff>,
    /// The last end, if it was unclear and is not counted yet.
    unclear: Option<UnclearEnd>,
}

struct UnclearEnd {
    code: Option<Code>,
    retry_after: Duration,
}

impl<'c> KmsWrite<'c> {
    pub(super) fn new(
        client: &'c KmsClient,
        key_id: KeyId,
        interval: Option<RotationInterval>,
        mode: SendMode,
    ) -> Self {
        Self { client, key_id, interval, mode, backoff: None, unclear: None }
    }

    fn route(&self) -> Route {
        if self.interval.is_some() { Route::SetInterval } else { Route::Enable }
    }

    fn operation(&self) -> Operation {
        self.route().operation()
    }

    fn executor(&self) -> &'c Executor {
        &self.client.executor
    }
}

impl WriteOperation for KmsWrite<'_> {
    async fn send(&mut self) -> Result<Receipt, Error> {
        if let Some(UnclearEnd { code, .. }) = self.unclear.take() {
            let (project, key_id) = (self.executor().project(), self.key_id.as_str());
            let operation = self.operation().as_str();
            debug!(target: RETRY_TARGET, project, key_id, operation, "a write whose end was unclear is sent again");
            self.executor().count_retry(self.operation(), code);
        }
        let result = self.client.key_call(self.route(), self.key_id, self.interval, receipt, self.mode).await;
        if let Err(error) = &result
            && error.kind() == ErrorKind::Unclear
        {
            let (executor, operation) = (self.executor(), self.operation());
            self.backoff.get_or_insert_with(|| executor.backoff(executor.outage(operation).retry_budget()));
            let retry_after = error.retry_after().unwrap_or_default();
            self.unclear = Some(UnclearEnd { code: error.code(), retry_after });
        }
        result
    }

    fn next_wait(&mut self) -> Option<Duration> {
        let UnclearEnd { retry_after, .. } = self.unclear.as_ref()?;
        let wait = self.backoff.as_mut()?.next()?;
        Some(self.executor().retry.wait(wait, *retry_after))
    }

    fn found_applied(mut self) {
        if self.unclear.take().is_some() {
            self.executor().succeeded(self.operation());
        }
    }
}

/// The answer of an accepted write.
fn receipt(answer: &Answer) -> Result<Receipt, Unusable> {
    wire::check_write(&answer.body)?;
    Ok(Receipt { request_id: answer.request_id().map(Into::into) })
}

/// A write that is dropped with an unclear end was given up.
impl Drop for KmsWrite<'_> {
    fn drop(&mut self) {
        if let (Some(_), Some(backoff)) = (self.unclear.take(), &self.backoff) {
            self.executor().exhausted(self.operation(), backoff.began());
        }
    }
}
