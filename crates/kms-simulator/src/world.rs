//! The state of the simulated cloud, and the entry point of requests.
//!
//! [`World::respond`] is synchronous: all changes of a request are made and recorded before the first byte of the answer
//! is sent. `server` calls it under the lock and waits for delays afterwards.

use std::collections::HashMap;
use std::time::SystemTime;

use fastrand::Rng;
use serde_json::{Map, Value};

use super::access;
use super::answer::{Answer, RequestId};
use super::behaviour::{Behaviour, Dialect};
use super::credentials::access_key::AccessKeys;
use super::credentials::identity::{Agency, Permissions, Scope, Trust, User, made_up_id};
use super::credentials::lockout::Lockout;
use super::credentials::token::{Token, Tokens};
use super::delivery::{Delivery, Reply};
use super::encoding::http_date;
use super::fault::BadListing;
use super::iam;
use super::journal::{Call, Counts, Journal, ProjectJournal};
use super::key::is_key_id;
use super::keys::Keys;
use super::kms;
use super::metadata;
use super::operation::{Operation, OperationSet};
use super::request::Request;
use super::route::{Route, Service};
use super::rule::FaultRules;
use super::setup::{Clock, ProjectSetup, Setup};

pub(super) struct World {
    pub(super) behaviour: Behaviour,
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
    journal: Journal,
    clock: Clock,
    pub(super) rng: Rng,
}

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
        let project = self.projects.entry(setup.id).or_insert_with(|| Project {
            name: setup.name,
            domain_name: setup.domain_name,
            dialect: setup.dialect,
            keys: Keys::default(),
            journal: ProjectJournal::default(),
        });
        project.keys.extend(setup.keys);
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

    /// Carries out a request, with the fault that is due.
    pub(super) fn respond(&mut self, request: &Request<'_>) -> Reply {
        let request_id = self.request_id();
        let body = request.body.and_then(|body| serde_json::from_slice::<Map<String, Value>>(body).ok());
        let route = Route::of(request.method, request.path, body.as_ref());
        let operation = route.operation();
        let in_body = body.as_ref().and_then(|body| body.get("key_id")).and_then(Value::as_str);
        let key_id = route.key_id().or(in_body);
        self.counts.add(operation);
        self.access_keys.count_request(request);

        let decision = self.fault_rules.decide(operation, key_id);
        let takes_effect = |answer: &Answer| OperationSet::WRITES.contains(operation) && answer.status == 200;
        let (answer, delivery, applied) = match decision.fault() {
            None => {
                let answer = self.carry_out(route, request, body.as_ref(), &request_id, None);
                let applied = takes_effect(&answer);
                (answer, Delivery::Whole, applied)
            }
            Some(fault) => {
                let bad = fault.bad_listing();
                let carried_out =
                    fault.carries_out().then(|| self.carry_out(route, request, body.as_ref(), &request_id, bad));
                let applied = carried_out.as_ref().is_some_and(takes_effect);
                let counted = carried_out.as_ref().is_some_and(|answer| answer.status == 401);
                let (answer, delivery) = fault.apply(carried_out, &request_id);
                if answer.status == 401 && !counted && route.service() != Some(Service::Metadata) {
                    access::authentication_failed(self, request);
                }
                (answer, delivery, applied)
            }
        };

        let at = self.now();
        if let Route::Kms { project_id, .. } = route
            && let Some(key_id) = key_id.filter(|key_id| is_key_id(key_id))
            && let Some(project) = self.projects.get_mut(project_id)
        {
            let interval = body.as_ref().and_then(|body| body.get("rotation_interval")).cloned();
            let status = (!matches!(delivery, Delivery::Reset | Delivery::Hang)).then_some(answer.status);
            project.journal.record(key_id, Call { at, operation, interval, status, applied }, self.journal);
        }
        tracing::debug!(operation = operation.as_str(), status = answer.status, ?delivery, %request_id, "answered");
        let date = http_date(at, self.behaviour.date_offset_seconds);
        Reply {
            answer,
            delay: decision.delay,
            hold: decision.hold,
            delivery,
            request_id,
            service: route.service(),
            date,
        }
    }

    fn carry_out(
        &mut self,
        route: Route<'_>,
        request: &Request<'_>,
        body: Option<&Map<String, Value>>,
        request_id: &str,
        bad_listing: Option<BadListing>,
    ) -> Answer {
        if request.body.is_none() {
            return Answer::gateway(413, "APIGW.0201", "The request body is too large", request_id);
        }
        if self.behaviour.unknown.contains(route.operation()) {
            return match route.service() {
                Some(Service::Metadata) => Answer::html(404),
                _ => Answer::no_such_api(request_id),
            };
        }
        match route {
            Route::Kms { operation, project_id, key_id } => {
                access::admit(self, request, project_id, operation, request_id)
                    .and_then(|()| match operation {
                        Operation::KeyTags | Operation::ProjectTags => kms::read_tags(self, project_id, key_id),
                        _ => kms::answer(self, operation, project_id, request, body, bad_listing),
                    })
                    .unwrap_or_else(|refusal| refusal)
            }
            Route::Iam(operation) => {
                iam::answer(self, operation, request, body, request_id).unwrap_or_else(|refusal| refusal)
            }
            Route::Metadata(operation) => metadata::answer(self, operation, request.headers, body),
            Route::WrongMethod(Service::Kms) => Answer::kms(405, "KMS.0215", "The method is not allowed."),
            Route::WrongMethod(Service::Iam) => {
                Answer::iam(405, "Method Not Allowed", "The method is not allowed for the requested URL.")
            }
            Route::WrongMethod(Service::Metadata) => Answer::html(405),
            Route::Unknown => Answer::no_such_api(request_id),
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        format!("{:032x}", self.rng.u128(..))
    }
}
