//! The order of a run, against a cloud of several keys that keeps a journal. Time is paused: what waits costs nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::kms::observe::Operation;
use crate::kms::{Backoff, Listed, Receipt, RetryPolicy, Settled};
use crate::policy::types::{Credentials, Place};
use crate::rotation::decide::Status;
use crate::rotation::key::{DesiredRotation, KeyDescription, KeyId, ListedKey, Rotation, RotationInterval, Tag};
use crate::rotation::project::{Cloud, Coverage};
use crate::rotation::report::KeyReport;
use crate::rotation::rule::{Asks, Names, Rule, Selector};

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
}

#[derive(Clone, Debug, Default)]
struct Key {
    /// The interval; nothing where rotation is off.
    on: Option<u32>,
    answers: Answers,
    read_takes: Duration,
}

/// A cloud, and what was asked of it: `list`, `read 1`, `enable 1`, `set 1`.
#[derive(Default)]
struct Fake {
    keys: Mutex<BTreeMap<usize, Key>>,
    journal: Mutex<Vec<String>>,
    /// What the journal begins with when the program is told to stop.
    stops_at: Option<(&'static str, CancellationToken)>,
}

impl Fake {
    fn of(keys: impl IntoIterator<Item = (usize, Key)>) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::new(keys.into_iter().collect()), ..Self::default() })
    }

    fn note(&self, operation: &str, key_id: KeyId) -> String {
        let line = format!("{operation} {}", number(key_id));
        self.journal.lock().unwrap().push(line.clone());
        line
    }

    /// Whatever was written, in order.
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
        self.keys.lock().unwrap()[&number(key_id)].clone()
    }

    /// A call that is not made while the program stops.
    fn write(&self, operation: &str, key_id: KeyId, although_stopping: bool, to: u32) -> Result<Receipt, Error> {
        let stop = self.stops_at.as_ref().map(|(_, stop)| stop);
        let kind = if operation == "enable" { Operation::EnableRotation } else { Operation::UpdateInterval };
        if stop.is_some_and(CancellationToken::is_cancelled) && !although_stopping {
            return Err(Error::new(kind, Kind::Stopped, "stopping"));
        }
        let line = self.note(operation, key_id);
        if let Some((at, stop)) = &self.stops_at
            && line == *at
        {
            stop.cancel();
        }
        let is_on = self.key(key_id).on.is_some();
        match operation {
            "enable" if is_on => return Err(Error::new(kind, Kind::AlreadyOn, "on")),
            "set" if !is_on => return Err(Error::new(kind, Kind::NotOn, "off")),
            _ => self.change(number(key_id), |key| key.on = Some(to)),
        }
        Ok(Receipt::default())
    }
}

impl Kms for Fake {
    fn begin_run(&self) {}

    async fn read_status(&self, key_id: KeyId) -> Result<Rotation, Error> {
        if self.stops_at.as_ref().is_some_and(|(_, stop)| stop.is_cancelled()) {
            return Err(Error::new(Operation::ReadStatus, Kind::Stopped, "stopping"));
        }
        let Key { on, answers, read_takes } = self.key(key_id);
        tokio::time::sleep(read_takes).await;
        self.note("read", key_id);
        match answers {
            Answers::Setting => {
                Ok(Rotation { enabled: on.is_some(), interval_days: on, last_rotated: None, rotations: None })
            }
            Answers::Nothing => Err(Error::new(Operation::ReadStatus, Kind::NotOffered, "HTTP 404")),
            Answers::Fails => Err(Error::new(Operation::ReadStatus, Kind::Transient, "HTTP 502")),
        }
    }

    async fn describe(&self, _: KeyId) -> Result<KeyDescription, Error> {
        Ok(KeyDescription::default())
    }

