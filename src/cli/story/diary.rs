//! When the parts of the story happen: at times that a seed decides, with a distance between them.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use fastrand::Rng;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// The distance between two parts, so that the keys have recovered from the first one. Shorter spans have a part of it.
const DISTANCE: Duration = Duration::from_secs(2 * 86_400);
/// The most times that are tried for one part.
const MOST_TIMES: u32 = 1_000;

/// The time of the story, and the parts of it that are taken.
pub(super) struct Diary {
    free: Range<SystemTime>,
    taken: Vec<Range<SystemTime>>,
    distance: Duration,
    pub(super) rng: Rng,
}

impl Diary {
    /// Nothing is taken yet. At the beginning and at the end nothing happens.
    pub(super) fn new(start: SystemTime, span: Duration, seed: u64) -> Self {
        let distance = DISTANCE.min(span / 30);
        let free = start + whole_minutes(distance)..(start + span).checked_sub(distance).unwrap_or(start);
        Self { free, taken: Vec::new(), distance, rng: Rng::with_seed(seed) }
    }

    /// Takes a time that is given.
    pub(super) fn take(&mut self, part: Range<SystemTime>) {
        self.taken.push(part);
    }

    /// Whether a part can happen then.
    pub(super) fn is_free(&self, part: &Range<SystemTime>) -> bool {
        let is_apart = |taken: &Range<SystemTime>| {
            part.end + self.distance <= taken.start || taken.end + self.distance <= part.start
        };
        self.free.start <= part.start && part.end <= self.free.end && self.taken.iter().all(is_apart)
    }

    /// Takes a random one of these parts, if one is free.
    pub(super) fn take_one<T>(
        &mut self,
        parts: impl IntoIterator<Item = T>,
        time: impl Fn(&T) -> Range<SystemTime>,
    ) -> Option<T> {
        let mut free: Vec<_> = parts.into_iter().filter(|part| self.is_free(&time(part))).collect();
        if free.is_empty() {
            return None;
        }
        let part = free.swap_remove(self.rng.usize(..free.len()));
        self.take(time(&part));
        Some(part)
    }

    /// Takes a random part that begins at any time and takes as long, if that is no more than this share of the whole.
    pub(super) fn take_any(&mut self, length: Duration, share: u32) -> Option<Range<SystemTime>> {
        self.take_any_of(length, share, |from| from..from + length)
    }

    /// The same, where a part follows from the time at which it is to begin.
    pub(super) fn take_any_of(
        &mut self,
        length: Duration,
        share: u32,
        part: impl Fn(SystemTime) -> Range<SystemTime>,
    ) -> Option<Range<SystemTime>> {
        let whole = self.free.end.duration_since(self.free.start).ok()?;
        if whole.is_zero() || length * share > whole {
            return None;
        }
        let step = whole_minutes((whole / MOST_TIMES).max(60 * MINUTE));
        let first = self.free.start + whole_minutes(step.mul_f64(self.rng.f64()));
        let times = (0..MOST_TIMES).map(|n| first + step * n);
        self.take_one(times.map(part), Clone::clone)
    }

    /// A random number of days, at least `from` and at most `to`.
    pub(super) fn days(&mut self, from: u32, to: u32) -> Duration {
        DAY * self.rng.u32(from..=to)
    }
}

fn whole_minutes(time: Duration) -> Duration {
    MINUTE * u32::try_from(time.as_secs() / 60).unwrap_or(u32::MAX)
}
