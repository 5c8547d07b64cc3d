//! Keys for a workload with a token of its cluster: from STS, and from the agent of its node.

use std::sync::atomic::Ordering;

use kms_simulator::{Fault, Operation, OperationSet, Rule, Simulator};
use serde_json::{Value, json};

use crate::signing::{Keys, START, Signed};
use crate::wire::{Answer, Client, JSON, call, request};
use crate::{KEY, clock, setup, start};

const PROVIDER: &str = "iam::d1:oidcProvider:cluster";
const AGENCY: &str = "iam::d1:agency:rotation";
const STS: &str = "/v5/agencies/assume-with-oidc";

fn body(change: impl FnOnce(&mut Value)) -> String {
    let mut body = json!({
        "provider_urn": PROVIDER,
        "agency_urn": AGENCY,
        "agency_session_name": "a-session",
        "id_token": "aaaa.bbbb.cccc",
        "duration_seconds": 900,
    });
    change(&mut body);
    body.to_string()
}

/// The key in an answer, by the names of its fields.
fn key(answer: &Answer, [access, secret, token]: [&str; 3]) -> Keys {
    let text = |name: &str| answer.json()["credentials"][name].as_str().unwrap().to_owned();
    Keys { access: text(access), secret: text(secret), security_token: Some(text(token)) }
}

async fn pod(simulator: &Simulator, token: Option<&str>, body: &str) -> Answer {
    let token = token.map(|token| ("Authorization", token));
    let headers: Vec<_> = [JSON].into_iter().chain(token).collect();
    call(simulator, simulator.pod_url().strip_prefix(&simulator.url()).unwrap(), &headers, body).await
}

#[tokio::test(start_paused = true)]
async fn sts_issues_keys_for_a_providers_token_that_are_valid_until_they_expire() {
    let (time, clock) = clock();
    let simulator = start(setup().oidc_agency(PROVIDER, AGENCY, "aaaa.bbbb.cccc").clock(clock)).await;
    let answer = call(&simulator, STS, &[JSON], &body(|_| {})).await;
    assert_eq!(
        (answer.status, &answer.json()["credentials"]["expiration"]),
        (200, &json!("2023-11-14T22:28:20.000000Z"))
    );
    let keys = key(&answer, ["access_key_id", "secret_access_key", "security_token"]);
    let read = |at| Signed::kms(&simulator, "get-key-rotation-status", &json!({"key_id": KEY}), at).by(&keys);
    assert_eq!(read(START).send(&simulator).await.status, 200);
    time.fetch_add(900, Ordering::Relaxed);
    assert_eq!(read(START + 900).send(&simulator).await.error(), (401, "APIGW.0301".to_owned()));
    let unasked = body(|body| {
        body.as_object_mut().unwrap().remove("duration_seconds");
    });
    let answer = call(&simulator, STS, &[JSON], &unasked).await;
    assert_eq!(answer.json()["credentials"]["expiration"], "2023-11-14T23:28:20.000000Z", "3600 s by default");
    assert_eq!(simulator.handle().requests(Operation::AssumeWithOidc), 2);
}

#[tokio::test(start_paused = true)]
async fn sts_refuses_untrusted_tokens_and_incomplete_requests() {
    let simulator = start(setup().oidc_agency(PROVIDER, AGENCY, "aaaa.bbbb.cccc")).await;
    let handle = simulator.handle();
    for name in ["provider_urn", "agency_urn", "agency_session_name", "id_token"] {
        let without = body(|body| body[name] = Value::Null);
        assert_eq!(call(&simulator, STS, &[JSON], &without).await.status, 400, "{name}");
    }
    assert_eq!(call(&simulator, STS, &[JSON], &body(|body| body["duration_seconds"] = json!("1h"))).await.status, 400);
    assert_eq!(call(&simulator, STS, &[], &body(|_| {})).await.status, 400, "no Content-Type");
    for name in ["provider_urn", "agency_urn"] {
        let other = body(|body| body[name] = json!("iam::d1:other"));
        assert_eq!(call(&simulator, STS, &[JSON], &other).await.error(), (404, "IAM.0004".to_owned()), "{name}");
    }
    assert_eq!(handle.authentication_failures(), 0);
    let wrong = body(|body| body["id_token"] = json!("made-up"));
    assert_eq!(call(&simulator, STS, &[JSON], &wrong).await.error(), (401, "IAM.0001".to_owned()));
    handle.set_oidc_token(PROVIDER, "made-up");
    assert_eq!(call(&simulator, STS, &[JSON], &wrong).await.status, 200);
    assert_eq!(call(&simulator, STS, &[JSON], &body(|_| {})).await.status, 401, "the previous token");
    assert_eq!(handle.authentication_failures(), 2);
    handle.behave(|cloud| cloud.forbidden = Operation::AssumeWithOidc.into());
    assert_eq!(call(&simulator, STS, &[JSON], &wrong).await.error(), (403, "IAM.0003".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_agent_identifies_a_pod_by_its_token() {
    let (_, clock) = clock();
    let simulator = start(setup().pod_identity("of-the-pod").clock(clock)).await;
    let handle = simulator.handle();
    let answer = pod(&simulator, Some("of-the-pod"), "{}").await;
    assert_eq!(answer.header("x-request-id"), None, "there is no gateway in front of it");
    let keys = key(&answer, ["accessKeyId", "secretAccessKey", "securityToken"]);
    let read = Signed::kms(&simulator, "get-key-rotation-status", &json!({"key_id": KEY}), START).by(&keys);
    assert_eq!(read.send(&simulator).await.status, 200);
    for (token, body, status) in [
        (None, "{}", 401),
        (Some("of-another"), "{}", 401),
        (Some("Bearer of-the-pod"), "{}", 401),
        (Some("of-the-pod"), "", 400),
        (Some("of-the-pod"), r#"{"a":1}"#, 400),
    ] {
        assert_eq!(pod(&simulator, token, body).await.status, status, "{token:?} {body}");
    }
    handle.set_pod_token("of-today");
    assert_eq!(pod(&simulator, Some("of-the-pod"), "{}").await.status, 401);
    assert_eq!(pod(&simulator, Some("of-today"), "{}").await.status, 200);
    assert_eq!((handle.authentication_failures(), handle.requests(Operation::PodKeys)), (0, 8));
}

#[tokio::test(start_paused = true)]
async fn the_agent_is_optional_and_has_separate_fault_rules() {
    let simulator = start(setup()).await;
    assert_eq!(pod(&simulator, Some("of-the-pod"), "{}").await.status, 404, "no cluster");
    let failing = Rule::always(Fault::html(502));
    let simulator = start(setup().pod_identity("of-the-pod").fault(failing.clone().on(OperationSet::ALL))).await;
    assert_eq!(pod(&simulator, Some("of-the-pod"), "{}").await.status, 200);
    assert_eq!(call(&simulator, STS, &[JSON], &body(|_| {})).await.status, 502);
    simulator.handle().fault(failing.on(OperationSet::METADATA));
    assert_eq!(pod(&simulator, Some("of-the-pod"), "{}").await.status, 502);
    simulator.handle().clear_faults();
    let get = request("GET", "/v1/credentials", &[], "");
    assert_eq!(Client::connect(&simulator).await.send(&get).await.status, 405);
}
