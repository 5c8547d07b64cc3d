//! The cloud rotates keys when they are due by its own clock, and the answers show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use kms_simulator::{
    BadRotation, Behaviour, Dialect, Fault, Key, KeyState, Operation, RotationSetting, Rule, Setup, Simulator,
};
use serde_json::{Value, json};

use crate::{KEY, PROJECT, UNKNOWN_KEY, clock, enable, project, send, setup_with, start, status, update};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// When the tests begin.
const BEGIN: u64 = 1_700_000_000;

/// A cloud with one key, which rotates two hours after it is due; and the time since the beginning.
struct Cloud {
    simulator: Simulator,
    time: Arc<AtomicU64>,
}

impl Cloud {
    async fn of(key: Key) -> Self {
        Self::start(setup_with(key)).await
    }

    async fn start(setup: Setup) -> Self {
        let (time, clock) = clock();
        Self { simulator: start(setup.clock(clock)).await, time }
    }

    /// Sets the time.
    fn at(&self, seconds: u64) -> &Self {
        self.time.store(BEGIN + seconds, Ordering::Relaxed);
        self
    }

    fn change(&self, change: impl FnOnce(&mut Key)) {
        assert!(self.simulator.handle().change_key(PROJECT, KEY, change));
    }

    /// The number of rotations in the answer of KMS, and the time of the last one since the beginning.
    async fn rotations(&self) -> (u64, Option<u64>) {
        let status = status(&self.simulator).await.json();
        let last = status.get("last_rotation_time").map(|last| last.as_str().unwrap().parse::<u64>().unwrap());
        (status["number_of_rotations"].as_u64().unwrap(), last.map(|last| last / 1000 - BEGIN))
    }
}

