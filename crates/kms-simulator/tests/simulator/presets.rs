//! The presets: a correct client succeeds with each of them.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use kms_simulator::{
    Key, KeyState, Preset, RotationSetting, Setup, Simulator,
    seed::{Seed, Wanted},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::wire::End;
use crate::{OTHER_PROJECT, PROJECT, clock, kms_with, log_in, start};

/// The simplest correct client: it reads, writes what differs, and retries after every failure.
async fn persevere(simulator: &Simulator, token: &mut String, key_id: &str, interval: u32) -> u32 {
    const PATIENCE: Duration = Duration::from_secs(8);
    let mut attempts = 0;
    loop {
        attempts += 1;
        assert!(attempts < 60, "{key_id} does not get there");
        let send = |operation: &'static str, body: Value, token: String| async move {
            let answer = timeout(PATIENCE, kms_with(simulator, &token, operation, &body)).await.ok()?;
            let well = answer.end == End::Whole && (answer.status == 200 || answer.status == 400);
            let refused = matches!(answer.status, 401 | 403);
            (well || refused).then_some(answer)
        };
        let Some(answer) = send("get-key-rotation-status", json!({"key_id": key_id}), token.clone()).await else {
            continue;
        };
        if answer.status != 200 {
            let answer = log_in(simulator, "secret", &json!({"project": {"id": PROJECT}})).await;
            answer.header("x-subject-token").unwrap_or_default().clone_into(token);
            continue;
        }
        let Ok(status) = serde_json::from_slice::<Value>(&answer.body) else { continue };
        match (status.get("key_rotation_enabled").and_then(Value::as_bool), status.get("rotation_interval")) {
            (Some(true), Some(days)) if *days == interval => return attempts,
            (Some(true), _) => {
                let body = json!({"key_id": key_id, "rotation_interval": interval});
                send("update-key-rotation-interval", body, token.clone()).await;
            }
            (Some(false), _) => {
                send("enable-key-rotation", json!({"key_id": key_id}), token.clone()).await;
            }
            (None, _) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_every_preset_a_client_that_retries_repairs_every_key() {
    let ids: Vec<String> = (0..80).map(|n| format!("{n:08x}-0000-4000-8000-{n:012x}")).collect();
    for preset in Preset::ALL {
        let started = Instant::now();
        let clock = move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + started.elapsed();
        let mut seed = Seed::new(clock());
        let project = seed.project(PROJECT, "eu-de", ids.iter().map(|id| Wanted::new(id, 90)));
        let keys: Vec<_> = project.keys.iter().filter(|key| is_rotatable(key)).map(|key| key.id.clone()).collect();
        assert_eq!(keys.len(), seed.mix().rotatable());
        let setup = Setup::new().project(project).login("rotator", "ACCOUNT", "secret").clock(clock).preset(preset);
        let simulator = start(setup).await;
        let mut token = String::new();
        let mut attempts = 0;
        for key_id in &keys {
            attempts += persevere(&simulator, &mut token, key_id, 90).await;
        }
        let handle = simulator.handle();
        for key_id in &keys {
            let rotation = handle.key(PROJECT, key_id).unwrap().rotation;
            assert_eq!(rotation, RotationSetting { enabled: true, interval_days: 90 }, "{preset}");
        }
        assert_eq!(handle.faults_injected() > 0, preset != Preset::Forgetful, "{preset}");
        assert!(attempts < 5 * u32::try_from(keys.len()).unwrap(), "{preset}: {attempts}");
        assert!(started.elapsed() < Duration::from_secs(600), "{preset}: {:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_forgetful_cloud_never_rotates_every_third_key_again() {
    const DAY: Duration = Duration::from_secs(86_400);
    let ids: Vec<String> = (0..80).map(|n| format!("{n:08x}-0000-4000-8000-{n:012x}")).collect();
    let seeded = async |preset: Option<Preset>| {
        let (time, clock) = clock();
        let mut seed = Seed::new(clock());
        // The order counts over all projects.
        let keys = |ids: &[String]| ids.iter().map(|id| Wanted::new(id, 90)).collect::<Vec<_>>();
        let projects =
            [seed.project(PROJECT, "eu-de", keys(&ids[..40])), seed.project(OTHER_PROJECT, "eu-nl", keys(&ids[40..]))];
        let setup = projects.into_iter().fold(Setup::new().clock(clock), Setup::project);
        let simulator = start(preset.into_iter().fold(setup, Setup::preset)).await;
        let handle = simulator.handle().clone();
        let keys = move || [handle.keys(PROJECT), handle.keys(OTHER_PROJECT)].concat();
        let before = keys();
        time.fetch_add(3 * 365 * 86_400, Ordering::Relaxed);
        before.into_iter().zip(keys()).collect::<Vec<_>>()
    };
    let now = clock().1();
    let overdue = |key: &Key| is_rotatable(key) && key.due().is_some_and(|due| due < now);
    let rotated = |(before, after): &&(Key, Key)| after.rotations > before.rotations;

    let usual = seeded(None).await;
    assert_eq!(usual.iter().filter(|(before, _)| overdue(before)).count(), 0);
    let enabled = usual.iter().filter(|(before, _)| is_rotatable(before) && before.rotation.enabled).count();
    assert_eq!(usual.iter().filter(rotated).count(), enabled);

    let forgetful = seeded(Some(Preset::Forgetful)).await;
    assert_eq!(forgetful.iter().filter(|(before, _)| before.forgotten).count(), usual.len() / 3);
    for (position, ((before, after), (usual, _))) in forgetful.iter().zip(&usual).enumerate() {
        assert_eq!(before.forgotten, position % 3 == 2);
        assert!(!before.forgotten || after == before, "{after:?}");
        assert!(before.forgotten || before == usual, "{before:?}");
        assert_eq!(overdue(before), before.forgotten && is_rotatable(before) && usual.rotations > 0, "{before:?}");
        assert_eq!((&before.rotation, before.state), (&usual.rotation, usual.state));
    }
    let third = &forgetful[2].0;
    assert_eq!((third.rotation.interval_days, overdue(third)), (90, true), "it is on policy");
    let late = now.duration_since(third.due().unwrap()).unwrap();
    assert!((DAY * 2..DAY * 90).contains(&late), "{late:?}");
    assert!(forgetful.iter().filter(rotated).count() > enabled / 2);
}

fn is_rotatable(key: &Key) -> bool {
    key.state == KeyState::Enabled && !key.default && key.origin.as_str() == "kms" && key.spec == "AES_256"
}
