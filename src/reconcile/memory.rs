//! What this process remembers from run to run. Nothing that it judges a readable key by.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::policy::types::{Guards, Project};
use crate::rotation::key::{Hindrance, KeyId, ListedKey};
use crate::rotation::observed::WrittenBefore;
use crate::rotation::project::Cloud;

/// So long a refused write is not tried again. The reason may pass: a region gets rotation, a replica becomes a key of
/// its own.
const REFUSAL_HOLDS: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known from earlier runs.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<(Arc<str>, KeyId), Remembered>,
    /// The last complete list of each project's keys.
    listings: HashMap<Arc<str>, (Place, Arc<[ListedKey]>)>,
    /// The keys whose setting the cloud has told.
    readable: HashSet<KeyId>,
}

/// Where a project is in the cloud: a new policy may call another one by the same name.
type Place = (Cloud, Arc<str>, Option<String>);

fn place(project: &Project) -> Place {
    (project.cloud, Arc::clone(&project.region), project.project_id.clone())
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
    pub(super) fn recall(&self, project: &Arc<str>, key_id: KeyId) -> Remembered {
        self.lock().keys.get(&(Arc::clone(project), key_id)).cloned().unwrap_or_default()
    }

    pub(super) fn update(&self, project: &Arc<str>, key_id: KeyId, change: impl FnOnce(&mut Remembered)) {
        change(self.lock().keys.entry((Arc::clone(project), key_id)).or_default());
    }

    /// The keys that the project was last known to have.
    pub(super) fn listing(&self, project: &Project) -> Arc<[ListedKey]> {
        match self.lock().listings.get(&project.name) {
            Some((of, listing)) if *of == place(project) => Arc::clone(listing),
            _ => Arc::default(),
        }
    }

    pub(super) fn keep_listing(&self, project: &Project, listing: Arc<[ListedKey]>) {
        self.lock().listings.insert(Arc::clone(&project.name), (place(project), listing));
    }

    /// The cloud has told the key's setting.
    pub(super) fn remember_readable(&self, key_id: KeyId) {
        self.lock().readable.insert(key_id);
    }

    /// Whether the cloud has told the key's setting since this was last asked.
    pub(super) fn forget_readable(&self, key_id: KeyId) -> bool {
        self.lock().readable.remove(&key_id)
    }

    /// Forgets why keys were left alone.
    pub(super) fn forgive(&self) {
        for key in self.lock().keys.values_mut() {
            key.repairs.clear();
            key.hindrance = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
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
