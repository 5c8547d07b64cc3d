//! When the next run is due, and what wakes the loop for it.
//!
//! The calendar computes: cron expression, time zone and its DST edges are `policy`'s. The [`Alarm`] only wakes. It may
//! ring late, for nothing or not at all, since the loop asks [`Schedule::is_due`] before it runs, and now and then by
//! itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tracing::{error, warn};
use uuid::Uuid;

use crate::policy::calendar::Calendar;
use crate::policy::types;

/// The next due time of a calendar with jitter.
///
/// A tick that comes while a run is under way, or while the machine sleeps, is due at once when the run or the sleep
/// ends; however many were missed, they make one run.
#[derive(Debug)]
pub struct Schedule {
    calendar: Calendar,
    jitter: Duration,
    /// Ticks up to here are done with.
    since: Timestamp,
    /// Nothing where it could not be computed.
    next: Option<Tick>,
    /// That it could not be computed is logged.
    failing: bool,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tick {
    slot: Timestamp,
    due: Timestamp,
}

impl Schedule {
    /// A schedule whose ticks count from `now` on.
    #[must_use]
    pub fn new(plan: &types::Schedule, now: SystemTime) -> Self {
        let mut schedule = Self {
            calendar: plan.calendar.clone(),
            jitter: plan.jitter,
            since: timestamp(now),
            next: None,
            failing: false,
            rng: fastrand::Rng::new(),
        };
        schedule.look_ahead();
        schedule
    }

    /// Goes on by another policy.
    pub fn replace(&mut self, plan: &types::Schedule) {
        (self.calendar, self.jitter, self.next) = (plan.calendar.clone(), plan.jitter, None);
        self.look_ahead();
    }

    /// A run began at this time: every tick up to it is done with.
    pub fn run_began(&mut self, at: SystemTime) {
        self.since = timestamp(at);
        self.look_ahead();
    }

    /// When the next run is due; nothing while it cannot be computed.
    #[must_use]
    pub fn due(&self) -> Option<SystemTime> {
        self.next.map(|tick| tick.due.into())
    }

    /// Whether a run is due now. A clock that was set back behind the last run counts from where it is. A search for the
    /// next tick that failed is made again from now on, since from the same instant it would fail again.
    pub fn is_due(&mut self, now: SystemTime) -> bool {
        let now = timestamp(now);
        if now < self.since || self.next.is_none() {
            self.since = now;
            self.look_ahead();
        }
        self.next.is_some_and(|tick| tick.due <= now)
    }

    fn look_ahead(&mut self) {
        match self.calendar.next_after(self.since) {
            Ok(slot) => {
                self.failing = false;
                // Looking again at the same tick must not draw its jitter anew.
                if self.next.is_none_or(|tick| tick.slot != slot) {
                    let jitter = self.jitter.mul_f64(self.rng.f64());
                    self.next = Some(Tick { slot, due: slot.checked_add(jitter).unwrap_or(slot) });
                }
            }
            Err(error) => {
                self.next = None;
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, "the next run cannot be scheduled; trying again until it can");
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
    /// Rings once after this long, instead of whenever it was to ring.
    fn set(&mut self, after: Duration) -> impl Future<Output = ()> + Send;

    /// Waits for the ring. One that came while nobody waited is not lost.
    fn rings(&self) -> impl Future<Output = ()> + Send;
}

/// There is no alarm clock.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the alarm clock for the schedule")]
pub struct AlarmError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl From<JobSchedulerError> for AlarmError {
    fn from(error: JobSchedulerError) -> Self {
        Self(Box::new(error))
    }
}

/// tokio-cron-scheduler as an alarm clock: a one-shot job that does nothing but ring.
///
/// Its recurring jobs are not used: they overlap, and run an hour off after a change to or from DST. It keeps time by
/// the wall clock, so that it rings after a suspend as well.
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
            // A job that has rung is gone already.
            let _ = self.scheduler.remove(&job).await;
        }
        let ring = Arc::clone(&self.ring);
        // It counts whole seconds from the beginning of this one: rounded up, it never rings before its time.
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
            warn!(error = %error, "cannot set the alarm for the next run, which may come half a minute late");
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
    fn ticks_missed_during_a_long_run_are_caught_up_once() {
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
    fn a_tick_slept_through_is_due_on_waking() {
        let mut schedule = schedule("0 3 * * *", "UTC", "2026-01-01T00:00:00Z");
        assert!(schedule.is_due(at("2026-01-05T17:00:00Z")));
        schedule.run_began(at("2026-01-05T17:00:00Z"));
        assert_eq!(schedule.due(), Some(at("2026-01-06T03:00:00Z")));
    }

    #[test]
    fn a_clock_set_back_neither_repeats_a_tick_at_once_nor_waits_for_its_old_time() {
        let mut schedule = schedule("0 * * * *", "UTC", "2026-01-01T00:30:00Z");
        schedule.run_began(at("2027-06-01T12:00:00Z"));
        assert!(!schedule.is_due(at("2026-01-01T00:40:00Z")));
        assert_eq!(schedule.due(), Some(at("2026-01-01T01:00:00Z")));
    }

    #[test]
    fn an_error_of_the_calendar_does_not_end_the_schedule() {
        // Samoa had no 30 December in 2011, and the library gives up on a day that is skipped.
        let mut schedule = schedule("0 12 * * *", "Pacific/Apia", "2011-12-30T00:00:00Z");
        assert_eq!(schedule.due(), None);
        assert!(!schedule.is_due(at("2011-12-30T09:00:00Z")));
        assert_eq!(schedule.due(), None);
        assert!(!schedule.is_due(at("2011-12-30T10:00:30Z")));
        assert_eq!(schedule.due(), Some(at("2011-12-30T22:00:00Z")));
        assert!(schedule.is_due(at("2011-12-30T22:00:00Z")));
    }

    #[test]
    fn jitter_is_drawn_once_for_a_tick_and_stays_within_its_bound() {
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
    fn a_daily_run_keeps_its_local_time_over_both_dst_edges() {
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
