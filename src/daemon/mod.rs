//! The daemon: one loop that is woken by schedule, signal or a changed policy, and always makes the same complete run.
//!
//! The loop owns the policy, the clients and the schedule. Runs never overlap, and only the [`StatusStore`] and the
//! write gate are shared. All wake-ups during a run together cause one more run. A policy that changes during a run is
//! read at once, so that its errors are reported without delay, and takes effect after the run.

mod announce;
mod fast_forward;
mod history;
mod lifecycle;
mod policy_file;
mod schedule;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

pub use announce::Announcer;
pub use fast_forward::{Course, FastForward, MOST_RUNS, PastClock, thinned};
pub use history::Histories;
pub use lifecycle::{Signals, Supervisor};
pub(crate) use policy_file::warn_of_exposed_secrets;
pub use policy_file::{DirectoryWatch, PolicyFile};
pub use schedule::{Alarm, AlarmError, CronAlarm, Schedule};

use crate::kms::Kms;
use crate::policy::Policy;
use crate::policy::types::Credentials;
use crate::reconcile::{Intent, Reconciler, RunRequest, Target};
use crate::rotation::report::{Report, Trigger};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::version::{REVISION, VERSION};
use crate::views::wording;
use crate::web::StatusStore;

/// How often a run says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// The loop's state and dependencies.
pub struct Daemon<A, C> {
    /// Reads the policy, and detects its changes.
    pub policy_file: PolicyFile,
    /// Makes the clients of a policy's projects.
    pub connect: C,
    /// Wakes the loop for the schedule.
    pub alarm: A,
    /// The time between two runs, if it is not the policy that says when they start.
    pub every: Option<Duration>,
    /// Makes the runs. Shared, so that the loop can check the policy during a run.
    pub reconciler: Arc<Reconciler>,
    /// Logs the runs.
    pub announcer: Announcer,
    /// Requests made by signals.
    pub signals: Signals,
    /// The status that the server shows.
    pub store: Arc<StatusStore>,
    /// What happened to each key, which the server shows too.
    pub histories: Arc<Histories>,
    /// Reports that the loop is alive.
    pub supervisor: Supervisor,
    /// The time of day.
    pub clock: Clock,
    /// The lease duration, if a lease decides which replica writes.
    pub lease_duration: Option<Duration>,
    /// Called with each policy that comes into force, and its text if that is kept.
    pub policy_in_force: PolicyInForce,
}

/// Takes a policy that comes into force, and its text if that is kept.
pub type PolicyInForce = Box<dyn FnMut(&Policy, Option<Arc<str>>) + Send>;

