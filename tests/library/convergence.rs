//! Properties of a run: whatever fails between the steps, the report is true, only the policy's setting is
//! written, and later runs repair the key.
//!
//! The cloud is a model of one key with a list of faults. Time is paused, so waiting costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kms_rotationd::kms::observe::{Code, Operation};
use kms_rotationd::kms::{Error, ErrorKind, Kms, Listed, Receipt, RunStart, SendMode, WriteOperation};
use kms_rotationd::policy::types::{Credentials, Guards, Project};
use kms_rotationd::reconcile::{Intent, Memory, Reconciler, RunRequest, Target};
use kms_rotationd::rotation::decide::{Reason, Status};
use kms_rotationd::rotation::key::{
    Bound, DesiredRotation, KeyDescription, KeyId, ListedKey, Reapply, Rotation, RotationBlocker, RotationInterval, Tag,
};
use kms_rotationd::rotation::project::{Cloud, CloudAccess, Coverage, Mode, ProofRule};
use kms_rotationd::rotation::report::{KeyReport, Trigger};
use kms_rotationd::rotation::rule::{Matcher, Requirement, Rule};
use kms_rotationd::support::clock::{BootClock, Clock};
use kms_rotationd::support::write_gate::WriteGate;
use kms_rotationd::yaml::Position;
use proptest::prelude::*;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The retry budget is exhausted.
    Exhausted,
    Throttled,
    Denied,
    /// A write is applied and its answer is lost; a read fails.
    AppliedAnswerLost,
    /// A write is lost, which the client cannot know; a read fails.
    LostUnclear,
    /// A write is applied and fails; the answer to the next attempt shows that it was applied. A read fails.
    AppliedAndFailed,
    /// The cloud answers this, plausible or not.
    Says(ErrorKind),
}

/// One key of a cloud, and the writes to it.
#[derive(Clone, Default)]
struct Model {
    enabled: bool,
    days: u32,
    /// Number of reads that still return the state before the last write.
    lag: u32,
    shown: Option<(bool, u32)>,
    readable: bool,
    faults: Vec<Fault>,
    /// The constant result of each kind of call, instead of the list of faults.
    for_ever: Option<[Fault; 4]>,
    calls: usize,
    writes: Vec<(Operation, Option<u16>)>,
    unsettled: i32,
    /// What the client asks before it sends a write.
    gate: WriteGate,
}

struct FakeKms(Mutex<Model>);

impl FakeKms {
    fn fail(operation: Operation, kind: ErrorKind) -> Error {
        Error::new(operation, kind, "scripted").with_code(Code::Http(500))
    }

    /// The next fault, and its result for a read.
    fn next(&self, operation: Operation) -> Result<Fault, Error> {
        let mut model = self.0.lock().unwrap();
        let scripted = model.faults.get(model.calls).copied().unwrap_or(Fault::None);
        let [read, describe, enable, update] = model.for_ever.unwrap_or([scripted; 4]);
        let fault = match operation {
            Operation::ReadStatus => read,
            Operation::EnableRotation => enable,
            Operation::UpdateInterval => update,
            _ => describe,
        };
        model.calls += 1;
        assert!(model.calls < 200, "a run does not end");
        match fault {
            Fault::None | Fault::AppliedAnswerLost | Fault::LostUnclear | Fault::AppliedAndFailed => Ok(fault),
            Fault::Says(kind) => Err(Self::fail(operation, kind)),
            Fault::Exhausted => Err(Self::fail(operation, ErrorKind::Transient)),
            Fault::Throttled => Err(Self::fail(operation, ErrorKind::Throttled)),
            Fault::Denied => Err(Self::fail(operation, ErrorKind::Permission)),
        }
    }

