//! Whether the daemon's loop is alive, for `/healthz`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The time of the loop's last sign of life.
#[derive(Clone)]
pub struct Health {
    last_beat: Arc<Mutex<Instant>>,
    bound: Duration,
}

impl Health {
    /// A loop that is alive now, and dead if it gives no sign of life for longer than `bound`.
    #[must_use]
    pub fn new(bound: Duration) -> Self {
        Self { last_beat: Arc::new(Mutex::new(Instant::now())), bound }
    }

    /// A sign of life. The loop gives several within the bound, also while it waits.
    pub fn beat(&self) {
        *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The time since the last sign of life, if it is longer than the bound.
    #[must_use]
    pub(crate) fn silence(&self) -> Option<Duration> {
        let silence = self.last_beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        (silence > self.bound).then_some(silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_loop_is_noticed_and_a_beat_revives_it() {
        let health = Health::new(Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(health.silence(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.silence(), Some(Duration::from_secs(61)));
        health.clone().beat();
        assert_eq!(health.silence(), None);
    }
}
