//! The rotation intervals that Terraform code asks for, from the output of `terraform show -json` on a state or a plan.
//!
//! Its format is that of `HashiCorp`'s "JSON Output Format", major versions 0 and 1; `OpenTofu` has the same. Of all
//! resources only KMS keys are read: a state contains secrets of other resources in plain text.

use serde::Deserialize;

use crate::rotation::key::{KeyId, RotationInterval};
use crate::rotation::project::Cloud;

/// The resource types of keys, as the documents of the three providers describe them.
const KEY_TYPES: [(&str, Cloud); 3] = [
    ("huaweicloud_kms_key", Cloud::HuaweiCloud),
    ("opentelekomcloud_kms_key_v1", Cloud::OpenTelekomCloud),
    ("flexibleengine_kms_key_v1", Cloud::FlexibleEngine),
];

/// A key in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CodeKey {
    /// Its address, such as `module.pay.huaweicloud_kms_key.cards`.
    pub(super) address: String,
    pub(super) cloud: Cloud,
    /// The region that the resource reports, if it does.
    pub(super) region: Option<String>,
    /// Its id; `None` for a key that is only planned.
    pub(super) key_id: Option<KeyId>,
    pub(super) alias: Option<String>,
    pub(super) rotation: CodeRotation,
}

/// What the code asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeRotation {
    /// Rotation on, with this interval.
    Interval(RotationInterval),
    /// Rotation on, with an interval that the cloud refuses.
    Invalid(u64),
    /// Rotation on, without an interval.
    On,
    /// Rotation off, which is also the default of the providers.
    Off,
    /// Nothing.
    Unset,
}

#[derive(Deserialize)]
struct Document {
    format_version: Option<String>,
    /// Of a plan: the values after it.
    planned_values: Option<Values>,
    /// Of a state.
    values: Option<Values>,
    /// Of a state file itself, which is not what is expected.
    serial: Option<u64>,
}

#[derive(Deserialize)]
struct Values {
    root_module: Option<Module>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(default)]
    child_modules: Vec<Module>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    address: String,
    #[serde(default)]
    mode: String,
    #[serde(rename = "type", default)]
    kind: String,
    /// Decoded only for keys.
    values: Option<Box<serde_json::value::RawValue>>,
}

#[derive(Default, Deserialize)]
struct Attributes {
    id: Option<String>,
    key_id: Option<String>,
    key_alias: Option<String>,
    region: Option<String>,
    key_algorithm: Option<String>,
    origin: Option<String>,
    rotation_enabled: Option<bool>,
    rotation_interval: Option<u64>,
}

impl Attributes {
    /// Whether the cloud can rotate such a key (`docs/kms-api.md` 1.3).
    fn can_rotate(&self) -> bool {
        let is_symmetric = self.key_algorithm.as_deref().is_none_or(|spec| matches!(spec, "" | "AES_256" | "SM4"));
        is_symmetric && self.origin.as_deref() != Some("external")
    }
}

/// The keys in the output of `terraform show -json`, in its order.
///
/// # Errors
///
/// It is something else: what is wrong, and what to do.
pub(super) fn read(json: &[u8]) -> Result<Vec<CodeKey>, String> {
    const EXPECTED: &str = "expected the output of `terraform show -json`";
    let document: Document = match serde_json::from_slice(json) {
        Ok(document) => document,
        Err(error) if error.is_data() => return Err(format!("unknown form at line {}, {EXPECTED}", error.line())),
        // The text is not repeated: a state contains secrets.
        Err(error) => {
            return Err(format!("not JSON at line {}, column {}; {EXPECTED}", error.line(), error.column()));
        }
    };
    let Some(version) = document.format_version else {
        let what = if document.serial.is_some() { "a state file" } else { "no `format_version`" };
        return Err(format!("{what}, {EXPECTED}"));
    };
    if !matches!(version.split('.').next(), Some("0" | "1")) {
        return Err(format!("format_version {version:?} is not supported, expected 1.x; use a newer kms-rotationd"));
    }
    let mut keys = Vec::new();
    if let Some(module) = document.planned_values.or(document.values).and_then(|values| values.root_module) {
        add_keys(&module, &mut keys)?;
    }
    Ok(keys)
}

fn add_keys(module: &Module, keys: &mut Vec<CodeKey>) -> Result<(), String> {
    for Resource { address, mode, kind, values } in &module.resources {
        let Some((_, cloud)) = KEY_TYPES.iter().find(|(name, _)| name == kind) else { continue };
        if mode != "managed" {
            continue;
        }
        let attributes = match values {
            Some(values) => serde_json::from_str(values.get())
                .map_err(|_| format!("{address} has attributes of an unknown form; use a newer kms-rotationd"))?,
            None => Attributes::default(),
        };
        // A key that cannot rotate, and for which the code does not ask for it, needs no decision.
        if attributes.rotation_enabled == Some(true) || attributes.can_rotate() {
            keys.push(key(address, *cloud, attributes));
        }
    }
    module.child_modules.iter().try_for_each(|module| add_keys(module, keys))
}

