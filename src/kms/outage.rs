//! Whether an operation fails for every key, so that a run does not wait out the whole retry budget for each of them.
//!
//! An outage begins when one call has used up its budget and no other call of the operation has succeeded meanwhile.
//! From then on a call makes a single attempt; the first success ends the outage. After several failures in a row the
//! operation is given up for the rest of the run. So two hundred keys behind a dead endpoint cost one budget and a few
//! attempts instead of two hundred budgets.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Single attempts that must fail in a row before the operation is given up: more than the calls in flight with the
/// default concurrency, and enough that passing errors at a rate of one in ten do not do it.
const ATTEMPTS_BEFORE_GIVING_UP: u32 = 8;

/// How calls of one operation have gone lately.
pub(super) struct Outage(Mutex<State>);

struct State {
    last_success: Instant,
    /// Single attempts that failed since the outage began; `None` without an outage.
    failed: Option<u32>,
}

/// How often a call may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryBudget {
    /// As often as the retry policy allows.
    Full,
    /// Once.
    SingleAttempt,
    /// Never.
    None,
}

impl Outage {
    pub(super) fn none() -> Self {
        Self(Mutex::new(State { last_success: Instant::now(), failed: None }))
    }

    /// A new run begins with its whole budget: a call that is made once a run would otherwise never be retried again.
    pub(super) fn begin_run(&self) {
        self.with(|state| state.failed = None);
    }

    pub(super) fn retry_budget(&self) -> RetryBudget {
        self.with(|state| match state.failed {
            None => RetryBudget::Full,
            Some(failed) if failed < ATTEMPTS_BEFORE_GIVING_UP => RetryBudget::SingleAttempt,
            Some(_) => RetryBudget::None,
        })
    }

    /// A call was answered.
    pub(super) fn answered(&self) {
        self.with(|state| *state = State { last_success: Instant::now(), failed: None });
    }

    /// A call that began then has used up its budget and failed.
    pub(super) fn exhausted(&self, began: Instant) {
        self.with(|state| match &mut state.failed {
            Some(failed) => *failed = failed.saturating_add(1),
            None if state.last_success < began => state.failed = Some(0),
            None => {}
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_begins_when_nothing_succeeds_for_a_whole_budget() {
        let outage = Outage::none();
        tokio::time::advance(Duration::from_secs(1)).await;
        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        outage.answered();
        tokio::time::advance(Duration::from_secs(60)).await;
        outage.exhausted(began);
        assert_eq!(outage.retry_budget(), RetryBudget::Full, "another key was answered meanwhile");

        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(120)).await;
        outage.exhausted(began);
        assert_eq!(outage.retry_budget(), RetryBudget::SingleAttempt);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_attempts_end_the_calls_of_a_run_and_a_success_or_the_next_run_resumes_them() {
        let outage = Outage::none();
        let exhaust = || async {
            let began = Instant::now() + Duration::from_secs(1);
            outage.exhausted(began);
        };
        exhaust().await;
        for _ in 0..ATTEMPTS_BEFORE_GIVING_UP {
            assert_eq!(outage.retry_budget(), RetryBudget::SingleAttempt);
            exhaust().await;
        }
        assert_eq!(outage.retry_budget(), RetryBudget::None);
        outage.answered();
        assert_eq!(outage.retry_budget(), RetryBudget::Full);
        for _ in 0..=ATTEMPTS_BEFORE_GIVING_UP {
            exhaust().await;
        }
        assert_eq!(outage.retry_budget(), RetryBudget::None);
        outage.begin_run();
        assert_eq!(outage.retry_budget(), RetryBudget::Full);
    }
}
