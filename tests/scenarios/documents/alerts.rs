//! The alerts are complete. `tests/tools/promtool.rs` checks them with Prometheus' promtool.

use std::collections::{BTreeMap, BTreeSet};

use kms_rotationd::rotation::decide::Reason;
use kms_rotationd::rotation::remedies::remedy;
use serde_json::Value;

use super::repository::{TO_UPDATE, change, updates};
use super::text;

const FOLDER: &str = "config/prometheus";
const RULES: &str = "config/prometheus/rules.yaml";

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

/// The rules that are alerts.
fn alerts(file: &Value) -> impl Iterator<Item = &Value> {
    rules(file).filter(|rule| !rule["alert"].is_null())
}

/// The severities that an alert can have: a template chooses between both by the project's mode.
fn severities(alert: &Value) -> BTreeSet<&'static str> {
    let severity = word(&alert["labels"], "severity");
    let has = |name: &&str| severity == *name || severity.contains(&format!("}}}}{name}{{{{"));
    ["warning", "critical"].into_iter().filter(has).collect()
}

#[test]
fn every_alert_has_a_severity_a_summary_a_description_and_a_runbook() {
    let file = yaml("rules.yaml");
    assert!(alerts(&file).count() >= 13);
    for alert in alerts(&file) {
        assert!(!severities(alert).is_empty(), "{alert}");
        for text in ["summary", "description", "runbook"] {
            assert!(word(&alert["annotations"], text).len() > 20, "{text} of {alert}");
        }
    }
}

/// What an alert may name so that its reader finds more: a command, or a page of the daemon or of Prometheus.
const SHOWS_MORE: [&str; 8] = [
    "`kms-rotationd plan`",
    "`kms-rotationd check`",
    "`kms-rotationd evidence verify`",
    "`journalctl -u kms-rotationd`",
    "status page at `/",
    "status page lists them at `/",
    "page `/healthz`",
    "page `/rules` of Prometheus",
];

#[test]
fn every_alert_names_a_command_or_a_page_that_shows_more() {
    let file = yaml("rules.yaml");
    for alert in alerts(&file) {
        let texts = ["description", "runbook"].map(|text| word(&alert["annotations"], text)).concat();
        assert!(SHOWS_MORE.iter().any(|more| texts.contains(more)), "{}: {texts}", alert["alert"]);
    }
    let all = text(RULES).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(SHOWS_MORE.iter().all(|more| all.contains(more)), "an alert uses each");
}

/// What to do about these reasons, as a template that chooses the text by the label `reason`: one part for each text.
fn runbook(reasons: &[Reason]) -> Vec<String> {
    let mut texts: Vec<(&str, Vec<String>)> = Vec::new();
    for reason in reasons {
        let (text, name) = (remedy(*reason), format!("\"{reason}\""));
        match texts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, names)) => names.push(name),
            None => texts.push((text, vec![name])),
        }
    }
    if let [(text, _)] = &texts[..] {
        return vec![(*text).to_owned()];
    }
    let cases = texts.iter().enumerate().map(|(at, (text, names))| {
        let start = if at == 0 { "{{ if" } else { "{{- else if" };
        format!("{start} eq $labels.reason {} }}}}{text}", names.join(" "))
    });
    cases.chain(["{{- end }}".to_owned()]).collect()
}

