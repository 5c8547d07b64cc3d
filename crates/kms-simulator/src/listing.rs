//! `list-keys` and its pages (`docs/kms-api.md` 1.4), and the details of a key (`docs/kms-api.md` 1.3).

use serde::Serialize;

use super::answer::Answer;
use super::behaviour::{Behaviour, Dialect};
use super::key::Key;
use super::keys::{Filter, Keys, StoredKey};
use super::kms::{Body, milliseconds, number, text};

/// The largest limit known to be accepted (`docs/kms-api.md` 1.4), and Huawei Cloud's default in a newer document.
const LARGEST_PAGE: u64 = 2000;

/// The size of the largest page, and how a larger limit is treated; not documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargestPage {
    /// A larger limit is refused: `KMS.1601`, or `KMS.0308` in a search by tags.
    Refusing(u64),
    /// A larger limit returns the largest page.
    Capping(u64),
}

impl Default for LargestPage {
    fn default() -> Self {
        Self::Refusing(LARGEST_PAGE)
    }
}

/// A wrong page of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadListing {
    /// `truncated` is always "true", and the marker is that of the page itself.
    SameMarker,
    /// `truncated` is always "true", and each page is the first one with a new marker.
    SameKeys,
    /// The page begins with the last key of the page before.
    Repeated,
    /// `truncated` is always "true", and the marker is empty.
    NoMarker,
    /// `{}`
    Empty,
    /// Ids without details.
    NoDetails,
    /// `truncated` is "false" although there is a marker and more keys follow.
    NotTruncated,
    /// The total is 500 too large.
    LargerTotal,
    /// From the second page on, the first key is deleted: the others move up, and one of them is on no page.
    OneGone,
    /// Each page has one new key, and `truncated` is always "true".
    Endless,
}

impl BadListing {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::SameMarker,
        Self::SameKeys,
        Self::Repeated,
        Self::NoMarker,
        Self::Empty,
        Self::NoDetails,
        Self::NotTruncated,
        Self::LargerTotal,
        Self::OneGone,
        Self::Endless,
    ];

    /// The total in the answer, if `total` is the real one.
    pub(super) fn total(bad: Option<Self>, total: usize) -> usize {
        match bad {
            Some(Self::LargerTotal) => total + 500,
            _ => total,
        }
    }
}

/// A number, plain or as text.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Number {
    Text(String),
    Plain(u64),
}

impl Number {
    pub(super) fn new(number: u64, plain: bool) -> Self {
        if plain { Self::Plain(number) } else { Self::Text(number.to_string()) }
    }
}

/// `KeyDetails` (`docs/kms-api.md` 1.3).
#[derive(Serialize)]
pub(super) struct Details<'a> {
    key_id: &'a str,
    domain_id: &'static str,
    key_alias: &'a str,
    realm: &'static str,
    key_spec: &'a str,
    key_usage: &'static str,
    key_description: &'static str,
    creation_date: Number,
    scheduled_deletion_date: &'static str,
    key_state: Number,
    default_key_flag: Number,
    key_type: Number,
    expiration_time: &'static str,
    origin: &'static str,
    #[serde(flatten)]
    more: Option<MoreDetails<'a>>,
}

/// The fields that Open Telekom Cloud's tables and examples do not have (`describe-key`, table 5).
#[derive(Serialize)]
struct MoreDetails<'a> {
    key_rotation_enabled: String,
    sys_enterprise_project_id: &'a str,
    keystore_id: &'a str,
    keystore_type: &'static str,
    multi_region_key_type: &'static str,
    pending_days: &'static str,
}

impl<'a> Details<'a> {
    /// All fields as text, as recorded (`docs/kms-api.md` 1.3).
    pub(super) fn of(stored: &'a StoredKey, dialect: Dialect) -> Self {
        Self::new(stored, dialect, false)
    }

    /// With plain numbers, as in the examples of the search by tags (`docs/kms-api.md` 1.5).
    pub(super) fn with_numbers(stored: &'a StoredKey, dialect: Dialect) -> Self {
        Self::new(stored, dialect, true)
    }

