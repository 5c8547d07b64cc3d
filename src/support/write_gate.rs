//! The write gate: whether this process may write, when several replicas have the same policy.
//!
//! It opens for a limited time and then closes by itself, so that a lease holder that hangs or dies leaves no open
//! gate. It is checked right before each write, and compares the clock then: a timer may be late. `leadership` opens
//! and closes it. Without a lease it is always open.

use std::time::Duration;

use tokio::sync::watch;

use super::clock::BootClock;

/// Whether this process may write. Always open unless it was made with a [`WriteGateHandle`].
#[derive(Clone, Debug, Default)]
pub struct WriteGate(Option<Limit>);

#[derive(Clone, Debug)]
struct Limit {
    /// The gate is open before this reading of the clock.
    until: watch::Receiver<Option<Duration>>,
    clock: BootClock,
}

/// Opens and closes a gate.
#[derive(Debug)]
pub struct WriteGateHandle(watch::Sender<Option<Duration>>);

impl WriteGate {
    /// A gate that is closed until its handle opens it, with the clock that its limit is compared with.
    #[must_use]
    pub fn closed(clock: BootClock) -> (WriteGateHandle, Self) {
        let (sender, until) = watch::channel(None);
        (WriteGateHandle(sender), Self(Some(Limit { until, clock })))
    }

    /// Whether a write may begin now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|limit| limit.until.borrow().is_some_and(|until| limit.clock.now() < until))
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        let Some(Limit { mut until, .. }) = self.0.clone() else { return };
        while !self.is_open() {
            if until.changed().await.is_err() {
                // The handle is gone: it never opens.
                return std::future::pending().await;
            }
        }
    }
}

impl WriteGateHandle {
    /// Allows writes to begin until the clock reads this.
    pub fn open_until(&self, reading: Duration) {
        self.0.send_replace(Some(reading));
    }

    /// Allows no write from now on.
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
    fn a_gate_without_a_handle_is_open() {
        assert!(WriteGate::default().is_open());
    }

    /// A clock of seconds that the test sets; no timer depends on it.
    fn seconds() -> (Arc<AtomicU64>, BootClock) {
        let seconds = Arc::<AtomicU64>::default();
        let read = Arc::clone(&seconds);
        (seconds, BootClock::from_fn(move || Duration::from_secs(read.load(Ordering::SeqCst))))
    }

    #[test]
    fn a_gate_is_closed_after_its_limit_without_a_timer() {
        let (seconds, clock) = seconds();
        let (handle, gate) = WriteGate::closed(clock);
        assert!(!gate.is_open());
        handle.open_until(MINUTE);
        drop(handle);
        seconds.store(59, Ordering::SeqCst);
        assert!(gate.is_open());
        seconds.store(60, Ordering::SeqCst);
        assert!(!gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_gate_opens_and_not_before() {
        let (_seconds, clock) = seconds();
        let (handle, gate) = WriteGate::closed(clock);
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
