//! Signed requests: accepted ones, refused ones, and lockouts.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use kms_simulator::{Fault, Operation, ProjectSetup, Rule, Setup, Simulator};
use serde_json::json;

use crate::signing::{ACCESS, Keys, SECRET, START, Signed};
use crate::wire::{Answer, call};
use crate::{KEY, OTHER_PROJECT, PROJECT, clock, setup, start};

const LOCKED: &str = "AK access failed to reach the limit, forbidden";

fn signing() -> Setup {
    let other = ProjectSetup::new(OTHER_PROJECT, "eu-nl");
    setup().project(other).access_key(ACCESS, SECRET)
}

fn read(simulator: &Simulator) -> Signed {
    Signed::kms(simulator, "get-key-rotation-status", &json!({"key_id": KEY}), START)
}

async fn send(simulator: &Simulator, keys: &Keys) -> Answer {
    read(simulator).by(keys).send(simulator).await
}

fn message(answer: &Answer) -> String {
    assert_eq!(answer.error(), (401, "APIGW.0301".to_owned()));
    let body = answer.json();
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "the gateway's shape");
    body["error_msg"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_signature_is_accepted_by_kms_and_iam_like_a_token() {
    let simulator = start(signing().clock(clock().1)).await;
    let keys = Keys::permanent();
    assert_eq!(send(&simulator, &keys).await.json()["key_rotation_enabled"], false);
    let enabled = Signed::kms(&simulator, "enable-key-rotation", &json!({"key_id": KEY, "äöü": "€"}), START).by(&keys);
    assert_eq!(enabled.send(&simulator).await.status, 200, "any bytes may be in the body");
    assert!(simulator.handle().key(PROJECT, KEY).unwrap().rotation.enabled);

    let named = read(&simulator).header_added("x-project-id", &format!("  {PROJECT} ")).by(&keys);
    assert_eq!(named.send(&simulator).await.status, 200, "values are trimmed");
    let named = read(&simulator).by(&keys).header_added("x-project-id", PROJECT);
    assert_eq!(named.send(&simulator).await.status, 200, "what is not named need not be signed");
    let named = named.header_changed("x-project-id", OTHER_PROJECT);
    assert_eq!(named.send(&simulator).await.error(), (403, "KMS.0321".to_owned()));

    let mut list = Signed::new(&simulator, "GET", "/v3/projects", "", START);
    (list.query, list.canonical_query) = ("name=eu%2Dde&a=2+%7E&a=10&b", "a=10&a=2%20~&b=&name=eu-de");
    let list = list.by(&keys).send(&simulator).await;
    assert_eq!((list.status, &list.json()["projects"][0]["id"]), (200, &json!(PROJECT)));
    assert_eq!(simulator.handle().access_keys_seen(), [ACCESS]);
    assert_eq!(simulator.handle().access_key_requests(ACCESS), 6);
    assert_eq!(simulator.handle().access_key_refusals(ACCESS), 0);
}

#[tokio::test(start_paused = true)]
async fn every_error_of_a_signature_is_refused_with_its_own_text() {
    let setup = signing().access_key("ANOTHER", "secret").clock(clock().1);
    let simulator = start(setup.behave(|cloud| cloud.access_key_lock_after = u32::MAX)).await;
    let keys = Keys::permanent();
    let at = |time| Signed::kms(&simulator, "get-key-rotation-status", &json!({"key_id": KEY}), time).by(&keys);
    for within in [START - 900, START + 900] {
        assert_eq!(at(within).send(&simulator).await.status, 200);
    }
    let whole = read(&simulator).by(&keys);
    let mut other_body = whole.clone();
    other_body.body.push(' ');
    let mut other_path = whole.clone();
    other_path.path = other_path.path.replace(PROJECT, OTHER_PROJECT);
    let mut other_query = whole.clone();
    other_query.query = "a=b";
    let wrong = "Incorrect IAM authentication information: verify aksk signature fail";
    for changed in [
        other_body,
        other_path,
        other_query,
        whole.clone().header_changed("host", "kms.example.com"),
        whole.clone().header_changed("content-type", "application/json;charset=utf-8"),
        whole.clone().authorized(|text| text.replace(ACCESS, "ANOTHER")),
        read(&simulator).by(&Keys::new(ACCESS, "another secret")),
    ] {
        assert_eq!(message(&changed.send(&simulator).await), wrong, "{changed:?}");
    }
    let mut texts = HashSet::from([wrong.to_owned()]);
    let flaws = [
        read(&simulator).by(&Keys::new("UNKNOWN", SECRET)),
        at(START - 901),
        whole.clone().without("x-sdk-date"),
        read(&simulator).without("x-sdk-date").by(&keys).header_added("x-sdk-date", "20231114T221320Z"),
        whole.clone().without("content-type"),
        whole.clone().authorized(|text| text.replace("content-type;host", "host;content-type")),
        whole.clone().authorized(|text| text.replace("SDK-HMAC-SHA256 Access", "SDK-HMAC-SHA256 Credential")),
        whole.clone().header_added("x-sdk-content-sha256", &"0".repeat(64)),
        whole.clone().header_added("x-security-token", "left over"),
    ];
    let count = flaws.len() as u64;
    for flaw in flaws {
        let text = message(&flaw.send(&simulator).await);
        assert!(texts.insert(text.clone()), "{text}");
    }
    let skewed = [at(START + 901), at(START - 86_400)];
    for skewed in skewed {
        assert!(message(&skewed.send(&simulator).await).ends_with("signature expired"));
    }
    assert_eq!(simulator.handle().authentication_failures(), 7 + count + 2);
    assert_eq!(simulator.handle().access_key_refusals("UNKNOWN"), 1);
}

#[tokio::test(start_paused = true)]
async fn five_consecutive_refusals_lock_only_this_access_key() {
    let (time, clock) = clock();
    let simulator = start(signing().access_key("ANOTHER", "secret").clock(clock)).await;
    let handle = simulator.handle();
    let (right, wrong) = (Keys::permanent(), Keys::new(ACCESS, "wrong"));
    for _ in 0..4 {
        assert_eq!(send(&simulator, &wrong).await.status, 401);
    }
    assert_eq!(send(&simulator, &right).await.status, 200, "a success resets the count");
    handle.fault(Rule::next(2, Fault::unauthorized()).on(Operation::ReadStatus));
    for _ in 0..2 {
        assert_eq!(send(&simulator, &right).await.status, 401, "a fault is a refusal as any other");
    }
    for _ in 0..2 {
        assert_eq!(send(&simulator, &wrong).await.status, 401);
    }
    assert!(!handle.access_key_is_locked(ACCESS));
    let list = Signed::new(&simulator, "GET", "/v3/projects", "", START).by(&wrong);
    assert_eq!(list.send(&simulator).await.status, 401, "IAM's refusals count too");
    assert!(handle.access_key_is_locked(ACCESS));
    assert_eq!(message(&send(&simulator, &right).await), LOCKED);
    handle.set_access_key(ACCESS, "another secret");
    assert_eq!(message(&send(&simulator, &Keys::new(ACCESS, "another secret")).await), LOCKED);
    assert_eq!(send(&simulator, &Keys::new("ANOTHER", "secret")).await.status, 200);
    assert_eq!((handle.access_key_requests(ACCESS), handle.access_key_refusals(ACCESS)), (12, 11));
    handle.forget_requests();
    assert_eq!((handle.access_key_requests(ACCESS), handle.access_keys_seen()), (0, Vec::new()));

    time.fetch_add(300, Ordering::Relaxed);
    assert!(!handle.access_key_is_locked(ACCESS));
    let later =
        |keys: &Keys| Signed::kms(&simulator, "get-key-rotation-status", &json!({"key_id": KEY}), START + 300).by(keys);
    assert_eq!(later(&Keys::new(ACCESS, "another secret")).send(&simulator).await.status, 200);
    assert_eq!(later(&right).send(&simulator).await.status, 401, "the secret was changed");
    handle.revoke_access_key(ACCESS);
    let gone = later(&Keys::new(ACCESS, "another secret")).send(&simulator).await;
    assert_eq!(message(&gone), format!("Incorrect IAM authentication information: ak {ACCESS} not exist"));
}

#[tokio::test(start_paused = true)]
async fn the_date_of_an_answer_is_the_clouds_clock_with_an_offset() {
    let (time, clock) = clock();
    let simulator = start(signing().clock(clock)).await;
    let dated = |date: &'static str| {
        let simulator = &simulator;
        async move {
            assert_eq!(call(simulator, "/", &[], "").await.header("date"), Some(date));
        }
    };
    dated("Tue, 14 Nov 2023 22:13:20 GMT").await;
    time.fetch_add(60, Ordering::Relaxed);
    dated("Tue, 14 Nov 2023 22:14:20 GMT").await;
    simulator.handle().behave(|cloud| cloud.date_offset_seconds = -660);
    dated("Tue, 14 Nov 2023 22:03:20 GMT").await;
    assert_eq!(send(&simulator, &Keys::permanent()).await.status, 200, "signatures go by the clock itself");
    simulator.handle().behave(|cloud| cloud.date_offset_seconds = i64::MAX);
    dated("Fri, 31 Dec 9999 23:59:59 GMT").await;
    simulator.handle().behave(|cloud| cloud.date_offset_seconds = i64::MIN);
    dated("Thu, 01 Jan 1970 00:00:00 GMT").await;
}