    fn write(&self, operation: Operation, interval: Option<RotationInterval>) -> Result<Receipt, Error> {
        if !self.0.lock().unwrap().gate.is_open() {
            return Err(Self::fail(operation, ErrorKind::Stopped));
        }
        let fault = self.next(operation)?;
        let mut model = self.0.lock().unwrap();
        model.writes.push((operation, interval.map(RotationInterval::days)));
        if fault == Fault::LostUnclear {
            model.unsettled += 1;
            return Err(Self::fail(operation, ErrorKind::Unclear));
        }
        let before = (model.enabled, model.days);
        match (operation, interval) {
            (Operation::EnableRotation, _) if model.enabled => return Err(Self::fail(operation, ErrorKind::AlreadyOn)),
            (Operation::EnableRotation, _) => (model.enabled, model.days) = (true, 365),
            _ if !model.enabled => return Err(Self::fail(operation, ErrorKind::NotOn)),
            (_, Some(interval)) => model.days = u32::from(interval.days()),
            (_, None) => unreachable!("an interval write has an interval"),
        }
        model.shown = (model.lag > 0).then_some(before);
        if fault == Fault::AppliedAnswerLost {
            model.unsettled += 1;
            return Err(Self::fail(operation, ErrorKind::Unclear));
        }
        if fault == Fault::AppliedAndFailed && operation == Operation::EnableRotation {
            return Err(Self::fail(operation, ErrorKind::AlreadyOn).maybe_applied());
        }
        Ok(Receipt::default())
    }
}

impl Kms for FakeKms {
    fn access(&self) -> CloudAccess {
        CloudAccess::default()
    }

    fn begin_run(&self, _: RunStart) {}

    fn cloud_time(&self) -> SystemTime {
        SystemTime::now()
    }

    async fn read_status(&self, _: KeyId, _: SendMode) -> Result<Rotation, Error> {
        let fault = self.next(Operation::ReadStatus)?;
        if matches!(fault, Fault::AppliedAnswerLost | Fault::LostUnclear | Fault::AppliedAndFailed) {
            return Err(Self::fail(Operation::ReadStatus, ErrorKind::Transient));
        }
        let mut model = self.0.lock().unwrap();
        if !model.readable {
            return Err(Self::fail(Operation::ReadStatus, ErrorKind::NotOffered));
        }
        let (enabled, days) = match model.shown {
            Some(shown) if model.lag > 0 => {
                model.lag -= 1;
                shown
            }
            _ => (model.enabled, model.days),
        };
        Ok(Rotation { enabled, interval_days: Some(days), last_rotated: None, rotations: None })
    }

    async fn describe(&self, _: KeyId, _: SendMode) -> Result<KeyDescription, Error> {
        let fault = self.next(Operation::DescribeKey)?;
        match fault {
            Fault::None => Ok(KeyDescription::default()),
            _ => Err(Self::fail(Operation::DescribeKey, ErrorKind::Transient)),
        }
    }

    /// The user has no permission to list keys.
    async fn list_keys(&self) -> Result<Listed<ListedKey>, Error> {
        Err(Self::fail(Operation::ListKeys, ErrorKind::Permission))
    }

    async fn tagged(&self, _: &str, _: Option<&[&str]>) -> Result<Listed<(KeyId, Tag)>, Error> {
        unreachable!("no selector asks for tags")
    }

    fn enable_rotation(&self, _: KeyId) -> impl WriteOperation {
        FakeWrite::new(self, Operation::EnableRotation, None)
    }

    fn update_interval(&self, _: KeyId, interval: RotationInterval, _: SendMode) -> impl WriteOperation {
        FakeWrite::new(self, Operation::UpdateInterval, Some(interval))
    }
}

/// A write that may be sent again for two minutes, with waits that double up to half a minute.
struct FakeWrite<'m> {
    kms: &'m FakeKms,
    operation: Operation,
    interval: Option<RotationInterval>,
    is_unclear: bool,
    wait: Duration,
    deadline: Option<Instant>,
}

impl<'m> FakeWrite<'m> {
    fn new(kms: &'m FakeKms, operation: Operation, interval: Option<RotationInterval>) -> Self {
        let wait = Duration::from_millis(500);
        Self { kms, operation, interval, is_unclear: false, wait, deadline: None }
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.is_unclear) {
            self.kms.0.lock().unwrap().unsettled -= 1;
        }
    }
}

