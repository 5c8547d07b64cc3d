//! The state of the simulated cloud: plain data, and small methods that keep it consistent.
//!
//! A [`Setup`] creates it, `dispatch` changes it by requests, and `handle` shows it to tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use fastrand::Rng;

use super::answer::RequestId;
use super::behaviour::{Behaviour, Dialect};
use super::cassette::Cassette;
use super::credentials::access_key::AccessKeys;
use super::credentials::identity::{Agency, Permissions, Scope, Trust, User, made_up_id};
use super::credentials::lockout::Lockout;
use super::credentials::token::{Token, Tokens};
use super::job::Job;
use super::journal::{Counts, Journal, ProjectJournal};
use super::key::Key;
use super::keys::Keys;
use super::rule::FaultRules;
use super::setup::{Clock, ProjectSetup, Setup};
use super::timeline::{Action, Timeline};

/// The simulated cloud.
pub(super) struct World {
    pub(super) behaviour: Behaviour,
    /// Recorded answers, given instead of the documented ones.
    pub(super) cassette: Option<Arc<Cassette>>,
    pub(super) projects: HashMap<String, Project>,
    pub(super) users: Vec<User>,
    pub(super) fault_rules: FaultRules,
    pub(super) counts: Counts,
    pub(super) authentication_failures: u64,
    pub(super) token_length: usize,
    pub(super) url: String,
    /// The lockout of all access to KMS.
    pub(super) access_lock: Lockout,
    pub(super) tokens: Tokens,
    pub(super) access_keys: AccessKeys,
    pub(super) agencies: Vec<Agency>,
    /// The accepted token of each identity provider.
    pub(super) id_tokens: HashMap<String, String>,
    /// Agencies that trust a provider at STS.
    pub(super) trusts: Vec<Trust>,
    /// The token that the node's agent accepts; `None` if there is no agent.
    pub(super) pod_token: Option<String>,
    /// Tokens of the metadata service, and when they expire.
    pub(super) metadata_tokens: HashMap<Box<str>, SystemTime>,
    /// How much is recorded of each call.
    pub(super) journal: Journal,
    /// Number of keys that were added so far, to all projects.
    keys_added: usize,
    timeline: Timeline,
    clock: Clock,
    pub(super) rng: Rng,
}

/// A project of the cloud.
pub(super) struct Project {
    pub(super) name: String,
    pub(super) domain_name: String,
    pub(super) dialect: Option<Dialect>,
    pub(super) keys: Keys,
    pub(super) journal: ProjectJournal,
}

impl World {
    pub(super) fn new(setup: Setup, url: String) -> Self {
        let mut world = Self {
            behaviour: setup.behaviour,
            cassette: setup.cassette.map(Arc::new),
            projects: HashMap::new(),
            users: setup.logins.into_iter().map(|login| User { login, lock: Lockout::default() }).collect(),
            fault_rules: FaultRules::new(setup.rules, setup.seed),
            counts: Counts::default(),
            authentication_failures: 0,
            token_length: setup.token_length,
            url,
            access_lock: Lockout::default(),
            tokens: Tokens::default(),
            access_keys: AccessKeys::default(),
            agencies: setup.agencies,
            id_tokens: setup.id_tokens.into_iter().collect(),
            trusts: setup.trusts,
            pod_token: setup.pod_token,
            metadata_tokens: HashMap::new(),
            journal: setup.journal,
            keys_added: 0,
            timeline: Timeline::new(setup.timeline),
            clock: setup.clock,
            // Not the sequence of the faults, which must not depend on the number of logins.
            rng: Rng::with_seed(!setup.seed),
        };
        for (access, secret) in setup.access_keys {
            world.access_keys.set(&access, &secret);
        }
        for project in setup.projects {
            world.add_project(project);
        }
        world
    }

    /// Adds a project, or adds keys and tokens to an existing one.
    pub(super) fn add_project(&mut self, setup: ProjectSetup) {
        for token in setup.tokens {
            self.add_token(token.into(), &setup.id, None);
        }
        self.projects.entry(setup.id.clone()).or_insert_with(|| Project {
            name: setup.name,
            domain_name: setup.domain_name,
            dialect: setup.dialect,
            keys: Keys::default(),
            journal: ProjectJournal::default(),
        });
        self.add_keys(&setup.id, setup.keys);
    }

