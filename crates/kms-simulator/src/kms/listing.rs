//! `list-keys`: its filter, and the answer with one page (`docs/kms-api.md` 1.4).

use std::time::SystemTime;

use serde::Serialize;

use super::details::Details;
use super::page::{Page, limit};
use super::parameters::{Body, number, text};
use crate::answer::Answer;
use crate::behaviour::{Behaviour, Dialect, LARGEST_PAGE};
use crate::fault::BadListing;
use crate::key::Key;
use crate::keys::{Filter, Keys, StoredKey};

#[derive(Serialize)]
struct Listing<'a> {
    keys: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_details: Option<Vec<Details<'a>>>,
    next_marker: String,
    truncated: String,
    total: usize,
}

/// `list-keys`
pub(super) fn list_keys(
    keys: &mut Keys,
    body: &Body,
    dialect: Dialect,
    behaviour: &Behaviour,
    bad: Option<BadListing>,
) -> Result<Answer, Answer> {
    let limit = limit(body, LARGEST_PAGE, LARGEST_PAGE, behaviour, "KMS.1601")?;
    let marker = number(body, "marker", "KMS.1602")?.unwrap_or(0);
    let found = keys.find(&filter(body, dialect)?);
    if bad == Some(BadListing::Endless) {
        return Ok(endless(marker, dialect));
    }
    let page = Page::of(&found, keys, marker, limit, bad);
    // A full page is the last one if no key is left.
    let (next_marker, truncated) = match bad {
        Some(BadListing::Empty) => return Ok(Answer::json(200, "{}")),
        Some(BadListing::NoMarker) => (String::new(), true),
        Some(BadListing::SameMarker | BadListing::SameKeys) => (page.next.to_string(), true),
        _ if page.next < page.found => (page.next.to_string(), bad != Some(BadListing::NotTruncated)),
        _ => (String::new(), false),
    };
    let details = || page.keys.iter().map(|stored| Details::of(stored, dialect)).collect();
    Ok(Answer::success(&Listing {
        keys: page.keys.iter().map(|stored| stored.key.id.as_str()).collect(),
        key_details: (bad != Some(BadListing::NoDetails)).then(details),
        next_marker,
        truncated: truncated.to_string(),
        total: BadListing::total(bad, behaviour.total.of(page.found, page.keys.len())),
    }))
}

/// A page of an endless list.
fn endless(marker: u64, dialect: Dialect) -> Answer {
    let key = Key::new(format!("00000000-0000-0000-0000-{:012}", marker % 1_000_000_000_000));
    let stored = StoredKey::new(key, SystemTime::UNIX_EPOCH);
    Answer::success(&Listing {
        keys: vec![&stored.key.id],
        key_details: Some(vec![Details::of(&stored, dialect)]),
        next_marker: marker.wrapping_add(1).to_string(),
        truncated: true.to_string(),
        total: 1,
    })
}

