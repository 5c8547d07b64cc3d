//! Tests that need what is not on every machine: another program, or a look into a process's memory.
//!
//! The test runner of Rust cannot skip a test while it runs, so that these have another one, with the same options and
//! the same last line. What a test needs is looked for here, and nowhere else. Where it is missing, the test is counted
//! as ignored and says why; with `CI` in the environment it fails.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod alerting;
#[path = "../scenarios/basics.rs"]
mod basics;
mod browser;
#[expect(dead_code, reason = "the scenarios need more of it")]
#[path = "../scenarios/cloud.rs"]
mod cloud;
mod dashboard;
#[expect(dead_code, reason = "the scenarios need more of it")]
#[path = "../scenarios/guest.rs"]
mod guest;
#[path = "../scenarios/help.rs"]
mod help;
mod ipv6;
mod manifests;
mod memory;
#[expect(dead_code, reason = "the scenarios need more of it")]
#[path = "../scenarios/program.rs"]
mod program;
mod prometheus;
mod promtool;
#[expect(dead_code, reason = "the tests of the documents need more of it")]
#[path = "../scenarios/documents/repository.rs"]
mod repository;
#[path = "../scenarios/documents/resources.rs"]
mod resources;
mod script;
#[expect(dead_code, reason = "the scenarios need more of it")]
#[path = "../scenarios/site.rs"]
mod site;
#[expect(dead_code, reason = "the scenarios need more of it")]
#[path = "../scenarios/stand_in.rs"]
mod stand_in;
mod status_page;

use std::path::PathBuf;
use std::sync::OnceLock;

use basics::{ACCOUNT, DEADLINE, KEY, PASSWORD, PROJECT, TOKEN, USER, eventually, key_id};
use libtest_mimic::{Arguments, Completion, Trial};

/// What a test needs, or why it is not there.
type Need = fn() -> Result<(), String>;

const NOTHING: Need = || Ok(());

/// A test with its name and what it needs.
type Test = (&'static str, Need, fn());

macro_rules! tests {
    ($($need:ident: $module:ident::{$($test:ident),* $(,)?};)*) => {
        &[$($((concat!(stringify!($module), "::", stringify!($test)), $need as Need, $module::$test as fn())),*),*]
    };
}

/// All of them. One that is not in here is dead code, which the lints refuse.
const TESTS: &[Test] = tests! {
    NOTHING: crate::{no_test_is_left_to_a_runner_that_is_not_here};
    a_prometheus: alerting::{
        a_key_off_policy_fires_an_alert_that_ends_once_the_key_is_mended,
        a_label_of_the_target_silences_no_alert,
    };
    a_prometheus: dashboard::{every_query_of_the_dashboard_finds_something_in_a_rehearsal};
    NOTHING: dashboard::{the_panels_of_the_dashboard_have_a_place_and_a_source_of_their_own};
    an_ipv6: ipv6::{a_cloud_that_answers_on_ipv6_is_a_cloud_like_any};
    kubectl: manifests::{
        kustomize_changes_the_number_of_the_example,
        kustomize_builds_what_is_applied,
        with_the_component_there_are_two_replicas_and_what_they_need_to_share_a_lease,
    };
    kubernetes_validate: manifests::{every_version_of_kubernetes_takes_the_manifests};
    a_view_of_memory: memory::{what_only_logs_in_is_gone_when_it_has, what_signs_every_request_is_kept_once};
    a_promtool: promtool::{
        prometheus_takes_its_configuration_and_the_rules_pass_their_tests,
        prometheus_takes_the_queries_of_readme,
        the_queries_of_readme_find_a_key_of_each_of_two_replicas,
        the_dashboard_counts_a_key_of_two_replicas_once,
    };
    jq: script::{the_script_of_applys_help_lists_what_is_off_policy_or_unknown_and_nothing_else};
    a_browser: status_page::{
        the_page_tells_of_every_key_and_why_with_problems_first,
        a_click_and_typed_text_filter_at_once_and_last,
        without_a_script_the_server_filters,
        all_of_it_is_done_by_keyboard_with_the_focus_in_sight,
        every_text_can_be_read_in_the_light_and_in_the_dark,
        two_thousand_keys_are_there_at_once_and_filtered_as_one_types,
        the_page_renews_itself_and_says_when_nobody_answers,
        a_narrow_window_is_not_scrolled_sideways,
    };
};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    let trials = TESTS.iter().map(|&(name, need, test)| {
        Trial::ignorable_test(name, move || match need() {
            Ok(()) => {
                test();
                Ok(Completion::Completed)
            }
            Err(why) if is_ci => Err(format!("{why}, and CI skips no test").into()),
            Err(why) => Ok(Completion::ignored_with(why)),
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn no_test_is_left_to_a_runner_that_is_not_here() {
    // Written in two, so that this file does not have it.
    let attribute = concat!("#[", "test]");
    for file in repository::files("tests/tools") {
        assert!(!repository::text(&file).contains(attribute), "{file}: without the attribute, and in the list");
    }
}

fn a_prometheus() -> Result<(), String> {
    installed("prometheus")
}

fn a_promtool() -> Result<(), String> {
    installed("promtool")
}

fn jq() -> Result<(), String> {
    installed("jq")
}

fn kubectl() -> Result<(), String> {
    installed("kubectl")
}

fn kubernetes_validate() -> Result<(), String> {
    installed("kubernetes-validate")
}

fn a_browser() -> Result<(), String> {
    static STARTS: OnceLock<Result<(), String>> = OnceLock::new();
    installed("chromium")?;
    installed("chromedriver")?;
    STARTS.get_or_init(browser::Browser::starts).clone()
}

fn an_ipv6() -> Result<(), String> {
    ipv6::there()
}

fn a_view_of_memory() -> Result<(), String> {
    memory::readable()
}

fn installed(program: &str) -> Result<(), String> {
    on_path(program).map(drop).ok_or_else(|| format!("{program} is not installed"))
}

/// Where a program is.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
