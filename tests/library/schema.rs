//! The JSON Schema of the policy agrees with the decoder: it accepts every valid policy and refuses the others, as far
//! as a schema can, and config/policy.schema.json is up to date.
//!
//! After an intended change, `UPDATE_GOLDEN=1 cargo test --test library schema` updates config/policy.schema.json.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use kms_rotationd::policy::{self, Policy};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The compiled schema.
struct Validator {
    schemas: boon::Schemas,
    schema: boon::SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("https://example.com/policy.schema.json", policy::json_schema()).unwrap();
        let schema = compiler.compile("https://example.com/policy.schema.json", &mut schemas).unwrap();
        Self { schemas, schema }
    }

    /// Why a document is invalid, or nothing.
    fn fault(&self, document: &Value) -> Option<String> {
        self.schemas.validate(document, self.schema).err().map(|fault| format!("{fault:#}"))
    }
}

fn read(text: &str) -> Option<Policy> {
    let environment = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| "/run/credentials/it".to_owned());
    let november = SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_491_200);
    policy::read(text.as_bytes(), "policy.yaml", environment, november).ok().map(|(policy, _)| policy)
}

#[test]
fn the_shipped_schema_is_the_one_that_the_program_prints() {
    let printed = Command::new(env!("CARGO_BIN_EXE_kms-rotationd")).arg("schema").output().unwrap();
    assert_eq!((printed.status.code(), &*printed.stderr), (Some(0), &b""[..]));
    let printed = String::from_utf8(printed.stdout).unwrap();
    let shipped = root().join("config/policy.schema.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&shipped, &printed).unwrap();
    }
    assert!(fs::read_to_string(shipped).unwrap() == printed, "config/policy.schema.json is outdated");
}

/// Every example of a policy with its file.
fn examples() -> Vec<(String, String)> {
    let file = |name: &str| (name.to_owned(), fs::read_to_string(root().join(name)).unwrap());
    let mut examples = [
        "config/policy.yaml",
        "config/policy.minimal.yaml",
        "config/policy.account.yaml",
        "config/policy.story.yaml",
        "config/kubernetes/policy.yaml",
    ]
    .map(file)
    .to_vec();
    for document in ["README.md", "docs/policy.md", "docs/monitoring.md"] {
        let (_, text) = file(document);
        let mut before = "";
        for part in text.split("```yaml\n") {
            let block = part.split("```").next().unwrap();
            // One of them has mistakes on purpose, and one has no keys, for `init`.
            let is_partial =
                ["mistakes", "projects"].iter().any(|name| before.ends_with(&format!("<!-- file: {name}.yaml -->\n")));
            let is_policy = block.starts_with("projects:") || block.starts_with("defaults:");
            if is_policy && !is_partial {
                examples.push((document.to_owned(), block.to_owned()));
            }
            before = part;
        }
    }
    examples
}

#[test]
fn every_example_is_valid_and_names_the_schema_where_it_is_a_file() {
    let (validator, examples) = (Validator::new(), examples());
    assert!(examples.len() >= 8, "{} examples", examples.len());
    for (file, text) in examples {
        assert!(read(&text).is_some(), "{file}");
        assert_eq!(validator.fault(&serde_saphyr::from_str(&text).unwrap()), None, "{file}");
        if file.starts_with("config/") {
            let named = text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
            assert!(root().join(&file).parent().unwrap().join(named.unwrap()).exists(), "{file}");
        }
    }
}

fn goldens() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/golden/policy")).unwrap().map(|entry| entry.unwrap().path());
    let mut goldens: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == "yaml")).collect();
    goldens.sort();
    goldens
}

/// Only `check` refuses these.
const BEYOND_A_SCHEMA: &[&str] = &[
    // A schema validates one value at a time,
    "assume_agency_twice",
    "assume_agency_without_an_agent",
    "defaults_agency_without_an_agent",
    "defaults_agency_without_credentials",
    "defaults_mode_enforced_in_a_monitored_file",
    "defaults_proxy_twice",
    "mode_enforced_in_a_monitored_file",
    "conflict_alias_in_two_projects",
    "conflict_alias_twice",
    "conflict_key_in_two_projects",
    "conflict_key_in_two_projects_without_id",
    "conflict_key_twice",
    "conflict_project_name",
    "conflict_selector_twice",
    "conflict_selector_twice_after_an_exemption",
    "proxy_twice",
    "retry_max_below_default",
    "retry_max_below_initial",
    // knows only the form of a text,
    "alias_is_a_key_id",
    "alias_is_a_pattern",
    "credentials_with_the_token_itself",
    "cron_impossible_date",
    "cron_out_of_range",
    "cron_step_without_range",
    "cron_unknown_name",
    "duration_too_long",
    "endpoint_bad_host",
    "endpoint_bad_port",
    "endpoint_plain_http",
    "metadata_endpoint_plain_http",
    "retry_bounds",
    "select_key_spec_all",
    "timezone_unknown",
    "variable_not_closed",
    "variable_not_set",
    "variable_without_name",
    // and gets values after YAML has changed them.
    "interval_hexadecimal",
    "interval_leading_zero",
    "interval_underscore",
    "select_tag_merge_key",
    "syntax_merge_key",
    "syntax_tag",
    "type_boolean",
];

