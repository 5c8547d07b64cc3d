//! Lists of keys, read to their end.
//!
//! A list that may lack a key is worse than none: whoever is told of it would believe that all is well. So every doubt
//! about its end is an error: a marker that does not move, pages that bring nothing new or end too soon, a page without
//! its details.
//! Keys come and go between pages, which are not one snapshot (API sheet, section 1.4), so a key may be on two of them.

use std::collections::HashSet;

use serde_json::json;
use uuid::Uuid;

use super::client::{Client, Route};
use super::error::{Error, Kind};
use super::observe::{Code, Operation};
use super::transport::Answer;
use super::wire::{self, KeysPage, TaggedPage};
use crate::rotation::key::{KeyId, ListedKey, Tag};

/// Keys on a page, as the vendor's Terraform provider asks for (API sheet, section 1.4).
const LARGEST_PAGE: &str = "2000";
/// The most that a query by tag gives at a time (API sheet, section 1.5).
const TAGGED_PAGE: usize = 1000;

impl Client {
    /// Every key of the project.
    pub(super) async fn all_keys(&self) -> Result<Vec<ListedKey>, Error> {
        match self.keys_by_page(Some(LARGEST_PAGE)).await {
            // Too large for this site, it may be; its own size is not.
            Err(error) if error.code() == Some(Code::Http(400)) && error.kind() == Kind::Refused => {
                self.keys_by_page(None).await
            }
            result => result,
        }
    }

    async fn keys_by_page(&self, limit: Option<&str>) -> Result<Vec<ListedKey>, Error> {
        let mut keys = Vec::new();
        let mut seen = HashSet::new();
        let mut marker: Option<String> = None;
        loop {
            let sequence = Uuid::new_v4().to_string();
            let mut body = json!({"key_spec": "ALL", "sequence": sequence});
            for (name, value) in [("limit", limit), ("marker", marker.as_deref())] {
                if let Some(value) = value {
                    body[name] = value.into();
                }
            }
            let KeysPage { keys: page, next, total } = self
                .list_call(Route::ListKeys, Some(&sequence), &body.to_string(), |answer| wire::keys_page(&answer.body))
                .await?;
            let before = keys.len();
            keys.extend(page.into_iter().filter(|key| seen.insert(key.key_id)));
            let Some(next) = next else {
                return if keys.is_empty() && total.is_some_and(|total| total > 0) {
                    Err(incomplete("counts keys and lists none"))
                } else {
                    Ok(keys)
                };
            };
            if next.is_empty() || marker.as_ref() == Some(&next) {
                return Err(incomplete("says that more keys follow and not where"));
            }
            if keys.len() == before {
                return Err(incomplete("goes on without a further key"));
            }
            marker = Some(next);
        }
    }

    /// The keys with a tag, each with the tag.
    pub(super) async fn keys_with_tag(&self, key: &str, values: Option<&[&str]>) -> Result<Vec<(KeyId, Tag)>, Error> {
        let every;
        let values = if let Some(values) = values {
            values.to_vec()
        } else {
            let parse = |answer: &Answer| wire::project_tags(&answer.body);
            every = self.list_call(Route::Tags, None, "", parse).await?;
            every.iter().filter(|tag| &*tag.key == key).map(|tag| &*tag.value).collect()
        };
        let mut tagged = Vec::new();
        // One value at a time: whether several in one query are alternatives, the documents do not agree.
        for value in values {
            let tag = Tag { key: key.into(), value: value.into() };
            let found = self.keys_with(&tag).await?;
            tagged.extend(found.into_iter().map(|key_id| (key_id, tag.clone())));
        }
        Ok(tagged)
    }

    async fn keys_with(&self, tag: &Tag) -> Result<Vec<KeyId>, Error> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut offset = 0;
        loop {
            let sequence = Uuid::new_v4().to_string();
            let body = json!({
                "action": "filter",
                "limit": TAGGED_PAGE.to_string(),
                "offset": offset.to_string(),
                "tags": [{"key": tag.key, "values": [tag.value]}],
                "sequence": sequence,
            });
            let parse = |answer: &Answer| wire::tagged_page(&answer.body);
            let TaggedPage { keys, total } =
                self.list_call(Route::KeysByTag, Some(&sequence), &body.to_string(), parse).await?;
            offset += keys.len();
            // A full page is never taken for the last one: what the total counts is not documented.
            let is_last = keys.is_empty() || (keys.len() < TAGGED_PAGE && total.is_none_or(|total| offset >= total));
            if keys.is_empty() && total.is_some_and(|total| offset < total) {
                return Err(incomplete("counts more keys with the tag than it lists"));
            }
            let before = seen.len();
            seen.extend(keys.iter().map(|(key_id, _)| *key_id));
            if !is_last && seen.len() == before {
                return Err(incomplete("goes on without a further key with the tag"));
            }
            // An answer that does tell a key's tags must tell this one.
            let has_it = |tags: &[Tag]| tags.is_empty() || tags.contains(tag);
            found.extend(keys.into_iter().filter(|(_, tags)| has_it(tags)).map(|(key_id, _)| key_id));
            if is_last {
                return Ok(found);
            }
        }
    }
}

fn incomplete(what: &str) -> Error {
    Error::new(Operation::ListKeys, Kind::Garbled, format!("the list of keys is not complete: the cloud {what}"))
}
