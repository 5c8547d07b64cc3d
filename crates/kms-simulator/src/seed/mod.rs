//! Keys for a rehearsal: a realistic mix, created from the keys that a policy names and selects.
//!
//! Deterministic by position: the first three keys are one with rotation off, one at the cloud's default interval and
//! one on policy, so that the smallest policy has something to do. Of each forty keys, thirty-four can be rotated (12
//! off, 11 at another interval, 11 on policy), and one each is disabled, imported, pending deletion, a default key,
//! asymmetric, and missing.
//!
//! `account` (with the feature `testing`) creates a whole account instead, for policies that select keys.

#[cfg(feature = "testing")]
mod account;

use std::fmt;
use std::time::{Duration, SystemTime};

#[cfg(feature = "testing")]
pub use account::{Kind, KindCounts, RIGHT_INTERVAL, account};

use super::key::{INTERVAL_AFTER_ENABLING, Key, KeyState};
use super::setup::ProjectSetup;

const DAY: Duration = Duration::from_secs(86_400);
/// Number of keys after which the mix repeats.
const PERIOD: usize = 40;
/// Number of positions after which age and names repeat: it has no common divisor with the periods of the mixes.
const SPREAD: usize = 9973;
/// The wrong interval for keys for which the policy requires 365 days, in days.
const ANOTHER_INTERVAL: u32 = 180;

/// The condition of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Off,
    OtherInterval,
    Right,
    Disabled,
    Imported,
    PendingDeletion,
    Default,
    Asymmetric,
    Missing,
}

impl Condition {
    fn at(position: usize) -> Self {
        match position % PERIOD {
            3 => Self::Disabled,
            5 => Self::Imported,
            7 => Self::PendingDeletion,
            9 => Self::Default,
            11 => Self::Asymmetric,
            13 => Self::Missing,
            at => match at % 3 {
                0 => Self::Off,
                1 => Self::OtherInterval,
                _ => Self::Right,
            },
        }
    }
}

/// Number of keys in each condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// Rotation is off.
    pub off: usize,
    /// Rotation is on, at another interval than the policy's.
    pub other_interval: usize,
    /// On policy.
    pub right: usize,
    /// Disabled, with rotation off.
    pub disabled: usize,
    /// Imported material.
    pub imported: usize,
    /// Scheduled for deletion.
    pub pending_deletion: usize,
    /// A default key of a cloud service.
    pub default: usize,
    /// An RSA key.
    pub asymmetric: usize,
    /// Missing: the cloud has no key with the id.
    pub missing: usize,
}

impl Mix {
    /// Number of keys on which rotation can be set.
    #[must_use]
    pub fn rotatable(&self) -> usize {
        self.off + self.other_interval + self.right
    }

    /// Number of all ids.
    #[must_use]
    pub fn total(&self) -> usize {
        self.parts().iter().map(|(count, _)| count).sum()
    }

    fn parts(&self) -> [(usize, &'static str); 9] {
        [
            (self.off, "with rotation off"),
            (self.other_interval, "at another interval"),
            (self.right, "on policy"),
            (self.disabled, "disabled"),
            (self.imported, "imported"),
            (self.pending_deletion, "pending deletion"),
            (self.default, "default key"),
            (self.asymmetric, "asymmetric"),
            (self.missing, "unknown to the cloud"),
        ]
    }

    fn count(&mut self, condition: Condition) {
        *match condition {
            Condition::Off => &mut self.off,
            Condition::OtherInterval => &mut self.other_interval,
            Condition::Right => &mut self.right,
            Condition::Disabled => &mut self.disabled,
            Condition::Imported => &mut self.imported,
            Condition::PendingDeletion => &mut self.pending_deletion,
            Condition::Default => &mut self.default,
            Condition::Asymmetric => &mut self.asymmetric,
            Condition::Missing => &mut self.missing,
        } += 1;
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        enumerate(self.parts(), f)
    }
}

/// Writes the counts that are not zero.
fn enumerate(parts: impl IntoIterator<Item = (usize, &'static str)>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, (count, name)) in parts.into_iter().filter(|(count, _)| *count > 0).enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        write!(f, "{separator}{count} {name}")?;
    }
    Ok(())
}

/// A key that a policy names or selects, and the properties that it must have.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Its id.
    pub id: String,
    /// The policy's interval, in days.
    pub interval_days: u32,
    /// Its name, if the policy has one.
    pub alias: Option<String>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// Its enterprise project, if the policy selects by it.
    pub enterprise_project: Option<String>,
    /// Its algorithm, if the policy selects by it.
    pub spec: Option<String>,
}

