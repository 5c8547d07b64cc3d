//! The reference of the policy's fields in README says what the JSON Schema says, field by field.

use std::collections::BTreeSet;

use kms_rotationd::policy;
use kms_rotationd::rotation::rule::{Asks, Names};
use serde_json::Value;

use super::{blocks, text, valid};

/// The rows of the fields of a mapping and of all within it; what stands in two places has its fields in one.
fn rows(schema: &Value, within: &str, rows: &mut BTreeSet<String>) {
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
        } else {
            match &property["default"] {
                Value::Null => String::new(),
                Value::String(default) => format!("`{default}` "),
                default => format!("`{default}` "),
            }
        };
        rows.insert(format!("| `{path}` | {description} | {left_out}|"));
        if !description.starts_with("as in ") {
            let within = format!("{path}.");
            self::rows(property, &within, rows);
            self::rows(&property["items"], &within, rows);
        }
    }
}

#[test]
fn the_reference_has_every_field_as_the_decoder_has_it() {
    let mut expected = BTreeSet::new();
    rows(&policy::json_schema(), "", &mut expected);
    let readme = text("README.md");
    let (_, table) = readme.split_once("| field | what it says | if left out |\n|---|---|---|\n").unwrap();
    let listed: Vec<String> = table.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect();
    let found: BTreeSet<String> = listed.iter().cloned().collect();
    let (missing, wrong): (Vec<_>, Vec<_>) =
        (expected.difference(&found).collect(), found.difference(&expected).collect());
    assert!(missing.is_empty() && wrong.is_empty(), "missing: {missing:#?}\nwrong: {wrong:#?}");
    assert_eq!(listed.len(), expected.len(), "a row is there twice");
}

#[test]
fn the_entries_of_readme_are_valid() {
    let blocks = blocks("yaml");
    let entries = blocks.iter().find(|block| block.starts_with("keys:\n")).unwrap().replace('\n', "\n    ");
    let policy = valid(
        &format!(
            "projects:\n  - name: p\n    cloud: huawei-cloud\n    region: eu-west-101\n    \
             credentials: {{token_file: /t}}\n    {entries}\n"
        ),
        "README.md",
    );
    let [every, some, one] = &policy.projects[0].keys[..] else { panic!("{policy:?}") };
    assert!(matches!(&every.names, Names::Select(selector) if selector.conditions() == 0));
    assert!(matches!(&some.names, Names::Select(selector) if selector.conditions() == 2));
    assert!(matches!((&one.names, &one.asks), (Names::Alias(_), Asks::Exempt(_))));
}
