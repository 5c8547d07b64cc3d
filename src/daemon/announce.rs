//! The log of runs: their begin, progress and end, and a line for each key that newly needs attention or recovered.
//!
//! Changes are logged where they are made. A problem that stays is only counted, and listed once a day by name: metrics
//! and the status page show the state, the log shows events. `error` is for what a person must act on; a key that a
//! person has disabled, or that the next run may repair, is a `warn`.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{Level, info, warn};

use super::fast_forward::PastClock;
use crate::rotation::assignment::Subject;
use crate::rotation::decide::{Reason, Reasons, Status};
use crate::rotation::key::DAY;
use crate::rotation::progress::RunProgress;
use crate::rotation::project::Proof;
use crate::rotation::remedies;
use crate::rotation::report::{KeyError, KeyReport, ProjectReport, Report, Trigger};
use crate::views::wording;

/// More keys of one project with the same news share a line: an outage is one event, not ten thousand.
const MAX_LINES: usize = 10;

/// How many keys the summary names.
const MAX_NAMES: usize = 3;

/// How many keys a line of the daily list names.
const MAX_LISTED: usize = 50;

/// How often problems that stay are listed.
const LISTED_EVERY: Duration = DAY;

/// Reasons that neither the next run nor the cloud resolves, and that no person has intended.
const FOR_A_PERSON: [Reason; 7] = [
    Reason::AuthenticationFailed,
    Reason::AccessDenied,
    Reason::NotFound,
    Reason::AmbiguousEntry,
    Reason::RotationOverdue,
    Reason::Flapping,
    Reason::Uncovered,
];

type KeyProblems = HashMap<(Arc<str>, Subject), Known>;

/// Remembers the problems of the last run, and logs what has changed since then.
#[derive(Debug, Default)]
pub struct Announcer {
    problems: KeyProblems,
    /// When the problems that stay were last listed, or when the first problem was logged.
    listed: Option<SystemTime>,
    /// While it is behind, a run without news is not logged.
    brief: Option<PastClock>,
}

/// What the log has on a key that needs attention.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The problem that was logged last and has not ended.
    problem: Option<KeyProblem>,
    /// The reasons for which the last run could not read the key, if a failure of its whole project was logged instead.
    /// The problem of before is neither over nor new when that failure ends.
    unread: Option<Reasons>,
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
    keys: usize,
    /// New or changed since the last run.
    new: Vec<&'r KeyReport>,
}

impl Announcer {
    /// Logs only runs with news as long as this clock is behind.
    #[must_use]
    pub fn brief(clock: PastClock) -> Self {
        Self { brief: Some(clock), ..Self::default() }
    }

    /// Logs that a run begins.
    pub(super) fn begin(&self, trigger: Trigger, projects: usize) {
        if !self.is_behind() {
            info!(trigger = trigger.as_str(), projects, "run started");
        }
    }

    /// Logs what is new in this report.
    pub fn announce(&mut self, report: &Report) {
        if report.interrupted {
            return summarise(report, &Attention::default(), self.is_behind());
        }
        let mut attention = Attention::default();
        let is_behind = self.is_behind();
        // In fast-forward a day passes several times in a second: the list begins in the present.
        let lists_all = !is_behind
            && self.listed.is_some_and(|at| report.ended.duration_since(at).is_ok_and(|ago| ago >= LISTED_EVERY));
        for project in &report.projects {
            self.project(project, lists_all, &mut attention);
        }
        if attention.problems.is_empty() {
            self.listed = None;
        } else if lists_all || is_behind || self.listed.is_none() {
            self.listed = Some(report.ended);
        }
        let has_news = !attention.new.is_empty() || report.changes() > 0;
        if has_news || !is_behind {
            summarise(report, &attention, is_behind);
        }
        self.problems = attention.problems;
    }

    fn is_behind(&self) -> bool {
        self.brief.as_ref().is_some_and(|clock| !clock.has_caught_up())
    }

