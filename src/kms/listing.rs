//! Lists of keys, read to their end.
//!
//! A list that may lack a key is worse than none: whoever is told of it would believe that all is well. So every doubt
//! about its end is an error: a marker that does not move, pages that bring nothing new, a page without its details.
//! Keys come and go between pages, which are not one snapshot (API sheet, section 1.4), so a key may be on two of them.

use std::collections::HashSet;

use serde_json::json;
use uuid::Uuid;

use super::client::{Client, Question};
use super::error::{Error, Kind};
use super::observe::{Code, Operation};
use super::wire::{self, KeysPage, TaggedPage};
use crate::rotation::key::{KeyId, ListedKey, Tag};

/// Keys on a page: the default of the newest documents, and what the vendor's Terraform provider asks for (API sheet,
/// section 1.4).
const LARGEST_PAGE: u32 = 2000;
/// Where that is refused, what the documents give as an example.
const MODEST_PAGE: u32 = 100;
/// The most that a query by tag gives at a time (API sheet, section 1.5).
const TAGGED_PAGE: usize = 1000;
/// Values of one tag in a query.
const MOST_VALUES: usize = 10;

impl Client {
    /// Every key of the project.
    pub(super) async fn all_keys(&self) -> Result<Vec<ListedKey>, Error> {
        match self.keys_by_page(LARGEST_PAGE).await {
            Err(error) if error.code() == Some(Code::Http(400)) && error.kind() == Kind::Refused => {
                self.keys_by_page(MODEST_PAGE).await
            }
            result => result,
        }
    }

    async fn keys_by_page(&self, limit: u32) -> Result<Vec<ListedKey>, Error> {
        let mut keys = Vec::new();
        let mut seen = HashSet::new();
        let mut marker: Option<String> = None;
        loop {
            let sequence = Uuid::new_v4().to_string();
            let mut body = json!({"limit": limit.to_string(), "key_spec": "ALL", "sequence": sequence});
            if let Some(marker) = &marker {
                body["marker"] = marker.as_str().into();
            }
            let KeysPage { keys: page, next } = self
                .list_call(Question::Keys, Some(&sequence), &body.to_string(), |answer| wire::keys_page(&answer.body))
                .await?;
            let before = keys.len();
            keys.extend(page.into_iter().filter(|key| seen.insert(key.key_id)));
            let Some(next) = next else { return Ok(keys) };
            if next.is_empty() || marker.as_ref() == Some(&next) {
                return Err(endless("says that more keys follow and not where"));
            }
            if keys.len() == before {
                return Err(endless("goes on without a further key"));
            }
            marker = Some(next);
        }
    }

    /// The keys with a tag, each with the tag.
    pub(super) async fn keys_with_tag(&self, key: &str, values: Option<&[&str]>) -> Result<Vec<(KeyId, Tag)>, Error> {
        let mut tagged = Vec::new();
        if let Some(values) = values {
            self.add_tagged(key, values, &mut tagged).await?;
        } else {
            let parse = |answer: &super::transport::Answer| wire::project_tags(&answer.body);
            let tags = self.list_call(Question::Tags, None, "", parse).await?;
            let values: Vec<&str> = tags.iter().filter(|tag| &*tag.key == key).map(|tag| &*tag.value).collect();
            self.add_tagged(key, &values, &mut tagged).await?;
        }
        Ok(tagged)
    }

    async fn add_tagged(&self, key: &str, values: &[&str], tagged: &mut Vec<(KeyId, Tag)>) -> Result<(), Error> {
        for values in values.chunks(MOST_VALUES) {
            let mut offset = 0;
            loop {
                let sequence = Uuid::new_v4().to_string();
                let body = json!({
                    "action": "filter",
                    "limit": TAGGED_PAGE.to_string(),
                    "offset": offset.to_string(),
                    "tags": [{"key": key, "values": values}],
                    "sequence": sequence,
                });
                let body = body.to_string();
                let TaggedPage { keys: page, total } = self
                    .list_call(Question::KeysByTag, Some(&sequence), &body, |answer| wire::tagged_page(&answer.body))
                    .await?;
                offset += page.len();
                let is_last = page.is_empty() || total.map_or(page.len() < TAGGED_PAGE, |total| offset >= total);
                // What a key was found by must be among its tags; anything else there was not asked for.
                let found = page.into_iter().flat_map(|(key_id, tags)| tags.into_iter().map(move |tag| (key_id, tag)));
                tagged.extend(found.filter(|(_, tag)| &*tag.key == key && values.contains(&&*tag.value)));
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn endless(what: &str) -> Error {
    Error::new(Operation::ListKeys, Kind::Garbled, format!("the list of keys is not complete: the cloud {what}"))
}
