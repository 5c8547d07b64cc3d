//! A simulated key: what the cloud stores of it and which writes it refuses on it.
//!
//! Knows nothing of HTTP: `kms` asks it for a refusal, carries out writes on it and renders it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The interval that enabling sets, in days, as documented.
pub const INTERVAL_AFTER_ENABLING: u32 = 365;

/// The life of a key (`key_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// 1
    WaitingForActivation,
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
    /// The number that stands for it on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::WaitingForActivation => 1,
            Self::Enabled => 2,
            Self::Disabled => 3,
            Self::PendingDeletion => 4,
            Self::PendingImport => 5,
        }
    }
}

/// Where the key material comes from (`origin`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made by the KMS.
    Kms,
    /// Imported.
    External,
}

impl Origin {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::External => "external",
        }
    }
}

/// A rotation setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RotationSetting {
    /// Rotation is on.
    pub enabled: bool,
    /// The interval in days; 0 for a key on which rotation was never on.
    pub interval_days: u32,
}

/// A key as the cloud stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// 36 characters in groups of 8-4-4-4-12.
    pub id: String,
    /// The name; default keys end in `/default`.
    pub alias: String,
    /// Where it is in its life.
    pub state: KeyState,
    /// Where its material comes from.
    pub origin: Origin,
    /// The algorithm, such as `AES_256` or `RSA_2048`.
    pub spec: Cow<'static, str>,
    /// Made by a cloud service.
    pub default: bool,
    /// The keystore; `0` is the KMS's own, anything else a dedicated HSM.
    pub keystore: Cow<'static, str>,
    /// A replica of a multi-region key.
    pub replica: bool,
    /// The enterprise project that it belongs to; `0` is the default one.
    pub enterprise_project: Cow<'static, str>,
    /// Its tags, key and value.
    pub tags: BTreeMap<Cow<'static, str>, Cow<'static, str>>,
    /// When it was made.
    pub created: SystemTime,
    /// Its rotation setting.
    pub rotation: RotationSetting,
    /// When its material was last rotated.
    pub last_rotation: Option<SystemTime>,
    /// How often its material was rotated.
    pub rotations: u32,
}

impl Key {
    /// An enabled AES key with rotation off, as the cloud makes them.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            alias: format!("key-{}", id.get(..8).unwrap_or(&id)),
            id,
            state: KeyState::Enabled,
            origin: Origin::Kms,
            spec: Cow::Borrowed("AES_256"),
            default: false,
            keystore: Cow::Borrowed("0"),
            replica: false,
            enterprise_project: Cow::Borrowed("0"),
            tags: BTreeMap::new(),
            created: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            rotation: RotationSetting::default(),
            last_rotation: None,
            rotations: 0,
        }
    }

    /// With rotation on at this interval.
    #[must_use]
    pub fn rotating(self, interval_days: u32) -> Self {
        Self { rotation: RotationSetting { enabled: true, interval_days }, ..self }
    }

    /// With this name.
    #[must_use]
    pub fn alias(self, alias: impl Into<String>) -> Self {
        Self { alias: alias.into(), ..self }
    }

    /// In this state.
    #[must_use]
    pub fn state(self, state: KeyState) -> Self {
        Self { state, ..self }
    }

    /// With imported material.
    #[must_use]
    pub fn imported(self) -> Self {
        Self { origin: Origin::External, ..self }
    }

    /// As a default key of a cloud service, such as `evs`.
    #[must_use]
    pub fn default_of(self, service: &str) -> Self {
        Self { default: true, alias: format!("{service}/default"), ..self }
    }

    /// Of this algorithm.
    #[must_use]
    pub fn spec(self, spec: impl Into<Cow<'static, str>>) -> Self {
        Self { spec: spec.into(), ..self }
    }

    /// In a keystore of the customer's own.
    #[must_use]
    pub fn keystore(self, keystore: impl Into<Cow<'static, str>>) -> Self {
        Self { keystore: keystore.into(), ..self }
    }

    /// As a replica of a multi-region key.
    #[must_use]
    pub fn replica(self) -> Self {
        Self { replica: true, ..self }
    }

    /// In this enterprise project.
    #[must_use]
    pub fn enterprise_project(self, id: impl Into<Cow<'static, str>>) -> Self {
        Self { enterprise_project: id.into(), ..self }
    }

    /// With one tag more, or another value of it.
    #[must_use]
    pub fn tag(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Made at this time.
    #[must_use]
    pub fn created(self, created: SystemTime) -> Self {
        Self { created, ..self }
    }

    /// Rotated this often, the last time then.
    #[must_use]
    pub fn rotated(self, rotations: u32, last: SystemTime) -> Self {
        Self { rotations, last_rotation: Some(last), ..self }
    }

    /// Why rotation can never be set on this key: a code and its text.
    pub(super) fn unrotatable(&self) -> Option<Refusal> {
        let spec = self.spec.as_ref();
        Some(if self.default {
            Refusal("KMS.0211", "The operation is not allowed on default master keys.")
        } else if self.origin == Origin::External {
            Refusal("KMS.0312", "External keys cannot be rotated.")
        } else if spec.starts_with("RSA") {
            Refusal("KMS.0324", "RSA keys do not support rotation.")
        } else if spec.starts_with("HMAC") {
            Refusal("KMS.0341", "HMAC keys do not support rotation.")
        } else if !matches!(spec, "AES_256" | "SM4") {
            Refusal("KMS.0325", "Asymmetric keys do not support rotation.")
        } else if self.keystore != "0" {
            Refusal("KMS.0338", "Keys in a custom keystore do not support rotation.")
        } else if self.replica {
            Refusal("KMS.0106", "The key is a replica. The API is read-only.")
        } else {
            return None;
        })
    }

    /// Why this key's setting cannot be changed now: what never goes first, then its state.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.unrotatable().or(match self.state {
            KeyState::Enabled => None,
            KeyState::Disabled => Some(Refusal("KMS.0209", "The key is disabled.")),
            KeyState::PendingDeletion => Some(Refusal("KMS.0210", "The key is in scheduled deletion.")),
            KeyState::WaitingForActivation | KeyState::PendingImport => {
                Some(Refusal("KMS.1301", "The key is not enabled."))
            }
        })
    }

    pub(super) fn enable_rotation(&mut self) -> Result<(), Refusal> {
        self.refusal().map_or(Ok(()), Err)?;
        if self.rotation.enabled {
            // The text as recorded on the wire; the table has another.
            return Err(Refusal("KMS.2901", "The rotation state of key is not disabled."));
        }
        self.rotation = RotationSetting { enabled: true, interval_days: INTERVAL_AFTER_ENABLING };
        Ok(())
    }

    pub(super) fn disable_rotation(&mut self) -> Result<(), Refusal> {
        self.refusal().map_or(Ok(()), Err)?;
        if !self.rotation.enabled {
            return Err(NOT_ENABLED);
        }
        self.rotation.enabled = false;
        Ok(())
    }

    pub(super) fn update_interval(&mut self, interval_days: u32) -> Result<(), Refusal> {
        self.refusal().map_or(Ok(()), Err)?;
        if !self.rotation.enabled {
            return Err(NOT_ENABLED);
        }
        self.rotation.interval_days = interval_days;
        Ok(())
    }
}

