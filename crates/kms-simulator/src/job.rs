//! The job of the cloud that rotates keys when they are due (`docs/kms-api.md` 2.1).
//!
//! It has no thread and no timer: when a key is looked at or changed, [`Job::advance`] carries out the rotations until then.
//! Their times depend on the cloud's clock only, not on the moments at which the key is looked at.

use std::time::SystemTime;

use super::behaviour::Behaviour;
use super::key::Key;

/// The job at one moment.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) behaviour: &'a Behaviour,
    pub(super) now: SystemTime,
}

impl Job<'_> {
    /// Whether it rotates this key once it is due: not while the key is disabled, pending deletion, or forgotten.
    pub(super) fn rotates(&self, key: &Key) -> bool {
        let forgotten = key.forgotten || !self.behaviour.rotates;
        let possible = self.behaviour.rotation_offered && key.refusal().is_none();
        key.rotation.enabled && possible && !forgotten
    }

    /// When it rotates the key next: some time after the key is due, or after `resumed` if it was overdue then.
    pub(super) fn next(&self, key: &Key, resumed: SystemTime) -> Option<SystemTime> {
        let due = key.due().filter(|_| self.rotates(key))?;
        due.max(resumed).checked_add(self.behaviour.rotation_delay)
    }

    /// Carries out the rotations until now.
    pub(super) fn advance(&self, key: &mut Key, resumed: SystemTime) {
        let Some(first) = self.next(key, resumed) else { return };
        let Ok(since) = self.now.duration_since(first) else { return };
        // Each rotation starts a period, and the job is late at the end of each.
        let period = key.interval().saturating_add(self.behaviour.rotation_delay);
        let further = u32::try_from(since.as_nanos() / period.as_nanos()).unwrap_or(u32::MAX);
        key.last_rotation = Some(first + period.saturating_mul(further));
        key.rotations = key.rotations.saturating_add(further).saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::key::KeyState;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);
    const DELAY: Duration = Duration::from_secs(2 * 3600);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000
    }

    fn key() -> Key {
        Key::new("k").rotating(30).period_start(start())
    }

    /// The number of rotations and the time of the last one, counted from the start.
    fn at(after: Duration, key: &mut Key) -> (u32, Option<Duration>) {
        Job { behaviour: &Behaviour::default(), now: start() + after }.advance(key, start());
        (key.rotations, key.last_rotation.map(|last| last.duration_since(start()).unwrap()))
    }

    #[test]
    fn a_key_rotates_some_hours_after_it_is_due_and_the_next_period_counts_from_there() {
        let mut key = key();
        let before = |time: Duration| time.checked_sub(Duration::from_nanos(1)).unwrap();
        assert_eq!(at(DAY * 30, &mut key), (0, None));
        assert_eq!(at(before(DAY * 30 + DELAY), &mut key), (0, None));
        let first = (1, Some(DAY * 30 + DELAY));
        assert_eq!(at(DAY * 30 + DELAY, &mut key), first);
        assert_eq!(at(before(DAY * 60 + DELAY * 2), &mut key), first);
        assert_eq!(at(DAY * 60 + DELAY * 2, &mut key), (2, Some(DAY * 60 + DELAY * 2)));
        assert_eq!(at(Duration::ZERO, &mut key).0, 2, "a clock that goes back undoes nothing");
    }

    #[test]
    fn several_periods_at_once_are_the_same_as_one_by_one() {
        let mut daily = key();
        for day in 0..=400 {
            at(DAY * day, &mut daily);
        }
        let mut at_once = key();
        assert_eq!(at(DAY * 400, &mut at_once), (13, Some((DAY * 30 + DELAY) * 13)));
        assert_eq!(at_once, daily);
    }

    #[test]
    fn a_clock_far_in_the_future_costs_nothing_and_overflows_nothing() {
        let mut key = key();
        let (rotations, last) = at(DAY * 365 * 1_000_000, &mut key);
        assert_eq!(rotations, 12_132_963);
        assert_eq!(last, Some((DAY * 30 + DELAY) * rotations));
        at(Duration::from_secs(u64::MAX / 4), &mut key);
        at(Duration::from_secs(u64::MAX / 4), &mut key);
        assert_eq!(key.rotations, u32::MAX);
        let forever = Behaviour { rotation_delay: Duration::MAX, ..Behaviour::default() };
        assert_eq!(Job { behaviour: &forever, now: start() }.next(&self::key(), start()), None);
        let mut longest = Key::new("k").rotating(u32::MAX).period_start(start());
        assert_eq!(at(DAY * u32::MAX + HOUR, &mut longest), (0, None));
        assert_eq!(at(DAY * u32::MAX + DELAY, &mut longest).0, 1);
    }

    #[test]
    fn a_key_rotates_only_if_its_rotation_is_on_and_possible() {
        for mut key in [
            Key::new("k").period_start(start()),
            Key::new("k").rotating(0).period_start(start()),
            key().state(KeyState::Disabled),
            key().state(KeyState::PendingDeletion),
            key().state(KeyState::PendingImport),
            key().default_of("evs"),
            key().imported(),
            key().spec("RSA_2048"),
            key().keystore("6b5a"),
            key().replica(),
            key().forgotten(),
        ] {
            assert_eq!(at(DAY * 100, &mut key), (0, None), "{key:?}");
        }
        let mut key = key().spec("SM4");
        for behaviour in [
            Behaviour { rotation_offered: false, ..Behaviour::default() },
            Behaviour { rotates: false, ..Behaviour::default() },
        ] {
            Job { behaviour: &behaviour, now: start() + DAY * 100 }.advance(&mut key, start());
            assert_eq!(key.rotations, 0);
        }
        assert_eq!(at(DAY * 100, &mut key).0, 3);
    }

    #[test]
    fn an_overdue_key_rotates_some_hours_after_it_can_rotate_again() {
        let behaviour = Behaviour::default();
        let next = |resumed| Job { behaviour: &behaviour, now: start() }.next(&key(), start() + resumed);
        assert_eq!(next(DAY * 29), Some(start() + DAY * 30 + DELAY), "the plan continues");
        assert_eq!(next(DAY * 30), Some(start() + DAY * 30 + DELAY));
        assert_eq!(next(DAY * 200), Some(start() + DAY * 200 + DELAY));
    }
}
