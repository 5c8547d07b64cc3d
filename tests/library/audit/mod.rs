//! The audit report: verdicts over logs that tests write record by record, the period, several logs, and the formats.

pub(crate) mod audit_log;
mod formats;
mod period;
mod properties;
pub(crate) mod story;
mod verdicts;

use kms_rotationd::audit::model::{Key, Report};
use kms_rotationd::audit::{ReportError, Request, make};

/// A request for the logs in these folders.
pub(crate) fn request(folders: &[&std::path::Path]) -> Request {
    let folders = folders.iter().map(|folder| folder.to_path_buf()).collect();
    Request { folders, sample: 25, seed: 7, ..Request::default() }
}

/// The report over days of one log.
pub(crate) fn report_over(folder: &std::path::Path, from: &str, to: &str) -> Result<Report, ReportError> {
    make(&Request { from: from.parse().ok(), to: to.parse().ok(), ..request(&[folder]) })
}

/// The report over the whole log.
pub(crate) fn report(folder: &std::path::Path) -> Report {
    make(&request(&[folder])).unwrap()
}

/// The only key of a report.
pub(crate) fn only(report: &Report) -> &Key {
    let [key] = &report.observers[0].keys[..] else { panic!("{:?}", report.observers[0].keys) };
    key
}
