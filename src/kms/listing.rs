//! Lists of keys, read to their end.
//!
//! A list may lack a key of the project, and then the absence of a key means nothing. So every sign of it becomes the
//! list's `doubt`: a repeated marker, a total above the number of listed keys, a total that changed during the reading
//! and again during a second one. The listed keys are returned all the same. A page that is not a list, and a list
//! without an end, are errors.
//!
//! Pages are not one snapshot (`docs/kms-api.md` 1.4): a key may be on two pages, and a deleted key moves later ones to
//! a page that was read already. A changed total shows it.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::Listed;
use super::client::KmsClient;
use super::error::{Error, ErrorKind};
use super::observe::{Code, Operation};
use super::route::Route;
use super::transport::Answer;
use super::wire::{self, KeysPage, TaggedPage};
use crate::rotation::key::{KeyId, ListedKey, Tag};

/// Keys on a page, as the vendor's Terraform provider asks for (`docs/kms-api.md` 1.4).
const LARGEST_PAGE: &str = "2000";
/// The most that a query by tag gives at a time (`docs/kms-api.md` 1.5).
const TAGGED_PAGE: usize = 1000;
/// Pages and keys of one list. Default quotas are 20 to 100 keys (`docs/kms-api.md` 4); a list beyond this has no end.
const MOST_PAGES: usize = 1_000;
const MOST_KEYS: usize = 200_000;
/// How long one list may take, with all retries.
const LONGEST_LIST: Duration = Duration::from_secs(30 * 60);

/// The totals on the pages of a list.
struct Pages {
    began: Instant,
    read: usize,
    total: Option<u64>,
    /// A later page gave another total.
    changed: bool,
    /// Every total was the length of its own page: no document explains what it counts.
    counts_page: bool,
}

impl Pages {
    fn new() -> Self {
        Self { began: Instant::now(), read: 0, total: None, changed: false, counts_page: true }
    }

    /// One page more, of this length and with this total; `seen` are on all of them.
    fn page(&mut self, length: usize, total: Option<u64>, seen: usize) -> Result<(), Error> {
        self.read += 1;
        self.changed |= self.read > 1 && total != self.total;
        self.counts_page &= total == u64::try_from(length).ok();
        self.total = total;
        if self.read >= MOST_PAGES || seen > MOST_KEYS || self.began.elapsed() > LONGEST_LIST {
            let text = format!("the list of keys does not end: {seen} keys on {} pages", self.read);
            return Err(Error::new(Operation::ListKeys, ErrorKind::Garbled, text));
        }
        Ok(())
    }

    /// Why a list that ends here may lack keys, where this number was seen.
    fn doubt(&self, seen: usize) -> Option<Box<str>> {
        if self.counts_page {
            None
        } else if self.changed {
            Some("its total changed while it was read, so keys came or went".into())
        } else {
            let total = self.total.filter(|total| u64::try_from(seen).is_ok_and(|seen| *total > seen))?;
            Some(format!("the cloud reports {total} keys, but lists {seen}").into())
        }
    }

    /// Another reading may list what this one missed.
    fn is_worth_another(&self) -> bool {
        self.changed && !self.counts_page
    }
}

/// The list ended, although the cloud reported more keys.
const NO_FURTHER_KEY: &str = "the cloud reports more keys, but lists no further one";
const NO_MARKER: &str = "the cloud reports more keys, but no marker for them";

/// The list, read `again` where its total changed meanwhile. If that fails, the first reading stays, with its doubt.
async fn read_twice<T>(
    (listed, pages): (Listed<T>, Pages),
    again: impl Future<Output = Result<(Listed<T>, Pages), Error>>,
) -> Listed<T> {
    if !pages.is_worth_another() {
        return listed;
    }
    match again.await {
        Ok((again, _)) => again,
        Err(_) => listed,
    }
}

impl KmsClient {
    /// Every key of the project.
    pub(super) async fn all_keys(&self) -> Result<Listed<ListedKey>, Error> {
        match self.keys_by_page(Some(LARGEST_PAGE)).await {
            // The page may be too large for this site; its default size is not.
            Err(error) if error.code() == Some(Code::Http(400)) && error.kind() == ErrorKind::Refused => {
                self.keys_by_page(None).await
            }
            result => result,
        }
    }

    async fn keys_by_page(&self, limit: Option<&str>) -> Result<Listed<ListedKey>, Error> {
        Ok(read_twice(self.read_keys(limit).await?, self.read_keys(limit)).await)
    }

    async fn read_keys(&self, limit: Option<&str>) -> Result<(Listed<ListedKey>, Pages), Error> {
        let mut keys = Vec::new();
        let mut seen = HashSet::new();
        let mut marker: Option<String> = None;
        let mut pages = Pages::new();
        loop {
            let sequence = Uuid::new_v4().to_string();
            let mut body = json!({"key_spec": "ALL", "sequence": sequence});
            for (name, value) in [("limit", limit), ("marker", marker.as_deref())] {
                if let Some(value) = value {
                    body[name] = value.into();
                }
            }
            let KeysPage { keys: page, next, truncated, total } = self
                .list_call(Route::ListKeys, Some(&sequence), &body.to_string(), |answer| wire::keys_page(&answer.body))
                .await?;
            let (length, before) = (page.len(), keys.len());
            keys.extend(page.into_iter().filter(|key| seen.insert(key.key_id)));
            pages.page(length, total, keys.len())?;
            let goes_on = truncated == Some(true);
            // A marker is followed whatever `truncated` is, and nothing else is.
            let doubt = match &next {
                None if goes_on => Some(NO_MARKER),
                None => None,
                Some(next) if keys.len() == before || marker.as_ref() == Some(next) => {
                    let is_end = length == 0 && !goes_on;
                    (!is_end).then_some(NO_FURTHER_KEY)
                }
                Some(_) => {
                    marker = next;
                    continue;
                }
            };
            let doubt = doubt.map(Into::into).or_else(|| pages.doubt(keys.len()));
            return Ok((Listed { items: keys, doubt }, pages));
        }
    }

