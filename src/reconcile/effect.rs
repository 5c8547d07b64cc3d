//! What is known of the effect of a write, and whether it is sent again: rule 5 of "What a run does to a key" in
//! `docs/how-it-works.md`, as pure functions. `write` acts on them.

use crate::kms::{Error, ErrorKind, Receipt};
use crate::rotation::decide::Step;
use crate::rotation::key::{CallFailure, Reading, Rotation, RotationInterval};

/// What is known of the effect of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The cloud refused every sending, or none reached it.
    NotApplied,
    /// The end of a sending was unclear or a server error, and no reading has shown its effect.
    MaybeApplied,
    /// The cloud accepted it.
    Applied,
}

/// What a reading shows of a write whose end was unclear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The setting is as the write makes it, and was not so before.
    Applied,
    /// The setting is not as the write makes it.
    NotApplied,
    /// The setting was as the write makes it before it was sent (`reapply: always`), so that no reading proves it.
    SameAsBefore,
    /// The project's cloud does not offer the setting (rule 4).
    NotOffered,
    /// The reading failed.
    ReadingFailed,
}

/// What follows for a write whose end was unclear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// It took effect.
    FoundApplied,
    /// It is sent again.
    SendAgain,
    /// It is not sent again, and the key has this failure.
    GiveUp(CallFailure),
}

impl Effect {
    /// What is known after one more sending, which ended like this.
    pub(super) fn after(self, result: &Result<Receipt, Error>) -> Self {
        match result {
            Ok(_) => Self::Applied,
            Err(error) if error.kind() == ErrorKind::Unclear || error.is_maybe_applied() => Self::MaybeApplied,
            // A refusal proves nothing about the sendings before it.
            Err(_) => self,
        }
    }
}

impl Evidence {
    pub(super) fn of(step: Step, before: Option<Rotation>, reading: Reading) -> Self {
        match reading {
            Reading::Failed(_) => Self::ReadingFailed,
            Reading::NotOffered => Self::NotOffered,
            Reading::Rotation(_) if was_so_before(step, before) => Self::SameAsBefore,
            Reading::Rotation(now) if is_in_effect(step, now) => Self::Applied,
            Reading::Rotation(_) => Self::NotApplied,
        }
    }
}

/// Rule 5: a write with an unclear end is sent again only if it did not take effect, or if no reading can show that and
/// sending it twice does no harm. `may_go_on`: the wait before the reading was not cut short, and time is left.
pub(super) fn resolve(evidence: Evidence, may_go_on: bool, sendings: u32) -> Resolution {
    match evidence {
        Evidence::Applied => Resolution::FoundApplied,
        Evidence::ReadingFailed => Resolution::GiveUp(CallFailure::Other),
        _ if !may_go_on => Resolution::GiveUp(CallFailure::Other),
        // The key is on policy, and each sending may start the cloud's rotation period anew.
        Evidence::SameAsBefore if sendings > 1 => Resolution::GiveUp(CallFailure::Unproven),
        Evidence::SameAsBefore | Evidence::NotApplied | Evidence::NotOffered => Resolution::SendAgain,
    }
}

/// Whether the setting is as the step makes it.
pub(super) fn is_in_effect(step: Step, now: Rotation) -> bool {
    match step {
        Step::EnableRotation => now.enabled,
        Step::UpdateInterval(interval) => now.enabled && has_interval(now, interval),
    }
}

fn has_interval(rotation: Rotation, interval: RotationInterval) -> bool {
    rotation.interval_days == Some(u32::from(interval.days()))
}

