//! The bar of a key over the period, and its axis: shapes for the HTML format.
//!
//! A bar has a fixed number of columns. A column shows the worst of its time, so that a departure of a minute can be
//! seen in a year.

use super::model::{Key, Shown, StretchCause};
use super::time::{DAY, Day, Time};
use crate::rotation::decide::Status;

/// The columns of a bar.
pub(super) const COLUMNS: usize = 500;

/// A part of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The class of its colour and height.
    pub(super) class: &'static str,
    pub(super) x: usize,
    pub(super) width: usize,
}

/// The time that bars show.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) from: Time,
    pub(super) to: Time,
}

impl Span {
    /// The column of a time.
    fn column(self, at: Time) -> usize {
        let length = self.to.since(self.from).max(1);
        let at = at.since(self.from).clamp(0, length);
        usize::try_from(i128::from(at) * COLUMNS as i128 / i128::from(length)).unwrap_or(0).min(COLUMNS)
    }

    /// The columns of a time, at least one.
    fn columns(self, from: Time, to: Time) -> std::ops::Range<usize> {
        let first = self.column(from).min(COLUMNS - 1);
        first..self.column(to.after(-1)).max(first).min(COLUMNS - 1) + 1
    }

    /// The place of a time in hundredths of the width, for the axis.
    fn place(self, at: Time) -> String {
        let length = self.to.since(self.from).max(1);
        let hundredths = i128::from(at.since(self.from)) * 10_000 / i128::from(length);
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// The parts of a key's timeline.
pub(super) fn parts(key: &Key, span: Span) -> Vec<Part> {
    let mut columns = [""; COLUMNS];
    for piece in &key.timeline {
        let class = piece.shown.as_str();
        for column in &mut columns[span.columns(piece.from, piece.to)] {
            if rank(piece.shown) > rank_of(column) {
                *column = class;
            }
        }
    }
    let mut parts = merged(&columns);
    // Below the bar: the material was too old, whatever the status was.
    let mut old = [""; COLUMNS];
    for stretch in key.off_policy.iter().filter(|stretch| stretch.cause == StretchCause::MaterialTooOld) {
        old[span.columns(stretch.from, stretch.to)].fill("old");
    }
    for stretch in key.off_policy.iter().filter(|stretch| stretch.cause == StretchCause::FoundAndRepaired) {
        parts.push(Part { class: "mark", x: span.column(stretch.from).min(COLUMNS - 2), width: 2 });
    }
    parts.extend(merged(&old));
    parts
}

/// The columns at which a key was rotated.
pub(super) fn rotations(key: &Key, span: Span) -> Vec<usize> {
    let times = key.rotations.iter().map(|rotation| rotation.rotated_at.unwrap_or(rotation.recorded_at));
    let mut columns: Vec<_> = times.filter(|at| *at >= span.from).map(|at| span.column(at)).collect();
    columns.dedup();
    columns
}

fn merged(columns: &[&'static str]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut x = 0;
    for same in columns.chunk_by(|one, other| one == other) {
        if let Some(class) = same.first().filter(|class| !class.is_empty()) {
            parts.push(Part { class, x, width: same.len() });
        }
        x += same.len();
    }
    parts
}

/// The worst has the highest rank.
fn rank(shown: Shown) -> usize {
    match shown {
        Shown::Status(Status::Exempt) => 1,
        Shown::Status(Status::Uncovered) => 2,
        Shown::Status(Status::Compliant) => 3,
        Shown::NotLooked => 4,
        Shown::Status(Status::Unknown) => 5,
        Shown::Status(Status::NonCompliant) => 6,
    }
}

fn rank_of(class: &str) -> usize {
    let all = Status::ALL.map(Shown::Status).into_iter().chain([Shown::NotLooked]);
    all.into_iter().find(|shown| shown.as_str() == class).map_or(0, rank)
}

/// A label of the axis.
pub(super) struct Tick {
    /// In per cent of the width.
    pub(super) place: String,
    pub(super) text: String,
}

/// The labels of the axis, at most nine: days, or the first days of months.
pub(super) fn ticks(span: Span) -> Vec<Tick> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = span.to.since(span.from) / DAY;
    let (first, last) = (span.from.day(), span.to.after(-1).day());
    let all = (0..=last.days_since(first).max(0)).map(|day| first.plus(day)).filter(|day| day.start() >= span.from);
    let tick = |day: Day, text: String| Tick { place: span.place(day.start()), text };
    let month = |day: Day| usize::try_from(day.of_month().0 - 1).ok().and_then(|month| MONTHS.get(month)).copied();
    if days < 62 {
        let step = usize::try_from(days / 8 + 1).unwrap_or(1);
        let text = |day: Day| format!("{} {}", day.of_month().1, month(day).unwrap_or_default());
        return all.step_by(step).map(|day| tick(day, text(day))).collect();
    }
    let step = i8::try_from(match days / 31 {
        0..=8 => 1,
        9..=17 => 2,
        18..=26 => 3,
        27..=50 => 6,
        _ => 12,
    })
    .unwrap_or(1);
    let begins = all.filter(|day| day.of_month().1 == 1 && (day.of_month().0 - 1) % step == 0);
    let text = |day: Day| match day.of_month().0 {
        1 => day.to_string().get(..4).unwrap_or_default().to_owned(),
        _ => month(day).unwrap_or_default().to_owned(),
    };
    begins.map(|day| tick(day, text(day))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: &str, to: &str) -> Span {
        let day = |text: &str| text.parse::<Day>().unwrap();
        Span { from: day(from).start(), to: day(to).end() }
    }

    fn texts(from: &str, to: &str) -> Vec<String> {
        ticks(span(from, to)).into_iter().map(|tick| tick.text).collect()
    }

    #[test]
    fn an_axis_has_a_readable_number_of_labels() {
        assert_eq!(texts("2026-01-01", "2026-06-30"), ["2026", "Feb", "Mar", "Apr", "May", "Jun"]);
        assert_eq!(texts("2026-03-15", "2026-03-18"), ["15 Mar", "16 Mar", "17 Mar", "18 Mar"]);
        assert_eq!(texts("2025-03-15", "2026-06-30"), ["May", "Jul", "Sep", "Nov", "2026", "Mar", "May"]);
        for (from, to) in [("2026-01-01", "2026-03-01"), ("2020-01-01", "2026-12-31"), ("2026-05-05", "2026-05-05")] {
            assert!((1..=9).contains(&texts(from, to).len()), "{from} {to}: {:?}", texts(from, to));
        }
    }

    #[test]
    fn the_shortest_time_has_a_column_and_the_last_one_is_within_the_bar() {
        let year = span("2026-01-01", "2026-12-31");
        assert_eq!(year.columns(year.from, year.from.after(1)), 0..1);
        assert_eq!(year.columns(year.from, year.to), 0..COLUMNS);
        assert_eq!(year.columns(year.to, year.to), COLUMNS - 1..COLUMNS);
        assert_eq!(year.place(year.from.after(DAY * 73)), "20.00");
    }

    #[test]
    fn every_status_has_a_rank_of_its_own() {
        let mut ranks: Vec<_> = Status::ALL.map(|status| rank(Shown::Status(status))).to_vec();
        ranks.push(rank(Shown::NotLooked));
        ranks.sort_unstable();
        assert_eq!(ranks, [1, 2, 3, 4, 5, 6]);
        assert_eq!(rank_of(""), 0);
    }
}
