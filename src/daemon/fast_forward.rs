//! A schedule in fast-forward, for rehearsals: time begins in the past and jumps from run to run until it has reached
//! the present.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tracing::info;

use super::schedule::Alarm;
use crate::support::clock::Clock;

/// A clock that is behind the system's, and can catch up with it.
#[derive(Clone, Debug)]
pub struct PastClock(Arc<Mutex<Duration>>);

impl PastClock {
    /// A clock that is behind the system's by this time.
    #[must_use]
    pub fn new(behind: Duration) -> Self {
        Self(Arc::new(Mutex::new(behind)))
    }

    /// The time of day that it shows.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::now() - *self.behind()
    }

    /// The same as a clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let clock = self.clone();
        Clock::from_fn(move || clock.now())
    }

    /// Whether it shows the present.
    #[must_use]
    pub(super) fn has_caught_up(&self) -> bool {
        self.behind().is_zero()
    }

    /// Sets it forward, to the present at most. Returns what is left.
    fn advance(&self, by: Duration) -> Duration {
        let mut behind = self.behind();
        let left = by.saturating_sub(*behind);
        *behind = behind.saturating_sub(by);
        left
    }

    fn behind(&self) -> MutexGuard<'_, Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An alarm that sets a clock forward instead of waiting, as long as it is behind.
pub struct FastForward<A> {
    clock: PastClock,
    jumped: Notify,
    /// From then on.
    alarm: A,
}

impl<A> FastForward<A> {
    /// Uses `alarm` once the clock has caught up.
    pub fn new(clock: PastClock, alarm: A) -> Self {
        Self { clock, jumped: Notify::new(), alarm }
    }
}

impl<A: Alarm + Sync> Alarm for FastForward<A> {
    async fn set(&mut self, after: Duration) {
        let was_behind = !self.clock.has_caught_up();
        let left = self.clock.advance(after);
        if was_behind && self.clock.has_caught_up() {
            info!("fast-forward has reached the present");
        }
        if left.is_zero() {
            self.jumped.notify_one();
        } else {
            self.alarm.set(left).await;
        }
    }

    async fn rings(&self) {
        tokio::select! {
            () = self.jumped.notified() => {}
            () = self.alarm.rings() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Set(Vec<Duration>);

    impl Alarm for Set {
        async fn set(&mut self, after: Duration) {
            self.0.push(after);
        }

        async fn rings(&self) {
            std::future::pending::<()>().await;
        }
    }

    #[tokio::test]
    async fn time_jumps_to_each_run_until_it_has_reached_the_present() {
        let hour = Duration::from_secs(3600);
        let clock = PastClock::new(5 * hour / 2);
        let mut alarm = FastForward::new(clock.clone(), Set(Vec::new()));
        for behind in [3 * hour / 2, hour / 2] {
            alarm.set(hour).await;
            alarm.rings().await;
            assert_eq!(*clock.behind(), behind);
        }
        alarm.set(hour).await;
        assert_eq!(alarm.alarm.0, [hour / 2], "the rest is waited for");
        assert!(clock.has_caught_up());
        alarm.set(hour).await;
        assert_eq!(alarm.alarm.0, [hour / 2, hour]);
    }
}
