//! Tests with requirements that not every machine meets: another program, or access to a process's memory.
//!
//! Rust's test runner cannot skip a test at run time, so these tests use another one, with the same options and the same
//! last line. Requirements are checked only here. If one is missing, the test counts as ignored, with the reason; if `CI`
//! is set, it fails.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod alert_texts;
mod alerting;
mod alertmanager;
mod anchors;
mod audit;
#[expect(dead_code, reason = "the tests of the library need more of it")]
#[path = "../library/audit/audit_log.rs"]
mod audit_log;
#[path = "../scenarios/basics.rs"]
mod basics;
mod browser;
#[expect(dead_code, reason = "the scenarios need more of it")]
#[path = "../scenarios/cloud.rs"]
mod cloud;
mod dashboard;
mod evidence;
#[expect(dead_code, reason = "the scenarios need more of it")]
#[path = "../scenarios/evidence_log.rs"]
mod evidence_log;
mod evidence_verifier;
mod full_disk;
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
#[cfg_attr(feature = "kubernetes", expect(dead_code, reason = "only a cluster needs the method"))]
#[path = "../scenarios/stand_in.rs"]
mod stand_in;
mod status_page;
#[path = "../library/audit/story.rs"]
mod story;

use std::path::PathBuf;
use std::sync::OnceLock;

use basics::{ACCOUNT, DEADLINE, KEY, PASSWORD, PROJECT, TOKEN, USER, eventually, key_id};
use libtest_mimic::{Arguments, Completion, Trial};

/// Checks a requirement; the error is the reason for skipping.
type Need = fn() -> Result<(), String>;

const NOTHING: Need = || Ok(());

