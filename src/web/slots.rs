//! The places for connections, the few of them that may send a large answer at a time, and who makes room.
//!
//! What costs memory and time is a large answer to a slow client, so those are bounded on their own, far below the
//! number of places. Where all places are taken, the connection that has been quiet for longest and has no large answer
//! under way is closed: there always is one, so a new connection never waits, whatever the others do. The server hands
//! the places out, the routes ask for large answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// A bounded number of places.
pub(super) struct Places {
    count: usize,
    taken: Vec<Weak<Place>>,
    events: Arc<AtomicU64>,
    large_answers: Arc<Semaphore>,
}

/// The place of one connection; it is free again when this is dropped.
pub(super) struct Place {
    /// The number of its last event, its beginning or a request: the lowest one has been quiet for longest.
    last_event: AtomicU64,
    events: Arc<AtomicU64>,
    has_asked: AtomicBool,
    sends_large_answer: AtomicBool,
    large_answers: Arc<Semaphore>,
    dismissed: CancellationToken,
}

/// The permission to send a large answer, until it is dropped.
pub(super) struct LargeAnswer {
    place: Arc<Place>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// This number of places, and of large answers at a time, which is lower.
    pub(super) fn new(count: usize, large_answers: usize) -> Self {
        let large_answers = Arc::new(Semaphore::new(large_answers));
        Self { count, taken: Vec::new(), events: Arc::default(), large_answers }
    }

    /// A place for a new connection. The quietest one is closed for it where all are taken.
    pub(super) fn take(&mut self) -> Arc<Place> {
        self.taken.retain(|place| place.strong_count() > 0);
        if self.taken.len() >= self.count {
            self.dismiss_quietest();
        }
        let place = Arc::new(Place {
            last_event: AtomicU64::default(),
            events: Arc::clone(&self.events),
            has_asked: AtomicBool::new(false),
            sends_large_answer: AtomicBool::new(false),
            large_answers: Arc::clone(&self.large_answers),
            dismissed: CancellationToken::new(),
        });
        place.is_active();
        self.taken.push(Arc::downgrade(&place));
        place
    }

    /// Closes the connections that have not asked for anything yet.
    pub(super) fn dismiss_newcomers(&mut self) {
        for place in self.taken.drain(..).filter_map(|place| place.upgrade()) {
            if !place.has_asked.load(Relaxed) {
                place.dismissed.cancel();
            }
        }
    }

    fn dismiss_quietest(&mut self) {
        let places = self.taken.iter().enumerate().filter_map(|(at, place)| Some((at, place.upgrade()?)));
        let quietest = places
            .filter(|(_, place)| !place.sends_large_answer.load(Relaxed))
            .min_by_key(|(_, place)| place.last_event.load(Relaxed));
        if let Some((at, place)) = quietest {
            place.dismissed.cancel();
            self.taken.swap_remove(at);
        }
    }
}

impl Place {
    /// A request has come.
    pub(super) fn has_asked(&self) {
        self.has_asked.store(true, Relaxed);
        self.is_active();
    }

    /// The permission for a large answer; nothing where as many as may be are under way.
    pub(super) fn large_answer(self: &Arc<Self>) -> Option<LargeAnswer> {
        let permit = Arc::clone(&self.large_answers).try_acquire_owned().ok()?;
        self.sends_large_answer.store(true, Relaxed);
        Some(LargeAnswer { place: Arc::clone(self), _permit: permit })
    }

    /// The place is to be given up.
    pub(super) async fn dismissed(&self) {
        self.dismissed.cancelled().await;
    }

    fn is_active(&self) {
        self.last_event.store(self.events.fetch_add(1, Relaxed), Relaxed);
    }
}

impl Drop for LargeAnswer {
    fn drop(&mut self) {
        self.place.sends_large_answer.store(false, Relaxed);
        // Its end may still be on the way to the client.
        self.place.is_active();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these have to leave.
    fn dismissed<const N: usize>(places: [&Arc<Place>; N]) -> [bool; N] {
        places.map(|place| place.dismissed.is_cancelled())
    }

    #[test]
    fn the_one_that_was_quiet_for_longest_makes_room() {
        let mut places = Places::new(3, 1);
        let [first, second, third] = [(); 3].map(|()| places.take());
        assert_eq!(dismissed([&first, &second, &third]), [false; 3]);
        first.has_asked();
        let fourth = places.take();
        assert_eq!(dismissed([&first, &second, &third, &fourth]), [false, true, false, false]);
        // One that has ended has left its place.
        drop(third);
        let fifth = places.take();
        assert_eq!(dismissed([&first, &fourth, &fifth]), [false; 3]);
        let sixth = places.take();
        assert_eq!(dismissed([&first, &fourth, &fifth, &sixth]), [true, false, false, false]);
    }

    #[test]
    fn large_answers_are_few_and_keep_their_places_until_they_end() {
        let mut places = Places::new(3, 2);
        let [first, second, third] = [(); 3].map(|()| places.take());
        let (of_first, of_second) = (first.large_answer().unwrap(), second.large_answer());
        assert!(of_second.is_some() && third.large_answer().is_none());
        let fourth = places.take();
        assert_eq!(dismissed([&first, &second, &third, &fourth]), [false, false, true, false]);
        // Its end counts as an event.
        drop(of_first);
        let fifth = places.take();
        assert_eq!(dismissed([&first, &second, &fourth, &fifth]), [false, false, true, false]);
        assert!(fifth.large_answer().is_some());
    }
}
