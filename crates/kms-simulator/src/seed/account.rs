//! A whole account: keys of all kinds, with names, tags and enterprise projects for selectors.
//!
//! Deterministic by position, and each key is computed independently, so that fifty thousand cost little. Of each
//! hundred keys, seventy-eight can be rotated: thirty are off, sixteen at the cloud's 365 days, fourteen at another
//! interval, eighteen at [`RIGHT_INTERVAL`]. There is one default key for each cloud service; further ones are off
//! instead.

use std::fmt;
use std::time::SystemTime;

use super::super::behaviour::Dialect;
use super::super::key::{INTERVAL_AFTER_ENABLING, Key, KeyState};
use super::super::setup::ProjectSetup;
use super::{age, enumerate, rotating};

/// The interval in days of the keys that are [`Kind::Right`].
pub const RIGHT_INTERVAL: u32 = 90;

/// Number of keys after which the mix repeats.
const PERIOD: usize = 100;
/// It has no common divisor with the period, and so spreads each kind over it.
const STRIDE: usize = 37;
const OTHER_INTERVALS: [u32; 4] = [180, 120, 60, 30];
/// Services that create a default key.
const SERVICES: [&str; 10] = ["evs", "obs", "ims", "rds", "sfs", "dws", "css", "cbr", "cts", "dds"];
/// Owners of keys, and their enterprise projects.
const OWNERS: [(&str, &str); 7] = [
    ("pay", "5a1f6c1e-7d3b-4b52-9c58-0c2f4f1d9a01"),
    ("web", "8e0c2b7a-1f64-4d0e-8a3f-6b9d2e7c5f02"),
    ("data", "c3d94e5f-2a8b-4e71-b6d0-1f5a8c3e7b03"),
    ("crm", "0"),
    ("erp", "0"),
    ("iot", "0"),
    ("mail", "0"),
];
const USES: [&str; 5] = ["database", "objects", "volumes", "queue", "secrets"];
const ENVIRONMENTS: [&str; 3] = ["prod", "test", "dev"];

/// The kind of a key, as far as rotation is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rotation is off.
    Off,
    /// Rotation is on at the cloud's default of 365 days.
    DefaultInterval,
    /// Rotation is on at another interval.
    OtherInterval,
    /// Rotation is on at [`RIGHT_INTERVAL`].
    Right,
    /// Disabled, some with rotation on.
    Disabled,
    /// Scheduled for deletion, with rotation on.
    PendingDeletion,
    /// Waiting for its material to be imported.
    PendingImport,
    /// A default key of a cloud service.
    Default,
    /// Imported material.
    Imported,
    /// An RSA key.
    Rsa,
    /// A key on an elliptic curve.
    EllipticCurve,
    /// An HMAC key.
    Hmac,
    /// In a custom keystore; not at Open Telekom Cloud, whose keys lack the field.
    CustomKeystore,
    /// A replica of a multi-region key; not at Open Telekom Cloud.
    Replica,
}

impl Kind {
    /// Every kind, the rotatable ones first.
    pub const ALL: [Self; 14] = [
        Self::Off,
        Self::DefaultInterval,
        Self::OtherInterval,
        Self::Right,
        Self::Disabled,
        Self::PendingDeletion,
        Self::PendingImport,
        Self::Default,
        Self::Imported,
        Self::Rsa,
        Self::EllipticCurve,
        Self::Hmac,
        Self::CustomKeystore,
        Self::Replica,
    ];

