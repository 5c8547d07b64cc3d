//! The decision: desired rotation × observed key → verdict.
//!
//! [`decide`] is pure and total. `plan` prints its verdict, `monitor` mode reports it, `apply` and `run` carry out its
//! steps, read the key, and decide again until no step is left.

use std::fmt;
use std::time::SystemTime;

pub use super::reason::{Reason, Reasons, Status};

use super::key::{Bound, CallFailure, DesiredRotation, Reading, Reapply, Rotation, RotationBlocker, RotationInterval};
use super::material::Material;
use super::observed::{Enabling, Hold, ObservedKey, WrittenBefore};
use super::project::{Proof, ProofRule};

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `enable-key-rotation`
    EnableRotation,
    /// `update-key-rotation-interval`
    UpdateInterval(RotationInterval),
}

impl Step {
    /// The name in logs and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnableRotation => "enable_rotation",
            Self::UpdateInterval(_) => "update_interval",
        }
    }

    /// The interval that the step sets by its own words.
    #[must_use]
    pub(crate) fn interval(self) -> Option<RotationInterval> {
        match self {
            Self::EnableRotation => None,
            Self::UpdateInterval(interval) => Some(interval),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnableRotation => f.write_str("enable rotation"),
            Self::UpdateInterval(interval) => write!(f, "set the interval to {interval}"),
        }
    }
}

/// The writes that bring a key to its policy. Enabling sets an interval of its own, so it comes before the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    enable: bool,
    interval: Option<RotationInterval>,
}

impl Steps {
    /// Nothing to do.
    pub const NONE: Self = Self { enable: false, interval: None };

    /// The step to take now.
    #[must_use]
    pub fn first(self) -> Option<Step> {
        self.iter().next()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// The steps in order.
    pub fn iter(self) -> impl Iterator<Item = Step> {
        let enable = self.enable.then_some(Step::EnableRotation);
        enable.into_iter().chain(self.interval.map(Step::UpdateInterval))
    }

    fn enable_then(interval: Option<RotationInterval>) -> Self {
        Self { enable: true, interval }
    }

    fn interval(interval: RotationInterval) -> Self {
        Self { enable: false, interval: Some(interval) }
    }
}

/// The decision for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The key's status, as observed.
    pub status: Status,
    /// The reasons for the status. A compliant key has one only if the write of `reapply: always` failed, or because of
    /// its material.
    pub reasons: Reasons,
    /// The writes that bring the key to its policy.
    pub steps: Steps,
}

impl Verdict {
    /// Adds what the material shows of a key that was read like this.
    #[must_use]
    pub(crate) fn with_material(
        mut self,
        desired: DesiredRotation,
        rotation: Rotation,
        material: &Material,
        ProofRule { proof, grace }: ProofRule,
        now: SystemTime,
    ) -> Self {
        if matches!(self.status, Status::Exempt | Status::Unknown) {
            return self;
        }
        let age = material.age(now);
        if age.is_none() || material.is_contradictory {
            self.reasons = self.reasons.with(Reason::RotationUnproven);
        }
        if age.is_some_and(|age| age > desired.interval.as_duration() + grace) {
            self.reasons = self.reasons.with(Reason::MaterialTooOld);
            if proof == Proof::Required {
                self.status = Status::NonCompliant;
            }
        }
        let overdue_from = rotation.interval().and_then(|interval| material.overdue_from(interval, grace));
        if overdue_from.is_some_and(|from| now > from) {
            self.reasons = self.reasons.with(Reason::RotationOverdue);
            self.status = Status::NonCompliant;
        }
        self
    }

    fn without_steps(status: Status, reasons: impl Into<Reasons>) -> Self {
        Self { status, reasons: reasons.into(), steps: Steps::NONE }
    }

    /// Whether the last write was accepted and the reading does not show it yet, so that a later reading may.
    #[must_use]
    pub(crate) fn awaits_visibility(&self) -> bool {
        self.status == Status::NonCompliant && self.steps.is_empty() && self.reasons.contains(Reason::NotVerified)
    }
}

/// Compares the observed key with the desired rotation at this time by the cloud's clock: its setting, as
/// [`decide_setting`] does, and whether the cloud rotates it.
#[must_use]
pub fn decide(desired: DesiredRotation, observed: &ObservedKey, proof: ProofRule, now: SystemTime) -> Verdict {
    let verdict = decide_setting(desired, observed);
    match observed.reading {
        Reading::Rotation(rotation) => verdict.with_material(desired, rotation, &observed.material, proof, now),
        Reading::NotOffered | Reading::Failed(_) => verdict,
    }
}

