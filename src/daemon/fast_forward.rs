//! A schedule in fast-forward, for rehearsals: time begins in the past and jumps from run to run until it has reached
//! the present.
//!
//! Between two jumps the clock stands still. So every time that a run sees depends on the schedule alone, and not on how
//! fast the machine is: a rehearsal can be repeated. Durations and timeouts use tokio's time, which passes as usual.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::schedule::Alarm;
use crate::policy::types;
use crate::support::clock::Clock;

/// The most runs of a fast-forward. More take minutes, and show nothing new.
pub const MOST_RUNS: u32 = 20_000;

/// A clock that stands still in the past, jumps, and becomes the system's clock in the end.
#[derive(Clone, Debug)]
pub struct PastClock {
    /// `None` once it is the system's clock.
    shown: Arc<Mutex<Option<SystemTime>>>,
    /// When jumps end.
    present: SystemTime,
}

impl PastClock {
    /// A clock that stands still at `start`, and may jump until `present`.
    #[must_use]
    pub fn standing(start: SystemTime, present: SystemTime) -> Self {
        Self { shown: Arc::new(Mutex::new(Some(start))), present }
    }

    /// The system's clock.
    #[must_use]
    pub fn running() -> Self {
        Self { shown: Arc::default(), present: SystemTime::UNIX_EPOCH }
    }

    /// The time of day that it shows.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.shown().unwrap_or_else(SystemTime::now)
    }

    /// The same as a clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let clock = self.clone();
        Clock::from_fn(move || clock.now())
    }

    /// Whether it shows the present.
    #[must_use]
    pub(super) fn has_caught_up(&self) -> bool {
        self.shown().is_none_or(|shown| shown >= self.present)
    }

    fn shown(&self) -> MutexGuard<'_, Option<SystemTime>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happens on the way to the present, and there.
#[derive(Debug, Default)]
pub struct Course {
    /// The daemon is down: a run that is due within one of these is made at its end.
    pub absences: Vec<Range<SystemTime>>,
    /// The shortest time between two runs.
    pub shortest_step: Duration,
    /// Cancelled when the present is reached.
    pub reached: CancellationToken,
    /// Stops the daemon at the present. Otherwise it goes on in real time.
    pub stop: Option<CancellationToken>,
}

impl Course {
    /// When a run is made that is due at this time, with the one before it at `last`.
    fn run_at(&self, due: SystemTime, last: SystemTime) -> SystemTime {
        let due = due.max(last + self.shortest_step);
        self.absences.iter().find(|absence| absence.contains(&due)).map_or(due, |absence| absence.end)
    }
}

/// The shortest time between two runs if the schedule has too many of them in this span, for [`Course::shortest_step`].
#[must_use]
pub fn thinned(schedule: &types::Schedule, every: Option<Duration>, span: Range<SystemTime>) -> Option<Duration> {
    let whole = span.end.duration_since(span.start).ok()?;
    if let Some(every) = every {
        return (every * MOST_RUNS < whole).then(|| whole / MOST_RUNS);
    }
    let mut at = Timestamp::try_from(span.start).ok()?;
    let present = Timestamp::try_from(span.end).ok()?;
    for _ in 0..MOST_RUNS {
        at = schedule.calendar.next_after(at).ok()?;
        if at > present {
            return None;
        }
    }
    Some(whole / MOST_RUNS)
}

/// An alarm that sets a clock forward instead of waiting, until the clock has reached the present.
pub struct FastForward<A> {
    clock: PastClock,
    course: Course,
    /// How often it has jumped.
    jumps: u64,
    jumped: Notify,
    /// From then on.
    alarm: A,
}

impl<A> FastForward<A> {
    /// Uses `alarm` once the clock is the system's.
    pub fn new(clock: PastClock, course: Course, alarm: A) -> Self {
        Self { clock, course, jumps: 0, jumped: Notify::new(), alarm }
    }

    /// Jumps to the next run, if it is not in the future. Returns when it is due otherwise.
    fn jump(&mut self, after: Duration) -> Result<(), SystemTime> {
        let mut shown = self.clock.shown();
        let Some(last) = *shown else { return Err(SystemTime::now() + after) };
        let next = self.course.run_at(last + after, last);
        if next <= self.clock.present {
            *shown = Some(next);
            self.jumps += 1;
            return Ok(());
        }
        // The last run may have been at the present itself.
        if self.jumps > 0 || last < self.clock.present {
            info!(jumps = self.jumps, "fast-forward has reached the present");
        }
        self.course.reached.cancel();
        match &self.course.stop {
            Some(stop) => stop.cancel(),
            None => *shown = None,
        }
        Err(next)
    }
}

impl<A: Alarm + Sync> Alarm for FastForward<A> {
    async fn set(&mut self, after: Duration) {
        let left = match self.jump(after) {
            Ok(()) => Duration::ZERO,
            // The fast-forward itself has taken a while.
            Err(due) => due.duration_since(SystemTime::now()).unwrap_or_default(),
        };
        if left.is_zero() {
            self.jumped.notify_one();
        } else {
            self.alarm.set(left).await;
        }
    }

