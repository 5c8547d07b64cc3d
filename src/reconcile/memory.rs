//! What this process remembers from run to run, for each project. Whether a setting that can be read is on policy never
//! depends on it; whether the cloud rotates the key does.
//!
//! It does not grow with runs or policies: a project that is no longer in the policy is forgotten, and so is a key that
//! is missing on a complete list.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::project_failure::LoggedFailures;
use crate::policy::types::{Guards, Project};
use crate::rotation::key::{DAY, KeyId, ListedKey, RotationBlocker, RotationInterval};
use crate::rotation::material::History;
use crate::rotation::observed::WrittenBefore;
use crate::rotation::past::KeyPast;
use crate::rotation::project::Cloud;
use crate::rotation::rule::{Matcher, Rule};

/// How long a refused write is not sent again. The blocker may go away: a region gets rotation, a replica becomes a
/// primary key.
const REFUSAL_HOLDS: Duration = DAY;
/// How long an optional call about a key is not made again.
const OPTIONAL_CALLS_EVERY: Duration = DAY;

/// What is known of earlier runs, by the project's name.
#[derive(Debug, Default)]
pub struct Memory {
    projects: Mutex<HashMap<Arc<str>, KnownProject>>,
    /// Projects of which a key was ever read. They are never removed: a cloud that offered the setting once is expected
    /// to keep offering it.
    readable: Mutex<HashSet<CloudProject>>,
    /// What an earlier process has recorded, by the project's name; used when the project first runs.
    restored: Mutex<HashMap<Arc<str>, RestoredProject>>,
    pub(super) failures: LoggedFailures,
}

/// What an earlier process has recorded of a project.
#[derive(Clone, Debug)]
pub struct RestoredProject {
    pub cloud: String,
    pub region: String,
    pub endpoint: Option<String>,
    pub project_id: Option<String>,
    /// Whether a key of it was ever read.
    pub readable: bool,
    pub keys: Vec<(KeyId, KeyPast)>,
}

impl RestoredProject {
    /// Whether it is this project of the cloud, as far as the policy states which one.
    fn is(&self, project: &CloudProject) -> bool {
        let fits =
            |stated: Option<&str>, recorded: &Option<String>| stated.is_none_or(|it| Some(it) == recorded.as_deref());
        self.cloud == project.cloud.as_str()
            && self.region == *project.region
            && fits(project.kms_endpoint.as_deref(), &self.endpoint)
            && fits(project.project.as_deref().ok(), &self.project_id)
    }
}

/// What is known of one project.
#[derive(Debug)]
struct KnownProject {
    cloud_project: CloudProject,
    /// Boxed, since a table has up to twice as many places as keys.
    keys: HashMap<KeyId, Box<Remembered>>,
    /// Its keys on the last complete list.
    listing: Arc<[ListedKey]>,
}

/// The project in the cloud, and its endpoint: a new policy may use the same name for another project, and another name
/// for the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CloudProject {
    cloud: Cloud,
    region: Arc<str>,
    kms_endpoint: Option<String>,
    /// Its id in the cloud, or its name in the policy where that has no id.
    project: Result<String, Arc<str>>,
}

impl CloudProject {
    fn of(project: &Project) -> Self {
        Self {
            cloud: project.cloud,
            region: Arc::clone(&project.region),
            kms_endpoint: project.kms_endpoint.clone(),
            project: project.project_id.clone().ok_or_else(|| Arc::clone(&project.name)),
        }
    }
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    /// What was last written to a key whose setting cannot be read.
    pub(super) written: WrittenBefore,
    /// The interval that is still to be sent to such a key, since this process has switched it on, or may have.
    pub(super) interval_due: Option<RotationInterval>,
    /// That interval was sent because the program stops. It is not sent again.
    pub(super) is_sent_at_stop: bool,
    /// Such a key was on already when enabling was sent.
    pub(super) found_on: bool,
    /// The last write to the key failed.
    pub(super) write_failed: bool,
    /// The alias from the last description, since most runs do not describe the key.
    pub(super) alias: Option<Arc<str>>,
    /// What blocks its rotation, from the refusal of a write; and when that was.
    pub(super) blocker: Option<(RotationBlocker, SystemTime)>,
    /// What blocks its rotation, from its last description.
    pub(super) described: Option<RotationBlocker>,
    /// What its readings have shown.
    pub(super) history: History,
    /// When a call was last made about it that a run can do without.
    optional_call: Option<SystemTime>,
    /// When runs have repaired the key.
    repairs: Vec<SystemTime>,
}

