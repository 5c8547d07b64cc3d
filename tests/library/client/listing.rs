//! Lists of keys: read to their end with the fewest calls, or not used.

use std::collections::BTreeSet;
use std::sync::Arc;

use kms_rotationd::kms::{Error, Kms, Listed, SendMode};
use kms_rotationd::rotation::key::{ListedKey, RotationBlocker};
use kms_simulator::{
    BadListing, Dialect, Fault, Key, KeyState, LargestPage, Operation, ProjectSetup, ResourceDetail, Rule, Setup,
    Simulator, Total,
};

use super::{Clock, PROJECT, client, token};

fn id(number: usize) -> String {
    format!("0d0466b0-e727-4d9c-b35d-{number:012}")
}

fn of(keys: impl IntoIterator<Item = Key>) -> Setup {
    Setup::new().project(ProjectSetup::new(PROJECT, "eu-de").keys(keys).token("good"))
}

async fn list(setup: Setup) -> (Result<Listed<ListedKey>, Error>, Simulator) {
    let cloud = Simulator::start(setup).await.unwrap();
    let listed = client(&cloud, token("good"), Clock::system(), &Arc::default()).list_keys().await;
    (listed, cloud)
}

fn ids(listed: &Listed<ListedKey>) -> Vec<String> {
    listed.items.iter().map(|key| key.key_id.to_string()).collect()
}

#[tokio::test]
async fn every_key_is_listed_in_as_few_pages_as_the_cloud_allows() {
    for (keys, pages) in [(0, 1), (1, 1), (1_999, 1), (2_000, 1), (2_001, 2), (4_100, 3)] {
        let (listed, cloud) = list(of((0..keys).map(|number| Key::new(id(number))))).await;
        assert_eq!(ids(&listed.unwrap()), (0..keys).map(id).collect::<Vec<_>>());
        assert_eq!(cloud.handle().requests(Operation::ListKeys), pages, "{keys} keys");
    }
}

#[tokio::test]
async fn a_cloud_with_smaller_pages_is_listed_without_limit() {
    for (largest, pages) in [(LargestPage::Capping(10), 3), (LargestPage::Refusing(10), 4)] {
        let keys = (0..25).map(|number| Key::new(id(number)));
        let (listed, cloud) = list(of(keys).behave(|behaviour| behaviour.largest_page = largest)).await;
        assert_eq!(listed.unwrap().items.len(), 25, "{largest:?}");
        assert_eq!(cloud.handle().requests(Operation::ListKeys), pages, "{largest:?}");
    }
}

#[tokio::test]
async fn a_key_on_two_pages_is_one_key() {
    let keys = (0..25).map(|number| Key::new(id(number)));
    let setup = of(keys).behave(|behaviour| behaviour.largest_page = LargestPage::Capping(10));
    let (listed, _) = list(setup.fault(Rule::always(Fault::listing(BadListing::Repeated)))).await;
    let listed = ids(&listed.unwrap());
    assert_eq!(listed.len(), 25);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), 25);
}

/// A cloud of 25 keys with ten on a page, and these wrong lists.
fn misleading(bad: BadListing) -> Setup {
    let keys = (0..25).map(|number| Key::new(id(number)).tag("pci", "true"));
    let setup = of(keys).behave(|behaviour| behaviour.largest_page = LargestPage::Capping(10));
    setup.fault(Rule::always(Fault::listing(bad)))
}

#[tokio::test]
async fn a_list_that_may_lack_a_key_is_doubtful_and_keeps_its_keys() {
    for (bad, seen, requests) in [
        (BadListing::SameMarker, 20, 2),
        (BadListing::SameKeys, 10, 2),
        (BadListing::NoMarker, 10, 1),
        (BadListing::LargerTotal, 25, 3),
        // Read again, because the total changed.
        (BadListing::OneGone, 24, 6),
    ] {
        let (listed, cloud) = list(misleading(bad)).await;
        let listed = listed.unwrap();
        assert_eq!((listed.items.len(), listed.doubt.is_some()), (seen, true), "{bad:?}");
        assert_eq!(cloud.handle().requests(Operation::ListKeys), requests, "{bad:?}");
    }
}