fn moment(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_key_rotates_some_hours_after_its_interval_has_passed_since_it_was_added() {
    let cloud = Cloud::of(Key::new(KEY).created(moment(BEGIN - 500 * DAY)).rotating(30)).await;
    assert_eq!(cloud.rotations().await, (0, None));
    assert_eq!(cloud.at(30 * DAY + 2 * HOUR - 1).rotations().await, (0, None));
    let first = (1, Some(30 * DAY + 2 * HOUR));
    assert_eq!(cloud.at(30 * DAY + 2 * HOUR).rotations().await, first);
    assert_eq!(cloud.at(60 * DAY + 4 * HOUR - 1).rotations().await, first, "the next period counts from the rotation");
    assert_eq!(cloud.at(60 * DAY + 4 * HOUR).rotations().await, (2, Some(60 * DAY + 4 * HOUR)));
    assert_eq!(cloud.at(365 * DAY).rotations().await, (12, Some(12 * (30 * DAY + 2 * HOUR))), "several at once");
    cloud.at(500_000 * DAY);
    assert_eq!(cloud.rotations().await.0, 500_000 * DAY / (30 * DAY + 2 * HOUR), "a far future costs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_stated_start_of_the_period_counts() {
    let cloud = Cloud::of(Key::new(KEY).rotating(30).period_start(moment(BEGIN - 10 * DAY))).await;
    assert_eq!(cloud.at(20 * DAY + 2 * HOUR).rotations().await, (1, Some(20 * DAY + 2 * HOUR)));
    let cloud = Cloud::of(Key::new(KEY).rotating(30).rotated(4, moment(BEGIN - 400 * DAY))).await;
    let key = || cloud.simulator.handle().key(PROJECT, KEY).unwrap();
    assert_eq!(key().rotations, 4, "no rotation happens in the past");
    assert_eq!(cloud.at(2 * HOUR).rotations().await, (5, Some(2 * HOUR)), "but the key is overdue");
    assert_eq!(key().due(), Some(moment(BEGIN + 30 * DAY + 2 * HOUR)));
}

#[tokio::test(start_paused = true)]
async fn each_accepted_interval_starts_the_period_anew_also_the_same_one() {
    let cloud = Cloud::of(Key::new(KEY).rotating(30)).await;
    assert_eq!(update(&cloud.at(20 * DAY).simulator, 30).await.status, 200);
    assert_eq!(cloud.at(40 * DAY).rotations().await, (0, None));
    assert_eq!(update(&cloud.simulator, 29).await.status, 400);
    assert_eq!(enable(&cloud.simulator).await.status, 400);
    assert_eq!(cloud.at(50 * DAY + 2 * HOUR).rotations().await, (1, Some(50 * DAY + 2 * HOUR)), "refused: no effect");

    // A client that sends the interval more often than it is long postpones rotation for as long as it does so.
    for day in (60..1000).step_by(25) {
        assert_eq!(update(&cloud.at(day * DAY).simulator, 30).await.status, 200);
    }
    assert_eq!(cloud.rotations().await.0, 1);
    // A write sees the rotations before it.
    assert_eq!(update(&cloud.at(2000 * DAY).simulator, 30).await.status, 200);
    assert_eq!(cloud.rotations().await.0, 34);
}

#[tokio::test(start_paused = true)]
async fn enabling_starts_a_period_of_365_days() {
    let cloud = Cloud::of(Key::new(KEY)).await;
    assert_eq!(cloud.at(1000 * DAY).rotations().await, (0, None));
    assert_eq!(enable(&cloud.simulator).await.status, 200);
    assert_eq!(cloud.at(1365 * DAY + 2 * HOUR - 1).rotations().await, (0, None));
    assert_eq!(cloud.at(1365 * DAY + 2 * HOUR).rotations().await.0, 1);

    let cloud = Cloud::of(Key::new(KEY).rotating(30)).await;
    let off = send(&cloud.at(40 * DAY).simulator, "disable-key-rotation", json!({"key_id": KEY})).await;
    assert_eq!(off.status, 200);
    assert_eq!(cloud.at(100 * DAY).rotations().await, (1, Some(30 * DAY + 2 * HOUR)), "from before it was off");
    assert_eq!(enable(&cloud.simulator).await.status, 200);
    let key = cloud.simulator.handle().key(PROJECT, KEY).unwrap();
    assert_eq!(key.rotation, RotationSetting { enabled: true, interval_days: 365 });
    assert_eq!(cloud.at(465 * DAY).rotations().await.0, 1);
    assert_eq!(cloud.at(465 * DAY + 2 * HOUR).rotations().await, (2, Some(465 * DAY + 2 * HOUR)));
}

#[tokio::test(start_paused = true)]
async fn a_key_does_not_rotate_while_it_is_disabled_or_pending_deletion() {
    for state in [KeyState::Disabled, KeyState::PendingDeletion] {
        let cloud = Cloud::of(Key::new(KEY).rotating(30)).await;
        cloud.at(35 * DAY).change(|key| key.state = state);
        let first = (1, Some(30 * DAY + 2 * HOUR));
        assert_eq!(cloud.at(200 * DAY).rotations().await, first, "{state:?}");
        cloud.change(|key| key.state = KeyState::Enabled);
        assert_eq!(cloud.rotations().await, first, "not in retrospect");
        assert_eq!(cloud.at(200 * DAY + 2 * HOUR).rotations().await, (2, Some(200 * DAY + 2 * HOUR)), "overdue");
        // Disabled for a part of the period only.
        cloud.at(210 * DAY).change(|key| key.state = state);
        cloud.at(220 * DAY).change(|key| key.state = KeyState::Enabled);
        assert_eq!(cloud.at(230 * DAY + 4 * HOUR).rotations().await, (3, Some(230 * DAY + 4 * HOUR)), "as planned");
    }
}

#[tokio::test(start_paused = true)]
async fn all_keys_of_a_project_show_their_rotations() {
    let (time, clock) = clock();
    let keys = [Key::new(KEY).rotating(30), Key::new(UNKNOWN_KEY).rotating(60)];
    let simulator = start(Setup::new().project(project().keys(keys)).clock(clock)).await;
    time.fetch_add(70 * DAY, Ordering::Relaxed);
    let rotations: Vec<_> = simulator.handle().keys(PROJECT).iter().map(|key| key.rotations).collect();
    assert_eq!(rotations, [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn lists_and_descriptions_do_not_show_rotations() {
    let cloud = Cloud::of(Key::new(KEY).rotating(30).tag("pci", "true")).await;
    let mut before = None;
    for day in [0, 40, 400] {
        cloud.at(day * DAY);
        let mut answers = Vec::new();
        for (operation, body) in [
            ("list-keys", json!({})),
            ("describe-key", json!({"key_id": KEY})),
            ("resource_instances/action", json!({"action": "filter", "tags": [{"key": "pci"}]})),
        ] {
            answers.push(send(&cloud.simulator, operation, body).await.json());
        }
        assert_eq!(*before.get_or_insert_with(|| answers.clone()), answers);
    }
    assert_eq!(cloud.rotations().await.0, 13);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_is_written_in_the_types_of_each_dialect() {
    for (dialect, expected) in [
        (Dialect::Huawei, json!({"last_rotation_time": "1702599200000", "number_of_rotations": 1})),
        (Dialect::OpenTelekomCloud, json!({"last_rotation_time": "1702599200000", "number_of_rotations": "1"})),
        (Dialect::AllText, json!({"last_rotation_time": "1702599200", "number_of_rotations": "1"})),
    ] {
        let cloud = Cloud::start(setup_with(Key::new(KEY).rotating(30)).behave(|cloud| cloud.dialect = dialect)).await;
        let before = status(&cloud.simulator).await.json();
        assert_eq!(before.get("last_rotation_time"), None);
        let after = status(&cloud.at(31 * DAY).simulator).await.json();
        for field in ["last_rotation_time", "number_of_rotations"] {
            assert_eq!(after[field], expected[field], "{dialect:?}");
        }
        let without = |mut status: Value| {
            status.as_object_mut().unwrap().retain(|field, _| expected.get(field).is_none());
            status
        };
        assert_eq!(without(before), without(after), "{dialect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_delay_causes_no_rotation_in_the_past() {
    let slow = |cloud: &mut Behaviour| cloud.rotation_delay = Duration::from_secs(10 * DAY);
    let cloud = Cloud::start(setup_with(Key::new(KEY).rotating(30)).behave(slow)).await;
    assert_eq!(cloud.at(39 * DAY).rotations().await, (0, None));
    cloud.simulator.handle().behave(|cloud| cloud.rotation_delay = Duration::from_secs(HOUR));
    assert_eq!(cloud.rotations().await, (0, None));
    assert_eq!(cloud.at(39 * DAY + HOUR).rotations().await, (1, Some(39 * DAY + HOUR)));
    cloud.simulator.handle().behave(|cloud| cloud.rotation_offered = false);
    cloud.at(500 * DAY).simulator.handle().behave(|cloud| cloud.rotation_offered = true);
    assert_eq!(cloud.rotations().await.0, 1, "without rotation in the region");
    assert_eq!(cloud.at(500 * DAY + HOUR).rotations().await, (2, Some(500 * DAY + HOUR)));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_key_does_not_rotate_until_the_cloud_remembers_it() {
    let keys = [Key::new(KEY).rotating(30).forgotten(), Key::new(UNKNOWN_KEY).rotating(30)];
    let cloud = Cloud::start(Setup::new().project(project().keys(keys))).await;
    let other = || cloud.simulator.handle().key(PROJECT, UNKNOWN_KEY).unwrap().rotations;
    assert_eq!(cloud.at(400 * DAY).rotations().await, (0, None));
    assert_eq!(other(), 13);
    let key = cloud.simulator.handle().key(PROJECT, KEY).unwrap();
    assert_eq!(key.due(), Some(moment(BEGIN + 30 * DAY)), "it is overdue");
    assert_eq!(key.rotation, RotationSetting { enabled: true, interval_days: 30 });

    cloud.change(|key| key.forgotten = false);
    assert_eq!(cloud.rotations().await, (0, None), "not in retrospect");
    assert_eq!(cloud.at(400 * DAY + 2 * HOUR).rotations().await, (1, Some(400 * DAY + 2 * HOUR)));
    cloud.at(500 * DAY).change(|key| key.forgotten = true);
    let last = (4, Some(490 * DAY + 8 * HOUR));
    assert_eq!(cloud.rotations().await, last, "from before it was forgotten");
    assert_eq!(cloud.at(900 * DAY).rotations().await, last);
}

#[tokio::test(start_paused = true)]
async fn the_cloud_can_forget_to_rotate_every_key() {
    let cloud = Cloud::start(setup_with(Key::new(KEY).rotating(30)).behave(|cloud| cloud.rotates = false)).await;
    let rotates = |rotates| cloud.simulator.handle().behave(|cloud| cloud.rotates = rotates);
    assert_eq!(cloud.at(100 * DAY).rotations().await, (0, None));
    assert_eq!(update(&cloud.simulator, 30).await.status, 200, "settings can be changed");
    assert_eq!(cloud.at(200 * DAY).rotations().await, (0, None));
    rotates(true);
    assert_eq!(cloud.rotations().await, (0, None));
    cloud.at(200 * DAY + 3 * HOUR);
    rotates(false);
    assert_eq!(cloud.at(400 * DAY).rotations().await, (1, Some(200 * DAY + 2 * HOUR)));
}

#[tokio::test(start_paused = true)]
async fn single_answers_about_rotations_can_be_wrong() {
    let cloud = Cloud::of(Key::new(KEY).created(moment(BEGIN - 500 * DAY)).rotating(30)).await;
    cloud.at(100 * DAY);
    let right = status(&cloud.simulator).await.json();
    let last = BEGIN + 90 * DAY + 6 * HOUR;
    assert_eq!(right["last_rotation_time"], (last * 1000).to_string());
    for (bad, field, wrong) in [
        (BadRotation::CountBack, "number_of_rotations", json!(2)),
        (BadRotation::TimeInSeconds, "last_rotation_time", json!(last.to_string())),
        (BadRotation::TimeInTheFuture, "last_rotation_time", json!(((BEGIN + 101 * DAY) * 1000).to_string())),
        (BadRotation::TimeBeforeCreation, "last_rotation_time", json!(((BEGIN - 501 * DAY) * 1000).to_string())),
        (BadRotation::CountWithoutTime, "last_rotation_time", Value::Null),
    ] {
        let mut expected = right.clone();
        expected[field] = wrong;
        if bad == BadRotation::CountWithoutTime {
            expected.as_object_mut().unwrap().remove(field);
        }
        let rule = Rule::next(1, Fault::rotation_answer(bad)).on(Operation::ReadStatus).key(KEY);
        cloud.simulator.handle().fault(rule);
        assert_eq!(status(&cloud.simulator).await.json(), expected, "{bad:?}");
        assert_eq!(status(&cloud.simulator).await.json(), right, "{bad:?}: only once");
    }
    assert_eq!(cloud.simulator.handle().faults_injected(), BadRotation::ALL.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn wrong_answers_about_rotations_affect_no_other_call_and_no_stored_key() {
    let cloud = Cloud::of(Key::new(KEY).rotating(30)).await;
    let key = cloud.at(100 * DAY).simulator.handle().key(PROJECT, KEY);
    let views = async || {
        let mut answers = Vec::new();
        for (operation, body) in [("list-keys", json!({})), ("describe-key", json!({"key_id": KEY}))] {
            answers.push(send(&cloud.simulator, operation, body).await.json());
        }
        answers
    };
    let right = views().await;
    for bad in BadRotation::ALL {
        cloud.simulator.handle().clear_faults();
        cloud.simulator.handle().fault(Rule::always(Fault::rotation_answer(bad)));
        assert_eq!(views().await, right, "{bad:?}");
        assert_eq!(status(&cloud.simulator).await.json()["rotation_interval"], 30, "{bad:?}");
        assert_eq!(cloud.simulator.handle().key(PROJECT, KEY), key, "{bad:?}");
    }
    assert_eq!(update(&cloud.simulator, 90).await.status, 200, "a write works");
}
