//! The log of a run: one summary line, and one line for each key that newly needs attention or recovered.
//!
//! Changes are logged where they are made. A problem that stays is only counted: metrics and the status page show the
//! state, the log shows events.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tracing::{Level, info, warn};

use super::fast_forward::PastClock;
use crate::rotation::assignment::Subject;
use crate::rotation::decide::{Reason, Reasons, Status};
use crate::rotation::report::{KeyError, KeyReport, ProjectReport, Report};
use crate::views::wording;

/// More keys of one project with the same news share a line: an outage is one event, not ten thousand.
const MAX_LINES: usize = 10;

/// How many keys the summary names.
const MAX_NAMES: usize = 3;

/// Reasons that the next run may resolve without a person.
const RETRIED: [Reason; 6] = [
    Reason::ReadFailed,
    Reason::WriteFailed,
    Reason::Throttled,
    Reason::LoginUnavailable,
    Reason::NotVerified,
    Reason::ChangeLimit,
];

type KeyProblems = HashMap<(Arc<str>, Subject), KeyProblem>;

/// Remembers the problems of the last run, and logs what has changed since then.
#[derive(Debug, Default)]
pub struct Announcer {
    problems: KeyProblems,
    /// While it is behind, a run without news is not logged.
    brief: Option<PastClock>,
}

/// The reasons of a key's problem, and a hash of the cause: a new cause is logged, a new request id is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyProblem {
    reasons: Reasons,
    cause: Option<u64>,
}

impl KeyProblem {
    fn of(key: &KeyReport) -> Self {
        let hash = |error: &KeyError| {
            let mut hasher = DefaultHasher::new();
            error.cause().hash(&mut hasher);
            hasher.finish()
        };
        Self { reasons: key.reasons, cause: key.error.as_ref().map(hash) }
    }
}

/// The keys of a run that need attention.
#[derive(Default)]
struct Attention<'r> {
    problems: KeyProblems,
    /// New or changed since the last run.
    new: Vec<&'r KeyReport>,
}

impl Announcer {
    /// Logs only runs with news as long as this clock is behind.
    #[must_use]
    pub fn brief(clock: PastClock) -> Self {
        Self { brief: Some(clock), ..Self::default() }
    }

    /// Logs what is new in this report.
    pub fn announce(&mut self, report: &Report) {
        if report.interrupted {
            return summarise(report, &Attention::default(), self.is_behind());
        }
        let mut attention = Attention::default();
        for project in &report.projects {
            self.project(project, &mut attention);
        }
        let has_news = !attention.new.is_empty() || report.changes() > 0;
        let is_behind = self.is_behind();
        if has_news || !is_behind {
            summarise(report, &attention, is_behind);
        }
        self.problems = attention.problems;
    }

    fn is_behind(&self) -> bool {
        self.brief.as_ref().is_some_and(|clock| !clock.has_caught_up())
    }

    fn project<'r>(&self, project: &'r ProjectReport, attention: &mut Attention<'r>) {
        let mut news: BTreeMap<u32, Vec<&KeyReport>> = BTreeMap::new();
        let mut recovered = Vec::new();
        for key in &project.keys {
            let id = (Arc::clone(&project.name), key.subject.clone());
            let last = self.problems.get(&id);
            if needs_attention(project, key) {
                let problem = KeyProblem::of(key);
                if last != Some(&problem) {
                    attention.new.push(key);
                    // A failure of the whole project has its own line; an error of the key itself is logged as well.
                    let has_project_line =
                        project.failure.is_some() && key.status == Status::Unknown && key.error.is_none();
                    if !has_project_line {
                        news.entry(key.reasons.bits()).or_default().push(key);
                    }
                }
                attention.problems.insert(id, problem);
            } else if last.is_some() {
                recovered.push(key);
            }
        }
        for keys in news.values() {
            log_problem(project, keys);
        }
        log_recovery(project, &recovered);
        log_rotations(project);
    }
}

/// A key on policy does if a write of `reapply: always` failed, or if its material is too old.
fn needs_attention(project: &ProjectReport, key: &KeyReport) -> bool {
    let is_more_than_a_note = |reason| reason != Reason::RotationUnproven;
    project.coverage.is_problem(key.status)
        || (key.status == Status::Compliant && key.reasons.iter().any(is_more_than_a_note))
}

