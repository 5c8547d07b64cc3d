//! Tags: the search by tags and names (`docs/kms-api.md` 1.5), the tags of a key and of a project.
//!
//! The error codes are those under "tag management" in Open Telekom Cloud's table (`docs/kms-api.md` 3.1).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::answer::Answer;
use super::behaviour::{Behaviour, Dialect};
use super::key::{Key, is_key_id};
use super::keys::{Filter, Keys, StoredKey};
use super::kms::{Body, bad_key_id, key_not_found, number};
use super::listing::{BadListing, Details, Number, Page, limit};
use super::world::World;

/// Default page size (`docs/kms-api.md` 1.5).
const DEFAULT_PAGE: u64 = 10;
/// The largest limit (`docs/kms-api.md` 1.5).
const LARGEST_PAGE: u64 = 1000;
/// Number of tags in a search, and of values of one tag.
const MAX_TAGS: usize = 10;
/// Characters of a tag's key.
const MAX_TAG_KEY: usize = 36;
/// Characters of a tag's value.
const MAX_TAG_VALUE: usize = 43;
/// Characters of the name in a search.
const MAX_NAME: usize = 255;

/// How a search by tags describes a key; the sources disagree (`docs/kms-api.md` 1.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResourceDetail {
    /// `resource_detail` is an object, as in the tables; its numbers are plain in Open Telekom Cloud's example.
    #[default]
    Object,
    /// `resource_detail` is an array of one object with plain numbers, as in Huawei Cloud's Chinese example.
    Array,
    /// `key_details` instead, and no `resource_id`, as in the only recording.
    Recorded,
}

#[derive(Serialize)]
struct Tag<'a> {
    key: &'a str,
    value: &'a str,
}

fn tags(key: &Key) -> Vec<Tag<'_>> {
    key.tags.iter().map(|(key, value)| Tag { key, value }).collect()
}

#[derive(Serialize)]
struct FoundKey<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<&'a str>,
    #[serde(flatten)]
    described: Option<Detail<'a>>,
    resource_name: &'a str,
    tags: Vec<Tag<'a>>,
}

