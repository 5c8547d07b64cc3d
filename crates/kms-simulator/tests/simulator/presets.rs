//! The presets: a correct client succeeds with each of them.

use std::time::{Duration, SystemTime};

use kms_simulator::{
    Key, KeyState, Preset, RotationSetting, Setup, Simulator,
    seed::{Seed, Wanted},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::wire::End;
use crate::{PROJECT, kms_with, log_in, start};

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
        assert!(handle.faults_injected() > 0, "{preset}");
        assert!(attempts < 5 * u32::try_from(keys.len()).unwrap(), "{preset}: {attempts}");
        assert!(started.elapsed() < Duration::from_secs(600), "{preset}: {:?}", started.elapsed());
    }
}

fn is_rotatable(key: &Key) -> bool {
    key.state == KeyState::Enabled && !key.default && key.origin.as_str() == "kms" && key.spec == "AES_256"
}
