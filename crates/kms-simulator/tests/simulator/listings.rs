//! Listings: small pages, wrong pages, and a large account.

use std::collections::HashSet;
use std::time::SystemTime;

use kms_simulator::seed::{Kind, account};
use kms_simulator::{BadListing, Dialect, Fault, Key, LargestPage, Operation, OperationSet, Rule, Setup, Simulator};
use serde_json::{Value, json};

use crate::{PROJECT, TOKEN, project, refused, send, start};

fn id(at: usize) -> String {
    format!("{at:08}-e727-4d9c-b35d-f84bb474a37f")
}

/// Six keys, listed two by two.
async fn six_keys() -> Simulator {
    let setup = Setup::new().project(project().keys((0..6).map(|at| Key::new(id(at)))));
    start(setup.behave(|cloud| cloud.largest_page = LargestPage::Capping(2))).await
}

async fn page(simulator: &Simulator, marker: &Value) -> Value {
    send(simulator, "list-keys", json!({"key_spec": "ALL", "limit": "2000", "marker": marker})).await.json()
}

/// The first pages, followed by the marker: the numbers of their keys, and the marker of each page.
async fn follow(simulator: &Simulator, pages: usize) -> Vec<(Vec<u32>, String)> {
    let mut marker = json!("");
    let mut seen = Vec::new();
    while seen.len() < pages {
        let page = page(simulator, &marker).await;
        let keys = page["keys"].as_array().unwrap().iter();
        let numbers = keys.map(|id| id.as_str().unwrap()[..8].parse().unwrap()).collect();
        marker = page["next_marker"].clone();
        seen.push((numbers, marker.as_str().unwrap().to_owned()));
        if page["truncated"] == "false" {
            break;
        }
    }
    seen
}

fn pages<const N: usize>(expected: [(&[u32], &str); N]) -> Vec<(Vec<u32>, String)> {
    expected.map(|(keys, marker)| (keys.to_vec(), marker.to_owned())).to_vec()
}

#[tokio::test(start_paused = true)]
async fn pages_can_be_smaller_and_larger_limits_are_capped_or_refused() {
    let simulator = six_keys().await;
    let all = pages([(&[0, 1], "2"), (&[2, 3], "4"), (&[4, 5], "")]);
    assert_eq!(follow(&simulator, 9).await, all, "the last page is exactly full");
    let found = send(&simulator, "resource_instances/action", json!({"limit": "1000", "offset": "4"})).await.json();
    assert_eq!((found["resources"].as_array().unwrap().len(), &found["total_count"]), (2, &json!(6)));

    simulator.handle().behave(|cloud| cloud.largest_page = LargestPage::Refusing(2));
    assert_eq!(send(&simulator, "list-keys", json!({"limit": "3"})).await.error(), refused("KMS.1601"));
    assert_eq!(send(&simulator, "list-keys", json!({"limit": "2"})).await.json()["next_marker"], "2");
    assert_eq!(send(&simulator, "list-keys", json!({})).await.json()["next_marker"], "2", "the default too");
    let search = send(&simulator, "resource_instances/action", json!({"limit": "3"})).await;
    assert_eq!(search.error(), refused("KMS.0308"));
}

