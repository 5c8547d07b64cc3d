//! One key of the model: its setting, what its readings show of it, and its answers with and without a fault.

use kms_rotationd::kms::ErrorKind;
use kms_rotationd::rotation::key::{KeyDescription, KeyState, RotationBlocker};

use super::cloud::now;
use super::fault::Fault;

/// Readings that still show the setting from before a write that becomes visible late. The run reads five times.
const LATE_READINGS: u32 = 2;

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// It can rotate.
    Usual,
    Disabled,
    PendingDeletion,
    /// Its material was imported, which its description shows.
    Imported,
    /// Writes are refused with `KMS.0319`, and its description does not show why.
    Unsupported,
    /// The cloud does not offer the call that reads its setting.
    NotOffered,
    /// The user may not read its setting.
    ReadRefused,
}

/// A key as it is, and as readings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) kind: Kind,
    /// The interval in days; `None` if rotation is off.
    pub(super) on: Option<u32>,
    hidden: Option<Hidden>,
}

/// A write that readings do not show yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Hidden {
    /// What they show instead.
    shown: Option<u32>,
    /// How many readings; `None` for all of this run.
    readings: Option<u32>,
    /// The interval is refused until then, as if rotation were still off.
    refuses_interval: bool,
}

impl Key {
    pub(super) fn new(kind: Kind, on: Option<u32>) -> Self {
        Self { kind, on, hidden: None }
    }

    /// A run begins.
    pub(super) fn begin_run(&mut self) {
        // What shows after some readings would never show where there are none.
        let is_read = self.kind != Kind::NotOffered;
        self.hidden = self.hidden.filter(|hidden| is_read && hidden.readings.is_some());
    }

    pub(super) fn is_hidden(self) -> bool {
        self.hidden.is_some()
    }

    fn read(&mut self) -> Option<u32> {
        let Some(hidden) = &mut self.hidden else { return self.on };
        let shown = hidden.shown;
        if let Some(left) = &mut hidden.readings {
            *left -= 1;
            if *left == 0 {
                self.hidden = None;
            }
        }
        shown
    }

    fn described(self) -> Option<RotationBlocker> {
        match self.kind {
            Kind::Disabled => Some(RotationBlocker::Disabled),
            Kind::PendingDeletion => Some(RotationBlocker::PendingDeletion),
            Kind::Imported => Some(RotationBlocker::ImportedMaterial),
            _ => None,
        }
    }

    /// What refuses its writes.
    fn blocker(self) -> Option<RotationBlocker> {
        self.described().or((self.kind == Kind::Unsupported).then_some(RotationBlocker::RotationUnsupported))
    }

    /// As `describe-key` and the list show it.
    pub(super) fn description(self, number: usize) -> KeyDescription {
        let state = match self.kind {
            Kind::Disabled => KeyState::Disabled,
            Kind::PendingDeletion => KeyState::PendingDeletion,
            _ => KeyState::Enabled,
        };
        let alias = Some(format!("key-{number}").into());
        KeyDescription { alias, blocker: self.described(), state: Some(state), created: Some(now()) }
    }

    /// The answer to a write, which is applied where it should be.
    pub(super) fn write(&mut self, interval: Option<u32>, fault: Option<Fault>) -> Answer {
        let failed = |kind, maybe_applied| Answer::Failed { kind, maybe_applied };
        match fault {
            Some(Fault::NotApplied) => return failed(ErrorKind::Unclear, false),
            Some(Fault::ServerError) => return failed(ErrorKind::Transient, true),
            Some(Fault::Garbage) => return failed(ErrorKind::Garbled, true),
            Some(Fault::Throttled) => return failed(ErrorKind::Throttled, false),
            Some(Fault::Refused) => return failed(ErrorKind::Permission, false),
            _ => {}
        }
        if let Some(blocker) = self.blocker() {
            return failed(ErrorKind::Blocked(blocker), false);
        }
        let before = self.on;
        match (interval, before) {
            (None, Some(_)) => return failed(ErrorKind::AlreadyOn, false),
            (None, None) => self.on = Some(365),
            (Some(_), None) => return failed(ErrorKind::NotOn, false),
            (Some(_), Some(_)) if self.hidden.is_some_and(|hidden| hidden.refuses_interval) => {
                return failed(ErrorKind::NotOn, false);
            }
            (Some(days), Some(_)) => self.on = Some(days),
        }
        let hidden = |readings, refuses_interval| Some(Hidden { shown: before, readings, refuses_interval });
        match fault {
            Some(Fault::Late) => self.hidden = hidden(Some(LATE_READINGS), false),
            Some(Fault::LateEverywhere) => self.hidden = hidden(Some(LATE_READINGS), true),
            Some(Fault::Hidden) => self.hidden = hidden(None, false),
            Some(Fault::AppliedAndLost) => return failed(ErrorKind::Unclear, false),
            Some(Fault::ServerErrorApplied) => return failed(ErrorKind::Transient, true),
            Some(Fault::RepeatedAfterServerError) => return failed(ErrorKind::AlreadyOn, true),
            _ => {}
        }
        Answer::Accepted
    }

    /// The answer to a reading.
    pub(super) fn shown(&mut self, fault: Option<Fault>) -> Answer {
        let failed = |kind| Answer::Failed { kind, maybe_applied: false };
        match fault {
            Some(Fault::ServerError) => return failed(ErrorKind::Transient),
            Some(Fault::Throttled) => return failed(ErrorKind::Throttled),
            Some(Fault::Refused) => return failed(ErrorKind::Permission),
            Some(Fault::Garbage) => return failed(ErrorKind::Garbled),
            Some(Fault::NotOffered) => return failed(ErrorKind::NotOffered),
            _ => {}
        }
        match self.kind {
            Kind::NotOffered => return failed(ErrorKind::NotOffered),
            Kind::ReadRefused => return failed(ErrorKind::Permission),
            _ => {}
        }
        let on = self.read();
        Answer::Shown { enabled: on.is_some(), days: on.filter(|_| fault != Some(Fault::IntervalMissing)) }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The write was accepted.
    Accepted,
    /// The setting; `days` is `None` if rotation is off, or if the answer lacks the interval.
    Shown { enabled: bool, days: Option<u32> },
    /// The description of a key, or of all keys.
    Described,
    /// The call failed; a write may have been applied all the same.
    Failed { kind: ErrorKind, maybe_applied: bool },
}

impl Answer {
    /// As far as the program can know.
    pub(super) fn may_have_applied(self) -> bool {
        match self {
            Self::Accepted => true,
            Self::Failed { kind, maybe_applied } => maybe_applied || kind == ErrorKind::Unclear,
            Self::Shown { .. } | Self::Described => false,
        }
    }

    pub(super) fn is(self, expected: ErrorKind) -> bool {
        matches!(self, Self::Failed { kind, .. } if kind == expected)
    }
}

/// The answer to a description or a list.
pub(super) fn described(fault: Option<Fault>) -> Answer {
    match fault {
        Some(Fault::ServerError) => Answer::Failed { kind: ErrorKind::Transient, maybe_applied: false },
        Some(Fault::Refused) => Answer::Failed { kind: ErrorKind::Permission, maybe_applied: false },
        _ => Answer::Described,
    }
}
