//! The types of one key: its id, the rotation that the policy requires, and what the cloud reports. Policies and
//! answers of the cloud are decoded into them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The id of a customer master key: 36 characters in groups of 8-4-4-4-12.
///
/// Every group may have `[0-9a-z]`, the wider of the two documented forms: only one page of the API reference limits it
/// to hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KeyId::LENGTH]);

impl KeyId {
    /// Characters in a key id.
    pub(crate) const LENGTH: usize = 36;

    /// The id as the cloud writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is accepted, so the default is never used.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let bytes: [u8; Self::LENGTH] = text.as_bytes().try_into().map_err(|_| InvalidKeyId)?;
        let well_formed = bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_digit() || byte.is_ascii_lowercase(),
        });
        if well_formed { Ok(Self(bytes)) } else { Err(InvalidKeyId) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKeyId;

impl fmt::Display for InvalidKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a key id: expected 36 characters 0-9 and a-z in groups of 8-4-4-4-12")
    }
}

impl std::error::Error for InvalidKeyId {}

/// A rotation interval that the cloud accepts: 30 to 365 whole days (`update-key-rotation-interval`; anything else is
/// refused with `KMS.3001`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RotationInterval(u16);

impl RotationInterval {
    /// The shortest interval, in days.
    pub(crate) const MIN_DAYS: u16 = 30;
    /// The longest interval, in days.
    pub(crate) const MAX_DAYS: u16 = 365;
    /// What `enable-key-rotation` sets, as documented: it takes no interval of its own.
    pub(crate) const AFTER_ENABLING: Self = Self(365);

    /// An interval of `days`, or `None` if the cloud would refuse it.
    #[must_use]
    pub fn from_days(days: u16) -> Option<Self> {
        (Self::MIN_DAYS..=Self::MAX_DAYS).contains(&days).then_some(Self(days))
    }

    /// The interval in days.
    #[must_use]
    pub fn days(self) -> u16 {
        self.0
    }

    /// The interval in seconds, the base unit of the metrics.
    #[must_use]
    pub(crate) fn as_seconds(self) -> u64 {
        u64::from(self.0) * SECONDS_PER_DAY
    }

    /// The interval as a duration.
    #[must_use]
    pub(crate) fn as_duration(self) -> Duration {
        Duration::from_secs(self.as_seconds())
    }
}

impl fmt::Display for RotationInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} days", self.0)
    }
}

/// Seconds in the day that rotation intervals are counted in.
pub(crate) const SECONDS_PER_DAY: u64 = 86_400;
/// That day as a duration.
pub(crate) const DAY: Duration = Duration::from_secs(SECONDS_PER_DAY);

/// Whether the interval is sent to a key that is on policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reapply {
    /// Only when the key is off policy. Each interval write starts the cloud's rotation period anew.
    #[default]
    OnDrift,
    /// Once in every run.
    Always,
}

/// How a key's interval is compared with the policy's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// It must be the same (`rotation_interval`).
    #[default]
    Exact,
    /// It must not be longer (`max_rotation_interval`).
    Longest,
}

impl Bound {
    /// Whether a key's interval is on policy if the policy's has this many days.
    pub(crate) fn accepts(self, policy_days: u16, days: u32) -> bool {
        let longest = u32::from(policy_days);
        match self {
            Self::Exact => days == longest,
            Self::Longest => (u32::from(RotationInterval::MIN_DAYS)..=longest).contains(&days),
        }
    }
}

/// The rotation that the policy requires of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredRotation {
    /// The interval that is set where the key's is off policy.
    pub interval: RotationInterval,
    /// Whether shorter ones are on policy too.
    pub bound: Bound,
    /// Whether it is sent to a key that is on policy.
    pub reapply: Reapply,
}

impl DesiredRotation {
    /// Exactly this interval, sent only on drift.
    #[must_use]
    pub fn exactly(interval: RotationInterval) -> Self {
        Self { interval, bound: Bound::Exact, reapply: Reapply::OnDrift }
    }

    /// Whether the setting is on policy.
    #[must_use]
    pub(crate) fn is_met_by(self, rotation: Rotation) -> bool {
        rotation.enabled && rotation.interval_days.is_some_and(|days| self.accepts(days))
    }

    /// Whether an interval of this many days is on policy.
    #[must_use]
    pub fn accepts(self, days: u32) -> bool {
        self.bound.accepts(self.interval.days(), days)
    }
}

/// A key's rotation setting as the cloud reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Rotation is on.
    pub enabled: bool,
    /// The interval in days, where the answer has one. It is the cloud's number and may be one that cannot be set.
    pub interval_days: Option<u32>,
    /// When the key material was last rotated; nothing for a key that never was.
    pub last_rotated: Option<SystemTime>,
    /// How often the key material was rotated.
    pub rotations: Option<u64>,
}

impl Rotation {
    /// The interval, if it is one that can be set.
    #[must_use]
    pub(crate) fn interval(&self) -> Option<RotationInterval> {
        RotationInterval::from_days(self.interval_days?.try_into().ok()?)
    }
}

/// The result of reading a key's rotation setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The answer has the setting.
    Rotation(Rotation),
    /// The cloud does not offer the call, or its answer lacks the setting. That is a property of a project and not of
    /// one answer, so a run decides it from all its readings.
    NotOffered,
    /// The call failed, after retries.
    Failed(CallFailure),
}

