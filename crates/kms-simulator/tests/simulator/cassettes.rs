//! A cloud that answers as recorded.

use kms_simulator::{Cassette, Key, KeyState, Simulator};
use serde_json::{Value, json};

use super::{KEY, enable, refused, send, setup_with, start, status, update};

/// A cassette with these calls.
fn cassette(more: &[(&str, Value)], calls: &[Value]) -> Cassette {
    let mut document = json!({
        "format": "kms-rotationd cassette", "version": 1, "cloud": "huawei-cloud", "region": "other", "calls": calls,
    });
    for (name, value) in more {
        document[name] = value.clone();
    }
    Cassette::read(document.to_string().as_bytes()).unwrap()
}

fn recorded(call: &str, situation: &str, status: u16, body: Option<Value>) -> Value {
    let mut recorded = json!({"call": call, "situation": situation, "status": status, "headers": {}});
    recorded["body_kind"] = if body.is_some() { "json".into() } else { "empty".into() };
    if let Some(body) = body {
        recorded["body"] = body;
    }
    recorded
}

fn refusal(code: &str) -> Value {
    json!({"error": {"error_code": code, "error_msg": "The * is not allowed."}})
}

async fn cloud(key: Key, cassette: Cassette) -> Simulator {
    start(setup_with(key).cassette(cassette)).await
}

/// The stored setting.
fn rotation(cloud: &Simulator) -> (bool, u32) {
    let rotation = cloud.handle().key(super::PROJECT, KEY).unwrap().rotation;
    (rotation.enabled, rotation.interval_days)
}

#[tokio::test]
async fn a_recorded_refusal_is_answered_and_changes_nothing() {
    let calls = [recorded("enable-key-rotation", "rotation off", 409, Some(refusal("KMS.9999")))];
    let cloud = cloud(Key::new(KEY), cassette(&[], &calls)).await;
    assert_eq!(enable(&cloud).await.error(), (409, "KMS.9999".to_owned()));
    assert_eq!(rotation(&cloud), (false, 0));
}

#[tokio::test]
async fn a_recorded_success_changes_the_key_where_the_documents_refuse() {
    let path = "update-key-rotation-interval";
    let calls = [
        recorded("enable-key-rotation", "rotation on", 200, None),
        recorded("disable-key-rotation", "rotation off", 204, None),
        recorded(path, "interval too short", 200, Some(json!({}))),
        recorded(path, "rotation off", 200, None),
    ];
    let cloud = cloud(Key::new(KEY).rotating(90), cassette(&[], &calls)).await;
    assert_eq!(enable(&cloud).await.status, 200);
    assert_eq!(rotation(&cloud), (true, 90));
    let short = update(&cloud, 7).await;
    assert_eq!((short.status, short.text(), rotation(&cloud)), (200, "{}", (true, 7)));
    assert_eq!(update(&cloud, 366).await.error(), refused("KMS.3001"), "not recorded");
    let disable = || send(&cloud, "disable-key-rotation", json!({"key_id": KEY}));
    assert_eq!((disable().await.status, disable().await.status), (200, 204));
    assert_eq!((update(&cloud, 60).await.status, rotation(&cloud)), (200, (false, 60)));
}

#[tokio::test]
async fn enabling_sets_or_keeps_the_recorded_interval() {
    let calls = [
        recorded("enable-key-rotation", "rotation off", 200, None),
        recorded("enable-key-rotation", "rotation off, interval chosen before", 200, None),
    ];
    for (keeps, after) in [(false, 180), (true, 77)] {
        let more = [("interval_after_enabling", json!(180)), ("enabling_keeps_interval", json!(keeps))];
        let fresh = cloud(Key::new(KEY), cassette(&more, &calls)).await;
        assert_eq!((enable(&fresh).await.status, rotation(&fresh)), (200, (true, 180)));
        let mut before = Key::new(KEY);
        before.rotation.interval_days = 77;
        let chosen = cloud(before, cassette(&more, &calls)).await;
        assert_eq!((enable(&chosen).await.status, rotation(&chosen)), (200, (true, after)));
    }
}

#[tokio::test]
async fn a_status_has_the_recorded_shape_with_the_values_of_the_key() {
    let body = json!({"key_rotation_enabled": "true", "rotation_interval": "365", "last_rotation_time": null,
                      "number_of_rotations": "0", "next_rotation_time": "1700000000"});
    let calls = [recorded("get-key-rotation-status", "rotation on", 200, Some(body))];
    let cloud = cloud(Key::new(KEY).rotating(90), cassette(&[], &calls)).await;
    let shown = status(&cloud).await.json();
    let expected = json!({"key_rotation_enabled": "true", "rotation_interval": "90", "last_rotation_time": null,
                          "number_of_rotations": "0", "next_rotation_time": "1700000000"});
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_key_that_cannot_rotate_is_refused_by_the_documents() {
    let calls = [recorded("enable-key-rotation", "rotation off", 200, None)];
    for (key, code) in [(Key::new(KEY).imported(), "KMS.0312"), (Key::new(KEY).state(KeyState::Disabled), "KMS.0209")] {
        let cloud = cloud(key, cassette(&[], &calls)).await;
        assert_eq!(enable(&cloud).await.error(), refused(code));
    }
}

#[tokio::test]
async fn a_list_has_pages_of_the_recorded_size_or_the_recorded_refusal() {
    let body = json!({"keys": ["text"], "key_details": [{"key_id": "text", "key_state": 2}], "next_marker": null,
                      "truncated": true, "total": "1"});
    let mut default = recorded("list-keys", "without limit", 200, Some(body));
    default["page_size"] = 2.into();
    let calls = [default, recorded("list-keys", "limit of 2000", 400, Some(refusal("KMS.1601")))];
    let setup = setup_with(Key::new(KEY)).cassette(cassette(&[], &calls));
    let cloud = start(setup).await;
    for number in 0..2 {
        cloud.handle().set_key(super::PROJECT, Key::new(format!("{number:08}-e727-4d9c-b35d-f84bb474a37f")));
    }
    let limited = send(&cloud, "list-keys", json!({"key_spec": "ALL", "limit": "2000"})).await;
    assert_eq!(limited.error(), refused("KMS.1601"));
    let page = async |marker: &str| -> Value {
        let answer = send(&cloud, "list-keys", json!({"key_spec": "ALL", "marker": marker})).await;
        answer.json()
    };
    let first = page("").await;
    assert_eq!((&first["truncated"], &first["total"], &first["next_marker"]), (&json!(true), &json!("3"), &json!("2")));
    assert_eq!(first["key_details"][1]["key_state"], 2);
    let last = page("2").await;
    assert_eq!((&last["truncated"], last["keys"].as_array().unwrap().len()), (&json!(false), 1));
}

#[tokio::test]
async fn a_short_sequence_is_treated_as_recorded() {
    let short = |status, body| recorded("get-key-rotation-status", "sequence of 32 characters", status, body);
    for (recorded, expected) in [(short(200, Some(json!({}))), 200), (short(418, Some(refusal("KMS.0206"))), 418)] {
        let cloud = cloud(Key::new(KEY), cassette(&[], &[recorded])).await;
        let sequence = "919c82d480464722909435c3c6524cff";
        let answer = send(&cloud, "get-key-rotation-status", json!({"key_id": KEY, "sequence": sequence})).await;
        assert_eq!(answer.status, expected);
    }
}
