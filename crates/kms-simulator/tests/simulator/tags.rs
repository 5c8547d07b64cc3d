//! Tags: the search by tags and names, the tags of a key and of a project.

use std::time::{Duration, SystemTime};

use kms_simulator::{Dialect, Fault, Key, KeyState, Operation, ResourceDetail, Rule, Simulator};
use serde_json::{Value, json};

use crate::wire::{Answer, get};
use crate::{KEY, PROJECT, TOKEN, UNKNOWN_KEY, refused, send, setup, setup_with, start};

const SECOND: &str = "11111111-e727-4d9c-b35d-f84bb474a37f";
const THIRD: &str = "22222222-e727-4d9c-b35d-f84bb474a37f";

async fn search(simulator: &Simulator, body: Value) -> Answer {
    send(simulator, "resource_instances/action", body).await
}

async fn read(simulator: &Simulator, end: &str) -> Answer {
    get(simulator, &format!("/v1.0/{PROJECT}/kms/{end}"), &[("X-Auth-Token", TOKEN)]).await
}

/// Three keys: one of production with PCI, one of test with PCI, one without tags.
async fn three_keys() -> Simulator {
    let simulator = start(setup_with(Key::new(KEY).alias("pay-main").tag("pci", "true").tag("env", "prod"))).await;
    let handle = simulator.handle();
    handle.set_key(PROJECT, Key::new(SECOND).alias("Pay-Test").tag("pci", "true").tag("env", "test"));
    handle.set_key(PROJECT, Key::new(THIRD).alias("web"));
    simulator
}