/// Logs the rotations that the run has seen for the first time.
fn log_rotations(project: &ProjectReport) {
    let rotated: Vec<_> = project.keys.iter().filter(|key| key.new_rotations > 0).collect();
    let project = &*project.name;
    let last = |key: &KeyReport| key.material_since.map(|at| wording::rfc3339(at).to_string());
    match &*rotated {
        [first, ..] if rotated.len() > MAX_LINES => {
            let (keys, alias, key_id) = (rotated.len(), first.alias.as_deref(), first.subject.as_str());
            info!(keys, alias, key_id, project, at = last(first), "the cloud has rotated keys; the first one is named");
        }
        _ => {
            for key in rotated {
                let (alias, key_id, rotations) = (key.alias.as_deref(), key.subject.as_str(), key.new_rotations);
                info!(alias, key_id, project, at = last(key), rotations, "the cloud has rotated the key");
            }
        }
    }
}

fn log_recovery(project: &ProjectReport, recovered: &[&KeyReport]) {
    let project = &*project.name;
    match recovered {
        [first, ..] if recovered.len() > MAX_LINES => {
            let (keys, alias, key_id) = (recovered.len(), first.alias.as_deref(), first.subject.as_str());
            info!(keys, alias, key_id, project, "keys recovered; the first one is named");
        }
        _ => {
            for key in recovered {
                let (alias, key_id) = (key.alias.as_deref(), key.subject.as_str());
                info!(alias, key_id, project, status = key.status.as_str(), "key recovered");
            }
        }
    }
}

/// Logs keys with the same reasons.
fn log_problem(project: &ProjectReport, keys: &[&KeyReport]) {
    let shared = keys.len() > MAX_LINES;
    for key in keys.iter().take(if shared { 1 } else { MAX_LINES }) {
        let is_retried = RETRIED.into_iter().any(|reason| key.reasons.contains(reason));
        let is_mild = is_retried || key.status == Status::Compliant;
        let reasons = key.reasons.to_string();
        let why = wording::why(key).to_string();
        macro_rules! line {
            ($level:expr) => {
                if shared {
                    tracing::event!(
                        $level,
                        keys = keys.len(),
                        alias = key.alias.as_deref(),
                        key_id = key.subject.as_str(),
                        why,
                        error = key.error(),
                        project = &*project.name,
                        reasons,
                        "keys need attention; the first one is named"
                    )
                } else {
                    tracing::event!(
                        $level,
                        alias = key.alias.as_deref(),
                        key_id = key.subject.as_str(),
                        why,
                        error = key.error(),
                        project = &*project.name,
                        reasons,
                        entry_line = key.entry_line,
                        interval_days = key.rotation.and_then(|rotation| rotation.interval_days),
                        policy_interval_days = key.desired.map(|desired| desired.interval.days()),
                        "key needs attention"
                    )
                }
            };
        }
        if is_mild { line!(Level::WARN) } else { line!(Level::ERROR) }
    }
}

/// Logs the summary of a run, with its own time if that is not the time of the log.
fn summarise(report: &Report, attention: &Attention<'_>, is_behind: bool) {
    let postponed = report.postponed();
    if postponed > 0 {
        warn!(
            keys = postponed,
            "changes postponed: max_changes_per_run reached; if all of them are intended, as with the first policy of \
             an account, run `kms-rotationd apply --allow-many` once"
        );
    }
    let tally = report.tally();
    let of = |status| tally.of(status);
    let need_attention = attention.problems.len();
    let unchanged = need_attention - attention.new.len();
    let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident, $text:literal) => {
            $level!(
                need_attention = (need_attention > 0).then_some(need_attention),
                of = (need_attention > 0).then_some(tally.total()),
                names = names(&attention.new),
                unchanged = (unchanged > 0).then_some(unchanged),
                trigger = report.trigger.as_str(),
                compliant = of(Status::Compliant),
                non_compliant = of(Status::NonCompliant),
                unknown = of(Status::Unknown),
                exempt = of(Status::Exempt),
                uncovered = of(Status::Uncovered),
                changes = report.changes(),
                standby = report.standby.then_some(true),
                took_ms,
                at = is_behind.then(|| wording::rfc3339(report.started).to_string()),
                $text
            )
        };
    }
    if report.interrupted {
        line!(warn, "run interrupted");
    } else if report.is_success() {
        line!(info, "run finished");
    } else if of(Status::NonCompliant) > 0 {
        line!(warn, "run finished with keys off policy");
    } else {
        line!(warn, "run finished with keys unknown or uncovered");
    }
}

/// The names of the first keys, and how many more there are.
fn names(keys: &[&KeyReport]) -> Option<String> {
    let name = |key: &&KeyReport| key.alias.as_deref().unwrap_or(key.subject.as_str()).to_owned();
    let mut names: Vec<_> = keys.iter().take(MAX_NAMES).map(name).collect();
    if keys.len() > MAX_NAMES {
        names.push(format!("{} more", keys.len() - MAX_NAMES));
    }
    (!names.is_empty()).then(|| names.join(", "))
}