/// Compares the observed setting with the desired rotation, and decides which writes are due. Writes can mend a setting
/// and nothing else, so a run acts on this verdict.
///
/// The steps are a forecast: after its writes the key is read and decided anew.
/// Every interval in a step is on policy. A step that was accepted in this run is not repeated, unless the cloud
/// reports that rotation is off again.
#[must_use]
pub fn decide_setting(desired: DesiredRotation, observed: &ObservedKey) -> Verdict {
    let on_policy = is_on_policy(desired, observed);
    if let Some(blocker) = observed.blocker {
        let (status, reason) = blocked(blocker);
        // A key that is on policy is compliant, even if its kind would be exempt. But a key that is disabled or pending
        // deletion does not rotate, whatever its setting is.
        if !(on_policy && status == Status::Exempt) {
            return Verdict::without_steps(status, reason);
        }
    }
    match observed.failure {
        Some(failure @ (CallFailure::Authentication | CallFailure::LoginUnavailable)) => {
            return Verdict::without_steps(Status::Unknown, unproven(observed, failure.reason(Reason::WriteFailed)));
        }
        Some(CallFailure::NotFound) => return Verdict::without_steps(Status::Unknown, Reason::NotFound),
        _ => {}
    }
    let open = match observed.reading {
        Reading::Failed(failure) => {
            Verdict::without_steps(Status::Unknown, unproven(observed, failure.reason(Reason::ReadFailed)))
        }
        Reading::NotOffered => write_only(desired, observed),
        Reading::Rotation(rotation) if !rotation.enabled => rotation_off(desired, observed),
        Reading::Rotation(_) if on_policy => rotation_right(desired, observed),
        Reading::Rotation(rotation) if rotation.interval_days.is_none() => interval_missing(desired, observed),
        Reading::Rotation(_) => interval_wrong(desired, observed),
    };
    let open = match observed.hold {
        Some(hold) if !open.steps.is_empty() && open.status != Status::Compliant => {
            Verdict { reasons: open.reasons.with(held(hold)), steps: Steps::NONE, ..open }
        }
        _ => open,
    };
    match observed.failure {
        None => open,
        Some(failure) => {
            let reasons = open.reasons.with(failure.reason(Reason::WriteFailed));
            Verdict { reasons, steps: Steps::NONE, ..open }
        }
    }
}

fn is_on_policy(desired: DesiredRotation, observed: &ObservedKey) -> bool {
    matches!(observed.reading, Reading::Rotation(rotation) if desired.is_met_by(rotation))
}

fn rotation_off(desired: DesiredRotation, observed: &ObservedKey) -> Verdict {
    let off = Verdict::without_steps(Status::NonCompliant, Reason::RotationDisabled);
    match observed.enabling {
        Enabling::NotSent => {
            let interval = (desired.interval != RotationInterval::AFTER_ENABLING).then_some(desired.interval);
            Verdict { steps: Steps::enable_then(interval), ..off }
        }
        Enabling::Accepted | Enabling::AlreadyOn => Verdict { reasons: off.reasons.with(Reason::NotVerified), ..off },
    }
}

fn rotation_right(desired: DesiredRotation, observed: &ObservedKey) -> Verdict {
    // Do not repeat a write that a known blocker would refuse again.
    let send = desired.reapply == Reapply::Always && !observed.was_written() && observed.blocker.is_none();
    // Where shorter intervals are on policy too, the key's own is sent again.
    let own = observed.interval_days().and_then(|days| RotationInterval::from_days(days.try_into().ok()?));
    let steps = if send { Steps::interval(own.unwrap_or(desired.interval)) } else { Steps::NONE };
    Verdict { status: Status::Compliant, reasons: Reasons::NONE, steps }
}

fn interval_wrong(desired: DesiredRotation, observed: &ObservedKey) -> Verdict {
    let reason = why_interval_wrong(desired.bound, desired.interval.days(), observed.interval_days());
    let wrong = Verdict::without_steps(Status::NonCompliant, reason);
    if observed.interval_sent {
        Verdict { reasons: wrong.reasons.with(Reason::NotVerified), ..wrong }
    } else {
        Verdict { steps: Steps::interval(desired.interval), ..wrong }
    }
}