fn filter(body: &Body, dialect: Dialect) -> Result<Filter, Answer> {
    let given = |name| Ok(text(body, name)?.filter(|text| !text.is_empty()));
    let state = match given("key_state")? {
        None => None,
        Some(state @ ("1" | "2" | "3" | "4" | "5")) => state.parse().ok(),
        Some(_) => return Err(Answer::kms(400, "KMS.0308", "The parameter key_state is invalid.")),
    };
    // Open Telekom Cloud has neither parameter and lists every algorithm. Elsewhere the default is AES_256 only
    // (`docs/kms-api.md` 1.4).
    let (spec, enterprise_project) = match dialect {
        Dialect::OpenTelekomCloud => (None, None),
        Dialect::Huawei | Dialect::AllText => (
            Some(given("key_spec")?.unwrap_or("AES_256")).filter(|spec| *spec != "ALL"),
            given("enterprise_project_id")?.filter(|id| *id != "all"),
        ),
    };
    Ok(Filter {
        state,
        spec: spec.map(ToOwned::to_owned),
        enterprise_project: enterprise_project.map(ToOwned::to_owned),
        ..Filter::default()
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::{Value, json};

    use super::*;
    use crate::key::KeyState;

    fn keys(keys: impl IntoIterator<Item = Key>) -> Keys {
        let mut stored = Keys::default();
        stored.extend(keys, SystemTime::UNIX_EPOCH);
        stored
    }

    fn list(keys: &mut Keys, body: &Value, dialect: Dialect) -> Value {
        let answer = list_keys(keys, body.as_object().unwrap(), dialect, &Behaviour::default(), None);
        serde_json::from_slice(&answer.unwrap_or_else(|refusal| refusal).body).unwrap()
    }

    #[test]
    fn listing_pages_through_every_key_once() {
        let mut keys = keys((0..25).map(|n| Key::new(format!("key-{n:02}"))));
        // The last page is short, exactly full, and the only one.
        for (limit, pages) in [(10, 3), (5, 5), (25, 1)] {
            let mut marker = String::new();
            let mut seen = Vec::new();
            for at in 1..=pages {
                let page = list(&mut keys, &json!({"marker": marker, "limit": limit}), Dialect::Huawei);
                assert_eq!(page["total"], 25);
                seen.extend(page["keys"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
                page["next_marker"].as_str().unwrap().clone_into(&mut marker);
                assert_eq!((&page["truncated"], marker.is_empty()), (&json!((at < pages).to_string()), at == pages));
            }
            assert_eq!(seen, (0..25).map(|n| format!("key-{n:02}")).collect::<Vec<_>>());
        }
        let past_the_end = list(&mut keys, &json!({"marker": "25"}), Dialect::Huawei);
        assert_eq!((&past_the_end["keys"], &past_the_end["truncated"]), (&json!([]), &json!("false")));
        assert_eq!(list(&mut keys, &json!({}), Dialect::Huawei)["keys"].as_array().unwrap().len(), 25);
    }

    #[test]
    fn listing_filters_by_algorithm_state_and_enterprise_project() {
        let mut keys = keys([
            Key::new("a"),
            Key::new("b").spec("RSA_2048"),
            Key::new("c").state(KeyState::Disabled),
            Key::new("d").enterprise_project("7f2e"),
        ]);
        let mut list = |body: Value, dialect| {
            let answer = list(&mut keys, &body, dialect);
            answer.get("keys").unwrap_or(&answer["error"]["error_code"]).clone()
        };
        assert_eq!(list(json!({}), Dialect::Huawei), json!(["a", "c", "d"]));
        assert_eq!(list(json!({"key_spec": "ALL", "limit": "100"}), Dialect::Huawei), json!(["a", "b", "c", "d"]));
        assert_eq!(list(json!({"limit": 2}), Dialect::OpenTelekomCloud), json!(["a", "b"]));
        assert_eq!(list(json!({"key_state": "3"}), Dialect::Huawei), json!(["c"]));
        assert_eq!(list(json!({"key_state": "6"}), Dialect::Huawei), "KMS.0308");
        assert_eq!(list(json!({"limit": "0"}), Dialect::Huawei), "KMS.1601");
        assert_eq!(list(json!({"limit": "2001"}), Dialect::Huawei), "KMS.1601");
        assert_eq!(list(json!({"marker": "-1"}), Dialect::Huawei), "KMS.1602");
        assert_eq!(list(json!({"marker": "18446744073709551615"}), Dialect::Huawei), json!([]));
        let mut of_project =
            |id: &str, dialect| list(json!({"enterprise_project_id": id, "key_spec": "AES_256"}), dialect);
        assert_eq!(of_project("0", Dialect::Huawei), json!(["a", "c"]));
        assert_eq!(of_project("7f2e", Dialect::Huawei), json!(["d"]));
        assert_eq!(of_project("5c11", Dialect::Huawei), json!([]));
        assert_eq!(of_project("all", Dialect::AllText), json!(["a", "c", "d"]));
        assert_eq!(of_project("7f2e", Dialect::OpenTelekomCloud), json!(["a", "b", "c", "d"]), "not known there");
    }

    #[test]
    fn details_contain_the_enterprise_project_if_the_cloud_has_them() {
        let mut keys = keys([Key::new("a").enterprise_project("7f2e")]);
        let mut details = |dialect| list(&mut keys, &json!({}), dialect)["key_details"][0].clone();
        assert_eq!(details(Dialect::Huawei)["sys_enterprise_project_id"], "7f2e");
        let without = details(Dialect::OpenTelekomCloud);
        for field in ["sys_enterprise_project_id", "keystore_id", "key_rotation_enabled", "multi_region_key_type"] {
            assert_eq!(without.get(field), None, "{field}");
        }
        assert_eq!(without["key_spec"], "AES_256");
    }
}