/// A test: name, requirement, function.
type Test = (&'static str, Need, fn());

macro_rules! tests {
    ($($need:ident: $module:ident::{$($test:ident),* $(,)?};)*) => {
        &[$($((concat!(stringify!($module), "::", stringify!($test)), $need as Need, $module::$test as fn())),*),*]
    };
}

/// All tests. A test that is not listed is dead code, which the lints refuse.
const TESTS: &[Test] = tests! {
    NOTHING: crate::{every_test_is_in_the_list};
    has_promtool: alert_texts::{
        every_reason_fires_its_alerts_without_series_of_single_keys,
        an_alert_names_keys_where_their_series_exist,
    };
    has_prometheus: alerting::{
        a_key_off_policy_fires_an_alert_until_it_is_repaired,
        a_target_label_does_not_silence_an_alert,
        old_material_fires_one_alert_for_each_project_until_the_cloud_rotates_the_keys,
        a_cloud_that_forgets_a_rotation_fires_an_alert_until_it_rotates_the_key,
    };
    has_amtool: alertmanager::{amtool_accepts_the_example_and_routes_by_severity};
    has_alertmanager: alertmanager::{
        each_kind_of_alert_is_sent_as_mail_and_a_critical_one_to_chat_and_program_too,
        an_alert_about_the_cause_inhibits_those_that_follow_from_it,
    };
    has_prometheus_and_alertmanager: alertmanager::{a_key_off_policy_sends_mail_and_chat_messages_until_it_is_repaired};
    has_report_validators: audit::{
        the_published_validators_accept_the_machine_formats,
        the_published_validators_refuse_broken_documents,
    };
    has_browser: audit::{
        the_report_is_readable_in_light_and_dark_and_needs_no_network,
        the_report_is_printed_on_pages_with_every_part,
        rows_are_filtered_by_mouse_and_keyboard_and_all_are_there_without_a_script,
        two_thousand_keys_are_shown_and_filtered,
        the_report_fits_a_narrow_window,
    };
    has_prometheus: dashboard::{every_query_of_the_dashboard_finds_something_in_a_rehearsal};
    NOTHING: dashboard::{the_panels_of_the_dashboard_do_not_overlap_and_use_the_data_source};
    has_openssl: evidence::{
        openssl_and_this_program_read_each_others_keys,
        openssl_verifies_the_signature_of_a_checkpoint,
    };
    has_git: anchors::{a_git_repository_keeps_anchors};
    has_openssl: anchors::{a_timestamp_of_a_checkpoint_verifies};
    has_prometheus_and_promtool: anchors::{a_prometheus_keeps_anchors};
    has_python: evidence_verifier::{
        without_a_package_for_signatures_the_tree_is_verified_and_the_gap_is_named,
        each_flipped_bit_and_each_cut_in_the_records_is_found,
        every_log_gets_the_findings_of_the_program,
    };
    has_cryptography: evidence_verifier::{the_signatures_are_checked_with_cryptography};
    has_pynacl: evidence_verifier::{the_signatures_are_checked_with_pynacl};
    has_openssl: evidence_verifier::{the_commands_in_the_guide_check_a_signature_with_openssl};
    has_jq: evidence_verifier::{the_command_in_the_guide_lists_what_happened_to_keys};
    has_mountable_disk: full_disk::{records_wait_while_the_disk_is_full_and_none_is_lost};
    has_ipv6: ipv6::{a_cloud_on_ipv6_works};
    has_kubectl: manifests::{
        kustomize_changes_the_number_of_the_example,
        kustomize_builds_every_resource,
        the_component_for_the_evidence_log_adds_a_volume,
        the_component_adds_a_replica_and_the_permissions_for_the_lease,
    };
    has_kubernetes_validate: manifests::{every_version_of_kubernetes_accepts_the_manifests};
    has_readable_memory: memory::{a_secret_for_logins_is_wiped_after_the_login, a_secret_for_signing_is_in_memory_once};
    has_promtool: promtool::{
        prometheus_accepts_its_configuration_and_the_rules_pass_their_tests,
        one_bad_policy_for_2400_keys_raises_one_alert_for_each_project,
        old_material_of_all_keys_raises_one_alert,
        prometheus_accepts_the_documented_queries,
        the_documented_queries_find_a_key_of_each_of_two_replicas,
        the_dashboard_counts_a_key_of_two_replicas_once,
        the_dashboard_shows_the_oldest_material_and_the_next_rotations,
    };
    has_jq: script::{the_script_in_the_help_of_apply_lists_only_keys_off_policy_or_unknown};
    has_browser: status_page::{
        the_page_lists_every_key_with_its_reasons_and_problems_first,
        a_click_and_typed_text_filter_and_stay_in_the_address,
        without_a_script_the_server_filters,
        the_page_works_by_keyboard_with_a_visible_focus,
        every_text_has_enough_contrast_in_light_and_dark_mode,
        two_thousand_keys_are_a_page_of_bounded_height,
        keys_are_grouped_and_sorted_and_each_has_a_page,
        keys_appear_while_the_first_run_reads_them,
        the_page_refreshes_itself_and_reports_a_lost_connection,
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
            Err(why) if is_ci => Err(format!("{why}, and CI must not skip tests").into()),
            Err(why) => Ok(Completion::ignored_with(why)),
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn every_test_is_in_the_list() {
    // In two parts, so that this file does not contain it.
    let attribute = concat!("#[", "test]");
    for file in repository::files("tests/tools") {
        assert!(!repository::text(&file).contains(attribute), "{file}: without the attribute, and in the list");
    }
}

fn has_prometheus() -> Result<(), String> {
    installed("prometheus")
}

fn has_prometheus_and_promtool() -> Result<(), String> {
    has_prometheus().and_then(|()| has_promtool())
}

fn has_promtool() -> Result<(), String> {
    installed("promtool")
}

fn has_amtool() -> Result<(), String> {
    installed("amtool")
}

fn has_alertmanager() -> Result<(), String> {
    alertmanager::program().map(drop)
}

fn has_prometheus_and_alertmanager() -> Result<(), String> {
    has_prometheus().and_then(|()| has_alertmanager())
}

fn has_openssl() -> Result<(), String> {
    installed("openssl")
}

fn has_git() -> Result<(), String> {
    installed("git")
}

fn has_python() -> Result<(), String> {
    installed("python3")
}

fn has_cryptography() -> Result<(), String> {
    evidence_verifier::python_with("cryptography").map(drop)
}

fn has_pynacl() -> Result<(), String> {
    evidence_verifier::python_with("nacl").map(drop)
}

fn has_jq() -> Result<(), String> {
    installed("jq")
}

fn has_kubectl() -> Result<(), String> {
    installed("kubectl")
}

fn has_kubernetes_validate() -> Result<(), String> {
    installed("kubernetes-validate")
}

/// A Python interpreter with the packages that `.ci/run` installs.
fn has_report_validators() -> Result<(), String> {
    installed(audit::PYTHON)
}

fn has_browser() -> Result<(), String> {
    static STARTS: OnceLock<Result<(), String>> = OnceLock::new();
    installed("chromium")?;
    installed("chromedriver")?;
    STARTS.get_or_init(browser::Browser::starts).clone()
}

fn has_mountable_disk() -> Result<(), String> {
    full_disk::can_be_mounted()
}

fn has_ipv6() -> Result<(), String> {
    ipv6::available()
}

fn has_readable_memory() -> Result<(), String> {
    memory::readable()
}

fn installed(program: &str) -> Result<(), String> {
    on_path(program).map(drop).ok_or_else(|| format!("{program} is not installed"))
}

/// The path of a program.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