/// Whether the setting was as the step makes it before the write, as with `reapply: always`.
pub(super) fn was_so_before(step: Step, before: Option<Rotation>) -> bool {
    match step {
        Step::EnableRotation => false,
        Step::UpdateInterval(interval) => before.is_some_and(|before| has_interval(before, interval)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::observe::Operation;

    fn error(kind: ErrorKind) -> Error {
        Error::new(Operation::EnableRotation, kind, "scripted")
    }

    #[test]
    fn what_is_known_of_a_write_follows_from_all_its_sendings() {
        use Effect::{Applied, MaybeApplied, NotApplied};
        for (before, result, after) in [
            (NotApplied, Ok(Receipt::default()), Applied),
            (NotApplied, Err(error(ErrorKind::Unclear)), MaybeApplied),
            (NotApplied, Err(error(ErrorKind::Transient).maybe_applied()), MaybeApplied),
            (NotApplied, Err(error(ErrorKind::AlreadyOn).maybe_applied()), MaybeApplied),
            (NotApplied, Err(error(ErrorKind::AlreadyOn)), NotApplied),
            (NotApplied, Err(error(ErrorKind::Permission)), NotApplied),
            (MaybeApplied, Ok(Receipt::default()), Applied),
            (MaybeApplied, Err(error(ErrorKind::AlreadyOn)), MaybeApplied),
            (MaybeApplied, Err(error(ErrorKind::Permission)), MaybeApplied),
            (MaybeApplied, Err(error(ErrorKind::Unclear)), MaybeApplied),
        ] {
            assert_eq!(before.after(&result), after, "{before:?} {result:?}");
        }
    }

    #[test]
    fn a_reading_shows_whether_a_write_took_effect_unless_the_setting_was_the_same_before() {
        let setting = |enabled, days: u32| Rotation {
            enabled,
            interval_days: (days > 0).then_some(days),
            last_rotated: None,
            rotations: None,
        };
        let [off, on_90, on_365] = [setting(false, 0), setting(true, 90), setting(true, 365)];
        let (enable, set) = (Step::EnableRotation, Step::UpdateInterval(RotationInterval::from_days(90).unwrap()));
        let read = Reading::Rotation;
        for (step, before, reading, expected) in [
            (enable, Some(off), read(on_365), Evidence::Applied),
            (enable, Some(off), read(off), Evidence::NotApplied),
            (set, Some(on_365), read(on_90), Evidence::Applied),
            (set, Some(on_365), read(on_365), Evidence::NotApplied),
            // Rotation was switched off in the meantime; some answers still have the interval.
            (set, Some(on_365), read(off), Evidence::NotApplied),
            (set, Some(on_365), read(setting(false, 90)), Evidence::NotApplied),
            (set, Some(on_90), read(on_90), Evidence::SameAsBefore),
            (set, Some(on_90), read(on_365), Evidence::SameAsBefore),
            (set, Some(on_90), Reading::Failed(CallFailure::Other), Evidence::ReadingFailed),
            (enable, Some(off), Reading::Failed(CallFailure::Throttled), Evidence::ReadingFailed),
            (enable, None, Reading::NotOffered, Evidence::NotOffered),
            (set, None, Reading::NotOffered, Evidence::NotOffered),
        ] {
            assert_eq!(Evidence::of(step, before, reading), expected, "{step:?} {before:?} {reading:?}");
        }
    }

    #[test]
    fn an_unclear_write_is_sent_again_only_where_it_did_not_take_effect_or_nothing_can_show_it() {
        let given_up = Resolution::GiveUp(CallFailure::Other);
        let unproven = Resolution::GiveUp(CallFailure::Unproven);
        // For each: in time after the first and after the second sending, and without time after both.
        for (evidence, [first, second], late) in [
            (Evidence::Applied, [Resolution::FoundApplied; 2], Resolution::FoundApplied),
            (Evidence::NotApplied, [Resolution::SendAgain; 2], given_up),
            (Evidence::NotOffered, [Resolution::SendAgain; 2], given_up),
            (Evidence::SameAsBefore, [Resolution::SendAgain, unproven], given_up),
            (Evidence::ReadingFailed, [given_up; 2], given_up),
        ] {
            assert_eq!([1, 2].map(|sendings| resolve(evidence, true, sendings)), [first, second], "{evidence:?}");
            assert_eq!([1, 2].map(|sendings| resolve(evidence, false, sendings)), [late; 2], "{evidence:?}");
        }
    }
}
