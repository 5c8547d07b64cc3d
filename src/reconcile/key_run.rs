//! The state of one key in one run, from its task to its row in the report.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::rotation::assignment::Assignment;
use crate::rotation::decide::{Reason, Reasons, Status, Step, Steps, Verdict, decide, decide_setting};
use crate::rotation::key::{Bound, CallFailure, DesiredRotation, KeyId, KeyState, Reading, Rotation, RotationInterval};
use crate::rotation::material::History;
use crate::rotation::observed::{Enabling, ObservedKey, WrittenBefore};
use crate::rotation::project::ProofRule;
use crate::rotation::report::{Change, KeyError, KeyReport};
use crate::rotation::rule::{Matcher, Requirement, Rule};

/// A key, and the rotation that the policy requires of it.
#[derive(Clone, Copy)]
pub(super) struct KeyTask<'a> {
    pub(super) key_id: KeyId,
    pub(super) desired: DesiredRotation,
    pub(super) assignment: &'a Assignment<'a>,
}

impl<'a> KeyTask<'a> {
    /// The task for the assigned key; nothing for an entry without a key.
    pub(super) fn of(assignment: &'a Assignment<'a>, desired: DesiredRotation) -> Option<Self> {
        Some(Self { key_id: assignment.subject.key_id()?, desired, assignment })
    }

    /// The interval that the step sets, or that is to be sent after enabling, which sets another one.
    pub(super) fn interval_with(&self, step: Step) -> Option<RotationInterval> {
        let after_enabling = Some(self.desired.interval).filter(|wanted| *wanted != RotationInterval::AFTER_ENABLING);
        step.interval().or(after_enabling)
    }

    /// Whether a selector matches the key, instead of an entry that names it.
    pub(super) fn is_selected(&self) -> bool {
        self.assignment.rule.is_some_and(|rule| matches!(rule.matcher, Matcher::Select(_)))
    }
}

/// How the guards of a run treat a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The guards do not apply to it.
    Unguarded,
    /// It was read as off policy: a change counts as a repair.
    OffPolicy,
    /// A selector matches it, its setting cannot be read, and it was on when last asked. It takes no share of the run's
    /// changes, so a change counts when it may have been made; the key is unguarded from then on.
    Unplanned,
}

/// The state of one key in one run.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct KeyRun<'a> {
    pub(super) task: KeyTask<'a>,
    pub(super) observed: ObservedKey,
    /// What this reading and those of earlier runs have shown.
    pub(super) history: History,
    /// Rotations of its material that this run has seen for the first time.
    pub(super) new_rotations: u64,
    /// The key's state on a list of this run.
    pub(super) state: Option<KeyState>,
    /// A write has taken effect that no reading has followed yet.
    pub(super) is_unread: bool,
    /// When the last reading ended.
    pub(super) read_at: Instant,
    /// Whether it is known what blocks its rotation: from `describe-key`, or from a list of this run.
    pub(super) described: bool,
    pub(super) standing: Standing,
    /// Whether the run's progress counts it as done.
    pub(super) is_done: bool,
    /// Rotation was switched on, or may have been, and the policy's interval is still to be sent.
    pub(super) interval_due: bool,
    pub(super) alias: Option<Arc<str>>,
    /// How often rotation was found off after it was on.
    pub(super) restarts: u32,
    /// How often the key was read again since its last write.
    pub(super) read_backs: usize,
    pub(super) changes: Vec<Change>,
    /// The last error of a call for this key.
    pub(super) error: Option<KeyError>,
}

impl<'a> KeyRun<'a> {
    pub(super) fn new(task: KeyTask<'a>) -> Self {
        Self {
            task,
            observed: ObservedKey::new(Reading::Failed(CallFailure::Other)),
            history: History::default(),
            new_rotations: 0,
            state: None,
            is_unread: false,
            read_at: Instant::now(),
            described: false,
            standing: Standing::Unguarded,
            is_done: false,
            interval_due: false,
            alias: None,
            restarts: 0,
            read_backs: 0,
            changes: Vec::new(),
            error: None,
        }
    }

    /// The verdict on the key's setting, which the run acts on.
    pub(super) fn verdict(&self) -> Verdict {
        decide_setting(self.task.desired, &self.observed)
    }

    /// The setting that was last read; `None` if the last reading failed.
    pub(super) fn rotation(&self) -> Option<Rotation> {
        match self.observed.reading {
            Reading::Rotation(rotation) => Some(rotation),
            _ => None,
        }
    }

