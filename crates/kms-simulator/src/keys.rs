//! The keys of a project, and searches.
//!
//! The result of a search is cached until a key is added, removed or changed, so that the cost of a page depends on its
//! length and not on the number of keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::job::Job;
use super::key::{Key, RotationSetting};

/// Number of cached searches.
const MAX_CACHED_SEARCHES: usize = 16;

pub(super) struct StoredKey {
    pub(super) key: Key,
    /// The old setting that status reads still return, and how many of them.
    stale: Option<(RotationSetting, u32)>,
    /// When it was added, or when it could rotate again: a key that was overdue at this time is due at this time.
    resumed: SystemTime,
}

impl StoredKey {
    /// A key that is added to a project now.
    pub(super) fn new(key: Key, now: SystemTime) -> Self {
        let mut stored = Self { key, stale: None, resumed: now };
        stored.start_period(now);
        stored
    }

    fn start_period(&mut self, now: SystemTime) {
        let start = self.key.last_rotation.unwrap_or(now);
        self.key.period_start.get_or_insert(start);
        self.key.created.get_or_insert(start);
    }

    /// Carries out the rotations until now.
    fn advance(&mut self, job: &Job<'_>) {
        job.advance(&mut self.key, self.resumed);
    }

    /// Changes the key without a request. A changed rotation setting starts a new period, as a write does.
    fn change(&mut self, job: &Job<'_>, change: impl FnOnce(&mut Key)) {
        self.advance(job);
        let (could, rotation, start) = (job.rotates(&self.key), self.key.rotation, self.key.period_start);
        change(&mut self.key);
        if self.key.rotation != rotation && self.key.period_start == start {
            self.key.period_start = Some(job.now);
        }
        self.start_period(job.now);
        self.resume(could, job);
    }

    /// After a change, a key that can rotate again or is overdue is due now: no rotation happens in the past.
    fn resume(&mut self, could: bool, job: &Job<'_>) {
        let past = job.next(&self.key, self.resumed).is_some_and(|next| next <= job.now);
        if past || !could && job.rotates(&self.key) {
            self.resumed = job.now;
        }
    }

    /// The setting that a listing shows.
    pub(super) fn shown(&self) -> RotationSetting {
        self.stale.map_or(self.key.rotation, |(setting, _)| setting)
    }

    /// The setting that a status read returns. Each read shortens the lag by one.
    pub(super) fn read(&mut self) -> RotationSetting {
        let shown = self.shown();
        self.stale = self.stale.and_then(|(setting, left)| (left > 1).then(|| (setting, left - 1)));
        shown
    }

    /// Writes; the next `lag` status reads still return the old setting.
    pub(super) fn write<E>(&mut self, lag: u32, write: impl FnOnce(&mut Key) -> Result<(), E>) -> Result<(), E> {
        let shown = self.shown();
        write(&mut self.key)?;
        self.stale = (lag > 0).then_some((shown, lag));
        Ok(())
    }
}

/// The conditions of a search; `None` matches every key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// The number of `key_state`.
    pub(super) state: Option<u8>,
    pub(super) spec: Option<String>,
    pub(super) enterprise_project: Option<String>,
    /// The key must have all of these tags, each with one of the values; an empty list matches every value.
    pub(super) tags: Vec<(String, Vec<String>)>,
    /// Part of its name, in lower case; the case of the name is ignored.
    pub(super) name: Option<String>,
}

impl Filter {
    fn matches(&self, key: &Key) -> bool {
        let tagged = |(name, values): &(String, Vec<String>)| {
            let value = key.tags.get(name.as_str());
            value.is_some_and(|value| values.is_empty() || values.iter().any(|wanted| wanted == value))
        };
        self.state.is_none_or(|state| key.state.code() == state)
            && self.spec.as_ref().is_none_or(|spec| key.spec == *spec)
            && self.enterprise_project.as_ref().is_none_or(|id| key.enterprise_project == *id)
            && self.tags.iter().all(tagged)
            && self.name.as_ref().is_none_or(|name| key.alias.to_lowercase().contains(name))
    }
}

/// The keys of a project, by id.
#[derive(Default)]
pub(super) struct Keys {
    stored: BTreeMap<String, StoredKey>,
    /// Cached searches, and the ids that they found.
    found: Vec<(Filter, Arc<[Box<str>]>)>,
}

impl Keys {
    /// Adds keys, or replaces the keys with their ids.
    pub(super) fn extend(&mut self, keys: impl IntoIterator<Item = Key>, now: SystemTime) {
        self.found.clear();
        self.stored.extend(keys.into_iter().map(|key| (key.id.clone(), StoredKey::new(key, now))));
    }

    pub(super) fn remove(&mut self, key_id: &str) {
        self.found.clear();
        self.stored.remove(key_id);
    }

    /// Changes everything of a key but its id. Returns whether it exists.
    pub(super) fn change(&mut self, key_id: &str, job: &Job<'_>, change: impl FnOnce(&mut Key)) -> bool {
        self.found.clear();
        self.stored.get_mut(key_id).map(|stored| stored.change(job, change)).is_some()
    }