impl Wanted {
    /// A key that the policy names by its id only.
    #[must_use]
    pub fn new(id: impl Into<String>, interval_days: u32) -> Self {
        Self { id: id.into(), interval_days, ..Self::default() }
    }

    /// Sets the properties; a default key stays as it was created.
    fn apply_to(self, key: Key) -> Key {
        if key.default {
            return key;
        }
        let key = match self.alias {
            Some(alias) => key.alias(alias),
            None => key,
        };
        let key = match self.spec {
            Some(spec) if key.spec == "AES_256" => key.spec(spec),
            _ => key,
        };
        let key = match self.enterprise_project {
            Some(enterprise_project) => key.enterprise_project(enterprise_project),
            None => key,
        };
        self.tags.into_iter().fold(key, |key, (name, value)| key.tag(name, value))
    }
}

/// Creates the projects of a rehearsal. Positions continue from one project to the next, so that many small projects
/// have the same mix as one large one.
#[derive(Clone, Debug)]
pub struct Seed {
    now: SystemTime,
    mix: Mix,
    /// Each key has the age of the key that is this number of positions later.
    shift: usize,
}

impl Seed {
    /// A mix with dates before `now`.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self { now, mix: Mix::default(), shift: 0 }
    }

    /// With other ages of the keys, and so other times of their rotations, for each number; 1 changes nothing.
    #[must_use]
    pub fn numbered(self, number: u64) -> Self {
        let shift = number.wrapping_sub(1) % SPREAD as u64;
        Self { shift: usize::try_from(shift).unwrap_or_default(), ..self }
    }

    /// A project with these keys.
    #[must_use]
    pub fn project(&mut self, id: &str, name: &str, keys: impl IntoIterator<Item = Wanted>) -> ProjectSetup {
        let keys = keys.into_iter().filter_map(|wanted| {
            let key = self.key(&wanted.id, wanted.interval_days)?;
            Some(wanted.apply_to(key))
        });
        let keys = keys.collect();
        ProjectSetup { keys, ..ProjectSetup::new(id, name) }
    }

    /// The number of keys in each condition so far.
    #[must_use]
    pub fn mix(&self) -> Mix {
        self.mix
    }

    fn key(&mut self, key_id: &str, wanted_days: u32) -> Option<Key> {
        let position = self.mix.total();
        let condition = Condition::at(position);
        self.mix.count(condition);
        let aged = position + self.shift;
        let key = Key::new(key_id).alias(alias(position)).created(self.now - age(aged));
        Some(match condition {
            Condition::Off => key,
            Condition::OtherInterval => {
                let other =
                    if wanted_days == INTERVAL_AFTER_ENABLING { ANOTHER_INTERVAL } else { INTERVAL_AFTER_ENABLING };
                rotating(key, other, aged, self.now)
            }
            Condition::Right => rotating(key, wanted_days, aged, self.now),
            Condition::Disabled => key.state(KeyState::Disabled),
            Condition::Imported => key.imported(),
            Condition::PendingDeletion => {
                let key = rotating(key, wanted_days, aged, self.now);
                key.state(KeyState::PendingDeletion)
            }
            Condition::Default => key.default_of(["evs", "obs", "rds", "sfs"][position / PERIOD % 4]),
            Condition::Asymmetric => key.spec("RSA_2048"),
            Condition::Missing => return None,
        })
    }
}

/// A number for spreading age and names.
fn spread(position: usize) -> u32 {
    u32::try_from(position % SPREAD).unwrap_or_default()
}

/// The age of the key at this position.
fn age(position: usize) -> Duration {
    DAY * (200 + spread(position) * 37 % 700)
}

/// A key that has rotated at this interval since its creation; the next rotation is due after `now`.
fn rotating(key: Key, interval_days: u32, position: usize, now: SystemTime) -> Key {
    let interval = DAY * interval_days.max(1);
    let rotations = u32::try_from(age(position).as_secs() / interval.as_secs()).unwrap_or_default();
    let created = now - age(position);
    let key = key.rotating(interval_days).period_start(created);
    if rotations == 0 {
        return key;
    }
    // The cloud's own job runs some hours after the due time.
    let late = Duration::from_secs(u64::from(spread(position) * 421 % 36_000));
    let last = (created + interval * rotations + late).min(now);
    key.rotated(rotations, last)
}

