//! Access of tests to a running simulator: they inspect the cloud and change it, without a request.

use std::time::SystemTime;

use serde_json::Value;

use super::behaviour::Behaviour;
use super::journal::Call;
use super::key::Key;
use super::operation::{Operation, OperationSet};
use super::rule::Rule;
use super::world::{Shared, lock};

/// Inspects and changes a running simulator; clones share it. Changes apply from the next request on.
#[derive(Clone)]
pub struct Handle {
    world: Shared,
}

impl Handle {
    pub(super) fn new(world: Shared) -> Self {
        Self { world }
    }

    /// Adds a key, or replaces the key with this id. Does nothing if the project does not exist.
    pub fn set_key(&self, project_id: &str, key: Key) {
        lock(&self.world).add_keys(project_id, [key]);
    }

    /// Changes everything of a key but its id: name, tags, state, rotation. Returns whether the key exists.
    ///
    /// A changed rotation setting starts a new period. If the key is overdue when it is enabled again, or no longer
    /// forgotten, it rotates [`Behaviour::rotation_delay`] after the change (`docs/kms-api.md` 2.1).
    pub fn change_key(&self, project_id: &str, key_id: &str, change: impl FnOnce(&mut Key)) -> bool {
        lock(&self.world).keys(project_id).is_some_and(|(keys, job)| keys.change(key_id, &job, change))
    }

    /// Deletes a key.
    pub fn remove_key(&self, project_id: &str, key_id: &str) {
        if let Some(project) = lock(&self.world).projects.get_mut(project_id) {
            project.keys.remove(key_id);
        }
    }

    /// A key as stored, with its rotations until now, also if status reads still return the old setting.
    #[must_use]
    pub fn key(&self, project_id: &str, key_id: &str) -> Option<Key> {
        let mut world = lock(&self.world);
        world.catch_up();
        let (keys, job) = world.keys(project_id)?;
        Some(keys.get_mut(key_id, &job)?.key.clone())
    }

    /// Every key of a project as stored, with its rotations until now, ordered by id.
    #[must_use]
    pub fn keys(&self, project_id: &str) -> Vec<Key> {
        let mut world = lock(&self.world);
        world.catch_up();
        let Some((keys, job)) = world.keys(project_id) else { return Vec::new() };
        keys.all(&job).map(|stored| stored.key.clone()).collect()
    }