impl WriteOperation for FakeWrite<'_> {
    async fn send(&mut self) -> Result<Receipt, Error> {
        self.settle();
        let result = self.kms.write(self.operation, self.interval);
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unclear) {
            self.is_unclear = true;
            self.deadline.get_or_insert_with(|| Instant::now() + Duration::from_secs(120));
        }
        result
    }

    fn next_wait(&mut self) -> Option<Duration> {
        let wait = self.wait;
        self.wait = (2 * wait).min(Duration::from_secs(30));
        self.deadline.is_some_and(|deadline| Instant::now() + wait <= deadline).then_some(wait)
    }

    fn found_applied(mut self) {
        assert!(self.is_unclear, "only an unclear write is found to be applied");
        self.settle();
        let model = self.kms.0.lock().unwrap();
        let days = self.interval.map(|interval| u32::from(interval.days()));
        assert!(model.enabled && days.is_none_or(|days| model.days == days), "counted as applied, and is not");
    }
}

/// A write that is given up.
impl Drop for FakeWrite<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

/// An unlimited number of repairs.
const UNGUARDED: Guards =
    Guards { max_changes_per_run: 50, flap_repairs: usize::MAX, flap_window: Duration::from_secs(86_400) };

struct Bench {
    /// Seconds since 1970.
    now: Arc<AtomicU64>,
    runtime: tokio::runtime::Runtime,
    reconciler: Reconciler,
    targets: [Target<FakeKms>; 1],
}

impl Bench {
    fn new(desired: DesiredRotation, model: Model) -> Self {
        let key_id = "0d0466b0-e727-4d9c-b35d-f84bb474a37f".parse().unwrap();
        let project = Project {
            name: "p".into(),
            cloud: Cloud::HuaweiCloud,
            region: "cn-north-4".into(),
            project_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
            kms_endpoint: None,
            iam_endpoint: None,
            ca_file: None,
            mode: Mode::Enforce,
            credentials: Credentials::TokenFile("token".into()),
            credentials_at: Position { line: 1, column: 1 },
            assume_agency: None,
            proxy: None,
            coverage: Coverage::Reported,
            proof: ProofRule::default(),
            keys: vec![Rule { matcher: Matcher::Key(key_id), requirement: Requirement::Rotation(desired), line: 1 }],
        };
        let now = Arc::<AtomicU64>::default();
        let seconds = Arc::clone(&now);
        let clock =
            Clock::from_fn(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed)));
        Self {
            now,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
            reconciler: Reconciler {
                clock,
                stop: CancellationToken::new(),
                gate: WriteGate::default(),
                memory: Memory::default(),
                progress: Arc::default(),
                recorder: None,
            },
            targets: [Target { project, kms: Ok(Arc::new(FakeKms(Mutex::new(model)))), concurrency: 4 }],
        }
    }

    fn run(&self, intent: Intent) -> KeyReport {
        let request =
            RunRequest { trigger: Trigger::Start, intent, guards: UNGUARDED, next_run: None, gap_after: None };
        let run = self.reconciler.run(&self.targets, request);
        let report = self.runtime.block_on(run);
        report.projects[0].keys[0].clone()
    }

    fn model<T>(&self, look: impl FnOnce(&mut Model) -> T) -> T {
        look(&mut self.targets[0].kms.as_ref().unwrap().0.lock().unwrap())
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => Just(Fault::Exhausted),
        1 => Just(Fault::Throttled),
        1 => Just(Fault::Denied),
        2 => Just(Fault::AppliedAnswerLost),
        2 => Just(Fault::LostUnclear),
        1 => Just(Fault::AppliedAndFailed),
    ]
}

