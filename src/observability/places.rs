//! The places for connections, and who gives one up where there is none left.
//!
//! A place is given up by whoever has had it for longest without asking for anything: so nobody keeps others out by
//! opening connections and saying nothing. Who has asked keeps it, and time limits see to the rest. The server hands
//! them out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// So many places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Those whose connection has not asked for anything, the oldest first. Some may have ended or asked meanwhile.
    newcomers: VecDeque<Weak<Place>>,
}

/// The place of one connection; it is free again when this is dropped.
pub(super) struct Place {
    slot: OwnedSemaphorePermit,
    has_asked: AtomicBool,
    dismissed: CancellationToken,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), newcomers: VecDeque::new() }
    }

    /// Has the oldest newcomer leave if there is no free place.
    pub(super) fn make_room(&mut self) {
        if self.free.available_permits() == 0 {
            self.dismiss_oldest();
        }
    }

    /// A free place, once there is one. Cancelling it takes none.
    pub(super) async fn take(&mut self) -> Arc<Place> {
        let Ok(slot) = Arc::clone(&self.free).acquire_owned().await else { return std::future::pending().await };
        self.newcomers.retain(|newcomer| newcomer.upgrade().is_some_and(|place| !place.has_asked.load(Relaxed)));
        let place = Arc::new(Place { slot, has_asked: AtomicBool::new(false), dismissed: CancellationToken::new() });
        self.newcomers.push_back(Arc::downgrade(&place));
        place
    }

    /// Has all newcomers leave.
    pub(super) fn clear(&mut self) {
        while self.dismiss_oldest() {}
    }

    /// False where there is no newcomer.
    fn dismiss_oldest(&mut self) -> bool {
        while let Some(newcomer) = self.newcomers.pop_front() {
            if let Some(place) = newcomer.upgrade()
                && !place.has_asked.load(Relaxed)
            {
                place.dismissed.cancel();
                return true;
            }
        }
        false
    }
}

impl Place {
    /// A request has come: the place is kept. True if it was the last one.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.store(true, Relaxed);
        self.slot.semaphore().available_permits() == 0
    }

    /// The place is to be given up.
    pub(super) async fn dismissed(&self) {
        self.dismissed.cancelled().await;
    }
}
