//! The keys of a project, and searches.
//!
//! The result of a search is cached until a key is added, removed or changed, so that the cost of a page depends on its
//! length and not on the number of keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::key::{Key, RotationSetting};

/// Number of cached searches.
const MAX_CACHED_SEARCHES: usize = 16;

pub(super) struct StoredKey {
    pub(super) key: Key,
    /// The old setting that status reads still return, and how many of them.
    stale: Option<(RotationSetting, u32)>,
}

impl StoredKey {
    pub(super) fn new(key: Key) -> Self {
        Self { key, stale: None }
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
    pub(super) fn extend(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.found.clear();
        self.stored.extend(keys.into_iter().map(|key| (key.id.clone(), StoredKey::new(key))));
    }

    pub(super) fn remove(&mut self, key_id: &str) {
        self.found.clear();
        self.stored.remove(key_id);
    }

    /// Changes everything of a key but its id. Returns whether it exists.
    pub(super) fn change(&mut self, key_id: &str, change: impl FnOnce(&mut Key)) -> bool {
        self.found.clear();
        self.stored.get_mut(key_id).map(|stored| change(&mut stored.key)).is_some()
    }

    pub(super) fn get(&self, key_id: &str) -> Option<&StoredKey> {
        self.stored.get(key_id)
    }

    /// A key, to change its rotation: that affects no search.
    pub(super) fn get_mut(&mut self, key_id: &str) -> Option<&mut StoredKey> {
        self.stored.get_mut(key_id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &StoredKey> {
        self.stored.values()
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
    use super::*;

    #[test]
    fn a_lag_of_two_hides_a_write_from_two_reads() {
        let mut stored = StoredKey::new(Key::new("k"));
        assert_eq!(stored.write(2, Key::enable_rotation), Ok(()));
        assert!(stored.key.rotation.enabled);
        assert!(!stored.shown().enabled, "looking does not end the lag");
        assert!(!stored.read().enabled);
        assert!(!stored.read().enabled);
        assert!(stored.read().enabled);
        assert_eq!(stored.write(0, |key| key.update_interval(90)), Ok(()));
        assert_eq!(stored.read().interval_days, 90);
    }

    #[test]
    fn a_search_is_cached_until_a_key_is_added_removed_or_changed() {
        let mut keys = Keys::default();
        keys.extend([Key::new("a").tag("pci", "true"), Key::new("b")]);
        let tagged = Filter { tags: vec![("pci".to_owned(), Vec::new())], ..Filter::default() };
        let first = keys.find(&tagged);
        assert_eq!(*first, ["a".into()]);
        assert!(Arc::ptr_eq(&first, &keys.find(&tagged)));
        assert_eq!(keys.get_mut("a").unwrap().write(0, Key::enable_rotation), Ok(()));
        assert!(Arc::ptr_eq(&first, &keys.find(&tagged)), "a rotation is not searched for");

        assert!(keys.change("b", |key| *key = key.clone().tag("pci", "false")));
        assert_eq!(*keys.find(&tagged), ["a".into(), "b".into()]);
        keys.remove("a");
        assert_eq!(*keys.find(&tagged), ["b".into()]);
        keys.extend([Key::new("c").tag("pci", "")]);
        assert_eq!(*keys.find(&tagged), ["b".into(), "c".into()]);
        assert!(!keys.change("a", |_| ()));
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
