//! One run: list, read, decide, write and read back, for every key of every project.
//!
//! All keys of a project are read before any is written. So a property of the project, such as that its cloud does not
//! offer the rotation setting, is decided from all readings and not from one odd answer; and a run with a limit of
//! changes picks the same keys as the plan before it. Then each key is written and read back, so a report has what was
//! last read, never what a write should have done. A run that may not write ends after the first reading.
//!
//! A run is made of project runs (`project_run`), and these of key runs (`key_run`), which are observed (`observe`) and
//! acted on (`act`, `write`, `effect`).

mod act;
mod effect;
mod guard;
mod key_run;
mod memory;
mod observe;
mod project_failure;
mod project_run;
mod recorder;
mod survey;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::kms::{Kms, Receipt, RunStart, SendMode, WriteOperation};
use crate::policy::types::{Guards, Project};
use crate::rotation::assignment::{Action, Assignment, Assignments, Listing, assign_rules};
use crate::rotation::decide::{Reason, Reasons, Status, Step, Steps, Verdict};
use crate::rotation::key_name::KeyName;
use crate::rotation::material::Material;
use crate::rotation::progress::RunProgress;
use crate::rotation::project::{CloudAccess, Mode};
use crate::rotation::report::{KeyReport, ProjectReport, Report, Trigger};
use crate::rotation::rule::Requirement;
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::write_gate::WriteGate;
use guard::{ChangeBudget, Changes};
pub use memory::{Memory, RestoredProject};
use project_failure::ProjectFailure;
use project_run::{Findings, ProjectRun};
pub use recorder::{RunRecorder, RunTiming, WriteEnd, WriteIntent};

/// A project of the policy and the KMS that holds its keys.
pub struct Target<K> {
    /// The project of the policy.
    pub project: Project,
    /// Its KMS client, or why there is none.
    pub kms: Result<Arc<K>, NotConnected>,
    /// How many of its keys are processed at a time.
    pub concurrency: usize,
}

/// Why there is no client for a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotConnected {
    /// There are no credentials.
    Credentials(String),
    /// The client cannot be built, e.g. the proxy address is invalid.
    Unreachable(String),
}

/// Whether a run may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Bring the keys of projects in `enforce` mode to the policy.
    Apply,
    /// Only find out what a run would write.
    Plan,
}

/// What a run is to do.
#[derive(Clone, Copy, Debug)]
pub struct RunRequest {
    /// What started it.
    pub trigger: Trigger,
    /// Whether it may write.
    pub intent: Intent,
    /// The limits of its changes.
    pub guards: Guards,
    /// When the run after this one is due, where there is a schedule.
    pub next_run: Option<SystemTime>,
    /// When three more scheduled runs should be over: a reading after that leaves a gap.
    pub gap_after: Option<SystemTime>,
}

/// Dependencies and state shared by all runs.
pub struct Reconciler {
    /// The time of day, for reports.
    pub clock: Clock,
    /// Ends a run early: calls in flight end, no further ones are made.
    pub stop: CancellationToken,
    /// Closed while another replica may write: a run then only reads. Checked before each step.
    pub gate: WriteGate,
    /// What this process remembers of earlier runs.
    pub memory: Memory,
    /// How far the run under way has come.
    pub progress: Arc<RunProgress>,
    /// The evidence log, if there is one.
    pub recorder: Option<Arc<dyn RunRecorder>>,
}

impl Reconciler {
    /// Reads every key and, where the request, the project's mode and the guards allow it, brings it to its policy.
    /// Projects run concurrently, and wait for each other only to share the limit of changes.
    pub async fn run<K: Kms>(&self, targets: &[Target<K>], request: RunRequest) -> Arc<Report> {
        self.run_within(targets, request, None).await
    }

    /// The same with one key only, in every project that has it: no other key is read, written or reported.
    pub async fn run_key<K: Kms>(&self, targets: &[Target<K>], request: RunRequest, key: &KeyName) -> Arc<Report> {
        self.run_within(targets, request, Some(key)).await
    }

