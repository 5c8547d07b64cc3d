//! The state of the simulated cloud, and the entry point of requests.
//!
//! [`World::respond`] is synchronous: all changes of a request are made and recorded before the first byte of the answer
//! is sent. `server` calls it under the lock and waits for delays afterwards.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use hyper::{HeaderMap, Method};
use serde_json::{Map, Value};

use super::access::{Lockout, Token};
use super::access_key::AccessKeys;
use super::agency::Agency;
use super::answer::{Answer, Delivery, Reply, RequestId};
use super::behaviour::{Behaviour, Dialect};
use super::journal::{Call, Counts, ProjectJournal};
use super::key::is_key_id;
use super::keys::Keys;
use super::listing::BadListing;
use super::operation::{Operation, OperationSet};
use super::route::{Route, Service};
use super::rule::FaultRules;
use super::setup::{Clock, Journal, Login, ProjectSetup, Setup};
use super::workload::Trust;

pub(super) struct World {
    pub(super) behaviour: Behaviour,
    pub(super) projects: HashMap<String, Project>,
    pub(super) users: Vec<User>,
    pub(super) fault_rules: FaultRules,
    pub(super) counts: Counts,
    pub(super) authentication_failures: u64,
    pub(super) token_length: usize,
    pub(super) url: String,
    pub(super) access: Lockout,
    pub(super) tokens: HashMap<Box<str>, Token>,
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

pub(super) struct User {
    pub(super) login: Login,
    pub(super) lock: Lockout,
}

/// A received request.
pub(super) struct Request<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    /// `None` if it is longer than the gateway accepts.
    pub(super) body: Option<&'a [u8]>,
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
            access: Lockout::default(),
            tokens: HashMap::new(),
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

    /// Carries out a request, with the fault that is due.
    pub(super) fn respond(&mut self, request: &Request<'_>) -> Reply {
        let request_id = self.request_id();
        let body = request.body.and_then(|body| serde_json::from_slice::<Map<String, Value>>(body).ok());
        let route = Route::of(request.method, request.path, body.as_ref());
        let operation = route.operation();
        let in_body = body.as_ref().and_then(|body| body.get("key_id")).and_then(Value::as_str);
        let key_id = route.key_id().or(in_body);
        self.counts.add(operation);
        self.count_access_key(request);

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
                    self.authentication_failed(request);
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
        let date = self.date(at);
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
            Route::Kms { operation, project_id, key_id } => self
                .admit(request, project_id, operation, request_id)
                .and_then(|()| match operation {
                    Operation::KeyTags | Operation::ProjectTags => self.tags(project_id, key_id),
                    _ => self.kms(operation, project_id, request.headers, body, bad_listing),
                })
                .unwrap_or_else(|refusal| refusal),
            Route::Iam(operation) => self.iam(operation, request, body, request_id).unwrap_or_else(|refusal| refusal),
            Route::Metadata(operation) => self.metadata(operation, request.headers, body),
            Route::WrongMethod(Service::Kms) => Answer::kms(405, "KMS.0215", "The method is not allowed."),
            Route::WrongMethod(Service::Iam) => {
                Answer::iam(405, "Method Not Allowed", "The method is not allowed for the requested URL.")
            }
            Route::WrongMethod(Service::Metadata) => Answer::html(405),
            Route::Unknown => Answer::no_such_api(request_id),
        }
    }

    /// The header `Date`: the cloud's clock with an offset.
    fn date(&self, at: SystemTime) -> String {
        /// The last second that the format can express.
        const LAST: u64 = 253_402_300_799;
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = seconds.saturating_add_signed(self.behaviour.date_offset_seconds).min(LAST);
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        format!("{:032x}", self.rng.u128(..))
    }
}
