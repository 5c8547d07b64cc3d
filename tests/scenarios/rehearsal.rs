//! `rehearse`: the real daemon with a simulated cloud.

use kms_simulator::Preset;

use super::program::{Daemon, Program};
use super::site::{Policy, Site};
use super::{KEY, eventually, key_id};

/// A policy with an unreachable cloud: the rehearsal replaces cloud and credentials.
pub(crate) fn policy(keys: usize) -> Policy {
    let policy = Policy::of_keys("https://kms.invalid", (0..keys).map(key_id));
    Policy { credentials: "{token_file: /nowhere/at/all}".to_owned(), request_timeout: "1s", ..policy }
}

/// The positions of the rotatable keys: six of each forty are others.
fn rotatable(keys: usize) -> impl Iterator<Item = usize> {
    (0..keys).filter(|n| ![3, 5, 7, 9, 11, 13].contains(n))
}

#[track_caller]
pub(crate) fn rehearse<'s>(site: &'s Site, more: &[&str]) -> Daemon<'s> {
    let arguments = ["rehearse", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];
    Daemon::start(site.command(&[&arguments, more].concat()))
}

#[test]
fn a_rehearsal_without_faults_ends_with_every_rotatable_key_on_policy() {
    let site = Site::new(&policy(40));
    let daemon = rehearse(&site, &[]);
    daemon.await_runs(1);
    let report = daemon.status();
    assert!(rotatable(40).all(|n| report.key_status(&key_id(n)) == "compliant"));
    let others = [3, 5, 9, 11, 13].map(|n| report.key(&key_id(n)));
    assert_eq!(
        others,
        [
            "non_compliant: key_disabled, material_too_old",
            "exempt: imported_material",
            "exempt: default_key",
            "exempt: unsupported_key_type",
            "unknown: not_found"
        ]
    );
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0));
    for told in ["Simulated cloud", "/metrics", "/api/v1/status", "Ctrl-C"] {
        assert!(ended.stdout.contains(told), "{}", ended.stdout);
    }
}

#[test]
fn a_rehearsal_creates_keys_for_selectors() {
    let policy = policy(2)
        .entry("{alias: ledger, rotation_interval: 60}")
        .entry("{select: {alias: 'pay-*', tags: {pci: 'true'}}, rotation_interval: 90}")
        .entry("{select: {alias: 'old-?', key_spec: SM4}, exempt: {reason: retired}}");
    let site = Site::new(&policy);
    let daemon = rehearse(&site, &[]);
    daemon.await_runs(1);
    let report = daemon.status();
    let of = |line: u64| report.keys().filter(move |key| key["entry_line"] == line).collect::<Vec<_>>();
    let line = |text: &str| 1 + policy.text().lines().position(|line| line.contains(text)).unwrap() as u64;
    assert_eq!(of(line("ledger"))[0]["alias"], "ledger");
    let selected = of(line("pay-*"));
    assert!(selected.iter().filter(|key| key["status"] == "compliant").count() > 4, "{selected:?}");
    assert!(of(line("old-?")).iter().any(|key| key["alias"] == "old-1" && key["status"] == "exempt"));
    assert!(report.count("uncovered") > 0);
}

#[test]
fn a_rehearsal_with_every_preset_serves_and_stops() {
    let site = Site::new(&policy(3));
    for preset in Preset::ALL {
        let daemon = rehearse(&site, &["--faults", preset.as_str()]);
        for path in ["/", "/metrics", "/api/v1/status", "/healthz"] {
            assert_eq!(daemon.get(path).0, 200, "{preset} {path}");
        }
        let ended = daemon.stop();
        assert_eq!(ended.code, Some(0), "{preset}");
        assert!(ended.stdout.contains(preset.description()), "{}", ended.stdout);
    }
}