#[derive(Serialize)]
enum Detail<'a> {
    #[serde(rename = "resource_detail")]
    Object(Details<'a>),
    #[serde(rename = "resource_detail")]
    Array([Details<'a>; 1]),
    #[serde(rename = "key_details")]
    Recorded(Details<'a>),
}

impl<'a> FoundKey<'a> {
    fn of(stored: &'a StoredKey, dialect: Dialect, detail: Option<ResourceDetail>) -> Self {
        let plain = match dialect {
            Dialect::Huawei => detail == Some(ResourceDetail::Array),
            Dialect::OpenTelekomCloud => true,
            Dialect::AllText => false,
        };
        let details = if plain { Details::with_numbers(stored, dialect) } else { Details::of(stored, dialect) };
        Self {
            resource_id: (detail != Some(ResourceDetail::Recorded)).then_some(&stored.key.id),
            described: detail.map(|detail| match detail {
                ResourceDetail::Object => Detail::Object(details),
                ResourceDetail::Array => Detail::Array([details]),
                ResourceDetail::Recorded => Detail::Recorded(details),
            }),
            resource_name: &stored.key.alias,
            tags: tags(&stored.key),
        }
    }
}

/// The answer of a search; a "count" has no resources.
#[derive(Serialize)]
struct SearchResult<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<FoundKey<'a>>>,
    total_count: Number,
}

/// `resource_instances/action`
pub(super) fn query(
    keys: &mut Keys,
    body: &Body,
    dialect: Dialect,
    behaviour: &Behaviour,
    bad: Option<BadListing>,
) -> Result<Answer, Answer> {
    let counts = match body.get("action").map(Value::as_str) {
        // Mandatory in Open Telekom Cloud's document only.
        None if dialect != Dialect::OpenTelekomCloud => false,
        Some(Some("filter")) => false,
        Some(Some("count")) => true,
        _ => return Err(invalid("KMS.0404", "action")),
    };
    if counts && (body.contains_key("limit") || body.contains_key("offset")) {
        return Err(Answer::kms(400, "KMS.0418", "The offset is not required."));
    }
    // The table has no special code for this limit.
    let limit = limit(body, DEFAULT_PAGE, LARGEST_PAGE, behaviour, "KMS.0308")?;
    let offset = number(body, "offset", "KMS.0417")?.unwrap_or(0);
    let found = keys.find(&filter(body)?);
    let page = Page::of(&found, keys, offset, limit, bad);
    let total = match bad {
        Some(BadListing::Empty) => return Ok(Answer::json(200, "{}")),
        Some(BadListing::SameKeys) => page.next + 1,
        _ => BadListing::total(bad, behaviour.total.of(page.found, page.keys.len())),
    };
    let detail = (bad != Some(BadListing::NoDetails)).then_some(behaviour.resource_detail);
    let resources = || page.keys.iter().map(|stored| FoundKey::of(stored, dialect, detail)).collect();
    Ok(Answer::success(&SearchResult {
        resources: (!counts).then(resources),
        total_count: Number::new(total as u64, dialect == Dialect::Huawei),
    }))
}

fn filter(body: &Body) -> Result<Filter, Answer> {
    let list = |name: &str, code| match body.get(name) {
        None => Ok([].as_slice()),
        Some(Value::Array(entries)) => Ok(entries.as_slice()),
        Some(_) => Err(invalid(code, name)),
    };
    let tags = list("tags", "KMS.0407")?;
    if tags.len() > MAX_TAGS {
        return Err(Answer::kms(400, "KMS.0412", "Invalid length of the key list in the tag parameter."));
    }
    let tags: Vec<_> = tags.iter().map(tag).collect::<Result<_, _>>()?;
    if tags.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len() < tags.len() {
        return Err(invalid("KMS.0406", "key of tag"));
    }
    let mut filter = Filter { tags, ..Filter::default() };
    for wanted in list("matches", "KMS.0403")? {
        if wanted["key"] != "resource_name" || filter.name.is_some() {
            return Err(invalid("KMS.0403", "key of match"));
        }
        let name = wanted["value"].as_str().filter(|name| (1..=MAX_NAME).contains(&name.chars().count()));
        // Matching a part, in any case, is documented for the same call of other services.
        filter.name = Some(name.ok_or_else(|| invalid("KMS.0402", "value of match"))?.to_lowercase());
    }
    Ok(filter)
}

/// One tag of a search: its key, and the alternative values. In the documents the values are joined by "and", but a
/// key has each tag only once.
fn tag(tag: &Value) -> Result<(String, Vec<String>), Answer> {
    let key = tag["key"].as_str().filter(|key| !key.is_empty()).ok_or_else(|| invalid("KMS.0406", "key of tag"))?;
    if key.chars().count() > MAX_TAG_KEY {
        return Err(invalid("KMS.0411", "length of the key of tag"));
    }
    let values = match &tag["values"] {
        Value::Null => [].as_slice(),
        Value::Array(values) => values.as_slice(),
        _ => return Err(invalid("KMS.0405", "values of tag")),
    };
    if values.len() > MAX_TAGS {
        return Err(Answer::kms(
            400,
            "KMS.0413",
            "The length of the value list in the tag parameter is over the limit.",
        ));
    }
    let values = values.iter().map(|value| {
        let value = value.as_str().ok_or_else(|| invalid("KMS.0405", "value of tag"))?;
        if value.chars().count() > MAX_TAG_VALUE {
            return Err(invalid("KMS.0410", "length of the value of tag"));
        }
        Ok(value.to_owned())
    });
    Ok((key.to_owned(), values.collect::<Result<_, _>>()?))
}

fn invalid(code: &str, what: &str) -> Answer {
    Answer::kms(400, code, &format!("The {what} is invalid."))
}

/// The tags of one key, and their number under the cloud's name for it (`docs/kms-api.md` 1.1).
#[derive(Serialize)]
struct KeyTags<'a> {
    tags: Vec<Tag<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exist_tags_num: Option<Number>,
    #[serde(flatten)]
    more: Option<MoreKeyTags<'a>>,
}

/// The other fields in Open Telekom Cloud's document.
#[derive(Serialize)]
struct MoreKeyTags<'a> {
    sys_tags: [Tag<'a>; 0],
    #[serde(rename = "existTagsNum")]
    number: usize,
}

#[derive(Serialize)]
struct ProjectTags<'a> {
    tags: Vec<ProjectTag<'a>>,
}

#[derive(Serialize)]
struct ProjectTag<'a> {
    key: &'a str,
    values: BTreeSet<&'a str>,
}

impl World {
    /// The tags of one key, or without a key id all tags in the project.
    pub(super) fn tags(&self, project_id: &str, key_id: Option<&str>) -> Result<Answer, Answer> {
        let project = self.projects.get(project_id).ok_or_else(key_not_found)?;
        let Some(key_id) = key_id else {
            let mut tags = BTreeMap::<&str, BTreeSet<&str>>::new();
            for (key, value) in project.keys.iter().flat_map(|stored| &stored.key.tags) {
                tags.entry(key).or_default().insert(value);
            }
            let tags = tags.into_iter().map(|(key, values)| ProjectTag { key, values }).collect();
            return Ok(Answer::success(&ProjectTags { tags }));
        };
        if !is_key_id(key_id) {
            return Err(bad_key_id());
        }
        let stored = project.keys.get(key_id).ok_or_else(key_not_found)?;
        let tags = tags(&stored.key);
        let number = tags.len();
        let plain = |plain| Some(Number::new(number as u64, plain));
        let (exist_tags_num, more) = match project.dialect.unwrap_or(self.behaviour.dialect) {
            Dialect::Huawei => (plain(true), None),
            Dialect::AllText => (plain(false), None),
            Dialect::OpenTelekomCloud => (None, Some(MoreKeyTags { sys_tags: [], number })),
        };
        Ok(Answer::success(&KeyTags { tags, exist_tags_num, more }))
    }
}
