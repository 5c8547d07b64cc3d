//! When to run: a cron expression in a time zone.
//!
//! A calendar only computes; the daemon waits, adds jitter and catches up. When daylight saving time begins or ends, a
//! fixed time such as `30 2 * * *` is due once a day: right after the gap if the clock skips it, and the first time if
//! the clock shows it twice. An expression with a wildcard, step or list in its times follows real time: `*/30` is due
//! every 30 minutes then too.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Year};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::yaml::nearest::nearest;

/// The start of every search for gaps: the year 2026, soon before a leap year.
const ANY_START: i64 = 1_767_225_600;

/// The longest explanation of a malformed expression, in characters.
const LONGEST_REASON: usize = 200;

/// A cron expression in a time zone. Cheap to clone; equal if the expressions and zones are written the same.
#[derive(Clone)]
pub struct Calendar(Arc<Inner>);

struct Inner {
    expression: String,
    cron: Cron,
    zone: Zone,
}

/// A time zone with its IANA name.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    pub(super) name: String,
    rules: TimeZone,
}

/// Why a calendar is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidCalendar {
    /// The cron expression has this many fields, not five or six.
    FieldCount(usize),
    /// The cron expression is wrong, for this reason.
    Expression(String),
    /// The expression is well formed, but never due.
    NeverDue,
    /// The time zone is unknown; the nearest name.
    UnknownZone(Option<String>),
}

/// The next run could not be computed. It may be possible from a later instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compute the run of `{expression}` ({zone}) after {after}: {reason}")]
pub struct NoNextRun {
    expression: String,
    zone: String,
    after: Timestamp,
    reason: String,
}

/// A step of a cron expression that is larger than its range, so that only the first value matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LargeStep {
    pub(super) step: u32,
    /// The field, in the plural.
    pub(super) field: &'static str,
    /// The number of values of the range.
    pub(super) values: u32,
}

/// The fields of a cron expression with the number of their values.
const FIELDS: [(&str, u32); 6] = [
    ("seconds", 60),
    ("minutes", 60),
    ("hours", 24),
    ("days of the month", 31),
    ("months", 12),
    ("days of the week", 7),
];

impl Calendar {
    /// The calendar of a cron expression, five fields or six with leading seconds, in the zone of an IANA name.
    ///
    /// # Errors
    ///
    /// The expression is malformed or never due, or the zone is unknown.
    pub fn new(expression: &str, zone: &str) -> Result<Self, InvalidCalendar> {
        Self::in_zone(expression, Zone::find(zone)?)
    }

    pub(super) fn in_zone(expression: &str, zone: Zone) -> Result<Self, InvalidCalendar> {
        let cron = parse(expression)?;
        let calendar = Self(Arc::new(Inner { expression: expression.to_owned(), cron, zone }));
        // The search covers all years, so one instant is enough.
        if calendar.next_after(Timestamp::UNIX_EPOCH).is_err() {
            return Err(InvalidCalendar::NeverDue);
        }
        Ok(calendar)
    }

    /// The first instant strictly after `after` at which a run is due.
    ///
    /// # Errors
    ///
    /// The library finds none: at the end of its range, or if the zone's clock skips most of a day.
    pub(crate) fn next_after(&self, after: Timestamp) -> Result<Timestamp, NoNextRun> {
        let Inner { expression, cron, zone } = &*self.0;
        let failed = |error: CronError| NoNextRun {
            expression: expression.clone(),
            zone: zone.name.clone(),
            after,
            reason: error.to_string().trim_end_matches('.').to_owned(),
        };
        let next = cron.find_next_occurrence(&after.to_zoned(zone.rules.clone()), false);
        next.map(|due| due.timestamp()).map_err(failed)
    }

    /// The day of the first run after this, in the calendar's zone.
    pub(super) fn next_day(&self, after: SystemTime) -> Option<Date> {
        let next = self.next_after(Timestamp::try_from(after).ok()?).ok()?;
        Some(next.to_zoned(self.0.zone.rules.clone()).date())
    }

