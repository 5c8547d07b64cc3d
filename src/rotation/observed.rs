//! A key as one run has observed it: its last reading and the state of its writes. A run fills it in, and
//! [`decide`](super::decide()) decides from it.

use super::key::{CallFailure, Reading, RotationBlocker, RotationInterval};
use super::material::Material;

/// Why a key that is off policy must not be written in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The limit of changes per run is reached.
    ChangeLimit,
    /// Something keeps changing the key back.
    Flapping,
}

/// The state of this run's `enable-key-rotation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enabling {
    /// Not sent.
    #[default]
    NotSent,
    /// Sent and accepted: rotation was off.
    Accepted,
    /// Refused with `KMS.2901`: rotation was on already.
    AlreadyOn,
}

/// What this process last wrote to a key. Used only where its setting cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WrittenBefore {
    /// Nothing.
    #[default]
    Nothing,
    /// Rotation was switched on, or may have been, and no interval was accepted since: the key has the one that
    /// enabling sets, and the policy's is still to be sent.
    IntervalDue,
    /// This interval.
    Interval(RotationInterval),
}

/// A key as one run has observed it: the last reading, what blocks its rotation, and what was written so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedKey {
    /// The last reading.
    pub reading: Reading,
    /// What blocks the key's rotation, where that is known.
    pub blocker: Option<RotationBlocker>,
    /// The state of this run's enabling.
    pub enabling: Enabling,
    /// This run's interval write was accepted, and nothing since has undone it.
    pub interval_sent: bool,
    /// What earlier writes of this process have set.
    pub written_before: WrittenBefore,
    /// Why a write of this run failed for good. A write whose end is still unclear has not failed.
    pub failure: Option<CallFailure>,
    /// Why the key is not to be written.
    pub hold: Option<Hold>,
    /// What this reading and those before it show of the key material.
    pub material: Material,
}

impl ObservedKey {
    /// A key that was read and not written.
    #[must_use]
    pub fn new(reading: Reading) -> Self {
        Self {
            reading,
            blocker: None,
            enabling: Enabling::NotSent,
            interval_sent: false,
            written_before: WrittenBefore::Nothing,
            failure: None,
            hold: None,
            material: Material::default(),
        }
    }

    /// The interval that was last read.
    #[must_use]
    pub fn interval_days(&self) -> Option<u32> {
        match self.reading {
            Reading::Rotation(rotation) => rotation.interval_days,
            Reading::NotOffered | Reading::Failed(_) => None,
        }
    }

    /// `enable-key-rotation` was accepted. Enabling sets an interval of its own, so the one that was sent before is
    /// lost.
    pub fn enable_accepted(&mut self) {
        self.enabling = Enabling::Accepted;
        self.interval_sent = false;
        self.written_before = WrittenBefore::IntervalDue;
    }

    /// `enable-key-rotation` was refused because rotation is on.
    pub fn enable_found_on(&mut self) {
        self.enabling = Enabling::AlreadyOn;
    }

    /// `update-key-rotation-interval` was accepted.
    pub fn interval_accepted(&mut self) {
        self.interval_sent = true;
        if self.written_before == WrittenBefore::IntervalDue {
            self.written_before = WrittenBefore::Nothing;
        }
    }

    /// `update-key-rotation-interval` was refused because rotation is off (`KMS.0313`): the key starts over.
    pub fn interval_found_off(&mut self) {
        self.enabling = Enabling::NotSent;
        self.interval_sent = false;
    }

    /// A write of this run was accepted.
    #[must_use]
    pub(crate) fn was_written(&self) -> bool {
        self.enabling == Enabling::Accepted || self.interval_sent
    }
}
