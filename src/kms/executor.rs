//! Making calls: attempts with request limit, metrics and retry, the same for KMS and IAM.
//!
//! Each project has one executor. It does not depend on keys or tokens: its users build the request and interpret the
//! answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::error::{Error, ErrorKind, body_request_id, classify, lost_answer, parse_body};
use super::limit::RequestLimit;
use super::observe::{Code, Observer, Operation};
use super::outage::{Outage, RetryBudget};
use super::retry::{Backoff, LONGEST_RETRY_AFTER, RETRY_TARGET, RetryPolicy, with_retries};
use super::run_breaker::RunBreaker;
use super::transport::{Answer, Fault, NoAnswer, Request, Transport};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::write_gate::WriteGate;

/// How long a call that is made while the program is stopping waits for its turn, and for how long it is repeated. With
/// the call in flight before it, and two request timeouts of 8 seconds, it ends within the 30 seconds after which the
/// shipped units and Kubernetes kill the process.
const LAST_CALL: Duration = Duration::from_secs(5);

/// No answer has shown the cloud's clock.
pub(super) const UNKNOWN_SKEW: i64 = i64::MIN;

/// What one project's calls share.
pub(super) struct Executor {
    pub(super) project: Arc<str>,
    pub(super) transport: Arc<Transport>,
    pub(super) limit: Arc<RequestLimit>,
    pub(super) retry: RetryPolicy,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    pub(super) gate: WriteGate,
    pub(super) outages: [Outage; Operation::ALL.len()],
    /// Why no request of this run can reach the KMS, if so. Logins ignore it: a failed login ends the run itself.
    pub(super) unreachable: RunBreaker,
    /// The difference between the clocks was logged in this run.
    pub(super) skew_logged: AtomicBool,
    /// How far the KMS's clock is ahead of this machine's, in seconds, by its last success.
    pub(super) cloud_ahead: AtomicI64,
}

/// One call.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    /// The key; nothing for a call about the project or a login.
    pub(super) key_id: Option<&'a str>,
    /// The UUID that the cloud keeps for tracing.
    pub(super) sequence: Option<&'a str>,
    /// The next attempt has its turn within the request limit already. `call_with` takes it for the first attempt, so
    /// that waiting for it does not use up the deadline.
    has_turn: AtomicBool,
    mode: SendMode,
}

/// How a call is repeated, and whether it is made while the program is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMode {
    /// Repeated as the retry policy allows; not made while the program is stopping.
    Retried,
    /// Sent once, for an interval that the key has already: each sending may start the cloud's rotation period anew.
    /// A server error ends it as [`ErrorKind::Unclear`] too.
    Once,
    /// For an interval that is due when the program stops: made and repeated although it is stopping, for a few
    /// seconds. Its end is never [`ErrorKind::Unclear`], since there is no time to read.
    AtExit,
    /// Repeated as the retry policy allows. A refusal is expected, and not counted as a failed operation.
    Optional,
}

impl<'a> Call<'a> {
    pub(super) fn new(operation: Operation, key_id: Option<&'a str>, sequence: Option<&'a str>) -> Self {
        Self { operation, key_id, sequence, has_turn: AtomicBool::new(false), mode: SendMode::Retried }
    }

    pub(super) fn sent(self, mode: SendMode) -> Self {
        Self { mode, ..self }
    }

    /// The error as it counts in this mode.
    fn judge(&self, error: Error) -> Error {
        match self.mode {
            SendMode::Once if is_server_error_of_write(&error) => error.with_kind(ErrorKind::Unclear),
            // There is no time to read, and what is sent is right whether or not it was applied before.
            SendMode::AtExit if error.kind() == ErrorKind::Unclear => error.with_kind(ErrorKind::Transient),
            _ => error,
        }
    }
}

impl Executor {
    /// A run begins: outages and failures of the last run are forgotten.
    pub(super) fn begin_run(&self) {
        self.outages.iter().for_each(Outage::begin_run);
        self.unreachable.begin_run();
        self.transport.begin_run(self.clock.now());
        self.skew_logged.store(false, Ordering::Relaxed);
    }

    /// Repeats `attempt` as the retry policy allows and counts how the operation ended. A write whose end is unclear is
    /// counted by its [`WriteOperation`](super::WriteOperation).
    pub(super) async fn call<T, F>(&self, call: &Call<'_>, attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let budget = self.outage(call.operation).retry_budget();
        self.call_with(budget, call, attempt).await
    }

