//! What a run knows of one key, from the order to look at it to the row of the report.

use std::time::SystemTime;

use crate::rotation::cover::{Case, Course};
use crate::rotation::decide::{Reason, Reasons, Status, Step, Steps, Verdict};
use crate::rotation::key::{DesiredRotation, KeyId, ReadFailure, Reading, Rotation};
use crate::rotation::observed::ObservedKey;
use crate::rotation::report::{Change, KeyReport};
use crate::rotation::rule::{Asks, Names, Rule};

/// A key that is to be brought to its policy.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) key_id: KeyId,
    pub(super) desired: DesiredRotation,
    pub(super) case: &'a Case<'a>,
}

impl<'a> Order<'a> {
    /// The order to bring the case's key to this; nothing where the case is about no key.
    pub(super) fn of(case: &'a Case<'a>, desired: DesiredRotation) -> Option<Self> {
        Some(Self { key_id: case.subject.key_id()?, desired, case })
    }

    pub(super) fn is_selected(&self) -> bool {
        self.case.rule.is_some_and(|rule| matches!(rule.names, Names::Select(_)))
    }
}

/// A key of which all is known without asking.
pub(super) fn settled(case: &Case<'_>, status: Status, reasons: Reasons) -> KeyReport {
    let Case { subject, rule, listed, .. } = case;
    let (desired, exemption) = match rule.map(|rule| &rule.asks) {
        Some(Asks::Rotation(desired)) => (Some(*desired), None),
        Some(Asks::Exempt(exemption)) => (None, Some(exemption.clone())),
        None => (None, None),
    };
    KeyReport {
        subject: subject.clone(),
        entry_line: rule.map(|rule: &Rule| rule.line),
        alias: listed.and_then(|key| key.description.alias.clone()).or_else(|| alias_of(*rule)),
        desired,
        exemption,
        status,
        reasons,
        rotation: None,
        observed: None,
        planned: Steps::NONE,
        changes: Vec::new(),
        error: None,
    }
}

/// The name by which an entry calls its key.
fn alias_of(rule: Option<&Rule>) -> Option<Box<str>> {
    match rule.map(|rule| &rule.names) {
        Some(Names::Alias(alias)) => Some(alias.clone()),
        _ => None,
    }
}

/// A key of a project that cannot be asked at all.
pub(super) fn unreachable(case: &Case<'_>, reason: Reason) -> KeyReport {
    match case.course {
        Course::Observe(_) => settled(case, Status::Unknown, reason.into()),
        Course::Settled(status, reasons) => settled(case, status, reasons),
    }
}

/// A key on its way through a run.
pub(super) struct Progress<'a> {
    pub(super) order: Order<'a>,
    pub(super) observed: ObservedKey,
    pub(super) seen: Option<(Rotation, SystemTime)>,
    pub(super) described: bool,
    /// The guards were asked.
    pub(super) guarded: bool,
    /// It was off its policy when they were.
    pub(super) off_policy: bool,
    pub(super) alias: Option<Box<str>>,
    pub(super) restarts: u32,
    pub(super) changes: Vec<Change>,
    pub(super) error: Option<Box<str>>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(order: Order<'a>) -> Self {
        Self {
            order,
            observed: ObservedKey::new(Reading::Failed(ReadFailure::Other)),
            seen: None,
            described: false,
            guarded: false,
            off_policy: false,
            alias: None,
            restarts: 0,
            changes: Vec::new(),
            error: None,
        }
    }

    pub(super) fn rotation(&self) -> Option<Rotation> {
        match self.observed.reading {
            Reading::Rotation(rotation) => Some(rotation),
            _ => None,
        }
    }

    /// The last reading shows what the step was to bring about, and it was not so before.
    pub(super) fn shows(&self, step: Step, before: Option<Rotation>) -> bool {
        let Some(now) = self.rotation() else { return false };
        match step {
            Step::EnableRotation => now.enabled,
            // A value that was right before the write (`reapply: always`) proves nothing about it.
            Step::UpdateInterval(interval) => {
                let wanted = Some(u32::from(interval.days()));
                now.enabled && now.interval_days == wanted && before.is_none_or(|b| b.interval_days != wanted)
            }
        }
    }

    pub(super) fn report(self, verdict: Verdict) -> KeyReport {
        let is_settled = matches!(verdict.status, Status::Compliant | Status::Exempt);
        KeyReport {
            alias: self.alias.or_else(|| alias_of(self.order.case.rule)),
            rotation: self.seen.map(|(rotation, _)| rotation),
            observed: self.seen.map(|(_, at)| at),
            planned: verdict.steps,
            changes: self.changes,
            error: self.error.filter(|_| !is_settled),
            ..settled(self.order.case, verdict.status, verdict.reasons)
        }
    }
}
