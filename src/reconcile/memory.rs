//! What this process remembers from run to run, project by project. Nothing that it judges a readable key by.
//!
//! It does not grow with runs or policies: a project that the policy does not name any more is forgotten, and so is a
//! key that a complete list lacks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::policy::types::{Guards, Project};
use crate::rotation::key::{Hindrance, KeyId, ListedKey};
use crate::rotation::observed::WrittenBefore;
use crate::rotation::project::Cloud;
use crate::rotation::rule::{Names, Rule};

/// So long a refused write is not tried again. The reason may pass: a region gets rotation, a replica becomes a key of
/// its own.
const REFUSAL_HOLDS: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known from earlier runs, by the project's name.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<Arc<str>, Known>>);

/// What is known of one project.
#[derive(Debug)]
struct Known {
    place: Place,
    keys: HashMap<KeyId, Remembered>,
    /// The last complete list of its keys.
    listing: Arc<[ListedKey]>,
    /// The cloud has told the setting of one of its keys.
    is_readable: bool,
}

/// Where a project is in the cloud: a new policy may call another one by the same name.
type Place = (Cloud, Arc<str>, Option<String>, Option<String>);

fn place(project: &Project) -> Place {
    (project.cloud, Arc::clone(&project.region), project.project_id.clone(), project.kms_endpoint.clone())
}

#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    /// What was last written to a key whose setting cannot be read.
    pub(super) written: WrittenBefore,
    /// The name that a description gave, since most runs ask for none.
    pub(super) alias: Option<Box<str>>,
    /// What the refusal of a write told that stands in the way of rotating it, where no list says so; and when.
    pub(super) hindrance: Option<(Hindrance, SystemTime)>,
    /// When runs had to change the key.
    repairs: Vec<SystemTime>,
}

impl Memory {
    /// A run over these projects begins: what is known of others is forgotten.
    pub(super) fn begin_run<'p>(&self, projects: impl Iterator<Item = &'p Project>) {
        let mut before = std::mem::take(&mut *self.lock());
        let known = projects.map(|project| {
            let known = before.remove(&project.name).filter(|known| known.place == place(project));
            let known = known.unwrap_or_else(|| Known {
                place: place(project),
                keys: HashMap::new(),
                listing: Arc::default(),
                is_readable: false,
            });
            (Arc::clone(&project.name), known)
        });
        *self.lock() = known.collect();
    }

    pub(super) fn recall(&self, project: &Arc<str>, key_id: KeyId) -> Remembered {
        self.of(project, |known| known.keys.get(&key_id).cloned()).flatten().unwrap_or_default()
    }

    pub(super) fn update(&self, project: &Arc<str>, key_id: KeyId, change: impl FnOnce(&mut Remembered)) {
        self.of(project, |known| change(known.keys.entry(key_id).or_default()));
    }

    /// The keys that the project was last known to have.
    pub(super) fn listing(&self, project: &Arc<str>) -> Arc<[ListedKey]> {
        self.of(project, |known| Arc::clone(&known.listing)).unwrap_or_default()
    }

    /// Keeps a complete list, and forgets the keys that are neither on it nor named by their ids.
    pub(super) fn keep_listing(&self, project: &Project, listing: Arc<[ListedKey]>) {
        let named = project.keys.iter().filter_map(|rule: &Rule| match rule.names {
            Names::Key(key_id) => Some(key_id),
            _ => None,
        });
        let there: HashSet<KeyId> = listing.iter().map(|key| key.key_id).chain(named).collect();
        self.of(&project.name, |known| {
            known.keys.retain(|key_id, _| there.contains(key_id));
            known.listing = listing;
        });
    }

    /// The cloud has told the setting of one of the project's keys.
    pub(super) fn remember_readable(&self, project: &Arc<str>) {
        self.of(project, |known| known.is_readable = true);
    }

    /// Whether the cloud has ever told the setting of one of the project's keys.
    pub(super) fn is_readable(&self, project: &Arc<str>) -> bool {
        self.of(project, |known| known.is_readable).unwrap_or_default()
    }

    /// Forgets why keys were left alone.
    pub(super) fn forgive(&self) {
        for key in self.lock().values_mut().flat_map(|known| known.keys.values_mut()) {
            key.repairs.clear();
            key.hindrance = None;
        }
    }

    /// How many projects and keys something is known of.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let known = self.lock();
        (known.len(), known.values().map(|known| known.keys.len()).sum())
    }

    /// Looks at what is known of a project of the run that is under way.
    fn of<T>(&self, project: &Arc<str>, look: impl FnOnce(&mut Known) -> T) -> Option<T> {
        self.lock().get_mut(project).map(look)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    /// What is known to stand in the way of rotating the key.
    pub(super) fn hindrance(&self, now: SystemTime) -> Option<Hindrance> {
        let (hindrance, since) = self.hindrance?;
        now.duration_since(since).is_ok_and(|ago| ago < REFUSAL_HOLDS).then_some(hindrance)
    }

    /// Whether the key was repaired so often lately that somebody seems to work against it.
    pub(super) fn is_flapping(&self, now: SystemTime, guards: Guards) -> bool {
        let lately = |at: &&SystemTime| now.duration_since(**at).is_ok_and(|ago| ago < guards.flap_window);
        self.repairs.iter().filter(lately).count() >= guards.flap_repairs
    }

    /// The key was repaired. Only as many repairs are kept as it takes to tell that it flaps.
    pub(super) fn repaired(&mut self, now: SystemTime, guards: Guards) {
        self.repairs.push(now);
        let surplus = self.repairs.len().saturating_sub(guards.flap_repairs);
        self.repairs.drain(..surplus);
    }
}