/// Every possible answer of the cloud, also implausible ones.
fn nonsense() -> impl Strategy<Value = Fault> {
    let kinds = [
        ErrorKind::AlreadyOn,
        ErrorKind::NotOn,
        ErrorKind::Blocked(RotationBlocker::ReplicaKey),
        ErrorKind::Blocked(RotationBlocker::Disabled),
        ErrorKind::NotFound,
        ErrorKind::NotOffered,
        ErrorKind::Garbled,
        ErrorKind::Refused,
        ErrorKind::Credentials,
        ErrorKind::LoginUnavailable,
        ErrorKind::Unreachable,
        ErrorKind::Stopped,
    ];
    prop_oneof![1 => fault(), 1 => prop::sample::select(kinds.to_vec()).prop_map(Fault::Says)]
}

prop_compose! {
    fn model()(
        enabled in any::<bool>(),
        days in prop_oneof![Just(30u32), Just(90), Just(365)],
        lag in 0..3u32,
        readable in prop::bool::weighted(0.8),
        faults in prop::collection::vec(fault(), 0..24),
    ) -> Model {
        Model { enabled, days, lag, readable, faults, ..Model::default() }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { enabled, days, lag, readable, faults, .. } = self;
        write!(f, "enabled {enabled}, {days} days, lag {lag}, readable {readable}, faults {faults:?}")
    }
}

fn desired(days: u16) -> DesiredRotation {
    DesiredRotation::exactly(RotationInterval::from_days(days).unwrap())
}

/// Regions get rotation, replicas become primary keys, and during a rollout the answers of servers differ.
#[test]
fn a_permanently_refused_write_is_tried_again_after_a_day() {
    let refused = Fault::Says(ErrorKind::Blocked(RotationBlocker::RotationUnsupported));
    // The read, the description, the write.
    let faults = vec![Fault::None, Fault::None, refused];
    let off = Model { enabled: false, days: 365, lag: 0, readable: true, faults, ..Model::default() };
    let bench = Bench::new(desired(90), off);
    for hours in [0, 1, 23] {
        bench.now.store(hours * 3600, Ordering::Relaxed);
        assert_eq!(bench.run(Intent::Apply).status, Status::Exempt, "after {hours} hours");
    }
    assert_eq!(bench.model(|model| model.writes.len()), 0);
    bench.now.store(25 * 3600, Ordering::Relaxed);
    assert_eq!(bench.run(Intent::Apply).status, Status::Compliant);
}

