//! Times and days of a report: milliseconds and days since 1970, in UTC.
//!
//! Plain numbers, since a report compares and subtracts many of them.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde::{Serialize, Serializer};

use crate::evidence::reader::parse_time;

/// A second, in milliseconds.
pub(super) const SECOND: i64 = 1_000;
/// A day, in milliseconds. Every day has 86 400 seconds.
pub(super) const DAY: i64 = 86_400 * SECOND;

/// A time, to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub(super) i64);

/// A day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

/// A text that is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a day such as 2026-06-30")]
pub struct InvalidDay;

impl Time {
    /// A time as records have it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        parse_time(text).map(Self::from)
    }

    /// The day of this time.
    #[must_use]
    pub fn day(self) -> Day {
        Day(self.0.div_euclid(DAY))
    }

    /// The milliseconds since 1970.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// The milliseconds since an earlier time; negative if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The time this many milliseconds later.
    #[must_use]
    pub(super) fn after(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }

    /// A time to the minute, for people: `2026-11-22 01:51`.
    pub(super) fn minute(self) -> impl fmt::Display {
        self.timestamp().strftime("%Y-%m-%d %H:%M")
    }
}

impl From<SystemTime> for Time {
    fn from(at: SystemTime) -> Self {
        let millis = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match at.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

/// RFC 3339, to the millisecond.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Day {
    /// Its first moment.
    #[must_use]
    pub fn start(self) -> Time {
        Time(self.0.saturating_mul(DAY))
    }

    /// The first moment of the next day.
    #[must_use]
    pub fn end(self) -> Time {
        Time(self.0.saturating_add(1).saturating_mul(DAY))
    }

    /// The days from another day to this one.
    pub(super) fn days_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// A day later or earlier.
    pub(super) fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    fn date(self) -> Date {
        let days = i32::try_from(self.0).unwrap_or(0);
        Date::constant(1970, 1, 1).checked_add(days.days()).unwrap_or(if self.0 < 0 { Date::MIN } else { Date::MAX })
    }

    /// Its month and day of the month.
    pub(super) fn of_month(self) -> (i8, i8) {
        let date = self.date();
        (date.month(), date.day())
    }
}

impl FromStr for Day {
    type Err = InvalidDay;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Other forms of ISO 8601, such as 20260630, are not accepted.
        if text.len() != 10 {
            return Err(InvalidDay);
        }
        let date: Date = text.parse().map_err(|_| InvalidDay)?;
        let span = Date::constant(1970, 1, 1).until(date).map_err(|_| InvalidDay)?;
        Ok(Self(span.get_days().into()))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date())
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A length of time for people, in the two largest units: `3 days 4 h`, `2 h 5 min`, `12 s`.
pub(super) fn length(millis: i64) -> impl fmt::Display {
    let seconds = millis.max(0) / SECOND;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let plural = if days == 1 { "day" } else { "days" };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, ..) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} {plural}"),
        _ => format!("{days} {plural} {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_in_one_form_and_written_in_the_same() {
        for text in ["1970-01-01", "2026-06-30", "2024-02-29", "1969-12-31"] {
            assert_eq!(text.parse::<Day>().map(|day| day.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "2026-02-30", "20260630", "2026-6-30", "2026-06-30T00:00:00Z", "+02026-01-1"] {
            assert_eq!(text.parse::<Day>(), Err(InvalidDay), "{text}");
        }
    }

    #[test]
    fn a_day_begins_and_ends_at_midnight_in_utc() {
        let day: Day = "2026-06-30".parse().unwrap();
        assert_eq!(day.start().to_string(), "2026-06-30T00:00:00.000Z");
        assert_eq!(day.end().to_string(), "2026-07-01T00:00:00.000Z");
        assert_eq!((day.start().day(), day.end().day()), (day, day.plus(1)));
        assert_eq!(Time(-1).day().to_string(), "1969-12-31");
    }

    #[test]
    fn a_length_has_the_two_largest_units() {
        let lengths = [0, 59, 60, 3_600, 3_661, 86_400, 90_000, 200_000].map(|seconds| length(seconds * SECOND));
        let lengths = lengths.map(|length| length.to_string());
        assert_eq!(lengths, ["0 s", "59 s", "1 min", "1 h", "1 h 1 min", "1 day", "1 day 1 h", "2 days 7 h"]);
    }
}