/// Why the policy does not accept an interval.
pub(crate) fn why_interval_wrong(bound: Bound, policy_days: u16, days: Option<u32>) -> Reason {
    let is_longer = days.is_some_and(|days| days > u32::from(policy_days));
    match bound {
        Bound::Longest if is_longer => Reason::IntervalTooLong,
        _ => Reason::IntervalMismatch,
    }
}

/// Rotation is on, and the answer has no interval. It may be on policy, so the interval is sent only to a key that this
/// run has switched on.
fn interval_missing(desired: DesiredRotation, observed: &ObservedKey) -> Verdict {
    let send = observed.enabling == Enabling::Accepted && !observed.interval_sent;
    let steps = if send { Steps::interval(desired.interval) } else { Steps::NONE };
    Verdict { steps, ..Verdict::without_steps(Status::Unknown, unproven(observed, Reason::ReadFailed)) }
}

/// The setting cannot be read, and rotation is on: this process sends the interval once. Where shorter intervals are on
/// policy too, the key may have one, and a write could make it rotate less often: then the interval is sent only to a
/// key that this process has switched on, or has set to an interval that is off policy now.
fn write_interval_only(desired: DesiredRotation, observed: &ObservedKey) -> Verdict {
    let may_be_right = desired.bound == Bound::Longest
        && match observed.written_before {
            WrittenBefore::Nothing => true,
            WrittenBefore::IntervalDue => false,
            WrittenBefore::Interval(interval) => desired.accepts(interval.days().into()),
        };
    let send = !may_be_right && unsent(desired, observed);
    unreadable(if send { Steps::interval(desired.interval) } else { Steps::NONE })
}

/// The setting cannot be read: the answer to enabling shows whether rotation was off.
fn write_only(desired: DesiredRotation, observed: &ObservedKey) -> Verdict {
    match observed.enabling {
        Enabling::NotSent => {
            let interval = unsent(desired, observed).then_some(desired.interval);
            unreadable(Steps::enable_then(interval))
        }
        Enabling::Accepted | Enabling::AlreadyOn => write_interval_only(desired, observed),
    }
}

fn unreadable(steps: Steps) -> Verdict {
    Verdict { steps, ..Verdict::without_steps(Status::Unknown, Reason::StatusUnreadable) }
}

/// Whether the interval of a key whose setting cannot be read is still to be sent.
fn unsent(desired: DesiredRotation, observed: &ObservedKey) -> bool {
    let is_set = observed.written_before == WrittenBefore::Interval(desired.interval);
    !observed.interval_sent && (!is_set || desired.reapply == Reapply::Always)
}

/// The reason, and `not_verified` if this run has written the key.
fn unproven(observed: &ObservedKey, reason: Reason) -> Reasons {
    let reasons = Reasons::from(reason);
    if observed.was_written() { reasons.with(Reason::NotVerified) } else { reasons }
}

pub(crate) fn blocked(blocker: RotationBlocker) -> (Status, Reason) {
    match blocker {
        RotationBlocker::DefaultKey => (Status::Exempt, Reason::DefaultKey),
        RotationBlocker::ImportedMaterial => (Status::Exempt, Reason::ImportedMaterial),
        RotationBlocker::UnsupportedKeyType => (Status::Exempt, Reason::UnsupportedKeyType),
        RotationBlocker::CustomKeystore => (Status::Exempt, Reason::CustomKeystore),
        RotationBlocker::ReplicaKey => (Status::Exempt, Reason::ReplicaKey),
        RotationBlocker::RotationUnsupported => (Status::Exempt, Reason::RotationUnsupported),
        RotationBlocker::Disabled => (Status::NonCompliant, Reason::KeyDisabled),
        RotationBlocker::PendingDeletion => (Status::NonCompliant, Reason::PendingDeletion),
    }
}

fn held(hold: Hold) -> Reason {
    match hold {
        Hold::ChangeLimit => Reason::ChangeLimit,
        Hold::Flapping => Reason::Flapping,
    }
}

impl CallFailure {
    /// The reason that the failure gives a key: `other` where it has no reason of its own, since that depends on
    /// whether a reading or a write failed.
    #[must_use]
    pub fn reason(self, other: Reason) -> Reason {
        match self {
            Self::NotFound => Reason::NotFound,
            Self::AccessDenied => Reason::AccessDenied,
            Self::Throttled => Reason::Throttled,
            Self::Authentication => Reason::AuthenticationFailed,
            Self::LoginUnavailable => Reason::LoginUnavailable,
            Self::Unproven => Reason::NotVerified,
            Self::Other => other,
        }
    }
}
