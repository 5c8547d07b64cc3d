//! The loop with paused time: what starts a run, and what it does not miss.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kms_rotationd::daemon::{Alarm, Announcer, Daemon, PolicyFile, Signals, Supervisor};
use kms_rotationd::kms::observe::Operation;
use kms_rotationd::kms::{Error, ErrorKind, Kms, Listed, Receipt, RunStart, SendMode, WriteOperation};
use kms_rotationd::policy::Policy;
use kms_rotationd::reconcile::{Memory, Reconciler, Target};
use kms_rotationd::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation, RotationInterval, Tag};
use kms_rotationd::rotation::project::CloudAccess;
use kms_rotationd::support::clock::{BootClock, Clock};
use kms_rotationd::support::write_gate::WriteGate;
use kms_rotationd::web::{Health, StatusStore};
use tokio::time::Instant;

/// A cloud on which every key is on policy, and a read takes some time.
struct Slow {
    reading: Duration,
    runs: Arc<Mutex<Vec<Instant>>>,
    next_runs: Arc<Mutex<Vec<Option<SystemTime>>>>,
    in_flight: AtomicUsize,
}

impl Kms for Slow {
    fn access(&self) -> CloudAccess {
        CloudAccess::default()
    }

    fn begin_run(&self, start: RunStart) {
        self.next_runs.lock().unwrap().push(start.next_run);
        assert_eq!(self.in_flight.fetch_add(1, Ordering::SeqCst), 0, "runs overlap");
        self.runs.lock().unwrap().push(Instant::now());
    }

    fn cloud_time(&self) -> SystemTime {
        SystemTime::now()
    }

    async fn read_status(&self, _: KeyId, _: SendMode) -> Result<Rotation, Error> {
        tokio::time::sleep(self.reading).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        Ok(Rotation { enabled: true, interval_days: Some(90), last_rotated: None, rotations: None })
    }

    async fn describe(&self, _: KeyId, _: SendMode) -> Result<KeyDescription, Error> {
        Ok(KeyDescription::default())
    }

    async fn list_keys(&self) -> Result<Listed<ListedKey>, Error> {
        Err(Error::new(Operation::ListKeys, ErrorKind::NotOffered, "no list"))
    }

    async fn tagged(&self, _: &str, _: Option<&[&str]>) -> Result<Listed<(KeyId, Tag)>, Error> {
        Ok(Listed { items: Vec::new(), doubt: None })
    }

    fn enable_rotation(&self, _: KeyId) -> impl WriteOperation {
        Accepted
    }

    fn update_interval(&self, _: KeyId, _: RotationInterval, _: SendMode) -> impl WriteOperation {
        Accepted
    }
}

/// A write that the cloud accepts.
struct Accepted;

impl WriteOperation for Accepted {
    async fn send(&mut self) -> Result<Receipt, Error> {
        Ok(Receipt::default())
    }

    fn next_wait(&mut self) -> Option<Duration> {
        None
    }

    fn found_applied(self) {}
}

/// An alarm on tokio's time, which tests can pause.
#[derive(Default)]
struct PausedAlarm(Mutex<Option<Instant>>);

impl Alarm for PausedAlarm {
    async fn set(&mut self, after: Duration) {
        *self.0.lock().unwrap() = Some(Instant::now() + after);
    }

    async fn rings(&self) {
        let at = *self.0.lock().unwrap();
        match at {
            Some(at) => {
                tokio::time::sleep_until(at).await;
                *self.0.lock().unwrap() = None;
            }
            None => std::future::pending().await,
        }
    }
}

/// An alarm that cannot be set.
struct Mute;

impl Alarm for Mute {
    async fn set(&mut self, _: Duration) {}

    async fn rings(&self) {
        std::future::pending::<()>().await;
    }
}

struct World {
    path: PathBuf,
    runs: Arc<Mutex<Vec<Instant>>>,
    /// The time of the next run, as passed to each run.
    next_runs: Arc<Mutex<Vec<Option<SystemTime>>>>,
    policies: Arc<Mutex<Vec<String>>>,
    signals: Signals,
    begin: Instant,
}