proptest! {
    #![proptest_config(super::properties::config())]

    #[test]
    fn the_report_is_true_whatever_fails(model in model(), days in prop_oneof![Just(90u16), Just(365)]) {
        let found = (model.enabled, model.days);
        let bench = Bench::new(desired(days), model);
        let report = bench.run(Intent::Apply);
        let (left, readable, unsettled) =
            bench.model(|model| ((model.enabled, model.days), model.readable, model.unsettled));
        let on_policy = left == (true, u32::from(days));
        if report.status == Status::Compliant {
            prop_assert!(on_policy && readable, "reported compliant, is {left:?}");
        } else {
            prop_assert!(!report.reasons.is_empty());
        }
        // A key that the run has made worse is always reported.
        if left != found && !on_policy {
            prop_assert!(matches!(report.status, Status::NonCompliant | Status::Unknown));
        }
        prop_assert_eq!(unsettled, 0, "every unclear write is settled once");
    }

    #[test]
    fn a_run_ends_with_any_constant_answer_of_the_cloud(
        model in model(),
        script in prop::collection::vec(nonsense(), 4),
        days in prop_oneof![Just(90u16), Just(365)],
        always in any::<bool>(),
        longest in any::<bool>(),
    ) {
        let desired = DesiredRotation {
            reapply: if always { Reapply::Always } else { Reapply::OnDrift },
            bound: if longest { Bound::Longest } else { Bound::Exact },
            ..desired(days)
        };
        let bench = Bench::new(desired, Model { for_ever: script.try_into().ok(), ..model });
        for _ in 0..2 {
            // The model counts the calls, and panics in an endless run.
            bench.model(|model| model.calls = 0);
            bench.run(Intent::Apply);
        }
    }

    #[test]
    fn only_the_policys_interval_is_sent(model in model(), days in 30..=365u16) {
        let bench = Bench::new(desired(days), model);
        for _ in 0..3 {
            bench.run(Intent::Apply);
        }
        let writes = bench.model(|model| model.writes.clone());
        prop_assert!(writes.iter().all(|(_, sent)| sent.is_none_or(|sent| sent == days)), "{writes:?}");
    }

    #[test]
    fn after_the_faults_one_run_repairs_the_key_and_the_next_writes_nothing(
        model in model(),
        days in prop_oneof![Just(90u16), Just(365)],
    ) {
        let bench = Bench::new(desired(days), model);
        bench.run(Intent::Apply);
        bench.model(|model| model.faults.clear());
        let report = bench.run(Intent::Apply);
        let (left, readable) = bench.model(|model| ((model.enabled, model.days), model.readable));
        if readable {
            prop_assert_eq!(report.status, Status::Compliant);
            prop_assert_eq!(left, (true, u32::from(days)));
            let before = bench.model(|model| model.writes.len());
            bench.run(Intent::Apply);
            prop_assert_eq!(bench.model(|model| model.writes.len()), before);
        } else {
            prop_assert!(report.reasons.contains(Reason::StatusUnreadable));
            prop_assert_eq!(left, (true, u32::from(days)));
        }
    }

    #[test]
    fn a_key_that_is_switched_off_is_repaired(
        first in model(),
        faults in prop::collection::vec(fault(), 0..12),
        longest in any::<bool>(),
    ) {
        let bound = if longest { Bound::Longest } else { Bound::Exact };
        let bench = Bench::new(DesiredRotation { bound, ..desired(90) }, first);
        bench.model(|model| model.faults.clear());
        bench.run(Intent::Apply);
        bench.model(|model| {
            (model.enabled, model.faults, model.calls) = (false, faults, 0);
        });
        bench.run(Intent::Apply);
        bench.model(|model| model.faults.clear());
        bench.run(Intent::Apply);
        prop_assert_eq!(bench.model(|model| (model.enabled, model.days)), (true, 90));
    }

    #[test]
    fn a_plan_writes_nothing(model in model()) {
        let bench = Bench::new(desired(90), model);
        bench.run(Intent::Plan);
        prop_assert!(bench.model(|model| model.writes.is_empty()));
    }

    #[test]
    fn a_standby_reports_like_a_plan_and_writes_nothing(model in model()) {
        let plan = Bench::new(desired(90), model.clone()).run(Intent::Plan);
        let mut bench = Bench::new(desired(90), model);
        let (_handle, gate) = WriteGate::closed(BootClock::from_fn(|| Duration::ZERO));
        bench.reconciler.gate = gate;
        let report = bench.run(Intent::Apply);
        prop_assert!(bench.model(|model| model.writes.is_empty()));
        prop_assert_eq!((report.status, report.reasons), (plan.status, plan.reasons));
    }

    #[test]
    fn a_gate_that_closes_in_mid_run_stops_the_writes_and_the_report_is_true(
        model in model(),
        open_for in 0..6_000u64,
    ) {
        let mut bench = Bench::new(desired(90), model);
        let begin = bench.runtime.block_on(async { Instant::now() });
        let (handle, gate) = WriteGate::closed(BootClock::from_fn(move || begin.elapsed()));
        handle.open_until(Duration::from_millis(open_for));
        bench.model(|model| model.gate = gate.clone());
        bench.reconciler.gate = gate;
        let report = bench.run(Intent::Apply);
        let (left, readable, unsettled) =
            bench.model(|model| ((model.enabled, model.days), model.readable, model.unsettled));
        if report.status == Status::Compliant {
            prop_assert!(left == (true, 90) && readable, "reported compliant, is {left:?}");
        }
        prop_assert_eq!(unsettled, 0, "every unclear write is settled once");
        let written = bench.model(|model| model.writes.len());
        bench.runtime.block_on(async { tokio::time::sleep(Duration::from_secs(6)).await });
        bench.run(Intent::Apply);
        prop_assert_eq!(bench.model(|model| model.writes.len()), written, "it is closed now");
    }
}
