//! Computes when the next run is due, and wakes the loop then.
//!
//! `policy` computes the calendar: cron expression, time zone and DST changes. The [`Alarm`] only wakes the loop. It
//! may ring late, too early or never: the loop checks [`Schedule::is_due`] before a run, and regularly without an
//! alarm.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tracing::{error, warn};
use uuid::Uuid;

use crate::policy::calendar::{Calendar, NoNextRun};
use crate::policy::types;

/// The next due time of a calendar with jitter.
///
/// Ticks during a run or a suspend are due at its end, and together make one run.
#[derive(Debug)]
pub struct Schedule {
    calendar: Calendar,
    /// Runs have this distance instead.
    every: Option<Duration>,
    jitter: Duration,
    /// Only ticks after this time count.
    since: Timestamp,
    /// `None` if it cannot be computed.
    next: Option<Tick>,
    /// The next tick cannot be computed, and that is logged.
    failing: bool,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tick {
    slot: Timestamp,
    due: Timestamp,
}

impl Schedule {
    /// A schedule with the ticks after `now`.
    #[must_use]
    pub fn new(plan: &types::Schedule, now: SystemTime) -> Self {
        let mut schedule = Self {
            calendar: plan.calendar.clone(),
            every: None,
            jitter: plan.jitter,
            since: timestamp(now),
            next: None,
            failing: false,
            rng: fastrand::Rng::new(),
        };
        schedule.compute_next();
        schedule
    }

    /// A schedule with this time between two runs, whatever the policy's calendar and jitter are.
    #[must_use]
    pub(super) fn every(mut self, every: Option<Duration>) -> Self {
        (self.every, self.next) = (every, None);
        self.compute_next();
        self
    }

    /// Continues with the schedule of another policy.
    pub fn replace(&mut self, plan: &types::Schedule) {
        (self.calendar, self.jitter, self.next) = (plan.calendar.clone(), plan.jitter, None);
        self.compute_next();
    }

    /// The first instant after this one at which a run is due.
    fn next_after(&self, after: Timestamp) -> Result<Timestamp, NoNextRun> {
        match self.every.map(|every| after.checked_add(every)) {
            Some(Ok(next)) => Ok(next),
            // At the end of the range of times.
            Some(Err(_)) | None => self.calendar.next_after(after),
        }
    }

    /// Drops every tick up to the start of a run.
    pub(crate) fn run_began(&mut self, at: SystemTime) {
        self.since = timestamp(at);
        self.compute_next();
    }

    /// When the next run is due; `None` while it cannot be computed.
    #[must_use]
    pub fn due(&self) -> Option<SystemTime> {
        self.next.map(|tick| tick.due.into())
    }

    /// When three more runs should be over; `None` while that cannot be computed.
    #[must_use]
    pub(crate) fn third_over(&self) -> Option<SystemTime> {
        /// What jitter, waiting for the run before and a long run may add.
        const MARGIN: Duration = Duration::from_secs(3_600);
        let third = (0..3).try_fold(self.since, |after, _| self.next_after(after));
        Some(SystemTime::from(third.ok()?) + self.jitter + MARGIN)
    }

    /// Whether a run is due now. If the clock was set back before the last run, ticks count from `now`. A failed
    /// computation is repeated from `now`, since from the same start it would fail again.
    pub(crate) fn is_due(&mut self, now: SystemTime) -> bool {
        let now = timestamp(now);
        if now < self.since || self.next.is_none() {
            self.since = now;
            self.compute_next();
        }
        self.next.is_some_and(|tick| tick.due <= now)
    }

    fn compute_next(&mut self) {
        match self.next_after(self.since) {
            Ok(slot) => {
                self.failing = false;
                // The jitter of a tick is drawn only once.
                if self.next.is_none_or(|tick| tick.slot != slot) {
                    let jitter = if self.every.is_some() { Duration::ZERO } else { self.jitter };
                    let jitter = jitter.mul_f64(self.rng.f64());
                    self.next = Some(Tick { slot, due: slot.checked_add(jitter).unwrap_or(slot) });
                }
            }
            Err(error) => {
                self.next = None;
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, "cannot compute the next run; retrying until it succeeds");
                }
            }
        }
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Wakes the loop when a run is due.
pub trait Alarm: Send {
    /// Rings once after this time; replaces the time set before.
    fn set(&mut self, after: Duration) -> impl Future<Output = ()> + Send;

    /// Waits for the ring. An earlier ring that was not waited for counts.
    fn rings(&self) -> impl Future<Output = ()> + Send;
}

/// The scheduler cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the timer for the schedule")]
pub struct AlarmError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl From<JobSchedulerError> for AlarmError {
    fn from(error: JobSchedulerError) -> Self {
        Self(Box::new(error))
    }
}

/// An alarm with tokio-cron-scheduler: a one-shot job that only rings.
///
/// Its recurring jobs are not used: they overlap, and run an hour off after a DST change. It follows the wall clock, so
/// it also rings after a suspend.
pub struct CronAlarm {
    scheduler: JobScheduler,
    job: Option<Uuid>,
    ring: Arc<Notify>,
}

impl CronAlarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    ///
    /// The scheduler cannot start.
    pub async fn new() -> Result<Self, AlarmError> {
        let scheduler = JobScheduler::new().await?;
        scheduler.start().await?;
        Ok(Self { scheduler, job: None, ring: Arc::new(Notify::new()) })
    }

