//! What Prometheus' own promtool says of the alerts and of README's queries.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::repository::{blocks, root};

const FOLDER: &str = "config/prometheus";

#[track_caller]
fn promtool(arguments: &[&str], folder: &Path) {
    let ran = Command::new("promtool").args(arguments).current_dir(folder).output().unwrap();
    let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ran.status.success(), "promtool {arguments:?}: {said:?}");
}

pub(crate) fn prometheus_takes_its_configuration_and_the_rules_pass_their_tests() {
    let folder = root().join(FOLDER);
    promtool(&["check", "config", "prometheus.yaml"], &folder);
    promtool(&["test", "rules", "rules.test.yaml"], &folder);
}

pub(crate) fn prometheus_takes_the_queries_of_readme() {
    let queries = blocks("promql");
    assert!(queries.len() >= 3, "{queries:?}");
    // Each becomes a rule of its own, since promtool parses no bare query.
    let mut rules = "groups:\n- name: readme\n  rules:\n".to_owned();
    for (at, query) in queries.iter().enumerate() {
        let query = query.replace('\n', "\n      ");
        let _ = writeln!(rules, "  - record: readme:query{at}\n    expr: |\n      {query}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("readme.yaml"), rules).unwrap();
    promtool(&["check", "rules", "readme.yaml"], folder.path());
}
