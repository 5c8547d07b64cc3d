//! The bodies of the KMS calls: what is sent, and a lenient reading of what comes back.
//!
//! Documents and recordings disagree on the type of nearly every field (`docs/kms-api.md` 1.6), so several types are
//! read for each: a flag may be `true` or `"true"`, a number may be text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use super::error::parse_body;
use crate::rotation::key::{
    KeyDescription, KeyId, KeyState, ListedKey, Rotation, RotationBlocker, RotationInterval, SECONDS_PER_DAY, Tag,
};

/// The body of every call on one key. `sequence` is a UUID that the cloud keeps for tracing.
pub(super) fn key_body(key_id: KeyId, sequence: &str, interval: Option<RotationInterval>) -> String {
    // Ids, UUIDs and numbers need no escaping.
    match interval {
        None => format!(r#"{{"key_id":"{key_id}","sequence":"{sequence}"}}"#),
        Some(interval) => {
            let days = interval.days();
            format!(r#"{{"key_id":"{key_id}","rotation_interval":{days},"sequence":"{sequence}"}}"#)
        }
    }
}

/// Why the body of a success cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not an answer of the KMS, or it contains an error.
    Garbled,
    /// It is empty, or an object without the requested field.
    Missing,
}

/// The answer of `get-key-rotation-status`.
pub(super) fn rotation_status(body: &[u8]) -> Result<Rotation, Unusable> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        error: Option<IgnoredAny>,
        error_code: Option<IgnoredAny>,
        #[serde(rename = "errorCode")]
        error_code_of_iam: Option<IgnoredAny>,
        #[serde(borrow)]
        key_rotation_enabled: Option<Scalar<'a>>,
        rotation_interval: Option<Scalar<'a>>,
        last_rotation_time: Option<Scalar<'a>>,
        number_of_rotations: Option<Scalar<'a>>,
    }
    if body.trim_ascii().is_empty() {
        return Err(Unusable::Missing);
    }
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|_| Unusable::Garbled)?;
    if answer.error.or(answer.error_code).or(answer.error_code_of_iam).is_some() {
        return Err(Unusable::Garbled);
    }
    Ok(Rotation {
        enabled: flag(answer.key_rotation_enabled.as_ref()).ok_or(Unusable::Missing)?,
        interval_days: number(answer.rotation_interval.as_ref()).and_then(|days| days.try_into().ok()),
        last_rotated: number(answer.last_rotation_time.as_ref()).and_then(time),
        rotations: number(answer.number_of_rotations.as_ref()),
    })
}

/// The answer of a write. Its status is what counts, since its body is documented as empty or `{}`; an error in the
/// body is an error all the same.
pub(super) fn check_write(body: &[u8]) -> Result<(), Unusable> {
    let is_empty = body.len() <= "{}".len();
    if is_empty || parse_body(body).0.is_empty() { Ok(()) } else { Err(Unusable::Garbled) }
}

/// The answer of `describe-key`; `None` if it is another answer.
pub(super) fn description(body: &[u8]) -> Option<KeyDescription> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        key_info: Details<'a>,
    }
    Some(serde_json::from_slice::<Answer<'_>>(body).ok()?.key_info.description())
}

/// A key in the answers of `describe-key` and of lists.
#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    key_id: Option<Scalar<'a>>,
    key_alias: Option<Scalar<'a>>,
    key_state: Option<Scalar<'a>>,
    creation_date: Option<Scalar<'a>>,
    default_key_flag: Option<Scalar<'a>>,
    origin: Option<Scalar<'a>>,
    key_spec: Option<Scalar<'a>>,
    keystore_id: Option<Scalar<'a>>,
    multi_region_key_type: Option<Scalar<'a>>,
    sys_enterprise_project_id: Option<Scalar<'a>>,
}