    fn new(stored: &'a StoredKey, dialect: Dialect, plain: bool) -> Self {
        let key = &stored.key;
        let number = |number| Number::new(number, plain);
        let asymmetric = key.spec.starts_with("RSA") || key.spec.starts_with("EC") || key.spec == "SM2";
        let more = || MoreDetails {
            key_rotation_enabled: stored.shown().enabled.to_string(),
            sys_enterprise_project_id: &key.enterprise_project,
            keystore_id: &key.keystore,
            keystore_type: if key.keystore == "0" { "DEFAULT" } else { "DEDICATED" },
            multi_region_key_type: if key.replica { "REPLICA" } else { "SINGLE" },
            pending_days: "",
        };
        Self {
            key_id: &key.id,
            domain_id: "b168fe00ff56492495a7d22974df2d0b",
            key_alias: &key.alias,
            realm: "simulated",
            key_spec: &key.spec,
            key_usage: if key.spec.starts_with("HMAC") {
                "GENERATE_VERIFY_MAC"
            } else if asymmetric {
                "SIGN_VERIFY"
            } else {
                "ENCRYPT_DECRYPT"
            },
            key_description: "",
            creation_date: number(milliseconds(key.created)),
            scheduled_deletion_date: "",
            key_state: number(key.state.code().into()),
            default_key_flag: number(key.default.into()),
            key_type: number(1),
            expiration_time: "",
            origin: key.origin.as_str(),
            more: (dialect != Dialect::OpenTelekomCloud).then(more),
        }
    }
}

/// The page size: the requested one or the default, up to this cloud's maximum.
pub(super) fn limit(body: &Body, default: u64, largest: u64, behaviour: &Behaviour, code: &str) -> Result<u64, Answer> {
    let (here, capped) = match behaviour.largest_page {
        LargestPage::Refusing(here) => (here, false),
        LargestPage::Capping(here) => (here, true),
    };
    let largest = largest.min(here).max(1);
    match number(body, "limit", code)? {
        None => Ok(default.min(largest)),
        Some(limit) if (1..=largest).contains(&limit) => Ok(limit),
        Some(limit) if limit > largest && capped => Ok(largest),
        Some(_) => Err(Answer::kms(400, code, "The parameter limit is invalid.")),
    }
}

/// One page of a search.
pub(super) struct Page<'a> {
    /// Number of all keys found.
    pub(super) found: usize,
    pub(super) keys: Vec<&'a StoredKey>,
    /// The position at which the next page begins.
    pub(super) next: usize,
}

impl<'a> Page<'a> {
    pub(super) fn of(found: &[Box<str>], keys: &'a Keys, from: u64, limit: u64, bad: Option<BadListing>) -> Self {
        let position = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let (from, limit) = (position(from), position(limit));
        let found =
            if bad == Some(BadListing::OneGone) && from > 0 { found.get(1..).unwrap_or_default() } else { found };
        let (begin, limit) = match bad {
            Some(BadListing::SameKeys) => (0, limit),
            // With one key a page there would be no progress.
            Some(BadListing::Repeated) if from > 0 => (from - 1, limit.max(2)),
            _ => (from, limit),
        };
        let keys: Vec<_> = found.iter().skip(begin).take(limit).filter_map(|id| keys.get(id)).collect();
        let next = match bad {
            Some(BadListing::SameMarker) if from > 0 => from,
            Some(BadListing::SameKeys) => from.saturating_add(keys.len()),
            _ => begin.saturating_add(keys.len()),
        };
        Self { found: found.len(), keys, next }
    }
}

#[derive(Serialize)]
struct Listing<'a> {
    keys: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_details: Option<Vec<Details<'a>>>,
    next_marker: String,
    truncated: String,
    total: usize,
}

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
    let stored = StoredKey::new(Key::new(format!("00000000-0000-0000-0000-{:012}", marker % 1_000_000_000_000)));
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
    use serde_json::{Value, json};

    use super::super::key::KeyState;
    use super::*;

    fn keys(keys: impl IntoIterator<Item = Key>) -> Keys {
        let mut stored = Keys::default();
        stored.extend(keys);
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