    /// Every tag in the project, with each of its values.
    ///
    /// # Errors
    ///
    /// The call failed.
    pub(crate) async fn project_tags(&self) -> Result<Vec<Tag>, Error> {
        self.list_call(Route::Tags, None, "", |answer| wire::project_tags(&answer.body)).await
    }

    /// The keys with a tag, each with the tag.
    pub(super) async fn keys_with_tag(
        &self,
        key: &str,
        values: Option<&[&str]>,
    ) -> Result<Listed<(KeyId, Tag)>, Error> {
        let every;
        let values = if let Some(values) = values {
            values.to_vec()
        } else {
            every = self.project_tags().await?;
            every.iter().filter(|tag| &*tag.key == key).map(|tag| &*tag.value).collect()
        };
        let mut tagged = Listed { items: Vec::new(), doubt: None };
        // One value at a time: the documents disagree on whether several in one query are alternatives.
        for value in values {
            let tag = Tag { key: key.into(), value: value.into() };
            let found = read_twice(self.read_tagged(&tag).await?, self.read_tagged(&tag)).await;
            tagged.items.extend(found.items.into_iter().map(|key_id| (key_id, tag.clone())));
            tagged.doubt = tagged.doubt.or(found.doubt);
        }
        Ok(tagged)
    }

    async fn read_tagged(&self, tag: &Tag) -> Result<(Listed<KeyId>, Pages), Error> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut offset = 0;
        let mut pages = Pages::new();
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
            let (length, before) = (keys.len(), seen.len());
            offset += length;
            // An answer with the tags of a key must contain this one.
            let has_it = |tags: &[Tag]| tags.is_empty() || tags.contains(tag);
            let new = keys.into_iter().filter(|(key_id, _)| seen.insert(*key_id));
            found.extend(new.filter(|(_, tags)| has_it(tags)).map(|(key_id, _)| key_id));
            pages.page(length, total, seen.len())?;
            // Neither a full page nor one without a total is taken for the last one: a site may have smaller pages than
            // it is asked for, and what the total counts is not documented.
            let counted = total.and_then(|total| usize::try_from(total).ok());
            let is_last = length == 0 || (length < TAGGED_PAGE && counted.is_some_and(|total| offset >= total));
            let doubt = if is_last {
                pages.doubt(seen.len())
            } else if seen.len() == before {
                Some(NO_FURTHER_KEY.into())
            } else {
                continue;
            };
            return Ok((Listed { items: found, doubt }, pages));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of a list with pages of these lengths and totals.
    fn doubt(pages: &[(usize, Option<u64>)]) -> (Option<Box<str>>, bool) {
        let (mut so_far, mut seen) = (Pages::new(), 0);
        for (length, total) in pages {
            seen += length;
            so_far.page(*length, *total, seen).unwrap();
        }
        (so_far.doubt(seen), so_far.is_worth_another())
    }

    #[test]
    fn a_total_that_is_too_high_or_changes_makes_a_list_doubtful_and_the_length_of_a_page_does_not() {
        for complete in [
            &[(2, Some(2))][..],
            &[(2, None)],
            &[(10, Some(25)), (10, Some(25)), (5, Some(25))],
            &[(10, Some(10)), (10, Some(10)), (5, Some(5))],
            &[(10, None), (5, None)],
            &[(10, Some(15)), (5, Some(15)), (0, Some(15))],
            &[(10, Some(3))],
        ] {
            assert_eq!(doubt(complete), (None, false), "{complete:?}");
        }
        let (few, again) = doubt(&[(2, Some(500))]);
        assert_eq!((few.as_deref(), again), (Some("the cloud reports 500 keys, but lists 2"), false));
        for changing in [&[(10, Some(25)), (10, Some(24)), (4, Some(24))][..], &[(10, Some(25)), (10, None)]] {
            let (changed, again) = doubt(changing);
            assert!(changed.is_some_and(|doubt| doubt.contains("changed")) && again, "{changing:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_bounded_in_pages_keys_and_time() {
        let mut pages = Pages::new();
        assert_eq!((1..=MOST_PAGES).position(|page| pages.page(1, None, page).is_err()), Some(MOST_PAGES - 1));
        assert!(Pages::new().page(MOST_KEYS + 1, None, MOST_KEYS + 1).is_err());
        let mut slow = Pages::new();
        slow.page(1, None, 1).unwrap();
        tokio::time::advance(LONGEST_LIST + Duration::from_secs(1)).await;
        let error = slow.page(1, None, 2).unwrap_err();
        assert!(error.to_string().contains("does not end: 2 keys on 2 pages"), "{error}");
    }
}
