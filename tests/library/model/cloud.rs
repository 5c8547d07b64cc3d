//! The cloud of the model: some keys, a journal of the calls, and one scheduled fault or interruption for each call.
//!
//! It implements the trait that runs use, so retries inside one call are part of the answer: "5xx" is what a call ends
//! with after its retries. What the client itself guarantees is modelled as it does it: nothing is called after a
//! refused login, nothing but an interval that is due is sent while the program stops, and a write that is sent once
//! ends as unclear on a server error.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use kms_rotationd::kms::observe::{Code, Operation};
use kms_rotationd::kms::{Error, ErrorKind, Kms, Listed, Receipt, RunStart, SendMode, WriteOperation};
use kms_rotationd::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation, RotationInterval, Tag};
use kms_rotationd::rotation::project::CloudAccess;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fault::{Decision, Fault, Interruption, Plan};
use super::key::{Answer, Key, described};

/// No run of this model needs so many calls: one that makes more does not end.
const MOST_CALLS: usize = 80;
/// A slow answer makes every reading before it older than the minute for which a reading holds.
const SLOW: Duration = Duration::from_secs(61);

/// The time of day, which stands still.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// One call that the run wanted to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) operation: Operation,
    /// The key's number; `None` for the list.
    pub(super) key: Option<usize>,
    pub(super) mode: SendMode,
    /// The days that an interval write sends.
    pub(super) interval: Option<u32>,
    /// When it was sent, and when its answer came.
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) answer: Answer,
    /// The key before and after the call.
    pub(super) before: Option<u32>,
    pub(super) after: Option<u32>,
    /// The program is asked to stop after it.
    pub(super) stops: bool,
}

impl Event {
    pub(super) fn is_write(&self) -> bool {
        matches!(self.operation, Operation::EnableRotation | Operation::UpdateInterval)
    }
}

#[derive(Default)]
struct State {
    keys: Vec<Key>,
    plan: Plan,
    /// The operations that reached the cloud in this run.
    calls: Vec<Operation>,
    events: Vec<Event>,
    /// The login was refused in this run.
    is_closed: bool,
    is_endless: bool,
}

pub(super) struct Cloud {
    state: Mutex<State>,
    /// Whether the user may list the keys.
    lists: bool,
    stop: CancellationToken,
    /// Cancelled where the process is killed.
    pub(super) killed: CancellationToken,
}

/// What one run did.
pub(super) struct Journal {
    pub(super) calls: Vec<Operation>,
    pub(super) events: Vec<Event>,
    pub(super) is_endless: bool,
}

pub(super) fn key_id(number: usize) -> KeyId {
    format!("0d0466b0-e727-4d9c-b35d-{number:012}").parse().unwrap()
}

fn number(key_id: KeyId) -> usize {
    key_id.as_str()[24..].parse().unwrap()
}

fn failed(operation: Operation, kind: ErrorKind) -> Error {
    Error::new(operation, kind, "as the plan says").with_code(Code::Http(502))
}

impl Cloud {
    pub(super) fn new(keys: Vec<Key>, lists: bool, stop: CancellationToken) -> Arc<Self> {
        let state = Mutex::new(State { keys, ..State::default() });
        Arc::new(Self { state, lists, stop, killed: CancellationToken::new() })
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.lock().keys.clone()
    }

    /// A run with these faults begins.
    pub(super) fn begin(&self, plan: &Plan) {
        let mut state = self.lock();
        *state = State { keys: std::mem::take(&mut state.keys), plan: plan.clone(), ..State::default() };
        state.keys.iter_mut().for_each(Key::begin_run);
    }

