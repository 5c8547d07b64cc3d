//! What one run knows of a key: what it has read, and what has become of what it sent. A run fills it in, and
//! [`decide`](super::decide()) judges it.

use super::key::{CallFailure, Hindrance, Reading, RotationInterval};

/// Why nothing is written to a key that is off its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The run has changed as many keys as it may.
    ChangeLimit,
    /// Something keeps changing the key back.
    Flapping,
}

/// How far this run has come with enabling rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enabling {
    /// Nothing was sent.
    #[default]
    NotSent,
    /// Sent and accepted: rotation was off.
    Accepted,
    /// Refused with `KMS.2901`: rotation was on already.
    AlreadyOn,
}

/// What the writes of this process tell of the interval of a key. Counts only where its setting cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WrittenBefore {
    /// Nothing.
    #[default]
    Nothing,
    /// Rotation was switched on, or perhaps was, and no interval of it was accepted since: it is the one that enabling
    /// sets.
    IntervalDue,
    /// It was set to this.
    Interval(RotationInterval),
}

/// All that one run knows of a key: the last reading, what stands in the way, and what it has sent so far.
///
/// The methods are the only way in which a run's progress changes it, so that [`decide`](super::decide()) stays a
/// function of desired and observed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedKey {
    /// The last reading.
    pub reading: Reading,
    /// What stands in the way of rotating the key, where that is known.
    pub hindrance: Option<Hindrance>,
    /// How far this run has come with enabling.
    pub enabling: Enabling,
    /// This run's interval write was accepted, and nothing since has undone it.
    pub interval_sent: bool,
    /// What earlier writes tell of the interval.
    pub written_before: WrittenBefore,
    /// Why a write of this run failed for good. A write whose end is still unclear has not failed.
    pub failure: Option<CallFailure>,
    /// Why the key is not to be written.
    pub hold: Option<Hold>,
}

impl ObservedKey {
    /// A key of which nothing but a reading is known.
    #[must_use]
    pub fn new(reading: Reading) -> Self {
        Self {
            reading,
            hindrance: None,
            enabling: Enabling::NotSent,
            interval_sent: false,
            written_before: WrittenBefore::Nothing,
            failure: None,
            hold: None,
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

    /// `enable-key-rotation` was accepted. Whatever interval was sent before is gone: enabling sets its own.
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
    pub fn was_written(&self) -> bool {
        self.enabling == Enabling::Accepted || self.interval_sent
    }
}