const NOT_ENABLED: Refusal = Refusal("KMS.0313", "Key rotation is not enabled.");

/// A 400 of the KMS: its code and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) &'static str, pub(super) &'static str);

/// Whether the text is a key id, `^[0-9a-z]{8}-[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{12}$`.
pub(super) fn is_key_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || byte.is_ascii_lowercase(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    #[test]
    fn enabling_sets_365_and_is_refused_the_second_time() {
        let mut key = Key::new(ID);
        assert_eq!(key.enable_rotation(), Ok(()));
        assert_eq!(key.rotation, RotationSetting { enabled: true, interval_days: 365 });
        assert_eq!(key.update_interval(90), Ok(()));
        assert_eq!(key.enable_rotation().unwrap_err().0, "KMS.2901");
        assert_eq!(key.rotation.interval_days, 90, "a refused enable changes nothing");
    }

    #[test]
    fn an_interval_needs_rotation_to_be_on() {
        let mut key = Key::new(ID).rotating(90);
        assert_eq!(key.disable_rotation(), Ok(()));
        assert_eq!(key.update_interval(30).unwrap_err().0, "KMS.0313");
        assert_eq!(key.disable_rotation().unwrap_err().0, "KMS.0313");
        assert_eq!(key.rotation, RotationSetting { enabled: false, interval_days: 90 });
    }

    #[test]
    fn each_kind_of_key_that_cannot_rotate_has_its_own_code() {
        let kinds = [
            (Key::new(ID).state(KeyState::Disabled), "KMS.0209"),
            (Key::new(ID).state(KeyState::PendingDeletion), "KMS.0210"),
            (Key::new(ID).state(KeyState::WaitingForActivation), "KMS.1301"),
            (Key::new(ID).default_of("evs"), "KMS.0211"),
            (Key::new(ID).imported(), "KMS.0312"),
            (Key::new(ID).imported().state(KeyState::PendingImport), "KMS.0312"),
            (Key::new(ID).spec("RSA_2048"), "KMS.0324"),
            (Key::new(ID).spec("EC_P256"), "KMS.0325"),
            (Key::new(ID).spec("HMAC_256"), "KMS.0341"),
            (Key::new(ID).keystore("6b5a"), "KMS.0338"),
            (Key::new(ID).replica(), "KMS.0106"),
        ];
        for (mut key, code) in kinds {
            assert_eq!(key.enable_rotation().unwrap_err().0, code);
            assert_eq!(key.update_interval(90).unwrap_err().0, code);
            assert_eq!(key.rotation, RotationSetting::default());
        }
        assert_eq!(Key::new(ID).spec("SM4").enable_rotation(), Ok(()));
    }

    #[test]
    fn key_ids_are_the_wider_of_the_documented_forms() {
        assert!(is_key_id(ID));
        assert!(is_key_id("zzzzzzzz-e727-4d9c-b35d-zzzzzzzzzzzz"));
        for wrong in ["", "0D0466B0-e727-4d9c-b35d-f84bb474a37f", "0d0466b0e727-4d9c-b35d-f84bb474a37f-", &ID[1..]] {
            assert!(!is_key_id(wrong), "{wrong}");
        }
    }
}