    fn project<'r>(&self, project: &'r ProjectReport, lists_all: bool, attention: &mut Attention<'r>) {
        let mut news: BTreeMap<u32, Vec<&KeyReport>> = BTreeMap::new();
        let mut standing: BTreeMap<u32, Vec<&KeyReport>> = BTreeMap::new();
        let mut recovered = Vec::new();
        for key in &project.keys {
            let id = (Arc::clone(&project.name), key.subject.clone());
            let last = self.problems.get(&id).copied().unwrap_or_default();
            if !needs_attention(project, key) {
                if last.problem.is_some() {
                    recovered.push(key);
                }
                continue;
            }
            attention.keys += 1;
            // A failure of the whole project has its own line; an error of the key itself is logged as well.
            let has_project_line = project.failure.is_some() && key.status == Status::Unknown && key.error.is_none();
            let (known, is_new) = if has_project_line {
                (Known { unread: Some(key.reasons), ..last }, last.unread != Some(key.reasons))
            } else {
                let problem = Some(KeyProblem::of(key));
                (Known { problem, unread: None }, last.problem != problem)
            };
            if is_new {
                attention.new.push(key);
                if !has_project_line {
                    news.entry(key.reasons.bits()).or_default().push(key);
                }
            } else if lists_all {
                standing.entry(key.reasons.bits()).or_default().push(key);
            }
            attention.problems.insert(id, known);
        }
        for keys in news.values() {
            log_problem(project, keys);
        }
        for keys in standing.values() {
            log_standing(project, keys);
        }
        log_recovery(project, &recovered);
        log_rotations(project);
    }
}

/// Logs how far a run is that takes long.
pub(super) fn log_progress(progress: &RunProgress, elapsed: Duration) {
    let (read, done, keys) = (progress.read(), progress.done(), progress.found());
    info!(read, done, keys, elapsed_s = elapsed.as_secs(), "run in progress");
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

/// Whether a person must act on the key.
fn is_for_a_person(project: &ProjectReport, key: &KeyReport) -> bool {
    let is_required = |reason: &Reason| match reason {
        Reason::Uncovered => project.coverage.is_problem(key.status),
        // With `proof: reported` it is a note.
        Reason::MaterialTooOld => {
            key.status == Status::NonCompliant && project.proof == Proof::Required && !key.is_inactive()
        }
        reason => FOR_A_PERSON.contains(reason),
    };
    remedies::actionable(key.reasons).any(|reason| is_required(&reason))
}

/// Logs keys with the same reasons.
fn log_problem(project: &ProjectReport, keys: &[&KeyReport]) {
    let shared = keys.len() > MAX_LINES;
    for key in keys.iter().take(if shared { 1 } else { MAX_LINES }) {
        let reasons = key.reasons.to_string();
        let why = wording::why(key).to_string();
        let remedy = remedies::of(key.reasons);
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
                        remedy,
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
                        remedy,
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
        if is_for_a_person(project, key) { line!(Level::ERROR) } else { line!(Level::WARN) }
    }
}

/// Lists keys that have needed attention for the same reasons since the run before or longer.
fn log_standing(project: &ProjectReport, keys: &[&KeyReport]) {
    let Some(first) = keys.first() else { return };
    let names = names(keys, MAX_LISTED);
    // Days and errors are those of single keys.
    let (why, error) = if let [only] = keys {
        (wording::why(only).to_string(), only.error())
    } else {
        let words: Vec<_> = first.reasons.iter().map(|reason| wording::reason_of(first, reason)).collect();
        let is_shared = keys.iter().all(|key| KeyProblem::of(key) == KeyProblem::of(first));
        (words.join("; "), first.error().filter(|_| is_shared))
    };
    let reasons = first.reasons.to_string();
    let remedy = remedies::of(first.reasons);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                keys = keys.len(),
                names,
                why,
                error,
                remedy,
                project = &*project.name,
                reasons,
                "still needs attention; listed once a day"
            )
        };
    }
    if is_for_a_person(project, first) { line!(error) } else { line!(warn) }
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
    let need_attention = attention.keys;
    let unchanged = need_attention - attention.new.len();
    let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident, $text:literal) => {
            $level!(
                need_attention = (need_attention > 0).then_some(need_attention),
                of = (need_attention > 0).then_some(tally.total()),
                names = names(&attention.new, MAX_NAMES),
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
    // A run that shows what the one before has shown is no event.
    let is_news = !attention.new.is_empty();
    match (report.is_success(), of(Status::NonCompliant)) {
        _ if report.interrupted => line!(warn, "run interrupted"),
        (true, _) => line!(info, "run finished"),
        (false, 0) if is_news => line!(warn, "run finished with keys unknown or uncovered"),
        (false, 0) => line!(info, "run finished with keys unknown or uncovered"),
        (false, _) if is_news => line!(warn, "run finished with keys off policy"),
        (false, _) => line!(info, "run finished with keys off policy"),
    }
}

/// The names of the first keys, and how many more there are.
fn names(keys: &[&KeyReport], most: usize) -> Option<String> {
    let name = |key: &&KeyReport| key.alias.as_deref().unwrap_or(key.subject.as_str()).to_owned();
    let mut names: Vec<_> = keys.iter().take(most).map(name).collect();
    if keys.len() > most {
        names.push(format!("{} more", keys.len() - most));
    }
    (!names.is_empty()).then(|| names.join(", "))
}
