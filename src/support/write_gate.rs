//! The gate before every write: whether this process is the one that acts, where several have the same policy.
//!
//! It opens for a time and closes by itself when that is over: whoever holds its handle may hang or die, and nothing is
//! written for long after. Whoever writes asks it right before, and it judges then, by the clock and not by a timer that
//! may be late. It knows nothing of how the one is chosen; the daemon's lease holds the handle, and where there is no
//! lease it is always open.

use std::time::Duration;

use tokio::sync::watch;

use super::clock::BootClock;

/// May this process write? Always, unless it was made with a [`GateHandle`].
#[derive(Clone, Debug, Default)]
pub struct Gate(Option<Held>);

#[derive(Clone, Debug)]
struct Held {
    /// Before this reading of the clock it is open.
    until: watch::Receiver<Option<Duration>>,
    clock: BootClock,
}

/// Opens and closes a gate.
#[derive(Debug)]
pub struct GateHandle(watch::Sender<Option<Duration>>);

impl Gate {
    /// A gate that is closed until its handle opens it, by this clock.
    #[must_use]
    pub fn closed(clock: BootClock) -> (GateHandle, Self) {
        let (sender, until) = watch::channel(None);
        (GateHandle(sender), Self(Some(Held { until, clock })))
    }

    /// Whether a write may begin now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|held| held.until.borrow().is_some_and(|until| held.clock.now() < until))
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        let Some(Held { mut until, .. }) = self.0.clone() else { return };
        while !self.is_open() {
            if until.changed().await.is_err() {
                // Nobody is left to open it.
                return std::future::pending().await;
            }
        }
    }
}

impl GateHandle {
    /// Writes may begin before the clock reads this.
    pub fn open_until(&self, reading: Duration) {
        self.0.send_replace(Some(reading));
    }

    /// No write may begin from now on.
    pub fn close(&self) {
        self.0.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_gate_that_nobody_holds_is_open() {
        assert!(Gate::default().is_open());
    }

    /// Seconds that a test lets pass, and the clock that counts them; no timer fires meanwhile.
    fn seconds() -> (Arc<AtomicU64>, BootClock) {
        let seconds = Arc::<AtomicU64>::default();
        let read = Arc::clone(&seconds);
        (seconds, BootClock::from_fn(move || Duration::from_secs(read.load(Ordering::SeqCst))))
    }

    #[test]
    fn a_gate_is_found_closed_when_its_time_is_over_though_nobody_was_awake_to_close_it() {
        let (seconds, clock) = seconds();
        let (handle, gate) = Gate::closed(clock);
        assert!(!gate.is_open());
        handle.open_until(MINUTE);
        drop(handle);
        seconds.store(59, Ordering::SeqCst);
        assert!(gate.is_open());
        seconds.store(60, Ordering::SeqCst);
        assert!(!gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_it_hears_when_it_opens_and_not_before() {
        let (_seconds, clock) = seconds();
        let (handle, gate) = Gate::closed(clock);
        let waits = tokio::spawn({
            let gate = gate.clone();
            async move { gate.opened().await }
        });
        handle.close();
        handle.open_until(Duration::ZERO);
        tokio::time::sleep(MINUTE).await;
        assert!(!waits.is_finished());
        handle.open_until(MINUTE);
        waits.await.unwrap();
        handle.close();
        assert!(!gate.is_open());
    }
}
