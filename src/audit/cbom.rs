//! The keys as a `CycloneDX` 1.6 bill of materials: a cryptographic asset for each key, as it was at the end of the
//! period.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use super::ids::Ids;
use super::key::is_entry;
use super::model::{Combined, Key, Observer, Report};
use super::words;
use crate::rotation::decide::Reason;
use crate::support::printable::printable;

/// Writes the document.
///
/// # Errors
///
/// The destination cannot be written.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let ids = Ids::new(report);
    let components: Vec<_> =
        keys(report).into_values().map(|(observer, key)| component(report, observer, key)).collect();
    let simulated = if report.simulated { "SIMULATED: " } else { "" };
    let mut properties = vec![
        property("simulated", &report.simulated.to_string()),
        property("log_verified", &report.verified.to_string()),
        property("from", &report.period.from.to_string()),
        property("to", &report.period.to.to_string()),
    ];
    for log in report.observers.iter().flat_map(|observer| &observer.logs) {
        properties.push(property("log", &format!("{} {} {}", log.origin, log.size, log.root)));
    }
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", ids.report()),
        "version": 1,
        "metadata": {
            "timestamp": report.as_of,
            "tools": {"components": [{"type": "application", "name": "kms-rotationd", "version": report.version}]},
            "component": {
                "type": "platform",
                "name": format!("{simulated}KMS keys"),
                "bom-ref": "kms",
            },
            "properties": properties,
        },
        "components": components,
    });
    serde_json::to_writer(&mut out, &document)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Project and key.
type Name<'a> = (&'a Arc<str>, &'a Arc<str>);

/// The keys that exist, each as the log has it that looked last. Entries of the policy without a key are no assets.
fn keys(report: &Report) -> BTreeMap<Name<'_>, (&Observer, &Key)> {
    let mut keys: BTreeMap<_, (&Observer, &Key)> = BTreeMap::new();
    let exists = |key: &&Key| !is_entry(&key.key_id) && !key.state.reasons.contains(Reason::NotFound);
    for observer in &report.observers {
        for key in observer.keys.iter().filter(exists) {
            let known = keys.entry((&key.project, &key.key_id)).or_insert((observer, key));
            if known.1.to < key.to {
                *known = (observer, key);
            }
        }
    }
    keys
}

fn component(report: &Report, observer: &Observer, key: &Key) -> Value {
    let state = &key.state;
    let is = |reason| state.reasons.contains(reason);
    let phase = if key.vanished {
        "destroyed"
    } else if is(Reason::PendingDeletion) {
        "deactivated"
    } else if is(Reason::KeyDisabled) {
        "suspended"
    } else {
        "active"
    };
    // Rotation is of symmetric keys only. Of others the log does not have the kind.
    let kind = if is(Reason::UnsupportedKeyType) { "key" } else { "secret-key" };
    let mut material = json!({"type": kind, "id": key.key_id, "state": phase});
    for (name, time) in [
        ("creationDate", key.created_at),
        ("updateDate", state.last_rotation_at),
        ("expirationDate", state.rotation_due_at),
    ] {
        if let Some(time) = time {
            material[name] = json!(time);
        }
    }
    let facts = observer.projects.iter().find(|project| project.name == key.project);
    let facts = facts.and_then(|project| project.facts.as_ref());
    let place = |combined: &Combined| (&combined.project, &combined.key_id).cmp(&(&key.project, &key.key_id));
    let combined = report.combined.binary_search_by(place).ok().and_then(|at| report.combined.get(at));
    let verdict = combined.map_or(key.verdict, |combined| combined.verdict);
    let setting = state.setting;
    let properties = [
        ("project", Some(key.project.to_string())),
        ("cloud", facts.map(|facts| facts.cloud.clone())),
        ("region", facts.map(|facts| facts.region.clone())),
        ("verdict", Some(verdict.as_str().to_owned())),
        ("status", Some(state.status.to_string())),
        ("reasons", Some(state.reasons.to_string()).filter(|reasons| !reasons.is_empty())),
        ("rotation_enabled", setting.map(|setting| setting.enabled.to_string())),
        ("interval_days", setting.and_then(|setting| setting.interval_days).map(|days| days.to_string())),
        ("policy_interval", state.required.map(|_| words::required(state.required))),
        ("material_since", state.material_since.map(|since| since.to_string())),
    ];
    let properties = properties.into_iter().filter_map(|(name, value)| Some(property(name, &value?)));
    json!({
        "type": "cryptographic-asset",
        "bom-ref": format!("kms/{}/{}", key.project, key.key_id),
        "name": printable(key.alias.as_deref().unwrap_or(&key.key_id)),
        "cryptoProperties": {
            "assetType": "related-crypto-material",
            "relatedCryptoMaterialProperties": material,
        },
        "properties": properties.collect::<Vec<_>>(),
    })
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": format!("kms-rotationd:{name}"), "value": printable(value)})
}