#[tokio::test(start_paused = true)]
async fn a_key_matches_if_it_has_every_tag_with_one_of_its_values() {
    let simulator = three_keys().await;
    for (conditions, expected) in [
        (json!({}), vec![KEY, SECOND, THIRD]),
        (json!({"tags": []}), vec![KEY, SECOND, THIRD]),
        (json!({"tags": [{"key": "pci", "values": ["true"]}]}), vec![KEY, SECOND]),
        (json!({"tags": [{"key": "env", "values": ["prod", "test"]}]}), vec![KEY, SECOND]),
        (json!({"tags": [{"key": "env", "values": []}]}), vec![KEY, SECOND]),
        (json!({"tags": [{"key": "pci", "values": ["true"]}, {"key": "env", "values": ["test"]}]}), vec![SECOND]),
        (json!({"tags": [{"key": "PCI", "values": []}]}), vec![]),
        (json!({"tags": [{"key": "env", "values": ["pro"]}]}), vec![]),
        (json!({"matches": [{"key": "resource_name", "value": "pay-"}]}), vec![KEY, SECOND]),
        (json!({"matches": [{"key": "resource_name", "value": "eb"}], "tags": [{"key": "pci"}]}), vec![]),
    ] {
        let mut filtering = conditions.clone();
        filtering["action"] = json!("filter");
        let answer = search(&simulator, filtering).await.json();
        let resources = answer["resources"].as_array().unwrap().iter();
        let found: Vec<_> = resources.map(|resource| resource["resource_id"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{conditions}");
        assert_eq!(answer["total_count"], expected.len());
        let mut counting = conditions;
        counting["action"] = json!("count");
        assert_eq!(search(&simulator, counting).await.json(), json!({"total_count": expected.len()}));
    }
    assert_eq!(simulator.handle().requests(Operation::QueryByTag), 20);
    assert_eq!(simulator.handle().write_requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_search_returns_pages_of_ten_or_of_the_requested_limit() {
    let simulator = start(setup()).await;
    for at in 0..20 {
        simulator.handle().set_key(PROJECT, Key::new(format!("{at:08}-e727-4d9c-b35d-f84bb474a37f")));
    }
    let count = async |body: Value| {
        let answer = search(&simulator, body).await.json();
        assert_eq!(answer["total_count"], 21, "of all, not of the page");
        answer["resources"].as_array().unwrap().len()
    };
    assert_eq!(count(json!({})).await, 10);
    assert_eq!(count(json!({"limit": "20", "offset": "0"})).await, 20);
    assert_eq!(count(json!({"limit": 20, "offset": 20})).await, 1, "numbers were seen to be taken");
    assert_eq!(count(json!({"limit": "1000", "offset": "21"})).await, 0);
}

#[tokio::test(start_paused = true)]
async fn each_dialect_describes_keys_in_its_own_types() {
    let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let simulator = start(setup_with(Key::new(KEY).created(created).alias("pay").tag("pci", "true"))).await;
    let handle = simulator.handle();
    let found = async |dialect, detail| {
        handle.behave(|cloud| (cloud.dialect, cloud.resource_detail) = (dialect, detail));
        search(&simulator, json!({"action": "filter"})).await.json()
    };
    let answer = found(Dialect::Huawei, ResourceDetail::Object).await;
    let resource = &answer["resources"][0];
    assert_eq!((&resource["resource_id"], &resource["resource_name"]), (&json!(KEY), &json!("pay")));
    assert_eq!(resource["tags"], json!([{"key": "pci", "value": "true"}]));
    assert_eq!(resource["resource_detail"]["key_state"], "2");
    assert_eq!(resource["resource_detail"]["sys_enterprise_project_id"], "0");
    assert_eq!(answer["total_count"], 1);

    let answer = found(Dialect::Huawei, ResourceDetail::Array).await;
    let detail = answer["resources"][0]["resource_detail"].as_array().unwrap();
    assert_eq!((detail.len(), &detail[0]["key_id"], &detail[0]["key_state"]), (1, &json!(KEY), &json!(2)));

    let answer = found(Dialect::Huawei, ResourceDetail::Recorded).await;
    let resource = &answer["resources"][0];
    assert_eq!((resource.get("resource_id"), resource.get("resource_detail")), (None, None));
    assert_eq!(resource["key_details"]["key_id"], KEY);

    let answer = found(Dialect::OpenTelekomCloud, ResourceDetail::Object).await;
    let detail = &answer["resources"][0]["resource_detail"];
    assert_eq!((&detail["key_state"], &detail["default_key_flag"]), (&json!(2), &json!(0)));
    assert_eq!(detail["creation_date"], 1_700_000_000_000_u64);
    assert_eq!(detail.get("sys_enterprise_project_id"), None);
    assert_eq!(answer["total_count"], "1");

    let answer = found(Dialect::AllText, ResourceDetail::Array).await;
    assert_eq!(answer["resources"][0]["resource_detail"][0]["default_key_flag"], "0");
    assert_eq!(answer["total_count"], "1");
}

#[tokio::test(start_paused = true)]
async fn malformed_searches_are_refused_with_the_codes_for_tags() {
    let simulator = start(setup()).await;
    let tag = |key: &str, values: Value| json!({"tags": [{"key": key, "values": values}]});
    let tags = |count: usize| json!({"tags": (0..count).map(|at| json!({"key": at.to_string(), "values": []})).collect::<Vec<_>>()});
    let values = |count: usize| tag("k", (0..count).map(|at| at.to_string()).collect());
    let named = |key: &str, value: &str| json!({"matches": [{"key": key, "value": value}]});
    for body in [tags(10), values(10), tag(&"k".repeat(36), json!(["v".repeat(43)])), named("resource_name", "w")] {
        assert_eq!(search(&simulator, body.clone()).await.status, 200, "{body}");
    }
    for (body, code) in [
        (json!({"action": "find"}), "KMS.0404"),
        (json!({"action": 1}), "KMS.0404"),
        (tags(11), "KMS.0412"),
        (values(11), "KMS.0413"),
        (tag("", json!([])), "KMS.0406"),
        (json!({"tags": [{"key": "k"}, {"key": "k"}]}), "KMS.0406"),
        (tag(&"k".repeat(37), json!([])), "KMS.0411"),
        (tag("k", json!(["v".repeat(44)])), "KMS.0410"),
        (tag("k", json!([true])), "KMS.0405"),
        (tag("k", json!("v")), "KMS.0405"),
        (json!({"tags": {"k": "v"}}), "KMS.0407"),
        (named("resource_id", KEY), "KMS.0403"),
        (named("resource_name", ""), "KMS.0402"),
        (named("resource_name", &"n".repeat(256)), "KMS.0402"),
        (json!({"limit": "0"}), "KMS.0308"),
        (json!({"limit": "1001"}), "KMS.0308"),
        (json!({"offset": "-1"}), "KMS.0417"),
        (json!({"action": "count", "limit": "10"}), "KMS.0418"),
        (json!({"action": "count", "offset": "0"}), "KMS.0418"),
        (json!({"sequence": "1"}), "KMS.0206"),
    ] {
        assert_eq!(search(&simulator, body.clone()).await.error(), refused(code), "{body}");
    }
    simulator.handle().behave(|cloud| cloud.dialect = Dialect::OpenTelekomCloud);
    assert_eq!(search(&simulator, json!({})).await.error(), refused("KMS.0404"), "mandatory there");
}

#[tokio::test(start_paused = true)]
async fn the_tags_of_a_key_are_read_by_its_id() {
    let simulator = three_keys().await;
    let tags = json!([{"key": "env", "value": "prod"}, {"key": "pci", "value": "true"}]);
    let answer = read(&simulator, &format!("{KEY}/tags")).await.json();
    assert_eq!(answer, json!({"tags": tags, "exist_tags_num": 2}));
    assert_eq!(read(&simulator, &format!("{THIRD}/tags")).await.json(), json!({"tags": [], "exist_tags_num": 0}));
    assert_eq!(read(&simulator, &format!("{UNKNOWN_KEY}/tags")).await.error(), (404, "KMS.0207".to_owned()));
    assert_eq!(read(&simulator, "pay-main/tags").await.error(), refused("KMS.0205"));
    let handle = simulator.handle();
    assert_eq!(handle.requests(Operation::KeyTags), 4);
    assert_eq!(handle.key_requests(PROJECT, KEY, Operation::KeyTags), 1);
    handle.behave(|cloud| cloud.dialect = Dialect::OpenTelekomCloud);
    let answer = read(&simulator, &format!("{KEY}/tags")).await.json();
    assert_eq!(answer, json!({"tags": tags, "sys_tags": [], "existTagsNum": 2}));
    handle.behave(|cloud| cloud.dialect = Dialect::AllText);
    assert_eq!(read(&simulator, &format!("{KEY}/tags")).await.json()["exist_tags_num"], "2");
}

#[tokio::test(start_paused = true)]
async fn the_tags_of_a_project_come_with_all_their_values() {
    let simulator = three_keys().await;
    let expected = json!({"tags": [{"key": "env", "values": ["prod", "test"]}, {"key": "pci", "values": ["true"]}]});
    assert_eq!(read(&simulator, "tags").await.json(), expected);
    simulator.handle().remove_key(PROJECT, SECOND);
    assert_eq!(read(&simulator, "tags").await.json()["tags"][0]["values"], json!(["prod"]));
    assert_eq!(simulator.handle().requests(Operation::ProjectTags), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_for_tags_can_be_forbidden_missing_or_faulty() {
    let simulator = three_keys().await;
    let handle = simulator.handle();
    let path = format!("/v1.0/{PROJECT}/kms/tags");
    assert_eq!(get(&simulator, &path, &[]).await.error(), (403, "KMS.0301".to_owned()));
    handle.fault(Rule::next(1, Fault::html(502)).on(Operation::QueryByTag));
    assert_eq!(search(&simulator, json!({})).await.status, 502);
    handle.fault(Rule::next(1, Fault::html(504)).on(Operation::KeyTags).key(KEY));
    assert_eq!(read(&simulator, &format!("{SECOND}/tags")).await.status, 200);
    assert_eq!(read(&simulator, &format!("{KEY}/tags")).await.status, 504);
    handle.behave(|cloud| cloud.forbidden = Operation::QueryByTag.into());
    assert_eq!(search(&simulator, json!({})).await.error(), (403, "KMS.0307".to_owned()));
    handle.behave(|cloud| cloud.unknown = Operation::QueryByTag.into());
    assert_eq!(search(&simulator, json!({})).await.error(), (404, "APIGW.0101".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn changes_are_in_the_next_listing_and_search() {
    let simulator = three_keys().await;
    let handle = simulator.handle();
    let found = async || {
        let listed = send(&simulator, "list-keys", json!({"key_spec": "ALL"})).await.json();
        let details = listed["key_details"].as_array().unwrap().clone();
        let names: Vec<_> = details.iter().map(|key| key["key_alias"].as_str().unwrap().to_owned()).collect();
        let tagged = search(&simulator, json!({"tags": [{"key": "pci", "values": ["true"]}]})).await.json();
        (names, tagged["total_count"].as_u64().unwrap())
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(found().await, (names(&["pay-main", "Pay-Test", "web"]), 2));
    assert!(handle.change_key(PROJECT, THIRD, |key| {
        "shop".clone_into(&mut key.alias);
        key.tags.insert("pci".into(), "true".into());
        key.rotation.enabled = true;
    }));
    assert_eq!(found().await, (names(&["pay-main", "Pay-Test", "shop"]), 3));
    assert!(handle.change_key(PROJECT, KEY, |key| key.tags.clear()));
    handle.set_key(PROJECT, Key::new(UNKNOWN_KEY).alias("new"));
    handle.remove_key(PROJECT, SECOND);
    assert_eq!(found().await, (names(&["pay-main", "shop", "new"]), 1));
    assert!(handle.change_key(PROJECT, THIRD, |key| key.state = KeyState::Disabled));
    let listed = send(&simulator, "list-keys", json!({"key_state": "3"})).await.json();
    assert_eq!(listed["keys"], json!([THIRD]));
    assert_eq!(listed["key_details"][0]["key_rotation_enabled"], "true");
    assert!(!handle.change_key(PROJECT, SECOND, |_| ()), "it is gone");
}
