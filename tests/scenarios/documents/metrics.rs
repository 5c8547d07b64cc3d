//! README's table of metrics is what a rehearsal shows, and no file that ships speaks of a metric that does not exist.

use std::collections::{BTreeMap, BTreeSet};

use super::{files, get, rehearsal, text};

const PREFIX: &str = "kms_rotation_";

/// Metrics with the names of their labels.
type Metrics = BTreeMap<String, BTreeSet<String>>;

/// The words of a cell that are written as code.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// README's table.
fn documented() -> Metrics {
    let readme = text("README.md");
    let mut rows = readme.lines().skip_while(|line| !line.starts_with("| of | metrics"));
    assert!(rows.next().is_some_and(|head| code(head).eq([PREFIX])), "the head names the prefix");
    let mut metrics = Metrics::new();
    for row in rows.skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').collect();
        for name in code(cells[2]) {
            let before = metrics.insert(format!("{PREFIX}{name}"), code(cells[3]).map(str::to_owned).collect());
            assert!(before.is_none(), "{name} stands there twice");
        }
    }
    metrics
}

/// What a page of metrics shows, without the usual ones of a process.
fn shown(page: &str) -> Metrics {
    let mut metrics = Metrics::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.split(' ').next().unwrap();
        }
        if !line.starts_with(PREFIX) {
            continue;
        }
        let series = line.rsplit_once(' ').unwrap().0;
        assert!(series.starts_with(family), "{series} is not in its family");
        let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        // The example's values hold neither a comma nor an equals sign.
        let names = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0));
        metrics.entry(family.to_owned()).or_default().extend(names.filter(|name| *name != "le").map(str::to_owned));
    }
    metrics
}

#[test]
fn the_table_of_readme_has_every_metric_of_a_rehearsal_with_its_labels_and_no_other() {
    let (_running, address) = rehearsal();
    let shown = shown(&get(&address, "/metrics"));
    assert!(shown.len() >= 20, "{shown:?}");
    assert_eq!(documented(), shown);
}

/// Names of metrics in a text: words with the prefix.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with(PREFIX) && !word.ends_with('_'))
}

#[test]
fn every_metric_that_is_named_exists() {
    let metrics = documented();
    let files = files("config").into_iter().chain(["README.md", "CHANGELOG.md"].map(str::to_owned));
    let mut found = 0;
    for file in files {
        for name in named(&text(&file)) {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(metrics.contains_key(family), "{file}: {name} does not exist");
            found += 1;
        }
    }
    assert!(found > 50, "{found}");
}
