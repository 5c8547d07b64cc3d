//! The rows of the table of keys.

use std::time::SystemTime;

use askama::Template;
use askama::filters::Safe;

use super::selection::{GroupKey, SelectedGroup};
use super::{day_and_time, minute, prose};
use crate::rotation::assignment::Subject;
use crate::rotation::decide::{Reason, Status};
use crate::rotation::key::{DesiredRotation, Rotation};
use crate::rotation::remedies;
use crate::rotation::report::{KeyReport, ProjectReport};
use crate::views::query::{Group, PageQuery, key_address};
use crate::views::wording;

/// The keys of one group, each in a row.
#[derive(Template)]
#[template(path = "views/page/rows.html")]
pub(super) struct Rows<'a> {
    group: &'a SelectedGroup<'a>,
    query: &'a PageQuery,
}

pub(super) fn rows<'a>(group: &'a SelectedGroup<'a>, query: &'a PageQuery) -> Safe<Rows<'a>> {
    Safe(Rows { group, query })
}

impl Rows<'_> {
    /// The heading of the group, if keys are grouped.
    fn heading(&self) -> Option<String> {
        let (project, key) = self.group.rows.first()?;
        let heading = match self.group.key {
            GroupKey::All => return None,
            GroupKey::Reason(_) => match self.reason() {
                Some(reason) => wording::reason(reason).to_owned(),
                None => "no reason".to_owned(),
            },
            GroupKey::Project(_) => project.name.to_string(),
            GroupKey::Status(_) => wording::status(key.status).to_owned(),
            GroupKey::Entry(..) => match key.entry_line {
                Some(line) => format!("{}: {}", project.name, wording::policy_line(line)),
                None => format!("{}: no policy entry", project.name),
            },
        };
        Some(heading)
    }

    /// The reason that the keys of the group have in common.
    fn reason(&self) -> Option<Reason> {
        let (_, key) = self.group.rows.first().filter(|_| self.query.group == Group::Reason)?;
        remedies::actionable(key.reasons).next()
    }

    /// What to do about it.
    fn remedy(&self) -> Option<&'static str> {
        self.reason().map(remedies::remedy)
    }

    /// The address of the page with all keys that have the reason.
    fn only_these(&self) -> Option<String> {
        let reason = self.reason().filter(|reason| self.query.reason != Some(*reason))?;
        Some(self.query.with_reason(Some(reason)).address())
    }

    /// Whether the row shows what to do: only the first key with the same reasons does. The other rows can be opened.
    fn opens_remedy(&self, at: usize) -> bool {
        let mut before = self.group.rows.iter().take(at);
        let reasons = self.group.rows.get(at).map(|(_, key)| key.reasons);
        self.query.group != Group::Reason && before.all(|(_, key)| Some(key.reasons) != reasons)
    }
}

/// One key's row.
#[derive(Template)]
#[template(path = "views/page/key_row.html")]
pub(super) struct KeyRow<'a> {
    pub(super) project: &'a ProjectReport,
    pub(super) key: &'a KeyReport,
    pub(super) opens_remedy: bool,
}

fn key_row<'a>(project: &'a ProjectReport, key: &'a KeyReport, opens_remedy: bool) -> Safe<KeyRow<'a>> {
    Safe(KeyRow { project, key, opens_remedy })
}

/// What the interval's column shows first.
pub(super) enum Interval {
    Off,
    Days(u32),
    Unknown,
    NotRead,
}

/// What the last rotation's column shows.
pub(super) enum LastRotation {
    At(SystemTime),
    /// Never, and when the key was created, where that is known.
    Never(Option<SystemTime>),
    /// What the cloud shows makes no sense.
    Unknown,
    NotRead,
}

impl KeyRow<'_> {
    fn address(&self) -> String {
        key_address(&self.project.name, self.key.subject.as_str())
    }

    /// The key's name, unless the row already calls it so, as that of an entry without a key.
    fn alias(&self) -> Option<&str> {
        self.key.alias.as_deref().filter(|_| matches!(self.key.subject, Subject::Key(_)))
    }

    /// What to do, if the key is a problem or has a finding.
    fn remedy(&self) -> Option<String> {
        let is_finding = self.project.coverage.is_problem(self.key.status)
            || (self.key.status == Status::Compliant && !self.key.reasons.is_empty())
            || self.key.reasons.contains(Reason::ExemptionEndsSoon);
        remedies::of(self.key.reasons).filter(|_| is_finding)
    }

    pub(super) fn interval(&self) -> Interval {
        match self.key.rotation {
            Some(Rotation { enabled: false, .. }) => Interval::Off,
            Some(Rotation { interval_days: Some(days), .. }) => Interval::Days(days),
            None if !self.could_not_be_read() => Interval::NotRead,
            Some(Rotation { interval_days: None, .. }) | None => Interval::Unknown,
        }
    }

    /// Whether the key was to be read, unlike an exempt one.
    fn could_not_be_read(&self) -> bool {
        matches!(self.key.subject, Subject::Key(_)) && matches!(self.key.status, Status::NonCompliant | Status::Unknown)
    }

    /// The policy's interval, if the key's differs.
    fn wanted_interval(&self) -> Option<impl std::fmt::Display> {
        let accepts = |desired: &DesiredRotation| match self.interval() {
            Interval::Days(days) => desired.accepts(days),
            Interval::Off | Interval::Unknown | Interval::NotRead => self.key.status == Status::Exempt,
        };
        self.key.desired.filter(|desired| !accepts(desired)).map(wording::wanted)
    }

    pub(super) fn last_rotation(&self) -> LastRotation {
        match (self.key.rotation, self.key.material_since) {
            (None, _) if !self.could_not_be_read() => LastRotation::NotRead,
            (Some(Rotation { last_rotated: Some(at), .. }), Some(_)) => LastRotation::At(at),
            (Some(Rotation { last_rotated: None, rotations: None | Some(0), .. }), _) => {
                LastRotation::Never(self.key.created)
            }
            _ => LastRotation::Unknown,
        }
    }
}
