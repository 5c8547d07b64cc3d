//! Proof of rotation: since when the present material of a key is in use, and whether the cloud replaces it in time.
//!
//! The cloud shows neither the start of a rotation period nor its end (`docs/kms-api.md` 1.2 and 2.1). So each reading of
//! a key is added to its [`History`], which compares it with the readings before. [`decide`](super::decide()) takes the
//! [`Material`] that follows. All times are by the cloud's clock, and a day has 86 400 seconds.

use std::time::{Duration, SystemTime};

use super::decide::Step;
use super::key::{DAY, KeyState, Rotation, RotationInterval, SECONDS_PER_DAY};

/// How far apart the cloud's clock and ours may be: a last rotation that is later is an error, and a reading that is
/// earlier than the one before is one after a clock was set.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(15 * 60);
/// Readings that are this far apart always count as uninterrupted.
pub(crate) const SHORTEST_GAP: Duration = DAY;

/// What one reading shows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The setting.
    pub rotation: Rotation,
    /// The key's state, where that is known.
    pub state: Option<KeyState>,
    /// When it was read, by the cloud's clock.
    pub at: SystemTime,
    /// The same by this machine's clock, to be shown.
    pub read_at: SystemTime,
    /// A later reading after this time leaves a gap in which anything may have happened.
    pub gap_after: SystemTime,
}

/// What the readings of a key have shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// When the key was created, where that is known.
    pub created: Option<SystemTime>,
    pub(crate) last: Option<Observation>,
    /// The number and time of rotations that later readings are compared with.
    pub(crate) trusted: Option<Rotations>,
    /// Whether those of the last reading contradict them.
    pub(crate) is_doubted: bool,
    /// The highest number and the latest time that were believed.
    pub(crate) furthest: Rotations,
    /// Enabled and interval, as they were read last or written since.
    pub(crate) setting: Option<(bool, Option<u32>)>,
    /// A reading after this time leaves a gap; `None` if the last one did not show an enabled key.
    pub(crate) gap_after: Option<SystemTime>,
    pub(crate) undisturbed_since: Option<SystemTime>,
    /// The last accepted write, or the last change of the setting that was seen: the period began then.
    pub(crate) period_began: Option<SystemTime>,
}

/// The cloud's record of rotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rotations {
    pub(crate) count: u64,
    pub(crate) last: Option<SystemTime>,
}

/// What is known of a key's material.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Material {
    /// Since when it is in use; `None` if that is unknown.
    pub since: Option<SystemTime>,
    /// Since when every reading showed the same setting and the same rotations of an enabled key, without a gap between
    /// readings and without a write of ours; `None` if the last reading did not.
    pub undisturbed_since: Option<SystemTime>,
    /// The last two readings contradict each other.
    pub is_contradictory: bool,
}

impl Material {
    /// The age of the material; `None` if it is unknown.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        Some(now.duration_since(self.since?).unwrap_or_default())
    }

    /// When the rotation is overdue, as far as readings show.
    #[must_use]
    pub fn overdue_from(&self, interval: RotationInterval, grace: Duration) -> Option<SystemTime> {
        let began = self.undisturbed_since?.max(self.since.unwrap_or(SystemTime::UNIX_EPOCH));
        Some(began + interval.as_duration() + grace)
    }
}

impl History {
    /// Adds a reading. Returns how many rotations of the material it shows that were not seen before.
    pub fn observe(&mut self, observation: Observation) -> u64 {
        let Observation { rotation, state, at, gap_after, .. } = observation;
        let (has_moved, new_rotations) = match Rotations::of(rotation) {
            Some(read) => self.compare(read, at),
            None => (false, 0),
        };
        let mut is_disturbed = has_moved || self.last.is_some_and(|last| at + CLOCK_TOLERANCE < last.at);
        let setting = (rotation.enabled, rotation.interval_days);
        if self.setting != Some(setting) {
            if self.setting.is_some() {
                self.period_began = Some(at);
            }
            self.setting = Some(setting);
            is_disturbed = true;
        }
        let has_gap = self.gap_after.is_none_or(|end| at > end);
        let rotates = rotation.enabled && state.is_none_or(|state| state == KeyState::Enabled);
        if !rotates || self.is_doubted {
            self.maybe_written();
        } else if state.is_some() {
            if is_disturbed || has_gap || self.undisturbed_since.is_none() {
                self.undisturbed_since = Some(at);
            }
            self.gap_after = Some(gap_after);
        } else if is_disturbed || has_gap {
            // Without the key's state, a reading proves nothing; but what it disproves counts.
            self.maybe_written();
        }
        self.last = Some(observation);
        new_rotations
    }

