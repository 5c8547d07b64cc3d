//! The alerts, and the queries of documents and dashboard, checked by Prometheus' promtool.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::dashboard;
use super::repository::{blocks, root};

const FOLDER: &str = "config/prometheus";

#[track_caller]
pub(crate) fn promtool(arguments: &[&str], folder: &Path) {
    let ran = Command::new("promtool").args(arguments).current_dir(folder).output().unwrap();
    let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ran.status.success(), "promtool {arguments:?}: {said:?}");
}

pub(crate) fn prometheus_accepts_its_configuration_and_the_rules_pass_their_tests() {
    let folder = root().join(FOLDER);
    promtool(&["check", "config", "prometheus.yaml"], &folder);
    promtool(&["test", "rules", "rules.test.yaml"], &folder);
}

/// The groups of the rules, each after those whose records it reads. Without an order promtool takes a random one, and
/// where evaluations are far apart the records of the last one are too old.
pub(crate) const GROUPS: [&str; 4] =
    ["kms-rotationd-thresholds", "kms-rotationd-records", "kms-rotationd-keys", "kms-rotationd"];

/// The keys of a project as the metrics show them. promtool refuses queries with more than 10 000 samples.
const KEYS: u32 = 2_400;

/// A test of the rules in which all keys of these projects have the same reasons: with series of single keys if the
/// second value is true, and the labels of the project. After two hours, only these alerts fire or are pending.
fn assert_alerts_of_many_keys(projects: &[(&str, bool, &str)], reasons: &[&str], expected: &[String]) {
    let folder = root().join(FOLDER);
    let rules = ["thresholds.yaml", "rules.yaml"].map(|name| folder.join(name));
    let mut test = format!(
        "rule_files: {rules:?}\nevaluation_interval: 30m\ngroup_eval_order: {GROUPS:?}\ntests:\n- interval: 30m\n  \
         input_series:\n"
    );
    let mut series = |name: &str, labels: &str, value: u32| {
        let _ = writeln!(test, "  - {{series: '{name}{{{labels}}}', values: '{value}x4'}}");
    };
    series("up", "job=\"kms-rotationd\",instance=\"a\"", 1);
    for (project, has_keys, labels) in projects {
        let project = format!("job=\"kms-rotationd\",instance=\"a\",project=\"{project}\"");
        series("kms_rotation_project_info", &format!("{project},{labels}"), 1);
        for (status, keys) in [("non_compliant", KEYS), ("unknown", 0)] {
            series("kms_rotation_keys", &format!("{project},status=\"{status}\""), keys);
        }
        for reason in reasons {
            series("kms_rotation_findings", &format!("{project},reason=\"{reason}\""), KEYS);
        }
        for key in (0..KEYS).filter(|_| *has_keys) {
            let key = format!("{project},key_id=\"{key}\"");
            series("kms_rotation_key_status", &format!("{key},status=\"non_compliant\""), 1);
            for reason in reasons {
                series("kms_rotation_key_finding", &format!("{key},reason=\"{reason}\""), 1);
            }
            series("kms_rotation_key_info", &format!("{key},alias=\"\",entry=\"7\""), 1);
        }
    }
    let alerts = "count by (alertname, severity, project, reason) (ALERTS{project!=\"\"})";
    let samples: Vec<_> = expected.iter().map(|labels| format!("{{labels: '{{{labels}}}', value: 1}}")).collect();
    let samples = samples.join(", ");
    let _ = writeln!(test, "  promql_expr_test:\n  - {{expr: '{alerts}', eval_time: 2h, exp_samples: [{samples}]}}");
    // The text of an alert names five keys.
    let named = projects.iter().filter(|(_, has_keys, _)| *has_keys).flat_map(|(project, ..)| {
        let each = reasons.iter().map(move |reason| format!("project=\"{project}\",reason=\"{reason}\""));
        each.map(|labels| format!("{{labels: '{{{labels}}}', value: 5}}"))
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let examples = "count by (project, reason) (key:kms_rotation_key_finding:examples)";
    let _ = writeln!(test, "  - {{expr: '{examples}', eval_time: 2h, exp_samples: [{named}]}}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.yaml"), test).unwrap();
    promtool(&["test", "rules", "test.yaml"], folder.path());
}

/// An alert that counts the keys of a project with a reason.
fn alert(name: &str, severity: &str, project: &str, reason: &str) -> String {
    format!("alertname=\"{name}\",severity=\"{severity}\",project=\"{project}\",reason=\"{reason}\"")
}

/// With all series of single keys, with those of keys that have a reason (here the same), and without any.
const PROJECTS: [(&str, bool, &str); 3] = [
    ("all", true, "mode=\"enforce\",proof=\"reported\""),
    ("none", false, "mode=\"enforce\",proof=\"reported\""),
    ("watched", false, "mode=\"monitor\",proof=\"reported\""),
];

pub(crate) fn one_bad_policy_for_2400_keys_raises_one_alert_for_each_project() {
    let severities = ["critical", "critical", "warning"];
    let expected = |name: &str, reason: &str| {
        let each = PROJECTS.iter().zip(severities);
        each.map(|((project, ..), severity)| alert(name, severity, project, reason)).collect::<Vec<_>>()
    };
    assert_alerts_of_many_keys(&PROJECTS, &["interval_mismatch"], &expected("KmsKeyOffPolicy", "interval_mismatch"));
    let denied = ["rotation_disabled", "access_denied"];
    assert_alerts_of_many_keys(&PROJECTS, &denied, &expected("KmsKeyOffPolicy", "access_denied"));
    assert_alerts_of_many_keys(&PROJECTS, &["key_disabled"], &expected("KmsKeyOffPolicy", "key_disabled"));
}

/// The first day of a policy for an old account.
pub(crate) fn old_material_of_all_keys_raises_one_alert() {
    let strict = [("all", true, "mode=\"enforce\",proof=\"required\"")];
    let expected = [alert("KmsRotationMaterialTooOld", "critical", "all", "material_too_old")];
    assert_alerts_of_many_keys(&strict, &["material_too_old"], &expected);
}

/// The documented queries, each as a rule, because promtool does not parse bare queries.
fn queries_as_rules() -> String {
    let queries = [blocks("docs/monitoring.md", "promql"), blocks("docs/operations.md", "promql")].concat();
    assert!(queries.len() >= 4, "{queries:?}");
    let mut rules = "groups:\n- name: readme\n  rules:\n".to_owned();
    for (at, query) in queries.iter().enumerate() {
        let query = query.replace('\n', "\n      ");
        let _ = writeln!(rules, "  - record: readme:query{at}\n    expr: |\n      {query}");
    }
    rules
}

pub(crate) fn prometheus_accepts_the_documented_queries() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("readme.yaml"), queries_as_rules()).unwrap();
    promtool(&["check", "rules", "readme.yaml"], folder.path());
}