    async fn replace_job(&mut self, after: Duration) -> Result<(), JobSchedulerError> {
        if let Some(job) = self.job.take() {
            // A job that has rung is already removed.
            let _ = self.scheduler.remove(&job).await;
        }
        let ring = Arc::clone(&self.ring);
        // It counts whole seconds from the start of the current one; rounding up avoids an early ring.
        let this_second = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let until = after + Duration::from_nanos(u64::from(this_second));
        let whole = Duration::from_secs(until.as_secs() + u64::from(until.subsec_nanos() > 0));
        let job = Job::new_one_shot_async(whole, move |_, _| {
            let ring = Arc::clone(&ring);
            Box::pin(async move { ring.notify_one() })
        })?;
        self.job = Some(self.scheduler.add(job).await?);
        Ok(())
    }
}

impl Alarm for CronAlarm {
    async fn set(&mut self, after: Duration) {
        if let Err(error) = self.replace_job(after).await {
            warn!(error = %error, "cannot set the timer for the next run; it may start up to 30 seconds late");
        }
    }

    async fn rings(&self) {
        self.ring.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().unwrap().into()
    }

    fn plan(cron: &str, zone: &str, jitter: Duration) -> types::Schedule {
        types::Schedule {
            cron: cron.to_owned(),
            timezone: zone.to_owned(),
            calendar: Calendar::new(cron, zone).unwrap(),
            jitter,
            run_on_start: false,
        }
    }

    fn schedule(cron: &str, zone: &str, now: &str) -> Schedule {
        Schedule::new(&plan(cron, zone, Duration::ZERO), at(now))
    }

    #[test]
    fn ticks_missed_during_a_long_run_make_one_run() {
        let mut schedule = schedule("*/10 * * * *", "UTC", "2026-01-01T00:05:00Z");
        assert_eq!(schedule.due(), Some(at("2026-01-01T00:10:00Z")));
        assert!(!schedule.is_due(at("2026-01-01T00:09:59Z")));
        assert!(schedule.is_due(at("2026-01-01T00:10:00Z")));

        // The run takes 35 minutes and misses 00:20, 00:30 and 00:40.
        schedule.run_began(at("2026-01-01T00:10:00Z"));
        assert!(schedule.is_due(at("2026-01-01T00:45:00Z")));
        schedule.run_began(at("2026-01-01T00:45:00Z"));
        assert_eq!(schedule.due(), Some(at("2026-01-01T00:50:00Z")));
        assert!(!schedule.is_due(at("2026-01-01T00:45:30Z")));
    }

    #[test]
    fn a_tick_during_a_suspend_is_due_afterwards() {
        let mut schedule = schedule("0 3 * * *", "UTC", "2026-01-01T00:00:00Z");
        assert!(schedule.is_due(at("2026-01-05T17:00:00Z")));
        schedule.run_began(at("2026-01-05T17:00:00Z"));
        assert_eq!(schedule.due(), Some(at("2026-01-06T03:00:00Z")));
    }

    #[test]
    fn after_the_clock_is_set_back_ticks_count_from_the_new_time() {
        let mut schedule = schedule("0 * * * *", "UTC", "2026-01-01T00:30:00Z");
        schedule.run_began(at("2027-06-01T12:00:00Z"));
        assert!(!schedule.is_due(at("2026-01-01T00:40:00Z")));
        assert_eq!(schedule.due(), Some(at("2026-01-01T01:00:00Z")));
    }

    #[test]
    fn an_error_of_the_calendar_does_not_end_the_schedule() {
        // Samoa had no 30 December in 2011; the library fails on a skipped day.
        let mut schedule = schedule("0 12 * * *", "Pacific/Apia", "2011-12-30T00:00:00Z");
        assert_eq!(schedule.due(), None);
        assert!(!schedule.is_due(at("2011-12-30T09:00:00Z")));
        assert_eq!(schedule.due(), None);
        assert!(!schedule.is_due(at("2011-12-30T10:00:30Z")));
        assert_eq!(schedule.due(), Some(at("2011-12-30T22:00:00Z")));
        assert!(schedule.is_due(at("2011-12-30T22:00:00Z")));
    }

    #[test]
    fn jitter_is_drawn_once_per_tick_and_within_its_limit() {
        let hourly = plan("0 * * * *", "UTC", Duration::from_secs(60));
        let mut schedule = Schedule::new(&hourly, at("2026-01-01T00:30:00Z"));
        let due = schedule.due().unwrap();
        assert!((at("2026-01-01T01:00:00Z")..=at("2026-01-01T01:01:00Z")).contains(&due));
        for minute in 31..59 {
            schedule.run_began(at(&format!("2026-01-01T00:{minute}:00Z")));
            assert_eq!(schedule.due(), Some(due));
        }
    }

    #[test]
    fn a_daily_run_keeps_its_local_time_over_both_dst_changes() {
        let mut schedule = schedule("30 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z");
        let mut ticks = |count: usize| -> Vec<String> {
            let mut next = || {
                let due = schedule.due().unwrap();
                schedule.run_began(due);
                Timestamp::try_from(due).unwrap().to_string()
            };
            (0..count).map(|_| next()).collect()
        };
        assert_eq!(ticks(2), ["2026-03-29T01:30:00Z", "2026-03-30T01:30:00Z"]);
        let mut autumn = super::tests::schedule("30 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z");
        assert_eq!(autumn.due(), Some(at("2026-10-25T02:30:00Z")));
        autumn.run_began(at("2026-10-25T02:30:00Z"));
        assert_eq!(autumn.due(), Some(at("2026-10-26T02:30:00Z")));
    }
}