impl<A: Alarm, C> Daemon<A, C> {
    /// Makes runs on the schedule of `policy`, and of its later versions, until a signal stops it.
    pub async fn run<K: Kms>(mut self, policy: Policy)
    where
        C: FnMut(&Policy) -> Vec<Target<K>>,
    {
        let mut watch = DirectoryWatch::beside(self.policy_file.path());
        let mut schedule = Schedule::new(&policy.schedule, self.clock.now()).every(self.every);
        let mut alarm_set_for = None;
        let mut run_on_start = policy.schedule.run_on_start;
        let mut trigger = run_on_start.then_some(Trigger::Start);
        // After a run on standby, a run follows as soon as this replica becomes active.
        let mut run_when_active = false;
        let mut guards = policy.guards;
        info!(
            version = VERSION,
            revision = REVISION,
            policy = %self.policy_file.path().display(),
            policy_sha256 = self.policy_file.digest(),
            "kms-rotationd started"
        );
        self.store.policy_loaded(self.clock.now(), self.policy_file.path());
        let (mut targets, mut environment_policy) = self.activate(policy);
        self.supervisor.ready();

        while !self.signals.stop.is_cancelled() {
            let reloaded = match trigger.take() {
                Some(trigger) => {
                    schedule.run_began(self.clock.now());
                    self.show_next_run(schedule.due());
                    if let Some(policy) = &environment_policy {
                        targets = (self.connect)(policy);
                    }
                    self.announcer.begin(trigger, targets.len());
                    let (next_run, gap_after) = (schedule.due(), schedule.third_over());
                    debug!(due = next_run.map(|due| wording::rfc3339(due).to_string()), "next run");
                    let request = RunRequest { trigger, intent: Intent::Apply, guards, next_run, gap_after };
                    // The report of a run before shows keys better than a run under way.
                    self.reconciler.progress.show_keys(self.store.report().is_none());
                    let (report, reloaded) = self.run_once(&targets, request).await;
                    run_when_active = report.standby && run_on_start;
                    // Comparing the keys of two reports takes a while with many of them.
                    let (histories, ended) = (Arc::clone(&self.histories), Arc::clone(&report));
                    let compared = tokio::task::spawn_blocking(move || histories.run_ended(&ended));
                    // It ends with an error only if it panicked: histories are then incomplete, and runs go on.
                    let _ = compared.await;
                    if !report.interrupted {
                        self.store.publish(Arc::clone(&report));
                    }
                    // The metrics and the page have the run when the log states its end.
                    self.announcer.announce(&report);
                    reloaded
                }
                None => match self.wait(&mut schedule, &mut alarm_set_for, &mut watch, run_when_active).await {
                    WakeUp::Check => None,
                    WakeUp::Active => {
                        trigger = Some(Trigger::Start);
                        None
                    }
                    WakeUp::Due => {
                        trigger = Some(Trigger::Schedule);
                        None
                    }
                    WakeUp::Reload(trigger) => self.reload(trigger).await,
                },
            };
            if let Some((policy, reload_trigger)) = reloaded {
                schedule.replace(&policy.schedule);
                guards = policy.guards;
                run_on_start = policy.schedule.run_on_start;
                (targets, environment_policy) = self.activate(policy);
                trigger = Some(reload_trigger);
                // The server answers before the run begins, which takes this thread for a while too.
                tokio::task::yield_now().await;
            }
        }
        self.supervisor.stopping();
        self.reconciler.send_due_intervals(&targets).await;
        if let Some(recorder) = &self.reconciler.recorder {
            recorder.flush().await;
        }
    }

