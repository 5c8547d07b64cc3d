//! One run: observe → decide → act → read back → report, for every key of every project.
//!
//! A project is listed and all its keys are read before any is written. So what is a property of the project, such as
//! that its cloud does not show settings, is judged over all readings and not by one odd answer, and the keys that a
//! limited run changes are the same ones that the plan before it named. Then steps are taken one at a time; after each
//! the key is read and judged anew, so that what a run reports is what it last saw and never what it hopes to have done.
//! A run that may not write ends before the first step.

mod guard;
mod headway;
mod key;
mod memory;
mod progress;
mod stages;
mod survey;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::kms::{Error, Kind, Kms, Receipt};
use crate::policy::types::{Guards, Project};
use crate::rotation::cover::{Cover, Listing, cover};
use crate::rotation::decide::Reason;
use crate::rotation::project::Mode;
use crate::rotation::report::{ProjectReport, Report, Trigger};
use crate::support::clock::Clock;
use crate::support::write_gate::WriteGate;
use guard::{ChangeBudget, Changes};
pub use headway::Headway;
pub use memory::Memory;

/// A project of the policy and the KMS that holds its keys.
pub struct Target<K> {
    /// What the policy says.
    pub project: Project,
    /// The cloud; or why it cannot even be asked.
    pub kms: Result<Arc<K>, Unreachable>,
    /// How many keys are worked on at a time.
    pub concurrency: usize,
}

/// Why a project's cloud cannot even be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// There are no credentials to ask with.
    Credentials(String),
    /// There is no way there, such as with a proxy whose address is none.
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

/// What runs need of the world.
pub struct Reconciler {
    /// The time of day, for reports.
    pub clock: Clock,
    /// Ends a run early: calls in flight are finished, no further ones are made.
    pub stop: CancellationToken,
    /// Asked before each step: while it is closed, a run is one that only looks.
    pub gate: WriteGate,
    /// What is known from earlier runs.
    pub memory: Memory,
    /// How far the run has come.
    pub headway: Headway,
}

impl Reconciler {
    /// Looks at every key once and, where that is intended, allowed and within the guards, brings it to its policy.
    /// Projects run side by side, and wait for each other only to share the limit of changes.
    pub async fn run<K: Kms>(&self, targets: &[Target<K>], trigger: Trigger, intent: Intent, guards: Guards) -> Report {
        let (started, began) = (self.clock.now(), Instant::now());
        let acts = self.gate.is_open();
        self.headway.reset();
        let policy = || targets.iter().map(|target| &target.project);
        self.memory.begin_run(policy());
        if matches!(trigger, Trigger::Signal | Trigger::Reload) {
            // Somebody looks after it: what was left alone gets another chance.
            self.memory.forgive();
            targets.iter().filter_map(|target| target.kms.as_ref().ok()).for_each(|kms| kms.forgive());
        }
        // All of them first: projects may share their credentials, and one must not forget what another has just learnt.
        targets.iter().filter_map(|target| target.kms.as_ref().ok()).for_each(|kms| kms.begin_run());
        let budget = ChangeBudget::new(guards, policy());
        let projects = targets.iter().enumerate().map(|(at, target)| self.project(at, target, intent, &budget));
        let projects = join_all(projects).await;
        if intent == Intent::Apply && self.stop.is_cancelled() {
            self.send_owed_intervals(targets).await;
        }
        let (ended, took) = (self.clock.now(), began.elapsed());
        let standby = !(acts && self.gate.is_open());
        Report { trigger, started, ended, took, interrupted: self.stop.is_cancelled(), standby, projects }
    }

    /// The program stops: keys that it has switched on, whose interval was not accepted yet and whose setting cannot be
    /// read, are sent it now, once. No later process could tell that it is missing.
    pub async fn send_owed_intervals<K: Kms>(&self, targets: &[Target<K>]) {
        let enforced = targets.iter().filter(|target| target.project.mode == Mode::Enforce);
        for Target { project, kms, concurrency } in enforced {
            let Ok(kms) = kms else { continue };
            let owed = self.memory.take_owed(&project.name);
            let sent = stream::iter(owed).map(|(key_id, interval)| async move {
                (key_id, interval, kms.send_owed_interval(key_id, interval).await)
            });
            let mut sent = std::pin::pin!(sent.buffer_unordered(*concurrency));
            while let Some((key_id, interval, result)) = sent.next().await {
                let (project, key_id) = (&*project.name, key_id.as_str());
                let to = interval.to_string();
                match result {
                    Ok(Receipt { request_id }) => {
                        let request_id = request_id.as_deref();
                        info!(project, key_id, step = "update_interval", to, request_id, "rotation changed");
                    }
                    Err(error) => {
                        let error = error.to_string();
                        error!(project, key_id, to, error, "interval not set before the end; set it by hand");
                    }
                }
            }
        }
    }

