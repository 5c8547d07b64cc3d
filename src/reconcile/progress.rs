//! What a run knows of one key, from the order to look at it to the row of the report.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::rotation::cover::{Case, Course};
use crate::rotation::decide::{Reason, Reasons, Status, Steps, Verdict, decide};
use crate::rotation::key::{Bound, CallFailure, DesiredRotation, KeyId, Reading, Rotation, RotationInterval};
use crate::rotation::observed::{Enabling, ObservedKey, WrittenBefore};
use crate::rotation::report::{Change, KeyError, KeyReport};
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
    let Case { subject, rule, listed, unsure, .. } = case;
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
        error: unsure.filter(|_| status == Status::Unknown).map(|unsure| KeyError::new(&unsure.to_string(), None)),
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

/// What the guards of a run have made of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They do not concern it.
    Unguarded,
    /// It is off its policy.
    OffPolicy,
    /// A selector brings it in, and it takes no share of the run's changes, since it was on when this process last asked.
    Unplanned,
}

/// A key on its way through a run.
pub(super) struct Progress<'a> {
    pub(super) order: Order<'a>,
    pub(super) observed: ObservedKey,
    pub(super) seen: Option<(Rotation, SystemTime)>,
    /// When it was last asked about.
    pub(super) asked: Instant,
    pub(super) described: bool,
    /// What the guards of the run have made of it.
    pub(super) standing: Standing,
    /// More may have to be done about it than to read it.
    pub(super) is_open: bool,
    /// Rotation was switched on, or may have been, and its interval is still to be sent.
    pub(super) owes_interval: bool,
    pub(super) alias: Option<Box<str>>,
    pub(super) restarts: u32,
    pub(super) changes: Vec<Change>,
    pub(super) error: Option<KeyError>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(order: Order<'a>) -> Self {
        Self {
            order,
            observed: ObservedKey::new(Reading::Failed(CallFailure::Other)),
            seen: None,
            asked: Instant::now(),
            described: false,
            standing: Standing::Unguarded,
            is_open: false,
            owes_interval: false,
            alias: None,
            restarts: 0,
            changes: Vec::new(),
            error: None,
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        decide(self.order.desired, &self.observed)
    }

    pub(super) fn rotation(&self) -> Option<Rotation> {
        match self.observed.reading {
            Reading::Rotation(rotation) => Some(rotation),
            _ => None,
        }
    }

    pub(super) fn report(mut self, verdict: Verdict) -> KeyReport {
        self.note_unproven_interval(verdict);
        let says_nothing = verdict.status == Status::Exempt || verdict.reasons.is_empty();
        KeyReport {
            alias: self.alias.or_else(|| alias_of(self.order.case.rule)),
            rotation: self.seen.map(|(rotation, _)| rotation),
            observed: self.seen.map(|(_, at)| at),
            planned: verdict.steps,
            changes: self.changes,
            error: self.error.filter(|_| !says_nothing),
            ..settled(self.order.case, verdict.status, verdict.reasons)
        }
    }

    /// Where the setting cannot be read and a shorter interval would be right as well, none is sent to a key that was
    /// on: what it is remains unproven, and that is said.
    fn note_unproven_interval(&mut self, verdict: Verdict) {
        let Self { order: Order { desired, .. }, observed, .. } = self;
        let unreadable = observed.reading == Reading::NotOffered && verdict.reasons.contains(Reason::StatusUnreadable);
        let is_set = observed.interval_sent
            || matches!(observed.written_before, WrittenBefore::Interval(set) if desired.accepts(set.days().into()));
        let was_asked = observed.enabling != Enabling::NotSent;
        if unreadable && desired.bound == Bound::Longest && was_asked && !is_set {
            let text = format!(
                "its interval is not proven and may be up to {}: the cloud does not show it, and this process has not \
                 set it; ask for `rotation_interval: {}` once to set it, or look it up in the cloud's console",
                RotationInterval::AFTER_ENABLING,
                desired.interval.days(),
            );
            match &mut self.error {
                Some(error) => error.add(&text),
                None => self.error = Some(KeyError::new(&text, None)),
            }
        }
    }
}

/// The key had, or has, exactly this interval.
pub(super) fn has_interval(rotation: Rotation, interval: RotationInterval) -> bool {
    rotation.interval_days == Some(u32::from(interval.days()))
}