fn policy_text(name: &str, cron: &str) -> String {
    format!(
        "schedule: {{cron: '{cron}', run_on_start: false}}\nprojects:\n  - name: {name}\n    cloud: huawei-cloud\n    \
         region: cn-north-4\n    project_id: 0123456789abcdef0123456789abcdef\n    credentials: {{token_file: /token}}\n    \
         keys: [{{key_id: 0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 90}}]\n"
    )
}

fn midnight() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * 86_400)
}

/// Runs the test with a daemon whose clock begins at midnight and follows tokio's time.
async fn beside_daemon(cron: &str, reading: Duration, test: impl AsyncFnOnce(&World)) {
    beside_daemon_with(&policy_text("first", cron), reading, PausedAlarm::default(), WriteGate::default(), test).await;
}

/// The same with this policy, this alarm, behind this gate.
async fn beside_daemon_with(
    policy: &str,
    reading: Duration,
    alarm: impl Alarm,
    gate: WriteGate,
    test: impl AsyncFnOnce(&World),
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    fs::write(&path, policy).unwrap();
    let begin = Instant::now();
    let midnight = midnight();
    let clock = Clock::from_fn(move || midnight + begin.elapsed());
    let mut policy_file = PolicyFile::new(path.clone(), |_| None, clock.clone());
    let policy = policy_file.read().unwrap();
    let (runs, policies) = (Arc::<Mutex<Vec<Instant>>>::default(), Arc::<Mutex<Vec<String>>>::default());
    let next_runs = Arc::<Mutex<Vec<Option<SystemTime>>>>::default();
    let signals = Signals::default();
    let connect = {
        let (runs, next_runs, policies) = (Arc::clone(&runs), Arc::clone(&next_runs), Arc::clone(&policies));
        move |policy: &Policy| {
            let project = policy.projects[0].clone();
            policies.lock().unwrap().push(project.name.to_string());
            let (runs, next_runs) = (Arc::clone(&runs), Arc::clone(&next_runs));
            let slow = Slow { reading, runs, next_runs, in_flight: AtomicUsize::new(0) };
            vec![Target { project, kms: Ok(Arc::new(slow)), concurrency: 1 }]
        }
    };
    let daemon = Daemon {
        policy_file,
        connect,
        alarm,
        every: None,
        announcer: Announcer::default(),
        reconciler: Arc::new(Reconciler {
            clock: clock.clone(),
            stop: signals.stop.clone(),
            gate,
            memory: Memory::default(),
            progress: Arc::default(),
            recorder: None,
        }),
        signals: signals.clone(),
        store: Arc::new(StatusStore::new().unwrap()),
        histories: Arc::default(),
        supervisor: Supervisor::from_environment(Health::new(Duration::from_secs(120))),
        clock,
        policy_in_force: Box::new(|_, _| ()),
        lease_duration: None,
    };
    let world = World { path, runs, next_runs, policies, signals, begin };
    tokio::select! {
        () = daemon.run(policy) => panic!("the daemon ended"),
        () = test(&world) => {}
    }
}

