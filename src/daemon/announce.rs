//! The log of a run: one line in all, and one for each key that became a problem or ceased to be one.
//!
//! Changes are logged where they are made. A problem that stays is not repeated each run: metrics and the status page
//! show what is, the log what happened.

use std::collections::HashMap;

use tracing::{error, info, warn};

use crate::rotation::decide::{Reason, Reasons, Status};
use crate::rotation::key::KeyId;
use crate::rotation::report::{KeyReport, ProjectReport, Report};

/// The problems of the last run.
#[derive(Debug, Default)]
pub struct Announcer {
    problems: HashMap<KeyId, Reasons>,
}

impl Announcer {
    /// Logs what is new in this report.
    pub fn announce(&mut self, report: &Report) {
        let mut problems = HashMap::new();
        for (project, key) in report.keys() {
            let last = self.problems.get(&key.key_id);
            if is_problem(key.status) {
                if last != Some(&key.reasons) && !report.interrupted {
                    tell(project, key);
                }
                problems.insert(key.key_id, key.reasons);
            } else if last.is_some() {
                info!(
                    key_id = key.key_id.as_str(),
                    project = &*project.name,
                    status = key.status.as_str(),
                    "key is no longer a problem"
                );
            }
        }
        self.problems = problems;
        summarise(report);
    }
}

fn is_problem(status: Status) -> bool {
    matches!(status, Status::NonCompliant | Status::Unknown)
}

fn tell(project: &ProjectReport, key: &KeyReport) {
    // Where the whole project failed, that was said once.
    if project.failure.is_some() && key.status == Status::Unknown {
        return;
    }
    let (key_id, project, reasons) = (key.key_id.as_str(), &*project.name, key.reasons.to_string());
    let (actual, policy) = (key.rotation.and_then(|r| r.interval_days), key.desired_interval.days());
    let error = key.error.as_deref();
    let passing = [Reason::ReadFailed, Reason::Throttled, Reason::NotVerified];
    if passing.into_iter().any(|reason| key.reasons.contains(reason)) {
        warn!(
            key_id,
            project,
            reasons,
            interval_days = actual,
            policy_interval_days = policy,
            error,
            "key is a problem"
        );
    } else {
        error!(
            key_id,
            project,
            reasons,
            interval_days = actual,
            policy_interval_days = policy,
            error,
            "key is a problem"
        );
    }
}

fn summarise(report: &Report) {
    let tally = report.tally();
    let of = |status| tally.of(status);
    let took_ms = u64::try_from(report.duration().as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident, $text:literal) => {
            $level!(
                trigger = report.trigger.as_str(),
                compliant = of(Status::Compliant),
                non_compliant = of(Status::NonCompliant),
                unknown = of(Status::Unknown),
                exempt = of(Status::Exempt),
                changes = report.changes(),
                took_ms,
                $text
            )
        };
    }
    if report.interrupted {
        line!(warn, "run interrupted");
    } else if report.is_success() {
        line!(info, "run ended");
    } else {
        line!(warn, "run ended with problems");
    }
}
