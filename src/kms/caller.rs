//! Making calls: attempts with turn, observation and retry, the same for KMS and IAM.
//!
//! A caller belongs to one project. It knows nothing of keys or tokens: whoever calls builds the request and says what
//! an answer means.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::error::{Error, Kind, classify, parse_body};
use super::limit::RequestLimit;
use super::observe::{Code, Observer, Operation};
use super::retry::{Backoff, LONGEST_RETRY_AFTER, RetryPolicy, with_retries};
use super::transport::{Answer, Request, Transport};
use crate::clock::Clock;

/// What one project's calls share.
pub(super) struct Caller {
    pub(super) transport: Transport,
    pub(super) limit: RequestLimit,
    pub(super) retry: RetryPolicy,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    pub(super) health: Health,
}

/// Whether the project's endpoints answer at all.
///
/// When an operation has used up its whole time and nothing else has succeeded meanwhile, the endpoint is down, and
/// every further key would wait as long for nothing: until something succeeds, an operation then gets one retry only.
pub(super) struct Health {
    down: AtomicBool,
    last_success: Mutex<Instant>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { down: AtomicBool::new(false), last_success: Mutex::new(Instant::now()) }
    }

    fn succeeded(&self) {
        self.down.store(false, Ordering::Relaxed);
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn exhausted(&self, began: Instant) {
        if *self.last_success.lock().unwrap_or_else(PoisonError::into_inner) < began {
            self.down.store(true, Ordering::Relaxed);
        }
    }
}

/// What a log line says of a call beside its operation.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The key, or nothing for a call that is about none.
    pub(super) key_id: Option<&'a str>,
    /// The UUID that the cloud keeps for tracing.
    pub(super) sequence: Option<&'a str>,
}

impl Caller {
    /// Repeats `attempt` as the policy has it and counts how the operation ended, except for a write whose end is
    /// unclear: its caller settles that.
    pub(super) async fn call<T, F>(&self, operation: Operation, attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let began = Instant::now();
        let backoff = Backoff::new(self.retry);
        let backoff = if self.health.down.load(Ordering::Relaxed) { backoff.at_most(1) } else { backoff };
        let result = with_retries(backoff, &self.stop, attempt, |error, wait| {
            if let Some(code) = error.code() {
                self.observer.retry(operation, code);
            }
            debug!(wait_ms = wait.as_millis(), error = %error, "will be tried again");
        })
        .await;
        match &result {
            Ok(_) => {
                self.health.succeeded();
                self.observer.operation(operation, true);
            }
            Err(error) => match error.kind() {
                Kind::Unclear | Kind::Stopped => {}
                // Refused because rotation is on: what was asked for holds.
                Kind::AlreadyOn => self.observer.operation(operation, true),
                kind => {
                    if kind.is_transient() {
                        self.health.exhausted(began);
                    } else {
                        self.health.succeeded();
                    }
                    self.observer.operation(operation, false);
                }
            },
        }
        result
    }

    /// One attempt: waits for its turn, sends, and turns every answer outside 200 to 299 into an error.
    pub(super) async fn attempt(
        &self,
        operation: Operation,
        request: &Request,
        subject: Subject<'_>,
    ) -> Result<Answer, Error> {
        let stopped = || Error::new(operation, Kind::Stopped, "not called: the program is stopping");
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(stopped()),
            () = self.limit.turn() => {}
        }
        let began = Instant::now();
        let result = self.transport.post(request).await;
        let took = began.elapsed();
        let code = match &result {
            Ok(Answer { status: 200..=299, broken: Some(code), .. }) => *code,
            Ok(answer) => Code::Http(answer.status),
            Err(no_answer) => no_answer.code,
        };
        self.observer.request(operation, code, took);
        debug!(
            operation = operation.as_str(),
            key_id = subject.key_id,
            sequence = subject.sequence,
            code = %code,
            request_id = result.as_ref().ok().and_then(Answer::request_id),
            took_ms = took.as_millis(),
            "request"
        );
        let answer = result.map_err(|no_answer| {
            let text = match no_answer.code {
                Code::Timeout => format!("no answer within the request timeout ({})", no_answer.cause),
                Code::Tls => format!("TLS failed: {}", no_answer.cause),
                _ => format!("no connection: {}", no_answer.cause),
            };
            let kind = match no_answer.code {
                // A certificate that is not trusted will not be trusted a second later.
                Code::Tls => Kind::Refused,
                _ if no_answer.may_have_arrived => lost_answer(operation),
                _ => Kind::Transient,
            };
            Error::new(operation, kind, text).with_code(no_answer.code)
        })?;
        match (answer.status, answer.broken) {
            (200..=299, None) => Ok(answer),
            (200..=299, Some(code)) => {
                let text = match code {
                    Code::Timeout => "the answer did not end within the request timeout",
                    _ => "the answer broke off",
                };
                Err(Error::new(operation, lost_answer(operation), text)
                    .with_code(code)
                    .with_request_id(answer.request_id()))
            }
            _ => Err(self.refusal(operation, &answer)),
        }
    }

    fn refusal(&self, operation: Operation, answer: &Answer) -> Error {
        let (code, message) = parse_body(&answer.body);
        let kind = classify(operation, answer.status, &code);
        let mut text = format!("HTTP {}", answer.status);
        for part in [&code, &message] {
            if !part.is_empty() {
                text.push(' ');
                text.push_str(part);
            }
        }
        if (300..400).contains(&answer.status) {
            text.push_str(" (redirects are not followed; is the endpoint right?)");
        }
        let retry_after = answer.retry_after(self.clock.now());
        if let Some(asked) = retry_after
            && kind.is_transient()
        {
            self.limit.pause(asked.min(LONGEST_RETRY_AFTER));
        }
        Error::new(operation, kind, text)
            .with_code(Code::Http(answer.status))
            .with_request_id(answer.request_id())
            .with_retry_after(retry_after)
    }
}

/// An answer that was lost on its way says nothing of whether a write was applied.
fn lost_answer(operation: Operation) -> Kind {
    match operation {
        Operation::EnableRotation | Operation::UpdateInterval => Kind::Unclear,
        _ => Kind::Transient,
    }
}
