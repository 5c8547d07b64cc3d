//! The order of a run, against a cloud of several keys that keeps a journal. Time is paused, so waits cost nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::kms::observe::Operation;
use crate::kms::{Error, ErrorKind, Listed};
use crate::policy::types::Credentials;
use crate::rotation::decide::{Reasons, Status};
use crate::rotation::key::{
    DesiredRotation, KeyDescription, KeyId, KeyState, ListedKey, Rotation, RotationBlocker, RotationInterval, Tag,
};
use crate::rotation::project::{Cloud, CloudAccess, Coverage, Proof, ProofRule};
use crate::rotation::report::KeyReport;
use crate::rotation::rule::{Matcher, Requirement, Rule, Selector};
use crate::support::clock::BootClock;
use crate::yaml::Position;

fn id(number: usize) -> KeyId {
    format!("0d0466b0-e727-4d9c-b35d-{number:012}").parse().unwrap()
}

fn number(key_id: KeyId) -> usize {
    key_id.as_str()[24..].parse().unwrap()
}

/// How the setting of a key is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Answers {
    #[default]
    Setting,
    Nothing,
    Fails,
    /// The credentials are refused.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
struct Key {
    /// The interval, in days; `None` if rotation is off.
    on: Option<u32>,
    answers: Answers,
    read_takes: Duration,
    /// The interval cannot be set.
    set_fails: bool,
    /// The interval is refused with a code for keys that cannot rotate.
    set_blocked: bool,
    /// After it is enabled, this many reads still show it off, and the interval is refused until then.
    lag: u32,
}

/// A cloud, and a journal of its calls: `list`, `read 1`, `enable 1`, `set 1`.
#[derive(Default)]
struct Fake {
    keys: Mutex<BTreeMap<usize, Key>>,
    journal: Mutex<Vec<String>>,
    /// The end of the journal at which the program is stopped.
    stops_at: Option<(&'static str, CancellationToken)>,
    /// Why the list may lack a key.
    doubt: Option<&'static str>,
    /// The interval that another user sets right after rotation is switched on.
    enabling_sets: Option<u32>,
}

impl Fake {
    fn of(keys: impl IntoIterator<Item = (usize, Key)>) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::new(keys.into_iter().collect()), ..Self::default() })
    }

    fn note(&self, operation: &str, key_id: KeyId) {
        let line = format!("{operation} {}", number(key_id));
        let mut journal = self.journal.lock().unwrap();
        journal.push(line);
        if let Some((at, stop)) = &self.stops_at
            && journal.join(", ").ends_with(at)
        {
            stop.cancel();
        }
    }

    /// All writes, in order.
    fn writes(&self) -> Vec<String> {
        let journal = self.journal.lock().unwrap();
        journal.iter().filter(|line| !line.starts_with("list") && !line.starts_with("read")).cloned().collect()
    }

    fn journal(&self) -> Vec<String> {
        self.journal.lock().unwrap().clone()
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Key)) {
        change(self.keys.lock().unwrap().get_mut(&number).unwrap());
    }

    fn key(&self, key_id: KeyId) -> Key {
        self.keys.lock().unwrap()[&number(key_id)]
    }

    /// A write, which is not made while the program stops unless `although_stopping`.
    fn write(&self, operation: &str, key_id: KeyId, although_stopping: bool, to: u32) -> Result<Receipt, Error> {
        let stop = self.stops_at.as_ref().map(|(_, stop)| stop);
        let kind = if operation == "enable" { Operation::EnableRotation } else { Operation::UpdateInterval };
        if stop.is_some_and(CancellationToken::is_cancelled) && !although_stopping {
            return Err(Error::new(kind, ErrorKind::Stopped, "stopping"));
        }
        self.note(operation, key_id);
        if operation == "set" && self.key(key_id).set_fails {
            return Err(Error::new(kind, ErrorKind::Transient, "HTTP 500"));
        }
        if operation == "set" && self.key(key_id).set_blocked {
            return Err(Error::new(kind, ErrorKind::Blocked(RotationBlocker::RotationUnsupported), "KMS.0319"));
        }
        if operation == "set" && self.key(key_id).lag > 0 {
            return Err(Error::new(kind, ErrorKind::NotOn, "KMS.0313"));
        }
        let to = if operation == "enable" { self.enabling_sets.unwrap_or(to) } else { to };
        let is_on = self.key(key_id).on.is_some();
        match operation {
            "enable" if is_on => return Err(Error::new(kind, ErrorKind::AlreadyOn, "on")),
            "set" if !is_on => return Err(Error::new(kind, ErrorKind::NotOn, "off")),
            _ => self.change(number(key_id), |key| key.on = Some(to)),
        }
        Ok(Receipt::default())
    }
}

