//! One process of the daemon: the real run with its memory, against the cloud of the model.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use kms_rotationd::kms::ErrorKind;
use kms_rotationd::kms::observe::Operation;
use kms_rotationd::policy::types::{Credentials, Guards, Project};
use kms_rotationd::reconcile::{Intent, Memory, Reconciler, RunRecorder, RunRequest, Target};
use kms_rotationd::rotation::key::{DesiredRotation, RotationBlocker};
use kms_rotationd::rotation::project::{Coverage, Mode, ProofRule};
use kms_rotationd::rotation::report::{Report, Trigger};
use kms_rotationd::rotation::rule::{Matcher, Requirement, Rule, Selector};
use kms_rotationd::support::clock::Clock;
use kms_rotationd::support::write_gate::WriteGate;
use kms_rotationd::yaml::Position;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::cloud::{Cloud, Event, Journal, key_id, now};
use super::fault::Plan;
use super::key::{Answer, Key};
use super::log::{Durable, Log};

pub(super) const REGION: &str = "cn-north-4";
pub(super) const PROJECT_ID: &str = "0123456789abcdef0123456789abcdef";
const NAME: &str = "p";
/// A run of the model takes minutes; one that waits for longer does not end.
const LONGEST_RUN: Duration = Duration::from_secs(24 * 3600);

/// What the policy says, and how the run is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) desired: DesiredRotation,
    pub(super) intent: Intent,
    pub(super) mode: Mode,
    /// A selector matches the keys, and the run may change this many; otherwise an entry names the key.
    pub(super) most_changes: Option<usize>,
}

impl Setting {
    pub(super) fn may_write(self) -> bool {
        self.intent == Intent::Apply && self.mode == Mode::Enforce
    }

    fn project(self) -> Project {
        let matcher = match self.most_changes {
            Some(_) => Matcher::Select(Box::<Selector>::default()),
            None => Matcher::Key(key_id(0)),
        };
        Project {
            name: NAME.into(),
            cloud: kms_rotationd::rotation::project::Cloud::HuaweiCloud,
            region: REGION.into(),
            project_id: Some(PROJECT_ID.to_owned()),
            kms_endpoint: None,
            iam_endpoint: None,
            ca_file: None,
            mode: self.mode,
            credentials: Credentials::TokenFile("token".into()),
            credentials_at: Position { line: 1, column: 1 },
            assume_agency: None,
            proxy: None,
            coverage: Coverage::Reported,
            proof: ProofRule::default(),
            keys: vec![Rule { matcher, requirement: Requirement::Rotation(self.desired), line: 1 }],
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Stopped,
    Killed,
    /// It made too many calls, or waited for too long.
    Endless,
}

/// What one run found, did and left.
pub(super) struct Outcome {
    pub(super) end: End,
    /// A run that was killed has none.
    pub(super) report: Option<Arc<Report>>,
    pub(super) calls: Vec<Operation>,
    pub(super) events: Vec<Event>,
    pub(super) found: Vec<Key>,
    pub(super) left: Vec<Key>,
    /// What the process knew when the run began.
    pub(super) knew: Known,
}

/// What a process can know of earlier runs, by the journal and not by its memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// A key of the project was read.
    pub(super) readable: bool,
    /// For each key: rotation was switched on, or may have been, and no interval was accepted since.
    pub(super) interval_due: Vec<bool>,
    /// For each key: an interval was accepted, and rotation was not switched on since.
    pub(super) interval_set: Vec<bool>,
    /// For each key: a write was refused because the key cannot rotate.
    pub(super) refused: Vec<bool>,
    /// For each key: it was described.
    pub(super) described: Vec<bool>,
}

pub(super) struct Process<'r> {
    runtime: &'r Runtime,
    setting: Setting,
    reconciler: Reconciler,
    targets: [Target<Cloud>; 1],
    cloud: Arc<Cloud>,
    log: Arc<Log>,
    known: Known,
}