#[tokio::test]
async fn a_marker_is_followed_whatever_truncated_is() {
    let (listed, _) = list(misleading(BadListing::NotTruncated)).await;
    let listed = listed.unwrap();
    assert_eq!((listed.items.len(), listed.doubt), (25, None));
}

#[tokio::test]
async fn a_list_is_read_again_when_its_total_changed_and_is_then_complete() {
    let keys = (0..25).map(|number| Key::new(id(number)));
    let once = Rule::next(1, Fault::listing(BadListing::OneGone)).on(Operation::ListKeys).after(1);
    let setup = of(keys).behave(|behaviour| behaviour.largest_page = LargestPage::Capping(10)).fault(once);
    let (listed, cloud) = list(setup).await;
    let listed = listed.unwrap();
    assert_eq!((listed.items.len(), listed.doubt), (25, None));
    assert_eq!(cloud.handle().requests(Operation::ListKeys), 6);
}

#[tokio::test]
async fn a_changed_list_that_cannot_be_read_again_keeps_its_keys() {
    let setup = |operation| {
        let once = Rule::next(1, Fault::listing(BadListing::OneGone)).on(operation).after(1);
        let keys = (0..25).map(|number| Key::new(id(number)).tag("pci", "true"));
        of(keys)
            .behave(|behaviour| behaviour.largest_page = LargestPage::Capping(10))
            .fault(once)
            // The fourth call; the fault above has used one.
            .fault(Rule::always(Fault::html(501)).on(operation).after(2))
    };
    let (listed, cloud) = list(setup(Operation::ListKeys)).await;
    let listed = listed.unwrap();
    assert_eq!((listed.items.len(), listed.doubt.is_some()), (24, true));
    assert_eq!(cloud.handle().requests(Operation::ListKeys), 4);
    let cloud = Simulator::start(setup(Operation::QueryByTag)).await.unwrap();
    let client = client(&cloud, token("good"), Clock::system(), &Arc::default());
    let tagged = client.tagged("pci", Some(&["true"])).await.unwrap();
    assert_eq!((tagged.items.len(), tagged.doubt.is_some()), (24, true));
    assert_eq!(cloud.handle().requests(Operation::QueryByTag), 4);
}

#[tokio::test]
async fn an_invalid_list_and_an_endless_list_are_errors() {
    for (bad, what) in [
        (BadListing::Empty, "not a KMS answer"),
        (BadListing::NoDetails, "not a KMS answer"),
        (BadListing::Endless, "does not end"),
    ] {
        let (listed, cloud) = list(misleading(bad)).await;
        let error = listed.expect_err(&format!("{bad:?}"));
        assert!(error.to_string().contains(what), "{bad:?}: {error}");
        assert!(cloud.handle().requests(Operation::ListKeys) <= 1_000, "{bad:?}");
    }
}

#[tokio::test]
async fn a_search_by_tag_that_may_lack_a_key_is_doubtful() {
    for (bad, found) in [(BadListing::LargerTotal, 25), (BadListing::SameKeys, 10), (BadListing::OneGone, 24)] {
        let cloud = Simulator::start(misleading(bad)).await.unwrap();
        let client = client(&cloud, token("good"), Clock::system(), &Arc::default());
        let tagged = client.tagged("pci", Some(&["true"])).await.unwrap();
        assert_eq!((tagged.items.len(), tagged.doubt.is_some()), (found, true), "{bad:?}");
    }
}