    async fn run_within<K: Kms>(
        &self,
        targets: &[Target<K>],
        request: RunRequest,
        only: Option<&KeyName>,
    ) -> Arc<Report> {
        let RunRequest { trigger, intent, guards, next_run, gap_after } = request;
        if let Some(recorder) = &self.recorder {
            recorder.begin_run().await;
        }
        let (started, began) = (self.clock.now(), Instant::now());
        let acts = self.gate.is_open();
        self.progress.begin(trigger, started);
        let policy = || targets.iter().map(|target| &target.project);
        self.memory.begin_run(policy());
        // An operator has started the run: what was left alone is tried again.
        let retry_refused = matches!(trigger, Trigger::Signal | Trigger::Reload);
        if retry_refused {
            self.memory.forget_refusals();
        }
        // Before any project runs: projects may share credentials, and one must not forget what another has just found.
        let clients = targets.iter().filter_map(|target| target.kms.as_ref().ok());
        clients.for_each(|kms| kms.begin_run(RunStart { next_run, retry_refused }));
        let budget = ChangeBudget::new(guards, policy());
        let projects = targets.iter().enumerate().map(|(at, target)| self.project(at, target, request, only, &budget));
        let projects = with_key(join_all(projects).await, only);
        // A run with one key leaves none due: it writes only to a key that it has read.
        if intent == Intent::Apply && self.stop.is_cancelled() && only.is_none() {
            self.send_due_intervals(targets).await;
        }
        self.progress.end();
        let (ended, took) = (self.clock.now(), began.elapsed());
        let standby = !(acts && self.gate.is_open());
        let (interrupted, max_changes) = (self.stop.is_cancelled(), guards.max_changes_per_run);
        let report = Arc::new(Report {
            trigger,
            started,
            ended,
            took,
            interrupted,
            standby,
            max_changes,
            only: only.cloned(),
            projects,
        });
        if let Some(recorder) = &self.recorder {
            let timing = RunTiming { next_run, gap_after };
            recorder.run_ended(&report, timing, &|project, key_id| self.memory.past(project, key_id)).await;
        }
        report
    }

    /// Sends the intervals that are due when the program stops, each once: those of keys that it has switched on and
    /// whose setting cannot be read. No later process could find out that they are missing.
    pub(crate) async fn send_due_intervals<K: Kms>(&self, targets: &[Target<K>]) {
        let enforced = targets.iter().filter(|target| target.project.mode == Mode::Enforce);
        for Target { project, kms, concurrency } in enforced {
            let Ok(kms) = kms else { continue };
            let due = self.memory.intervals_at_stop(&project.name);
            let intents = due.iter().map(|(key_id, interval)| WriteIntent {
                project: Arc::clone(&project.name),
                key_id: *key_id,
                step: Step::UpdateInterval(*interval),
                interval: Some(*interval),
                before: None,
            });
            let intents: Vec<_> = intents.collect();
            if let Some(recorder) = self.recorder.as_ref().filter(|_| !intents.is_empty()) {
                recorder.intend(&self.head(project, kms.access(), false), intents.clone()).await;
            }
            let sent = stream::iter(due.into_iter().zip(intents)).map(|((key_id, interval), intent)| async move {
                (key_id, interval, intent, kms.update_interval(key_id, interval, SendMode::AtExit).send().await)
            });
            let mut sent = std::pin::pin!(sent.buffer_unordered(*concurrency));
            while let Some((key_id, interval, intent, result)) = sent.next().await {
                let alias = self.memory.alias(&project.name, key_id);
                if result.is_ok() {
                    self.memory.update(&project.name, key_id, |known| known.interval_due = None);
                }
                let (project, key_id, alias) = (&*project.name, key_id.as_str(), alias.as_deref());
                let to = interval.to_string();
                if let Some(recorder) = &self.recorder {
                    recorder.write_ended(&intent, (&result).into());
                }
                match result {
                    Ok(Receipt { request_id }) => {
                        let request_id = request_id.as_deref();
                        info!(alias, key_id, project, step = "update_interval", to, request_id, "rotation changed");
                    }
                    Err(error) => {
                        let error = ErrorChain(&error).to_string();
                        error!(
                            alias,
                            key_id,
                            project,
                            to,
                            error,
                            "shutting down, but the interval could not be set; set it in the cloud's console"
                        );
                    }
                }
            }
        }
    }

