//! The daemon: one loop that is woken by schedule, signal or a changed policy, and always does the same complete scan.
//!
//! The loop owns the policy, the clients and the schedule, so nothing runs beside a run and nothing is shared but what
//! the [`StatusStore`] shows and the gate that lets writes through. Whatever wakes it during a run makes one more run after
//! it; a policy that changes meanwhile is read at once, so that whoever changed it hears whether it is right, and takes
//! effect after the run.

mod announce;
mod lifecycle;
mod policy_file;
mod schedule;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tracing::{debug, error, info, warn};

pub use announce::Announcer;
pub use lifecycle::{Signals, Supervisor};
pub use policy_file::{DirectoryWatch, PolicyFile, warn_of_exposed_secrets};
pub use schedule::{Alarm, AlarmError, CronAlarm, Schedule};

use crate::kms::Kms;
use crate::policy::Policy;
use crate::policy::types::Credentials;
use crate::reconcile::{Intent, Reconciler, RunRequest, Target};
use crate::rotation::report::{Report, Trigger};
use crate::support::clock::Clock;
use crate::support::error_chain::Chain;
use crate::web::StatusStore;

/// Everything that the loop works with.
pub struct Daemon<A, C> {
    /// Where policies come from.
    pub policy_file: PolicyFile,
    /// Makes clients for a policy's projects.
    pub connect: C,
    /// Wakes the loop for the schedule.
    pub alarm: A,
    /// Makes the runs. Shared with the one under way, so that the loop can look after the policy beside it.
    pub reconciler: Arc<Reconciler>,
    /// What the process was told by signals.
    pub signals: Signals,
    /// What is shown to the outside.
    pub store: Arc<StatusStore>,
    /// Says that the loop is alive.
    pub supervisor: Supervisor,
    /// The time of day.
    pub clock: Clock,
    /// How long the lease lasts by which one of several replicas acts, where there is one.
    pub lease_duration: Option<Duration>,
}

impl<A: Alarm, C> Daemon<A, C> {
    /// Reconciles on the schedule of `policy`, and of those that replace it, until told to stop.
    pub async fn run<K: Kms>(mut self, policy: Policy)
    where
        C: FnMut(&Policy) -> Vec<Target<K>>,
    {
        let mut watch = DirectoryWatch::beside(self.policy_file.path());
        let mut announcer = Announcer::default();
        let mut schedule = Schedule::new(&policy.schedule, self.clock.now());
        let mut alarm_set_for = None;
        let mut acts_at_once = policy.schedule.run_on_start;
        let mut trigger = acts_at_once.then_some(Trigger::Start);
        // The last run was one of a replica that stands by, and the first one that acts is not to wait for a tick.
        let mut to_act = false;
        let mut guards = policy.guards;
        self.store.policy_loaded(self.clock.now(), self.policy_file.path());
        let (mut targets, mut environment_policy) = self.in_force(policy);
        self.supervisor.ready();

        while !self.signals.stop.is_cancelled() {
            let reloaded = match trigger.take() {
                Some(trigger) => {
                    schedule.run_began(self.clock.now());
                    self.show_next_run(schedule.due());
                    debug!(trigger = trigger.as_str(), "run begins");
                    if let Some(policy) = &environment_policy {
                        targets = (self.connect)(policy);
                    }
                    let request = RunRequest { trigger, intent: Intent::Apply, guards, next_run: schedule.due() };
                    let (report, reloaded) = self.run_once(&targets, request).await;
                    announcer.announce(&report);
                    to_act = report.standby && acts_at_once;
                    if !report.interrupted {
                        self.store.publish(Arc::new(report));
                    }
                    reloaded
                }
                None => match self.wait(&mut schedule, &mut alarm_set_for, &mut watch, to_act).await {
                    Woken::Nothing => None,
                    Woken::ToAct => {
                        trigger = Some(Trigger::Start);
                        None
                    }
                    Woken::Due => {
                        trigger = Some(Trigger::Schedule);
                        None
                    }
                    Woken::Reload(why) => self.reload(why),
                },
            };
            if let Some((policy, why)) = reloaded {
                schedule.replace(&policy.schedule);
                guards = policy.guards;
                acts_at_once = policy.schedule.run_on_start;
                (targets, environment_policy) = self.in_force(policy);
                trigger = Some(why);
            }
        }
        self.supervisor.stopping();
        self.reconciler.send_due_intervals(&targets).await;
    }