    /// Whether rotation can be set on it now.
    #[must_use]
    pub fn is_rotatable(self) -> bool {
        matches!(self, Self::Off | Self::DefaultInterval | Self::OtherInterval | Self::Right)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Off => "with rotation off",
            Self::DefaultInterval => "at 365 days",
            Self::OtherInterval => "at another interval",
            Self::Right => "on policy",
            Self::Disabled => "disabled",
            Self::PendingDeletion => "pending deletion",
            Self::PendingImport => "pending import",
            Self::Default => "default key",
            Self::Imported => "imported",
            Self::Rsa => "RSA",
            Self::EllipticCurve => "elliptic curve",
            Self::Hmac => "HMAC",
            Self::CustomKeystore => "in a custom keystore",
            Self::Replica => "replica",
        }
    }

    fn at(position: usize, dialect: Dialect) -> Self {
        let slot = position * STRIDE % PERIOD;
        let kind = match slot {
            84 | 85 if service(position).is_some() => Self::Default,
            0..30 | 84 | 85 => Self::Off,
            30..46 => Self::DefaultInterval,
            46..60 => Self::OtherInterval,
            60..78 => Self::Right,
            78..81 => Self::Disabled,
            81..83 => Self::PendingDeletion,
            83 => Self::PendingImport,
            86..90 => Self::Imported,
            90..93 => Self::Rsa,
            93..95 => Self::EllipticCurve,
            95 | 96 => Self::Hmac,
            97 | 98 => Self::CustomKeystore,
            _ => Self::Replica,
        };
        match kind {
            Self::CustomKeystore if dialect == Dialect::OpenTelekomCloud => Self::Imported,
            Self::Replica if dialect == Dialect::OpenTelekomCloud => Self::Rsa,
            _ => kind,
        }
    }
}

/// The service of the default key at this position; `None` if every service has one.
fn service(position: usize) -> Option<&'static str> {
    let of_period = position * STRIDE % PERIOD % 2;
    SERVICES.get(position / PERIOD * 2 + of_period).copied()
}

/// Number of keys of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounts([usize; Kind::ALL.len()]);

impl KindCounts {
    /// Number of keys of this kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> usize {
        self.0[kind as usize]
    }

    /// Number of keys on which rotation can be set now.
    #[must_use]
    pub fn rotatable(&self) -> usize {
        Kind::ALL.into_iter().filter(|kind| kind.is_rotatable()).map(|kind| self.of(kind)).sum()
    }

    /// Number of all keys.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

impl fmt::Display for KindCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        enumerate(Kind::ALL.map(|kind| (self.of(kind), kind.as_str())), f)
    }
}

/// A project with this number of keys, in a cloud of this dialect and with dates before `now`; and the number of keys
/// of each kind.
#[must_use]
pub fn account(
    project_id: &str,
    region: &str,
    dialect: Dialect,
    keys: usize,
    now: SystemTime,
) -> (ProjectSetup, KindCounts) {
    let mut census = KindCounts::default();
    let made = (0..keys).map(|position| {
        let kind = Kind::at(position, dialect);
        census.0[kind as usize] += 1;
        key(project_id, position, kind, dialect, now)
    });
    let project = ProjectSetup::new(project_id, region).dialect(dialect).keys(made);
    (project, census)
}

fn key(project_id: &str, position: usize, kind: Kind, dialect: Dialect, now: SystemTime) -> Key {
    let key = Key::new(key_id(project_id, position)).created(now - age(position));
    let round = position / PERIOD;
    let pick = position / 2;
    if kind == Kind::Default {
        return key.default_of(service(position).unwrap_or_default());
    }
    let key = labelled(key, position);
    match kind {
        Kind::Off => algorithm(key, position, dialect),
        Kind::DefaultInterval => rotating(algorithm(key, position, dialect), INTERVAL_AFTER_ENABLING, position, now),
        Kind::OtherInterval => {
            let interval_days = OTHER_INTERVALS[pick % OTHER_INTERVALS.len()];
            rotating(algorithm(key, position, dialect), interval_days, position, now)
        }
        Kind::Right => rotating(algorithm(key, position, dialect), RIGHT_INTERVAL, position, now),
        Kind::Disabled if position.is_multiple_of(2) => {
            rotating(key, RIGHT_INTERVAL, position, now).state(KeyState::Disabled)
        }
        Kind::Disabled => key.state(KeyState::Disabled),
        Kind::PendingDeletion => rotating(key, RIGHT_INTERVAL, position, now).state(KeyState::PendingDeletion),
        Kind::PendingImport => key.imported().state(KeyState::PendingImport),
        Kind::Imported => key.imported(),
        Kind::Rsa => key.spec(["RSA_2048", "RSA_3072", "RSA_4096"][round % 3]),
        Kind::EllipticCurve => key.spec(["EC_P256", "EC_P384"][round % 2]),
        Kind::Hmac => key.spec(["HMAC_256", "HMAC_384", "HMAC_512"][round % 3]),
        Kind::CustomKeystore => key.keystore("1f0c8a52-6b1d-4c57-9d43-7e2ab96fd301"),
        Kind::Replica => key.replica(),
        Kind::Default => key,
    }
}

