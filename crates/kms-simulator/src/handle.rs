//! The test's side of a running simulator: looks at the cloud behind the wire, and changes it.

use std::time::SystemTime;

use serde_json::Value;

use super::behaviour::Behaviour;
use super::journal::Call;
use super::key::Key;
use super::operation::{Operation, OperationSet};
use super::rule::Rule;
use super::server::{Shared, lock};
use super::setup::ProjectSetup;

/// A view of a running simulator; clones share it. What it changes holds from the next request on.
#[derive(Clone)]
pub struct Handle {
    world: Shared,
}

impl Handle {
    pub(super) fn new(world: Shared) -> Self {
        Self { world }
    }

    /// Adds a project, or more keys and tokens to the one with its id.
    pub fn add_project(&self, project: ProjectSetup) {
        lock(&self.world).add_project(project);
    }

    /// Adds a key, or replaces the one with its id. A project that does not exist gets none.
    pub fn set_key(&self, project_id: &str, key: Key) {
        if let Some(project) = lock(&self.world).projects.get_mut(project_id) {
            project.keys.extend([key]);
        }
    }

    /// Changes a key behind the client's back: its name, tags, state, rotation, all but its id; says whether there is
    /// one.
    pub fn change_key(&self, project_id: &str, key_id: &str, change: impl FnOnce(&mut Key)) -> bool {
        let mut world = lock(&self.world);
        world.projects.get_mut(project_id).is_some_and(|project| project.keys.change(key_id, change))
    }

    /// Takes a key away, as the end of its deletion does.
    pub fn remove_key(&self, project_id: &str, key_id: &str) {
        if let Some(project) = lock(&self.world).projects.get_mut(project_id) {
            project.keys.remove(key_id);
        }
    }

    /// A key as it really is, whatever status reads show yet.
    #[must_use]
    pub fn key(&self, project_id: &str, key_id: &str) -> Option<Key> {
        Some(lock(&self.world).projects.get(project_id)?.keys.get(key_id)?.key.clone())
    }

    /// Every key of a project as it really is, by id.
    #[must_use]
    pub fn keys(&self, project_id: &str) -> Vec<Key> {
        let world = lock(&self.world);
        let keys = world.projects.get(project_id).map(|project| project.keys.iter());
        keys.into_iter().flatten().map(|stored| stored.key.clone()).collect()
    }