fn alias(position: usize) -> String {
    const OWNERS: [&str; 8] = ["payments", "ledger", "invoices", "customers", "archive", "reports", "mail", "backup"];
    const USES: [&str; 5] = ["database", "objects", "volumes", "queue", "secrets"];
    let owner = OWNERS[position % OWNERS.len()];
    let purpose = USES[position / OWNERS.len() % USES.len()];
    match position / (OWNERS.len() * USES.len()) {
        0 => format!("{owner}-{purpose}"),
        round => format!("{owner}-{purpose}-{}", round + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::RotationSetting;
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n:08x}-0000-4000-8000-{n:012x}")).collect()
    }

    fn seeded(count: usize, interval_days: u32) -> (ProjectSetup, Mix) {
        numbered(1, count, interval_days)
    }

    fn numbered(number: u64, count: usize, interval_days: u32) -> (ProjectSetup, Mix) {
        let mut seed = Seed::new(now()).numbered(number);
        let ids = ids(count);
        let project = seed.project("p", "eu-de", ids.iter().map(|id| Wanted::new(id, interval_days)));
        (project, seed.mix())
    }

    #[test]
    fn the_first_three_are_off_at_365_and_right() {
        let (project, mix) = seeded(3, 90);
        let rotations: Vec<_> = project.keys.iter().map(|key| key.rotation).collect();
        assert_eq!(
            rotations,
            [
                RotationSetting { enabled: false, interval_days: 0 },
                RotationSetting { enabled: true, interval_days: 365 },
                RotationSetting { enabled: true, interval_days: 90 },
            ]
        );
        assert_eq!(mix.to_string(), "1 with rotation off, 1 at another interval, 1 on policy");
        assert_eq!(seeded(2, 365).0.keys[1].rotation.interval_days, 180, "365 is not wrong where it is wanted");
    }

    #[test]
    fn of_forty_keys_thirty_four_can_be_rotated() {
        let (project, mix) = seeded(40, 90);
        let expected = Mix {
            off: 12,
            other_interval: 11,
            right: 11,
            disabled: 1,
            imported: 1,
            pending_deletion: 1,
            default: 1,
            asymmetric: 1,
            missing: 1,
        };
        assert_eq!(mix, expected);
        assert_eq!((mix.rotatable(), mix.total(), project.keys.len()), (34, 40, 39));
        let rotatable = project.keys.iter().filter(|key| key.refusal().is_none()).count();
        assert_eq!(rotatable, 34);
    }

    #[test]
    fn the_mix_continues_from_project_to_project() {
        let ids = ids(40);
        let mut seed = Seed::new(now());
        for pair in ids.chunks(2) {
            let project = seed.project("p", "eu-de", pair.iter().map(|id| Wanted::new(id, 90)));
            assert!(project.keys.len() <= 2);
        }
        assert_eq!(seed.mix(), seeded(40, 90).1);
    }

    #[test]
    fn another_number_changes_the_ages_and_nothing_else() {
        let created = |number| {
            let (project, mix) = numbered(number, 20, 90);
            (project.keys.iter().map(|key| key.created).collect::<Vec<_>>(), mix)
        };
        assert_eq!(created(7), created(7));
        assert_ne!(created(7).0, created(1).0);
        assert_eq!(created(u64::MAX).1, created(0).1);
    }

    #[test]
    fn times_are_plausible_and_names_differ() {
        for number in [1, 2, 700, u64::MAX] {
            assert_plausible(number);
        }
    }

    #[track_caller]
    fn assert_plausible(number: u64) {
        let (project, _) = numbered(number, 2000, 90);
        let mut names = std::collections::HashSet::new();
        for key in &project.keys {
            assert!(key.default || names.insert(key.alias.clone()), "{} twice", key.alias);
            let created = key.created.unwrap();
            assert!(created < now());
            assert_eq!(key.rotations == 0, key.last_rotation.is_none());
            if let Some(last) = key.last_rotation {
                assert!(created < last && last <= now());
                let since = now().duration_since(last).unwrap();
                assert!(since <= DAY * key.rotation.interval_days, "{since:?} since the last rotation");
            }
            let planned = key.period_start.map(|_| key.last_rotation.unwrap_or(created) + key.interval());
            assert_eq!((key.due(), key.rotation.enabled), (planned, planned.is_some()));
            assert!(key.due().is_none_or(|due| due > now()), "the cloud has missed a rotation of {key:?}");
        }
    }
}