/// One rotatable key in thirteen is SM4, if the cloud has it.
fn algorithm(key: Key, position: usize, dialect: Dialect) -> Key {
    if dialect != Dialect::OpenTelekomCloud && position % 13 == 6 { key.spec("SM4") } else { key }
}

/// Name, tags and enterprise project, by owner. Keys of `pay` outside of `dev` have the tag `pci`; one key in six has
/// no tags.
fn labelled(key: Key, position: usize) -> Key {
    let (owner, enterprise_project) = OWNERS[position % OWNERS.len()];
    let purpose = USES[position / OWNERS.len() % USES.len()];
    let environment = ENVIRONMENTS[position / 5 % ENVIRONMENTS.len()];
    let key = key.alias(format!("{owner}-{purpose}-{}", position + 1)).enterprise_project(enterprise_project);
    if position % 6 == 5 {
        return key;
    }
    let key = key.tag("owner", owner).tag("env", environment);
    match (owner, environment) {
        ("pay", "prod" | "test") => key.tag("pci", "true"),
        ("web", "prod") => key.tag("pci", "false"),
        _ => key,
    }
}

/// An id in the cloud's form, unique for each position of a project.
fn key_id(project_id: &str, position: usize) -> String {
    let project = project_id.bytes().fold(0, |hash: u64, byte| hash.rotate_left(7) ^ u64::from(byte));
    let first = scatter(scatter(project).wrapping_add(position as u64));
    let second = scatter(!first);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        first >> 32,
        first >> 16 & 0xffff,
        first & 0xffff,
        second >> 48,
        second & 0xffff_ffff_ffff
    )
}

