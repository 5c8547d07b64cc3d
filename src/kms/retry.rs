//! How long to wait before the next attempt, and for how long to go on.

use std::time::Duration;

use backon::Retryable;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::Error;

/// The log target of each attempt that will be repeated, for a filter that shows these lines alone.
pub const RETRY_TARGET: &str = "kms_rotationd::kms::retry";

/// The longest `Retry-After` that is honoured: a gateway that asks for a day must not stop the daemon for one.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The retry policy of a project.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The longest first wait.
    pub initial_interval: Duration,
    /// The longest of all waits.
    pub max_interval: Duration,
    /// The longest time of one operation, attempts and waits together.
    pub max_elapsed: Duration,
    /// Waits only count, and no time passes: for a rehearsal in fast-forward, which makes the same attempts in no time.
    pub skip_waits: bool,
}

impl RetryPolicy {
    /// The wait before an attempt, after an answer that has asked for a wait too.
    pub(super) fn wait(self, wait: Duration, asked: Duration) -> Duration {
        if self.skip_waits { Duration::ZERO } else { wait.max(asked) }
    }
}

/// The waits of one operation: exponential with full jitter, ending when the operation's time is used up.
///
/// Full jitter (a random part of the doubled interval) spreads the retries of clients that failed together.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RetryPolicy,
    attempt: u32,
    retries: bool,
    deadline: Instant,
    /// The sum of the waits that were skipped.
    skipped: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    /// The waits of an operation that begins now.
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            attempt: 0,
            retries: true,
            deadline: Instant::now() + policy.max_elapsed,
            skipped: Duration::ZERO,
            rng: fastrand::Rng::new(),
        }
    }

    /// When the operation began.
    pub(super) fn began(&self) -> Instant {
        self.deadline - self.policy.max_elapsed
    }

    pub(super) fn without_retries(self) -> Self {
        Self { retries: false, ..self }
    }

    fn fits(&self, wait: Duration) -> bool {
        if self.policy.skip_waits {
            // How long attempts take must not change how many there are: a rehearsal can be repeated.
            self.skipped + wait <= self.policy.max_elapsed
        } else {
            Instant::now() + wait <= self.deadline
        }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// The next wait; nothing once the operation's time would be over before it ends.
    fn next(&mut self) -> Option<Duration> {
        if !self.retries {
            return None;
        }
        let doubled = self.policy.initial_interval.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX));
        self.attempt += 1;
        let wait = doubled.min(self.policy.max_interval).mul_f64(self.rng.f64());
        if !self.fits(wait) {
            return None;
        }
        self.skipped += wait;
        Some(self.policy.wait(wait, Duration::ZERO))
    }
}