impl World {
    /// The seconds at which runs began.
    fn runs(&self) -> Vec<u64> {
        self.runs.lock().unwrap().iter().map(|at| (*at - self.begin).as_secs()).collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn every_tick_of_a_day_makes_one_run() {
    beside_daemon("0 * * * *", Duration::from_secs(2), async |world| {
        pass(86_400 + 60).await;
        let hours: Vec<u64> = (1..=24).map(|hour| hour * 3_600).collect();
        assert_eq!(world.runs(), hours);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_run_gets_the_time_of_the_next_one() {
    beside_daemon("0 * * * *", Duration::from_secs(2), async |world| {
        pass(3 * 3_600 + 60).await;
        let due = |hour: u64| Some(midnight() + Duration::from_secs(hour * 3_600));
        assert_eq!(*world.next_runs.lock().unwrap(), [due(2), due(3), due(4)]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_an_alarm_a_run_is_at_most_half_a_minute_late() {
    let policy = policy_text("first", "0 * * * *");
    beside_daemon_with(&policy, Duration::from_secs(2), Mute, WriteGate::default(), async |world| {
        pass(3 * 3_600 + 60).await;
        let late: Vec<u64> = (1..).zip(world.runs()).map(|(hour, at)| at - hour * 3_600).collect();
        assert!(late.len() == 3 && late.iter().all(|late| *late <= 30), "{late:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ticks_during_a_run_make_one_more_run_after_it() {
    beside_daemon("*/10 * * * *", Duration::from_secs(35 * 60), async |world| {
        pass(600 + 2 * 35 * 60 + 1).await;
        assert_eq!(world.runs(), [600, 600 + 35 * 60, 600 + 70 * 60]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ten_sighups_during_a_run_make_one_more_run_after_it() {
    beside_daemon("0 0 1 1 *", Duration::from_secs(60), async |world| {
        world.signals.hang_up.notify_one();
        pass(1).await;
        for _ in 0..10 {
            world.signals.hang_up.notify_one();
            pass(1).await;
        }
        pass(600).await;
        assert_eq!(world.runs(), [0, 60]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_policy_takes_effect_also_if_runs_are_always_due() {
    beside_daemon("* * * * *", Duration::from_secs(90), async |world| {
        pass(100).await;
        fs::write(&world.path, policy_text("second", "* * * * *")).unwrap();
        pass(200).await;
        assert_eq!(*world.policies.lock().unwrap(), ["first", "second"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_with_problems_changes_nothing_and_starts_no_run() {
    beside_daemon("0 0 1 1 *", Duration::from_secs(1), async |world| {
        pass(10).await;
        fs::write(&world.path, "projects: []").unwrap();
        pass(120).await;
        assert_eq!((world.policies.lock().unwrap().len(), world.runs().len()), (1, 0));
        fs::write(&world.path, policy_text("third", "0 0 1 1 *")).unwrap();
        pass(120).await;
        assert_eq!((world.policies.lock().unwrap().len(), world.runs().len()), (2, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_file_that_is_missing_briefly_is_no_change() {
    beside_daemon("0 0 1 1 *", Duration::from_secs(1), async |world| {
        pass(10).await;
        fs::remove_file(&world.path).unwrap();
        pass(120).await;
        fs::write(&world.path, policy_text("first", "0 0 1 1 *")).unwrap();
        pass(120).await;
        assert_eq!((world.policies.lock().unwrap().len(), world.runs().len()), (1, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_file_that_stays_missing_fails_the_reload_until_it_returns() {
    beside_daemon("0 0 1 1 *", Duration::from_secs(1), async |world| {
        pass(10).await;
        fs::remove_file(&world.path).unwrap();
        pass(600).await;
        assert_eq!((world.policies.lock().unwrap().len(), world.runs().len()), (1, 0));
        fs::write(&world.path, policy_text("first", "0 0 1 1 *")).unwrap();
        pass(120).await;
        // The same content as before, and read again: the file was missing in between.
        assert_eq!((world.policies.lock().unwrap().len(), world.runs().len()), (2, 1));
    })
    .await;
}

/// Runs a daemon with this `run_on_start` and a gate that opens after ten minutes; returns the seconds of the runs
/// within the hour.
async fn runs_after_a_takeover(run_on_start: bool) -> Vec<u64> {
    let policy =
        policy_text("first", "0 * * * *").replace("run_on_start: false", &format!("run_on_start: {run_on_start}"));
    let begin = Instant::now();
    let (handle, gate) = WriteGate::closed(BootClock::from_fn(move || begin.elapsed()));
    let mut runs = Vec::new();
    beside_daemon_with(&policy, Duration::from_secs(2), PausedAlarm::default(), gate, async |world| {
        pass(600).await;
        handle.open_until(Duration::from_secs(600 + 60));
        // Losing and regaining the lease without a run in between starts none.
        pass(120).await;
        handle.open_until(Duration::from_secs(86_400));
        pass(3_000).await;
        runs = world.runs();
    })
    .await;
    runs
}

#[tokio::test(start_paused = true)]
async fn a_standby_reads_and_runs_at_once_after_a_takeover() {
    assert_eq!(runs_after_a_takeover(true).await, [0, 600, 3_600]);
}

#[tokio::test(start_paused = true)]
async fn without_run_on_start_a_replica_waits_for_its_schedule_after_a_takeover() {
    assert_eq!(runs_after_a_takeover(false).await, [3_600]);
}
