//! One run: observe → decide → act → read back → report, for every key of every project.
//!
//! There is one path for all: a run that may not write stops where it would take its first step. Steps are taken one
//! at a time; after each the key is read and judged anew, so that what a run reports is what it last saw and never
//! what it hopes to have done.

mod key;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::clock::Clock;
use crate::kms::Kms;
use crate::policy::types::Project;
use crate::rotation::decide::Reason;
use crate::rotation::key::{KeyId, RotationInterval};
use crate::rotation::project::Mode;
use crate::rotation::report::{KeyReport, ProjectReport, Report, Trigger};

/// A project of the policy and the KMS that holds its keys.
pub struct Target<K> {
    /// What the policy says.
    pub project: Project,
    /// The cloud; or why it cannot even be asked.
    pub kms: Result<K, Unreachable>,
    /// How many keys are worked on at a time.
    pub concurrency: usize,
}

/// Why a project's cloud cannot even be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// There are no credentials to ask with.
    Credentials(String),
    /// There is no way there, such as with a `ca_file` that does not exist.
    Way(String),
}

/// Whether a run may write at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Bring keys to the policy, in projects that are in `enforce` mode.
    Apply,
    /// Only find out what would be written.
    Plan,
}

/// What this process remembers from run to run. Nothing that it judges a readable key by.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<(Arc<str>, KeyId), Remembered>>);

#[derive(Clone, Debug, Default)]
struct Remembered {
    /// The interval that was last written to a key whose setting cannot be read.
    written: Option<RotationInterval>,
    /// The name that a description gave, since most runs ask for none.
    alias: Option<Box<str>>,
}

impl Memory {
    fn recall(&self, project: &Arc<str>, key_id: KeyId) -> Remembered {
        self.with(|known| known.get(&(Arc::clone(project), key_id)).cloned()).unwrap_or_default()
    }

    fn update(&self, project: &Arc<str>, key_id: KeyId, change: impl FnOnce(&mut Remembered)) {
        self.with(|known| change(known.entry((Arc::clone(project), key_id)).or_default()));
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashMap<(Arc<str>, KeyId), Remembered>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What runs need of the world.
#[derive(Default)]
pub struct Reconciler {
    /// The time of day, for reports.
    pub clock: Clock,
    /// Ends a run early: calls in flight are finished, no further ones are made.
    pub stop: CancellationToken,
    /// What is known from earlier runs.
    pub memory: Memory,
}

impl Reconciler {
    /// Looks at every key once and, where that is intended and allowed, brings it to its policy. Projects run side by
    /// side, so that none waits for another.
    pub async fn run<K: Kms>(&self, targets: &[Target<K>], trigger: Trigger, intent: Intent) -> Report {
        let (started, began) = (self.clock.now(), Instant::now());
        // All of them first: projects may share their credentials, and one must not forget what another has just learnt.
        targets.iter().filter_map(|target| target.kms.as_ref().ok()).for_each(Kms::begin_run);
        let projects = join_all(targets.iter().map(|target| self.project(target, intent))).await;
        let (ended, took) = (self.clock.now(), began.elapsed());
        Report { trigger, started, ended, took, interrupted: self.stop.is_cancelled(), projects }
    }

    async fn project<K: Kms>(&self, target: &Target<K>, intent: Intent) -> ProjectReport {
        let Target { project, kms, concurrency } = target;
        let failure = Mutex::new(None);
        let keys = match kms {
            Err(why) => {
                let (reason, text) = match why {
                    Unreachable::Credentials(text) => (Reason::AuthenticationFailed, text),
                    Unreachable::Way(text) => (Reason::ReadFailed, text),
                };
                error!(project = &*project.name, error = text, "project cannot be reached");
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.as_str().into());
                project.keys.iter().map(|entry| key::unreachable(entry, reason)).collect()
            }
            Ok(kms) => {
                let may_write = intent == Intent::Apply && project.mode == Mode::Enforce;
                let run = key::KeyRun { kms, project: &project.name, reconciler: self, may_write, failure: &failure };
                let mut done: Vec<(usize, KeyReport)> = stream::iter(project.keys.iter().enumerate())
                    .map(|(at, entry)| {
                        let run = &run;
                        async move { (at, run.reconcile(entry).await) }
                    })
                    .buffer_unordered(*concurrency)
                    .collect()
                    .await;
                done.sort_unstable_by_key(|(at, _)| *at);
                done.into_iter().map(|(_, report)| report).collect()
            }
        };
        ProjectReport {
            name: Arc::clone(&project.name),
            cloud: project.cloud,
            region: Arc::clone(&project.region),
            mode: project.mode,
            failure: failure.into_inner().unwrap_or_else(PoisonError::into_inner),
            keys,
        }
    }
}