/// Why a call about a key failed for good: the reading of its setting, or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The key does not exist in this project (`KMS.0207`).
    NotFound,
    /// The user lacks the permission, or the cloud refuses the project or the account.
    AccessDenied,
    /// The cloud kept answering 429.
    Throttled,
    /// The credentials were refused.
    Authentication,
    /// The login service did not answer, or failed.
    LoginUnavailable,
    /// Only of a write: its answers were lost, and no reading can prove it, since the setting was the same before.
    Unproven,
    /// Anything else: no connection, a server error, an answer that is not understood.
    Other,
}

/// What blocks the rotation of a key, from `describe-key`, `list-keys` or the error code of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationBlocker {
    /// A default key, made by a cloud service.
    DefaultKey,
    /// The key material was imported.
    ImportedMaterial,
    /// An asymmetric or HMAC key.
    UnsupportedKeyType,
    /// The key lives in a custom (dedicated HSM) keystore.
    CustomKeystore,
    /// A replica of a multi-region key; only its primary key is rotated.
    ReplicaKey,
    /// The KMS of this region does not support rotation (`KMS.0319`).
    RotationUnsupported,
    /// The key is not enabled; its rotation cannot be changed until it is.
    Disabled,
    /// The key is scheduled for deletion.
    PendingDeletion,
}

impl RotationBlocker {
    /// Every blocker.
    pub(crate) const ALL: [Self; 8] = [
        Self::DefaultKey,
        Self::ImportedMaterial,
        Self::UnsupportedKeyType,
        Self::CustomKeystore,
        Self::ReplicaKey,
        Self::RotationUnsupported,
        Self::Disabled,
        Self::PendingDeletion,
    ];

    /// Whether no user can lift it. A key can be enabled again, and its deletion can be cancelled.
    #[must_use]
    pub(crate) fn is_permanent(self) -> bool {
        !matches!(self, Self::Disabled | Self::PendingDeletion)
    }
}

/// The state of a key (`key_state` of `describe-key` and `list-keys`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// 1
    PendingActivation,
    /// 2
    Enabled,
    /// 3
    Disabled,
    /// 4
    PendingDeletion,
    /// 5
    PendingImport,
}

impl KeyState {
    const ALL: [Self; 5] =
        [Self::PendingActivation, Self::Enabled, Self::Disabled, Self::PendingDeletion, Self::PendingImport];

    /// The name in records.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::PendingActivation => "pending_activation",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDeletion => "pending_deletion",
            Self::PendingImport => "pending_import",
        }
    }

    /// The state with this name.
    #[must_use]
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// The state behind the cloud's number.
    #[must_use]
    pub(crate) fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            1 => Self::PendingActivation,
            2 => Self::Enabled,
            3 => Self::Disabled,
            4 => Self::PendingDeletion,
            5 => Self::PendingImport,
            _ => return None,
        })
    }
}

/// The parts of a `describe-key` answer that are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyDescription {
    /// The key's name.
    pub alias: Option<Arc<str>>,
    /// What blocks its rotation.
    pub blocker: Option<RotationBlocker>,
    /// Its state.
    pub state: Option<KeyState>,
    /// When it was created.
    pub created: Option<SystemTime>,
}

/// A key in the list of a project's keys (`list-keys`), with its tags where a selector uses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    pub key_id: KeyId,
    /// Its name, and what blocks its rotation.
    pub description: KeyDescription,
    /// Its algorithm, such as `AES_256`; `None` if the list has none. Shared by keys, as the next one.
    pub key_spec: Option<Arc<str>>,
    /// The enterprise project that it belongs to; `None` if the list has none.
    pub enterprise_project_id: Option<Arc<str>>,
    pub tags: Vec<Tag>,
}

impl ListedKey {
    /// Its name; `None` if the list has none.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.description.alias.as_deref()
    }
}

/// A tag of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub key: Box<str>,
    pub value: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_has_the_documented_form() {
        let accepted = ["0d0466b0-e727-4d9c-b35d-f84bb474a37f", "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"];
        for text in accepted {
            assert_eq!(text.parse::<KeyId>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
        let refused = [
            "",
            "0d0466b0-e727-4d9c-b35d-f84bb474a37",
            "0d0466b0-e727-4d9c-b35d-f84bb474a37f0",
            "0D0466B0-e727-4d9c-b35d-f84bb474a37f",
            "0d0466b0ae727-4d9c-b35d-f84bb474a37f",
            "0d0466b0-e727-4d9c-b35d-f84bb474a3-f",
            "0d0466b0-e727-4d9c-b35d-f84bb474a3é",
        ];
        for text in refused {
            assert_eq!(text.parse::<KeyId>(), Err(InvalidKeyId), "{text}");
        }
    }

    #[test]
    fn an_interval_is_30_to_365_days() {
        assert_eq!(RotationInterval::from_days(29), None);
        assert_eq!(RotationInterval::from_days(30).map(RotationInterval::as_seconds), Some(2_592_000));
        assert_eq!(RotationInterval::from_days(365), Some(RotationInterval::AFTER_ENABLING));
        assert_eq!(RotationInterval::from_days(366), None);
    }
}