    /// Makes one run; also returns the last valid policy that was loaded during it.
    async fn run_once<K: Kms>(
        &mut self,
        targets: &[Target<K>],
        request: RunRequest,
    ) -> (Arc<Report>, Option<Reloaded>) {
        let mut reloaded = None;
        let reconciler = Arc::clone(&self.reconciler);
        let mut run = std::pin::pin!(reconciler.run(targets, request));
        let mut stopping = false;
        let began = Instant::now();
        let mut progress = tokio::time::interval_at(began + PROGRESS_EVERY, PROGRESS_EVERY);
        loop {
            self.supervisor.beat();
            let reload_trigger = tokio::select! {
                biased;
                report = &mut run => return (report, reloaded),
                () = self.signals.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.supervisor.stopping();
                    continue;
                }
                () = self.signals.hang_up.notified() => Trigger::Signal,
                _ = progress.tick() => {
                    announce::log_progress(&self.reconciler.progress, began.elapsed());
                    if !stopping {
                        self.supervisor.status(self.store.line());
                    }
                    continue;
                }
                () = tokio::time::sleep(self.supervisor.heartbeat_interval()) => {
                    if !self.policy_file.has_changed() {
                        continue;
                    }
                    Trigger::Reload
                }
            };
            let mut reload = std::pin::pin!(self.reload(reload_trigger));
            // Reading a large policy takes a second, in which the run goes on.
            tokio::select! {
                biased;
                report = &mut run => {
                    let reloaded = reload.await.or(reloaded);
                    return (report, reloaded);
                }
                new = &mut reload => reloaded = new.or(reloaded),
            }
        }
    }

    /// Waits for the next event, or for the next regular check.
    async fn wait(
        &mut self,
        schedule: &mut Schedule,
        alarm_set_for: &mut Option<SystemTime>,
        watch: &mut DirectoryWatch,
        run_when_active: bool,
    ) -> WakeUp {
        self.supervisor.beat();
        if self.signals.hang_up.notified().now_or_never().is_some() {
            return WakeUp::Reload(Trigger::Signal);
        }
        // Before the schedule: a policy that has changed must not wait for runs that are always due.
        if self.policy_file.has_changed() {
            return WakeUp::Reload(Trigger::Reload);
        }
        let now = self.clock.now();
        if schedule.is_due(now) {
            return WakeUp::Due;
        }
        let due = schedule.due();
        self.show_next_run(due);
        if due != *alarm_set_for
            && let Some(after) = due.and_then(|due| due.duration_since(now).ok())
        {
            self.alarm.set(after).await;
            *alarm_set_for = due;
        }
        tokio::select! {
            biased;
            () = self.signals.stop.cancelled() => {}
            () = self.signals.hang_up.notified() => return WakeUp::Reload(Trigger::Signal),
            () = self.reconciler.gate.opened(), if run_when_active => return WakeUp::Active,
            // It rings once. After an early ring it is set again.
            () = self.alarm.rings() => *alarm_set_for = None,
            () = watch.changed() => self.policy_file.distrust_stamp(),
            // For file systems without change notifications, a clock that was set, an alarm that does not ring.
            () = tokio::time::sleep(self.supervisor.heartbeat_interval()) => {}
        }
        WakeUp::Check
    }

    /// Shows when the next run is due, on the page and in `systemctl status`.
    fn show_next_run(&self, due: Option<SystemTime>) {
        self.store.next_run(due);
        self.supervisor.status(self.store.line());
    }

    /// Reloads the policy. `None` if it is refused and the previous one stays in force, or if the daemon is shutting
    /// down: systemd must not receive READY after STOPPING.
    async fn reload(&mut self, trigger: Trigger) -> Option<Reloaded> {
        if self.signals.stop.is_cancelled() {
            return None;
        }
        self.supervisor.reloading();
        let reloaded = match self.policy_file.read_on_another_thread().await {
            Ok(policy) => {
                info!(file = %self.policy_file.path().display(), policy_sha256 = self.policy_file.digest(), "policy reloaded");
                self.store.policy_loaded(self.clock.now(), self.policy_file.path());
                Some((policy, trigger))
            }
            Err(refused) => {
                let problems = ErrorChain(&refused).to_string();
                error!(problems, "policy reload failed; still using the previous policy");
                self.store.reload_failed(problems, serde_json::to_value(&refused).unwrap_or_default());
                None
            }
        };
        self.supervisor.ready();
        reloaded
    }

    /// Puts a policy in force and makes its clients. A policy with credentials from the environment is returned
    /// instead, and its clients are made before each run: a credentials file may appear, or change the login, between
    /// runs.
    fn activate<K>(&mut self, policy: Policy) -> (Vec<Target<K>>, Option<Policy>)
    where
        C: FnMut(&Policy) -> Vec<Target<K>>,
    {
        warn_of_exposed_secrets(&policy);
        (self.policy_in_force)(&policy, self.policy_file.text());
        self.warn_of_long_requests(policy.limits.request_timeout);
        // Before the clients are made: they find the counters of their projects in the store.
        let projects = policy.projects.iter().map(|project| &project.name);
        self.store.policy_in_force(projects, policy.per_key, self.policy_file.text());
        if policy.projects.iter().any(|project| project.credentials == Credentials::Environment) {
            (Vec::new(), Some(policy))
        } else {
            ((self.connect)(&policy), None)
        }
    }

    /// Warns if a write may still run when another replica becomes active.
    fn warn_of_long_requests(&self, request_timeout: Duration) {
        if let Some(lease_duration) = self.lease_duration.filter(|duration| request_timeout > *duration / 3) {
            let (request_timeout, lease_duration) = (request_timeout.as_secs(), lease_duration.as_secs());
            warn!(
                request_timeout,
                lease_duration,
                "a write may still run when the lease expires; set request_timeout to at most a third of the lease \
                 duration"
            );
        }
    }
}

type Reloaded = (Policy, Trigger);

/// Why the loop wakes up.
enum WakeUp {
    /// To check again what is due.
    Check,
    Due,
    /// This replica became active.
    Active,
    Reload(Trigger),
}
