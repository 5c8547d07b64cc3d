//! What this process remembers from run to run, project by project. The setting of a key that can be read is never
//! judged by it.
//!
//! It does not grow with runs or policies: a project that the policy does not name any more is forgotten, and so is a
//! key that a complete list lacks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::policy::types::{Guards, Project};
use crate::rotation::key::{Hindrance, KeyId, ListedKey, RotationInterval};
use crate::rotation::observed::WrittenBefore;
use crate::rotation::project::Cloud;
use crate::rotation::rule::{Names, Rule};

/// So long a refused write is not tried again. The reason may pass: a region gets rotation, a replica becomes a key of
/// its own.
const REFUSAL_HOLDS: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known from earlier runs, by the project's name.
#[derive(Debug, Default)]
pub struct Memory {
    projects: Mutex<HashMap<Arc<str>, Known>>,
    /// Projects of which the cloud has ever told the setting of a key. They are kept, since nothing takes it back.
    readable: Mutex<HashSet<Identity>>,
}

/// What is known of one project.
#[derive(Debug)]
struct Known {
    identity: Identity,
    keys: HashMap<KeyId, Remembered>,
    /// The last complete list of its keys.
    listing: Arc<[ListedKey]>,
}

/// Which project of the cloud it is, and where it is asked for: a new policy may call another one by the same name, and
/// the same one by another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    cloud: Cloud,
    region: Arc<str>,
    kms_endpoint: Option<String>,
    /// Its id in the cloud, or its name in the policy where that gives none.
    project: Result<String, Arc<str>>,
}

impl Identity {
    fn of(project: &Project) -> Self {
        Self {
            cloud: project.cloud,
            region: Arc::clone(&project.region),
            kms_endpoint: project.kms_endpoint.clone(),
            project: project.project_id.clone().ok_or_else(|| Arc::clone(&project.name)),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    /// What was last written to a key whose setting cannot be read.
    pub(super) written: WrittenBefore,
    /// The interval that is still to be sent to such a key, which this process has switched on or may have.
    pub(super) interval_due: Option<RotationInterval>,
    /// Such a key was on when it was asked to be enabled.
    pub(super) found_on: bool,
    /// The last write to the key failed.
    pub(super) write_failed: bool,
    /// The name that a description gave, since most runs ask for none.
    pub(super) alias: Option<Box<str>>,
    /// What the refusal of a write told that stands in the way of rotating it, where no list says so; and when.
    pub(super) hindrance: Option<(Hindrance, SystemTime)>,
    /// When runs had to change the key.
    repairs: Vec<SystemTime>,
}

impl Memory {
    /// A run over these projects begins: what is known of others is forgotten. One that has its id in the cloud is the
    /// same project under another name.
    pub(super) fn begin_run<'p>(&self, projects: impl Iterator<Item = &'p Project>) {
        let mut before = std::mem::take(&mut *self.lock());
        let known: Vec<_> = projects.map(|project| (project, before.remove(&project.name))).collect();
        let mut renamed: Vec<_> = before.into_values().collect();
        let known = known.into_iter().map(|(project, known)| {
            let identity = Identity::of(project);
            let known = known.filter(|known| known.identity == identity).or_else(|| {
                let at = renamed.iter().position(|known| known.identity == identity)?;
                Some(renamed.swap_remove(at))
            });
            let new = || Known { identity, keys: HashMap::new(), listing: Arc::default() };
            (Arc::clone(&project.name), known.unwrap_or_else(new))
        });
        *self.lock() = known.collect();
    }

    /// The keys of a project that are still to be sent an interval, and which. Whoever takes them sends them.
    pub(super) fn take_due_intervals(&self, project: &Arc<str>) -> Vec<(KeyId, RotationInterval)> {
        self.of(project, |known| {
            known.keys.iter_mut().filter_map(|(id, key)| Some((*id, key.interval_due.take()?))).collect()
        })
        .unwrap_or_default()
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

    /// Keeps a complete list, and forgets the keys that are neither on it nor named by their ids. An interval that is
    /// owed is not forgotten: the list may be wrong.
    pub(super) fn keep_listing(&self, project: &Project, listing: Arc<[ListedKey]>) {
        let named = project.keys.iter().filter_map(|rule: &Rule| match rule.names {
            Names::Key(key_id) => Some(key_id),
            _ => None,
        });
        let there: HashSet<KeyId> = listing.iter().map(|key| key.key_id).chain(named).collect();
        self.of(&project.name, |known| {
            known.keys.retain(|key_id, key| key.interval_due.is_some() || there.contains(key_id));
            known.listing = listing;
        });
    }

    /// The cloud has told the setting of one of the project's keys.
    pub(super) fn remember_readable(&self, project: &Project) {
        self.readable.lock().unwrap_or_else(PoisonError::into_inner).insert(Identity::of(project));
    }

    /// Whether the cloud has ever told the setting of one of the project's keys.
    pub(super) fn is_readable(&self, project: &Project) -> bool {
        self.readable.lock().unwrap_or_else(PoisonError::into_inner).contains(&Identity::of(project))
    }

    /// Forgets refused writes and repairs, so that keys that were left alone are tried again.
    pub(super) fn forget_refusals(&self) {
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
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
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