impl Kms for Fake {
    fn access(&self) -> CloudAccess {
        CloudAccess::default()
    }

    fn begin_run(&self, _: RunStart) {}

    fn cloud_time(&self) -> SystemTime {
        SystemTime::now()
    }

    async fn read_status(&self, key_id: KeyId, _: SendMode) -> Result<Rotation, Error> {
        if self.stops_at.as_ref().is_some_and(|(_, stop)| stop.is_cancelled()) {
            return Err(Error::new(Operation::ReadStatus, ErrorKind::Stopped, "stopping"));
        }
        let Key { mut on, answers, read_takes, lag, .. } = self.key(key_id);
        tokio::time::sleep(read_takes).await;
        self.note("read", key_id);
        if on.is_some() && lag > 0 {
            self.change(number(key_id), |key| key.lag -= 1);
            on = None;
        }
        match answers {
            Answers::Setting => {
                Ok(Rotation { enabled: on.is_some(), interval_days: on, last_rotated: None, rotations: None })
            }
            Answers::Nothing => Err(Error::new(Operation::ReadStatus, ErrorKind::NotOffered, "HTTP 404")),
            Answers::Refused => {
                Err(Error::new(Operation::ReadStatus, ErrorKind::Credentials, "HTTP 401 token refused"))
            }
            Answers::Fails => Err(Error::new(Operation::ReadStatus, ErrorKind::Transient, "HTTP 502")),
        }
    }

    async fn describe(&self, _: KeyId, _: SendMode) -> Result<KeyDescription, Error> {
        Ok(KeyDescription::default())
    }

    async fn list_keys(&self) -> Result<Listed<ListedKey>, Error> {
        self.journal.lock().unwrap().push("list".to_owned());
        // Not in the order that a run must have.
        let keys = self.keys.lock().unwrap();
        let items = keys.keys().rev().map(|number| ListedKey {
            key_id: id(*number),
            description: KeyDescription {
                alias: Some(format!("key-{number}").into()),
                blocker: None,
                state: Some(KeyState::Enabled),
                created: Some(SystemTime::now()),
            },
            key_spec: Some("AES_256".into()),
            enterprise_project_id: None,
            tags: Vec::new(),
        });
        Ok(Listed { items: items.collect(), doubt: self.doubt.map(Into::into) })
    }

    async fn tagged(&self, _: &str, _: Option<&[&str]>) -> Result<Listed<(KeyId, Tag)>, Error> {
        Ok(Listed { items: Vec::new(), doubt: None })
    }

    fn enable_rotation(&self, key_id: KeyId) -> impl WriteOperation {
        FakeWrite { cloud: self, operation: "enable", key_id, to: 365, although_stopping: false }
    }

    fn update_interval(&self, key_id: KeyId, interval: RotationInterval, mode: SendMode) -> impl WriteOperation {
        let although_stopping = mode == SendMode::AtExit;
        FakeWrite { cloud: self, operation: "set", key_id, to: interval.days().into(), although_stopping }
    }
}

/// A write whose end is always clear.
struct FakeWrite<'f> {
    cloud: &'f Fake,
    operation: &'static str,
    key_id: KeyId,
    to: u32,
    although_stopping: bool,
}

impl WriteOperation for FakeWrite<'_> {
    async fn send(&mut self) -> Result<Receipt, Error> {
        self.cloud.write(self.operation, self.key_id, self.although_stopping, self.to)
    }

    fn next_wait(&mut self) -> Option<Duration> {
        None
    }

    fn found_applied(self) {}
}

fn off() -> Key {
    Key::default()
}

fn on(days: u32) -> Key {
    Key { on: Some(days), ..Key::default() }
}

/// A project whose policy requires a rotation every 90 days; or more often, where `at_most`.
fn target(name: &str, kms: &Arc<Fake>, at_most: bool) -> Target<Fake> {
    let mut desired = DesiredRotation::exactly(RotationInterval::from_days(90).unwrap());
    if at_most {
        desired.bound = crate::rotation::key::Bound::Longest;
    }
    let rule = Rule {
        matcher: Matcher::Select(Box::<Selector>::default()),
        requirement: Requirement::Rotation(desired),
        line: 1,
    };
    let project = Project {
        name: name.into(),
        cloud: Cloud::HuaweiCloud,
        region: "cn-north-4".into(),
        project_id: None,
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
        keys: vec![rule],
    };
    Target { project, kms: Ok(Arc::clone(kms)), concurrency: 4 }
}