impl<'r> Process<'r> {
    /// A process that finds these keys and this evidence log.
    pub(super) fn start(runtime: &'r Runtime, setting: Setting, keys: Vec<Key>, log: &Durable) -> Self {
        let stop = CancellationToken::new();
        let memory = Memory::default();
        let numbers = 0..keys.len();
        let known = Known {
            readable: log.readable,
            interval_due: numbers.clone().map(|key| log.interval_due(key).is_some()).collect(),
            interval_set: vec![false; keys.len()],
            refused: numbers.clone().map(|key| log.refused(key)).collect(),
            described: numbers.map(|key| log.is_blocked(key)).collect(),
        };
        memory.restore([(NAME.into(), log.restored(keys.len()))].into());
        let cloud = Cloud::new(keys, setting.most_changes.is_some(), stop.clone());
        let log = Arc::new(Log::new(log.clone()));
        let recorder: Arc<dyn RunRecorder> = Arc::<Log>::clone(&log);
        let reconciler = Reconciler {
            clock: Clock::from_fn(now),
            stop,
            gate: WriteGate::default(),
            memory,
            progress: Arc::default(),
            recorder: Some(recorder),
        };
        // One at a time, so that the journal is the same each time.
        let targets = [Target { project: setting.project(), kms: Ok(Arc::clone(&cloud)), concurrency: 1 }];
        Self { runtime, setting, reconciler, targets, cloud, log, known }
    }

    /// One run in which this happens to its calls.
    pub(super) fn run(&mut self, plan: &Plan) -> Outcome {
        self.cloud.begin(plan);
        let (found, knew) = (self.cloud.keys(), self.known.clone());
        let guards = Guards {
            max_changes_per_run: self.setting.most_changes.unwrap_or(usize::MAX),
            flap_repairs: usize::MAX,
            flap_window: Duration::from_secs(86_400),
        };
        let (trigger, intent) = (Trigger::Schedule, self.setting.intent);
        let request = RunRequest { trigger, intent, guards, next_run: None, gap_after: None };
        let run = async {
            tokio::select! {
                biased;
                () = self.cloud.killed.cancelled() => None,
                report = self.reconciler.run(&self.targets, request) => Some(report),
            }
        };
        let result = self.runtime.block_on(async { tokio::time::timeout(LONGEST_RUN, run).await });
        let Journal { calls, events, is_endless } = self.cloud.end();
        let end = match &result {
            Err(_) => End::Endless,
            _ if is_endless => End::Endless,
            Ok(None) => End::Killed,
            Ok(Some(_)) if self.reconciler.stop.is_cancelled() => End::Stopped,
            Ok(Some(_)) => End::Finished,
        };
        self.known.learn(&events);
        Outcome { end, report: result.ok().flatten(), calls, events, found, left: self.cloud.keys(), knew }
    }

    /// The keys, and what is left of the evidence log if the process ends now.
    pub(super) fn left(&self) -> (Vec<Key>, Durable) {
        (self.cloud.keys(), self.log.durable())
    }

    /// A number for what the process remembers, the same for the same memory.
    pub(super) fn memory(&self) -> u64 {
        let text = format!("{:?}", self.reconciler.memory);
        let mut hasher = DefaultHasher::new();
        // A field that is renamed fails the search, and does not shrink it.
        for name in ["readable: ", "listing: "] {
            let at = text.find(name).unwrap();
            block(&text[at + name.len()..]).hash(&mut hasher);
        }
        // The order of a hash table differs from one to the next.
        for key in 0..self.known.refused.len() {
            let name = format!("{}: Remembered ", key_id(key));
            let remembered = text.find(&name).map(|at| block(&text[at + name.len()..]));
            remembered.map(without_repairs).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Known {
    fn learn(&mut self, events: &[Event]) {
        for event in events {
            if event.key.is_none() && event.answer == Answer::Described {
                self.described.fill(true);
            }
            let Some(key) = event.key else { continue };
            self.described[key] |= event.answer == Answer::Described;
            let is_permanent = event.answer.is(ErrorKind::Blocked(RotationBlocker::RotationUnsupported))
                || event.answer.is(ErrorKind::Blocked(RotationBlocker::ImportedMaterial));
            self.refused[key] |= event.is_write() && is_permanent;
            self.readable |= matches!(event.answer, Answer::Shown { .. });
            match event.operation {
                Operation::EnableRotation if event.answer.may_have_applied() => {
                    (self.interval_due[key], self.interval_set[key]) = (true, false);
                }
                Operation::UpdateInterval if event.answer == Answer::Accepted => {
                    (self.interval_due[key], self.interval_set[key]) = (false, true);
                }
                _ => {}
            }
        }
    }
}

/// The text up to the bracket that closes its first one.
fn block(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return &text[..=at];
                }
            }
            _ => {}
        }
    }
    text
}

/// With the guard against flapping off, repairs have no effect. Without them there are fewer states.
fn without_repairs(text: &str) -> (&str, &str) {
    let at = text.find("repairs: ").unwrap();
    (&text[..at], &text[at + block(&text[at..]).len()..])
}
