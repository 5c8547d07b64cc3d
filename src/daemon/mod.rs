//! The daemon: one loop that is woken by schedule, signal or a changed policy, and always does the same complete scan.
//!
//! The loop owns the policy, the clients and the schedule, so nothing runs beside a run and nothing is shared but what
//! the [`Board`] shows. Whatever wakes it during a run makes one more run after it.

mod announce;
mod lifecycle;
mod policy_file;
mod schedule;
mod targets;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tracing::{debug, error, info};

pub use announce::Announcer;
pub use lifecycle::{Pulse, Signals, Supervisor};
pub use policy_file::{DirectoryWatch, PolicyFile};
pub use schedule::{Alarm, AlarmError, CronAlarm, Schedule};
pub use targets::{Connector, ObserverOf, Redirect};

use crate::chain::Chain;
use crate::clock::Clock;
use crate::kms::Kms;
use crate::observability::Board;
use crate::policy::types::Policy;
use crate::reconcile::{Intent, Reconciler, Target};
use crate::rotation::report::Trigger;

/// How often the loop looks at policy file and clock when nothing wakes it: covers file systems that tell of no
/// changes, and a clock that was set.
const LOOK_AROUND: Duration = Duration::from_secs(30);

/// Everything that the loop works with.
pub struct Daemon<A, C> {
    /// Where policies come from.
    pub policy_file: PolicyFile,
    /// Makes clients for a policy's projects.
    pub connect: C,
    /// Wakes the loop for the schedule.
    pub alarm: A,
    /// Makes the runs.
    pub reconciler: Reconciler,
    /// What the process was told by signals.
    pub signals: Signals,
    /// What is shown to the outside.
    pub board: Arc<Board>,
    /// Says that the loop is alive.
    pub pulse: Pulse,
    /// The time of day.
    pub clock: Clock,
    /// The due time that the alarm is set for.
    pub alarm_set_for: Option<SystemTime>,
}

impl<A: Alarm, C> Daemon<A, C> {
    /// Reconciles on the schedule of `policy`, and of those that replace it, until told to stop.
    ///
    /// # Errors
    ///
    /// The alarm cannot be set, so that no further run would come.
    pub async fn run<K: Kms>(mut self, policy: Policy) -> Result<(), AlarmError>
    where
        C: Fn(&Policy) -> Vec<Target<K>>,
    {
        let mut watch = DirectoryWatch::beside(self.policy_file.path());
        let mut announcer = Announcer::default();
        let plan = &policy.schedule;
        let mut schedule = Schedule::new(plan.calendar.clone(), plan.jitter, self.clock.now());
        let mut trigger = plan.run_on_start.then_some(Trigger::Start);
        let mut targets = self.in_force(&policy);
        drop(policy);
        self.pulse.with_supervisor(|supervisor| supervisor.ready());

        while !self.signals.stop.is_cancelled() {
            if let Some(trigger) = trigger.take() {
                schedule.run_began(self.clock.now());
                self.board.next_run(schedule.due());
                debug!(trigger = trigger.as_str(), "run begins");
                let report = self.reconciler.run(&targets, trigger, Intent::Apply).await;
                announcer.announce(&report);
                self.pulse.with_supervisor(|supervisor| supervisor.status(&report.tally().to_string()));
                if !report.interrupted {
                    self.board.publish(Arc::new(report));
                }
                continue;
            }
            let woken = self.wait(&mut schedule, &mut watch).await?;
            trigger = match woken {
                Woken::Nothing => None,
                Woken::Due => Some(Trigger::Schedule),
                Woken::Reload(why) => self.reload().map(|policy| {
                    schedule.replace(policy.schedule.calendar.clone(), policy.schedule.jitter);
                    targets = self.in_force(&policy);
                    why
                }),
            };
        }
        self.pulse.with_supervisor(|supervisor| supervisor.stopping());
        Ok(())
    }

    /// Sleeps until there is something to do, or it is time to look around.
    async fn wait(&mut self, schedule: &mut Schedule, watch: &mut DirectoryWatch) -> Result<Woken, AlarmError> {
        self.pulse.beat();
        if self.signals.reload.notified().now_or_never().is_some() {
            return Ok(Woken::Reload(Trigger::Signal));
        }
        let now = self.clock.now();
        if schedule.is_due(now) {
            return Ok(Woken::Due);
        }
        if self.policy_file.has_changed() {
            return Ok(Woken::Reload(Trigger::Reload));
        }
        let due = schedule.due();
        self.board.next_run(due);
        if due != self.alarm_set_for
            && let Some(after) = due.and_then(|due| due.duration_since(now).ok())
        {
            self.alarm.set(after).await?;
            self.alarm_set_for = due;
        }
        let longest = self.pulse.with_supervisor(|supervisor| supervisor.longest_sleep());
        let look_around = longest.unwrap_or(LOOK_AROUND).min(LOOK_AROUND);
        tokio::select! {
            biased;
            () = self.signals.stop.cancelled() => {}
            () = self.signals.reload.notified() => return Ok(Woken::Reload(Trigger::Signal)),
            () = self.alarm.rings() => {}
            () = watch.stirs() => {}
            () = tokio::time::sleep(look_around) => {}
        }
        Ok(Woken::Nothing)
    }

    /// Reads the policy again; nothing where it is refused and the old one stays in force.
    fn reload(&mut self) -> Option<Policy> {
        self.pulse.with_supervisor(|supervisor| supervisor.reloading());
        let policy = match self.policy_file.read() {
            Ok(policy) => {
                info!(file = %self.policy_file.path().display(), "policy reloaded");
                Some(policy)
            }
            Err(refused) => {
                let problems = Chain(&refused).to_string();
                error!(problems, "new policy refused; the old one stays in force");
                self.board.reload_failed(&problems);
                None
            }
        };
        self.pulse.with_supervisor(|supervisor| supervisor.ready());
        policy
    }

    /// Shows the policy on the board, whose counters the clients then find their own projects in.
    fn in_force<K>(&self, policy: &Policy) -> Vec<Target<K>>
    where
        C: Fn(&Policy) -> Vec<Target<K>>,
    {
        let projects = policy.projects.iter().map(|project| &project.name);
        self.board.policy_loaded(self.clock.now(), self.policy_file.path(), projects);
        (self.connect)(policy)
    }
}

/// Why the loop woke.
enum Woken {
    Nothing,
    Due,
    Reload(Trigger),
}
