//! The metadata service of an instance, and its temporary keys.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kms_simulator::{Fault, MetadataTokens, Operation, OperationSet, Rule, Simulator};
use serde_json::json;

use crate::signing::{Keys, START, Signed};
use crate::wire::{Answer, Client, get, request};
use crate::{KEY, clock, setup, start};

async fn token(simulator: &Simulator, lifetime: &str) -> Answer {
    let headers = [("X-Metadata-Token-Ttl-Seconds", lifetime)];
    let request = request("PUT", "/meta-data/latest/api/token", &headers, "");
    Client::connect(simulator).await.send(&request).await
}

async fn keys(simulator: &Simulator, token: Option<&str>) -> Answer {
    let header = token.map(|token| ("X-Metadata-Token", token));
    get(simulator, "/openstack/latest/securitykey", header.as_slice()).await
}

#[tokio::test(start_paused = true)]
async fn keys_need_a_token_only_if_the_instance_requires_it() {
    let (time, clock) = clock();
    let simulator = start(setup().clock(clock)).await;
    let handle = simulator.handle();
    let given = token(&simulator, "21600").await;
    assert_eq!((given.status, given.header("content-type")), (200, Some("text/plain")));
    assert_eq!(given.header("x-request-id"), None, "there is no gateway in front of it");
    for (tokens, without, with, made_up) in [
        (MetadataTokens::Optional, 200, 200, 401),
        (MetadataTokens::Required, 401, 200, 401),
        (MetadataTokens::Absent(404), 200, 200, 200),
    ] {
        handle.behave(|cloud| cloud.metadata_tokens = tokens);
        assert_eq!(keys(&simulator, None).await.status, without, "{tokens:?}");
        assert_eq!(keys(&simulator, Some(given.text())).await.status, with, "{tokens:?}");
        assert_eq!(keys(&simulator, Some("made-up")).await.status, made_up, "{tokens:?}");
    }
    for status in [404, 405, 503] {
        handle.behave(|cloud| cloud.metadata_tokens = MetadataTokens::Absent(status));
        assert_eq!(token(&simulator, "21600").await.status, status);
    }
    handle.behave(|cloud| cloud.metadata_tokens = MetadataTokens::Required);
    for lifetime in ["", "0", "21601", "a day"] {
        assert_eq!(token(&simulator, lifetime).await.status, 400, "{lifetime}");
    }
    let brief = token(&simulator, "60").await;
    time.fetch_add(59, Ordering::Relaxed);
    assert_eq!(keys(&simulator, Some(brief.text())).await.status, 200);
    time.fetch_add(1, Ordering::Relaxed);
    assert_eq!(keys(&simulator, Some(brief.text())).await.status, 401);
    handle.revoke_metadata_tokens();
    assert_eq!(keys(&simulator, Some(given.text())).await.status, 401);

    handle.behave(|cloud| (cloud.metadata_tokens, cloud.instance_agency) = (MetadataTokens::Optional, false));
    let none = keys(&simulator, None).await;
    assert_eq!((none.status, none.text()), (401, "Please configure Cloud Service Agency first"));
    assert_eq!(handle.authentication_failures(), 0, "no authentication took place");
    assert_eq!((handle.requests(Operation::MetadataToken), handle.requests(Operation::InstanceKeys)), (9, 13));
}

#[tokio::test(start_paused = true)]
async fn an_instances_keys_are_valid_until_they_expire() {
    let (time, clock) = clock();
    let setup = setup().clock(clock).behave(|cloud| cloud.temporary_key_lifetime = Some(Duration::from_secs(600)));
    let simulator = start(setup).await;
    let answer = keys(&simulator, None).await;
    assert_eq!(answer.json()["credential"]["expires_at"], "2023-11-14T22:23:20.000000Z");
    let temporary = Keys::temporary(&answer);
    assert_ne!(temporary.access, Keys::temporary(&keys(&simulator, None).await).access, "new ones each time");
    let read = |at| Signed::kms(&simulator, "get-key-rotation-status", &json!({"key_id": KEY}), at).by(&temporary);
    let whole = read(START);
    assert_eq!(whole.send(&simulator).await.status, 200);
    let text = |answer: Answer| {
        assert_eq!(answer.error(), (401, "APIGW.0301".to_owned()));
        answer.json()["error_msg"].as_str().unwrap().rsplit_once(": ").unwrap().1.to_owned()
    };
    let unsigned = Keys { security_token: None, ..temporary.clone() };
    let without = Signed::kms(&simulator, "get-key-rotation-status", &json!({"key_id": KEY}), START).by(&unsigned);
    assert_eq!(text(without.send(&simulator).await), "x-security-token not found");
    let with = |token: &str| without.clone().header_added("x-security-token", token);
    assert_eq!(
        with(temporary.security_token.as_deref().unwrap()).send(&simulator).await.status,
        200,
        "need not be signed"
    );
    assert_eq!(text(with("another").send(&simulator).await), "x-security-token does not belong to the ak");

    time.fetch_add(600, Ordering::Relaxed);
    assert_eq!(text(read(START + 600).send(&simulator).await), "x-security-token expired");
    let fresh = Keys::temporary(&keys(&simulator, None).await);
    let read = Signed::kms(&simulator, "get-key-rotation-status", &json!({"key_id": KEY}), START + 600).by(&fresh);
    assert_eq!(read.send(&simulator).await.status, 200);
    simulator.handle().revoke_temporary_keys();
    assert_eq!(text(read.send(&simulator).await), format!("ak {} not exist", fresh.access));
}

#[tokio::test(start_paused = true)]
async fn the_metadata_service_has_separate_fault_rules() {
    let simulator = start(setup().fault(Rule::always(Fault::html(502)).on(OperationSet::ALL))).await;
    let handle = simulator.handle();
    assert_eq!(keys(&simulator, None).await.status, 200, "it is neither KMS nor IAM");
    handle.clear_faults();
    handle.fault(Rule::next(1, Fault::reset()).on(Operation::InstanceKeys));
    handle.fault(Rule::next(1, Fault::html(401)).on(OperationSet::METADATA));
    assert_eq!(keys(&simulator, None).await.status, 0);
    assert_eq!(token(&simulator, "21600").await.status, 401);
    assert_eq!(keys(&simulator, None).await.status, 200);
    handle.behave(|cloud| cloud.unknown = OperationSet::METADATA);
    assert_eq!(keys(&simulator, None).await.status, 404);
    let post = request("POST", "/openstack/latest/securitykey", &[], "");
    assert_eq!(Client::connect(&simulator).await.send(&post).await.status, 405);
    assert_eq!(handle.authentication_failures(), 0);
}