    /// The same with this retry budget, even during an outage.
    pub(super) async fn call_with<T, F>(
        &self,
        budget: RetryBudget,
        call: &Call<'_>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let Call { operation, key_id, .. } = *call;
        if budget == RetryBudget::None {
            self.observer.operation(operation, false);
            let text = "not called: its last attempts in this run all failed; the next run tries again";
            return Err(Error::new(operation, ErrorKind::Transient, text));
        }
        self.await_turn(call).await?;
        let began = Instant::now();
        let mut attempts = 1;
        let mut maybe_applied = false;
        let (backoff, stop) = if call.mode == SendMode::AtExit {
            let max_elapsed = self.retry.max_elapsed.min(LAST_CALL);
            (Backoff::new(RetryPolicy { max_elapsed, ..self.retry }), CancellationToken::new())
        } else {
            (self.backoff(budget), self.stop.clone())
        };
        let attempt = || {
            let made = attempt();
            async move { made.await.map_err(|error| call.judge(error)) }
        };
        // Boxed, since most of the memory of a call is for its attempts: with many projects, thousands of calls wait here
        // for their turn.
        let result = Box::pin(with_retries(backoff, &stop, attempt, |error, wait| {
            maybe_applied |= is_server_error_of_write(error);
            self.count_retry(error.operation(), error.code());
            let (project, wait_ms) = (&*self.project, wait.as_millis());
            let error = ErrorChain(error);
            debug!(
                target: RETRY_TARGET,
                project,
                key_id,
                attempt = attempts,
                wait_ms,
                error = %error,
                "attempt failed, retrying"
            );
            attempts += 1;
        }))
        .await;
        let result = result.map_err(|error| {
            if maybe_applied || is_server_error_of_write(&error) { error.maybe_applied() } else { error }
        });
        self.count_end(call, result.as_ref().err(), budget, began);
        result
    }

    /// Counts how an operation that began then has ended, and notes what follows for other calls.
    fn count_end(&self, call: &Call<'_>, error: Option<&Error>, budget: RetryBudget, began: Instant) {
        let operation = call.operation;
        let Some(error) = error else { return self.succeeded(operation) };
        match error.kind() {
            ErrorKind::Unclear | ErrorKind::Stopped => {}
            // Refused because rotation is on, as it should be.
            ErrorKind::AlreadyOn => self.succeeded(operation),
            ErrorKind::Shortage => {
                self.observer.operation(operation, false);
                if budget == RetryBudget::Full {
                    // It concerns every key, and lasts.
                    self.unreachable.close(ErrorKind::Unreachable, &error.text());
                }
            }
            kind if kind.is_transient() => {
                self.exhausted(operation, began);
                if operation == Operation::ListKeys && error.code().is_none_or(Code::is_unanswered) {
                    // A run begins with the list: a server that does not answer it will not answer readings either.
                    self.outage(Operation::ReadStatus).exhausted(began);
                }
            }
            ErrorKind::Unreachable | ErrorKind::LoginUnavailable => self.observer.operation(operation, false),
            _ => {
                // A refusal is an answer: there is no outage.
                self.outage(operation).answered();
                if call.mode != SendMode::Optional {
                    self.observer.operation(operation, false);
                }
            }
        }
    }

