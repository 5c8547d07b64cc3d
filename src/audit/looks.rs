//! When runs have looked at the keys, and the gaps between them.
//!
//! The gap rule is that of the rotation proof: a gap counts if no run began until three scheduled runs were over, and
//! at least a day had passed. The run before it has recorded that time as `gap_after`.

use super::time::{DAY, Day, Time};

/// A run that was not interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) started: Time,
    pub(super) ended: Time,
    /// A run that starts later leaves a gap; `None` if the run had no schedule.
    pub(super) gap_after: Option<Time>,
}

impl Look {
    /// The end of what this run shows. Without a schedule it is a day, the least of the gap rule.
    fn holds_until(&self) -> Time {
        self.gap_after.unwrap_or(self.started.after(DAY)).max(self.started.after(DAY))
    }
}

/// All runs of a log within a period.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    /// By time.
    all: Vec<Look>,
    /// When the first run after the period began.
    next: Option<Time>,
}

impl Looks {
    pub(super) fn add(&mut self, look: Look) {
        self.all.push(look);
    }

    /// A run after the period; only the first one counts.
    pub(super) fn add_after_period(&mut self, started: Time) {
        self.next.get_or_insert(started);
    }

    /// The runs that ended within a time.
    pub(super) fn count(&self, from: Time, to: Time) -> usize {
        self.all.iter().filter(|look| look.ended >= from && look.started <= to).count()
    }

    /// Until when the gap rule allows that nothing is read after this time.
    pub(super) fn allows_until(&self, at: Time) -> Time {
        let before = self.all.partition_point(|look| look.ended <= at);
        match before.checked_sub(1).and_then(|last| self.all.get(last)) {
            Some(look) => look.holds_until(),
            None => at.after(DAY),
        }
    }

    /// The gaps that the gap rule does not allow, by time. `begins` is the time of the log's first record.
    pub(super) fn gaps(&self, begins: Time, from: Time, to: Time) -> Vec<(Time, Time)> {
        let mut gaps = Vec::new();
        let mut add = |after: Time, until: Time, allowed: Time| {
            let (start, end) = (after.max(from), until.min(to));
            if until > allowed && start < end {
                gaps.push((start, end));
            }
        };
        let (mut last, mut allowed) = (begins, begins.after(DAY));
        for look in &self.all {
            add(last, look.started, allowed);
            (last, allowed) = (look.ended, look.holds_until());
        }
        add(last, self.next.unwrap_or(to), allowed);
        gaps
    }

    /// On which days of a period a run has looked.
    pub(super) fn days(&self, from: Day, to: Day) -> LookedDays {
        let days = usize::try_from(to.days_since(from) + 1).unwrap_or(0);
        let mut looked = vec![false; days];
        for look in &self.all {
            let (first, last) = (look.started.day().max(from), look.ended.day().min(to));
            for day in first.days_since(from)..=last.days_since(from) {
                if let Some(day) = usize::try_from(day).ok().and_then(|day| looked.get_mut(day)) {
                    *day = true;
                }
            }
        }
        let mut not_looked = vec![0];
        not_looked.extend(looked.iter().scan(0, |sum, looked| {
            *sum += i64::from(!looked);
            Some(*sum)
        }));
        LookedDays { from, not_looked }
    }
}

/// On which days a run has looked.
#[derive(Clone, Debug)]
pub(super) struct LookedDays {
    from: Day,
    /// The days without a run before each day, and before the end.
    not_looked: Vec<i64>,
}

impl LookedDays {
    /// The days from one time to another, and on how many of them no run has looked.
    pub(super) fn between(&self, from: Time, to: Time) -> (i64, i64) {
        // A time that ends at midnight is not of the day that begins.
        let last = if to > from { to.after(-1).day() } else { to.day() };
        let place = |day: Day| {
            let place = usize::try_from(day.days_since(self.from)).unwrap_or(0);
            place.min(self.not_looked.len() - 1)
        };
        let (first, end) = (place(from.day()), place(last.plus(1)));
        let at = |place: usize| self.not_looked.get(place).copied().unwrap_or(0);
        (i64::try_from(end.saturating_sub(first)).unwrap_or(0), at(end) - at(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(hours: i64) -> Time {
        Time(hours * DAY / 24)
    }

    fn look(started: i64, gap_after: Option<i64>) -> Look {
        Look { started: hours(started), ended: hours(started), gap_after: gap_after.map(hours) }
    }

    #[test]
    fn a_gap_counts_if_it_is_longer_than_three_runs_and_a_day() {
        let mut looks = Looks::default();
        for look in [look(0, Some(3)), look(20, Some(23)), look(50, None), look(74, Some(150)), look(140, Some(164))] {
            looks.add(look);
        }
        assert_eq!(looks.gaps(hours(0), hours(0), hours(160)), [(hours(20), hours(50))]);
        assert_eq!(looks.gaps(hours(0), hours(30), hours(40)), [(hours(30), hours(40))]);
        assert_eq!(looks.gaps(hours(0), hours(0), hours(200)).len(), 2, "no run after the last one");
        looks.add_after_period(hours(163));
        assert_eq!(looks.gaps(hours(0), hours(0), hours(162)).len(), 1);
        assert_eq!((looks.allows_until(hours(80)), looks.allows_until(hours(-1))), (hours(150), hours(23)));
    }

    #[test]
    fn days_without_a_run_are_counted() {
        let mut looks = Looks::default();
        for look in [look(1, None), look(30, None), look(100, None)] {
            looks.add(look);
        }
        let days = looks.days(hours(0).day(), hours(120).day());
        assert_eq!(days.between(hours(0), hours(144)), (6, 3));
        assert_eq!(days.between(hours(0), hours(48)), (2, 0));
        assert_eq!(days.between(hours(50), hours(60)), (1, 1));
        assert_eq!(days.between(hours(50), hours(50)), (1, 1));
    }
}