impl Details<'_> {
    fn description(&self) -> KeyDescription {
        let alias = non_empty(self.key_alias.as_ref());
        let blocker = self.blocker(alias.as_deref().unwrap_or_default());
        let created = number(self.creation_date.as_ref()).and_then(time);
        KeyDescription { alias, blocker, state: self.state(), created }
    }

    /// What blocks the rotation; permanent blockers first. An unknown value blocks nothing: the cloud will refuse the
    /// write with a code.
    fn blocker(&self, alias: &str) -> Option<RotationBlocker> {
        let spec = text(self.key_spec.as_ref()).to_ascii_uppercase();
        let by_name = || alias.ends_with("/default");
        if flag(self.default_key_flag.as_ref()).unwrap_or_else(by_name) {
            Some(RotationBlocker::DefaultKey)
        } else if text(self.origin.as_ref()).eq_ignore_ascii_case("external") {
            Some(RotationBlocker::ImportedMaterial)
        } else if ["RSA_", "EC_", "HMAC_", "SM2", "ML_"].iter().any(|family| spec.starts_with(family)) {
            Some(RotationBlocker::UnsupportedKeyType)
        } else if !matches!(&*text(self.keystore_id.as_ref()), "" | "0") {
            Some(RotationBlocker::CustomKeystore)
        } else if text(self.multi_region_key_type.as_ref()).eq_ignore_ascii_case("replica") {
            Some(RotationBlocker::ReplicaKey)
        } else {
            match self.state() {
                Some(KeyState::Disabled | KeyState::PendingActivation) => Some(RotationBlocker::Disabled),
                Some(KeyState::PendingDeletion) => Some(RotationBlocker::PendingDeletion),
                Some(KeyState::PendingImport) => Some(RotationBlocker::ImportedMaterial),
                Some(KeyState::Enabled) | None => None,
            }
        }
    }

    fn state(&self) -> Option<KeyState> {
        number(self.key_state.as_ref()).and_then(KeyState::from_code)
    }

    fn listed(&self, shared: &mut SharedTexts) -> Option<ListedKey> {
        Some(ListedKey {
            key_id: text(self.key_id.as_ref()).parse().ok()?,
            description: self.description(),
            key_spec: shared.get(self.key_spec.as_ref()),
            enterprise_project_id: shared.get(self.sys_enterprise_project_id.as_ref()),
            tags: Vec::new(),
        })
    }
}

/// Texts that many keys of a page have, each of them once in memory.
#[derive(Default)]
struct SharedTexts(HashSet<Arc<str>>);

impl SharedTexts {
    fn get(&mut self, value: Option<&Scalar<'_>>) -> Option<Arc<str>> {
        let text = non_empty(value)?;
        if let Some(known) = self.0.get(&text) {
            return Some(Arc::clone(known));
        }
        self.0.insert(Arc::clone(&text));
        Some(text)
    }
}

/// A page of `list-keys`.
pub(super) struct KeysPage {
    pub(super) keys: Vec<ListedKey>,
    /// The marker of the next page, where the answer has one.
    pub(super) next: Option<String>,
    /// Whether more keys follow, where the answer has it.
    pub(super) truncated: Option<bool>,
    /// The number of keys on all pages, where the answer has it.
    pub(super) total: Option<u64>,
}

/// The answer of `list-keys`; `None` if it is another answer, or lacks the details of a key.
pub(super) fn keys_page(body: &[u8]) -> Option<KeysPage> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        /// Only their number is used.
        keys: Option<Vec<IgnoredAny>>,
        #[serde(borrow)]
        key_details: Option<Vec<Details<'a>>>,
        next_marker: Option<Scalar<'a>>,
        truncated: Option<Scalar<'a>>,
        total: Option<Scalar<'a>>,
    }
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    let ids = answer.keys.as_ref().map(Vec::len);
    let details = match answer.key_details {
        Some(details) => details,
        None if ids == Some(0) => Vec::new(),
        None => return None,
    };
    if ids.is_some_and(|ids| ids > details.len()) {
        return None;
    }
    let mut shared = SharedTexts::default();
    let keys = details.iter().map(|details| details.listed(&mut shared)).collect::<Option<Vec<_>>>()?;
    let marker = text(answer.next_marker.as_ref()).into_owned();
    Some(KeysPage {
        keys,
        next: (!marker.is_empty()).then_some(marker),
        truncated: flag(answer.truncated.as_ref()),
        total: number(answer.total.as_ref()),
    })
}