    async fn list_keys(&self) -> Result<Listed<ListedKey>, Error> {
        self.journal.lock().unwrap().push("list".to_owned());
        // In no order that a run could rely on.
        let keys = self.keys.lock().unwrap();
        let items = keys.keys().rev().map(|number| ListedKey {
            key_id: id(*number),
            description: KeyDescription { alias: Some(format!("key-{number}").into()), hindrance: None },
            key_spec: Some("AES_256".into()),
            enterprise_project_id: None,
            tags: Vec::new(),
        });
        Ok(Listed { items: items.collect(), doubt: None })
    }

    async fn tagged(&self, _: &str, _: Option<&[&str]>) -> Result<Listed<(KeyId, Tag)>, Error> {
        Ok(Listed { items: Vec::new(), doubt: None })
    }

    async fn enable_rotation(&self, key_id: KeyId) -> Result<Receipt, Error> {
        self.write("enable", key_id, false, 365)
    }

    async fn update_interval(&self, key_id: KeyId, interval: RotationInterval) -> Result<Receipt, Error> {
        self.write("set", key_id, false, interval.days().into())
    }

    async fn send_owed_interval(&self, key_id: KeyId, interval: RotationInterval) -> Result<Receipt, Error> {
        self.write("set", key_id, true, interval.days().into())
    }

    fn backoff(&self, _: Operation) -> Backoff {
        let second = Duration::from_secs(1);
        Backoff::new(RetryPolicy { initial_interval: second, max_interval: second, max_elapsed: second })
    }

    fn settle(&self, _: &Error, _: Settled, _: &Backoff) {}
}

fn off() -> Key {
    Key::default()
}

fn on(days: u32) -> Key {
    Key { on: Some(days), ..Key::default() }
}

/// A project in which every key is asked to rotate every 90 days; or more often, where `at_most`.
fn target(name: &str, kms: &Arc<Fake>, at_most: bool) -> Target<Fake> {
    let mut desired = DesiredRotation::exactly(RotationInterval::from_days(90).unwrap());
    if at_most {
        desired.bound = crate::rotation::key::Bound::Longest;
    }
    let rule = Rule { names: Names::Select(Box::<Selector>::default()), asks: Asks::Rotation(desired), line: 1 };
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
        credentials_at: Place { line: 1, column: 1 },
        assume_agency: None,
        proxy: None,
        coverage: Coverage::Reported,
        keys: vec![rule],
    };
    Target { project, kms: Ok(Arc::clone(kms)), concurrency: 4 }
}

fn reconciler() -> Reconciler {
    Reconciler {
        clock: Clock::system(),
        stop: CancellationToken::new(),
        gate: Gate::default(),
        memory: Memory::default(),
        headway: Headway::default(),
    }
}

fn guards(max_changes_per_run: usize) -> Guards {
    Guards { max_changes_per_run, flap_repairs: 100, flap_window: Duration::from_secs(86_400) }
}

async fn run(reconciler: &Reconciler, targets: &[Target<Fake>], most: usize) -> Report {
    reconciler.run(targets, Trigger::Schedule, Intent::Apply, guards(most)).await
}