/// The annotation with these parts, each in lines of at most 120 characters.
fn annotation(parts: &[String]) -> String {
    let mut lines = vec!["          runbook: >-".to_owned()];
    for part in parts {
        let mut words = part.split(' ');
        let mut line = format!("            {}", words.next().unwrap());
        for word in words {
            if line.len() + 1 + word.len() > 120 {
                lines.push(std::mem::replace(&mut line, " ".repeat(11)));
            }
            line.extend([" ", word]);
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

const GENERATED: &str = "          # generated: ";
const END: &str = "          # end\n";

fn named(name: &str) -> Reason {
    Reason::named(name).unwrap_or_else(|| panic!("{name} is not a reason"))
}

/// The rules with every generated part as the program's texts make it.
pub(super) fn with_runbooks(rules: &str) -> String {
    let mut parts = rules.split(GENERATED);
    let mut written = parts.next().unwrap().to_owned();
    for part in parts {
        let (names, rest) = part.split_once('\n').unwrap();
        let reasons: Vec<_> = names.split(' ').map(named).collect();
        let (_, rest) = rest.split_once(END).unwrap_or_else(|| panic!("{names} has no end"));
        written.extend([GENERATED, names, "\n", &annotation(&runbook(&reasons)), END, rest]);
    }
    written
}

#[test]
fn the_runbook_of_a_reason_is_its_remedy() {
    if updates() {
        change(RULES, with_runbooks);
    }
    let found = text(RULES);
    let wanted = with_runbooks(&found);
    let wrong: Vec<_> = found.lines().zip(wanted.lines()).filter(|(found, wanted)| found != wanted).take(1).collect();
    assert!(found == wanted, "{RULES}: the generated parts are out of date: {wrong:#?}\n{TO_UPDATE}");
}

/// The reasons for which nobody has to do anything, and the one that is a note beside the status.
const WITHOUT_ALERT: [Reason; 8] = [
    Reason::CustomKeystore,
    Reason::DefaultKey,
    Reason::Exempted,
    Reason::ImportedMaterial,
    Reason::ReplicaKey,
    Reason::RotationUnproven,
    Reason::RotationUnsupported,
    Reason::UnsupportedKeyType,
];

#[test]
fn every_reason_that_calls_for_an_action_has_an_alert_with_its_remedy() {
    let file = yaml("rules.yaml");
    let mut have = BTreeSet::new();
    for alert in alerts(&file) {
        let of_text = |start| quoted_after(word(alert, "expr"), start).into_iter().flat_map(|names| names.split('|'));
        let asked: BTreeSet<_> = of_text("reason=~\"").chain(of_text("reason=\"")).collect();
        // Its text is about runs, not about a key.
        if asked.is_empty() || word(alert, "alert") == "KmsRotationSuccessTooOld" {
            continue;
        }
        for reason in Reason::ALL {
            let has = word(&alert["annotations"], "runbook").contains(remedy(*reason));
            let same = |name: &&str| remedy(self::named(name)) == remedy(*reason);
            assert_eq!(has && *reason != Reason::Exempted, asked.iter().any(same), "{reason} in {alert}");
        }
        have.extend(asked);
    }
    let uncovered = alerts(&file).find(|alert| word(alert, "alert") == "KmsRotationKeysUncovered").unwrap();
    assert_eq!(word(&uncovered["annotations"], "runbook"), remedy(Reason::Uncovered));
    have.insert(Reason::Uncovered.as_str());
    let expected = Reason::ALL.iter().filter(|reason| !WITHOUT_ALERT.contains(reason));
    assert_eq!(have, expected.map(|reason| reason.as_str()).collect());
}

#[test]
fn no_alert_needs_the_series_of_single_keys() {
    let file = yaml("rules.yaml");
    for alert in alerts(&file) {
        // A part about single keys stands before one about their number.
        let expr = word(alert, "expr");
        let names = expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        let of_keys: Vec<_> = names.filter(|name| name.starts_with("kms_rotation_key_")).collect();
        assert!(of_keys.iter().all(|name| *name == "kms_rotation_key_info"), "{}: {of_keys:?}", alert["alert"]);
        if expr.contains("key:kms_rotation_key_finding:few{") {
            assert!(expr.contains("unless on (job, instance, project, reason) key:kms_rotation_key_finding:few"));
        }
    }
}

#[test]
fn every_alert_is_tested_firing_and_not_firing() {
    let (file, tests) = (yaml("rules.yaml"), yaml("rules.test.yaml"));
    let named = |alert| severities(alert).into_iter().map(move |severity| (word(alert, "alert"), severity));
    let all: BTreeSet<_> = alerts(&file).flat_map(named).collect();
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
    for alert in self::alerts(&file) {
        alerts.entry(word(alert, "alert")).or_default().extend(severities(alert));
    }
    let documented = documented();
    assert!(documented.keys().eq(alerts.keys()), "{documented:?}");
    for (alert, severities) in alerts {
        for severity in ["warning", "critical"] {
            assert_eq!(documented[alert].contains(severity), severities.contains(severity), "{alert}: {severity}");
        }
    }
}