    /// Waits for the turn of the call's next attempt, unless it has it already.
    pub(super) async fn await_turn(&self, call: &Call<'_>) -> Result<(), Error> {
        if !call.has_turn.load(Ordering::Relaxed) {
            self.turn(call).await?;
            call.has_turn.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One attempt: waits for its turn, sends the request, and makes an error of every answer outside 200 to 299.
    pub(super) async fn attempt(&self, call: &Call<'_>, request: &Request) -> Result<Answer, Error> {
        let operation = call.operation;
        let answer = self.exchange(call, request).await?;
        match (answer.status, answer.broken) {
            (200..=299, None) => Ok(answer),
            (200..=299, Some(code)) => Err(broken_off(operation, request, &answer, code)),
            _ => Err(self.refusal(operation, request, &answer)),
        }
    }

    /// One attempt whose answer is returned whatever it is.
    pub(super) async fn exchange(&self, call: &Call<'_>, request: &Request) -> Result<Answer, Error> {
        let operation = call.operation;
        self.await_turn(call).await?;
        call.has_turn.store(false, Ordering::Relaxed);
        // In flight until the answer is complete.
        let _connection = tokio::select! {
            biased;
            () = self.ends(call) => return Err(stopping(operation)),
            connection = self.transport.turn() => connection,
        };
        self.check_may_send(call)?;
        let began = Instant::now();
        // Boxed for the same reason: these are as many as there are connections.
        let result = Box::pin(self.transport.send(request)).await;
        self.note_attempt(call, &result, began.elapsed());
        result.map_err(|no_answer| {
            if no_answer.code == Code::Http(407) {
                self.transport.proxy_refuses(self.clock.now());
            }
            let error = lost(operation, no_answer);
            if error.kind() == ErrorKind::Unreachable && operation != Operation::Authenticate {
                self.unreachable.close(error.kind(), &error.text());
            }
            error
        })
    }

    /// Right before each attempt and not before the call: minutes may pass between its first attempt and its last one,
    /// and while it waits for its turn or for credentials.
    fn check_may_send(&self, call: &Call<'_>) -> Result<(), Error> {
        let operation = call.operation;
        if operation != Operation::Authenticate {
            self.unreachable.check(operation)?;
        }
        if self.stop.is_cancelled() && call.mode != SendMode::AtExit {
            return Err(stopping(operation));
        }
        if operation.is_write() && !self.gate.is_open() {
            return Err(Error::new(operation, ErrorKind::Stopped, "not sent: another replica may write now"));
        }
        Ok(())
    }

    fn note_attempt(&self, call: &Call<'_>, result: &Result<Answer, NoAnswer>, took: Duration) {
        let Call { operation, key_id, sequence, .. } = *call;
        let code = match result {
            Ok(Answer { status: 200..=299, broken: Some(code), .. }) => *code,
            Ok(answer) => Code::Http(answer.status),
            Err(no_answer) => no_answer.code,
        };
        // Without the files that connecting needs there was no attempt.
        if !matches!(result, Err(NoAnswer { fault: Fault::NotAttempted, .. })) {
            self.observer.request(operation, code, took);
        }
        if let Ok(answer) = result
            && let Some(date) = answer.date()
        {
            // Others than the KMS answer too: gateways and proxies, with clocks of their own.
            let is_of_kms = operation != Operation::Authenticate && matches!(answer.status, 200..=299);
            self.compare_clocks(date, is_of_kms);
        }
        debug!(
            project = &*self.project,
            operation = operation.as_str(),
            key_id,
            sequence,
            code = %code,
            request_id = result.as_ref().ok().and_then(Answer::request_id),
            took_ms = took.as_millis(),
            "request"
        );
    }

    /// The waits of an operation that begins now.
    pub(super) fn backoff(&self, budget: RetryBudget) -> Backoff {
        let backoff = Backoff::new(self.retry);
        if budget == RetryBudget::Full { backoff } else { backoff.without_retries() }
    }

    pub(super) fn outage(&self, operation: Operation) -> &Outage {
        &self.outages[operation as usize]
    }

    /// The project's name in the policy.
    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// Counts that an attempt that ended with this code is made again. Without a code there was no attempt.
    pub(super) fn count_retry(&self, operation: Operation, code: Option<Code>) {
        if let Some(code) = code {
            self.observer.retry(operation, code);
        }
    }

    /// A call has succeeded.
    pub(super) fn succeeded(&self, operation: Operation) {
        self.outage(operation).answered();
        self.observer.operation(operation, true);
    }

    /// A call has used up its budget and failed, for a reason that may pass.
    pub(super) fn exhausted(&self, operation: Operation, began: Instant) {
        self.outage(operation).exhausted(began);
        self.observer.operation(operation, false);
    }

    /// Compares this machine's clock with the cloud's: a signature that is 15 minutes off is refused, and the end of a
    /// token is misread by the difference.
    fn compare_clocks(&self, cloud: SystemTime, is_of_kms: bool) {
        const TOLERATED: u64 = 600;
        let now = self.clock.now();
        let apart = cloud.duration_since(now).unwrap_or_else(|behind| behind.duration()).as_secs();
        let seconds = i64::try_from(apart).unwrap_or(i64::MAX);
        let ahead = if cloud < now { -seconds } else { seconds };
        self.observer.clock_skew(ahead);
        if is_of_kms {
            self.cloud_ahead.store(ahead, Ordering::Relaxed);
        }
        if apart > TOLERATED && !self.skew_logged.swap(true, Ordering::Relaxed) {
            warn!(
                project = &*self.project,
                cloud_ahead_seconds = ahead,
                "this machine's clock differs from the cloud's by more than ten minutes; check its time synchronization"
            );
        }
    }

    /// How far the cloud's clock is ahead of this machine's, in seconds; `None` if no answer has shown it.
    pub(super) fn clock_skew(&self) -> Option<i64> {
        Some(self.cloud_ahead.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNKNOWN_SKEW)
    }

    /// The time of day by the cloud's clock. Answers have it in whole seconds and take a while, so clocks that are less
    /// than a minute apart count as equal.
    pub(super) fn cloud_time(&self) -> SystemTime {
        let (now, ahead) = (self.clock.now(), self.clock_skew().unwrap_or(0));
        let apart = Duration::from_secs(ahead.unsigned_abs());
        if apart < Duration::from_secs(60) {
            return now;
        }
        let corrected = if ahead < 0 { now.checked_sub(apart) } else { now.checked_add(apart) };
        corrected.unwrap_or(now)
    }

    async fn turn(&self, call: &Call<'_>) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.ends(call) => Err(stopping(call.operation)),
            () = self.limit.turn() => Ok(()),
        }
    }

    /// Waits until the program stops and the call must not be made any more.
    async fn ends(&self, call: &Call<'_>) {
        if call.mode == SendMode::AtExit {
            tokio::time::sleep(LAST_CALL).await;
        } else {
            self.stop.cancelled().await;
        }
    }

    /// The error of an answer outside 200 to 299. If it asks for a wait, all calls of the project wait.
    pub(super) fn refusal(&self, operation: Operation, request: &Request, answer: &Answer) -> Error {
        let (code, message) = parse_body(&answer.body);
        let kind = classify(operation, answer.status, &code);
        // A gateway may give the request id in the body alone (`docs/kms-api.md` 3).
        let body_id = body_request_id(&answer.body).map(|id| request.without_secrets(id));
        let mut text = format!("HTTP {}", answer.status);
        let is_cloud = !code.is_empty();
        // IAM's error code repeats the status.
        let status = answer.status.to_string();
        for part in [code, message].map(|part| request.without_secrets(part)) {
            if !part.is_empty() && part != status {
                text.push(' ');
                text.push_str(&part);
            }
        }
        if !is_cloud {
            text.push_str(" from ");
            text.push_str(&request.authority());
        }
        if (300..400).contains(&answer.status) {
            text.push_str(" (redirects are not followed; is the endpoint right?)");
        }
        let retry_after = answer.retry_after(self.clock.now()).map(|asked| asked.min(LONGEST_RETRY_AFTER));
        if let Some(asked) = retry_after.filter(|_| !self.retry.skip_waits)
            && (kind.is_transient() || kind == ErrorKind::Unclear)
        {
            self.limit.pause(asked);
        }
        Error::new(operation, kind, text)
            .with_code(Code::Http(answer.status))
            .with_request_id(answer.request_id().or(body_id.as_deref()))
            .with_retry_after(retry_after)
    }
}

/// The error of an answer whose body is not complete.
pub(super) fn broken_off(operation: Operation, request: &Request, answer: &Answer, code: Code) -> Error {
    let text = match code {
        Code::Timeout => "did not end within the request timeout",
        _ => "broke off or was too long",
    };
    let text = format!("the answer of {} {text}", request.authority());
    Error::new(operation, lost_answer(operation), text).with_code(code).with_request_id(answer.request_id())
}

/// The error of an attempt without an answer.
fn lost(operation: Operation, no_answer: NoAnswer) -> Error {
    let kind = match no_answer.fault {
        Fault::Unreachable | Fault::NotAttempted => ErrorKind::Unreachable,
        _ if no_answer.may_have_arrived => lost_answer(operation),
        Fault::Shortage => ErrorKind::Shortage,
        Fault::Transient => ErrorKind::Transient,
    };
    Error::new(operation, kind, no_answer.text).with_code(no_answer.code).with_source(no_answer.source)
}

fn stopping(operation: Operation) -> Error {
    Error::new(operation, ErrorKind::Stopped, "not called: the program is stopping")
}

/// Whether a write that was answered like this may have taken effect: a server may fail after the work.
fn is_server_error_of_write(error: &Error) -> bool {
    let is_servers = matches!(error.code(), Some(Code::Http(408 | 500..)));
    error.operation().is_write() && error.kind() == ErrorKind::Transient && is_servers
}