/// Each key's number, status and reasons.
fn said(report: &Report) -> Vec<String> {
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
    let plan = reconciler().run(&targets, Trigger::Start, Intent::Plan, guards(2)).await;
    let planned: Vec<_> = plan.keys().map(|(_, key)| !key.planned.is_empty()).collect();
    assert_eq!(planned, [true, true, false, false, false, false]);
    let report = run(&reconciler(), &targets, 2).await;
    assert_eq!(said(&report)[..3], ["1 compliant", "2 compliant", "3 non_compliant rotation_disabled, change_limit"]);
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
        target.project.keys[0].names = Names::Key(id(1));
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
    // And what it says now is what is heeded.
    let cloud = Fake::of([(1, off()), (2, on(90))]);
    cloud.change(2, |key| key.read_takes = Duration::from_secs(90));
    let (reconciler, targets) = (reconciler(), [target("p", &cloud, false)]);
    let somebody = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        cloud.change(1, |key| key.on = Some(90));
    };
    tokio::join!(run(&reconciler, &targets, 50), somebody);
    assert_eq!(cloud.writes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_project_shows_no_settings_only_where_every_reading_says_so_and_none_ever_did() {
    let nothing = |key: Key| Key { answers: Answers::Nothing, ..key };
    for other in [on(90), Key { answers: Answers::Fails, ..on(90) }] {
        let cloud = Fake::of([(1, nothing(off())), (2, other)]);
        let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
        assert_eq!(said(&report)[0], "1 unknown read_failed");
        let error = report.projects[0].keys[0].error().unwrap();
        assert!(error.contains("HTTP 404"), "{error}");
        assert_eq!(cloud.writes(), Vec::<String>::new());
    }
    let cloud = Fake::of([(1, nothing(off())), (2, nothing(on(30)))]);
    let report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert_eq!(said(&report), ["1 unknown status_unreadable", "2 unknown status_unreadable"]);
    let mut writes = cloud.writes();
    writes.sort();
    assert_eq!(writes, ["enable 1", "enable 2", "set 1", "set 2"]);
    // In a process that has read one key of it, never again.
    let cloud = Fake::of([(1, on(90))]);
    let (reconciler, targets) = (reconciler(), [target("p", &cloud, false)]);
    run(&reconciler, &targets, 50).await;
    cloud.change(1, |key| *key = nothing(off()));
    for _ in 0..3 {
        assert_eq!(said(&run(&reconciler, &targets, 50).await), ["1 unknown read_failed"]);
    }
    assert_eq!(cloud.writes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_region_without_rotation_is_not_told_by_one_odd_answer() {
    let nothing = || Key { answers: Answers::Nothing, ..off() };
    let swiss = |cloud: &Arc<Fake>| {
        let mut target = target("p", cloud, false);
        (target.project.cloud, target.project.region) = (Cloud::OpenTelekomCloud, "eu-ch2".into());
        [target]
    };
    let cloud = Fake::of([(1, nothing()), (2, on(90))]);
    let report = run(&reconciler(), &swiss(&cloud), 50).await;
    assert_eq!(said(&report), ["1 unknown read_failed", "2 compliant"]);
    let cloud = Fake::of([(1, nothing()), (2, nothing())]);
    let report = run(&reconciler(), &swiss(&cloud), 50).await;
    assert_eq!(said(&report), ["1 exempt rotation_unsupported", "2 exempt rotation_unsupported"]);
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
async fn a_disabled_key_is_off_policy_and_fails_no_run() {
    let cloud = Fake::of([(1, on(90))]);
    let mut report = run(&reconciler(), &[target("p", &cloud, false)], 50).await;
    assert!(report.is_success() && report.is_on_policy());
    for (reason, succeeds) in
        [(Reason::KeyDisabled, true), (Reason::PendingDeletion, true), (Reason::IntervalMismatch, false)]
    {
        let key = &mut report.projects[0].keys[0];
        (key.status, key.reasons) = (Status::NonCompliant, reason.into());
        assert_eq!((report.is_success(), report.is_on_policy()), (succeeds, false), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_projects_and_keys_that_are_gone_is_forgotten() {
    let reconciler = reconciler();
    let cloud = Fake::of((1..=50).map(|number| (number, off())));
    for renamed in 0..300 {
        run(&reconciler, &[target(&format!("p{renamed}"), &cloud, false)], 50).await;
        assert_eq!(reconciler.memory.size(), (1, 50 * usize::from(renamed == 0)));
    }
    // Of keys that a complete list lacks nothing is kept.
    cloud.change(1, |key| key.on = None);
    let targets = [target("p299", &cloud, false)];
    run(&reconciler, &targets, 50).await;
    assert_eq!(reconciler.memory.size(), (1, 1));
    cloud.keys.lock().unwrap().remove(&1);
    run(&reconciler, &targets, 50).await;
    assert_eq!(reconciler.memory.size(), (1, 0));
}
