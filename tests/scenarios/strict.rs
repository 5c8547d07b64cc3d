//! `check --strict`: warnings are problems.

use super::program::{Finished, Program};
use super::site::{Policy, Site};

fn check(site: &Site, more: &[&str]) -> Finished {
    Program::start(site.command(&[&["check", "--policy", "policy.yaml"], more].concat())).finish()
}

#[test]
fn a_policy_with_warnings_is_refused_and_they_stay_warnings() {
    let site = Site::new(&Policy::of_one_key("http://127.0.0.1:1").with("{token_file: nowhere}").field("ca_file: no"));
    let (accepted, refused) = (check(&site, &[]), check(&site, &["--strict"]));
    assert_eq!((accepted.code, refused.code), (Some(0), Some(2)));
    assert_eq!(accepted.stdout.matches(": warning: ").count(), 2, "{accepted:?}");
    assert_eq!(refused.stdout, accepted.stdout + "policy.yaml: --strict refuses 2 warnings\n");
    let machine = |more: &[&str]| check(&site, &[&["--output", "json"], more].concat());
    let (accepted, refused) = (machine(&[]), machine(&["--strict"]));
    assert_eq!((accepted.code, refused.code), (Some(0), Some(2)));
    assert_eq!(refused.stdout, accepted.stdout);
}

#[test]
fn a_world_readable_secret_is_a_warning_too() {
    let site = Site::new(&Policy::of_one_key("http://127.0.0.1:1"));
    site.set_mode("token", 0o600);
    assert_eq!(check(&site, &["--strict"]).code, Some(0));
    site.set_mode("token", 0o644);
    let refused = check(&site, &["--strict"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("secret file is world-readable"), "{refused:?}");
    assert!(refused.stdout.ends_with("\npolicy.yaml: --strict refuses 1 warning\n"), "{refused:?}");
}

#[test]
fn an_invalid_policy_is_reported_as_without_it() {
    let site = Site::new(&Policy::at("http://127.0.0.1:1").key("not-a-key", 90).field("ca_file: nowhere"));
    let (plain, strict) = (check(&site, &[]), check(&site, &["--strict"]));
    assert_eq!((plain.code, strict.code), (Some(2), Some(2)));
    assert_eq!(plain.stdout, strict.stdout);
}
