//! Keys for a rehearsal: a believable mix, made from what a policy names and selects.
//!
//! Deterministic by position: the first three keys are one with rotation off, one at the cloud's default interval and
//! one that is right already, so that even the smallest policy has something to do. Of forty keys in a row,
//! thirty-four can be rotated (12 off, 11 at another interval, 11 right) and one each is disabled, imported, pending
//! deletion, a default key, asymmetric, and not there at all.
//!
//! `account` (with the feature `testing`) makes a whole account instead, whose keys no policy lists one by one.

#[cfg(feature = "testing")]
mod account;

use std::fmt;
use std::time::{Duration, SystemTime};

#[cfg(feature = "testing")]
pub use account::{Census, Kind, RIGHT_INTERVAL, account};

use super::key::{INTERVAL_AFTER_ENABLING, Key, KeyState, RotationSetting};
use super::setup::ProjectSetup;

const DAY: Duration = Duration::from_secs(86_400);
/// After so many keys the mix repeats itself.
const PERIOD: usize = 40;
/// What stands at 365 days elsewhere stands at this where the policy asks for 365.
const ANOTHER_INTERVAL: u32 = 180;

/// What becomes of one id.
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

/// How many keys of each kind a rehearsal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// Rotation is off.
    pub off: usize,
    /// Rotation is on at an interval that is not the policy's.
    pub other_interval: usize,
    /// As the policy wants it.
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
    /// Not there: the cloud does not know the id.
    pub missing: usize,
}

impl Mix {
    /// Keys that a client can bring to their policy, or finds there.
    #[must_use]
    pub fn rotatable(&self) -> usize {
        self.off + self.other_interval + self.right
    }

    /// All ids.
    #[must_use]
    pub fn total(&self) -> usize {
        self.parts().iter().map(|(count, _)| count).sum()
    }

    fn parts(&self) -> [(usize, &'static str); 9] {
        [
            (self.off, "with rotation off"),
            (self.other_interval, "at another interval"),
            (self.right, "right already"),
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

/// Writes how many there are of each, but for what there is none of.
fn enumerate(parts: impl IntoIterator<Item = (usize, &'static str)>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, (count, name)) in parts.into_iter().filter(|(count, _)| *count > 0).enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        write!(f, "{separator}{count} {name}")?;
    }
    Ok(())
}

/// A key that a policy speaks of, and what it takes to meet its conditions.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Its id.
    pub id: String,
    /// The interval in days that the policy wants of it.
    pub interval_days: u32,
    /// Its name, where the policy has one.
    pub alias: Option<String>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// Its enterprise project, where the policy asks for one.
    pub enterprise_project: Option<String>,
    /// Its algorithm, where the policy asks for one.
    pub spec: Option<String>,
}

impl Wanted {
    /// A key of which only the id matters.
    #[must_use]
    pub fn new(id: impl Into<String>, interval_days: u32) -> Self {
        Self { id: id.into(), interval_days, ..Self::default() }
    }

    /// Makes the key meet the conditions, as far as it is one that can.
    fn dress(self, key: Key) -> Key {
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

/// Makes the projects of a rehearsal, one after the other; positions run on from one to the next, so that many small
/// projects are mixed as well as one large one.
#[derive(Clone, Debug)]
pub struct Seed {
    now: SystemTime,
    mix: Mix,
}

impl Seed {
    /// A mix as it would look at this time.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self { now, mix: Mix::default() }
    }

    /// A project with keys made for what the policy wants.
    #[must_use]
    pub fn project(&mut self, id: &str, name: &str, keys: impl IntoIterator<Item = Wanted>) -> ProjectSetup {
        let keys = keys.into_iter().filter_map(|wanted| {
            let key = self.key(&wanted.id, wanted.interval_days)?;
            Some(wanted.dress(key))
        });
        let keys = keys.collect();
        ProjectSetup { keys, ..ProjectSetup::new(id, name) }
    }

    /// How many of each there are so far.
    #[must_use]
    pub fn mix(&self) -> Mix {
        self.mix
    }

    fn key(&mut self, key_id: &str, wanted_days: u32) -> Option<Key> {
        let position = self.mix.total();
        let condition = Condition::at(position);
        self.mix.count(condition);
        let key = Key::new(key_id).alias(alias(position)).created(self.now - age(position));
        Some(match condition {
            Condition::Off => key,
            Condition::OtherInterval => {
                let other =
                    if wanted_days == INTERVAL_AFTER_ENABLING { ANOTHER_INTERVAL } else { INTERVAL_AFTER_ENABLING };
                rotating(key, other, position, self.now)
            }
            Condition::Right => rotating(key, wanted_days, position, self.now),
            Condition::Disabled => key.state(KeyState::Disabled),
            Condition::Imported => key.imported(),
            Condition::PendingDeletion => {
                let key = rotating(key, wanted_days, position, self.now);
                key.state(KeyState::PendingDeletion)
            }
            Condition::Default => key.default_of(["evs", "obs", "rds", "sfs"][position / PERIOD % 4]),
            Condition::Asymmetric => key.spec("RSA_2048"),
            Condition::Missing => return None,
        })
    }
}

/// Steps without a common divisor with the periods of the mixes spread age and names over them.
fn spread(position: usize) -> u32 {
    u32::try_from(position % 9973).unwrap_or_default()
}

/// How long ago the key at this position was made.
fn age(position: usize) -> Duration {
    DAY * (200 + spread(position) * 37 % 700)
}

/// A key that has rotated at this interval for as long as it exists.
fn rotating(key: Key, interval_days: u32, position: usize, now: SystemTime) -> Key {
    let interval = DAY * interval_days.max(1);
    let rotations = u32::try_from(age(position).as_secs() / interval.as_secs()).unwrap_or_default();
    let key = Key { rotation: RotationSetting { enabled: true, interval_days }, ..key };
    if rotations == 0 {
        return key;
    }
    // The cloud's own job comes some hours after the due time.
    let late = Duration::from_secs(u64::from(spread(position) * 421 % 36_000));
    let last = (key.created + interval * rotations + late).min(now);
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
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n:08x}-0000-4000-8000-{n:012x}")).collect()
    }

    fn seeded(count: usize, interval_days: u32) -> (ProjectSetup, Mix) {
        let mut seed = Seed::new(now());
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
        assert_eq!(mix.to_string(), "1 with rotation off, 1 at another interval, 1 right already");
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
    fn the_mix_runs_on_from_project_to_project() {
        let ids = ids(40);
        let mut seed = Seed::new(now());
        for pair in ids.chunks(2) {
            let project = seed.project("p", "eu-de", pair.iter().map(|id| Wanted::new(id, 90)));
            assert!(project.keys.len() <= 2);
        }
        assert_eq!(seed.mix(), seeded(40, 90).1);
    }

    #[test]
    fn times_are_plausible_and_names_differ() {
        let (project, _) = seeded(2000, 90);
        let mut names = std::collections::HashSet::new();
        for key in &project.keys {
            assert!(key.default || names.insert(key.alias.clone()), "{} twice", key.alias);
            assert!(key.created < now());
            assert_eq!(key.rotations == 0, key.last_rotation.is_none());
            if let Some(last) = key.last_rotation {
                assert!(key.created < last && last <= now());
                let since = now().duration_since(last).unwrap();
                assert!(since <= DAY * key.rotation.interval_days, "{since:?} since the last rotation");
            }
        }
    }
}
