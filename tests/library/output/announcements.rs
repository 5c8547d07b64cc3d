//! The daemon's log of runs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use kms_rotationd::daemon::Announcer;
use kms_rotationd::rotation::decide::{Reason, Status};
use kms_rotationd::rotation::project::{Coverage, Mode};
use kms_rotationd::rotation::report::{KeyError, KeyReport, ProjectReport, Report};

use super::sample::{account, compliant, project, report, uncovered};

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

/// The log of these consecutive runs.
fn said(reports: &[Arc<Report>]) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone());
    tracing::subscriber::with_default(subscriber.finish(), || {
        let mut announcer = Announcer::default();
        for report in reports {
            announcer.announce(report);
        }
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn keys_above_the_limit_of_changes_cause_a_warning_with_the_action() {
    let said = said(&[account()]);
    let about: Vec<_> = said.iter().filter(|line| line.contains("--allow-many")).collect();
    assert_eq!(about.len(), 1, "{said:#?}");
    assert!(about[0].contains(" WARN ") && about[0].contains("keys=1"), "{}", about[0]);
    assert!(about[0].contains("as with the first policy of an account"), "{}", about[0]);
}

#[test]
fn a_problem_is_logged_with_the_line_of_its_policy_entry() {
    let said = said(&[account()]);
    assert!(said.iter().any(|line| line.contains("reasons=\"key_disabled\" entry_line=17")), "{said:#?}");
}

#[test]
fn an_uncovered_key_is_a_problem_if_coverage_is_required() {
    let keys = || vec![compliant(0), uncovered(1)];
    for (coverage, told) in [(Coverage::Reported, 0), (Coverage::Required, 1)] {
        let found = report(vec![ProjectReport { coverage, ..project("p", Mode::Enforce, keys()) }]);
        let said = said(&[Arc::clone(&found), found]);
        let about = said.iter().filter(|line| line.contains("key is a problem") && line.contains("uncovered"));
        assert_eq!(about.count(), told, "said once, and not again in the next run: {said:#?}");
        assert!(said.last().is_some_and(|line| line.contains("uncovered=1")), "{said:#?}");
    }
}

#[test]
fn a_keys_own_error_is_logged_in_addition_to_its_projects_error() {
    let missing = KeyReport {
        status: Status::Unknown,
        reasons: Reason::NotFound.into(),
        error: Some(KeyError::new("read_status: HTTP 404 KMS.0207", None)),
        ..compliant(0)
    };
    let untold = KeyReport { status: Status::Unknown, reasons: Reason::ReadFailed.into(), ..compliant(1) };
    let project = ProjectReport {
        failure: Some("list_keys: HTTP 500".into()),
        ..project("p", Mode::Enforce, vec![missing, untold])
    };
    let said = said(&[report(vec![project])]);
    let about: Vec<_> = said.iter().filter(|line| line.contains("key is a problem")).collect();
    assert_eq!(about.len(), 1, "{said:#?}");
    assert!(about[0].contains("not_found"), "{}", about[0]);
}

#[test]
fn temporary_failures_are_warnings_and_refusals_are_errors() {
    for (reason, level) in [
        (Reason::ReadFailed, " WARN "),
        (Reason::LoginUnavailable, " WARN "),
        (Reason::AuthenticationFailed, "ERROR "),
        (Reason::AccessDenied, "ERROR "),
    ] {
        let key = KeyReport { status: Status::Unknown, reasons: reason.into(), ..compliant(0) };
        let said = said(&[report(vec![project("p", Mode::Enforce, vec![key])])]);
        let about: Vec<_> = said.iter().filter(|line| line.contains("key is a problem")).collect();
        assert!(about.len() == 1 && about[0].starts_with(level), "{reason:?}: {said:#?}");
    }
}