/// Makes attempts until one succeeds, fails for good, or the backoff ends. `notify` is called for every attempt that
/// will be repeated. A wait ends early when `stop` is cancelled; the attempt after it must then fail as stopped.
pub(super) async fn with_retries<T, F>(
    backoff: Backoff,
    stop: &CancellationToken,
    attempt: impl FnMut() -> F,
    notify: impl FnMut(&Error, Duration),
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let (policy, deadline) = (backoff.policy, backoff.deadline);
    let stop = stop.clone();
    let wait = move |duration: Duration| {
        let stop = stop.clone();
        async move {
            if duration.is_zero() {
                // Not even the millisecond of a timer: the order of requests must not depend on it.
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(duration) => {}
            }
        }
    };
    attempt
        .retry(backoff)
        .sleep(wait)
        .when(|error| error.kind().is_transient())
        .adjust(move |error, wait| {
            let asked = error.retry_after().unwrap_or_default();
            let wait = policy.wait(wait?, asked);
            (policy.skip_waits || Instant::now() + wait <= deadline).then_some(wait)
        })
        .notify(notify)
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::error::ErrorKind;
    use super::super::observe::{Code, Operation};
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        initial_interval: Duration::from_millis(500),
        max_interval: Duration::from_secs(30),
        max_elapsed: Duration::from_secs(120),
        skip_waits: false,
    };

    fn error(kind: ErrorKind, retry_after: Option<u64>) -> Error {
        Error::new(Operation::ReadStatus, kind, "HTTP 503")
            .with_code(Code::Http(503))
            .with_retry_after(retry_after.map(Duration::from_secs).map(|asked| asked.min(LONGEST_RETRY_AFTER)))
    }

    async fn attempts(
        errors: impl Fn(u32) -> Option<Error>,
        stop: &CancellationToken,
    ) -> (Result<u32, ErrorKind>, u32) {
        let made = Cell::new(0);
        let attempt = || {
            made.set(made.get() + 1);
            let result = errors(made.get()).map_or(Ok(made.get()), Err);
            async { result }
        };
        let result = with_retries(Backoff::new(POLICY), stop, attempt, |_, _| {}).await;
        (result.map_err(|error| error.kind()), made.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_error_is_retried_until_it_passes() {
        let stop = CancellationToken::new();
        let three = |n| (n <= 3).then(|| error(ErrorKind::Transient, None));
        assert_eq!(attempts(three, &stop).await, (Ok(4), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_error_is_not_retried() {
        let stop = CancellationToken::new();
        for kind in
            [ErrorKind::Refused, ErrorKind::Unclear, ErrorKind::Permission, ErrorKind::Credentials, ErrorKind::Garbled]
        {
            assert_eq!(attempts(|_| Some(error(kind, None)), &stop).await, (Err(kind), 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retrying_ends_with_the_operations_time() {
        let (stop, begin) = (CancellationToken::new(), Instant::now());
        let (result, made) = attempts(|_| Some(error(ErrorKind::Transient, None)), &stop).await;
        assert_eq!(result, Err(ErrorKind::Transient));
        assert!(made > 4, "{made} attempts");
        assert!(begin.elapsed() <= POLICY.max_elapsed);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_waited_for_within_bounds() {
        let (stop, begin) = (CancellationToken::new(), Instant::now());
        let once = |n| (n == 1).then(|| error(ErrorKind::Throttled, Some(40)));
        assert_eq!(attempts(once, &stop).await, (Ok(2), 2));
        assert_eq!(begin.elapsed().as_secs(), 40);

        let begin = Instant::now();
        let day = |n| (n == 1).then(|| error(ErrorKind::Throttled, Some(86_400)));
        assert_eq!(attempts(day, &stop).await, (Ok(2), 2));
        assert_eq!(begin.elapsed().as_secs(), LONGEST_RETRY_AFTER.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_ends_a_wait_at_once() {
        let stop = CancellationToken::new();
        stop.cancel();
        let begin = Instant::now();
        let twice = |n| (n <= 2).then(|| error(ErrorKind::Throttled, Some(30)));
        assert_eq!(attempts(twice, &stop).await.1, 3);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_and_stay_below_the_longest() {
        let policy = RetryPolicy { max_elapsed: Duration::from_secs(1_000_000), ..POLICY };
        let mut backoff = Backoff::new(policy);
        for attempt in 0..40 {
            let most = Duration::from_millis(500 * (1 << attempt.min(10))).min(policy.max_interval);
            assert!(backoff.next().unwrap() <= most, "wait {attempt}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn skipped_waits_take_no_time_and_still_limit_the_attempts() {
        let (stop, begin) = (CancellationToken::new(), Instant::now());
        let made = Cell::new(0);
        let attempt = || {
            made.set(made.get() + 1);
            async { Err::<(), _>(error(ErrorKind::Throttled, Some(30))) }
        };
        let skipping = Backoff::new(RetryPolicy { skip_waits: true, ..POLICY });
        assert!(with_retries(skipping, &stop, attempt, |_, _| {}).await.is_err());
        assert!((6..200).contains(&made.get()), "{}", made.get());
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