pub(crate) fn the_documented_queries_find_a_key_of_each_of_two_replicas() {
    let mut test =
        "rule_files: [readme.yaml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n".to_owned();
    for instance in ["a", "b"] {
        for (name, labels, value) in [
            ("key_finding", ",key_id=\"k\",reason=\"rotation_disabled\"", 1),
            ("key_info", ",key_id=\"k\",alias=\"pay\",entry=\"7\"", 1),
            ("key_status", ",key_id=\"k\",status=\"exempt\"", 0),
            ("keys", ",status=\"compliant\"", 3),
            ("keys", ",status=\"non_compliant\"", 1),
            ("key_material_timestamp_seconds", ",key_id=\"k\"", -100 * 86_400),
            ("key_rotation_due_timestamp_seconds", ",key_id=\"k\"", 20 * 86_400),
            ("findings", ",reason=\"material_too_old\"", 1),
            ("findings", ",reason=\"rotation_overdue\"", 0),
        ] {
            let series = format!("kms_rotation_{name}{{job=\"j\",instance=\"{instance}\",project=\"p\"{labels}}}");
            let _ = writeln!(test, "  - {{series: '{series}', values: '{value} {value}'}}");
        }
    }
    test.push_str("  promql_expr_test:\n");
    for (at, samples) in [(0, 2), (1, 1), (2, 1), (3, 2), (4, 2)] {
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

pub(crate) fn the_dashboard_counts_a_key_of_two_replicas_once() {
    let dashboard = dashboard::dashboard();
    let counts = dashboard::queries(&dashboard).into_iter().map(|(_, query)| query).filter(|query| {
        query.contains("kms_rotation_keys{") && !query.contains('/')
            || query.contains("kms_rotation_findings{")
            || query.starts_with("count by")
    });
    let mut test = "evaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n".to_owned();
    for (instance, acting) in [("a", 1), ("b", 0)] {
        for (name, labels, value) in [
            ("keys", ",project=\"p\",status=\"non_compliant\"", 1),
            ("key_rotation_due_timestamp_seconds", ",project=\"p\",key_id=\"k\"", 20 * 86_400),
            ("findings", ",project=\"p\",reason=\"material_too_old\"", 1),
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
    assert!(found >= 6, "{found}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.yaml"), test).unwrap();
    promtool(&["test", "rules", "test.yaml"], folder.path());
}

pub(crate) fn the_dashboard_shows_the_oldest_material_and_the_next_rotations() {
    let dashboard = dashboard::dashboard();
    let queries = dashboard::queries(&dashboard);
    let query = |panel: &str| {
        let (_, query) = queries.iter().find(|(title, _)| *title == panel).unwrap();
        query.replace("$project", ".*").replace("$key", ".*")
    };
    let mut test = "evaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n".to_owned();
    let mut series = |name: &str, labels: &str, value: i64| {
        let _ =
            writeln!(test, "  - {{series: 'kms_rotation_{name}{{job=\"j\",{labels}}}', values: '{value} {value}'}}");
    };
    series("acting", "instance=\"a\"", 1);
    series("acting", "instance=\"standby\"", 0);
    // Days after the beginning: when the material was made, and when the rotation is due.
    for (instance, key, made, due) in [
        ("a", "oldest", -100, 40),
        ("a", "late", -91, -1),
        ("a", "soon", -80, 10),
        ("a", "exempt", -900, 20),
        ("standby", "oldest", -500, 5),
    ] {
        let of_key = format!("instance=\"{instance}\",project=\"p\",key_id=\"{key}\"");
        series("key_material_timestamp_seconds", &of_key, made * 86_400);
        series("key_rotation_due_timestamp_seconds", &of_key, due * 86_400);
        series("key_status", &format!("{of_key},status=\"exempt\""), i64::from(key == "exempt"));
        series("key_info", &format!("{of_key},alias=\"the {key} one\",entry=\"7\""), 1);
    }
    test.push_str("  promql_expr_test:\n");
    let mut expect = |expr: String, samples: &[(&str, i64)]| {
        let samples: Vec<_> =
            samples.iter().map(|(labels, value)| format!("{{labels: '{{{labels}}}', value: {value}}}")).collect();
        let samples = samples.join(", ");
        let _ = writeln!(test, "  - {{expr: '{expr}', eval_time: 1m, exp_samples: [{samples}]}}");
    };
    expect(format!("round({})", query("Oldest key material")), &[("project=\"p\"", 100)]);
    expect(query("Due within 30 days"), &[("project=\"p\"", 2)]);
    let next = [("soon", 10), ("exempt", 20), ("oldest", 40)].map(|(key, due)| {
        let labels = format!("job=\"j\",instance=\"a\",project=\"p\",key_id=\"{key}\",alias=\"the {key} one\"");
        (labels, due * 86_400_000)
    });
    let next = next.each_ref().map(|(labels, milliseconds)| (labels.as_str(), *milliseconds));
    expect(query("Next rotations"), &next);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.yaml"), test).unwrap();
    promtool(&["test", "rules", "test.yaml"], folder.path());
}
