//! The manifests as values.

use serde_json::Value;

use super::repository::{files, text};

pub(crate) const FOLDER: &str = "config/kubernetes";

pub(crate) fn documents(manifest: &str) -> Vec<Value> {
    manifest
        .split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap_or_else(|_| panic!("{document}")))
        .collect()
}

/// The files with resources, and their documents.
pub(crate) fn resources() -> Vec<(String, Value)> {
    let manifests = files(FOLDER).into_iter().filter(|file| !file.ends_with("/policy.yaml"));
    let all =
        manifests.flat_map(|file| documents(&text(&file)).into_iter().map(move |document| (file.clone(), document)));
    all.filter(|(_, document)| document["kind"] != "Kustomization" && document["kind"] != "Component").collect()
}

#[track_caller]
pub(crate) fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().unwrap_or_else(|| panic!("{field} is no list in {value}"))
}

#[track_caller]
pub(crate) fn named<'v>(values: &'v [Value], name: &str) -> &'v Value {
    values.iter().find(|value| value["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}