    /// Adds keys, or replaces the keys with their ids. Does nothing if the project does not exist.
    pub(super) fn add_keys(&mut self, project_id: &str, keys: impl IntoIterator<Item = Key>) {
        self.add_keys_at(project_id, keys, self.now());
    }

    fn add_keys_at(&mut self, project_id: &str, keys: impl IntoIterator<Item = Key>, now: SystemTime) {
        let every = self.behaviour.forgets_every;
        let Some(project) = self.projects.get_mut(project_id) else { return };
        let keys = keys.into_iter().map(|key| {
            self.keys_added += 1;
            let forgotten = every.is_some_and(|every| self.keys_added.is_multiple_of(every));
            if forgotten { key.forgotten_before_its_last_rotation() } else { key }
        });
        project.keys.extend(keys, now);
    }

    /// The keys of a project, and the job that rotates them, at this moment.
    pub(super) fn keys(&mut self, project_id: &str) -> Option<(&mut Keys, Job<'_>)> {
        self.keys_at(project_id, self.now())
    }

    fn keys_at(&mut self, project_id: &str, now: SystemTime) -> Option<(&mut Keys, Job<'_>)> {
        let project = self.projects.get_mut(project_id)?;
        Some((&mut project.keys, Job { behaviour: &self.behaviour, now }))
    }

    /// Carries out the actions of the timeline until now.
    pub(super) fn catch_up(&mut self) {
        let now = self.now();
        while let Some((at, action)) = self.timeline.take_due(now) {
            match action {
                Action::AddKey { project_id, key } => self.add_keys_at(&project_id, [*key], at),
                Action::ChangeKey { project_id, key_id, change } => {
                    if let Some((keys, job)) = self.keys_at(&project_id, at) {
                        keys.change(&key_id, &job, change);
                    }
                }
                Action::BeginOutage => self.fault_rules.set_outage(true),
                Action::EndOutage => self.fault_rules.set_outage(false),
            }
        }
    }

    /// Changes the behaviour; rotations until now are those of the old one.
    pub(super) fn behave(&mut self, change: impl FnOnce(&mut Behaviour)) {
        let (now, before) = (self.now(), self.behaviour.clone());
        change(&mut self.behaviour);
        let (before, after) = (Job { behaviour: &before, now }, Job { behaviour: &self.behaviour, now });
        self.projects.values_mut().for_each(|project| project.keys.change_job(&before, &after));
    }

    /// Adds a token for a project that IAM did not issue.
    pub(super) fn add_token(&mut self, text: Box<str>, project_id: &str, expires: Option<SystemTime>) {
        let (scope, permissions) = (Scope::Project(project_id.into()), Permissions::Project(project_id.into()));
        self.tokens.add(text, Token::new(scope, permissions, expires), self.now());
    }

    /// The id of an account: from its agency, or derived from its name.
    pub(super) fn domain_id(&self, domain_name: &str) -> String {
        let agency = self.agencies.iter().find(|agency| agency.domain_name == domain_name);
        agency.map_or_else(|| made_up_id(domain_name), |agency| agency.domain_id.clone())
    }

    /// The name of the account with this id.
    pub(super) fn domain_name(&self, id: &str) -> Option<String> {
        let accounts = self.projects.values().map(|project| project.domain_name.as_str());
        let accounts = accounts.chain(self.users.iter().map(|user| user.login.domain_name.as_str()));
        let mut accounts = accounts.chain(self.agencies.iter().map(|agency| agency.domain_name.as_str()));
        accounts.find(|name| self.domain_id(name) == id).map(ToOwned::to_owned)
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        format!("{:032x}", self.rng.u128(..))
    }
}

/// The world of a running simulator.
pub(super) type Shared = Arc<Mutex<World>>;

/// Held for one request or one inspection, never across an `await`. A test that panics under it leaves the world
/// consistent, so poisoning is ignored.
pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
