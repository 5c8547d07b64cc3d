//! The slots for connections, the few large answers that may be sent at a time, and which connection is closed for a
//! new one.
//!
//! Two semaphores bound them. A large answer to a slow client costs memory and time, so there are far fewer of those
//! than connections. When no slot is free, the connection that has been quiet for longest and sends no large answer is
//! closed. There always is one, so that a new connection never waits for other clients.
//!
//! The list of connections is kept by hand because a semaphore keeps no list of its permits' holders, and an eviction
//! has to choose one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// A bounded number of slots for connections, and of large answers.
pub(super) struct ConnectionSlots {
    free: Arc<Semaphore>,
    large_answers: Arc<Semaphore>,
    taken: Vec<Weak<Slot>>,
    events: Arc<AtomicU64>,
}

/// The slot of one connection; free again when this is dropped.
pub(super) struct Slot {
    /// The number of its last event, its beginning or a request: the lowest one has been quiet for longest.
    last_event: AtomicU64,
    events: Arc<AtomicU64>,
    has_requested: AtomicBool,
    sends_large_answer: AtomicBool,
    large_answers: Arc<Semaphore>,
    closed: CancellationToken,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The permit to send a large answer, until it is dropped.
pub(super) struct LargeAnswer {
    slot: Arc<Slot>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionSlots {
    /// This number of slots, and of large answers at a time, which is lower.
    pub(super) fn new(slots: usize, large_answers: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(slots)),
            large_answers: Arc::new(Semaphore::new(large_answers)),
            taken: Vec::new(),
            events: Arc::default(),
        }
    }

    /// A slot for a new connection. If none is free, the quietest connection is closed, and this waits until it has
    /// ended, which takes no longer than the turn of its task.
    pub(super) async fn take(&mut self) -> Arc<Slot> {
        self.taken.retain(|slot| slot.strong_count() > 0);
        if self.free.available_permits() == 0 {
            self.close_quietest();
        }
        // An error means that the semaphore was closed, which it never is.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let slot = Arc::new(Slot {
            last_event: AtomicU64::default(),
            events: Arc::clone(&self.events),
            has_requested: AtomicBool::new(false),
            sends_large_answer: AtomicBool::new(false),
            large_answers: Arc::clone(&self.large_answers),
            closed: CancellationToken::new(),
            _permit: permit,
        });
        slot.is_active();
        self.taken.push(Arc::downgrade(&slot));
        slot
    }

    /// Closes the connections that have not sent a request yet.
    pub(super) fn close_newcomers(&mut self) {
        for slot in self.taken.drain(..).filter_map(|slot| slot.upgrade()) {
            if !slot.has_requested.load(Relaxed) {
                slot.closed.cancel();
            }
        }
    }

    fn close_quietest(&mut self) {
        let slots = self.taken.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.upgrade()?)));
        let quietest = slots
            .filter(|(_, slot)| !slot.sends_large_answer.load(Relaxed))
            .min_by_key(|(_, slot)| slot.last_event.load(Relaxed));
        if let Some((at, slot)) = quietest {
            slot.closed.cancel();
            self.taken.swap_remove(at);
        }
    }
}

impl Slot {
    /// The connection has sent a request.
    pub(super) fn has_requested(&self) {
        self.has_requested.store(true, Relaxed);
        self.is_active();
    }

    /// The permit for a large answer; `None` if the limit is reached.
    pub(super) fn large_answer(self: &Arc<Self>) -> Option<LargeAnswer> {
        let permit = Arc::clone(&self.large_answers).try_acquire_owned().ok()?;
        self.sends_large_answer.store(true, Relaxed);
        Some(LargeAnswer { slot: Arc::clone(self), _permit: permit })
    }

    /// Waits until the connection has to end for another one.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    fn is_active(&self) {
        self.last_event.store(self.events.fetch_add(1, Relaxed), Relaxed);
    }
}

impl Drop for LargeAnswer {
    fn drop(&mut self) {
        self.slot.sends_large_answer.store(false, Relaxed);
        // The end of the answer may still be on the way to the client.
        self.slot.is_active();
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    /// A connection that ends when its slot is closed.
    struct Connection {
        slot: Weak<Slot>,
        task: JoinHandle<()>,
    }

    impl Connection {
        async fn on(slots: &mut ConnectionSlots) -> Self {
            let slot = slots.take().await;
            let weak = Arc::downgrade(&slot);
            Self { slot: weak, task: tokio::spawn(async move { slot.closed().await }) }
        }

        fn slot(&self) -> Arc<Slot> {
            self.slot.upgrade().unwrap()
        }

        async fn end(self) {
            self.slot().closed.cancel();
            self.task.await.unwrap();
        }
    }

    /// Which of these had to end.
    fn closed<const N: usize>(connections: [&Connection; N]) -> [bool; N] {
        connections.map(|connection| connection.slot.upgrade().is_none())
    }

    #[tokio::test]
    async fn the_one_that_was_quiet_for_longest_makes_room() {
        let mut slots = ConnectionSlots::new(3, 1);
        let first = Connection::on(&mut slots).await;
        let second = Connection::on(&mut slots).await;
        let third = Connection::on(&mut slots).await;
        assert_eq!(closed([&first, &second, &third]), [false; 3]);
        first.slot().has_requested();
        let fourth = Connection::on(&mut slots).await;
        assert_eq!(closed([&first, &second, &third, &fourth]), [false, true, false, false]);
        // One that has ended has left its slot.
        third.end().await;
        let fifth = Connection::on(&mut slots).await;
        assert_eq!(closed([&first, &fourth, &fifth]), [false; 3]);
        let sixth = Connection::on(&mut slots).await;
        assert_eq!(closed([&first, &fourth, &fifth, &sixth]), [true, false, false, false]);
    }

    #[tokio::test]
    async fn large_answers_are_few_and_keep_their_slots_until_they_end() {
        let mut slots = ConnectionSlots::new(3, 2);
        let first = Connection::on(&mut slots).await;
        let second = Connection::on(&mut slots).await;
        let third = Connection::on(&mut slots).await;
        let (of_first, of_second) = (first.slot().large_answer().unwrap(), second.slot().large_answer());
        assert!(of_second.is_some() && third.slot().large_answer().is_none());
        let fourth = Connection::on(&mut slots).await;
        assert_eq!(closed([&first, &second, &third, &fourth]), [false, false, true, false]);
        // Its end counts as an event.
        drop(of_first);
        let fifth = Connection::on(&mut slots).await;
        assert_eq!(closed([&first, &second, &fourth, &fifth]), [false, false, true, false]);
        assert!(fifth.slot().large_answer().is_some());
    }

    #[tokio::test]
    async fn no_more_connections_are_open_than_there_are_slots() {
        let mut slots = ConnectionSlots::new(2, 1);
        let mut connections = Vec::new();
        for _ in 0..5 {
            connections.push(Connection::on(&mut slots).await);
            assert!(connections.iter().filter(|connection| connection.slot.upgrade().is_some()).count() <= 2);
        }
    }
}