#[tokio::test]
async fn the_list_has_the_same_details_as_a_description() {
    let own = |number| Key::new(id(number)).alias(format!("key-{number}"));
    for dialect in [Dialect::Huawei, Dialect::OpenTelekomCloud, Dialect::AllText] {
        let keys = [
            own(0),
            own(1).default_of("evs"),
            own(2).imported(),
            own(3).spec("RSA_2048"),
            own(4).state(KeyState::Disabled),
            own(5).state(KeyState::PendingDeletion),
            own(6).spec("HMAC_256"),
        ];
        let setup = Setup::new().project(ProjectSetup::new(PROJECT, "eu-de").keys(keys).token("good").dialect(dialect));
        let (listed, cloud) = list(setup).await;
        let listed = listed.unwrap().items;
        let blockers: Vec<_> = listed.iter().map(|key| key.description.blocker).collect();
        let expected = [
            None,
            Some(RotationBlocker::DefaultKey),
            Some(RotationBlocker::ImportedMaterial),
            Some(RotationBlocker::UnsupportedKeyType),
            Some(RotationBlocker::Disabled),
            Some(RotationBlocker::PendingDeletion),
            Some(RotationBlocker::UnsupportedKeyType),
        ];
        assert_eq!(blockers, expected, "{dialect:?}");
        let client = client(&cloud, token("good"), Clock::system(), &Arc::default());
        for key in listed {
            assert_eq!(client.describe(key.key_id, SendMode::Retried).await.unwrap(), key.description, "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn keys_are_found_by_tag_in_every_dialect_and_by_any_value() {
    for detail in [ResourceDetail::Object, ResourceDetail::Array, ResourceDetail::Recorded] {
        for dialect in [Dialect::Huawei, Dialect::OpenTelekomCloud, Dialect::AllText] {
            let keys = [
                Key::new(id(0)).tag("pci", "true").tag("env", "prod"),
                Key::new(id(1)).tag("pci", "false"),
                Key::new(id(2)).tag("env", "test"),
                Key::new(id(3)),
            ];
            let project = ProjectSetup::new(PROJECT, "eu-de").keys(keys).token("good").dialect(dialect);
            let setup = Setup::new().project(project).behave(|behaviour| behaviour.resource_detail = detail);
            let cloud = Simulator::start(setup).await.unwrap();
            let client = client(&cloud, token("good"), Clock::system(), &Arc::default());
            let found = async |key: &str, values: Option<&[&str]>| {
                let tagged = client.tagged(key, values).await.unwrap().items;
                let shown =
                    tagged.iter().map(|(key_id, tag)| format!("{} {}={}", &key_id.as_str()[35..], tag.key, tag.value));
                shown.collect::<Vec<_>>()
            };
            let context = format!("{detail:?} {dialect:?}");
            assert_eq!(found("pci", Some(&["true"])).await, ["0 pci=true"], "{context}");
            assert_eq!(found("env", Some(&["prod", "test", "none"])).await, ["0 env=prod", "2 env=test"], "{context}");
            assert_eq!(found("pci", None).await, ["1 pci=false", "0 pci=true"], "{context}");
            assert_eq!(found("owner", None).await, [] as [&str; 0], "{context}");
        }
    }
}

#[tokio::test]
async fn a_search_by_tag_reads_all_small_pages() {
    let keys = (0..25).map(|number| Key::new(id(number)).tag("pci", "true"));
    let setup = of(keys).behave(|behaviour| behaviour.largest_page = LargestPage::Capping(10));
    let cloud = Simulator::start(setup).await.unwrap();
    let client = client(&cloud, token("good"), Clock::system(), &Arc::default());
    assert_eq!(client.tagged("pci", Some(&["true"])).await.unwrap().items.len(), 25);
    assert_eq!(cloud.handle().requests(Operation::QueryByTag), 3);
}

#[tokio::test]
async fn a_search_by_tag_is_read_to_its_end_with_any_total() {
    for total in [Total::Found, Total::Page] {
        for keys in [999, 1_000, 1_001, 2_500] {
            let tagged = (0..keys).map(|number| Key::new(id(number)).tag("pci", "true"));
            let setup = of(tagged).behave(|behaviour| behaviour.total = total);
            let cloud = Simulator::start(setup).await.unwrap();
            let client = client(&cloud, token("good"), Clock::system(), &Arc::default());
            let found = client.tagged("pci", Some(&["true"])).await.unwrap().items;
            assert_eq!(found.len(), keys, "{total:?}");
        }
    }
}