    /// Changes the cloud's behaviour from the next request on. If it rotates keys again, overdue ones rotate
    /// [`Behaviour::rotation_delay`] after the change.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        lock(&self.world).behave(change);
    }

    /// Adds a rule for faults, after the existing ones.
    pub fn fault(&self, rule: Rule) {
        lock(&self.world).fault_rules.add(rule);
    }

    /// Removes all rules for faults, and with them latency.
    pub fn clear_faults(&self) {
        lock(&self.world).fault_rules.clear();
    }

    /// Number of requests with a fault; delays do not count.
    #[must_use]
    pub fn faults_injected(&self) -> u64 {
        lock(&self.world).fault_rules.faults_injected()
    }

    /// Revokes every token, as a changed password or permission does (`docs/kms-api.md` 5.1).
    pub fn revoke_tokens(&self) {
        lock(&self.world).tokens.revoke_all();
    }

    /// Adds a token for a project; without `expires` it does not expire.
    pub fn add_token(&self, project_id: &str, token: &str, expires: Option<SystemTime>) {
        lock(&self.world).add_token(token.into(), project_id, expires);
    }

    /// Changes a user's password and unlocks the user. Tokens stay valid.
    pub fn set_password(&self, user_name: &str, domain_name: &str, password: &str) {
        let mut world = lock(&self.world);
        let mut users = world.users.iter_mut().map(|user| (&mut user.login, &mut user.lock));
        let named = users.find(|(login, _)| login.user_name == user_name && login.domain_name == domain_name);
        if let Some((login, user_lock)) = named {
            password.clone_into(&mut login.password);
            user_lock.succeeded();
        }
    }

    /// The id of a user; `None` if no user has this name.
    #[must_use]
    pub fn user_id(&self, user_name: &str, domain_name: &str) -> Option<String> {
        let world = lock(&self.world);
        let mut logins = world.users.iter().map(|user| &user.login);
        let login = logins.find(|login| login.user_name == user_name && login.domain_name == domain_name)?;
        Some(super::credentials::identity::user_id(&login.user_name, &login.domain_name))
    }

    /// The id of an account.
    #[must_use]
    pub fn domain_id(&self, domain_name: &str) -> String {
        lock(&self.world).domain_id(domain_name)
    }

    /// Adds a permanent access key, or replaces its secret. A lockout stays.
    pub fn set_access_key(&self, access: &str, secret: &str) {
        lock(&self.world).access_keys.set(access, secret);
    }

    /// Deletes an access key, permanent or temporary.
    pub fn revoke_access_key(&self, access: &str) {
        lock(&self.world).access_keys.revoke(access);
    }

    /// Deletes all temporary access keys.
    pub fn revoke_temporary_keys(&self) {
        lock(&self.world).access_keys.revoke_temporary();
    }

    /// Revokes the tokens of the metadata service, as a restart does.
    pub fn revoke_metadata_tokens(&self) {
        lock(&self.world).metadata_tokens.clear();
    }

    /// Replaces the accepted token of an identity provider.
    pub fn set_id_token(&self, provider_id: &str, accepted_jwt: &str) {
        lock(&self.world).id_tokens.insert(provider_id.to_owned(), accepted_jwt.to_owned());
    }

    /// Replaces the accepted token of a provider at STS.
    pub fn set_oidc_token(&self, provider_urn: &str, accepted_jwt: &str) {
        let mut world = lock(&self.world);
        let trusts = world.trusts.iter_mut().filter(|trust| trust.provider_urn == provider_urn);
        trusts.for_each(|trust| accepted_jwt.clone_into(&mut trust.accepted));
    }

    /// Replaces the accepted token of the pod.
    pub fn set_pod_token(&self, accepted_token: &str) {
        lock(&self.world).pod_token = Some(accepted_token.to_owned());
    }

    /// The access keys in requests so far, known or not, in alphabetical order.
    #[must_use]
    pub fn access_keys_seen(&self) -> Vec<String> {
        lock(&self.world).access_keys.seen().map(ToOwned::to_owned).collect()
    }

    /// Number of requests with this access key so far, known or not.
    #[must_use]
    pub fn access_key_requests(&self, access: &str) -> u64 {
        lock(&self.world).access_keys.usage(access).requests
    }

    /// Number of requests with this access key that were refused with 401, by a fault or not.
    #[must_use]
    pub fn access_key_refusals(&self, access: &str) -> u64 {
        lock(&self.world).access_keys.usage(access).refusals
    }

    /// Whether an access key is locked.
    #[must_use]
    pub fn access_key_is_locked(&self, access: &str) -> bool {
        let world = lock(&self.world);
        world.access_keys.usage(access).lock.is_active(world.now())
    }

    /// Number of requests for this operation so far.
    #[must_use]
    pub fn requests(&self, operation: Operation) -> u64 {
        lock(&self.world).counts.of(operation)
    }

    /// Number of requests for the writing calls of KMS so far.
    #[must_use]
    pub fn write_requests(&self) -> u64 {
        let world = lock(&self.world);
        let writes = Operation::ALL.into_iter().filter(|operation| OperationSet::WRITES.contains(*operation));
        writes.map(|operation| world.counts.of(operation)).sum()
    }

    /// Number of all requests so far.
    #[must_use]
    pub fn all_requests(&self) -> u64 {
        lock(&self.world).counts.total()
    }

    /// Number of requests for this operation and this key, whether the key exists or not.
    #[must_use]
    pub fn key_requests(&self, project_id: &str, key_id: &str, operation: Operation) -> u64 {
        self.of_key(project_id, key_id, |journal| journal.counts.of(operation))
    }

    /// Number of writes for one key that took effect, whatever the answer was.
    #[must_use]
    pub fn writes_applied(&self, project_id: &str, key_id: &str) -> u64 {
        self.of_key(project_id, key_id, |journal| journal.applied)
    }

    /// Every interval that was sent for one key, in order, accepted or not.
    #[must_use]
    pub fn intervals_sent(&self, project_id: &str, key_id: &str) -> Vec<Value> {
        self.of_key(project_id, key_id, |journal| journal.intervals.clone())
    }

    /// Every interval that was sent for the keys of a project: key id and interval.
    #[must_use]
    pub fn all_intervals_sent(&self, project_id: &str) -> Vec<(String, Value)> {
        let world = lock(&self.world);
        let of_keys = world.projects.get(project_id).map(|project| project.journal.intervals());
        let pairs = of_keys.into_iter().flatten().flat_map(|(key_id, intervals)| {
            intervals.iter().map(move |interval| (key_id.to_owned(), interval.clone()))
        });
        pairs.collect()
    }

    /// The calls for one key, in order; empty with [`Journal::Counts`](super::Journal::Counts).
    #[must_use]
    pub fn calls(&self, project_id: &str, key_id: &str) -> Vec<Call> {
        self.of_key(project_id, key_id, |journal| journal.calls.clone())
    }

    /// Number of refused logins, tokens and signatures so far, by a fault or not.
    #[must_use]
    pub fn authentication_failures(&self) -> u64 {
        lock(&self.world).authentication_failures
    }

    /// Resets all counts, intervals and calls; keys, tokens and faults stay.
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
