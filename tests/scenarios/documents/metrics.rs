//! The tables of metrics in docs/monitoring.md match a rehearsal, and no shipped file names a metric that
//! does not exist.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::generated::{assert_part, part};
use super::{documents, files, get, rehearsal, text};

const DOCUMENT: &str = "docs/monitoring.md";
const PREFIX: &str = "kms_rotation_";

/// A metric: type, meaning, and the names of its labels in order.
#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: Vec<String>,
}

/// The metrics of a page, in order, without the `process_*` ones.
fn shown(page: &str) -> Vec<(String, Metric)> {
    let mut metrics: Vec<(String, Metric)> = Vec::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            metrics.push((name.to_owned(), Metric { help: help.to_owned(), ..Metric::default() }));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (last, metric) = metrics.last_mut().unwrap();
            assert_eq!(last, name);
            kind.clone_into(&mut metric.kind);
        } else {
            let series = line.rsplit_once(' ').unwrap().0;
            let (family, metric) = metrics.last_mut().unwrap();
            assert!(series.starts_with(&**family), "{series} is not in its family");
            let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            // The example's values have neither a comma nor an equals sign.
            for (name, _) in labels.split(',').filter_map(|label| label.split_once('=')) {
                if name != "le" && !metric.labels.iter().any(|label| label == name) {
                    metric.labels.push(name.to_owned());
                }
            }
        }
    }
    metrics.retain(|(name, _)| name.starts_with(PREFIX));
    metrics
}

/// A table for the document.
fn table<'m>(metrics: impl Iterator<Item = &'m (String, Metric)>) -> String {
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, Metric { kind, help, labels }) in metrics {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    table
}

#[test]
fn the_tables_have_exactly_the_metrics_and_labels_of_a_rehearsal() {
    let (_running, address) = rehearsal();
    let shown = shown(&get(&address, "/metrics"));
    assert!(shown.len() >= 20, "{}", shown.len());
    let has = |metric: &Metric, label: &str| metric.labels.iter().any(|name| name == label);
    let of_keys = shown.iter().filter(|(_, metric)| has(metric, "key_id"));
    assert_part(DOCUMENT, "metrics of keys", &table(of_keys));
    let of_projects = shown.iter().filter(|(_, metric)| has(metric, "project") && !has(metric, "key_id"));
    assert_part(DOCUMENT, "metrics of projects", &table(of_projects));
    let of_process = shown.iter().filter(|(_, metric)| !has(metric, "project"));
    assert_part(DOCUMENT, "metrics of the process", &table(of_process));
}

/// The names in the tables.
fn documented() -> BTreeSet<String> {
    let tables = ["metrics of keys", "metrics of projects", "metrics of the process"].map(|name| part(DOCUMENT, name));
    let names = tables.iter().flat_map(|table| table.lines()).filter_map(|row| row.split('`').nth(1));
    names.filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// Names of metrics in a text: words with the prefix.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with(PREFIX) && !word.ends_with('_'))
}

#[test]
fn every_metric_in_the_documents_exists() {
    let metrics = documented();
    let files = files("config").into_iter().chain(documents()).chain(["CHANGELOG.md".to_owned()]);
    let mut found = 0;
    for file in files {
        for name in named(&text(&file)) {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(metrics.contains(family), "{file}: {name} does not exist");
            found += 1;
        }
    }
    assert!(found > 50, "{found}");
}
