//! The write gate: whether this process may write, when several replicas have the same policy.
//!
//! It opens for a limited time and then closes by itself, so that a lease holder that hangs or dies leaves no open
//! gate. It is checked right before each write, and compares the clock then: a timer may be late. `leadership` opens
//! and closes it. Without a lease it is always open, unless it is blocked: the evidence log does that while it cannot
//! be written, if the policy says so.

use std::time::Duration;

use tokio::sync::watch;

use super::clock::BootClock;

/// Whether this process may write. Always open unless it was made with a [`WriteGateHandle`] or can be blocked.
#[derive(Clone, Debug, Default)]
pub struct WriteGate {
    limit: Option<Limit>,
    blocked: Option<watch::Receiver<bool>>,
}

/// Blocks a gate, whether it is open or not.
#[derive(Debug)]
pub struct WriteBlock(watch::Sender<bool>);

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
        (WriteGateHandle(sender), Self { limit: Some(Limit { until, clock }), blocked: None })
    }

    /// The same gate, which can also be blocked.
    #[must_use]
    pub fn blockable(self) -> (WriteBlock, Self) {
        let (sender, blocked) = watch::channel(false);
        (WriteBlock(sender), Self { blocked: Some(blocked), ..self })
    }

    /// Whether a write may begin now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let is_blocked = self.blocked.as_ref().is_some_and(|blocked| *blocked.borrow());
        let is_within = |limit: &Limit| limit.until.borrow().is_some_and(|until| limit.clock.now() < until);
        !is_blocked && self.limit.as_ref().is_none_or(is_within)
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        let (mut until, mut blocked) = (self.limit.clone().map(|limit| limit.until), self.blocked.clone());
        while !self.is_open() {
            tokio::select! {
                () = changed(&mut until) => {}
                () = changed(&mut blocked) => {}
            }
        }
    }
}

/// Waits for a change. If the handle is gone, nothing changes any more.
async fn changed<T>(receiver: &mut Option<watch::Receiver<T>>) {
    let has_changed = match receiver {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !has_changed {
        std::future::pending::<()>().await;
    }
}

impl WriteBlock {
    /// Allows no write from now on, or allows writes again as far as the gate is open.
    pub fn set(&self, is_blocked: bool) {
        self.0.send_if_modified(|blocked| std::mem::replace(blocked, is_blocked) != is_blocked);
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

    #[tokio::test]
    async fn a_blocked_gate_is_closed_until_the_block_ends() {
        let (block, gate) = WriteGate::default().blockable();
        assert!(gate.is_open());
        block.set(true);
        assert!(!gate.is_open());
        let waits = tokio::spawn({
            let gate = gate.clone();
            async move { gate.opened().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        block.set(false);
        waits.await.unwrap();
        let (_, clock) = seconds();
        let (_handle, closed) = WriteGate::closed(clock);
        let (_block, both) = closed.blockable();
        assert!(!both.is_open(), "the lease still counts");
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
