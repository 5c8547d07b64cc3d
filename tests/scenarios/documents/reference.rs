//! The table of the policy's fields in docs/policy.md is generated from the JSON Schema.

use std::collections::BTreeMap;

use kms_rotationd::policy;
use kms_rotationd::rotation::rule::{Matcher, Requirement};
use serde_json::Value;

use super::generated::{assert_part, part};
use super::{blocks, valid};

/// The fields of a mapping and of the mappings in it, each with its row; a mapping that occurs twice counts once. A
/// project may leave out the `inherited` fields if `defaults` has them.
fn rows(schema: &Value, within: &str, rows: &mut BTreeMap<String, String>, inherited: &[&str]) {
    let named = |list: &Value, name: &str| list.as_array().is_some_and(|list| list.iter().any(|item| item == name));
    let groups = schema["allOf"].as_array().into_iter().flatten();
    let alternatives: Vec<&Value> =
        groups.filter_map(|group| group["oneOf"].as_array()).flatten().map(|one| &one["required"]).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{within}{name}");
        let description = property["description"].as_str().unwrap();
        let left_out = if named(&schema["required"], name) {
            "required ".to_owned()
        } else if alternatives.iter().any(|one| named(one, name)) {
            "one of these ".to_owned()
        } else if within == "projects." && inherited.contains(&&**name) {
            "required, here or in `defaults` ".to_owned()
        } else {
            match &property["default"] {
                Value::Null => String::new(),
                Value::String(default) => format!("`{default}` "),
                default => format!("`{default}` "),
            }
        };
        rows.insert(path.clone(), format!("| `{path}` | {description} | {left_out}|\n"));
        // The defaults are fields of projects.
        if !description.starts_with("as in ") && path != "defaults" {
            let within = format!("{path}.");
            self::rows(property, &within, rows, inherited);
            self::rows(&property["items"], &within, rows, inherited);
        }
    }
}

/// Puts the fields in the order of a table; a field that it lacks comes after the others of its section.
fn ordered<'f>(fields: &'f BTreeMap<String, String>, table: &str) -> Vec<&'f str> {
    let mut order: Vec<&str> = Vec::new();
    let listed = table.lines().filter_map(|row| row.split('`').nth(1));
    order.extend(listed.filter_map(|path| fields.get_key_value(path)).map(|(path, _)| &**path));
    for path in fields.keys().map(String::as_str).filter(|path| !table.contains(&format!("| `{path}` |"))) {
        let section = path.rsplit_once('.').map_or("", |(section, _)| section);
        let is_within =
            |other: &str| section.is_empty() || other == section || other.starts_with(&format!("{section}."));
        let at = order.iter().rposition(|other| is_within(other)).map_or(order.len(), |last| last + 1);
        order.insert(at, path);
    }
    order
}

#[test]
fn the_reference_has_every_field_of_the_decoder() {
    const DOCUMENT: &str = "docs/policy.md";
    let mut fields = BTreeMap::new();
    let schema = policy::json_schema();
    let defaults = schema["allOf"].as_array().unwrap().iter().map(|rule| &rule["if"]["properties"]["defaults"]);
    let inherited: Vec<_> = defaults.map(|defaults| defaults["required"][0].as_str().unwrap()).collect();
    assert_eq!(inherited, ["cloud", "region", "credentials"]);
    rows(&schema, "", &mut fields, &inherited);
    assert!(fields.len() > 60, "{}", fields.len());
    let mut table = "| field | meaning | default |\n|---|---|---|\n".to_owned();
    table.extend(ordered(&fields, &part(DOCUMENT, "fields")).into_iter().map(|path| &*fields[path]));
    assert_part(DOCUMENT, "fields", &table);
}

#[test]
fn a_new_field_comes_after_the_others_of_its_section() {
    let fields = ["a", "a.x", "a.y", "b", "b.x", "c"].map(|path| (path.to_owned(), String::new())).into();
    let table = "| `b` | |\n| `b.x` | |\n| `gone` | |\n| `a` | |\n| `a.x` | |\n";
    assert_eq!(ordered(&fields, table), ["b", "b.x", "a", "a.x", "a.y", "c"]);
}

#[test]
fn the_entries_in_the_documentation_are_valid() {
    let blocks = blocks("docs/policy.md", "yaml");
    let entries = blocks.iter().find(|block| block.starts_with("keys:\n")).unwrap().replace('\n', "\n    ");
    let policy = valid(
        &format!(
            "projects:\n  - name: p\n    cloud: huawei-cloud\n    region: eu-west-101\n    \
             credentials: {{token_file: /t}}\n    {entries}\n"
        ),
        "docs/policy.md",
    );
    let [every, some, one] = &policy.projects[0].keys[..] else { panic!("{policy:?}") };
    assert!(matches!(&every.matcher, Matcher::Select(selector) if selector.conditions() == 0));
    assert!(matches!(&some.matcher, Matcher::Select(selector) if selector.conditions() == 2));
    assert!(matches!((&one.matcher, &one.requirement), (Matcher::Alias(_), Requirement::Exempt(_))));
}
