//! What the log keeps of a key beyond its state, so that a later process continues where this one ended.

use std::time::SystemTime;

use super::line::time;
use super::reader::parse_time;
use super::record::{KeyMemory, KeyState as RecordedState, Refused, Rotations as RecordedRotations, Setting};
use crate::rotation::decide::blocked;
use crate::rotation::key::{KeyState, Rotation, RotationBlocker, RotationInterval};
use crate::rotation::material::{History, Observation, Rotations, SHORTEST_GAP};
use crate::rotation::past::KeyPast;

impl KeyMemory {
    /// The memory of a key. What follows from its last reading or its state is left out.
    #[must_use]
    pub fn of(KeyPast { history, repairs, refused, described: _, interval_due }: &KeyPast) -> Self {
        let last = history.last();
        let read = last.and_then(|last| Rotations::of(last.rotation));
        let setting = last.map(|last| (last.rotation.enabled, last.rotation.interval_days));
        let trusted = history.trusted.filter(|trusted| Some(*trusted) != read || history.is_doubted);
        let furthest = Some(history.furthest).filter(|furthest| *furthest != history.trusted.unwrap_or_default());
        Self {
            key_state: last.and_then(|last| last.state).map(|state| state.as_str().to_owned()),
            undisturbed_since: history.undisturbed_since.map(time),
            period_began: history.period_began.map(time),
            setting: history
                .setting
                .filter(|written| Some(*written) != setting)
                .map(|written| Setting { enabled: written.0, interval_days: written.1 }),
            trusted: trusted.map(recorded),
            furthest: furthest.map(recorded),
            doubted: history.is_doubted,
            repairs: repairs.iter().copied().map(time).collect(),
            refused: refused.map(|(blocker, at)| Refused { reason: blocked(blocker).1.to_string(), at: time(at) }),
            interval_due_days: interval_due.map(RotationInterval::days),
        }
    }

    /// The past of a key with this state that was last read at `observed`. A reading after `gap_after` leaves a gap.
    #[must_use]
    pub fn past(&self, state: &RecordedState, observed: Option<SystemTime>, gap_after: Option<SystemTime>) -> KeyPast {
        let rotation = state.rotation();
        let read = rotation.and_then(Rotations::of);
        let trusted = self.trusted.as_ref().map(rotations);
        let trusted = if self.doubted { trusted } else { trusted.or(read) };
        let setting = self.setting.map(|setting| (setting.enabled, setting.interval_days));
        let undisturbed_since = parsed(self.undisturbed_since.as_ref());
        let gap_after = observed.map(|at| gap_after.max(Some(at + SHORTEST_GAP)).unwrap_or(at));
        let last = rotation.zip(observed).map(|(rotation, at)| Observation {
            rotation,
            state: self.key_state.as_deref().and_then(KeyState::named),
            at,
            read_at: at,
            gap_after: gap_after.unwrap_or(at),
        });
        let history = History {
            created: parsed(state.created_at.as_ref()),
            last,
            trusted,
            is_doubted: self.doubted,
            furthest: self.furthest.as_ref().map(rotations).or(trusted).unwrap_or_default(),
            setting: setting.or(rotation.map(|rotation| (rotation.enabled, rotation.interval_days))),
            gap_after: gap_after.filter(|_| undisturbed_since.is_some()),
            undisturbed_since,
            period_began: parsed(self.period_began.as_ref()),
        };
        let refused = self.refused.as_ref().and_then(|refused| {
            let is_this = |blocker: &RotationBlocker| blocked(*blocker).1.as_str() == refused.reason;
            Some((RotationBlocker::ALL.into_iter().find(is_this)?, parse_time(&refused.at)?))
        });
        let is_reported = |blocker: &RotationBlocker| {
            !blocker.is_permanent() && state.reasons.iter().any(|reason| reason == blocked(*blocker).1.as_str())
        };
        KeyPast {
            history,
            repairs: self.repairs.iter().filter_map(|at| parse_time(at)).collect(),
            refused,
            described: RotationBlocker::ALL.into_iter().find(is_reported),
            interval_due: self.interval_due_days.and_then(RotationInterval::from_days),
        }
    }
}

impl RecordedState {
    /// The setting, if it was ever read.
    #[must_use]
    pub fn rotation(&self) -> Option<Rotation> {
        Some(Rotation {
            enabled: self.enabled?,
            interval_days: self.interval_days,
            last_rotated: parsed(self.last_rotation_at.as_ref()),
            rotations: self.rotations,
        })
    }
}

fn recorded(Rotations { count, last }: Rotations) -> RecordedRotations {
    RecordedRotations { rotations: count, last_rotation_at: last.map(time) }
}

fn rotations(RecordedRotations { rotations, last_rotation_at }: &RecordedRotations) -> Rotations {
    Rotations { count: *rotations, last: parsed(last_rotation_at.as_ref()) }
}

pub(super) fn parsed(text: Option<&String>) -> Option<SystemTime> {
    text.and_then(|text| parse_time(text))
}