/// A page of `resource_instances/action`.
pub(super) struct TaggedPage {
    pub(super) keys: Vec<(KeyId, Vec<Tag>)>,
    /// The number of keys on all pages, where the answer has it.
    pub(super) total: Option<u64>,
}

/// The answer of `resource_instances/action`: keys with their tags; `None` if it is another answer. Details come as an
/// object or as a list with one, and one recording has the key's id nowhere else (`docs/kms-api.md` 1.5).
pub(super) fn tagged_page(body: &[u8]) -> Option<TaggedPage> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        resources: Vec<Resource<'a>>,
        total_count: Option<Scalar<'a>>,
    }
    #[derive(Deserialize)]
    struct Resource<'a> {
        #[serde(borrow, rename = "resource_id")]
        id: Option<Scalar<'a>>,
        #[serde(rename = "resource_detail", alias = "key_details")]
        details: Option<Value>,
        tags: Option<Vec<WireTag<'a>>>,
    }
    #[derive(Deserialize)]
    struct WireTag<'a> {
        #[serde(borrow)]
        key: Option<Scalar<'a>>,
        value: Option<Scalar<'a>>,
    }
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    let resources = answer.resources.into_iter().map(|resource| {
        let details = resource.details.as_ref().map(|details| details.get(0).unwrap_or(details));
        let in_details = details.and_then(|details| details.get("key_id")?.as_str());
        let own = text(resource.id.as_ref());
        let id = if own.is_empty() { in_details.unwrap_or_default() } else { &own };
        let tag =
            |tag: &WireTag<'_>| Tag { key: text(tag.key.as_ref()).into(), value: text(tag.value.as_ref()).into() };
        let tags = resource.tags.iter().flatten().map(tag);
        Some((id.parse().ok()?, tags.collect()))
    });
    Some(TaggedPage { keys: resources.collect::<Option<_>>()?, total: number(answer.total_count.as_ref()) })
}

/// The answer of `tags`: every tag in the project with each of its values; `None` if it is another answer.
pub(super) fn project_tags(body: &[u8]) -> Option<Vec<Tag>> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        tags: Vec<Values<'a>>,
    }
    #[derive(Deserialize)]
    struct Values<'a> {
        #[serde(borrow)]
        key: Option<Scalar<'a>>,
        values: Option<Vec<Scalar<'a>>>,
    }
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    let mut tags = Vec::new();
    for Values { key, values } in &answer.tags {
        let tag = |value| Tag { key: text(key.as_ref()).into(), value: text(Some(value)).into() };
        tags.extend(values.iter().flatten().map(tag));
    }
    Some(tags)
}

/// The value of a field: a list of keys has a dozen for each key, so a text is borrowed from the answer.
#[derive(Debug)]
enum Scalar<'a> {
    Flag(bool),
    Number(Number),
    Text(Cow<'a, str>),
    /// `null`, a list or an object.
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Scalar<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Flag(flag))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Number::from_f64(number).map_or(Scalar::Other, Scalar::Number))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(text.to_owned().into()))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

fn flag(value: Option<&Scalar<'_>>) -> Option<bool> {
    match value? {
        Scalar::Flag(flag) => Some(*flag),
        Scalar::Text(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
        Scalar::Text(text) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
        Scalar::Number(number) if number.as_u64() == Some(1) => Some(true),
        Scalar::Number(number) if number.as_u64() == Some(0) => Some(false),
        _ => None,
    }
}

fn number(value: Option<&Scalar<'_>>) -> Option<u64> {
    match value? {
        Scalar::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Scalar::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A number that is written with a fraction of zero.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked right before")]
fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..1e15).contains(&number)).then_some(number as u64)
}