    async fn project<K: Kms>(
        &self,
        place: usize,
        target: &Target<K>,
        intent: Intent,
        budget: &ChangeBudget,
    ) -> ProjectReport {
        let Target { project, kms, concurrency } = target;
        let failure = Failure { project: &project.name, end: OnceLock::new(), list: OnceLock::new() };
        let now = self.clock.now();
        let (keys, idle, listed) = match kms {
            Err(why) => {
                let (reason, text) = match why {
                    Unreachable::Credentials(text) => (Reason::AuthenticationFailed, text),
                    Unreachable::Way(text) => (Reason::ReadFailed, text),
                };
                failure.end(text, "project cannot be reached");
                budget.share(place, Changes::default()).await;
                let known = self.memory.listing(&project.name);
                let cover = cover(&project.keys, Listing::Failed(reason, &known), now);
                (cover.cases.iter().map(|case| progress::unreachable(case, reason)).collect(), Vec::new(), false)
            }
            Ok(kms) => {
                let kms = &**kms;
                let survey = self.survey(kms, project, now, &failure).await;
                let Cover { cases, idle } = cover(&project.keys, survey.listing(), now);
                let run = key::KeyRun {
                    kms,
                    project,
                    reconciler: self,
                    listed: survey.is_current(),
                    may_write: intent == Intent::Apply && project.mode == Mode::Enforce,
                    budget,
                    place,
                    failure: &failure,
                };
                let keys = run.all(&cases, *concurrency).await;
                (keys, idle.iter().map(|rule| rule.line).collect(), survey.is_complete())
            }
        };
        ProjectReport {
            name: Arc::clone(&project.name),
            cloud: project.cloud,
            region: Arc::clone(&project.region),
            mode: project.mode,
            coverage: project.coverage,
            listed,
            failure: failure.into_text(),
            idle_entries: idle,
            keys,
        }
    }
}

/// What ended a project's run early, and what is wrong with the list of its keys. Each is said once, however many calls
/// it is met by.
struct Failure<'a> {
    project: &'a str,
    end: OnceLock<Box<str>>,
    list: OnceLock<Box<str>>,
}

impl Failure<'_> {
    /// Keeps an error that ends the run of the whole project; false where it is one of a single call.
    fn ends_run(&self, error: &Error) -> bool {
        match error.kind() {
            Kind::Credentials => {
                self.end(&error.to_string(), "authentication failed; the project's keys are unknown until it succeeds");
            }
            Kind::NoWay => self.end(&error.to_string(), "project cannot be reached"),
            Kind::LoginUnavailable => {
                let message = "login service unavailable; the project's keys are unknown until it answers";
                self.tell(&self.end, &error.to_string(), false, message);
            }
            Kind::Shortage => self.tell(&self.end, &error.to_string(), false, "project cannot be reached"),
            _ => return false,
        }
        true
    }

    /// The run of the project ends, and somebody has to act.
    fn end(&self, error: &str, message: &'static str) {
        self.tell(&self.end, error, true, message);
    }

    /// The list of keys is not what it should be; whether somebody has to act.
    fn list(&self, error: &str, must_act: bool, message: &'static str) {
        self.tell(&self.list, error, must_act, message);
    }

    fn tell(&self, kept: &OnceLock<Box<str>>, error: &str, must_act: bool, message: &'static str) {
        if kept.set(error.into()).is_err() {
            return;
        }
        if must_act {
            error!(project = self.project, error, "{message}");
        } else {
            warn!(project = self.project, error, "{message}");
        }
    }

    fn into_text(self) -> Option<Box<str>> {
        match (self.end.into_inner(), self.list.into_inner()) {
            (Some(end), Some(list)) => Some(format!("{end}; {list}").into()),
            (end, list) => end.or(list),
        }
    }
}