/// A bijective hash: different numbers stay different.
fn scatter(number: u64) -> u64 {
    let number = (number ^ number >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 29).wrapping_mul(0xd6e8_feb8_6659_fd93);
    number ^ number >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::super::super::key::{Origin, is_key_id};
    use super::*;

    const PROJECT: &str = "0123456789abcdef0123456789abcdef";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn seeded(count: usize, dialect: Dialect) -> (Vec<Key>, KindCounts) {
        let (project, census) = account(PROJECT, "eu-de", dialect, count, now());
        assert_eq!((project.id.as_str(), project.name.as_str(), project.dialect), (PROJECT, "eu-de", Some(dialect)));
        (project.keys, census)
    }

    /// The kind of a key, from its properties.
    fn kind(key: &Key) -> Kind {
        match key.spec.split('_').next() {
            _ if key.default => Kind::Default,
            _ if key.state == KeyState::PendingImport => Kind::PendingImport,
            _ if key.origin == Origin::External => Kind::Imported,
            Some("RSA") => Kind::Rsa,
            Some("EC") => Kind::EllipticCurve,
            Some("HMAC") => Kind::Hmac,
            _ if key.keystore != "0" => Kind::CustomKeystore,
            _ if key.replica => Kind::Replica,
            _ if key.state == KeyState::Disabled => Kind::Disabled,
            _ if key.state == KeyState::PendingDeletion => Kind::PendingDeletion,
            _ => match (key.rotation.enabled, key.rotation.interval_days) {
                (false, _) => Kind::Off,
                (true, 365) => Kind::DefaultInterval,
                (true, RIGHT_INTERVAL) => Kind::Right,
                (true, _) => Kind::OtherInterval,
            },
        }
    }

    #[test]
    fn the_counts_match_the_keys() {
        for dialect in [Dialect::Huawei, Dialect::OpenTelekomCloud] {
            for count in [0, 1, 10, 2000] {
                let (keys, census) = seeded(count, dialect);
                let mut counted = KindCounts::default();
                for key in &keys {
                    counted.0[kind(key) as usize] += 1;
                    assert_eq!(kind(key).is_rotatable(), key.refusal().is_none(), "{key:?}");
                }
                assert_eq!((counted, census.total()), (census, count));
            }
        }
    }

    #[test]
    fn of_a_hundred_keys_seventy_eight_can_be_rotated() {
        let (_, census) = seeded(100, Dialect::Huawei);
        assert_eq!(
            census.to_string(),
            "30 with rotation off, 16 at 365 days, 14 at another interval, 18 on policy, 3 disabled, \
             2 pending deletion, 1 pending import, 2 default key, 4 imported, 3 RSA, 2 elliptic curve, 2 HMAC, \
             2 in a custom keystore, 1 replica"
        );
        assert_eq!(census.rotatable(), 78);
        let (_, census) = seeded(5000, Dialect::Huawei);
        assert_eq!((census.of(Kind::Default), census.of(Kind::Off)), (10, 1590), "one default key for each service");
        let (keys, census) = seeded(100, Dialect::OpenTelekomCloud);
        assert_eq!((census.of(Kind::CustomKeystore), census.of(Kind::Replica), census.rotatable()), (0, 0, 78));
        assert!(keys.iter().all(|key| key.spec != "SM4"));
    }

    #[test]
    fn an_account_is_reproducible_and_grows_at_its_end() {
        let (keys, _) = seeded(1000, Dialect::Huawei);
        assert_eq!(seeded(1000, Dialect::Huawei).0, keys);
        assert_eq!(seeded(250, Dialect::Huawei).0, keys[..250]);
        let (other, _) = account("another", "eu-de", Dialect::Huawei, 1, now());
        assert_ne!(other.keys[0].id, keys[0].id);
    }

    #[test]
    fn ids_and_names_are_unique_and_times_are_plausible() {
        let (keys, _) = seeded(50_000, Dialect::Huawei);
        let mut seen = HashSet::new();
        for key in &keys {
            assert!(is_key_id(&key.id) && seen.insert(&key.id), "{}", key.id);
            assert!(seen.insert(&key.alias), "{} twice", key.alias);
            let created = key.created.unwrap();
            assert!(created < now());
            assert!(key.last_rotation.is_none_or(|last| created < last && last <= now()));
            assert!(key.due().is_none_or(|due| due > now()), "the cloud has missed a rotation of {key:?}");
            assert_eq!(key.due().is_some(), key.rotation.enabled);
        }
    }

    #[test]
    fn selectors_find_keys() {
        let (keys, _) = seeded(1000, Dialect::Huawei);
        let rotatable = || keys.iter().filter(|key| kind(key).is_rotatable());
        let count = |condition: &dyn Fn(&Key) -> bool| rotatable().filter(|key| condition(key)).count();
        for (what, found) in [
            ("named pay-", count(&|key| key.alias.starts_with("pay-"))),
            ("named web-", count(&|key| key.alias.starts_with("web-"))),
            ("pci", count(&|key| key.tags.get("pci").is_some_and(|value| value == "true"))),
            ("not pci", count(&|key| key.tags.get("pci").is_some_and(|value| value == "false"))),
            ("of production", count(&|key| key.tags.get("env").is_some_and(|value| value == "prod"))),
            ("without tags", count(&|key| key.tags.is_empty())),
            ("in an enterprise project", count(&|key| key.enterprise_project == OWNERS[0].1)),
            ("in the default one", count(&|key| key.enterprise_project == "0")),
            ("SM4", count(&|key| key.spec == "SM4")),
        ] {
            assert!((20..700).contains(&found), "{found} {what}");
        }
    }
}