    /// Changes the cloud's behaviour.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.world).behaviour);
    }

    /// Adds a rule for faults, after those in force.
    pub fn fault(&self, rule: Rule) {
        lock(&self.world).script.add(rule);
    }

    /// Takes all rules for faults away, latency among them.
    pub fn clear_faults(&self) {
        lock(&self.world).script.clear();
    }

    /// How many requests a fault has struck; a mere delay is none.
    #[must_use]
    pub fn faults_struck(&self) -> u64 {
        lock(&self.world).script.struck()
    }

    /// Makes every token invalid, as a changed password or permission does.
    pub fn revoke_tokens(&self) {
        lock(&self.world).revoke_tokens();
    }

    /// Makes a token valid for a project; without a time it does not expire.
    pub fn add_token(&self, project_id: &str, token: &str, expires: Option<SystemTime>) {
        lock(&self.world).add_token(token.into(), project_id, expires);
    }

    /// Gives a user another password and unlocks it; tokens live on unless they are revoked as well.
    pub fn set_password(&self, user_name: &str, domain_name: &str, password: &str) {
        let mut world = lock(&self.world);
        let mut users = world.users.iter_mut().map(|user| (&mut user.login, &mut user.lock));
        let named = users.find(|(login, _)| login.user_name == user_name && login.domain_name == domain_name);
        if let Some((login, user_lock)) = named {
            password.clone_into(&mut login.password);
            user_lock.succeeded();
        }
    }

    /// The id of a user, where there is one of this name.
    #[must_use]
    pub fn user_id(&self, user_name: &str, domain_name: &str) -> Option<String> {
        let world = lock(&self.world);
        let mut logins = world.users.iter().map(|user| &user.login);
        let login = logins.find(|login| login.user_name == user_name && login.domain_name == domain_name)?;
        Some(super::agency::user_id(&login.user_name, &login.domain_name))
    }

    /// The id of an account.
    #[must_use]
    pub fn domain_id(&self, domain_name: &str) -> String {
        lock(&self.world).domain_id(domain_name)
    }

    /// Adds a permanent access key, or gives the one that there is another secret. A lock holds on.
    pub fn set_access_key(&self, access: &str, secret: &str) {
        lock(&self.world).access_keys.set(access, secret);
    }

    /// Takes an access key away, permanent or temporary.
    pub fn revoke_access_key(&self, access: &str) {
        lock(&self.world).access_keys.revoke(access);
    }

    /// Takes all temporary access keys away.
    pub fn revoke_temporary_keys(&self) {
        lock(&self.world).access_keys.revoke_temporary();
    }

    /// Makes the metadata service forget the tokens that it gave, as a restart does.
    pub fn revoke_metadata_tokens(&self) {
        lock(&self.world).metadata_tokens.clear();
    }

    /// Accepts this token of an identity provider and none that was accepted before.
    pub fn set_id_token(&self, provider_id: &str, accepted_jwt: &str) {
        lock(&self.world).id_tokens.insert(provider_id.to_owned(), accepted_jwt.to_owned());
    }

    /// Accepts this token of a provider at STS and none that was accepted before.
    pub fn set_oidc_token(&self, provider_urn: &str, accepted_jwt: &str) {
        let mut world = lock(&self.world);
        let trusts = world.trusts.iter_mut().filter(|trust| trust.provider_urn == provider_urn);
        trusts.for_each(|trust| accepted_jwt.clone_into(&mut trust.accepted));
    }

    /// Knows the pod by this token from now on.
    pub fn set_pod_token(&self, accepted_token: &str) {
        lock(&self.world).pod_token = Some(accepted_token.to_owned());
    }

    /// The access keys that requests came with so far, known or not, in order.
    #[must_use]
    pub fn access_keys_seen(&self) -> Vec<String> {
        lock(&self.world).access_keys.seen().map(ToOwned::to_owned).collect()
    }

    /// Requests with this access key so far, known or not, whatever became of them.
    #[must_use]
    pub fn access_key_requests(&self, access: &str) -> u64 {
        lock(&self.world).access_keys.record(access).requests
    }

    /// How many of them were refused as not authentic, by fault or for good reason.
    #[must_use]
    pub fn access_key_refusals(&self, access: &str) -> u64 {
        lock(&self.world).access_keys.record(access).refusals
    }

    /// Whether too many refusals have locked an access key.
    #[must_use]
    pub fn access_key_is_locked(&self, access: &str) -> bool {
        let world = lock(&self.world);
        world.access_keys.record(access).lock.holds(world.now())
    }

    /// Requests of this kind so far, whatever became of them.
    #[must_use]
    pub fn requests(&self, operation: Operation) -> u64 {
        lock(&self.world).counts.of(operation)
    }

    /// Requests of the KMS's writing calls so far, whatever became of them.
    #[must_use]
    pub fn write_requests(&self) -> u64 {
        let world = lock(&self.world);
        let writes = Operation::ALL.into_iter().filter(|operation| OperationSet::WRITES.contains(*operation));
        writes.map(|operation| world.counts.of(operation)).sum()
    }

    /// All requests so far.
    #[must_use]
    pub fn all_requests(&self) -> u64 {
        lock(&self.world).counts.total()
    }

    /// Requests of this kind for one key, whether the project has it or not.
    #[must_use]
    pub fn key_requests(&self, project_id: &str, key_id: &str, operation: Operation) -> u64 {
        self.of_key(project_id, key_id, |journal| journal.counts.of(operation))
    }

    /// Writes for one key that took effect, whatever was answered.
    #[must_use]
    pub fn writes_applied(&self, project_id: &str, key_id: &str) -> u64 {
        self.of_key(project_id, key_id, |journal| journal.applied)
    }

    /// Every interval that was ever sent for one key, in order, whatever became of it.
    #[must_use]
    pub fn intervals_sent(&self, project_id: &str, key_id: &str) -> Vec<Value> {
        self.of_key(project_id, key_id, |journal| journal.intervals.clone())
    }

    /// Every interval that was ever sent for the keys of a project: key id and interval.
    #[must_use]
    pub fn all_intervals_sent(&self, project_id: &str) -> Vec<(String, Value)> {
        let world = lock(&self.world);
        let of_keys = world.projects.get(project_id).map(|project| project.journal.intervals());
        let pairs = of_keys.into_iter().flatten().flat_map(|(key_id, intervals)| {
            intervals.iter().map(move |interval| (key_id.to_owned(), interval.clone()))
        });
        pairs.collect()
    }

    /// The calls for one key in order; empty where only counts are kept.
    #[must_use]
    pub fn calls(&self, project_id: &str, key_id: &str) -> Vec<Call> {
        self.of_key(project_id, key_id, |journal| journal.calls.clone())
    }

    /// Logins, tokens and signatures that were refused so far, by fault or for good reason.
    #[must_use]
    pub fn authentication_failures(&self) -> u64 {
        lock(&self.world).authentication_failures
    }

    /// Forgets all counts, intervals and calls; keys, tokens and faults stay.
    pub fn forget_requests(&self) {
        let mut world = lock(&self.world);
        world.counts = super::journal::Counts::default();
        world.authentication_failures = 0;
        world.access_keys.forget_requests();
        world.projects.values_mut().for_each(|project| project.journal.clear());
    }

    fn of_key<T: Default>(
        &self,
        project_id: &str,
        key_id: &str,
        look: impl FnOnce(&super::journal::KeyJournal) -> T,
    ) -> T {
        let world = lock(&self.world);
        world.projects.get(project_id).and_then(|project| project.journal.of(key_id)).map(look).unwrap_or_default()
    }
}
