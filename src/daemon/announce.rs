//! The log of a run: one line in all, and one for each key that became a problem or ceased to be one.
//!
//! Changes are logged where they are made. A problem that stays is not repeated each run: metrics and the status page
//! show what is, the log what happened.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tracing::{Level, info, warn};

use crate::rotation::assignment::Subject;
use crate::rotation::decide::{Reason, Reasons, Status};
use crate::rotation::report::{KeyError, KeyReport, ProjectReport, Report};

/// Keys of one project that share their news in one run beyond this number share a line: an outage is one thing that
/// happened, not ten thousand.
const LINES: usize = 10;

/// The problems of the last run.
#[derive(Debug, Default)]
pub struct Announcer {
    problems: HashMap<(Arc<str>, Subject), Problem>,
}

/// What is wrong with a key: its reasons, and a hash of the cause, so that one that changes is news and a request's id
/// is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Problem {
    reasons: Reasons,
    cause: Option<u64>,
}

impl Problem {
    fn of(key: &KeyReport) -> Self {
        let hash = |error: &KeyError| {
            let mut hasher = DefaultHasher::new();
            error.cause().hash(&mut hasher);
            hasher.finish()
        };
        Self { reasons: key.reasons, cause: key.error.as_ref().map(hash) }
    }
}

impl Announcer {
    /// Logs what is new in this report.
    pub fn announce(&mut self, report: &Report) {
        if !report.interrupted {
            let mut problems = HashMap::new();
            for project in &report.projects {
                self.project(project, &mut problems);
            }
            self.problems = problems;
        }
        summarise(report);
    }

    fn project(&self, project: &ProjectReport, problems: &mut HashMap<(Arc<str>, Subject), Problem>) {
        let mut news: BTreeMap<u32, Vec<&KeyReport>> = BTreeMap::new();
        let mut recovered = Vec::new();
        for key in &project.keys {
            let id = (Arc::clone(&project.name), key.subject.clone());
            let last = self.problems.get(&id);
            // Of a key on policy, a write that `reapply: always` asked for may have failed.
            if project.coverage.is_problem(key.status) || (key.status == Status::Compliant && !key.reasons.is_empty()) {
                let problem = Problem::of(key);
                // Where the whole project failed, that was said once; a key with an error of its own is another matter.
                let said = project.failure.is_some() && key.status == Status::Unknown && key.error.is_none();
                if last != Some(&problem) && !said {
                    news.entry(key.reasons.bits()).or_default().push(key);
                }
                problems.insert(id, problem);
            } else if last.is_some() {
                recovered.push(key);
            }
        }
        for keys in news.values() {
            tell(project, keys);
        }
        let name = &*project.name;
        if let [first, _, ..] = recovered[..]
            && recovered.len() > LINES
        {
            info!(
                project = name,
                keys = recovered.len(),
                key_id = first.subject.as_str(),
                "keys are no longer problems"
            );
        } else {
            for key in recovered {
                let (key_id, status) = (key.subject.as_str(), key.status.as_str());
                info!(project = name, key_id, status, "key is no longer a problem");
            }
        }
    }
}

/// Tells of keys with the same reasons.
fn tell(project: &ProjectReport, keys: &[&KeyReport]) {
    let shared = keys.len() > LINES;
    for key in keys.iter().take(if shared { 1 } else { LINES }) {
        let passing = [
            Reason::ReadFailed,
            Reason::WriteFailed,
            Reason::Throttled,
            Reason::LoginUnavailable,
            Reason::NotVerified,
            Reason::ChangeLimit,
        ];
        let passes = passing.into_iter().any(|reason| key.reasons.contains(reason));
        let reasons = key.reasons.to_string();
        macro_rules! line {
            ($level:expr) => {
                if shared {
                    tracing::event!(
                        $level,
                        project = &*project.name,
                        reasons,
                        keys = keys.len(),
                        key_id = key.subject.as_str(),
                        error = key.error(),
                        "keys are problems; the first of them is named"
                    )
                } else {
                    tracing::event!(
                        $level,
                        project = &*project.name,
                        key_id = key.subject.as_str(),
                        reasons,
                        entry_line = key.entry_line,
                        interval_days = key.rotation.and_then(|rotation| rotation.interval_days),
                        policy_interval_days = key.desired.map(|desired| desired.interval.days()),
                        error = key.error(),
                        "key is a problem"
                    )
                }
            };
        }
        if passes { line!(Level::WARN) } else { line!(Level::ERROR) }
    }
}

fn summarise(report: &Report) {
    let held_back = report.held_back();
    if held_back > 0 {
        warn!(
            keys = held_back,
            "keys were left as they are, since selectors bring more changes than max_changes_per_run lets one run make; \
             if all of them are meant, as with the first policy of an account, use `kms-rotationd apply --allow-many` \
             once"
        );
    }
    let tally = report.tally();
    let of = |status| tally.of(status);
    let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident, $text:literal) => {
            $level!(
                trigger = report.trigger.as_str(),
                compliant = of(Status::Compliant),
                non_compliant = of(Status::NonCompliant),
                unknown = of(Status::Unknown),
                exempt = of(Status::Exempt),
                uncovered = of(Status::Uncovered),
                changes = report.changes(),
                standby = report.standby.then_some(true),
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
