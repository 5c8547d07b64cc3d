//! One write to a key, from its first sending until it is known how it ended: rules 2 and 4 to 7 of "What a run does to
//! a key" in `docs/how-it-works.md`.
//!
//! ```text
//!              ┌─────────────── send again ◄──────────────┐
//!              ▼                                          │
//! decided ─► send ── unclear ──► wait, read ─► resolve ───┤
//!              │                                          ├─► applied
//!              ├── accepted ─────────────────────────────►│   applied, read back
//!              ├── rotation is on (KMS.2901) ────────────►│   noted, read back
//!              ├── rotation is off (KMS.0313) ───────────►│   start over, read back
//!              ├── the key cannot rotate ────────────────►│   blocked
//!              └── any other error ──────────────────────►└─► failed, read back where it may be applied
//! ```

use tracing::info;

use super::key::{KeyRun, READ_BACK_WAITS, RESTARTS};
use super::progress::{Progress, has_interval};
use crate::kms::{Error, Kind, Kms, Receipt, SendMode, WriteOperation};
use crate::rotation::decide::Step;
use crate::rotation::key::{CallFailure, Hindrance, Reading, Rotation, RotationInterval};
use crate::rotation::observed::WrittenBefore;
use crate::rotation::report::Change;

/// A write and what is known of it.
struct Write {
    step: Step,
    /// The setting before the first sending; nothing where it cannot be read.
    before: Option<Rotation>,
    sendings: u32,
    effect: Effect,
}

/// What is known of the effect of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The cloud refused every sending, or none reached it.
    NotApplied,
    /// A sending ended unclear or with a server error, and no reading has shown its effect.
    MaybeApplied,
    /// The cloud accepted it.
    Applied,
}

/// What a reading shows of a write whose end was unclear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
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
enum Resolution {
    FoundApplied,
    SendAgain,
    GiveUp(CallFailure),
}

impl Write {
    fn new(step: Step, before: Option<Rotation>) -> Self {
        Self { step, before, sendings: 0, effect: Effect::NotApplied }
    }

    fn sent(&mut self, result: &Result<Receipt, Error>) {
        self.sendings += 1;
        self.effect = self.effect.after(result);
    }
}

impl Effect {
    /// What is known after one more sending, which ended like this.
    fn after(self, result: &Result<Receipt, Error>) -> Self {
        match result {
            Ok(_) => Self::Applied,
            Err(error) if error.kind() == Kind::Unclear || error.is_maybe_applied() => Self::MaybeApplied,
            // A refusal does not say what became of the sendings before it.
            Err(_) => self,
        }
    }
}