/// Within some runs, every rotatable key is on policy.
#[track_caller]
fn assert_converges(preset: Preset) {
    let site = Site::new(&policy(12).every_second());
    let daemon = rehearse(&site, &["--faults", preset.as_str()]);
    eventually(&format!("{preset}: every rotatable key is on policy"), || {
        let report = daemon.status();
        report.keys().count() == 12 && rotatable(12).all(|n| report.key_status(&key_id(n)) == "compliant")
    });
    let on_policy = |n: usize| {
        let labels = format!("project=\"payments\",key_id=\"{}\",status=\"compliant\"", key_id(n));
        daemon.metric(&format!("kms_rotation_key_status{{{labels}}}")) == Some(1.0)
    };
    eventually(&format!("{preset}: the metrics say so"), || rotatable(12).all(on_policy));
    let page = || daemon.get("/?status=compliant").1;
    eventually(&format!("{preset}: the page says so"), || rotatable(12).all(|n| page().contains(&key_id(n))));
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_rehearsal_with_a_tenth_of_errors_ends_with_every_rotatable_key_on_policy() {
    assert_converges(Preset::Flaky);
}

#[test]
fn a_rehearsal_with_broken_connections_ends_with_every_rotatable_key_on_policy() {
    assert_converges(Preset::Lossy);
}

#[test]
fn a_rehearsal_with_garbage_ends_with_every_rotatable_key_on_policy() {
    assert_converges(Preset::Garbage);
}

#[test]
fn a_rehearsal_with_short_lived_credentials_ends_with_every_rotatable_key_on_policy() {
    assert_converges(Preset::Auth);
}

#[test]
fn the_smallest_policy_has_something_to_rehearse() {
    let site = Site::new(&Policy {
        credentials: "{token_file: none}".to_owned(),
        ..Policy::of_one_key("https://kms.invalid")
    });
    let daemon = rehearse(&site, &[]);
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "compliant: material_too_old");
    assert_eq!(daemon.stop().messages("rotation changed").len(), 2);
}

#[test]
fn keys_added_by_a_reload_are_rehearsed() {
    let site = Site::new(&policy(2));
    let daemon = rehearse(&site, &[]);
    daemon.await_runs(1);
    site.write("policy.yaml", &policy(3).text());
    daemon.await_runs(2);
    assert_eq!(daemon.status().count("compliant"), 3);
}

#[test]
fn every_login_is_rehearsed_without_its_secrets_and_project_id() {
    for credentials in [
        "{token_file: nowhere}",
        "{password: {user_name: u, domain_name: d, password_file: nowhere}}",
        "{password: {user_name: u, domain_name: d, password_file: nowhere, project_name: eu-de_team}}",
        "{access_key: {access_key_id: A, secret_access_key_file: nowhere}}",
        "{access_key: {access_key_id_file: nowhere, secret_access_key_file: nowhere, security_token_file: nowhere}}",
        "{ecs_agency: {}}",
        "{ecs_agency: {metadata_endpoint: \"http://127.0.0.1:1\"}, \
         assume_agency: {domain_name: d, agency_name: a, duration: 1h}}",
        "{id_token: {provider_id: p, token_file: nowhere}}",
        "{environment: {}}",
        "{token_file: nowhere, proxy: {url: \"http://127.0.0.1:1\", user_name: u, password_file: nowhere}}",
    ] {
        for with_id in [true, false] {
            let policy = policy(3).with(credentials).field("ca_file: /nowhere/at/all.pem");
            let site = Site::new(&if with_id { policy } else { policy.without_id() });
            let daemon = rehearse(&site, &[]);
            daemon.await_runs(1);
            let report = daemon.status();
            assert_eq!(report.count("compliant"), 3, "{credentials} {with_id}: {}", report.0);
        }
    }
}

#[test]
fn a_rehearsal_ignores_incomplete_credentials_in_the_environment() {
    let mut site = Site::new(&policy(3).with("{environment: {}}"));
    site.set("OS_USERNAME", "somebody");
    site.set("HTTPS_PROXY", "no address at all");
    let daemon = rehearse(&site, &[]);
    daemon.await_runs(1);
    assert_eq!(daemon.status().count("compliant"), 3);
}