    /// The schedule in words, such as `runs every 30 minutes (UTC)`.
    #[must_use]
    pub fn describe(&self) -> String {
        let described = self.0.cron.describe();
        let described = described.trim_end_matches('.');
        // The library writes a sentence, and "At every".
        let when = described.strip_prefix("At every ").map(|rest| format!("every {rest}"));
        let when = when.unwrap_or_else(|| lower_first(described).collect());
        format!("runs {when} ({})", self.0.zone.name)
    }

    /// Whether day of month and day of week are both set and not joined by `+`: days that match either are then due.
    pub(super) fn joins_days_by_or(&self) -> bool {
        let pattern = &self.0.cron.pattern;
        !pattern.is_dom_wildcard() && !pattern.is_dow_wildcard() && !pattern.matches_dom_and_dow()
    }

    /// The first step that is larger than its range, such as `*/61` in the minutes.
    pub(super) fn large_step(&self) -> Option<LargeStep> {
        let fields = self.0.expression.split_whitespace();
        // Without seconds the first field is the minutes.
        let skipped = FIELDS.len().saturating_sub(fields.clone().count());
        fields.zip(FIELDS.into_iter().skip(skipped)).find_map(|(written, (field, values))| {
            written.split(',').find_map(|part| {
                let (range, step) = part.split_once('/')?;
                let step = step.parse().ok()?;
                let bounds = range.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
                let values = bounds.map_or(values, |(from, to): (u32, u32)| to.saturating_sub(from) + 1);
                (step > values).then_some(LargeStep { step, field, values })
            })
        })
    }

    /// The longest time between two runs, if it is more than a year.
    pub(super) fn gap_over_a_year(&self) -> Option<Duration> {
        // A leap year and a change of the zone's offset. Only a few gaps are searched: most schedules then do not reach
        // the year 2100, which has no leap day.
        let gap = self.gap_longer_than(SignedDuration::from_hours(367 * 24), 8)?;
        Duration::try_from(gap).ok()
    }

    /// A time between two runs that is shorter than `most`, if the first runs of two years have one.
    pub(super) fn gap_shorter_than(&self, most: Duration) -> Option<Duration> {
        const RUNS: usize = 400;
        let begin = Timestamp::from_second(ANY_START).ok()?;
        let end = begin.checked_add(SignedDuration::from_hours(2 * 365 * 24)).ok()?;
        let mut at = self.next_after(begin).ok()?;
        for _ in 0..RUNS {
            let next = self.next_after(at).ok()?;
            let gap = Duration::try_from(next.duration_since(at)).ok()?;
            if gap < most {
                return Some(gap);
            }
            if next > end {
                return None;
            }
            at = next;
        }
        None
    }

    /// The longest time between two runs. Exact from 30 days on; if it is shorter, a rare longer gap can be missed.
    ///
    /// Each step of the search jumps to the last run within the longest gap found so far, so that a schedule of every
    /// second costs no more than one of every day.
    pub(super) fn longest_gap(&self) -> Duration {
        // Shortest gap and number of jumps: first the rare long gaps, then the common short ones.
        const SEARCHES: [(SignedDuration, u32); 5] = [
            (SignedDuration::from_hours(365 * 24), 20),
            (SignedDuration::from_hours(30 * 24), 240),
            (SignedDuration::from_hours(24), 400),
            (SignedDuration::from_hours(1), 400),
            (SignedDuration::from_secs(60), 400),
        ];
        let found = SEARCHES.into_iter().find_map(|(shortest, jumps)| self.gap_longer_than(shortest, jumps));
        Duration::try_from(found.unwrap_or(SignedDuration::from_secs(60))).unwrap_or_default()
    }

    fn gap_longer_than(&self, shortest: SignedDuration, jumps: u32) -> Option<SignedDuration> {
        let mut longest = None;
        let mut at = self.next_after(Timestamp::from_second(ANY_START).ok()?).ok()?;
        for _ in 0..jumps {
            let reach = at.checked_add(longest.unwrap_or(shortest)).ok()?;
            let last = self.0.cron.find_previous_occurrence(&reach.to_zoned(self.0.zone.rules.clone()), true).ok()?;
            if last.timestamp() > at {
                at = last.timestamp();
                continue;
            }
            let next = self.next_after(at).ok()?;
            longest = Some(next.duration_since(at)).max(longest);
            at = next;
        }
        longest
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.0.expression == other.0.expression && self.0.zone.name == other.0.zone.name
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({:?}, {:?})", self.0.expression, self.0.zone.name)
    }
}

