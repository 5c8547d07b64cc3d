//! The gate before every write: whether this process is the one that acts, where several have the same policy.
//!
//! It opens for a time and closes by itself when that is over: whoever keeps it may hang or die, and nothing is written
//! for long after. It knows nothing of how the one is chosen; the daemon's lease keeps it, and where there is no lease
//! it is always open.

use tokio::sync::watch;
use tokio::time::Instant;

/// May this process write? Always, unless it was made with a [`Keeper`].
#[derive(Clone, Debug, Default)]
pub struct Gate(Option<watch::Receiver<Option<Instant>>>);

/// Who opens and closes a gate.
#[derive(Debug)]
pub struct Keeper(watch::Sender<Option<Instant>>);

impl Gate {
    /// A gate that is closed until its keeper opens it.
    #[must_use]
    pub fn kept() -> (Keeper, Self) {
        let (sender, receiver) = watch::channel(None);
        (Keeper(sender), Self(Some(receiver)))
    }

    /// Whether a write may begin now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|until| until.borrow().is_some_and(|until| Instant::now() < until))
    }

    /// Waits until it is open.
    pub async fn opens(&self) {
        let Some(mut until) = self.0.clone() else { return };
        while !self.is_open() {
            if until.changed().await.is_err() {
                // Nobody is left to open it.
                return std::future::pending().await;
            }
        }
    }
}

impl Keeper {
    /// Writes may begin before this moment.
    pub fn open_until(&self, moment: Instant) {
        self.0.send_replace(Some(moment));
    }

    /// No write may begin from now on.
    pub fn close(&self) {
        self.0.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_gate_that_nobody_keeps_is_open() {
        assert!(Gate::default().is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_closes_by_itself_when_its_keeper_says_nothing_more() {
        let (keeper, gate) = Gate::kept();
        assert!(!gate.is_open());
        keeper.open_until(Instant::now() + MINUTE);
        drop(keeper);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(gate.is_open());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_it_hears_when_it_opens_and_not_before() {
        let (keeper, gate) = Gate::kept();
        let waits = tokio::spawn({
            let gate = gate.clone();
            async move { gate.opens().await }
        });
        keeper.close();
        keeper.open_until(Instant::now());
        tokio::time::sleep(MINUTE).await;
        assert!(!waits.is_finished());
        keeper.open_until(Instant::now() + MINUTE);
        waits.await.unwrap();
        keeper.close();
        assert!(!gate.is_open());
    }
}