    /// The run has ended.
    pub(super) fn end(&self) -> Journal {
        let mut state = self.lock();
        let (calls, events) = (std::mem::take(&mut state.calls), std::mem::take(&mut state.events));
        Journal { calls, events, is_endless: state.is_endless }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// One call: what the client refuses itself, what the plan has for it, what the cloud does, and the interruption
    /// after it. `act` gets the keys and the fault, and returns the answer.
    async fn call(&self, head: Head, act: impl FnOnce(&mut [Key], Option<Fault>) -> Answer) -> Answer {
        let refused = |kind| Answer::Failed { kind, maybe_applied: false };
        if self.stop.is_cancelled() && head.mode != SendMode::AtExit {
            return self.note(head, [None; 2], refused(ErrorKind::Stopped), false);
        }
        let Some(decision) = self.turn(head.operation) else {
            return self.note(head, [None; 2], refused(ErrorKind::Credentials), false);
        };
        if self.lock().is_endless {
            self.killed.cancel();
            std::future::pending::<()>().await;
        }
        if decision.fault == Some(Fault::Slow) {
            tokio::time::sleep(SLOW).await;
        }
        let answer = {
            let mut state = self.lock();
            let before = head.key.and_then(|key| state.keys[key].on);
            let answer = match decision.fault {
                Some(Fault::Login) => {
                    state.is_closed = true;
                    refused(ErrorKind::Credentials)
                }
                fault => act(&mut state.keys, fault),
            };
            let after = head.key.and_then(|key| state.keys[key].on);
            drop(state);
            let stops = decision.interruption == Some(Interruption::Stop);
            self.note(head, [before, after], judged(head.mode, answer), stops)
        };
        match decision.interruption {
            Some(Interruption::Kill) => {
                self.killed.cancel();
                std::future::pending::<()>().await;
            }
            Some(Interruption::Stop) => self.stop.cancel(),
            None => {}
        }
        answer
    }

    /// What happens to the next call; nothing where the login was refused before.
    fn turn(&self, operation: Operation) -> Option<Decision> {
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        let call = state.calls.len();
        state.calls.push(operation);
        state.is_endless = call >= MOST_CALLS;
        let planned = state.plan.iter().find(|decision| decision.call == call).copied();
        Some(planned.unwrap_or(Decision { call, fault: None, interruption: None }))
    }

    fn note(&self, head: Head, [before, after]: [Option<u32>; 2], answer: Answer, stops: bool) -> Answer {
        let Head { operation, key, mode, interval, began } = head;
        let ended = Instant::now();
        let event = Event { operation, key, mode, interval, began, ended, answer, before, after, stops };
        self.lock().events.push(event);
        answer
    }

    async fn write(&self, head: Head) -> Result<Receipt, Error> {
        let key = head.key.unwrap();
        let answer = self.call(head, |keys, fault| keys[key].write(head.interval, fault)).await;
        match answer {
            Answer::Failed { kind, maybe_applied } => {
                let error = failed(head.operation, kind);
                Err(if maybe_applied { error.maybe_applied() } else { error })
            }
            _ => Ok(Receipt::default()),
        }
    }
}

/// One call, before it is made.
#[derive(Clone, Copy)]
struct Head {
    operation: Operation,
    key: Option<usize>,
    mode: SendMode,
    interval: Option<u32>,
    began: Instant,
}

impl Head {
    fn new(operation: Operation, key: Option<usize>, mode: SendMode) -> Self {
        Self { operation, key, mode, interval: None, began: Instant::now() }
    }
}

/// The answer as the client passes it on in this mode (`SendMode`).
fn judged(mode: SendMode, answer: Answer) -> Answer {
    match (mode, answer) {
        (SendMode::Once, Answer::Failed { kind: ErrorKind::Transient, maybe_applied: true }) => {
            Answer::Failed { kind: ErrorKind::Unclear, maybe_applied: true }
        }
        (SendMode::AtExit, Answer::Failed { kind: ErrorKind::Unclear, .. }) => {
            Answer::Failed { kind: ErrorKind::Transient, maybe_applied: true }
        }
        _ => answer,
    }
}

impl Kms for Cloud {
    fn begin_run(&self, _: RunStart) {}

    fn access(&self) -> CloudAccess {
        CloudAccess::default()
    }

    fn cloud_time(&self) -> SystemTime {
        now()
    }

    async fn read_status(&self, key_id: KeyId, mode: SendMode) -> Result<Rotation, Error> {
        let (operation, key) = (Operation::ReadStatus, number(key_id));
        let head = Head::new(operation, Some(key), mode);
        match self.call(head, |keys, fault| keys[key].shown(fault)).await {
            Answer::Shown { enabled, days } => {
                Ok(Rotation { enabled, interval_days: days, last_rotated: None, rotations: None })
            }
            Answer::Failed { kind, .. } => Err(failed(operation, kind)),
            Answer::Accepted | Answer::Described => unreachable!("a reading shows or fails"),
        }
    }

    async fn describe(&self, key_id: KeyId, mode: SendMode) -> Result<KeyDescription, Error> {
        let (operation, key) = (Operation::DescribeKey, number(key_id));
        let head = Head::new(operation, Some(key), mode);
        match self.call(head, |_, fault| described(fault)).await {
            Answer::Failed { kind, .. } => Err(failed(operation, kind)),
            _ => Ok(self.lock().keys[key].description(key)),
        }
    }

    async fn list_keys(&self) -> Result<Listed<ListedKey>, Error> {
        let operation = Operation::ListKeys;
        if !self.lists {
            return Err(failed(operation, ErrorKind::Permission));
        }
        let head = Head::new(operation, None, SendMode::Retried);
        if let Answer::Failed { kind, .. } = self.call(head, |_, fault| described(fault)).await {
            return Err(failed(operation, kind));
        }
        let listed = |(number, key): (usize, &Key)| ListedKey {
            key_id: key_id(number),
            description: key.description(number),
            key_spec: Some("AES_256".into()),
            enterprise_project_id: None,
            tags: Vec::new(),
        };
        let items = self.lock().keys.iter().enumerate().map(listed).collect();
        Ok(Listed { items, doubt: None })
    }

    async fn tagged(&self, _: &str, _: Option<&[&str]>) -> Result<Listed<(KeyId, Tag)>, Error> {
        unreachable!("no selector asks for tags")
    }

    fn enable_rotation(&self, key_id: KeyId) -> impl WriteOperation {
        let head = Head::new(Operation::EnableRotation, Some(number(key_id)), SendMode::Retried);
        Write { cloud: self, head, waits: 0 }
    }

    fn update_interval(&self, key_id: KeyId, interval: RotationInterval, mode: SendMode) -> impl WriteOperation {
        let head = Head::new(Operation::UpdateInterval, Some(number(key_id)), mode);
        Write { cloud: self, head: Head { interval: Some(interval.days().into()), ..head }, waits: 0 }
    }
}

/// A write that may be sent again after six waits, more than the faults of one plan need.
struct Write<'c> {
    cloud: &'c Cloud,
    head: Head,
    waits: u32,
}

impl WriteOperation for Write<'_> {
    async fn send(&mut self) -> Result<Receipt, Error> {
        self.cloud.write(Head { began: Instant::now(), ..self.head }).await
    }

    fn next_wait(&mut self) -> Option<Duration> {
        self.waits += 1;
        (self.waits <= 6).then_some(Duration::from_secs(1))
    }

    fn found_applied(self) {}
}
