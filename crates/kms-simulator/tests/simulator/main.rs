//! The simulator tested with raw HTTP requests, against the answers in the API's documents.
//!
//! The client here is written by hand over a socket, so that the simulator is compared with the documents and not with
//! our own client. tokio's time is paused: waiting costs nothing and is exact.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail as tests do")]

mod access;
mod agencies;
mod cassettes;
mod faults;
mod identities;
mod kms;
mod listings;
mod metadata;
mod presets;
mod rotation;
mod signatures;
mod signing;
mod tags;
mod timeline;
mod wire;
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use kms_simulator::{Key, ProjectSetup, Setup, Simulator};
use serde_json::{Value, json};

use wire::{Answer, JSON, call};

const PROJECT: &str = "0123456789abcdef0123456789abcdef";
const OTHER_PROJECT: &str = "fedcba9876543210fedcba9876543210";
const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
const UNKNOWN_KEY: &str = "919c82d4-8046-4722-9094-35c3c6524cff";
const TOKEN: &str = "token-from-a-file";

async fn kms_with(simulator: &Simulator, token: &str, operation: &str, body: &Value) -> Answer {
    let path = format!("/v1.0/{PROJECT}/kms/{operation}");
    call(simulator, &path, &[JSON, ("X-Auth-Token", token)], &body.to_string()).await
}

async fn send(simulator: &Simulator, operation: &str, body: Value) -> Answer {
    kms_with(simulator, TOKEN, operation, &body).await
}

async fn enable(simulator: &Simulator) -> Answer {
    send(simulator, "enable-key-rotation", json!({"key_id": KEY})).await
}

async fn update(simulator: &Simulator, interval: u32) -> Answer {
    send(simulator, "update-key-rotation-interval", json!({"key_id": KEY, "rotation_interval": interval})).await
}

async fn status(simulator: &Simulator) -> Answer {
    send(simulator, "get-key-rotation-status", json!({"key_id": KEY})).await
}

async fn log_in(simulator: &Simulator, password: &str, scope: &Value) -> Answer {
    let user = json!({"name": "rotator", "password": password, "domain": {"name": "ACCOUNT"}});
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}})
        .to_string();
    call(simulator, "/v3/auth/tokens?nocatalog=true", &[("Content-Type", "application/json;charset=utf8")], &body).await
}

fn setup() -> Setup {
    setup_with(Key::new(KEY))
}

fn project() -> ProjectSetup {
    ProjectSetup::new(PROJECT, "eu-de").domain("ACCOUNT").token(TOKEN)
}

fn setup_with(key: Key) -> Setup {
    Setup::new().project(project().key(key)).login("rotator", "ACCOUNT", "secret")
}

async fn start(setup: Setup) -> Simulator {
    Simulator::start(setup).await.unwrap()
}

fn refused(code: &str) -> (u16, String) {
    (400, code.to_owned())
}

/// Seconds that a test sets, and a clock that returns them.
fn clock() -> (Arc<AtomicU64>, impl Fn() -> SystemTime + Send + Sync + 'static) {
    let time = Arc::new(AtomicU64::new(1_700_000_000));
    let seconds = Arc::clone(&time);
    (time, move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed)))
}
