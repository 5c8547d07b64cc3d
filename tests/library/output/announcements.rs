//! The daemon's log of runs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kms_rotationd::daemon::{Announcer, PastClock};
use kms_rotationd::rotation::decide::{Reason, Reasons, Status};
use kms_rotationd::rotation::project::{Coverage, Mode, Proof};
use kms_rotationd::rotation::remedies::remedy;
use kms_rotationd::rotation::report::{KeyError, KeyReport, ProjectReport, Report};

use super::sample::{account, compliant, off, project, report, uncovered};

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log lines of these runs, one after the other.
fn logged(reports: &[Arc<Report>]) -> Vec<String> {
    logged_by(Announcer::default(), reports)
}

fn logged_by(mut announcer: Announcer, reports: &[Arc<Report>]) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone());
    tracing::subscriber::with_default(subscriber.finish(), || {
        for report in reports {
            announcer.announce(report);
        }
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn postponed_changes_are_a_warning_with_the_command_to_allow_them() {
    let lines = logged(&[account()]);
    let about: Vec<_> = lines.iter().filter(|line| line.contains("changes postponed")).collect();
    assert_eq!(about.len(), 1, "{lines:#?}");
    assert!(about[0].contains(" WARN ") && about[0].contains("keys=1"), "{}", about[0]);
    assert!(about[0].contains("as with the first policy of an account"), "{}", about[0]);
}

#[test]
fn a_problem_has_name_id_reason_in_words_remedy_and_policy_line() {
    let lines = logged(&[account()]);
    let about = lines.iter().find(|line| line.contains("reasons=\"key_disabled\" entry_line=17"));
    let start = " WARN kms_rotationd::daemon::announce: key needs attention alias=\"pay-00005\" key_id=";
    let about = about.unwrap_or_else(|| panic!("{lines:#?}"));
    let remedy = format!("why=\"the key is disabled\" remedy={:?} project=", remedy(Reason::KeyDisabled));
    assert!(about.starts_with(start) && about.contains(&remedy), "{about}");
}

#[test]
fn an_uncovered_key_is_a_problem_if_coverage_is_required() {
    let keys = || vec![compliant(0), uncovered(1)];
    for (coverage, expected) in [(Coverage::Reported, 0), (Coverage::Required, 1)] {
        let found = report(vec![ProjectReport { coverage, ..project("p", Mode::Enforce, keys()) }]);
        let lines = logged(&[Arc::clone(&found), found]);
        let about = lines.iter().filter(|line| line.contains("key needs attention") && line.contains("uncovered"));
        assert_eq!(about.count(), expected, "logged once, and not again in the next run: {lines:#?}");
        assert!(lines.last().is_some_and(|line| line.contains("uncovered=1")), "{lines:#?}");
    }
}

#[test]
fn a_key_with_its_own_error_is_logged_in_addition_to_its_projects_failure() {
    let missing = KeyReport {
        status: Status::Unknown,
        reasons: Reason::NotFound.into(),
        error: Some(KeyError::new("read_status: HTTP 404 KMS.0207", None)),
        ..compliant(0)
    };
    let without_error = KeyReport { status: Status::Unknown, reasons: Reason::ReadFailed.into(), ..compliant(1) };
    let project = ProjectReport {
        failure: Some("list_keys: HTTP 500".into()),
        ..project("p", Mode::Enforce, vec![missing, without_error])
    };
    let lines = logged(&[report(vec![project])]);
    let about: Vec<_> = lines.iter().filter(|line| line.contains("key needs attention")).collect();
    assert_eq!(about.len(), 1, "{lines:#?}");
    assert!(about[0].contains("not_found"), "{}", about[0]);
}

#[test]
fn the_end_of_a_projects_failure_makes_no_problem_news() {
    let healthy = || project("p", Mode::Enforce, vec![compliant(0), off(1), off(2)]);
    let failed = || {
        let unread = |key| KeyReport { status: Status::Unknown, reasons: Reason::AuthenticationFailed.into(), ..key };
        let keys = vec![unread(compliant(0)), unread(off(1)), unread(off(2))];
        ProjectReport { failure: Some("authenticate: HTTP 401".into()), ..project("p", Mode::Enforce, keys) }
    };
    let after = project("p", Mode::Enforce, vec![compliant(0), off(1), compliant(2)]);
    let lines = logged(&[healthy(), failed(), failed(), after].map(|project| report(vec![project])));
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("key needs attention"), 2, "both in the first run: {lines:#?}");
    assert_eq!(count("key recovered alias=\"pay-00002\""), 1, "{lines:#?}");
    assert_eq!(count("key recovered"), 1, "{lines:#?}");
    let summaries: Vec<_> = lines.iter().filter(|line| line.contains("run finished")).collect();
    assert!(
        summaries[1].contains("need_attention=3 of=3 names=\"pay-00000, pay-00001, pay-00002\" trigger="),
        "{lines:#?}"
    );
    assert!(summaries[2].contains("need_attention=3 of=3 unchanged=3"), "{lines:#?}");
    assert!(summaries[3].contains("need_attention=1 of=3 unchanged=1"), "{lines:#?}");
}

#[test]
fn old_material_of_a_disabled_key_is_no_error() {
    for (more, level) in [(Reason::RotationUnproven, "ERROR "), (Reason::KeyDisabled, " WARN ")] {
        let reasons = Reasons::NONE.with(Reason::MaterialTooOld).with(more);
        let key = KeyReport { status: Status::NonCompliant, reasons, ..compliant(0) };
        let project = ProjectReport { proof: Proof::Required, ..project("p", Mode::Enforce, vec![key]) };
        let lines = logged(&[report(vec![project])]);
        assert!(lines[0].starts_with(level) && lines[0].contains("key needs attention"), "{lines:#?}");
    }
}

#[test]
fn only_what_a_person_must_act_on_is_an_error() {
    for (reason, level) in [
        (Reason::KeyDisabled, " WARN "),
        (Reason::PendingDeletion, " WARN "),
        (Reason::ReadFailed, " WARN "),
        (Reason::LoginUnavailable, " WARN "),
        (Reason::AuthenticationFailed, "ERROR "),
        (Reason::AccessDenied, "ERROR "),
        (Reason::Flapping, "ERROR "),
        (Reason::RotationOverdue, "ERROR "),
    ] {
        let key = KeyReport { status: Status::Unknown, reasons: reason.into(), ..compliant(0) };
        let lines = logged(&[report(vec![project("p", Mode::Enforce, vec![key])])]);
        let about: Vec<_> = lines.iter().filter(|line| line.contains("key needs attention")).collect();
        assert!(about.len() == 1 && about[0].starts_with(level), "{reason:?}: {lines:#?}");
    }
}

#[test]
fn the_summary_names_new_problems_and_counts_unchanged_ones() {
    let run = |keys| report(vec![project("p", Mode::Enforce, keys)]);
    let keys = |number| (0..number).map(off).chain([compliant(9)]).collect::<Vec<_>>();
    let lines = logged(&[run(keys(2)), run(keys(2)), run(keys(6)), run(vec![compliant(0), compliant(9)])]);
    let summaries: Vec<_> = lines.iter().filter_map(|line| line.split_once("run finished")).collect();
    let starts = [
        " with keys off policy need_attention=2 of=3 names=\"pay-00000, pay-00001\" trigger=",
        " with keys off policy need_attention=2 of=3 unchanged=2 trigger=",
        " with keys off policy need_attention=6 of=7 names=\"pay-00002, pay-00003, pay-00004, 1 more\" unchanged=2 trigger=",
        " trigger=",
    ];
    assert_eq!(summaries.len(), starts.len(), "{lines:#?}");
    for ((_, summary), start) in summaries.into_iter().zip(starts) {
        assert!(summary.starts_with(start), "{summary}");
    }
}

#[test]
fn problems_that_stay_are_listed_by_name_once_a_day() {
    let at = |hours: u64, keys: u64| {
        let found = report(vec![project("p", Mode::Enforce, (0..keys).map(off).collect())]);
        let ended = found.ended + Duration::from_secs(hours * 3600);
        Arc::new(Report { ended, ..Report::clone(&found) })
    };
    let runs = [(0, 2), (12, 2), (24, 3), (25, 3), (47, 3), (48, 60), (49, 0), (50, 1), (73, 1), (74, 1)];
    let lines = logged(&runs.map(|(hours, keys)| at(hours, keys)));
    let listed: Vec<_> =
        lines.iter().filter_map(|line| line.split_once("still needs attention; listed once a day ")).collect();
    let starts = [
        "keys=2 names=\"pay-00000, pay-00001\" why=",
        "keys=3 names=\"pay-00000, pay-00001, pay-00002\" why=",
        "keys=1 names=\"pay-00000\" why=",
    ];
    assert_eq!(listed.len(), starts.len(), "{lines:#?}");
    for ((_, line), start) in listed.into_iter().zip(starts) {
        assert!(line.starts_with(start) && line.contains(" remedy=\""), "{line}");
    }
}

#[test]
fn in_fast_forward_problems_that_stay_are_not_listed() {
    let runs = [0, 24, 48].map(|hours: u64| {
        let found = report(vec![project("p", Mode::Enforce, vec![off(0)])]);
        Arc::new(Report { ended: found.ended + Duration::from_secs(hours * 3600), ..Report::clone(&found) })
    });
    let behind = PastClock::standing(runs[0].ended, runs[2].ended);
    let lines = logged_by(Announcer::brief(behind), &runs);
    assert_eq!(lines.iter().filter(|line| line.contains("key needs attention")).count(), 1, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("still needs attention")), "{lines:#?}");
}

#[test]
fn a_long_list_names_the_first_fifty() {
    let run = |ended: Duration| {
        let found = report(vec![project("p", Mode::Enforce, (0..60).map(off).collect())]);
        Arc::new(Report { ended: found.ended + ended, ..Report::clone(&found) })
    };
    let lines = logged(&[run(Duration::ZERO), run(Duration::from_secs(86_400))]);
    let listed = lines.iter().find(|line| line.contains("still needs attention")).unwrap();
    assert!(listed.contains("keys=60") && listed.contains("pay-00049, 10 more\""), "{listed}");
}