    /// One run, and the last good policy that came up while it was under way.
    async fn run_once<K: Kms>(&mut self, targets: &[Target<K>], request: RunRequest) -> (Report, Option<Reloaded>) {
        let mut reloaded = None;
        let reconciler = Arc::clone(&self.reconciler);
        let mut run = std::pin::pin!(reconciler.run(targets, request));
        let mut stopping = false;
        loop {
            self.supervisor.beat();
            let why = tokio::select! {
                biased;
                report = &mut run => return (report, reloaded),
                () = self.signals.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.supervisor.stopping();
                    continue;
                }
                () = self.signals.hang_up.notified() => Trigger::Signal,
                () = tokio::time::sleep(self.supervisor.longest_silence()) => {
                    if !self.policy_file.has_changed() {
                        continue;
                    }
                    Trigger::Reload
                }
            };
            reloaded = self.reload(why).or(reloaded);
        }
    }

    /// Sleeps until there is something to do, or it is time to look around.
    async fn wait(
        &mut self,
        schedule: &mut Schedule,
        alarm_set_for: &mut Option<SystemTime>,
        watch: &mut DirectoryWatch,
        to_act: bool,
    ) -> Woken {
        self.supervisor.beat();
        if self.signals.hang_up.notified().now_or_never().is_some() {
            return Woken::Reload(Trigger::Signal);
        }
        // Before the schedule: a policy that has changed must not wait for runs that are always due.
        if self.policy_file.has_changed() {
            return Woken::Reload(Trigger::Reload);
        }
        let now = self.clock.now();
        if schedule.is_due(now) {
            return Woken::Due;
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
            () = self.signals.hang_up.notified() => return Woken::Reload(Trigger::Signal),
            () = self.reconciler.gate.opened(), if to_act => return Woken::ToAct,
            // It rings once; if that was too early, it is set again.
            () = self.alarm.rings() => *alarm_set_for = None,
            () = watch.stirs() => self.policy_file.distrust_stamp(),
            // File systems that tell of no changes, a clock that was set, an alarm that does not ring.
            () = tokio::time::sleep(self.supervisor.longest_silence()) => {}
        }
        Woken::Nothing
    }

    /// Shows when the next run is due, and systemd with it how things are.
    fn show_next_run(&self, due: Option<SystemTime>) {
        self.store.next_run(due);
        self.supervisor.status(self.store.line());
    }

    /// Reads the policy again; nothing where it is refused and the old one stays in force, or where the daemon stops:
    /// systemd is not to hear that it is ready after it has heard that it ends.
    fn reload(&mut self, why: Trigger) -> Option<Reloaded> {
        if self.signals.stop.is_cancelled() {
            return None;
        }
        self.supervisor.reloading();
        let reloaded = match self.policy_file.read() {
            Ok(policy) => {
                info!(file = %self.policy_file.path().display(), "policy reloaded");
                self.store.policy_loaded(self.clock.now(), self.policy_file.path());
                Some((policy, why))
            }
            Err(refused) => {
                let problems = Chain(&refused).to_string();
                error!(problems, "new policy refused; the old one stays in force");
                self.store.reload_failed(problems, serde_json::to_value(&refused).unwrap_or_default());
                None
            }
        };
        self.supervisor.ready();
        reloaded
    }

    /// Tells the board of the policy's projects, whose counters the clients then find their own in, and connects to
    /// them; or gives it back, to be connected to before each run. A file that the environment names may only then
    /// be there, or say another way to log in. Secrets in it are read whenever somebody logs in, so that a client lasts
    /// as long as its way does.
    fn in_force<K>(&mut self, policy: Policy) -> (Vec<Target<K>>, Option<Policy>)
    where
        C: FnMut(&Policy) -> Vec<Target<K>>,
    {
        warn_of_exposed_secrets(&policy);
        self.warn_of_long_requests(policy.limits.request_timeout);
        let projects = policy.projects.iter().map(|project| &project.name);
        self.store.policy_in_force(projects);
        if policy.projects.iter().any(|project| project.credentials == Credentials::Environment) {
            (Vec::new(), Some(policy))
        } else {
            ((self.connect)(&policy), None)
        }
    }

    /// Warns where a write that began while this replica acts may end after another one acts.
    fn warn_of_long_requests(&self, request_timeout: Duration) {
        if let Some(lease_duration) = self.lease_duration.filter(|duration| request_timeout > *duration / 3) {
            let (request_timeout, lease_duration) = (request_timeout.as_secs(), lease_duration.as_secs());
            warn!(
                request_timeout,
                lease_duration,
                "a write may outlast the right to write: request_timeout should be at most a third of the lease's \
                 duration"
            );
        }
    }
}

type Reloaded = (Policy, Trigger);

/// Why the loop woke.
enum Woken {
    Nothing,
    Due,
    /// This replica became the one that acts.
    ToAct,
    Reload(Trigger),
}