    /// Changes the settings of the job, for all keys.
    pub(super) fn change_job(&mut self, before: &Job<'_>, after: &Job<'_>) {
        for stored in self.stored.values_mut() {
            stored.advance(before);
            stored.resume(before.rotates(&stored.key), after);
        }
    }

    /// A key without the rotations since it was last looked at, for details and tags: they do not show rotations.
    pub(super) fn get(&self, key_id: &str) -> Option<&StoredKey> {
        self.stored.get(key_id)
    }

    /// A key as it is now, to read or change its rotation: that affects no search.
    pub(super) fn get_mut(&mut self, key_id: &str, job: &Job<'_>) -> Option<&mut StoredKey> {
        let stored = self.stored.get_mut(key_id)?;
        stored.advance(job);
        Some(stored)
    }

    /// Every key without the rotations since it was last looked at.
    pub(super) fn iter(&self) -> impl Iterator<Item = &StoredKey> {
        self.stored.values()
    }

    /// Every key as it is now.
    pub(super) fn all(&mut self, job: &Job<'_>) -> impl Iterator<Item = &StoredKey> {
        self.stored.values_mut().map(|stored| {
            stored.advance(job);
            &*stored
        })
    }

    /// The ids of all matching keys, in order.
    pub(super) fn find(&mut self, filter: &Filter) -> Arc<[Box<str>]> {
        if let Some((_, found)) = self.found.iter().find(|(known, _)| known == filter) {
            return Arc::clone(found);
        }
        let matching = self.stored.values().filter(|stored| filter.matches(&stored.key));
        let found: Arc<[Box<str>]> = matching.map(|stored| stored.key.id.as_str().into()).collect();
        if self.found.len() >= MAX_CACHED_SEARCHES {
            self.found.clear();
        }
        self.found.push((filter.clone(), Arc::clone(&found)));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::behaviour::Behaviour;
    use super::super::key::KeyState;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const DELAY: Duration = Duration::from_secs(2 * 3600);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000
    }

    /// A stored key, and the cloud that rotates it.
    struct Aged {
        stored: StoredKey,
        behaviour: Behaviour,
    }

    impl Aged {
        fn new(key: Key) -> Self {
            Self { stored: StoredKey::new(key, start()), behaviour: Behaviour::default() }
        }

        /// The number of rotations at this time, and the time of the last one; times count from the start.
        fn at(&mut self, after: Duration) -> (u32, Option<Duration>) {
            self.stored.advance(&Job { behaviour: &self.behaviour, now: start() + after });
            let key = &self.stored.key;
            (key.rotations, key.last_rotation.and_then(|last| last.duration_since(start()).ok()))
        }

        fn change(&mut self, after: Duration, change: impl FnOnce(&mut Key)) {
            self.stored.change(&Job { behaviour: &self.behaviour, now: start() + after }, change);
        }
    }

    #[test]
    fn the_period_of_an_added_key_starts_then_if_nothing_else_is_known() {
        let new = || Key::new("k").created(start() - DAY * 500).rotating(30);
        for (key, due) in [
            (new(), 30),
            (new().period_start(start() - DAY * 10), 20),
            (new().rotated(3, start() - DAY * 12), 18),
            (new().rotated(3, start() - DAY * 12).period_start(start() - DAY * 7), 23),
            (new().rotated(3, start() - DAY * 7).period_start(start() - DAY * 500), 23),
            // Overdue; no rotation happens in the past.
            (new().rotated(3, start() - DAY * 400), 0),
            (new().period_start(start() - DAY * 400), 0),
        ] {
            let (mut aged, before) = (Aged::new(key.clone()), key.rotations);
            let first = DAY * due + DELAY;
            assert_eq!(aged.at(first.checked_sub(Duration::from_secs(1)).unwrap()).0, before, "{key:?}");
            assert_eq!(aged.at(first), (before + 1, Some(first)), "{key:?}");
            assert_eq!(aged.at(first + DAY * 30 + DELAY), (before + 2, Some(first + DAY * 30 + DELAY)), "{key:?}");
        }
    }

    #[test]
    fn an_overdue_key_rotates_within_hours_after_it_is_enabled_again_and_others_as_planned() {
        for state in [KeyState::Disabled, KeyState::PendingDeletion] {
            for (back, rotation) in [(29, DAY * 30 + DELAY), (30, DAY * 30 + DELAY), (200, DAY * 200 + DELAY)] {
                let mut aged = Aged::new(Key::new("k").rotating(30));
                aged.change(DAY * 10, |key| key.state = state);
                assert_eq!(aged.at(DAY * back), (0, None));
                aged.change(DAY * back, |key| key.state = KeyState::Enabled);
                assert_eq!(
                    aged.at(rotation.checked_sub(Duration::from_secs(1)).unwrap()),
                    (0, None),
                    "{state:?} until {back}"
                );
                assert_eq!(aged.at(rotation), (1, Some(rotation)), "{state:?} until {back}");
            }
        }
    }