    async fn project<K: Kms>(
        &self,
        index: usize,
        target: &Target<K>,
        RunRequest { intent, gap_after, .. }: RunRequest,
        only: Option<&KeyName>,
        budget: &ChangeBudget,
    ) -> ProjectReport {
        let Target { project, kms, concurrency } = target;
        let now = self.clock.now();
        let failure = ProjectFailure::of(&project.name, &self.memory.failures, now);
        let Findings { keys, idle_entries, is_complete } = match kms {
            Err(why) => {
                let findings = self.unreachable(project, why, now, only, &failure);
                // The projects after this one wait for its share of the changes.
                budget.share(index, Changes::default()).await;
                findings
            }
            Ok(kms) => {
                let may_write = intent == Intent::Apply && project.mode == Mode::Enforce;
                let (kms, failure) = (&**kms, &failure);
                let (reconciler, listed, is_complete) = (self, false, false);
                let run = ProjectRun {
                    kms,
                    project,
                    reconciler,
                    may_write,
                    listed,
                    is_complete,
                    budget,
                    index,
                    failure,
                    gap_after,
                    only,
                };
                run.run(*concurrency, now).await
            }
        };
        if !self.stop.is_cancelled() {
            failure.run_ended();
        }
        let access = kms.as_ref().map(|kms| kms.access()).unwrap_or_default();
        let head = self.head(project, access, is_complete);
        ProjectReport { failure: failure.into_text(), idle_entries, keys, ..head }
    }

    /// The report of a project without its keys.
    fn head(&self, project: &Project, access: CloudAccess, listed: bool) -> ProjectReport {
        ProjectReport {
            name: Arc::clone(&project.name),
            cloud: project.cloud,
            region: Arc::clone(&project.region),
            mode: project.mode,
            coverage: project.coverage,
            proof: project.proof.proof,
            grace: project.proof.grace,
            access,
            listed,
            readable: self.memory.is_readable(project),
            failure: None,
            idle_entries: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// What is known of a project that cannot be reached: the keys that were listed before, all of them unread.
    fn unreachable(
        &self,
        project: &Project,
        why: &NotConnected,
        now: SystemTime,
        only: Option<&KeyName>,
        failure: &ProjectFailure<'_>,
    ) -> Findings {
        failure.not_connected(why);
        let reason = match why {
            NotConnected::Credentials(_) => Reason::AuthenticationFailed,
            NotConnected::Unreachable(_) => Reason::ReadFailed,
        };
        let known = self.memory.listing(&project.name);
        let Assignments { all, .. } = assign_rules(&project.keys, Listing::Failed(reason, &known), now);
        let keys = all.iter().filter(|assignment| only.is_none_or(|only| only.is_of(assignment))).map(|assignment| {
            let (status, reasons) = match assignment.action {
                Action::Observe(_) => (Status::Unknown, reason.into()),
                Action::Skip(status, reasons) => (status, reasons),
            };
            self.skipped(project, assignment, status, reasons, now)
        });
        let keys = keys.collect();
        Findings { keys, idle_entries: Vec::new(), is_complete: false }
    }

    /// The report of a key that a run does nothing to.
    fn skipped(
        &self,
        project: &Project,
        assignment: &Assignment<'_>,
        status: Status,
        reasons: Reasons,
        now: SystemTime,
    ) -> KeyReport {
        let key_id = assignment.subject.key_id();
        let history = key_id.map(|key_id| self.memory.recall(&project.name, key_id).history).unwrap_or_default();
        let verdict = Verdict { status, reasons, steps: Steps::NONE };
        // A key that is disabled or pending deletion does not rotate: no rotation is overdue, but its material may be too
        // old all the same.
        let verdict = match (assignment.rule.map(|rule| &rule.requirement), history.last()) {
            (Some(Requirement::Rotation(desired)), Some(last)) => {
                let material = Material { undisturbed_since: None, ..history.material() };
                verdict.with_material(*desired, last.rotation, &material, project.proof, now)
            }
            _ => verdict,
        };
        key_run::last_known(assignment, verdict.status, verdict.reasons, &history, project.proof)
    }
}

/// The projects that a run with one key reports: those with the key, and those that may have it too, since their keys
/// could not be listed. All if none has it: the caller explains why.
fn with_key(mut projects: Vec<ProjectReport>, only: Option<&KeyName>) -> Vec<ProjectReport> {
    let Some(only) = only else { return projects };
    if projects.iter().any(|project| !project.keys.is_empty()) {
        // An id is of one key.
        let is_of_one = matches!(only, KeyName::Id(_));
        projects.retain(|project| !project.keys.is_empty() || project.failure.is_some() && !is_of_one);
    }
    projects
}