fn text<'v>(value: Option<&'v Scalar<'_>>) -> Cow<'v, str> {
    match value {
        Some(Scalar::Text(text)) => Cow::Borrowed(text),
        Some(Scalar::Number(number)) => number.to_string().into(),
        _ => Cow::default(),
    }
}

/// Text that is not empty.
fn non_empty(value: Option<&Scalar<'_>>) -> Option<Arc<str>> {
    Some(text(value)).filter(|text| !text.is_empty()).map(Into::into)
}

/// A point in time from its magnitude: documented as seconds, milliseconds in every example, and one client's comment
/// mentions microseconds. Zero means never.
fn time(stamp: u64) -> Option<SystemTime> {
    const YEAR_5000_IN_SECONDS: u64 = 100_000_000_000;
    let since_epoch = match stamp {
        0 => return None,
        seconds if seconds < YEAR_5000_IN_SECONDS => Duration::from_secs(seconds),
        millis if millis < YEAR_5000_IN_SECONDS * 1_000 => Duration::from_millis(millis),
        micros => Duration::from_micros(micros),
    };
    let latest = Duration::from_secs(SECONDS_PER_DAY * 366 * 8_000);
    (since_epoch < latest).then(|| SystemTime::UNIX_EPOCH + since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(body: &str) -> Result<Rotation, Unusable> {
        rotation_status(body.as_bytes())
    }

    #[test]
    fn the_documented_example_is_read_in_both_dialects() {
        let expected = Rotation {
            enabled: true,
            interval_days: Some(30),
            last_rotated: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_501_578_672)),
            rotations: Some(3),
        };
        for body in [
            r#"{"key_rotation_enabled":true,"rotation_interval":30,"last_rotation_time":"1501578672000","number_of_rotations":3}"#,
            r#"{"key_rotation_enabled":"true","rotation_interval":"30","last_rotation_time":"1501578672","number_of_rotations":"3"}"#,
            r#"{"key_rotation_enabled":"TRUE","rotation_interval":30,"last_rotation_time":1501578672000000,"number_of_rotations":3,"key_materials":[{}]}"#,
        ] {
            assert_eq!(reading(body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn a_key_that_never_rotated_has_no_last_rotation() {
        for stamp in [r#""""#, "null", "0", r#""0""#, "[]"] {
            let body = format!(r#"{{"key_rotation_enabled":false,"last_rotation_time":{stamp}}}"#);
            let rotation = reading(&body).unwrap();
            assert_eq!((rotation.enabled, rotation.last_rotated), (false, None), "{body}");
        }
    }

    #[test]
    fn an_answer_without_the_setting_is_distinguished_from_garbage_and_from_an_error() {
        for missing in ["", " \n", "{}", r#"{"rotation_interval":90}"#, r#"{"key_rotation_enabled":"maybe"}"#] {
            assert_eq!(reading(missing), Err(Unusable::Missing), "{missing}");
        }
        for garbled in [
            "<html>",
            "{\"key_rotation_enabled\":tr",
            "7",
            "null",
            r#"{"error":{"error_code":"KMS.0101"}}"#,
            r#"{"error_code":"APIGW.0301"}"#,
            r#"{"errorCode":"IAM.0012"}"#,
            r#"{"key_rotation_enabled":true,"rotation_interval":90,"error_code":"KMS.0101"}"#,
        ] {
            assert_eq!(reading(garbled), Err(Unusable::Garbled), "{garbled}");
        }
        assert!(reading(r#"{"key_rotation_enabled":true,"error":null}"#).is_ok());
    }

    #[test]
    fn a_list_is_read_as_text_or_as_numbers() {
        let id = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
        let page = |project: &str, marker: &str| {
            let details = format!(r#"{{"key_id":"{id}","key_state":2,"sys_enterprise_project_id":{project}}}"#);
            let body = format!(r#"{{"keys":["{id}"],"key_details":[{details}],"next_marker":{marker}}}"#);
            keys_page(body.as_bytes()).unwrap()
        };
        for (project, marker) in [(r#""0""#, r#""10""#), ("0", "10")] {
            let page = page(project, marker);
            assert_eq!((page.keys[0].enterprise_project_id.as_deref(), page.next.as_deref()), (Some("0"), Some("10")));
        }
        assert_eq!(page("null", r#""""#).next, None);
    }

    #[test]
    fn keys_of_a_page_share_what_is_the_same() {
        let id = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
        let details = format!(r#"{{"key_id":"{id}","key_spec":"AES_256","sys_enterprise_project_id":"0"}}"#);
        let page = keys_page(format!(r#"{{"key_details":[{details},{details}]}}"#).as_bytes()).unwrap();
        let [one, other] = &*page.keys else { panic!("{} keys", page.keys.len()) };
        assert!(Arc::ptr_eq(one.key_spec.as_ref().unwrap(), other.key_spec.as_ref().unwrap()));
        let project = |key: &ListedKey| key.enterprise_project_id.clone().unwrap();
        assert!(Arc::ptr_eq(&project(one), &project(other)));
    }

    #[test]
    fn tags_without_values_and_with_numbers_are_tags() {
        let id = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
        let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
        let tags = r#"[{"key":"a"},{"key":"b","value":null},{"key":"c","value":7}]"#;
        let body = format!(r#"{{"resources":[{{"resource_id":"{id}","tags":{tags}}}],"total_count":"1"}}"#);
        assert_eq!(tagged_page(body.as_bytes()).unwrap().keys[0].1, [tag("a", ""), tag("b", ""), tag("c", "7")]);
        let body = format!(r#"{{"resources":[{{"resource_id":"{id}","tags":null}}]}}"#);
        assert!(tagged_page(body.as_bytes()).unwrap().keys[0].1.is_empty());
        let all = r#"{"tags":[{"key":"a","values":["x",7,null]},{"key":"b","values":null}]}"#;
        assert_eq!(project_tags(all.as_bytes()).unwrap(), [tag("a", "x"), tag("a", "7"), tag("a", "")]);
    }

    #[test]
    fn a_description_shows_what_blocks_the_rotation() {
        let described = |fields: &str| {
            let body = format!(r#"{{"key_info":{{"key_state":"2","default_key_flag":"0",{fields}}}}}"#);
            description(body.as_bytes()).unwrap().blocker
        };
        assert_eq!(described(r#""origin":"kms","key_spec":"AES_256","keystore_id":"0""#), None);
        assert_eq!(described(r#""key_spec":"SM4","multi_region_key_type":"SINGLE""#), None);
        assert_eq!(described(r#""origin":"external""#), Some(RotationBlocker::ImportedMaterial));
        assert_eq!(described(r#""key_spec":"EC_P256""#), Some(RotationBlocker::UnsupportedKeyType));
        assert_eq!(described(r#""keystore_id":"9a3""#), Some(RotationBlocker::CustomKeystore));
        assert_eq!(described(r#""keystore_id":0"#), None);
        assert_eq!(described(r#""keystore_id":7"#), Some(RotationBlocker::CustomKeystore));
        assert_eq!(described(r#""multi_region_key_type":"REPLICA""#), Some(RotationBlocker::ReplicaKey));
        let state = |code: &str| description(format!(r#"{{"key_info":{{"key_state":{code}}}}}"#).as_bytes()).unwrap();
        assert_eq!(state("3").blocker, Some(RotationBlocker::Disabled));
        assert_eq!(state("\"4\"").blocker, Some(RotationBlocker::PendingDeletion));
        assert_eq!(
            description(br#"{"key_info":{"key_alias":"obs/default"}}"#).unwrap().blocker,
            Some(RotationBlocker::DefaultKey)
        );
        assert_eq!(described(r#""key_alias":"team/default""#), None, "a customer's key may have such a name");
        assert_eq!(description(b"{}"), None);
    }
}