impl Evidence {
    fn of(step: Step, before: Option<Rotation>, reading: Reading) -> Self {
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
fn resolve(evidence: Evidence, may_go_on: bool, sendings: u32) -> Resolution {
    match evidence {
        Evidence::Applied => Resolution::FoundApplied,
        Evidence::ReadingFailed => Resolution::GiveUp(CallFailure::Other),
        _ if !may_go_on => Resolution::GiveUp(CallFailure::Other),
        // The key is on policy, and each sending may start the cloud's rotation period anew.
        Evidence::SameAsBefore if sendings > 1 => Resolution::GiveUp(CallFailure::Unproven),
        Evidence::SameAsBefore | Evidence::NotApplied | Evidence::NotOffered => Resolution::SendAgain,
    }
}

impl<K: Kms> KeyRun<'_, K> {
    /// Takes one step: sends the write until it is known how it ended, and reads the key back.
    pub(super) async fn write(&self, step: Step, key: &mut Progress<'_>) {
        let (key_id, write) = (key.order.key_id, Write::new(step, key.rotation()));
        match step {
            Step::EnableRotation => self.carry_out(write, self.kms.enable_rotation(key_id), key).await,
            Step::UpdateInterval(interval) => {
                let same = was_so_before(step, write.before);
                let mode = if same { SendMode::Once } else { SendMode::Retried };
                self.carry_out(write, self.kms.update_interval(key_id, interval, mode), key).await;
            }
        }
    }

    async fn carry_out(&self, mut write: Write, mut operation: impl WriteOperation, key: &mut Progress<'_>) {
        loop {
            let result = operation.send().await;
            write.sent(&result);
            if write.step == Step::EnableRotation && write.effect != Effect::NotApplied {
                self.interval_became_due(&write, key);
            }
            let error = match result {
                Ok(receipt) => {
                    self.applied(&write, receipt, key);
                    return self.read_back(key).await;
                }
                Err(error) if error.kind() == Kind::Unclear => error,
                Err(error) => return self.not_accepted(&write, &error, key).await,
            };
            match self.resolve_unclear(&write, &mut operation, &error, key).await {
                Resolution::SendAgain => {}
                Resolution::FoundApplied => {
                    operation.found_applied();
                    return self.applied(&write, Receipt::default(), key);
                }
                Resolution::GiveUp(failure) => {
                    key.observed.failure = Some(failure);
                    return;
                }
            }
        }
    }

    /// Rule 5: waits and reads, to find out what became of a write whose end was unclear.
    async fn resolve_unclear(
        &self,
        write: &Write,
        operation: &mut impl WriteOperation,
        unclear: &Error,
        key: &mut Progress<'_>,
    ) -> Resolution {
        self.note(key, unclear);
        let may_go_on = match operation.next_wait() {
            Some(wait) => self.pause(wait).await,
            None => false,
        };
        key.seen = None;
        self.read_back(key).await;
        let evidence = Evidence::of(write.step, write.before, key.observed.reading);
        let resolution = resolve(evidence, may_go_on, write.sendings);
        if resolution == Resolution::GiveUp(CallFailure::Unproven) {
            self.note(key, unclear);
        }
        resolution
    }

    /// The write was refused, or failed.
    async fn not_accepted(&self, write: &Write, error: &Error, key: &mut Progress<'_>) {
        match (error.kind(), write.step) {
            (Kind::AlreadyOn, Step::EnableRotation) => {
                self.found_on(write, key);
                self.read_back(key).await;
            }
            (Kind::NotOn, Step::UpdateInterval(_)) if key.restarts < RESTARTS => {
                key.restarts += 1;
                key.observed.interval_found_off();
                // Enabling may just not be visible yet.
                self.pause(READ_BACK_WAITS[0] * key.restarts).await;
                self.read_back(key).await;
            }
            (Kind::Hindered(hindrance), _) => self.blocked(hindrance, error, key),
            // Another replica writes from now on.
            (Kind::Stopped, _) if !self.reconciler.gate.is_open() => {}
            (kind, _) => {
                key.observed.failure = Some(kind.into());
                self.note(key, error);
                if kind.is_transient() || write.effect == Effect::MaybeApplied {
                    key.seen = None;
                    self.read_back(key).await;
                }
            }
        }
    }

    /// `KMS.2901`: rotation is on. The key was switched on by an earlier sending of this write, or was on before it.
    fn found_on(&self, write: &Write, key: &mut Progress<'_>) {
        match (write.effect, write.before) {
            // It was read as off, so that sending has switched it on.
            (Effect::MaybeApplied, Some(_)) => self.applied(write, Receipt::default(), key),
            (effect, before) => {
                key.observed.enable_found_on();
                if before.is_none() {
                    let memory = &self.reconciler.memory;
                    memory.update(&self.project.name, key.order.key_id, |known| known.found_on = true);
                }
                // The setting cannot be read, so nothing shows whether that sending has switched it on. If it has, the
                // interval is the one that enabling sets, so the policy's is sent.
                if effect == Effect::MaybeApplied {
                    key.observed.written_before = WrittenBefore::Owed;
                }
            }
        }
    }

    /// Rule 6: the key cannot be rotated, or not now.
    fn blocked(&self, hindrance: Hindrance, error: &Error, key: &mut Progress<'_>) {
        key.observed.hindrance = Some(hindrance);
        if hindrance.is_permanent() {
            // The customer's audit log keeps each refusal, so the next runs do not cause another.
            let (memory, now) = (&self.reconciler.memory, self.reconciler.clock.now());
            memory.update(&self.project.name, key.order.key_id, |known| known.hindrance = Some((hindrance, now)));
        }
        self.note(key, error);
    }

    /// The program stops after it has switched rotation on: the interval is sent all the same. The one that enabling
    /// sets is not to stay, and where the setting cannot be read, no later process could find out.
    pub(super) async fn send_owed_interval(&self, key: &mut Progress<'_>) {
        let (key_id, interval) = (key.order.key_id, key.order.desired.interval);
        let write = Write::new(Step::UpdateInterval(interval), key.rotation());
        match self.kms.update_interval(key_id, interval, SendMode::AtExit).send().await {
            Ok(receipt) => self.applied(&write, receipt, key),
            Err(error) => {
                key.observed.failure = Some(error.kind().into());
                self.note(key, &error);
            }
        }
    }

    /// Rotation was switched on, or may have been, and enabling sets an interval of its own: the policy's is still to
    /// be sent.
    fn interval_became_due(&self, write: &Write, key: &mut Progress<'_>) {
        key.owes_interval = key.order.desired.interval != RotationInterval::AFTER_ENABLING;
        let (memory, key_id, unreadable) = (&self.reconciler.memory, key.order.key_id, write.before.is_none());
        if unreadable || matches!(memory.recall(&self.project.name, key_id).written, WrittenBefore::Interval(_)) {
            let written = if unreadable { WrittenBefore::Owed } else { WrittenBefore::Nothing };
            let owed = (unreadable && key.owes_interval).then_some(key.order.desired.interval);
            memory.update(&self.project.name, key_id, |known| (known.written, known.owed) = (written, owed));
        }
    }

    /// The write took effect, as its answer or a reading shows.
    fn applied(&self, write: &Write, receipt: Receipt, key: &mut Progress<'_>) {
        match write.step {
            Step::EnableRotation => key.observed.enable_accepted(),
            Step::UpdateInterval(interval) => self.interval_applied(interval, key),
        }
        self.log_change(write, &receipt, key);
        // Why the setting cannot be read stays true.
        if key.observed.reading != Reading::NotOffered {
            key.error = None;
        }
        // A reading from before the write is out of date.
        if write.before.is_some() && !key.rotation().is_some_and(|now| is_in_effect(write.step, now)) {
            key.seen = None;
        }
        let (at, request_id) = (self.reconciler.clock.now(), receipt.request_id);
        key.changes.push(Change { step: write.step, before: write.before, at, request_id });
    }

    fn interval_applied(&self, interval: RotationInterval, key: &mut Progress<'_>) {
        key.observed.interval_accepted();
        key.owes_interval = false;
        if key.rotation().and_then(|rotation| rotation.interval_days).is_none() {
            self.reconciler.memory.update(&self.project.name, key.order.key_id, |known| {
                (known.written, known.owed) = (WrittenBefore::Interval(interval), None);
            });
        }
    }

    fn log_change(&self, write: &Write, receipt: &Receipt, key: &Progress<'_>) {
        let from = match (write.before, write.step) {
            (Some(Rotation { enabled: false, .. }), _) | (None, Step::EnableRotation) => "off".to_owned(),
            (Some(Rotation { interval_days: Some(days), .. }), _) => format!("{days} days"),
            _ => "unknown".to_owned(),
        };
        let to = match write.step {
            Step::EnableRotation => "on".to_owned(),
            Step::UpdateInterval(interval) => interval.to_string(),
        };
        info!(
            key_id = key.order.key_id.as_str(),
            project = &*self.project.name,
            step = write.step.as_str(),
            from,
            to,
            request_id = receipt.request_id.as_deref(),
            "rotation changed"
        );
    }
}

/// The setting is as the step makes it.
fn is_in_effect(step: Step, now: Rotation) -> bool {
    match step {
        Step::EnableRotation => now.enabled,
        Step::UpdateInterval(interval) => now.enabled && has_interval(now, interval),
    }
}

/// The setting was as the step makes it before the write, which is so only for `reapply: always`.
fn was_so_before(step: Step, before: Option<Rotation>) -> bool {
    match step {
        Step::EnableRotation => false,
        Step::UpdateInterval(interval) => before.is_some_and(|before| has_interval(before, interval)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::observe::Operation;

    fn error(kind: Kind) -> Error {
        Error::new(Operation::EnableRotation, kind, "scripted")
    }

    #[test]
    fn what_is_known_of_a_write_follows_from_all_its_sendings() {
        use Effect::{Applied, MaybeApplied, NotApplied};
        for (before, result, after) in [
            (NotApplied, Ok(Receipt::default()), Applied),
            (NotApplied, Err(error(Kind::Unclear)), MaybeApplied),
            (NotApplied, Err(error(Kind::Transient).maybe_applied()), MaybeApplied),
            (NotApplied, Err(error(Kind::AlreadyOn).maybe_applied()), MaybeApplied),
            (NotApplied, Err(error(Kind::AlreadyOn)), NotApplied),
            (NotApplied, Err(error(Kind::Permission)), NotApplied),
            (MaybeApplied, Ok(Receipt::default()), Applied),
            (MaybeApplied, Err(error(Kind::AlreadyOn)), MaybeApplied),
            (MaybeApplied, Err(error(Kind::Permission)), MaybeApplied),
            (MaybeApplied, Err(error(Kind::Unclear)), MaybeApplied),
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
