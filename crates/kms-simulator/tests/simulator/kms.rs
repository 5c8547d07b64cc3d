//! The calls of KMS: their effects, refusals and texts.

use std::time::{Duration, SystemTime};

use kms_simulator::{Dialect, Key, KeyState, NeverRotated, Operation, OperationSet, RotationSetting, SuccessBody};
use serde_json::{Value, json};

use crate::wire::{Client, JSON, call, request};
use crate::{KEY, PROJECT, TOKEN, UNKNOWN_KEY, enable, refused, send, setup, setup_with, start, status, update};

#[tokio::test(start_paused = true)]
async fn enabling_sets_365_days_and_is_refused_where_rotation_is_on() {
    let simulator = start(setup()).await;
    let answer = enable(&simulator).await;
    assert_eq!((answer.status, answer.text()), (200, ""));
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
    let key = simulator.handle().key(PROJECT, KEY).unwrap();
    assert_eq!(key.rotation, RotationSetting { enabled: true, interval_days: 365 });
    let answer = enable(&simulator).await;
    assert_eq!(
        (answer.status, answer.text()),
        (400, r#"{"error":{"error_code":"KMS.2901","error_msg":"The rotation state of key is not disabled."}}"#)
    );
    assert_eq!(simulator.handle().requests(Operation::EnableRotation), 2);
    assert_eq!(simulator.handle().writes_applied(PROJECT, KEY), 1);
}

#[tokio::test(start_paused = true)]
async fn the_documented_example_of_an_interval_write_works_and_is_recorded() {
    let simulator = start(setup_with(Key::new(KEY).rotating(365))).await;
    let body = json!({"key_id": KEY, "rotation_interval": 30, "sequence": "919c82d4-8046-4722-9094-35c3c6524cff"});
    assert_eq!(send(&simulator, "update-key-rotation-interval", body).await.status, 200);
    let answer = status(&simulator).await;
    assert_eq!(answer.json(), json!({"key_rotation_enabled": true, "rotation_interval": 30, "number_of_rotations": 0}));
    assert_eq!(send(&simulator, "disable-key-rotation", json!({"key_id": KEY})).await.status, 200);
    assert_eq!(update(&simulator, 90).await.error(), refused("KMS.0313"));

    let handle = simulator.handle();
    assert_eq!(handle.intervals_sent(PROJECT, KEY), [30, 90]);
    assert_eq!(handle.all_intervals_sent(PROJECT), [(KEY.to_owned(), json!(30)), (KEY.to_owned(), json!(90))]);
    let calls: Vec<_> =
        handle.calls(PROJECT, KEY).iter().map(|call| (call.operation, call.status, call.applied)).collect();
    assert_eq!(
        calls,
        [
            (Operation::UpdateInterval, Some(200), true),
            (Operation::ReadStatus, Some(200), false),
            (Operation::DisableRotation, Some(200), true),
            (Operation::UpdateInterval, Some(400), false),
        ]
    );
    assert_eq!((handle.write_requests(), handle.all_requests()), (3, 4));
    handle.forget_requests();
    assert_eq!(handle.all_requests(), 0);
    assert!(handle.intervals_sent(PROJECT, KEY).is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_dialect_answers_in_its_own_types() {
    let rotated = SystemTime::UNIX_EPOCH + Duration::from_secs(1_501_578_672);
    let key = Key::new(KEY).rotating(30).rotated(3, rotated);
    for (dialect, expected, write) in [
        (
            Dialect::Huawei,
            r#"{"key_rotation_enabled":true,"rotation_interval":30,"last_rotation_time":"1501578672000","number_of_rotations":3}"#,
            "",
        ),
        (
            Dialect::OpenTelekomCloud,
            r#"{"key_rotation_enabled":"true","rotation_interval":30,"last_rotation_time":"1501578672000","number_of_rotations":"3"}"#,
            "{}",
        ),
        (
            Dialect::AllText,
            r#"{"key_rotation_enabled":"true","rotation_interval":"30","last_rotation_time":"1501578672","number_of_rotations":"3"}"#,
            "",
        ),
    ] {
        let simulator = start(setup_with(key.clone()).behave(|cloud| cloud.dialect = dialect)).await;
        assert_eq!(status(&simulator).await.text(), expected);
        assert_eq!(update(&simulator, 90).await.text(), write);
        simulator.handle().behave(|cloud| cloud.success_body = Some(SuccessBody::Object));
        assert_eq!(update(&simulator, 90).await.text(), "{}");
    }
    let simulator = start(setup().behave(|cloud| cloud.never_rotated = NeverRotated::Empty)).await;
    let answer = status(&simulator).await.json();
    assert_eq!(answer, json!({"key_rotation_enabled": false, "last_rotation_time": "", "number_of_rotations": 0}));
}

#[tokio::test(start_paused = true)]
async fn malformed_requests_are_refused_with_the_documented_codes() {
    let simulator = start(setup_with(Key::new(KEY).rotating(90))).await;
    let update = |interval: Value| json!({"key_id": KEY, "rotation_interval": interval});
    for (operation, body, code) in [
        ("enable-key-rotation", json!({}), "KMS.0204"),
        ("enable-key-rotation", json!([KEY]), "KMS.0202"),
        ("enable-key-rotation", json!({"key_id": "0D0466B0-E727-4D9C-B35D-F84BB474A37F"}), "KMS.0205"),
        ("enable-key-rotation", json!({"key_id": 7}), "KMS.0205"),
        ("get-key-rotation-status", json!({"key_id": KEY, "sequence": "919c82d4804647229094"}), "KMS.0206"),
        ("get-key-rotation-status", json!({"key_id": KEY, "sequence": 1}), "KMS.0206"),
        ("update-key-rotation-interval", json!({"key_id": KEY}), "KMS.0204"),
        ("update-key-rotation-interval", update(json!(29)), "KMS.3001"),
        ("update-key-rotation-interval", update(json!(366)), "KMS.3001"),
        ("update-key-rotation-interval", update(json!("90")), "KMS.3001"),
        ("update-key-rotation-interval", update(json!(90.5)), "KMS.3001"),
        ("update-key-rotation-interval", update(Value::Null), "KMS.3001"),
        ("list-keys", json!({"limit": "many"}), "KMS.1601"),
    ] {
        assert_eq!(send(&simulator, operation, body.clone()).await.error(), refused(code), "{operation} {body}");
    }
    for operation in ["enable-key-rotation", "update-key-rotation-interval", "get-key-rotation-status", "describe-key"]
    {
        let body = json!({"key_id": UNKNOWN_KEY, "rotation_interval": 90});
        assert_eq!(send(&simulator, operation, body).await.error(), (404, "KMS.0207".to_owned()));
    }
    let handle = simulator.handle();
    assert_eq!(handle.key(PROJECT, KEY).unwrap().rotation.interval_days, 90);
    assert_eq!(handle.key_requests(PROJECT, UNKNOWN_KEY, Operation::EnableRotation), 1);
    assert!(handle.intervals_sent(PROJECT, KEY).contains(&json!("90")), "what was refused was sent all the same");

    let path = format!("/v1.0/{PROJECT}/kms/get-key-rotation-status");
    let token = ("X-Auth-Token", TOKEN);
    let body = json!({"key_id": KEY}).to_string();
    assert_eq!(call(&simulator, &path, &[JSON, token], "{").await.error(), refused("KMS.0202"));
    assert_eq!(call(&simulator, &path, &[token], &body).await.status, 200, "not listed by Huawei Cloud");
    handle.behave(|cloud| cloud.dialect = Dialect::OpenTelekomCloud);
    assert_eq!(call(&simulator, &path, &[token], &body).await.error(), refused("KMS.0214"));
    let charset = ("content-type", "application/json;charset=utf-8");
    assert_eq!(call(&simulator, &path, &[charset, token], &body).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn other_paths_and_methods_are_not_served() {
    let simulator = start(setup()).await;
    for path in ["/", "/v1.0/p/kms/rotate-on-demand", "/v1.0/p/kms/enable-key-rotation/", "/v3/users"] {
        assert_eq!(call(&simulator, path, &[JSON], "{}").await.error(), (404, "APIGW.0101".to_owned()), "{path}");
    }
    let path = format!("/v1.0/{PROJECT}/kms/list-keys");
    let mut client = Client::connect(&simulator).await;
    assert_eq!(client.send(&request("GET", &path, &[], "")).await.error(), (405, "KMS.0215".to_owned()));
    assert_eq!(client.send(&request("GET", "/v3/auth/tokens", &[], "")).await.error(), (405, "405".to_owned()));
    assert_eq!(simulator.handle().requests(Operation::Other), 6);
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_changed_refuse_writes_and_return_their_status() {
    let simulator = start(setup()).await;
    for (key, code) in [
        (Key::new(KEY).state(KeyState::Disabled), "KMS.0209"),
        (Key::new(KEY).state(KeyState::PendingDeletion).rotating(90), "KMS.0210"),
        (Key::new(KEY).imported(), "KMS.0312"),
        (Key::new(KEY).default_of("evs"), "KMS.0211"),
        (Key::new(KEY).spec("RSA_2048"), "KMS.0324"),
        (Key::new(KEY).spec("EC_P256"), "KMS.0325"),
        (Key::new(KEY).spec("HMAC_256"), "KMS.0341"),
        (Key::new(KEY).keystore("6b5a"), "KMS.0338"),
        (Key::new(KEY).replica(), "KMS.0106"),
    ] {
        let enabled = key.rotation.enabled;
        simulator.handle().set_key(PROJECT, key);
        let stored = simulator.handle().key(PROJECT, KEY);
        assert_eq!(enable(&simulator).await.error(), refused(code));
        assert_eq!(update(&simulator, 90).await.error(), refused(code));
        assert_eq!(status(&simulator).await.json()["key_rotation_enabled"], enabled);
        assert_eq!(simulator.handle().key(PROJECT, KEY), stored);
    }
    simulator.handle().behave(|cloud| cloud.status_refused_where_unrotatable = true);
    assert_eq!(status(&simulator).await.error(), refused("KMS.0106"));
    simulator.handle().set_key(PROJECT, Key::new(KEY).state(KeyState::Disabled));
    assert_eq!(status(&simulator).await.status, 200, "a disabled key keeps its setting");
}

#[tokio::test(start_paused = true)]
async fn keys_are_described_and_listed_as_text() {
    let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let simulator = start(setup_with(Key::new(KEY).created(created).rotating(90).alias("pay \"main\""))).await;
    let described = send(&simulator, "describe-key", json!({"key_id": KEY})).await.json();
    let details = &described["key_info"];
    assert!(details.as_object().unwrap().values().all(Value::is_string), "{details}");
    for (field, value) in [
        ("key_id", KEY),
        ("key_alias", "pay \"main\""),
        ("key_state", "2"),
        ("default_key_flag", "0"),
        ("origin", "kms"),
        ("keystore_id", "0"),
        ("creation_date", "1700000000000"),
        ("key_rotation_enabled", "true"),
    ] {
        assert_eq!(details[field], value);
    }
    simulator.handle().set_key(PROJECT, Key::new(UNKNOWN_KEY).state(KeyState::Disabled));
    let page = send(&simulator, "list-keys", json!({"limit": "1", "key_spec": "ALL"})).await.json();
    assert_eq!((&page["keys"], &page["truncated"], &page["total"]), (&json!([KEY]), &json!("true"), &json!(2)));
    let page = send(&simulator, "list-keys", json!({"limit": 1, "marker": page["next_marker"]})).await.json();
    assert_eq!(
        (&page["keys"], &page["truncated"], &page["next_marker"]),
        (&json!([UNKNOWN_KEY]), &json!("false"), &json!(""))
    );
    assert_eq!(page["key_details"][0]["key_state"], "3");
}

#[tokio::test(start_paused = true)]
async fn calls_can_be_missing_or_forbidden_and_rotation_can_be_unsupported() {
    let simulator = start(setup().behave(|cloud| cloud.unknown = OperationSet::READS)).await;
    assert_eq!(status(&simulator).await.error(), (404, "APIGW.0101".to_owned()));
    assert_eq!(enable(&simulator).await.status, 200);
    assert_eq!(update(&simulator, 90).await.status, 200);
    let handle = simulator.handle();
    handle.behave(|cloud| (cloud.unknown, cloud.forbidden) = (OperationSet::NONE, Operation::ReadStatus.into()));
    assert_eq!(status(&simulator).await.error(), (403, "KMS.0307".to_owned()));
    assert_eq!(update(&simulator, 30).await.status, 200);
    handle.behave(|cloud| (cloud.forbidden, cloud.rotation_offered) = (OperationSet::NONE, false));
    assert_eq!(status(&simulator).await.error(), refused("KMS.0319"));
    assert_eq!(enable(&simulator).await.error(), refused("KMS.0319"));
    assert_eq!(send(&simulator, "describe-key", json!({"key_id": KEY})).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_write_becomes_visible_after_the_configured_number_of_reads() {
    let simulator = start(setup().behave(|cloud| cloud.visibility_lag = 2)).await;
    assert_eq!(enable(&simulator).await.status, 200);
    for expected in [false, false, true] {
        assert_eq!(status(&simulator).await.json()["key_rotation_enabled"], expected);
    }
    assert!(simulator.handle().key(PROJECT, KEY).unwrap().rotation.enabled);
}
