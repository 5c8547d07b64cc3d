//! The Grafana dashboard: each of its queries in a real Prometheus that scrapes a rehearsal.

use std::collections::BTreeSet;

use kms_simulator::Preset;
use serde_json::Value;

use super::program::Daemon;
use super::prometheus::Prometheus;
use super::site::{Policy, Site};
use super::{eventually, key_id};

pub(crate) fn dashboard() -> Value {
    serde_json::from_str(include_str!("../../config/grafana/kms-rotation.json")).unwrap()
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// Every query with the title of its panel.
pub(crate) fn queries(dashboard: &Value) -> Vec<(&str, &str)> {
    let panels = list(dashboard, "panels").iter();
    let all = panels.flat_map(|panel| list(panel, "targets").iter().map(move |target| (panel, target)));
    all.map(|(panel, target)| (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap())).collect()
}

/// The query as Grafana sends it.
fn filled(query: &str, project: &str, key: &str) -> String {
    let filled = query.replace("$__rate_interval", "5s").replace("$__range", "1m");
    let filled = filled.replace("$project", project).replace("$key", key);
    assert!(!filled.contains('$'), "{filled} has an unknown variable");
    filled
}

pub(crate) fn every_query_of_the_dashboard_finds_something_in_a_rehearsal() {
    // With faults, because otherwise there are no retries; and with an interval that ends within 30 days.
    let policy = Policy::of_keys("https://kms.invalid", (0..12).map(key_id)).key(&key_id(12), 30);
    let site = Site::new(&policy.every_second());
    let arguments = ["rehearse", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let daemon = Daemon::start(site.command(&[&arguments[..], &["--faults", Preset::Flaky.as_str()]].concat()));
    let prometheus = Prometheus::watching(&daemon);
    eventually("it is scraped", || !prometheus.query("kms_rotation_keys").is_empty());
    let dashboard = dashboard();
    for (title, query) in queries(&dashboard) {
        let all = filled(query, ".*", ".*");
        eventually(&format!("{title}: {all} finds something"), || !prometheus.query(&all).is_empty());
        // With one key selected it finds only that key. The fourth is off policy, so that it has a finding.
        let one = filled(query, "payments", &key_id(3));
        let found = prometheus.query(&one);
        let keys: BTreeSet<_> = found.iter().filter_map(|found| found["metric"]["key_id"].as_str()).collect();
        assert!(keys.iter().all(|key| *key == key_id(3)), "{title}: {one} finds {keys:?}");
        let nobody = prometheus.query(&filled(query, "nobody", "none"));
        assert!(nobody.is_empty() || !query.contains("$project"), "{title}: {query} ignores its variables");
    }
    for variable in list(&dashboard["templating"], "list") {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let (series, label) =
            query.strip_prefix("label_values(").unwrap().trim_end_matches(')').rsplit_once(", ").unwrap();
        let found = prometheus.query(&filled(series, ".*", ".*"));
        assert!(found.iter().any(|found| found["metric"][label].is_string()), "{query}");
    }
}

pub(crate) fn the_panels_of_the_dashboard_do_not_overlap_and_use_the_data_source() {
    let dashboard = dashboard();
    let mut places = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} has another's id", panel["title"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{} is too wide", panel["title"]);
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(places.insert(place), "{} lies on another", panel["title"]);
        }
        for target in list(panel, "targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let queries = queries(&dashboard);
    assert!(queries.len() > 25, "{}", queries.len());
    let asked: String = queries.iter().map(|(_, query)| *query).collect();
    let parts = ["keys{", "runs_total", "requests_total", "retries_total", "key_finding", "expiry", "429"];
    let of_rotation = ["key_material", "rotation_due", "rotations_observed_total", "_findings{"];
    for part in parts.into_iter().chain(of_rotation) {
        assert!(asked.contains(part), "no panel asks for {part}");
    }
}