impl Zone {
    pub(super) fn find(name: &str) -> Result<Self, InvalidCalendar> {
        let database = jiff::tz::db();
        let Some(rules) = database.get(name).ok().filter(|rules| !rules.is_unknown()) else {
            let known: Vec<String> = database.available().map(|known| known.to_string()).collect();
            let near = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
            return Err(InvalidCalendar::UnknownZone(near));
        };
        // The database finds names in any case; show its own spelling.
        Ok(Self { name: rules.iana_name().unwrap_or(name).to_owned(), rules })
    }

    /// The end of a day, written as `YYYY-MM-DD`: the first instant of the next day, which is not midnight if the clock
    /// skips it.
    pub(super) fn end_of_day(&self, day: &str) -> Result<SystemTime, InvalidDay> {
        let pattern = |(at, byte): (usize, u8)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() };
        if day.len() != 10 || !day.bytes().enumerate().all(pattern) {
            return Err(InvalidDay::Malformed);
        }
        let date: Date = day.parse().map_err(|_| InvalidDay::Impossible)?;
        // The last day of the calendar has no next day.
        let next = date.tomorrow().and_then(|next| next.to_zoned(self.rules.clone()));
        Ok(next.map_or(Timestamp::MAX, |next| next.timestamp()).into())
    }
}

/// Why a day is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidDay {
    /// It is not written as `YYYY-MM-DD`.
    Malformed,
    /// It does not exist.
    Impossible,
}

fn parse(expression: &str) -> Result<Cron, InvalidCalendar> {
    let fields = expression.split_whitespace().count();
    if !expression.trim_start().starts_with('@') && !(5..=6).contains(&fields) {
        return Err(InvalidCalendar::FieldCount(fields));
    }
    CronParser::builder().year(Year::Disallowed).build().parse(expression).map_err(|error| {
        let reason = match error {
            CronError::InvalidPattern(reason)
            | CronError::IllegalCharacters(reason)
            | CronError::ComponentError(reason) => reason,
            other => other.to_string(),
        };
        // The reason is a sentence, and may repeat the expression.
        let reason = reason.trim_end_matches('.').replace("CronPattern", "the expression");
        InvalidCalendar::Expression(lower_first(&reason).take(LONGEST_REASON).collect())
    })
}