    /// Compares the record of rotations with the ones before: whether it differs from the trusted one, or did the last
    /// time, and how many rotations it shows for the first time.
    fn compare(&mut self, read: Rotations, at: SystemTime) -> (bool, u64) {
        let was_doubted = std::mem::take(&mut self.is_doubted);
        if self.trusted == Some(read) {
            return (was_doubted, 0);
        }
        let is_repeated = was_doubted && self.last.and_then(|last| Rotations::of(last.rotation)) == Some(read);
        let is_sane = self.is_sane(read, at);
        let is_doubtful = !is_sane || self.trusted.is_some_and(|trusted| read.contradicts(trusted));
        if is_doubtful && !is_repeated {
            self.is_doubted = true;
            return (true, 0);
        }
        let is_new = self.trusted.replace(read).is_some() && !is_doubtful && read.is_beyond(self.furthest);
        let new_rotations = if is_new { read.count.saturating_sub(self.furthest.count).max(1) } else { 0 };
        if is_sane {
            self.furthest.count = self.furthest.count.max(read.count);
            self.furthest.last = self.furthest.last.max(read.last);
        }
        (true, new_rotations)
    }

    /// A write of ours was accepted, which starts the period anew (`docs/kms-api.md` 2.1).
    pub fn written(&mut self, step: Step, at: SystemTime) {
        let interval = match step {
            Step::EnableRotation => RotationInterval::AFTER_ENABLING,
            Step::UpdateInterval(interval) => interval,
        };
        self.setting = Some((true, Some(interval.days().into())));
        (self.undisturbed_since, self.period_began) = (Some(at), Some(at));
        // Only an enabled key accepts a write.
        self.gap_after = self.gap_after.max(Some(at + SHORTEST_GAP));
    }

    /// A write of ours may have been applied.
    pub fn maybe_written(&mut self) {
        (self.undisturbed_since, self.gap_after) = (None, None);
    }

    /// The last reading.
    #[must_use]
    pub fn last(&self) -> Option<Observation> {
        self.last
    }

    /// What is known of the material by the last reading.
    #[must_use]
    pub fn material(&self) -> Material {
        Material { since: self.since(), undisturbed_since: self.undisturbed_since, is_contradictory: self.is_doubted }
    }

    /// When the rotation will be overdue, if all readings until then show the same.
    #[must_use]
    pub fn overdue_from(&self, grace: Duration) -> Option<SystemTime> {
        self.material().overdue_from(self.last?.rotation.interval()?, grace)
    }

    /// When the next rotation is due, as far as readings and our own writes show: another user's write that left the
    /// setting as it was is not seen. `None` if no rotation is due or too little is known.
    #[must_use]
    pub fn rotation_due(&self) -> Option<SystemTime> {
        let Observation { rotation, state, .. } = self.last?;
        let rotates = rotation.enabled && state.is_none_or(|state| state == KeyState::Enabled);
        let interval = rotation.interval().filter(|_| rotates)?;
        Some(self.since().max(self.period_began)? + interval.as_duration())
    }

    /// How old the material will be when the cloud rotates the key after a write of this interval, if the write
    /// postpones that: each interval write starts the period anew.
    #[must_use]
    pub fn age_after_write(&self, interval: RotationInterval, now: SystemTime) -> Option<Duration> {
        let rotates_at = now + interval.as_duration();
        let is_later = self.rotation_due().is_some_and(|due| due < rotates_at);
        self.since().filter(|_| is_later).map(|since| rotates_at.duration_since(since).unwrap_or_default())
    }

    fn since(&self) -> Option<SystemTime> {
        let Observation { rotation, at, .. } = self.last?;
        let read = Rotations::of(rotation).or(self.trusted).unwrap_or_default();
        match read.last {
            _ if !self.is_sane(read, at) => None,
            Some(last) => Some(last),
            None => self.created.filter(|created| read.count == 0 && *created <= at + CLOCK_TOLERANCE),
        }
    }

    /// Whether the last rotation is neither in the future nor before the key's creation.
    fn is_sane(&self, read: Rotations, at: SystemTime) -> bool {
        read.last.is_none_or(|last| last <= at + CLOCK_TOLERANCE && self.created.is_none_or(|created| created <= last))
    }
}

impl Rotations {
    /// The record of a reading. The cloud may show none while rotation is off (`docs/kms-api.md` 1.2).
    pub(crate) fn of(rotation: Rotation) -> Option<Self> {
        let read = Self { count: rotation.rotations.unwrap_or(0), last: rotation.last_rotated };
        (rotation.enabled || read != Self::default()).then_some(read)
    }

    /// Whether this shows a rotation after the furthest record: a later time, and where rotations had no time before, a
    /// higher number.
    fn is_beyond(self, furthest: Self) -> bool {
        let had_times = furthest.last.is_some() || furthest.count == 0;
        self.last > furthest.last && (had_times || self.count > furthest.count)
    }

    /// Whether this cannot follow the earlier record: rotations are never undone, and each has its time.
    fn contradicts(self, before: Self) -> bool {
        self.count < before.count || self.last < before.last || (self.count > before.count && self.last == before.last)
    }
}

/// The age of material in days, rounded up.
#[must_use]
pub(crate) fn whole_days(age: Duration) -> u64 {
    age.as_secs().div_ceil(SECONDS_PER_DAY)
}