    async fn rings(&self) {
        tokio::select! {
            biased;
            () = self.jumped.notified() => {}
            () = self.alarm.rings() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::calendar::Calendar;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Set(Vec<Duration>);

    impl Alarm for Set {
        async fn set(&mut self, after: Duration) {
            self.0.push(after);
        }

        async fn rings(&self) {
            std::future::pending::<()>().await;
        }
    }

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + 400_000 * HOUR
    }

    /// An alarm that begins five and a half hours before the present.
    fn fast_forward(course: Course) -> FastForward<Set> {
        let clock = PastClock::standing(start(), start() + 11 * HOUR / 2);
        FastForward::new(clock, course, Set(Vec::new()))
    }

    /// Sets it for an hour later again and again, and returns the times of the runs, counted from the start.
    async fn hourly(alarm: &mut FastForward<Set>, runs: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..runs {
            alarm.set(HOUR).await;
            alarm.rings().await;
            times.push(alarm.clock.now().duration_since(start()).unwrap());
        }
        times
    }

    #[tokio::test]
    async fn time_jumps_from_run_to_run_and_stands_still_in_between() {
        let mut alarm = fast_forward(Course::default());
        assert_eq!(hourly(&mut alarm, 5).await, [HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR]);
        assert!(!alarm.clock.has_caught_up());
        assert!(alarm.alarm.0.is_empty());
    }

    #[tokio::test]
    async fn after_the_present_it_is_the_clock_of_the_system() {
        let present = SystemTime::now();
        let clock = PastClock::standing(present - 3 * HOUR / 2, present);
        let mut alarm = FastForward::new(clock, Course::default(), Set(Vec::new()));
        alarm.set(HOUR).await;
        alarm.rings().await;
        assert!(!alarm.clock.has_caught_up());
        alarm.set(HOUR).await;
        assert!(alarm.clock.has_caught_up() && alarm.clock.now() >= present);
        let [left] = alarm.alarm.0[..] else { panic!("{:?}", alarm.alarm.0) };
        assert!(left <= HOUR / 2, "{left:?}");
        alarm.set(2 * HOUR).await;
        assert!(alarm.alarm.0[1] <= 2 * HOUR && alarm.alarm.0[1] > HOUR);
    }

    #[tokio::test]
    async fn a_run_that_is_overdue_at_the_present_is_made_at_once() {
        let mut alarm = fast_forward(Course::default());
        hourly(&mut alarm, 5).await;
        alarm.set(HOUR).await;
        alarm.rings().await;
        assert!(alarm.clock.has_caught_up() && alarm.alarm.0.is_empty());
    }

    #[tokio::test]
    async fn it_stops_the_daemon_at_the_present() {
        let stop = CancellationToken::new();
        let mut alarm = fast_forward(Course { stop: Some(stop.clone()), ..Course::default() });
        hourly(&mut alarm, 5).await;
        assert!(!stop.is_cancelled());
        alarm.set(HOUR).await;
        assert!(stop.is_cancelled());
        assert_eq!(alarm.clock.now(), start() + 5 * HOUR, "the last run ends at its own time");
    }

    #[tokio::test]
    async fn an_absence_is_jumped_over_and_ends_with_one_run() {
        let absences = vec![start() + 3 * HOUR / 2..start() + 9 * HOUR / 2];
        let mut alarm = fast_forward(Course { absences, ..Course::default() });
        assert_eq!(hourly(&mut alarm, 2).await, [HOUR, 9 * HOUR / 2]);
    }

    #[tokio::test]
    async fn runs_that_are_too_close_are_left_out() {
        let mut alarm = fast_forward(Course { shortest_step: 2 * HOUR, ..Course::default() });
        assert_eq!(hourly(&mut alarm, 2).await, [2 * HOUR, 4 * HOUR]);
    }

    #[test]
    fn a_schedule_of_more_than_twenty_thousand_runs_is_thinned() {
        let schedule = |cron: &str| types::Schedule {
            cron: cron.to_owned(),
            timezone: "UTC".to_owned(),
            calendar: Calendar::new(cron, "UTC").unwrap(),
            jitter: Duration::ZERO,
            run_on_start: true,
        };
        let days = |days: u32| start()..start() + 24 * HOUR * days;
        let by_cron = |cron: &str, span| thinned(&schedule(cron), None, span);
        assert_eq!(by_cron("*/30 * * * *", days(400)), None);
        assert_eq!(by_cron("0 6 1 * *", days(3_660)), None);
        assert_eq!(by_cron("*/20 * * * *", days(400)), Some(Duration::from_secs(1_728)));
        assert_eq!(by_cron("* * * * * *", days(1)), Some(Duration::from_millis(4_320)));
        assert_eq!(by_cron("* * * * *", days(0)), None);
        let every = |seconds| thinned(&schedule("0 6 1 * *"), Some(Duration::from_secs(seconds)), days(400));
        assert_eq!((every(1_728), every(1_727)), (None, Some(Duration::from_secs(1_728))));
    }
}