#[tokio::test(start_paused = true)]
async fn each_bad_listing_is_wrong_in_its_own_way() {
    let simulator = six_keys().await;
    let handle = simulator.handle();
    for (bad, expected) in [
        (BadListing::SameMarker, pages([(&[0, 1], "2"), (&[2, 3], "2"), (&[2, 3], "2"), (&[2, 3], "2")])),
        (BadListing::SameKeys, pages([(&[0, 1], "2"), (&[0, 1], "4"), (&[0, 1], "6"), (&[0, 1], "8")])),
        (BadListing::Repeated, pages([(&[0, 1], "2"), (&[1, 2], "3"), (&[2, 3], "4"), (&[3, 4], "5")])),
        (BadListing::NoMarker, pages([(&[0, 1], ""), (&[0, 1], ""), (&[0, 1], ""), (&[0, 1], "")])),
    ] {
        handle.clear_faults();
        handle.fault(Rule::always(Fault::listing(bad)).on(Operation::ListKeys));
        assert_eq!(follow(&simulator, 4).await, expected, "{bad:?}");
    }
    for bad in BadListing::ALL {
        handle.clear_faults();
        let sound = page(&simulator, &json!("2")).await;
        handle.fault(Rule::always(Fault::listing(bad)));
        assert_ne!(page(&simulator, &json!("2")).await, sound, "{bad:?}");
    }
    handle.clear_faults();
    handle.fault(Rule::always(Fault::listing(BadListing::Repeated)));
    assert_eq!(follow(&simulator, 9).await.last(), pages([(&[4, 5], "")]).last(), "repetition has an end");

    for (bad, fields) in
        [(BadListing::Empty, vec![]), (BadListing::NoDetails, vec!["keys", "next_marker", "total", "truncated"])]
    {
        handle.clear_faults();
        handle.fault(Rule::always(Fault::listing(bad)));
        let answer = page(&simulator, &json!("")).await;
        assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), fields);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_on_a_later_page_leaves_the_next_listing_correct() {
    let simulator = six_keys().await;
    let handle = simulator.handle();
    handle.fault(Rule::next(1, Fault::listing(BadListing::Empty)).on(Operation::ListKeys).after(1));
    assert_eq!(page(&simulator, &json!("")).await["truncated"], "true");
    assert_eq!(page(&simulator, &json!("2")).await, json!({}));
    assert_eq!(follow(&simulator, 9).await.len(), 3);
    assert_eq!((handle.faults_injected(), handle.requests(Operation::ListKeys)), (1, 5));
    handle.fault(Rule::next(1, Fault::listing(BadListing::SameKeys)).on(OperationSet::READS));
    let refused = send(&simulator, "list-keys", json!({"limit": "0"})).await;
    assert_eq!(refused.error().0, 400, "what is refused is refused all the same");
}

#[tokio::test(start_paused = true)]
async fn a_search_by_tags_has_the_same_faults_as_a_listing() {
    let simulator = six_keys().await;
    let handle = simulator.handle();
    let found = async |bad, offset: u32| {
        handle.clear_faults();
        handle.fault(Rule::always(Fault::listing(bad)).on(Operation::QueryByTag));
        send(&simulator, "resource_instances/action", json!({"limit": "2", "offset": offset})).await.json()
    };
    let ids = |answer: &Value| {
        answer["resources"].as_array().unwrap().iter().map(|hit| hit["resource_id"].clone()).collect::<Vec<_>>()
    };
    let answer = found(BadListing::SameKeys, 40).await;
    assert_eq!((ids(&answer), &answer["total_count"]), (vec![json!(id(0)), json!(id(1))], &json!(43)));
    assert_eq!(ids(&found(BadListing::Repeated, 2).await), [id(1), id(2)]);
    assert_eq!(found(BadListing::Empty, 0).await, json!({}));
    let answer = found(BadListing::NoDetails, 0).await;
    assert_eq!((ids(&answer).len(), answer["resources"][0].get("resource_detail")), (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_large_account_is_listed_whole_and_searched_by_tag() {
    let (seeded, census) = account(PROJECT, "cn-north-4", Dialect::Huawei, 10_000, SystemTime::now());
    let under_pci = seeded.keys.iter().filter(|key| key.tags.get("pci").is_some_and(|value| value == "true")).count();
    let simulator = start(Setup::new().project(seeded.token(TOKEN))).await;
    let (mut ids, mut default_keys, mut marker) = (HashSet::new(), 0, json!(""));
    loop {
        let page = page(&simulator, &marker).await;
        let details = page["key_details"].as_array().unwrap();
        default_keys += details.iter().filter(|key| key["default_key_flag"] == "1").count();
        ids.extend(details.iter().map(|key| key["key_id"].as_str().unwrap().to_owned()));
        marker = page["next_marker"].clone();
        if page["truncated"] == "false" {
            break;
        }
    }
    assert_eq!((ids.len(), default_keys), (10_000, census.of(Kind::Default)));
    assert_eq!(simulator.handle().requests(Operation::ListKeys), 5, "the last of them exactly full");
    let search = json!({"tags": [{"key": "pci", "values": ["true"]}], "limit": "1000"});
    let found = send(&simulator, "resource_instances/action", search).await.json();
    assert_eq!(found["total_count"], under_pci);
    assert_eq!(found["resources"].as_array().unwrap().len(), under_pci.min(1000));
}