impl Memory {
    /// A run of these projects begins: others are forgotten. A project with the same cloud project is the same one
    /// under a new name.
    pub(super) fn begin_run<'p>(&self, projects: impl Iterator<Item = &'p Project>) {
        let mut before = std::mem::take(&mut *self.lock());
        let known: Vec<_> = projects.map(|project| (project, before.remove(&project.name))).collect();
        let mut renamed: Vec<_> = before.into_values().collect();
        let known = known.into_iter().map(|(project, known)| {
            let cloud_project = CloudProject::of(project);
            let known = known.filter(|known| known.cloud_project == cloud_project).or_else(|| {
                let at = renamed.iter().position(|known| known.cloud_project == cloud_project)?;
                Some(renamed.swap_remove(at))
            });
            let new = || KnownProject {
                keys: self.restored_keys(&project.name, &cloud_project),
                cloud_project,
                listing: Arc::default(),
            };
            (Arc::clone(&project.name), known.unwrap_or_else(new))
        });
        let known: HashMap<_, _> = known.collect();
        self.failures.retain(|project| known.contains_key(project));
        *self.lock() = known;
    }

    /// Continues where an earlier process ended.
    pub fn restore(&self, projects: HashMap<Arc<str>, RestoredProject>) {
        *self.restored.lock().unwrap_or_else(PoisonError::into_inner) = projects;
    }

    /// What an earlier process has recorded of the keys of a project that now runs for the first time.
    fn restored_keys(&self, name: &Arc<str>, project: &CloudProject) -> HashMap<KeyId, Box<Remembered>> {
        let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(restored) = restored.filter(|restored| restored.is(project)) else { return HashMap::new() };
        if restored.readable {
            self.readable.lock().unwrap_or_else(PoisonError::into_inner).insert(project.clone());
        }
        let keys = restored.keys.into_iter();
        keys.map(|(key_id, past)| (key_id, Box::new(Remembered::from(past)))).collect()
    }

    /// What a later process must know of a key.
    pub(super) fn past(&self, project: &str, key_id: KeyId) -> KeyPast {
        let Remembered { history, repairs, blocker, described, interval_due, .. } = self.recall(project, key_id);
        let described = described.filter(|blocker| !blocker.is_permanent());
        KeyPast { history, repairs, refused: blocker, described, interval_due }
    }

    /// The intervals that are still to be sent to keys of the project, each once. The caller sends them. A key that is
    /// known to refuse writes, since it is disabled or the like, has none.
    pub(super) fn intervals_at_stop(&self, project: &Arc<str>) -> Vec<(KeyId, RotationInterval)> {
        let is_open = |key: &Remembered| key.described.is_none() && key.blocker.is_none() && !key.is_sent_at_stop;
        self.of(project, |known| {
            let keys = known.keys.iter_mut().filter(|(_, key)| is_open(key));
            let due = keys.filter_map(|(id, key)| {
                let interval = key.interval_due?;
                key.is_sent_at_stop = true;
                Some((*id, interval))
            });
            due.collect()
        })
        .unwrap_or_default()
    }

    pub(super) fn recall(&self, project: &str, key_id: KeyId) -> Remembered {
        self.of(project, |known| known.keys.get(&key_id).map(|key| Remembered::clone(key)))
            .flatten()
            .unwrap_or_default()
    }

    /// The key's name, by the last list or description.
    pub(super) fn alias(&self, project: &str, key_id: KeyId) -> Option<Arc<str>> {
        let listed = |known: &mut KnownProject| {
            known.listing.iter().find(|key| key.key_id == key_id).and_then(|key| key.description.alias.clone())
        };
        self.of(project, listed).flatten().or_else(|| self.recall(project, key_id).alias)
    }

    pub(super) fn update(&self, project: &Arc<str>, key_id: KeyId, change: impl FnOnce(&mut Remembered)) {
        self.of(project, |known| change(known.keys.entry(key_id).or_default()));
    }

    /// The project's keys on the last complete list.
    pub(super) fn listing(&self, project: &Arc<str>) -> Arc<[ListedKey]> {
        self.of(project, |known| Arc::clone(&known.listing)).unwrap_or_default()
    }

    /// The aliases on the last complete lists of all projects.
    #[must_use]
    pub fn aliases(&self) -> Vec<Box<str>> {
        let known = self.lock();
        let keys = known.values().flat_map(|known| known.listing.iter());
        keys.filter_map(|key| key.alias().map(Into::into)).collect()
    }

    /// Keeps a complete list, and forgets keys that are neither on it nor named by their ids. A key whose interval is
    /// due is not forgotten, since the list may be wrong.
    pub(super) fn keep_listing(&self, project: &Project, listing: Arc<[ListedKey]>) {
        let named = project.keys.iter().filter_map(|rule: &Rule| match rule.matcher {
            Matcher::Key(key_id) => Some(key_id),
            _ => None,
        });
        let there: HashSet<KeyId> = listing.iter().map(|key| key.key_id).chain(named).collect();
        self.of(&project.name, |known| {
            known.keys.retain(|key_id, key| key.interval_due.is_some() || there.contains(key_id));
            known.listing = listing;
        });
    }

    /// A key of the project was read.
    pub(super) fn remember_readable(&self, project: &Project) {
        self.readable.lock().unwrap_or_else(PoisonError::into_inner).insert(CloudProject::of(project));
    }

    /// Whether a key of the project was ever read.
    pub(super) fn is_readable(&self, project: &Project) -> bool {
        self.readable.lock().unwrap_or_else(PoisonError::into_inner).contains(&CloudProject::of(project))
    }

    /// Forgets refused writes and repairs, so that keys that were left alone are tried again.
    pub(super) fn forget_refusals(&self) {
        for key in self.lock().values_mut().flat_map(|known| known.keys.values_mut()) {
            key.repairs.clear();
            key.blocker = None;
        }
    }

    /// Numbers of projects and keys.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let known = self.lock();
        (known.len(), known.values().map(|known| known.keys.len()).sum())
    }

    /// Calls `look` with a project of the run under way.
    fn of<T>(&self, project: &str, look: impl FnOnce(&mut KnownProject) -> T) -> Option<T> {
        self.lock().get_mut(project).map(look)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, KnownProject>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<KeyPast> for Remembered {
    fn from(KeyPast { history, repairs, refused, described, interval_due }: KeyPast) -> Self {
        let written = if interval_due.is_some() { WrittenBefore::IntervalDue } else { WrittenBefore::Nothing };
        Self { written, interval_due, history, repairs, blocker: refused, described, ..Self::default() }
    }
}

impl Remembered {
    /// What blocks the key's rotation, unless that is too long ago.
    pub(super) fn blocker(&self, now: SystemTime) -> Option<RotationBlocker> {
        let (blocker, since) = self.blocker?;
        now.duration_since(since).is_ok_and(|ago| ago < REFUSAL_HOLDS).then_some(blocker)
    }

    /// Whether a call about the key that a run can do without is due.
    pub(super) fn is_optional_call_due(&self, now: SystemTime) -> bool {
        // A clock that was set back leaves times in the future.
        self.optional_call.is_none_or(|at| now.duration_since(at).map_or(true, |ago| ago >= OPTIONAL_CALLS_EVERY))
    }

    /// Such a call was made.
    pub(super) fn optional_call_made(&mut self, now: SystemTime) {
        self.optional_call = Some(now);
    }

    /// Whether the key was repaired so often lately that something seems to keep changing it back.
    pub(super) fn is_flapping(&self, now: SystemTime, guards: Guards) -> bool {
        let lately = |at: &&SystemTime| now.duration_since(**at).is_ok_and(|ago| ago < guards.flap_window);
        self.repairs.iter().filter(lately).count() >= guards.flap_repairs
    }

    /// The key was repaired. Only as many repairs are kept as `is_flapping` counts.
    pub(super) fn repaired(&mut self, now: SystemTime, guards: Guards) {
        self.repairs.push(now);
        let surplus = self.repairs.len().saturating_sub(guards.flap_repairs);
        self.repairs.drain(..surplus);
    }
}
