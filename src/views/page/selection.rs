//! The keys that one page shows: filtered, in groups, in order, at most [`ROWS`] of them.

use std::cmp::Ordering;
use std::time::SystemTime;

use crate::rotation::decide::{Reason, Status};
use crate::rotation::key::Rotation;
use crate::rotation::remedies;
use crate::rotation::report::{KeyReport, ProjectReport, Report};
use crate::views::query::{Group, PageQuery, Sort};
use crate::views::wording::PROBLEMS_FIRST;

/// The most keys of a page.
pub(super) const ROWS: usize = 200;

/// A key with its project, by their indices in the report.
#[derive(Clone, Copy)]
struct Place {
    project: usize,
    key: usize,
}

/// What the keys of a group have in common; its order is that of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GroupKey {
    All,
    /// `None` sorts last.
    Reason(std::cmp::Reverse<Option<std::cmp::Reverse<Reason>>>),
    Project(usize),
    Status(usize),
    /// The project, and the line of the entry; keys without one are last.
    Entry(usize, u32),
}

/// A group, or the part of it that is on this page.
pub(super) struct SelectedGroup<'r> {
    pub(super) key: GroupKey,
    /// Its keys on all pages.
    pub(super) total: usize,
    pub(super) rows: Vec<(&'r ProjectReport, &'r KeyReport)>,
}

/// The keys of one page.
pub(super) struct Selection<'r> {
    pub(super) groups: Vec<SelectedGroup<'r>>,
    /// The keys on all pages.
    pub(super) total: usize,
    /// This page, counted from 0: the last one, if there are fewer than were asked for.
    pub(super) page: usize,
}

impl Selection<'_> {
    /// How many pages there are, at least one.
    pub(super) fn pages(&self) -> usize {
        self.total.div_ceil(ROWS).max(1)
    }

    /// The numbers of the first and the last row of this page, counted from 1.
    pub(super) fn range(&self) -> (usize, usize) {
        let rows: usize = self.groups.iter().map(|group| group.rows.len()).sum();
        (self.page * ROWS + usize::from(rows > 0), self.page * ROWS + rows)
    }
}

/// The keys of the report that this page shows.
pub(super) fn select<'r>(report: &'r Report, query: &PageQuery) -> Selection<'r> {
    let keys = |place: &Place| (&report.projects[place.project], &report.projects[place.project].keys[place.key]);
    let mut places = Vec::new();
    for (project_at, project) in report.projects.iter().enumerate() {
        if query.shows_project(project) {
            let shown = project.keys.iter().enumerate().filter(|(_, key)| query.shows(project, key));
            places.extend(shown.map(|(key, _)| Place { project: project_at, key }));
        }
    }
    let group_of = |place: &Place| group(query.group, place.project, keys(place).1);
    // Stable: equal keys stay in the order of the policy.
    places.sort_by(|one, other| {
        let order = compare(query.sort, keys(one), keys(other));
        let order = if query.descending { order.reverse() } else { order };
        group_of(one).cmp(&group_of(other)).then(order)
    });
    let page = query.page.min(places.len().div_ceil(ROWS).saturating_sub(1));
    let mut groups: Vec<SelectedGroup<'r>> = Vec::new();
    for place in places.iter().skip(page * ROWS).take(ROWS) {
        let key = group_of(place);
        if groups.last().is_none_or(|group| group.key != key) {
            // They stand together, in order.
            let before = places.partition_point(|other| group_of(other) < key);
            let total = places.partition_point(|other| group_of(other) <= key) - before;
            groups.push(SelectedGroup { key, total, rows: Vec::new() });
        }
        if let Some(group) = groups.last_mut() {
            group.rows.push(keys(place));
        }
    }
    Selection { groups, total: places.len(), page }
}

fn group(by: Group, project: usize, key: &KeyReport) -> GroupKey {
    match by {
        Group::None => GroupKey::All,
        Group::Reason => {
            let reason = remedies::actionable(key.reasons).next();
            GroupKey::Reason(std::cmp::Reverse(reason.map(std::cmp::Reverse)))
        }
        Group::Project => GroupKey::Project(project),
        Group::Status => GroupKey::Status(rank(key.status)),
        Group::Entry => GroupKey::Entry(project, key.entry_line.unwrap_or(u32::MAX)),
    }
}

/// Problems come first.
fn rank(status: Status) -> usize {
    PROBLEMS_FIRST.iter().position(|listed| *listed == status).unwrap_or_default()
}

/// The order of two keys. What is not known is last.
fn compare(sort: Sort, one: (&ProjectReport, &KeyReport), other: (&ProjectReport, &KeyReport)) -> Ordering {
    fn known_first<T: Copy + Ord>(one: Option<T>, other: Option<T>) -> Ordering {
        one.is_none().cmp(&other.is_none()).then(one.cmp(&other))
    }
    fn interval(rotation: Option<Rotation>) -> Option<u32> {
        rotation.and_then(|rotation| if rotation.enabled { rotation.interval_days } else { Some(0) })
    }
    fn rotated(key: &KeyReport) -> Option<SystemTime> {
        key.rotation.and_then(|rotation| rotation.last_rotated)
    }
    fn name(key: &KeyReport) -> &str {
        key.alias.as_deref().unwrap_or(key.subject.as_str())
    }
    match sort {
        Sort::Status => rank(one.1.status).cmp(&rank(other.1.status)),
        Sort::Name => name(one.1).cmp(name(other.1)),
        Sort::Project => one.0.name.cmp(&other.0.name),
        Sort::Interval => known_first(interval(one.1.rotation), interval(other.1.rotation)),
        Sort::Rotated => known_first(rotated(one.1), rotated(other.1)),
        Sort::Due => known_first(one.1.rotation_due, other.1.rotation_due),
        Sort::Observed => known_first(one.1.observed, other.1.observed),
    }
}