fn key(address: &str, cloud: Cloud, attributes: Attributes) -> CodeKey {
    let Attributes { id, key_id, key_alias, region, rotation_enabled, rotation_interval, .. } = attributes;
    let rotation = match (rotation_enabled, rotation_interval) {
        (Some(true), Some(days)) => {
            let interval = u16::try_from(days).ok().and_then(RotationInterval::from_days);
            interval.map_or(CodeRotation::Invalid(days), CodeRotation::Interval)
        }
        (Some(true), None) => CodeRotation::On,
        (Some(false), _) => CodeRotation::Off,
        (None, _) => CodeRotation::Unset,
    };
    CodeKey {
        address: address.to_owned(),
        cloud,
        region: region.filter(|region| !region.is_empty()),
        key_id: [key_id, id].into_iter().flatten().find_map(|id| id.parse().ok()),
        alias: key_alias.filter(|alias| !alias.is_empty()),
        rotation,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    fn keys(document: &Value) -> Result<Vec<CodeKey>, String> {
        read(document.to_string().as_bytes())
    }

    fn resource(kind: &str, values: &Value) -> Value {
        json!({"address": format!("{kind}.a"), "mode": "managed", "type": kind, "name": "a", "values": values})
    }

    #[test]
    fn keys_of_every_provider_and_module_are_found() {
        let huawei = json!({"id": ID, "key_id": ID, "key_alias": "a", "region": "cn-north-4", "rotation_enabled": true,
                            "rotation_interval": 90, "tags": {}, "key_algorithm": "AES_256"});
        let otc = json!({"id": ID, "key_alias": "b", "rotation_enabled": false, "rotation_interval": null});
        let data = json!({"address": "data.x", "mode": "data", "type": "huaweicloud_kms_key", "values": {"id": 7}});
        let other = resource("huaweicloud_kms_grant", &json!({"id": 7}));
        let asymmetric =
            resource("huaweicloud_kms_key", &json!({"key_algorithm": "RSA_2048", "rotation_enabled": false}));
        let imported = resource("huaweicloud_kms_key", &json!({"origin": "external"}));
        let flexible = json!({"key_alias": "c", "rotation_enabled": true});
        let document = json!({"format_version": "1.0", "values": {"root_module": {
            "resources": [resource("huaweicloud_kms_key", &huawei), data, other, asymmetric, imported],
            "child_modules": [{"address": "module.m", "child_modules": [{
                "resources": [resource("opentelekomcloud_kms_key_v1", &otc)],
            }]}, {"resources": [resource("flexibleengine_kms_key_v1", &flexible)]}],
        }}});
        let found = keys(&document).unwrap();
        let clouds: Vec<_> = found.iter().map(|key| key.cloud).collect();
        assert_eq!(clouds, [Cloud::HuaweiCloud, Cloud::OpenTelekomCloud, Cloud::FlexibleEngine]);
        let [a, b, c] = &found[..] else { panic!("{found:?}") };
        assert_eq!((a.key_id, &a.region), (ID.parse().ok(), &Some("cn-north-4".to_owned())));
        assert_eq!(a.rotation, CodeRotation::Interval(RotationInterval::from_days(90).unwrap()));
        assert_eq!((b.key_id, &b.region, b.rotation), (ID.parse().ok(), &None, CodeRotation::Off));
        assert_eq!((c.key_id, c.alias.as_deref(), c.rotation), (None, Some("c"), CodeRotation::On));
    }

    #[test]
    fn a_plan_counts_with_the_values_after_it() {
        let before = json!({"id": ID, "key_alias": "a", "rotation_enabled": true, "rotation_interval": 365});
        let after = json!({"key_alias": "a", "rotation_enabled": true, "rotation_interval": 400});
        let of = |values| json!({"root_module": {"resources": [resource("huaweicloud_kms_key", &values)]}});
        let plan = json!({"format_version": "1.2", "planned_values": of(after), "prior_state": {"values": of(before)}});
        let found = keys(&plan).unwrap();
        assert_eq!((found.len(), found[0].key_id, found[0].rotation), (1, None, CodeRotation::Invalid(400)));
    }

    #[test]
    fn other_files_are_refused_and_not_repeated() {
        assert_eq!(keys(&json!({"format_version": "1.0"})), Ok(vec![]), "an empty state");
        let refused = |text: &str| read(text.as_bytes()).unwrap_err();
        assert_eq!(refused("s3cret"), "not JSON at line 1, column 1; expected the output of `terraform show -json`");
        let state = r#"{"version": 4, "serial": 7, "resources": []}"#;
        assert_eq!(refused(state), "a state file, expected the output of `terraform show -json`");
        assert_eq!(refused("{}"), "no `format_version`, expected the output of `terraform show -json`");
        assert!(refused(r#"{"format_version": "2.0"}"#).contains("is not supported"));
        assert!(refused(r#"{"format_version": "1.0", "values": "s3cret"}"#).starts_with("unknown form at line 1"));
        let odd = json!({"format_version": "1.0", "values": {"root_module": {
            "resources": [resource("huaweicloud_kms_key", &json!({"rotation_enabled": "yes"}))]}}});
        assert!(keys(&odd).unwrap_err().starts_with("huaweicloud_kms_key.a has attributes of an unknown form"));
    }
}
