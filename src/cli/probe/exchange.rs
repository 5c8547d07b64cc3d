//! One call of the script: its situation, what the documents expect, and what came back.

use std::fmt;

use crate::kms::single_call::{RawAnswer, SingleCall};
use crate::kms::{Error, ErrorKind};
use crate::rotation::key::Rotation;
use crate::support::error_chain::ErrorChain;

/// What distinguishes two calls of the same name. The names are those of the cassette (docs/probe.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Situation {
    UsableKey,
    DefaultKey,
    AsymmetricKey,
    WithoutLimit,
    LimitOf2000,
    ShortSequence,
    /// Rotation is off and the key shows no interval.
    NeverOn,
    Off,
    /// For `enable-key-rotation`: the key had an interval before.
    OffWithInterval,
    On,
    SameInterval,
    TooShort,
    TooLong,
}

impl Situation {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::UsableKey => "usable key",
            Self::DefaultKey => "default key",
            Self::AsymmetricKey => "asymmetric key",
            Self::WithoutLimit => "without limit",
            Self::LimitOf2000 => "limit of 2000",
            Self::ShortSequence => "sequence of 32 characters",
            Self::NeverOn => "rotation never on",
            Self::Off => "rotation off",
            Self::OffWithInterval => "rotation off, interval chosen before",
            Self::On => "rotation on",
            Self::SameInterval => "same interval",
            Self::TooShort => "interval too short",
            Self::TooLong => "interval too long",
        }
    }

    /// That of a key with this setting.
    pub(super) fn of(rotation: Rotation) -> Self {
        match rotation {
            Rotation { enabled: true, .. } => Self::On,
            Rotation { interval_days: None | Some(0), .. } => Self::NeverOn,
            Rotation { .. } => Self::Off,
        }
    }
}

/// A setting that a status should show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) enabled: bool,
    /// Any, if not given.
    pub(super) interval_days: Option<u32>,
}

impl Setting {
    pub(super) const OFF: Self = Self { enabled: false, interval_days: None };
    /// On, at any interval.
    pub(super) const ON: Self = Self { enabled: true, interval_days: None };

    pub(super) fn on(days: u16) -> Self {
        Self { interval_days: Some(days.into()), ..Self::ON }
    }

    pub(super) fn is_shown_by(self, rotation: Rotation) -> bool {
        self.enabled == rotation.enabled
            && (self.interval_days.is_none() || self.interval_days == rotation.interval_days)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.enabled, self.interval_days) {
            (false, _) => f.write_str("rotation off"),
            (true, None) => f.write_str("rotation on"),
            (true, Some(days)) => write!(f, "rotation on, {days} days"),
        }
    }
}

impl From<Rotation> for Setting {
    fn from(Rotation { enabled, interval_days, .. }: Rotation) -> Self {
        Self { enabled, interval_days }
    }
}

/// What the documents expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// 200 without a field.
    Accepted,
    /// 400 with this code.
    Refused(&'static str),
    /// A status with this setting.
    Shows(Setting),
    /// A status with any setting.
    Status,
    /// The details of a key.
    Details,
    /// A page of a list.
    Page,
    /// No document states it.
    Undocumented,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("HTTP 200, no fields"),
            Self::Refused(code) => write!(f, "HTTP 400 {code}"),
            Self::Shows(setting) => write!(f, "HTTP 200, {setting}"),
            Self::Status => f.write_str("HTTP 200, the setting"),
            Self::Details => f.write_str("HTTP 200, key_info with the key's details, all strings"),
            Self::Page => f.write_str("HTTP 200, a page of keys"),
            Self::Undocumented => f.write_str("nothing"),
        }
    }
}

/// A call, and what is expected of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) call: SingleCall,
    pub(super) situation: Situation,
    pub(super) expected: Expected,
    /// The section of docs/kms-api.md that states it.
    pub(super) section: &'static str,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Answered(RawAnswer),
    /// There is no complete answer, for this reason. `is_final`: another attempt would end alike.
    Unanswered {
        why: String,
        is_final: bool,
    },
}

impl Outcome {
    pub(super) fn of(result: Result<RawAnswer, Error>) -> Self {
        match result {
            Ok(answer) => Self::Answered(answer),
            Err(error) => Self::Unanswered {
                is_final: !error.kind().is_transient() && error.kind() != ErrorKind::Unclear,
                why: ErrorChain(&error).to_string(),
            },
        }
    }

    /// The answer, unless it only states that the cloud cannot answer now.
    pub(super) fn clear(&self) -> Option<&RawAnswer> {
        match self {
            Self::Answered(answer) if !matches!(answer.status, 408 | 429 | 500 | 502..=504) => Some(answer),
            _ => None,
        }
    }
}

/// Why a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is part of the script.
    Script,
    /// To find out whether a write without a clear answer took effect, and to send it again if not.
    AfterUnclear,
    /// To restore the key.
    Restoring,
}

/// One call and its answer. A read may have been made several times; this is the last answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) step: Step,
    pub(super) purpose: Purpose,
    pub(super) outcome: Outcome,
    pub(super) readings: u32,
    /// How the answer differs from the documents.
    pub(super) differences: Vec<String>,
}

/// How an answer compares with the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    AsDocumented,
    Differs,
    Undocumented,
    /// No clear answer.
    NoAnswer,
    /// Not part of the script.
    NotCompared,
}

impl Exchange {
    /// The answer to a call of the script, if it is clear.
    pub(super) fn answer(&self) -> Option<&RawAnswer> {
        self.outcome.clear().filter(|_| self.purpose == Purpose::Script)
    }

    pub(super) fn mark(&self) -> Mark {
        if self.outcome.clear().is_none() {
            Mark::NoAnswer
        } else if self.purpose != Purpose::Script {
            Mark::NotCompared
        } else if !self.differences.is_empty() {
            Mark::Differs
        } else if self.step.expected == Expected::Undocumented {
            Mark::Undocumented
        } else {
            Mark::AsDocumented
        }
    }
}