    /// The key's name, where it is known.
    pub(super) fn alias(&self) -> Option<&str> {
        self.alias.as_deref().or_else(|| alias_in(self.task.assignment.rule))
    }

    /// Whether the step would change the key without a share of the run's changes.
    pub(super) fn is_unplanned(&self, step: Step) -> bool {
        self.standing == Standing::Unplanned && step == Step::EnableRotation
    }

    /// The report at this time by the cloud's clock.
    pub(super) fn report(mut self, proof: ProofRule, now: SystemTime) -> KeyReport {
        self.observed.material = self.history.material();
        let read_at = self.history.last().map_or(now, |last| last.at);
        let verdict = decide(self.task.desired, &self.observed, proof, read_at);
        if self.leaves_interval_unproven(verdict) {
            self.note_unproven_interval();
        }
        let has_nothing_to_explain = verdict.status == Status::Exempt || verdict.reasons.is_empty();
        let history = &self.history;
        let interval = verdict.steps.iter().find_map(Step::interval);
        KeyReport {
            alias: self.alias.or_else(|| alias_in(self.task.assignment.rule).map(Into::into)),
            planned: verdict.steps,
            age_if_written: interval.and_then(|interval| history.age_after_write(interval, now)),
            new_rotations: self.new_rotations,
            changes: self.changes,
            error: self.error.filter(|_| !has_nothing_to_explain),
            ..last_known(self.task.assignment, verdict.status, verdict.reasons, history, proof)
        }
    }

    /// Rule 4: the setting cannot be read, the key was on, and a shorter interval would be on policy too, so none was
    /// sent.
    fn leaves_interval_unproven(&self, verdict: Verdict) -> bool {
        let Self { task: KeyTask { desired, .. }, observed, .. } = self;
        let unreadable = observed.reading == Reading::NotOffered && verdict.reasons.contains(Reason::StatusUnreadable);
        let is_set = observed.interval_sent
            || matches!(observed.written_before, WrittenBefore::Interval(set) if desired.accepts(set.days().into()));
        unreadable && desired.bound == Bound::Longest && observed.enabling != Enabling::NotSent && !is_set
    }

    fn note_unproven_interval(&mut self) {
        let text = format!(
            "its interval is not proven and may be up to {}: the cloud does not show it, and this process has not set \
             it; set `rotation_interval: {}` in the policy for one run, or look it up in the cloud's console",
            RotationInterval::AFTER_ENABLING,
            self.task.desired.interval.days(),
        );
        match &mut self.error {
            Some(error) => error.add(&text),
            None => self.error = Some(KeyError::new(&text, None)),
        }
    }
}

/// The report of a key with this status. It shows the last reading that there was.
pub(super) fn last_known(
    assignment: &Assignment<'_>,
    status: Status,
    reasons: Reasons,
    history: &History,
    proof: ProofRule,
) -> KeyReport {
    let Assignment { subject, rule, listed, unsure, .. } = assignment;
    let (desired, exemption) = match rule.map(|rule| &rule.requirement) {
        Some(Requirement::Rotation(desired)) => (Some(*desired), None),
        Some(Requirement::Exempt(exemption)) => (None, Some(exemption.clone())),
        None => (None, None),
    };
    KeyReport {
        subject: subject.clone(),
        entry_line: rule.map(|rule: &Rule| rule.line),
        alias: listed.and_then(|key| key.description.alias.clone()).or_else(|| alias_in(*rule).map(Into::into)),
        desired,
        exemption,
        status,
        reasons,
        created: listed.and_then(|key| key.description.created).or(history.created),
        rotation: history.last().map(|last| last.rotation),
        observed: history.last().map(|last| last.read_at),
        material_since: history.material().since,
        rotation_due: history.rotation_due(),
        overdue_from: history.overdue_from(proof.grace),
        planned: Steps::NONE,
        age_if_written: None,
        new_rotations: 0,
        changes: Vec::new(),
        error: unsure.filter(|_| status == Status::Unknown).map(|unsure| KeyError::new(&unsure.to_string(), None)),
    }
}

/// The alias by which a policy entry names its key.
fn alias_in(rule: Option<&Rule>) -> Option<&str> {
    match rule.map(|rule| &rule.matcher) {
        Some(Matcher::Alias(alias)) => Some(alias),
        _ => None,
    }
}
