//! Injected faults, and hostile clients.

use std::io::ErrorKind;
use std::time::Duration;

use kms_simulator::{Fault, Garbage, Hold, Journal, Key, Operation, OperationSet, Rule};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::wire::{Client, End, JSON, call, request};
use crate::{KEY, PROJECT, TOKEN, enable, log_in, refused, setup, setup_with, start, status, update};

#[tokio::test(start_paused = true)]
async fn only_the_calls_of_a_rule_fail() {
    let simulator = start(setup_with(Key::new(KEY).rotating(365))).await;
    let handle = simulator.handle();
    handle.fault(Rule::next(1, Fault::html(502)).on(Operation::UpdateInterval).key(KEY));
    handle.fault(Rule::next(1, Fault::html(504).after_applying()).on(Operation::UpdateInterval));
    handle.fault(Rule::next(1, Fault::kms(500, "KMS.0100")).on(Operation::ReadStatus));
    handle.fault(Rule::next(1, Fault::throttled().retry_after("7")).on(Operation::ReadStatus));
    handle.fault(Rule::next(1, Fault::throttled()).on(Operation::ReadStatus));
    handle.fault(Rule::next(1, Fault::access_locked()).on(Operation::ReadStatus));

    let page = update(&simulator, 90).await;
    assert_eq!((page.status, page.header("content-type")), (502, Some("text/html")));
    assert!(page.text().starts_with("<html>") && page.header("x-request-id").is_some());
    assert_eq!(handle.writes_applied(PROJECT, KEY), 0);
    assert_eq!(update(&simulator, 90).await.status, 504);
    assert_eq!(handle.key(PROJECT, KEY).unwrap().rotation.interval_days, 90, "applied, whatever was answered");
    assert_eq!(update(&simulator, 90).await.status, 200);
    assert_eq!(handle.intervals_sent(PROJECT, KEY), [90, 90, 90]);

    assert_eq!(status(&simulator).await.error(), (500, "KMS.0100".to_owned()));
    let throttled = status(&simulator).await;
    assert_eq!((throttled.error(), throttled.header("retry-after")), ((429, "APIGW.0308".to_owned()), Some("7")));
    let throttled = status(&simulator).await;
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, None));
    assert_eq!(status(&simulator).await.error(), (401, "APIGW.0301".to_owned()));
    assert_eq!(status(&simulator).await.status, 200);
    assert_eq!(handle.faults_injected(), 6);
    handle.fault(Rule::always(Fault::html(503)));
    assert_eq!(status(&simulator).await.status, 503);
    let scope = json!({"project": {"id": PROJECT}});
    assert_eq!(log_in(&simulator, "secret", &scope).await.status, 201, "rules spare IAM by default");
    handle.fault(Rule::next(1, Fault::html(503)).on(OperationSet::IAM));
    assert_eq!(log_in(&simulator, "secret", &scope).await.status, 503);
    handle.clear_faults();
    assert_eq!(status(&simulator).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn connections_break_before_and_after_a_write_and_in_the_middle_of_an_answer() {
    let simulator = start(setup()).await;
    let handle = simulator.handle();
    let enabled = || handle.key(PROJECT, KEY).unwrap().rotation.enabled;
    handle.fault(Rule::next(1, Fault::reset()).on(Operation::EnableRotation));
    handle.fault(Rule::next(1, Fault::reset().after_applying()).on(Operation::EnableRotation));
    handle.fault(Rule::next(1, Fault::cut_off()).on(Operation::ReadStatus));
    handle.fault(Rule::next(1, Fault::cut_off_by_reset()).on(Operation::ReadStatus));

    let answer = enable(&simulator).await;
    assert_eq!((answer.status, answer.end, enabled()), (0, End::Reset, false));
    let answer = enable(&simulator).await;
    assert_eq!((answer.status, answer.end, enabled()), (0, End::Reset, true));
    let outcomes: Vec<_> = handle.calls(PROJECT, KEY).iter().map(|call| (call.status, call.applied)).collect();
    assert_eq!(outcomes, [(None, false), (None, true)]);
    for end in [End::Closed, End::Reset] {
        let answer = status(&simulator).await;
        assert_eq!((answer.status, answer.end), (200, end));
        let announced: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!(answer.body.len(), announced / 2);
        assert!(announced > 10);
    }
    handle.fault(Rule::next(1, Fault::cut_off()).on(Operation::UpdateInterval));
    let answer = update(&simulator, 90).await;
    assert_eq!((answer.end, handle.key(PROJECT, KEY).unwrap().rotation.interval_days), (End::Closed, 90));
}

#[tokio::test(start_paused = true)]
async fn a_200_may_mean_nothing() {
    let simulator = start(setup_with(Key::new(KEY).rotating(90))).await;
    for garbage in Garbage::ALL {
        simulator.handle().fault(Rule::next(1, Fault::garbage(garbage)));
        let answer = status(&simulator).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole), "{garbage:?}");
        assert_eq!(answer.body.is_empty(), garbage == Garbage::Empty);
        let parsed = serde_json::from_slice::<Value>(&answer.body);
        assert_eq!(parsed.is_ok(), garbage == Garbage::WrongShape);
        assert!(parsed.is_err() || parsed.is_ok_and(|value| value.get("key_rotation_enabled").is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_can_be_late_slow_or_missing() {
    let latency = Duration::from_millis(40);
    let simulator = start(setup().latency(latency)).await;
    let handle = simulator.handle();
    let started = Instant::now();
    assert_eq!(status(&simulator).await.status, 200);
    assert!((latency..latency * 2).contains(&started.elapsed()), "{:?}", started.elapsed());

    handle.clear_faults();
    handle.fault(Rule::next(1, Fault::drip(Duration::from_secs(1))).on(Operation::ReadStatus));
    let started = Instant::now();
    let answer = status(&simulator).await;
    assert_eq!(answer.end, End::Whole);
    let seconds = u64::try_from(answer.body.len()).unwrap();
    assert_eq!(started.elapsed().as_secs(), seconds, "a second for each byte");

    handle.fault(Rule::next(1, Fault::hang().after_applying()).on(Operation::EnableRotation));
    assert!(timeout(Duration::from_secs(3600), enable(&simulator)).await.is_err());
    assert!(handle.key(PROJECT, KEY).unwrap().rotation.enabled);
    assert_eq!(status(&simulator).await.status, 200, "others are served meanwhile");
}

#[tokio::test]
async fn a_held_answer_comes_when_the_hold_is_released() {
    let simulator = start(setup()).await;
    let (handle, hold) = (simulator.handle(), Hold::new());
    handle.fault(Rule::always(Fault::held(&hold)).on(Operation::EnableRotation));
    let mut enabling = std::pin::pin!(enable(&simulator));
    let meanwhile = async {
        while handle.requests(Operation::EnableRotation) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(handle.key(PROJECT, KEY).unwrap().rotation.enabled, "it is carried out at once");
        status(&simulator).await
    };
    tokio::select! {
        biased;
        _ = &mut enabling => panic!("it was held"),
        answer = meanwhile => assert_eq!(answer.status, 200, "others are served meanwhile"),
    }
    hold.release();
    assert_eq!(enabling.await.status, 200);
    assert_eq!(enable(&simulator).await.end, End::Whole, "and none is held from then on");
    assert_eq!(handle.faults_injected(), 0);
}

#[tokio::test(start_paused = true)]
async fn hostile_input_is_refused_and_does_not_affect_other_clients() {
    let simulator = start(setup().idle_timeout(Duration::from_secs(10))).await;
    let token = ("X-Auth-Token", TOKEN);
    let path = format!("/v1.0/{PROJECT}/kms/list-keys");
    let large = " ".repeat(1024 * 1024 + 1);
    assert_eq!(call(&simulator, &path, &[JSON, token], &large).await.status, 413);
    let chunked = [("Transfer-Encoding", "chunked"), token];
    let mut client = Client::connect(&simulator).await;
    let mut bytes = request("POST", &path, &chunked, "");
    let head = String::from_utf8(bytes).unwrap().replace("Content-Length: 0\r\n", "");
    bytes = head.into_bytes();
    bytes.extend_from_slice(format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()).as_bytes());
    assert_eq!(client.send(&bytes).await.status, 413);

    let deep = "[".repeat(100_000);
    assert_eq!(call(&simulator, &path, &[JSON, token], &deep).await.error(), refused("KMS.0202"));
    let deep = format!("{{\"key_id\":{}", "[".repeat(100_000));
    assert_eq!(call(&simulator, &path, &[JSON, token], &deep).await.error(), refused("KMS.0202"));
    let answer = call(&simulator, "/v1.0/%00%ff/kms/list-keys", &[JSON, token], "{}").await;
    assert_eq!(answer.error(), (403, "KMS.0321".to_owned()));
    let mut client = Client::connect(&simulator).await;
    assert_eq!(client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is not HTTP\r\n\r\n").await.status, 400);
    let mut bytes = request("POST", &path, &[JSON], "{}");
    let at = bytes.windows(4).position(|window| window == b"Host").unwrap();
    bytes.splice(at..at, b"X-Auth-Token: \xff\xfe\r\n".iter().copied());
    assert_eq!(Client::connect(&simulator).await.send(&bytes).await.error(), (403, "KMS.0301".to_owned()));

    let started = Instant::now();
    let half_sent = Client::connect(&simulator).await.send(b"POST /v1.0/").await;
    assert_ne!(half_sent.end, End::Whole);
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(status(&simulator).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_alive_and_ends_with_the_simulator() {
    let simulator = start(setup().journal(Journal::Counts)).await;
    let path = format!("/v1.0/{PROJECT}/kms/get-key-rotation-status");
    let bytes = request("POST", &path, &[JSON, ("X-Auth-Token", TOKEN)], &json!({"key_id": KEY}).to_string());
    let mut client = Client::connect(&simulator).await;
    for _ in 0..3 {
        assert_eq!(client.send(&bytes).await.status, 200);
    }
    let handle = simulator.handle().clone();
    assert_eq!(handle.key_requests(PROJECT, KEY, Operation::ReadStatus), 3);
    assert!(handle.calls(PROJECT, KEY).is_empty(), "only counts are kept");
    let address = simulator.address();
    drop(simulator);
    assert_ne!(client.receive().await.end, End::Whole);
    let refused = TcpStream::connect(address).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(handle.all_requests(), 3, "what was seen outlives it");
}