/// The text with a lower-case first letter.
fn lower_first(text: &str) -> impl Iterator<Item = char> {
    text.chars().enumerate().map(|(at, letter)| if at == 0 { letter.to_ascii_lowercase() } else { letter })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(expression: &str, zone: &str) -> Calendar {
        Calendar::new(expression, zone).unwrap()
    }

    /// The due instants after `from` and up to `to`, in local time with the offset.
    fn due(expression: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let calendar = calendar(expression, zone);
        let to: Timestamp = to.parse().unwrap();
        let rules = TimeZone::get(zone).unwrap();
        std::iter::successors(calendar.next_after(from.parse().unwrap()).ok(), |at| calendar.next_after(*at).ok())
            .take_while(|at| *at <= to)
            .map(|at| at.to_zoned(rules.clone()).strftime("%d %H:%M%:z").to_string())
            .collect()
    }

    #[test]
    fn a_fixed_time_that_the_clock_skips_is_due_right_after_the_gap() {
        let berlin = due("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-30T23:00:00Z");
        assert_eq!(berlin, ["28 02:30+01:00", "29 03:00+02:00", "30 02:30+02:00"]);
        let new_york = due("30 2 * * *", "America/New_York", "2026-03-07T00:00:00Z", "2026-03-10T00:00:00Z");
        assert_eq!(new_york, ["07 02:30-05:00", "08 03:00-04:00", "09 02:30-04:00"]);
    }

    #[test]
    fn a_fixed_time_that_the_clock_shows_twice_is_due_the_first_time() {
        let berlin = due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(berlin, ["25 02:30+02:00", "26 02:30+01:00"]);
        let new_york = due("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z");
        assert_eq!(new_york, ["01 01:30-04:00", "02 01:30-05:00"]);
    }

    #[test]
    fn an_interval_follows_real_time_when_the_clock_changes() {
        let gap = due("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", "2026-03-29T01:45:00Z");
        assert_eq!(gap, ["29 01:30+01:00", "29 03:00+02:00", "29 03:30+02:00"]);
        let overlap = due("*/30 * * * *", "America/New_York", "2026-11-01T05:15:00Z", "2026-11-01T07:15:00Z");
        assert_eq!(overlap, ["01 01:30-04:00", "01 01:00-05:00", "01 01:30-05:00", "01 02:00-05:00"]);
    }

    #[test]
    fn a_year_of_hourly_runs_is_8760_hours_apart_in_every_zone() {
        for zone in ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"] {
            let calendar = calendar("0 * * * *", zone);
            let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let end: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
            let mut at = start;
            let mut runs = 0;
            while let Some(next) = calendar.next_after(at).ok().filter(|next| *next <= end) {
                let gap = next.duration_since(at);
                // Lord Howe moves its clock by half an hour, so a full hour of its clock comes after 90 or 30 minutes.
                let most = if zone == "Australia/Lord_Howe" { 90 } else { 60 };
                assert!(gap.as_mins() <= most && gap.as_secs() > 0, "{zone}: {at} {next}");
                at = next;
                runs += 1;
            }
            assert!((8759..=8761).contains(&runs), "{zone}: {runs}");
        }
    }

    #[test]
    fn the_next_instant_is_strictly_later() {
        let calendar = calendar("0 0 12 * * *", "UTC");
        let noon: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        assert_eq!(calendar.next_after(noon), Ok("2026-05-02T12:00:00Z".parse().unwrap()));
        let before: Timestamp = "2026-05-01T11:59:59.999Z".parse().unwrap();
        assert_eq!(calendar.next_after(before), Ok(noon));
    }

    #[test]
    fn an_invalid_schedule_is_refused() {
        let refused = |expression| match Calendar::new(expression, "UTC") {
            Err(InvalidCalendar::Expression(reason)) => reason,
            other => panic!("{expression}: {other:?}"),
        };
        for (expression, count) in [("* * * *", 4), ("* * * * * * 2027", 7), ("", 0)] {
            assert_eq!(Calendar::new(expression, "UTC"), Err(InvalidCalendar::FieldCount(count)));
        }
        for expression in ["61 * * * *", "* * * * MOX", "/5 * * * *", "@never", "x * * * *"] {
            assert!(!refused(expression).is_empty());
        }
        assert_eq!(Calendar::new("0 0 30 2 *", "UTC"), Err(InvalidCalendar::NeverDue));
        assert!(Calendar::new("0 0 29 2 *", "UTC").is_ok());
        let near = |zone| Calendar::new("* * * * *", zone);
        assert_eq!(near("Europe/Berln"), Err(InvalidCalendar::UnknownZone(Some("Europe/Berlin".into()))));
        assert_eq!(near("Q"), Err(InvalidCalendar::UnknownZone(None)));
    }

    #[test]
    fn the_longest_gap_of_every_schedule_is_found() {
        let gap = |expression, zone| calendar(expression, zone).longest_gap();
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(gap("*/30 * * * *", "UTC"), Duration::from_secs(1800));
        assert_eq!(gap("* * * * * *", "UTC"), Duration::from_secs(60), "no more than");
        assert_eq!(gap("* * 8-17 * * *", "UTC"), hours(14) + Duration::from_secs(1));
        assert_eq!(gap("0 3 * * *", "UTC"), hours(24));
        assert_eq!(gap("0 3 * * *", "Europe/Berlin"), hours(25));
        assert_eq!(gap("0 3 * * 1-5", "UTC"), hours(72));
        assert_eq!(gap("0 3 1 * *", "UTC"), hours(31 * 24));
        assert_eq!(gap("0 3 1 1,7 *", "UTC"), hours(184 * 24));
        assert_eq!(gap("0 3 1 1 *", "UTC"), hours(366 * 24));
    }

    #[test]
    fn an_instant_that_cannot_be_computed_is_an_error_with_the_schedule() {
        // Samoa had no 30 December in 2011.
        let samoa = calendar("0 12 * * *", "Pacific/Apia");
        let error = samoa.next_after("2011-12-30T00:00:00Z".parse().unwrap()).unwrap_err().to_string();
        let begin = "compute the run of `0 12 * * *` (Pacific/Apia) after 2011-12-30T00:00:00Z: ";
        assert!(error.starts_with(begin) && error.len() > begin.len(), "{error}");
        assert!(samoa.next_after("2011-12-30T12:00:00Z".parse().unwrap()).is_ok());
        assert!(calendar("0 12 * * *", "UTC").next_after(Timestamp::MAX).is_err());
    }

    #[test]
    fn a_step_larger_than_its_range_is_found_in_every_field() {
        let step = |expression| calendar(expression, "UTC").large_step().map(|at| (at.step, at.field, at.values));
        assert_eq!(step("*/61 * * * *"), Some((61, "minutes", 60)));
        assert_eq!(step("0 */90 * * * *"), Some((90, "minutes", 60)));
        assert_eq!(step("*/75 * * * * *"), Some((75, "seconds", 60)));
        assert_eq!(step("0 */25 * * *"), Some((25, "hours", 24)));
        assert_eq!(step("0 0 */32 * *"), Some((32, "days of the month", 31)));
        assert_eq!(step("0 0 1 */13 *"), Some((13, "months", 12)));
        assert_eq!(step("0 0 * * */8"), Some((8, "days of the week", 7)));
        assert_eq!(step("1,0-9/11 * * * *"), Some((11, "minutes", 10)));
        for right in ["*/60 * * * *", "0 */24 * * *", "0-10/5 1-23/2 */31 */12 */7", "0 0 * * MON-FRI", "@hourly"] {
            assert_eq!(step(right), None, "{right}");
        }
    }

    #[test]
    fn gaps_of_years_and_gaps_shorter_than_a_bound_are_found() {
        let days = |gap: Duration| gap.as_secs() / 86_400;
        let years = |expression| calendar(expression, "Europe/Berlin").gap_over_a_year().map(|gap| days(gap) / 365);
        assert_eq!(years("0 0 29 2 *"), Some(4));
        assert_eq!(years("0 0 29 2 +1"), Some(40));
        assert_eq!(years("0 0 1 1 *"), None);
        assert_eq!(years("*/30 * * * *"), None);
        let shorter = |expression, minutes: u64| {
            let gap = calendar(expression, "UTC").gap_shorter_than(Duration::from_secs(minutes * 60));
            gap.map(|gap| gap.as_secs() / 60)
        };
        assert_eq!(shorter("*/30 * * * *", 31), Some(30));
        assert_eq!(shorter("*/30 * * * *", 30), None);
        assert_eq!(shorter("0 3,4 * * 1", 90), Some(60));
        assert_eq!(shorter("0 0 1 1 *", 24 * 60), None);
        assert_eq!(shorter("0 0 29 2 *", 24 * 60), None);
    }

    #[test]
    fn calendars_are_equal_if_written_the_same() {
        assert_eq!(calendar("0 3 * * *", "europe/berlin"), calendar("0 3 * * *", "Europe/Berlin"));
        assert_ne!(calendar("0 3 * * *", "UTC"), calendar("0 3 * * *", "Europe/Berlin"));
        assert_eq!(calendar("0 3 * * *", "Europe/Berlin").describe(), "runs at 03:00 (Europe/Berlin)");
        assert_eq!(calendar("*/30 * * * *", "UTC").describe(), "runs every 30 minutes (UTC)");
        assert_eq!(calendar("* * * * *", "UTC").describe(), "runs every minute (UTC)");
    }
}
