//! The details of a key, as `describe-key`, the listing and the search by tags return them (`docs/kms-api.md` 1.3).

use serde::Serialize;

use crate::behaviour::Dialect;
use crate::encoding::milliseconds;
use crate::keys::StoredKey;

/// A number, plain or as text.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Number {
    Text(String),
    Plain(u64),
}

impl Number {
    pub(super) fn new(number: u64, plain: bool) -> Self {
        if plain { Self::Plain(number) } else { Self::Text(number.to_string()) }
    }
}

/// `KeyDetails` (`docs/kms-api.md` 1.3).
#[derive(Serialize)]
pub(super) struct Details<'a> {
    key_id: &'a str,
    domain_id: &'static str,
    key_alias: &'a str,
    realm: &'static str,
    key_spec: &'a str,
    key_usage: &'static str,
    key_description: &'static str,
    creation_date: Number,
    scheduled_deletion_date: &'static str,
    key_state: Number,
    default_key_flag: Number,
    key_type: Number,
    expiration_time: &'static str,
    origin: &'static str,
    #[serde(flatten)]
    more: Option<MoreDetails<'a>>,
}

/// The fields that Open Telekom Cloud's tables and examples do not have (`describe-key`, table 5).
#[derive(Serialize)]
struct MoreDetails<'a> {
    key_rotation_enabled: String,
    sys_enterprise_project_id: &'a str,
    keystore_id: &'a str,
    keystore_type: &'static str,
    multi_region_key_type: &'static str,
    pending_days: &'static str,
}

impl<'a> Details<'a> {
    /// All fields as text, as recorded (`docs/kms-api.md` 1.3).
    pub(super) fn of(stored: &'a StoredKey, dialect: Dialect) -> Self {
        Self::new(stored, dialect, false)
    }

    /// With plain numbers, as in the examples of the search by tags (`docs/kms-api.md` 1.5).
    pub(super) fn with_numbers(stored: &'a StoredKey, dialect: Dialect) -> Self {
        Self::new(stored, dialect, true)
    }

    fn new(stored: &'a StoredKey, dialect: Dialect, plain: bool) -> Self {
        let key = &stored.key;
        let number = |number| Number::new(number, plain);
        let asymmetric = key.spec.starts_with("RSA") || key.spec.starts_with("EC") || key.spec == "SM2";
        let more = || MoreDetails {
            key_rotation_enabled: stored.shown().enabled.to_string(),
            sys_enterprise_project_id: &key.enterprise_project,
            keystore_id: &key.keystore,
            keystore_type: if key.keystore == "0" { "DEFAULT" } else { "DEDICATED" },
            multi_region_key_type: if key.replica { "REPLICA" } else { "SINGLE" },
            pending_days: "",
        };
        Self {
            key_id: &key.id,
            domain_id: "b168fe00ff56492495a7d22974df2d0b",
            key_alias: &key.alias,
            realm: "simulated",
            key_spec: &key.spec,
            key_usage: if key.spec.starts_with("HMAC") {
                "GENERATE_VERIFY_MAC"
            } else if asymmetric {
                "SIGN_VERIFY"
            } else {
                "ENCRYPT_DECRYPT"
            },
            key_description: "",
            creation_date: number(key.created.map_or(0, milliseconds)),
            scheduled_deletion_date: "",
            key_state: number(key.state.code().into()),
            default_key_flag: number(key.default.into()),
            key_type: number(1),
            expiration_time: "",
            origin: key.origin.as_str(),
            more: (dialect != Dialect::OpenTelekomCloud).then(more),
        }
    }
}