fn reconciler() -> Reconciler {
    Reconciler {
        clock: Clock::system(),
        stop: CancellationToken::new(),
        gate: WriteGate::default(),
        memory: Memory::default(),
        progress: Arc::default(),
        recorder: None,
    }
}

fn request(intent: Intent, max_changes_per_run: usize) -> RunRequest {
    let guards = Guards { max_changes_per_run, flap_repairs: 100, flap_window: Duration::from_secs(86_400) };
    RunRequest { trigger: Trigger::Schedule, intent, guards, next_run: None, gap_after: None }
}

async fn run(reconciler: &Reconciler, targets: &[Target<Fake>], most: usize) -> Report {
    Arc::unwrap_or_clone(reconciler.run(targets, request(Intent::Apply, most)).await)
}

/// Each key's number, status and reasons.
fn shown(report: &Report) -> Vec<String> {
    let line = |key: &KeyReport| {
        let number = key.subject.key_id().map(number).unwrap_or_default();
        format!("{number} {} {}", key.status, key.reasons).trim_end().to_owned()
    };
    report.keys().map(|(_, key)| line(key)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_key_is_read_before_the_first_is_written() {
    let cloud = Fake::of((1..=20).map(|number| (number, if number % 3 == 0 { off() } else { on(90) })));
    cloud.change(20, |key| key.read_takes = Duration::from_secs(30));
    let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert!(report.is_success());
    let journal = cloud.journal();
    let first_write = journal.iter().position(|line| line.starts_with("enable")).unwrap();
    let reads = journal[..first_write].iter().filter(|line| line.starts_with("read")).count();
    assert_eq!((&*journal[0], reads), ("list", 20), "{journal:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limited_run_changes_the_first_keys_whatever_the_order_of_list_and_answers() {
    let cloud = Fake::of((1..=6).map(|number| (number, off())));
    cloud.change(1, |key| key.read_takes = Duration::from_secs(5));
    let targets = [target("p", &cloud, false)];
    let plan = reconciler().run(&targets, request(Intent::Plan, 2)).await;
    let planned: Vec<_> = plan.keys().map(|(_, key)| !key.planned.is_empty()).collect();
    assert_eq!(planned, [true, true, false, false, false, false]);
    let report = run(&reconciler(), &targets, 2).await;
    assert_eq!(shown(&report)[..3], ["1 compliant", "2 compliant", "3 non_compliant rotation_disabled, change_limit"]);
    assert!(cloud.writes().iter().all(|write| write.ends_with(" 1") || write.ends_with(" 2")), "{:?}", cloud.writes());
}

#[tokio::test(start_paused = true)]
async fn a_limited_run_serves_projects_in_the_order_of_the_policy() {
    let (slow, quick) = (Fake::of([(1, off()), (2, off())]), Fake::of([(3, off()), (4, off())]));
    slow.change(2, |key| key.read_takes = Duration::from_secs(20));
    run(&reconciler(), &[target("a", &slow, false), target("b", &quick, false)], 3).await;
    let enabled = |cloud: &Fake| cloud.writes().iter().filter(|line| line.starts_with("enable")).cloned().collect();
    let (of_slow, of_quick): (Vec<String>, Vec<String>) = (enabled(&slow), enabled(&quick));
    assert_eq!((of_slow.len(), &of_quick[..]), (2, &["enable 3".to_owned()][..]));
}

#[tokio::test(start_paused = true)]
async fn a_project_waits_for_no_other_where_the_limit_needs_no_sharing() {
    let listed = |target: Target<Fake>| {
        let mut target = target;
        target.project.keys[0].matcher = Matcher::Key(id(1));
        target
    };
    for (first_is_listed, most) in [(true, 3), (false, usize::MAX)] {
        let (slow, quick) = (Fake::of([(1, on(90))]), Fake::of([(3, off())]));
        slow.change(1, |key| key.read_takes = Duration::from_secs(50));
        let first = target("a", &slow, false);
        let targets = [if first_is_listed { listed(first) } else { first }, target("b", &quick, false)];
        let reconciler = reconciler();
        let while_the_first_is_read = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            quick.writes()
        };
        let (_, writes) = tokio::join!(run(&reconciler, &targets, most), while_the_first_is_read);
        assert_eq!(writes, ["enable 3", "set 3"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reading_older_than_a_minute_is_repeated_before_a_write() {
    for (takes, reads) in [(59, 1), (61, 2)] {
        let cloud = Fake::of([(1, off()), (2, on(90))]);
        cloud.change(2, |key| key.read_takes = Duration::from_secs(takes));
        run(&reconciler(), &[target("p", &cloud, false)], 50).await;
        let journal = cloud.journal();
        let first_write = journal.iter().position(|line| line == "enable 1").unwrap();
        let before = journal[..first_write].iter().filter(|line| *line == "read 1").count();
        assert_eq!(before, reads, "{journal:?}");
    }
    // The second reading decides.
    let cloud = Fake::of([(1, off()), (2, on(90))]);
    cloud.change(2, |key| key.read_takes = Duration::from_secs(90));
    let (reconciler, targets) = (reconciler(), [target("p", &cloud, false)]);
    let operator = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        cloud.change(1, |key| key.on = Some(90));
    };
    tokio::join!(run(&reconciler, &targets, 50), operator);
    assert_eq!(cloud.writes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_project_shows_no_settings_only_where_every_reading_says_so_and_none_ever_did() {
    for other in [on(90), Key { answers: Answers::Fails, ..on(90) }] {
        let cloud = Fake::of([(1, nothing(off())), (2, other)]);
        let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
        assert_eq!(shown(&report)[0], "1 unknown read_failed");
        let error = report.projects[0].keys[0].error().unwrap();
        assert!(error.contains("HTTP 404"), "{error}");
        assert_eq!(cloud.writes(), Vec::<String>::new());
    }
    let cloud = Fake::of([(1, nothing(off())), (2, nothing(on(30)))]);
    let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert_eq!(shown(&report), ["1 unknown status_unreadable", "2 unknown status_unreadable"]);
    let mut writes = cloud.writes();
    writes.sort();
    assert_eq!(writes, ["enable 1", "enable 2", "set 1", "set 2"]);
    // In a process that has read one key of it, never again.
    let cloud = Fake::of([(1, on(90))]);
    let (reconciler, targets) = (reconciler(), [target("p", &cloud, false)]);
    run(&reconciler, &targets, 50).await;
    cloud.change(1, |key| *key = nothing(off()));
    for _ in 0..3 {
        assert_eq!(shown(&run(&reconciler, &targets, 50).await), ["1 unknown read_failed"]);
    }
    assert_eq!(cloud.writes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn one_odd_answer_does_not_make_a_region_one_without_rotation() {
    let swiss = |cloud: &Arc<Fake>| {
        let mut target = target("p", cloud, false);
        (target.project.cloud, target.project.region) = (Cloud::OpenTelekomCloud, "eu-ch2".into());
        [target]
    };
    let cloud = Fake::of([(1, nothing(off())), (2, on(90))]);
    let report = run(&reconciler(), &swiss(&cloud), 50).await;
    assert_eq!(shown(&report), ["1 unknown read_failed", "2 compliant"]);
    let cloud = Fake::of([(1, nothing(off())), (2, nothing(off()))]);
    let report = run(&reconciler(), &swiss(&cloud), 50).await;
    assert_eq!(shown(&report), ["1 exempt rotation_unsupported", "2 exempt rotation_unsupported"]);
    assert_eq!(cloud.writes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_stop_after_enabling_waits_for_the_interval_and_for_nothing_else() {
    for (answers, at_most) in [(Answers::Setting, false), (Answers::Nothing, false), (Answers::Nothing, true)] {
        let stop = CancellationToken::new();
        let keys = (1..=3).map(|number| (number, Key { answers, ..off() })).collect();
        let cloud = Fake { keys: Mutex::new(keys), stops_at: Some(("enable 1", stop.clone())), ..Fake::default() };
        let cloud = Arc::new(cloud);
        let reconciler = Reconciler { stop, ..reconciler() };
        let mut target = target("p", &cloud, at_most);
        target.concurrency = 1;
        let report = run(&reconciler, &[target], 50).await;
        assert_eq!(cloud.writes(), ["enable 1", "set 1"], "{answers:?}");
        assert_eq!(cloud.key(id(1)).on, Some(90));
        assert!(report.interrupted);
        assert_eq!(report.projects[0].changes(), 2);
    }
}

fn nothing(key: Key) -> Key {
    Key { answers: Answers::Nothing, ..key }
}

#[tokio::test(start_paused = true)]
async fn an_interval_that_an_earlier_run_could_not_send_is_sent_before_the_process_ends() {
    for during_a_run in [true, false] {
        let cloud = Fake::of([(1, Key { set_fails: true, ..nothing(off()) })]);
        let (reconciler, targets) = (reconciler(), [target("p", &cloud, true)]);
        run(&reconciler, &targets, 50).await;
        assert_eq!(cloud.writes(), ["enable 1", "set 1"]);
        cloud.change(1, |key| key.set_fails = false);
        reconciler.stop.cancel();
        if during_a_run {
            run(&reconciler, &targets, 50).await;
        }
        // The daemon does this after its last run.
        reconciler.send_due_intervals(&targets).await;
        assert_eq!(cloud.key(id(1)).on, Some(90), "during a run: {during_a_run}");
        assert_eq!(cloud.writes(), ["enable 1", "set 1", "set 1"], "during a run: {during_a_run}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_that_cannot_be_set_at_the_stop_is_sent_once_and_stays_due() {
    for during_a_run in [true, false] {
        let cloud = Fake::of([(1, Key { set_fails: true, ..nothing(off()) })]);
        let (reconciler, targets) = (reconciler(), [target("p", &cloud, true)]);
        run(&reconciler, &targets, 50).await;
        reconciler.stop.cancel();
        if during_a_run {
            run(&reconciler, &targets, 50).await;
        }
        reconciler.send_due_intervals(&targets).await;
        assert_eq!(cloud.writes(), ["enable 1", "set 1", "set 1"], "during a run: {during_a_run}");
        // For the process that continues from the evidence log.
        let due = reconciler.memory.past("p", id(1)).interval_due;
        assert_eq!(due, RotationInterval::from_days(90), "during a run: {during_a_run}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_interval_is_sent_at_the_stop_to_a_key_that_is_off_or_refuses_writes() {
    let stops_at_second_reading = |key| {
        let reconciler = reconciler();
        let stops_at = Some(("set 1, list, read 1", reconciler.stop.clone()));
        (Arc::new(Fake { keys: Mutex::new([(1, key)].into()), stops_at, ..Fake::default() }), reconciler)
    };
    let (cloud, reconciler) = stops_at_second_reading(Key { set_fails: true, ..nothing(off()) });
    run(&reconciler, &[target("p", &cloud, true)], 50).await;
    cloud.change(1, |key| *key = off());
    run(&reconciler, &[target("p", &cloud, true)], 50).await;
    assert_eq!(cloud.writes(), ["enable 1", "set 1"], "it is off");

    let (cloud, reconciler) = stops_at_second_reading(Key { set_blocked: true, ..nothing(off()) });
    run(&reconciler, &[target("p", &cloud, true)], 50).await;
    run(&reconciler, &[target("p", &cloud, true)], 50).await;
    assert!(reconciler.stop.is_cancelled());
    assert_eq!(cloud.writes(), ["enable 1", "set 1"], "it refuses writes");
}

#[tokio::test(start_paused = true)]
async fn a_full_repair_takes_four_calls_and_one_that_stops_half_way_shows_the_interval_of_enabling() {
    let cloud = Fake::of([(1, off())]);
    let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert_eq!(cloud.journal(), ["list", "read 1", "enable 1", "set 1", "read 1"]);
    assert_eq!(shown(&report), ["1 compliant"]);

    let cloud = Fake::of([(1, Key { set_fails: true, ..off() })]);
    let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert_eq!(cloud.journal(), ["list", "read 1", "enable 1", "set 1", "read 1"]);
    assert_eq!(shown(&report), ["1 non_compliant interval_mismatch, write_failed"]);
    assert_eq!(report.projects[0].keys[0].rotation.unwrap().interval_days, Some(365));
}

#[tokio::test(start_paused = true)]
async fn an_accepted_enabling_is_not_sent_again_while_the_cloud_does_not_show_it() {
    for lag in 1..=4 {
        let cloud = Fake::of([(1, Key { lag, ..off() })]);
        // The first reading finds it off, whatever the lag is.
        let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
        assert_eq!(shown(&report), ["1 compliant"], "{lag}");
        assert_eq!(cloud.writes(), ["enable 1", "set 1", "set 1"], "{lag}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_that_is_refused_after_enabling_leaves_no_key_exempt_at_365_days() {
    let cloud = Fake::of([(1, Key { set_blocked: true, ..off() })]);
    let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert_eq!(shown(&report), ["1 non_compliant interval_mismatch, write_failed"]);
    // Without an enabling before it, it is what the code says.
    let cloud = Fake::of([(1, Key { set_blocked: true, ..on(365) })]);
    let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert_eq!(shown(&report), ["1 exempt rotation_unsupported"]);
}

#[tokio::test(start_paused = true)]
async fn a_standby_does_not_blame_the_cloud_for_what_the_lease_holder_writes() {
    let cloud = Fake::of([(1, on(90))]);
    for (open, is_watched) in [(true, true), (false, false)] {
        let (handle, gate) = WriteGate::closed(BootClock::from_fn(|| Duration::ZERO));
        if open {
            handle.open_until(Duration::from_secs(1));
        }
        let reconciler = Reconciler { gate, ..reconciler() };
        run(&reconciler, &[target("p", &cloud, false)], 50).await;
        let history = reconciler.memory.recall("p", id(1)).history;
        assert_eq!(history.material().undisturbed_since.is_some(), is_watched);
    }
}

#[test]
fn an_optional_call_is_made_once_a_day_also_after_the_clock_was_set_back() {
    let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
    let mut known = super::memory::Remembered::default();
    assert!(known.is_optional_call_due(now));
    known.optional_call_made(now);
    assert!(!known.is_optional_call_due(now + day / 2));
    assert!(known.is_optional_call_due(now + day));
    assert!(known.is_optional_call_due(now - day));
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_nothing_to_a_key_that_is_on_policy_by_then() {
    let stop = CancellationToken::new();
    let stops_at = Some(("enable 1, read 1", stop.clone()));
    let keys = Mutex::new([(1, off())].into());
    let cloud = Arc::new(Fake { keys, stops_at, enabling_sets: Some(60), ..Fake::default() });
    // Another replica becomes active as soon as rotation is on, so that the key is read before the interval is sent.
    let is_on = Arc::clone(&cloud);
    let clock = BootClock::from_fn(move || Duration::from_secs(is_on.key(id(1)).on.map_or(0, u64::from)));
    let (handle, gate) = WriteGate::closed(clock);
    handle.open_until(Duration::from_secs(1));
    run(&Reconciler { stop, gate, ..reconciler() }, &[target("p", &cloud, true)], 50).await;
    assert_eq!((cloud.writes(), cloud.key(id(1)).on), (vec!["enable 1".to_owned()], Some(60)));
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_our_own_that_is_too_long_by_now_is_shortened() {
    let cloud = Fake::of([(1, nothing(off()))]);
    let (reconciler, mut first) = (reconciler(), target("p", &cloud, false));
    first.project.keys[0].requirement =
        Requirement::Rotation(DesiredRotation::exactly(RotationInterval::AFTER_ENABLING));
    run(&reconciler, &[first], 50).await;
    run(&reconciler, &[target("p", &cloud, true)], 50).await;
    assert_eq!(cloud.key(id(1)).on, Some(90));
}

#[tokio::test(start_paused = true)]
async fn a_renamed_project_is_the_same_where_its_id_is() {
    let cloud = Fake::of([(1, on(90))]);
    let named = |name: &str, id: Option<&str>| {
        let mut target = target(name, &cloud, false);
        target.project.project_id = id.map(str::to_owned);
        [target]
    };
    let (reconciler, project) = (reconciler(), Some("0123456789abcdef0123456789abcdef"));
    run(&reconciler, &named("p", project), 50).await;
    cloud.change(1, |key| *key = nothing(off()));
    assert_eq!(shown(&run(&reconciler, &named("renamed", project), 50).await), ["1 unknown read_failed"]);
    assert_eq!(cloud.writes(), Vec::<String>::new());
    // Without an id it may be any other.
    run(&reconciler, &named("other", None), 50).await;
    assert_eq!(cloud.writes(), ["enable 1", "set 1"]);
    // It was away for a while.
    assert_eq!(shown(&run(&reconciler, &named("p", project), 50).await), ["1 unknown read_failed"]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_stays_due_although_a_list_lacks_the_key_for_once_or_the_project_is_renamed() {
    for renamed in [false, true] {
        let cloud = Fake::of([(1, Key { set_fails: true, ..nothing(off()) }), (2, nothing(on(30)))]);
        let named = |name: &str| {
            let mut target = target(name, &cloud, true);
            target.project.project_id = Some("0123456789abcdef0123456789abcdef".to_owned());
            [target]
        };
        let reconciler = reconciler();
        run(&reconciler, &named("p"), 50).await;
        cloud.change(1, |key| key.set_fails = false);
        let gone = cloud.keys.lock().unwrap().remove(&1).unwrap();
        run(&reconciler, &named("p"), 50).await;
        cloud.keys.lock().unwrap().insert(1, gone);
        run(&reconciler, &named(if renamed { "renamed" } else { "p" }), 50).await;
        assert_eq!(cloud.key(id(1)).on, Some(90));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_written_to_and_keys_that_are_on_keep_no_other_from_its_turn() {
    // The first one's interval is refused in every run; it is in this project or in one before it.
    let fails = || Key { set_fails: true, ..on(365) };
    let cloud = Fake::of([(1, fails()), (2, off())]);
    let (first, second) = (Fake::of([(1, fails())]), Fake::of([(2, off())]));
    for (targets, last) in [
        (vec![target("p", &cloud, false)], &cloud),
        (vec![target("a", &first, false), target("b", &second, false)], &second),
    ] {
        let reconciler = reconciler();
        for _ in 0..2 {
            run(&reconciler, &targets, 1).await;
        }
        assert_eq!(last.key(id(2)).on, Some(90));
    }
    // The setting cannot be read, and the first one is on.
    let cloud = Fake::of([(1, nothing(on(30))), (2, nothing(off())), (3, nothing(off()))]);
    let (reconciler, targets) = (reconciler(), [target("p", &cloud, true)]);
    for _ in 0..3 {
        run(&reconciler, &targets, 1).await;
    }
    assert_eq!([1, 2, 3].map(|number| cloud.key(id(number)).on), [Some(30), Some(90), Some(90)]);
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_for_keys_that_were_on_policy_when_the_run_was_planned() {
    let slow = Key { read_takes: Duration::from_secs(90), ..on(90) };
    let cloud = Fake::of([(1, on(90)), (2, on(90)), (3, on(90)), (4, slow)]);
    let mut always = target("p", &cloud, false);
    let desired = DesiredRotation::exactly(RotationInterval::from_days(90).unwrap());
    always.project.keys[0].requirement =
        Requirement::Rotation(DesiredRotation { reapply: crate::rotation::key::Reapply::Always, ..desired });
    let operator = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        (1..=3).for_each(|number| cloud.change(number, |key| key.on = None));
    };
    let (reconciler, targets) = (reconciler(), [always]);
    let (report, ()) = tokio::join!(run(&reconciler, &targets, 1), operator);
    assert_eq!(cloud.writes(), ["set 4"]);
    assert_eq!(shown(&report)[0], "1 non_compliant rotation_disabled");
    // The setting cannot be read, and all are switched off after they were set.
    let cloud = Fake::of((1..=3).map(|number| (number, nothing(on(30)))));
    let mut target = target("p", &cloud, false);
    target.concurrency = 1;
    let targets = [target];
    let reconciler = self::reconciler();
    for _ in 0..3 {
        run(&reconciler, &targets, 1).await;
    }
    (1..=3).for_each(|number| cloud.change(number, |key| key.on = None));
    run(&reconciler, &targets, 1).await;
    assert_eq!([1, 2, 3].map(|number| cloud.key(id(number)).on), [Some(90), None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_report_has_both_why_the_run_ended_and_what_is_wrong_with_the_list() {
    let keys = Mutex::new([(1, Key { answers: Answers::Refused, ..on(90) })].into());
    let cloud = Arc::new(Fake { keys, doubt: Some("the cloud counts 500 keys and lists 1"), ..Fake::default() });
    let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    let failure = report.projects[0].failure.as_deref().unwrap();
    assert_eq!(failure, "read_status: HTTP 401 token refused; list of keys: the cloud counts 500 keys and lists 1");
}

#[tokio::test(start_paused = true)]
async fn the_progress_reaches_all_keys() {
    let cloud = Fake::of((1..=5).map(|number| (number, if number % 2 == 0 { on(90) } else { off() })));
    let reconciler = reconciler();
    run(&reconciler, &[target("p", &cloud, false)], 1).await;
    assert_eq!((reconciler.progress.found(), reconciler.progress.done()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn an_interval_that_may_be_longer_than_allowed_and_is_not_sent_is_said_to_be_unproven() {
    // Another process has switched it on, and did not come to the interval.
    let cloud = Fake::of([(1, Key { answers: Answers::Nothing, ..on(365) })]);
    let report = run(&reconciler(), &[target("p", &cloud, true)], 50).await;
    assert_eq!(cloud.writes(), ["enable 1"]);
    let error = report.projects[0].keys[0].error().unwrap();
    assert!(error.contains("HTTP 404; its interval is not proven and may be up to 365 days"), "{error}");
    assert!(error.contains("`rotation_interval: 90`"), "{error}");
    // What this process has set is not in doubt.
    let cloud = Fake::of([(1, Key { answers: Answers::Nothing, ..off() })]);
    let report = run(&reconciler(), &[target("p", &cloud, true)], 50).await;
    assert_eq!(cloud.writes(), ["enable 1", "set 1"]);
    assert!(!report.projects[0].keys[0].error().unwrap().contains("not proven"));
}

#[tokio::test(start_paused = true)]
async fn a_run_fails_for_what_a_run_can_mend_and_with_required_proof_for_material() {
    use Reason::{
        AccessDenied, ChangeLimit, Flapping, IntervalMismatch, IntervalTooLong, KeyDisabled, MaterialTooOld,
        NotVerified, PendingDeletion, RotationDisabled, RotationOverdue, RotationUnproven, Throttled, WriteFailed,
    };
    let cloud = Fake::of([(1, on(90))]);
    let mut report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert!(report.is_success() && report.is_on_policy());
    // Whether the run is a success with `proof: reported`, and with `proof: required`.
    let (always, unless_required, never) = ([true, true], [true, false], [false, false]);
    let cases: &[(&[Reason], [bool; 2])] = &[
        (&[KeyDisabled], always),
        (&[PendingDeletion], always),
        (&[KeyDisabled, RotationUnproven], always),
        // Otherwise every run would fail until the key is enabled.
        (&[KeyDisabled, MaterialTooOld], always),
        (&[PendingDeletion, MaterialTooOld, RotationOverdue], always),
        (&[RotationOverdue], unless_required),
        (&[MaterialTooOld], unless_required),
        (&[MaterialTooOld, RotationUnproven], unless_required),
        (&[RotationDisabled], never),
        (&[IntervalMismatch], never),
        (&[IntervalTooLong], never),
        (&[IntervalMismatch, MaterialTooOld], never),
        (&[RotationDisabled, Flapping], never),
        (&[RotationDisabled, ChangeLimit], never),
        (&[RotationDisabled, AccessDenied], never),
        (&[RotationDisabled, NotVerified], never),
        (&[IntervalMismatch, Throttled], never),
        (&[IntervalMismatch, WriteFailed], never),
    ];
    for (reasons, success) in cases {
        for (proof, success) in [Proof::Reported, Proof::Required].into_iter().zip(success) {
            report.projects[0].proof = proof;
            let key = &mut report.projects[0].keys[0];
            key.status = Status::NonCompliant;
            key.reasons = reasons.iter().fold(Reasons::NONE, |set, reason| set.with(*reason));
            assert_eq!((report.is_success(), report.is_on_policy()), (*success, false), "{proof:?}: {reasons:?}");
        }
    }
    // A key that was not read fails the run, whatever the reason.
    for reason in [Reason::StatusUnreadable, Reason::NotFound, Reason::LoginUnavailable, Reason::ReadFailed] {
        let key = &mut report.projects[0].keys[0];
        (key.status, key.reasons) = (Status::Unknown, reason.into());
        assert!(!report.is_success(), "{reason}");
    }
    for (coverage, success) in [(Coverage::Reported, true), (Coverage::Required, false)] {
        report.projects[0].coverage = coverage;
        let key = &mut report.projects[0].keys[0];
        (key.status, key.reasons) = (Status::Uncovered, Reason::Uncovered.into());
        assert_eq!(report.is_success(), success, "{coverage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_projects_and_keys_that_are_gone_is_forgotten() {
    let reconciler = reconciler();
    let cloud = Fake::of((1..=50).map(|number| (number, off())));
    for renamed in 0..300 {
        run(&reconciler, &[target(&format!("p{renamed}"), &cloud, false)], 50).await;
        assert_eq!(reconciler.memory.size(), (1, 50));
    }
    // Of keys that a complete list lacks nothing is kept.
    let targets = [target("p299", &cloud, false)];
    cloud.keys.lock().unwrap().remove(&1);
    run(&reconciler, &targets, 50).await;
    assert_eq!(reconciler.memory.size(), (1, 49));
}
