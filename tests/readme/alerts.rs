//! The alerts: loaded and tried by Prometheus' own promtool where that is installed, and complete.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::installed::installed;
use super::{blocks, root, text};

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

/// What stands in a text between this and a quote.
fn quoted_after<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
    text.split(start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[track_caller]
fn promtool(arguments: &[&str], folder: &Path) {
    let Some(promtool) = installed("promtool") else { return };
    let ran = Command::new(promtool).args(arguments).current_dir(folder).output().unwrap();
    let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ran.status.success(), "promtool {arguments:?}: {said:?}");
}

#[test]
fn prometheus_takes_its_configuration_and_the_rules_pass_their_tests() {
    let folder = root().join(FOLDER);
    promtool(&["check", "config", "prometheus.yaml"], &folder);
    promtool(&["test", "rules", "rules.test.yaml"], &folder);
}

/// README's queries, each as a rule of its own, since promtool parses no bare query.
fn queries_as_rules() -> String {
    let queries = blocks("promql");
    assert!(queries.len() >= 3, "{queries:?}");
    let mut rules = "groups:\n- name: readme\n  rules:\n".to_owned();
    for (at, query) in queries.iter().enumerate() {
        let query = query.replace('\n', "\n      ");
        let _ = writeln!(rules, "  - record: readme:query{at}\n    expr: |\n      {query}");
    }
    rules
}

#[test]
fn prometheus_takes_the_queries_of_readme() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("readme.yaml"), queries_as_rules()).unwrap();
    promtool(&["check", "rules", "readme.yaml"], folder.path());
}

#[test]
fn the_queries_of_readme_find_a_key_of_each_of_two_replicas() {
    let mut test =
        "rule_files: [readme.yaml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n".to_owned();
    for instance in ["a", "b"] {
        for (name, labels, value) in [
            ("key_finding", ",key_id=\"k\",reason=\"rotation_disabled\"", 1),
            ("key_info", ",key_id=\"k\",alias=\"pay\",entry=\"7\"", 1),
            ("key_status", ",key_id=\"k\",status=\"exempt\"", 0),
            ("keys", ",status=\"compliant\"", 3),
            ("keys", ",status=\"non_compliant\"", 1),
            ("key_last_rotation_timestamp_seconds", ",key_id=\"k\"", -100 * 86_400),
            ("key_policy_interval_seconds", ",key_id=\"k\"", 90 * 86_400),
        ] {
            let series = format!("kms_rotation_{name}{{job=\"j\",instance=\"{instance}\",project=\"p\"{labels}}}");
            let _ = writeln!(test, "  - {{series: '{series}', values: '{value} {value}'}}");
        }
    }
    test.push_str("  promql_expr_test:\n");
    for (at, samples) in [(0, 2), (1, 1), (2, 2)] {
        let expr = format!("count(readme:query{at})");
        let _ = writeln!(
            test,
            "  - {{expr: '{expr}', eval_time: 1m, exp_samples: [{{labels: '{{}}', value: {samples}}}]}}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("readme.yaml"), queries_as_rules()).unwrap();
    std::fs::write(folder.path().join("test.yaml"), test).unwrap();
    promtool(&["test", "rules", "test.yaml"], folder.path());
}

#[test]
fn the_dashboard_counts_a_key_of_two_replicas_once() {
    let dashboard: Value = serde_json::from_str(&text("config/grafana/kms-rotation.json")).unwrap();
    let panels = list(&dashboard, "panels").iter().flat_map(|panel| list(panel, "targets"));
    let counts = panels.map(|target| word(target, "expr")).filter(|query| {
        query.contains("kms_rotation_keys{") && !query.contains('/') || query.starts_with("count by (reason)")
    });
    let mut test = "evaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n".to_owned();
    for (instance, acting) in [("a", 1), ("b", 0)] {
        for (name, labels, value) in [
            ("keys", ",project=\"p\",status=\"non_compliant\"", 1),
            ("key_finding", ",project=\"p\",key_id=\"k\",reason=\"rotation_disabled\"", 1),
            ("acting", "", acting),
        ] {
            let series = format!("kms_rotation_{name}{{job=\"j\",instance=\"{instance}\"{labels}}}");
            let _ = writeln!(test, "  - {{series: '{series}', values: '{value} {value}'}}");
        }
    }
    test.push_str("  promql_expr_test:\n");
    let mut found = 0;
    for query in counts {
        let expr = format!("sum({})", query.replace("$project", "p"));
        let _ = writeln!(test, "  - {{expr: '{expr}', eval_time: 1m, exp_samples: [{{labels: '{{}}', value: 1}}]}}");
        found += 1;
    }
    assert!(found >= 4, "{found}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.yaml"), test).unwrap();
    promtool(&["test", "rules", "test.yaml"], folder.path());
}

#[test]
fn every_alert_is_of_one_of_two_severities_and_says_what_it_is_and_what_to_do() {
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
fn every_alert_is_tried_both_ways() {
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
fn every_threshold_is_used_and_every_one_that_is_used_is_there() {
    let file = yaml("thresholds.yaml");
    let there: BTreeSet<_> = rules(&file).map(|rule| word(&rule["labels"], "of")).collect();
    let rules = text(&format!("{FOLDER}/rules.yaml"));
    let used: BTreeSet<_> = quoted_after(&rules, "kms_rotation:threshold{of=\"").into_iter().collect();
    assert_eq!(used, there);
    assert!(rules.contains(&format!("count(kms_rotation:threshold) or vector(0)) != {}\n", there.len())), "{there:?}");
}