#[test]
fn the_schema_accepts_every_policy_and_refuses_what_it_can() {
    let validator = Validator::new();
    let (mut taken, mut valid) = (BTreeSet::new(), 0);
    for path in goldens() {
        let Ok(text) = String::from_utf8(fs::read(&path).unwrap()) else { continue };
        let Ok(document) = serde_saphyr::from_str(&text) else { continue };
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        match (read(&text), validator.fault(&document)) {
            (Some(_), fault) => {
                assert_eq!(fault, None, "{name}");
                valid += 1;
            }
            (None, None) => {
                taken.insert(name);
            }
            (None, Some(_)) => {}
        }
    }
    assert!(valid >= 10, "{valid} policies with warnings");
    assert_eq!(taken, BEYOND_A_SCHEMA.iter().map(|name| (*name).to_owned()).collect());
}

/// A policy with a value at this path, in addition to the required fields.
fn with(path: &[&str], value: Value) -> Value {
    let mut document = json!({"evidence": {"directory": "/e"}, "projects": [{
        "name": "p", "cloud": "huawei-cloud", "region": "eu-west-101", "credentials": {"token_file": "/t"},
        "keys": [{"select": {}}],
    }]});
    let mut at = &mut document;
    for name in path {
        at = match name.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[*name],
        };
    }
    *at = value;
    let entry = &mut document["projects"][0]["keys"][0];
    if entry["max_rotation_interval"].is_null() && entry["rotation_interval"].is_null() {
        entry["rotation_interval"] = json!(90);
    }
    for name in ["rotation_interval", "max_rotation_interval"] {
        if entry[name].is_null() {
            entry.as_object_mut().unwrap().remove(name);
        }
    }
    document
}

/// Every property of the schema with the path of its value; an item of a list is the first one.
fn properties(schema: &Value, path: &[String], found: &mut Vec<(Vec<String>, Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let mut path = [path, std::slice::from_ref(name)].concat();
        found.push((path.clone(), property.clone()));
        properties(property, &path, found);
        path.push("0".to_owned());
        properties(&property["items"], &path, found);
    }
}

fn all_properties() -> Vec<(Vec<String>, Value)> {
    let mut found = Vec::new();
    properties(&policy::json_schema(), &[], &mut found);
    found
}

#[test]
fn every_pattern_means_the_same_in_python_and_javascript() {
    let mut found = Vec::new();
    properties(&policy::json_schema(), &[], &mut found);
    let patterns: Vec<_> = found.iter().filter_map(|(_, property)| property["pattern"].as_str()).collect();
    assert!(patterns.len() > 20, "{patterns:?}");
    for pattern in patterns {
        // Named classes and flags differ between the two.
        assert!(!["\\p", "\\P", "\\u", "(?", "[:"].iter().any(|odd| pattern.contains(odd)), "{pattern}");
    }
}

#[test]
fn an_absent_field_has_the_default_of_the_schema() {
    let without = read(&with(&["schedule"], json!({})).to_string()).unwrap();
    let validator = Validator::new();
    let mut defaults = 0;
    for (path, property) in all_properties() {
        let Some(default) = property.get("default") else { continue };
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        let document = with(&path, default.clone());
        assert_eq!(validator.fault(&document), None, "{path:?}");
        let mut with_default = read(&document.to_string()).unwrap();
        // The added value moves the positions after it.
        with_default.projects[0].credentials_at = without.projects[0].credentials_at;
        with_default.files.clone_from(&without.files);
        assert_eq!(with_default, without, "{path:?}");
        defaults += 1;
    }
    assert_eq!(defaults, 21);
}

#[test]
fn numbers_have_the_same_bounds_for_the_schema_and_for_the_decoder() {
    let validator = Validator::new();
    let mut bounds = 0;
    for (path, property) in all_properties() {
        let (Some(least), Some(most)) = (property["minimum"].as_f64(), property["maximum"].as_f64()) else { continue };
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        let whole = property["type"] == "integer";
        let step = if whole { 1.0 } else { 0.001 };
        for (number, expected) in [(least, true), (most, true), (least - step, false), (most + step, false)] {
            let text = if whole { format!("{number:.0}") } else { format!("{number:.3}") };
            let document = with(&path, serde_json::from_str(&text).unwrap());
            assert_eq!(validator.fault(&document).is_none(), expected, "{path:?} {text}");
            assert_eq!(read(&document.to_string()).is_some(), expected, "{path:?} {text}");
        }
        bounds += 1;
    }
    assert_eq!(bounds, 6);
}

#[test]
fn every_field_is_in_an_example() {
    let text: String = ["policy.yaml", "policy.account.yaml"]
        .map(|file| fs::read_to_string(root().join("config").join(file)).unwrap())
        .concat();
    for (path, _) in all_properties() {
        let name = path.last().unwrap();
        assert!(text.contains(&format!("{name}:")), "{path:?} is in no example");
    }
}

#[test]
fn every_field_has_a_description() {
    let properties = all_properties();
    assert!(properties.len() > 60, "{}", properties.len());
    for (path, property) in properties {
        assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{path:?}");
    }
}
