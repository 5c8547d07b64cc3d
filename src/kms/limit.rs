//! The request limit of one login: a number of requests per second, and a pause for all when the cloud asks for one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Timers are exact to a millisecond: requests that should be less than a few of them apart may run ahead by as much.
const TIMER_SLACK: Duration = Duration::from_millis(5);

/// Spaces requests evenly, so that no second ever sees more than the limit. Waiting callers are served in the order in
/// which they came.
#[derive(Debug)]
pub(super) struct RequestLimit {
    interval: Duration,
    slack: Duration,
    next: Mutex<Instant>,
}

impl RequestLimit {
    /// A limit in requests per second, which the policy has checked to be above zero.
    pub(super) fn new(requests_per_second: f64) -> Self {
        let interval = Duration::try_from_secs_f64(requests_per_second.recip()).unwrap_or(Duration::from_secs(1));
        let slack = if interval < TIMER_SLACK { TIMER_SLACK } else { Duration::ZERO };
        Self { interval, slack, next: Mutex::new(Instant::now()) }
    }

    /// Waits for the turn of one request.
    pub(super) async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = Instant::now().checked_sub(self.slack);
            let turn = earliest.map_or(*next, |earliest| earliest.max(*next));
            *next = turn + self.interval;
            turn
        };
        if turn > Instant::now() {
            sleep_until(turn).await;
        }
    }

    /// Delays every slot not yet handed out by this long.
    pub(super) fn pause(&self, duration: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now() + duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_spaced_evenly_even_after_a_long_rest() {
        let limit = RequestLimit::new(10.0);
        tokio::time::advance(Duration::from_secs(60)).await;
        let begin = Instant::now();
        for _ in 0..101 {
            limit.turn().await;
        }
        assert_eq!(begin.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_finer_than_timers_is_kept_on_average() {
        let limit = RequestLimit::new(10_000.0);
        let begin = Instant::now();
        for _ in 0..20_000 {
            limit.turn().await;
        }
        let took = begin.elapsed();
        assert!((Duration::from_millis(1_990)..=Duration::from_millis(2_005)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_delays_every_request() {
        let limit = RequestLimit::new(10.0);
        limit.pause(Duration::from_secs(30));
        let begin = Instant::now();
        limit.turn().await;
        limit.turn().await;
        assert_eq!(begin.elapsed(), Duration::from_millis(30_100));
    }
}
