//! One page of a listing or a search: its limit, and its keys (`docs/kms-api.md` 1.4 and 1.5).

use super::parameters::{Body, number};
use crate::answer::Answer;
use crate::behaviour::{Behaviour, LargestPage};
use crate::fault::BadListing;
use crate::keys::{Keys, StoredKey};

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
