//! The alerts are complete. `tests/tools/promtool.rs` checks them with Prometheus' promtool.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::text;

const FOLDER: &str = "config/prometheus";

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(&format!("{FOLDER}/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// Every rule of a file.
fn rules(file: &Value) -> impl Iterator<Item = &Value> {
    list(file, "groups").iter().flat_map(|group| list(group, "rules"))
}

fn word<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The texts between this start and the next quote.
fn quoted_after<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
    text.split(start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_alert_has_a_severity_a_summary_a_description_and_a_runbook() {
    let file = yaml("rules.yaml");
    let alerts: Vec<_> = rules(&file).filter(|rule| !rule["alert"].is_null()).collect();
    assert!(alerts.len() >= 13, "{}", alerts.len());
    for alert in alerts {
        assert!(["warning", "critical"].contains(&word(&alert["labels"], "severity")), "{alert}");
        for text in ["summary", "description", "runbook"] {
            assert!(word(&alert["annotations"], text).len() > 20, "{text} of {alert}");
        }
    }
}

#[test]
fn every_alert_is_tested_firing_and_not_firing() {
    let (file, tests) = (yaml("rules.yaml"), yaml("rules.test.yaml"));
    let all = rules(&file).filter(|rule| !rule["alert"].is_null());
    let all: BTreeSet<_> = all.map(|rule| (word(rule, "alert"), word(&rule["labels"], "severity"))).collect();
    let (mut fires, mut does_not) = (BTreeSet::new(), BTreeSet::new());
    for test in list(&tests, "tests").iter().flat_map(|test| list(test, "promql_expr_test")) {
        for alert in quoted_after(word(test, "expr"), "alertname=\"") {
            let samples = list(test, "exp_samples").iter().map(|sample| word(sample, "labels"));
            let severities: BTreeSet<_> = samples.flat_map(|labels| quoted_after(labels, "severity=\"")).collect();
            fires.extend(severities.iter().map(|severity| (alert, *severity)));
            let silent = all.iter().filter(|(name, severity)| *name == alert && !severities.contains(severity));
            does_not.extend(silent);
        }
    }
    assert_eq!(fires, all);
    assert_eq!(does_not, all);
}

#[test]
fn exactly_the_used_thresholds_are_defined() {
    let file = yaml("thresholds.yaml");
    let there: BTreeSet<_> = rules(&file).map(|rule| word(&rule["labels"], "of")).collect();
    let rules = text(&format!("{FOLDER}/rules.yaml"));
    let used: BTreeSet<_> = quoted_after(&rules, "kms_rotation:threshold{of=\"").into_iter().collect();
    assert_eq!(used, there);
    assert!(rules.contains(&format!("count(kms_rotation:threshold) or vector(0)) != {}\n", there.len())), "{there:?}");
}

/// The rows of the documented alerts: name and severities.
fn documented() -> BTreeMap<String, String> {
    let document = text("docs/monitoring.md");
    let section = document.split_once("\n## Alerts\n").unwrap().1.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| (cells[0].trim_matches('`').to_owned(), cells[1].to_owned())).collect()
}

#[test]
fn every_alert_is_documented_with_its_severities() {
    let file = yaml("rules.yaml");
    let mut alerts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for rule in rules(&file).filter(|rule| !rule["alert"].is_null()) {
        alerts.entry(word(rule, "alert")).or_default().insert(word(&rule["labels"], "severity"));
    }
    let documented = documented();
    assert!(documented.keys().eq(alerts.keys()), "{documented:?}");
    for (alert, severities) in alerts {
        for severity in ["warning", "critical"] {
            assert_eq!(documented[alert].contains(severity), severities.contains(severity), "{alert}: {severity}");
        }
    }
}
