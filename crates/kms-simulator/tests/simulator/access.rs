//! Logins, tokens and permissions.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kms_simulator::{Fault, ProjectSetup, Rule, TokenRefusal};
use serde_json::{Value, json};

use crate::wire::{JSON, call};
use crate::{KEY, OTHER_PROJECT, PROJECT, TOKEN, clock, kms_with, log_in, setup, start, status};

#[tokio::test(start_paused = true)]
async fn iam_gives_a_token_for_a_project_by_id_and_by_name() {
    let simulator = start(setup()).await;
    let body = json!({"key_id": KEY});
    for scope in [
        json!({"project": {"id": PROJECT}}),
        json!({"project": {"name": "eu-de"}}),
        json!({"project": {"name": "eu-de", "domain": {"name": "ACCOUNT"}}}),
    ] {
        let answer = log_in(&simulator, "secret", &scope).await;
        assert_eq!(answer.status, 201, "{scope}");
        let token = answer.header("x-subject-token").unwrap();
        assert!(token.len() >= 3000, "as long as the real ones");
        assert!(answer.header("x-request-id").is_some() && answer.header("x-iam-trace-id").is_some());
        let about = answer.json();
        assert_eq!(about["token"]["project"]["id"], PROJECT);
        assert_eq!(about["token"]["project"]["name"], "eu-de");
        assert_eq!(about["token"]["project"]["domain"]["name"], "ACCOUNT");
        assert!(about["token"].get("catalog").is_none());
        let lifetime = |field: &str| about["token"][field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(lifetime("expires_at").duration_since(lifetime("issued_at")).as_hours(), 24);
        assert_eq!(kms_with(&simulator, token, "get-key-rotation-status", &body).await.status, 200);
    }
    let user = json!({"name": "rotator", "password": "secret", "domain": {"name": "ACCOUNT"}});
    let with =
        |methods: Value| json!({"auth": {"identity": {"methods": methods, "password": {"user": user}}}}).to_string();
    let answer = call(&simulator, "/v3/auth/tokens", &[JSON], &with(json!(["password"]))).await.json();
    assert_eq!(answer["token"]["catalog"][0]["endpoints"][0]["url"], simulator.url(), "left out only with nocatalog");
    let answer = call(&simulator, "/v3/auth/tokens", &[JSON], &with(json!(["token"]))).await;
    assert_eq!(answer.error(), (401, "401".to_owned()));
    let unscoped = log_in(&simulator, "secret", &Value::Null).await;
    let token = unscoped.header("x-subject-token").unwrap();
    assert_eq!(kms_with(&simulator, token, "list-keys", &body).await.error(), (403, "KMS.0321".to_owned()));
    for scope in [
        json!({"project": {"id": OTHER_PROJECT}}),
        json!({"project": {"name": "eu-nl"}}),
        json!({"project": {"name": "eu-de", "domain": {"name": "OTHER"}}}),
    ] {
        assert_eq!(log_in(&simulator, "secret", &scope).await.error(), (404, "IAM.0004".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn iam_refuses_malformed_requests_and_wrong_passwords_and_locks_the_user() {
    let (time, clock) = clock();
    let simulator = start(setup().clock(clock)).await;
    for body in ["", "{}", r#"{"auth":7}"#, r#"{"auth":{"identity":{"methods":["password"]}}}"#] {
        assert_eq!(call(&simulator, "/v3/auth/tokens", &[JSON], body).await.error(), (400, "400".to_owned()), "{body}");
    }
    assert_eq!(call(&simulator, "/v3/auth/tokens", &[], "{}").await.status, 400, "the content type is mandatory");
    let scope = json!({"project": {"id": PROJECT}});
    let wrong = log_in(&simulator, "guess", &scope).await;
    assert_eq!(
        (wrong.status, wrong.json()),
        (
            401,
            json!({"error": {"code": 401, "message": "The username or password is wrong.", "title": "Unauthorized"}})
        )
    );
    for _ in 0..4 {
        assert_eq!(log_in(&simulator, "guess", &scope).await.error(), (401, "401".to_owned()));
    }
    assert_eq!(log_in(&simulator, "secret", &scope).await.error(), (401, "IAM.0061".to_owned()));
    assert_eq!(simulator.handle().authentication_failures(), 6);
    time.fetch_add(301, Ordering::Relaxed);
    assert_eq!(log_in(&simulator, "secret", &scope).await.status, 201);
    simulator.handle().set_password("rotator", "ACCOUNT", "changed");
    assert_eq!(log_in(&simulator, "secret", &scope).await.status, 401);
    assert_eq!(log_in(&simulator, "changed", &scope).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn tokens_expire_can_be_revoked_and_are_valid_for_one_project() {
    let (time, clock) = clock();
    let other = ProjectSetup::new(OTHER_PROJECT, "eu-nl").token("token-of-another");
    let setup = setup().project(other).clock(clock).behave(|cloud| cloud.token_lifetime = Duration::from_secs(60));
    let simulator = start(setup).await;
    let body = json!({"key_id": KEY});
    let answer = log_in(&simulator, "secret", &json!({"project": {"id": PROJECT}})).await;
    let token = answer.header("x-subject-token").unwrap();
    let with = |token| kms_with(&simulator, token, "get-key-rotation-status", &body);

    time.fetch_add(59, Ordering::Relaxed);
    assert_eq!(with(token).await.status, 200);
    time.fetch_add(1, Ordering::Relaxed);
    let forbidden = |code: &str| (403, code.to_owned());
    assert_eq!(with(token).await.error(), forbidden("KMS.0303"));
    assert_eq!(with("").await.error(), forbidden("KMS.0301"));
    assert_eq!(with("made-up").await.error(), forbidden("KMS.0302"));
    assert_eq!(with("token-of-another").await.error(), forbidden("KMS.0321"));
    let unknown = format!("/v1.0/{}/kms/list-keys", "a".repeat(32));
    let answer = call(&simulator, &unknown, &[JSON, ("X-Auth-Token", TOKEN)], "{}").await;
    assert_eq!(answer.error(), forbidden("KMS.0321"));

    simulator.handle().behave(|cloud| cloud.token_refusal = TokenRefusal::Gateway);
    let unauthorized = |code: &str| (401, code.to_owned());
    assert_eq!(with(token).await.error(), unauthorized("APIGW.0307"));
    assert_eq!(with("").await.error(), unauthorized("APIGW.0301"));
    let invalid = with("made-up").await;
    assert_eq!(invalid.error(), unauthorized("APIGW.0301"));
    assert_eq!(invalid.json()["request_id"].as_str(), invalid.header("x-request-id"));

    assert_eq!(with(TOKEN).await.status, 200, "a token from a file does not expire");
    simulator.handle().revoke_tokens();
    assert_eq!(with(TOKEN).await.error(), unauthorized("APIGW.0307"));
    simulator.handle().add_token(PROJECT, "a-new-one", None);
    assert_eq!(with("a-new-one").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn five_consecutive_failures_lock_access_if_configured() {
    let simulator = start(setup().behave(|cloud| cloud.access_lock_after = Some(5))).await;
    let body = json!({"key_id": KEY});
    for _ in 0..4 {
        assert_eq!(kms_with(&simulator, "made-up", "list-keys", &body).await.status, 403);
    }
    assert_eq!(status(&simulator).await.status, 200, "a success resets the count");
    simulator.handle().fault(Rule::next(5, Fault::unauthorized()));
    for _ in 0..5 {
        assert_eq!(status(&simulator).await.error(), (401, "APIGW.0301".to_owned()));
    }
    let locked = status(&simulator).await;
    assert_eq!(
        (locked.status, &locked.json()["error_msg"]),
        (401, &json!("AK access failed to reach the limit, forbidden"))
    );
    assert_eq!(simulator.handle().authentication_failures(), 10);
}