/// The last hundred days in a cloud that forgets the third key, which is on policy at first.
#[test]
fn a_fast_forward_shows_which_keys_the_cloud_has_rotated_and_which_it_has_forgotten() {
    let site = Site::new(&Policy { schedule: r#"{cron: "30 6 * * *"}"#, ..policy(3) });
    let daemon = rehearse(&site, &["--fast-forward", "100d", "--faults", "forgetful"]);
    eventually("the present", || {
        let next: Option<jiff::Timestamp> = daemon.status().0["next_run_at"].as_str().map(|at| at.parse().unwrap());
        next.is_some_and(|next| next > jiff::Timestamp::now())
    });
    let report = daemon.status();
    let key = |n: usize| report.keys().find(|key| key["key_id"] == key_id(n)).unwrap().clone();
    assert_eq!(report.key(&key_id(2)), "non_compliant: rotation_overdue, material_too_old");
    assert!(key(2)["rotation_due_at"].as_str() < report.0["run"]["ended_at"].as_str());
    for n in [0, 1] {
        // Too old at first; 90 days after the repair the cloud has rotated them.
        assert_eq!((&*report.key(&key_id(n)), &key(n)["material_since"]), ("compliant", &key(n)["last_rotation_at"]));
        assert!(key(n)["rotation_due_at"].as_str() > report.0["run"]["ended_at"].as_str());
    }
    let finding = |reason: &str| {
        let labels = format!("project=\"payments\",reason=\"{reason}\"");
        daemon.metric(&format!("kms_rotation_findings{{{labels}}}"))
    };
    assert_eq!((finding("rotation_overdue"), finding("material_too_old")), (Some(1.0), Some(1.0)));
    assert_eq!(daemon.metric("kms_rotation_rotations_observed_total{project=\"payments\"}"), Some(2.0));
    let log = daemon.stop();
    assert_eq!(log.messages("the cloud has rotated the key").len(), 2);
    let runs = log.messages("run finished").len() + log.messages("run finished with keys off policy").len();
    assert!(runs < 10, "a run without news is not logged: {runs}");
}

#[test]
fn a_fast_forward_goes_at_most_ten_years_back() {
    let site = Site::new(&policy(1));
    for (span, text) in
        [("3661d", "at most 3660d"), ("soon", "expected a duration such as 36h"), ("-1d", "unexpected argument")]
    {
        let ended = site.command(&["rehearse", "--policy", "policy.yaml", "--fast-forward", span]).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{span}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn what_a_rehearsal_shows_is_marked_as_simulated() {
    let site = Site::new(&policy(3));
    let daemon = rehearse(&site, &["--every", "1s"]);
    daemon.await_runs(2);
    let (_, metrics) = daemon.get("/metrics");
    let build = metrics.lines().find(|line| line.starts_with("kms_rotation_build_info{")).unwrap();
    assert!(build.contains("simulated=\"true\""), "{build}");
    assert!(daemon.get("/api/v1/status").1.contains("\"simulated\":true"));
    let (_, page) = daemon.get("/");
    let title = page.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
    assert!(title.starts_with("SIMULATED") && page.contains("SIMULATED: "), "{title}");
    let ended = daemon.stop();
    assert!(ended.stdout.contains("A run starts every 1s."), "{}", ended.stdout);
    let end = ended.stdout.split("The rehearsal ended: ").nth(1).unwrap_or_else(|| panic!("{}", ended.stdout));
    assert!(end.contains("keys on policy") && end.contains("kms-rotationd init"), "{end}");
}

#[test]
fn faults_and_retries_of_a_rehearsal_are_in_its_log() {
    let site = Site::new(&policy(40));
    let daemon = rehearse(&site, &["--faults", "flaky"]);
    daemon.await_runs(1);
    let (_, metrics) = daemon.get("/metrics");
    let counts = metrics.lines().filter(|line| line.starts_with("kms_rotation_retries_total{"));
    let retried: usize = counts.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    let ended = daemon.stop();
    let lines = ended.stderr.lines().filter(|line| line.contains("\"kms_rotationd::kms::retry\"")).count();
    assert!(retried > 0 && lines >= retried, "{retried}: {}", ended.stderr);
    assert!(ended.stdout.contains(" requests failed and were sent again."), "{}", ended.stdout);
}

#[test]
fn plan_and_apply_can_be_tried_without_an_account() {
    let site = Site::new(&policy(40));
    let end = |arguments: &[&str]| Program::start(site.command(arguments)).finish();
    let plan = end(&["plan", "--policy", "policy.yaml", "--simulated", "--output", "json"]);
    assert_eq!(plan.code, Some(1), "an entry of the policy has no key: {plan:?}");
    let planned: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(planned["simulated"], true);
    let apply = end(&["apply", "--policy", "policy.yaml", "--simulated=flaky"]);
    assert_eq!(apply.code, Some(1), "{}", apply.stderr);
    assert!(apply.stdout.starts_with("SIMULATED: ") && apply.stdout.contains("  changed: "), "{}", apply.stdout);
    let wrong = end(&["plan", "--simulated=bananas"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("[possible values: none, flaky"), "{}", wrong.stderr);
}
