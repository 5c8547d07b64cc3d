//! The timeline: what happens in the cloud at certain times, without a request.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use kms_simulator::{Action, Key, Simulator};
use serde_json::json;

use crate::{KEY, PROJECT, UNKNOWN_KEY, clock, log_in, send, setup_with, start, status};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const BEGIN: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN + seconds)
}

fn change(change: fn(&mut Key)) -> Action {
    Action::ChangeKey { project_id: PROJECT.to_owned(), key_id: KEY.to_owned(), change }
}

/// A cloud with one key that rotates every thirty days, and the seconds since its start.
async fn cloud(actions: impl IntoIterator<Item = (u64, Action)>) -> (Simulator, impl Fn(u64)) {
    let (time, clock) = clock();
    let actions: Vec<_> = actions.into_iter().map(|(seconds, action)| (at(seconds), action)).collect();
    let cloud = start(setup_with(Key::new(KEY).rotating(30)).clock(clock).timeline(actions)).await;
    (cloud, move |seconds| time.store(BEGIN + seconds, Ordering::Relaxed))
}

async fn is_on(cloud: &Simulator) -> bool {
    status(cloud).await.json()["key_rotation_enabled"] == true
}

#[tokio::test(start_paused = true)]
async fn each_change_happens_at_its_own_time_however_far_the_clock_jumps() {
    let off_and_on =
        [(40 * DAY, change(|key| key.rotation.enabled = false)), (42 * DAY, change(|key| key.rotation.enabled = true))];
    let (cloud, set) = cloud(off_and_on.clone()).await;
    for (seconds, on) in [(0, true), (40 * DAY - 1, true), (40 * DAY, false), (42 * DAY - 1, false), (42 * DAY, true)] {
        set(seconds);
        assert_eq!(is_on(&cloud).await, on, "after {seconds} s");
    }
    let (cloud, set) = self::cloud(off_and_on).await;
    set(43 * DAY);
    let key = cloud.handle().key(PROJECT, KEY).unwrap();
    assert_eq!(key.last_rotation, Some(at(30 * DAY + 2 * HOUR)), "from before it was off");
    assert_eq!(key.due(), Some(at(72 * DAY)), "switching it on started a new period");
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_was_forgotten_is_made_up_for() {
    let forgotten = [(29 * DAY, change(|key| key.forgotten = true)), (50 * DAY, change(|key| key.forgotten = false))];
    let (cloud, set) = cloud(forgotten).await;
    set(50 * DAY);
    assert_eq!(cloud.handle().key(PROJECT, KEY).unwrap().last_rotation, None);
    set(80 * DAY);
    assert_eq!(cloud.handle().key(PROJECT, KEY).unwrap().last_rotation, Some(at(50 * DAY + 2 * HOUR)));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_appears_was_created_then() {
    let new =
        |project_id: &str| Action::AddKey { project_id: project_id.to_owned(), key: Key::new(UNKNOWN_KEY).into() };
    let (cloud, set) = cloud([(DAY, new(PROJECT)), (DAY, new("unknown"))]).await;
    let list = || async { send(&cloud, "list-keys", json!({})).await.json()["keys"].as_array().unwrap().len() };
    assert_eq!(list().await, 1);
    set(3 * DAY);
    assert_eq!(list().await, 2);
    assert_eq!(cloud.handle().key(PROJECT, UNKNOWN_KEY).unwrap().created, Some(at(DAY)));
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_every_call_of_kms_and_iam_with_the_page_of_a_gateway() {
    let (cloud, set) = cloud([(HOUR, Action::BeginOutage), (3 * HOUR, Action::EndOutage)]).await;
    let scope = json!({"project": {"id": PROJECT}});
    assert_eq!((status(&cloud).await.status, log_in(&cloud, "secret", &scope).await.status), (200, 201));
    set(2 * HOUR);
    let mut seen = [0, 0];
    for _ in 0..20 {
        let answer = status(&cloud).await;
        assert!(answer.text().contains("<html>"), "{answer:?}");
        seen[usize::from(answer.status == 504)] += 1;
        assert!(matches!(answer.status, 502 | 504), "{}", answer.status);
        assert!(matches!(log_in(&cloud, "secret", &scope).await.status, 502 | 504));
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    send(&cloud, "disable-key-rotation", json!({"key_id": KEY})).await;
    set(3 * HOUR);
    assert!(is_on(&cloud).await, "nothing was carried out");
    assert_eq!(log_in(&cloud, "secret", &scope).await.status, 201);
}