    #[test]
    fn a_key_has_the_rotations_from_before_it_was_disabled() {
        let mut aged = Aged::new(Key::new("k").rotating(30));
        let rotated = (3, Some((DAY * 30 + DELAY) * 3));
        // It is not looked at before.
        aged.change(DAY * 100, |key| key.state = KeyState::Disabled);
        assert_eq!(aged.at(DAY * 100), rotated);
        assert_eq!(aged.at(DAY * 1000), rotated);
    }

    #[test]
    fn a_changed_setting_starts_a_period_and_another_change_does_not() {
        let mut aged = Aged::new(Key::new("k").rotating(30));
        aged.change(DAY * 20, |key| key.alias = "another".to_owned());
        assert_eq!(aged.stored.key.due(), Some(start() + DAY * 30));
        aged.change(DAY * 20, |key| key.rotation.interval_days = 40);
        assert_eq!(aged.stored.key.due(), Some(start() + DAY * 60));
        aged.change(DAY * 21, |key| key.rotation.enabled = false);
        assert_eq!(aged.at(DAY * 200), (0, None));
        aged.change(DAY * 200, |key| key.rotation.enabled = true);
        assert_eq!(aged.stored.key.due(), Some(start() + DAY * 240));
        aged.change(DAY * 201, |key| {
            key.rotation.interval_days = 50;
            key.period_start = Some(start() + DAY * 190);
        });
        assert_eq!(aged.stored.key.due(), Some(start() + DAY * 240));
        aged.change(DAY * 202, |key| *key = Key::new("k").rotating(50));
        assert_eq!(aged.stored.key.due(), Some(start() + DAY * 252));
    }

    #[test]
    fn a_change_causes_no_rotation_in_the_past() {
        let mut aged = Aged::new(Key::new("k").rotating(90));
        aged.change(DAY * 80, |key| key.period_start = Some(start() - DAY * 1000));
        assert_eq!(aged.at(DAY * 80), (0, None));
        assert_eq!(aged.at(DAY * 80 + DELAY), (1, Some(DAY * 80 + DELAY)));

        let mut keys = Keys::default();
        keys.extend([Key::new("k").rotating(30)], start());
        let slow = Behaviour { rotation_delay: DAY * 10, ..Behaviour::default() };
        let (slow, fast) = (
            Job { behaviour: &slow, now: start() + DAY * 35 },
            Job { behaviour: &Behaviour::default(), now: start() + DAY * 35 },
        );
        keys.change_job(&slow, &fast);
        assert_eq!(keys.get_mut("k", &fast).unwrap().key.rotations, 0);
        let later = Job { now: start() + DAY * 35 + DELAY, ..fast };
        assert_eq!(keys.all(&later).next().unwrap().key.last_rotation, Some(later.now));
    }

    #[test]
    fn a_lag_of_two_hides_a_write_from_two_reads() {
        let mut stored = StoredKey::new(Key::new("k"), start());
        assert_eq!(stored.write(2, |key| key.enable_rotation(start())), Ok(()));
        assert!(stored.key.rotation.enabled);
        assert!(!stored.shown().enabled, "looking does not end the lag");
        assert!(!stored.read().enabled);
        assert!(!stored.read().enabled);
        assert!(stored.read().enabled);
        assert_eq!(stored.write(0, |key| key.update_interval(90, start())), Ok(()));
        assert_eq!(stored.read().interval_days, 90);
    }

    #[test]
    fn a_search_is_cached_until_a_key_is_added_removed_or_changed() {
        let mut keys = Keys::default();
        let job = Job { behaviour: &Behaviour::default(), now: start() };
        keys.extend([Key::new("a").tag("pci", "true"), Key::new("b")], start());
        let tagged = Filter { tags: vec![("pci".to_owned(), Vec::new())], ..Filter::default() };
        let first = keys.find(&tagged);
        assert_eq!(*first, ["a".into()]);
        assert!(Arc::ptr_eq(&first, &keys.find(&tagged)));
        let stored = keys.get_mut("a", &job).unwrap();
        assert_eq!(stored.write(0, |key| key.enable_rotation(start())), Ok(()));
        assert!(Arc::ptr_eq(&first, &keys.find(&tagged)), "a rotation is not searched for");

        assert!(keys.change("b", &job, |key| *key = key.clone().tag("pci", "false")));
        assert_eq!(*keys.find(&tagged), ["a".into(), "b".into()]);
        keys.remove("a");
        assert_eq!(*keys.find(&tagged), ["b".into()]);
        keys.extend([Key::new("c").tag("pci", "")], start());
        assert_eq!(*keys.find(&tagged), ["b".into(), "c".into()]);
        assert!(!keys.change("a", &job, |_| ()));
    }

    #[test]
    fn the_number_of_cached_searches_is_limited() {
        let mut keys = Keys::default();
        for at in 0..3 * MAX_CACHED_SEARCHES {
            keys.find(&Filter { name: Some(at.to_string()), ..Filter::default() });
            assert!(keys.found.len() <= MAX_CACHED_SEARCHES);
        }
    }
}
