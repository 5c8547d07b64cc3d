//! The keys of a project as they are today, and how they are read from the cloud.
//!
//! Reads only: one list of the keys, the tags that may group them, and the rotation setting of every key that can
//! rotate. The reading is abandoned if the project cannot be read; a key that cannot be read is kept with the reason.

use std::collections::{BTreeMap, HashMap};

use futures_util::stream::{self, StreamExt};

use crate::kms::{Error, ErrorKind, Kms, KmsClient, Listed, RunStart, SendMode};
use crate::rotation::key::{ListedKey, Rotation, RotationBlocker, Tag};
use crate::rotation::progress::RunProgress;
use crate::support::error_chain::ErrorChain;

/// A tag key with more values than this identifies keys and does not group them, so it is not searched for. Each value
/// is one search.
const MAX_TAG_VALUES: usize = 20;
/// The most values of all tags together, which bounds the number of searches.
const MAX_TAG_SEARCHES: usize = 200;

/// The keys of one project.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) keys: Vec<AccountKey>,
    /// Whether the keys were read; otherwise nothing is known of them.
    pub(super) is_read: bool,
    /// What is not known of the project, as sentences for people.
    pub(super) doubts: Vec<String>,
}

/// One key, with its tags.
#[derive(Clone, Debug)]
pub(super) struct AccountKey {
    pub(super) listed: ListedKey,
    pub(super) today: Today,
}

/// A key's rotation today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Today {
    Off,
    /// On, with this interval in days where the cloud reports one.
    On(Option<u32>),
    /// It cannot rotate, or not now.
    Blocked(RotationBlocker),
    /// The setting cannot be read, for this reason.
    Unread(String),
}

impl AccountKey {
    /// The key for people: its name, or its id if it has none.
    pub(super) fn name(&self) -> &str {
        self.listed.alias().unwrap_or(self.listed.key_id.as_str())
    }

    /// Whether it can never rotate.
    pub(super) fn is_exempt_by_kind(&self) -> bool {
        matches!(self.today, Today::Blocked(blocker) if blocker.is_permanent())
    }
}

impl Account {
    /// Reads the project.
    ///
    /// # Errors
    ///
    /// Its keys cannot be listed, or the setting of none of them can be read.
    pub(super) async fn read(kms: &KmsClient, concurrency: usize, progress: &RunProgress) -> Result<Self, Error> {
        kms.begin_run(RunStart::default());
        let Listed { items: mut listed, doubt } = kms.list_keys().await?;
        // In the order of their names, so that the policy does not depend on the order of the list.
        listed.sort_by(|a, b| (a.alias(), a.key_id).cmp(&(b.alias(), b.key_id)));
        progress.add_found(listed.len());
        let mut doubts: Vec<_> =
            doubt.map(|doubt| format!("The list of keys may be incomplete: {doubt}.")).into_iter().collect();
        add_tags(kms, &mut listed, &mut doubts).await?;
        let read = stream::iter(listed).map(async |listed| {
            let today = today(kms, &listed).await;
            progress.add_read(1);
            progress.add_done(1);
            (listed, today)
        });
        let read: Vec<_> = read.buffered(concurrency).collect().await;
        let mut keys = Vec::with_capacity(read.len());
        let (mut failure, mut has_read, mut all_not_offered) = (None, false, true);
        for (listed, today) in read {
            let today = match today {
                Ok(today) => {
                    has_read |= matches!(today, Today::Off | Today::On(_));
                    today
                }
                Err(error) if ends_reading(error.kind()) => return Err(error),
                // It was deleted after the list was read.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    all_not_offered &= error.kind() == ErrorKind::NotOffered;
                    let today = Today::Unread(error.cause());
                    failure = failure.or(Some(error));
                    today
                }
            };
            keys.push(AccountKey { listed, today });
        }
        match failure {
            Some(error) if !has_read && !all_not_offered => return Err(error),
            Some(_) if !has_read => doubts.push("The cloud does not offer to read rotation settings here.".to_owned()),
            _ => {}
        }
        Ok(Self { keys, is_read: true, doubts })
    }
}

/// Whether the error is the same for every key of the project.
fn ends_reading(kind: ErrorKind) -> bool {
    use ErrorKind::{AccessDenied, Credentials, LoginUnavailable, Shortage, Stopped, Unreachable};
    matches!(kind, Credentials | LoginUnavailable | AccessDenied | Unreachable | Shortage | Stopped)
}

/// The key's setting today.
async fn today(kms: &KmsClient, key: &ListedKey) -> Result<Today, Error> {
    if let Some(blocker) = key.description.blocker {
        return Ok(Today::Blocked(blocker));
    }
    match kms.read_status(key.key_id, SendMode::Retried).await {
        Ok(Rotation { enabled: true, interval_days, .. }) => Ok(Today::On(interval_days)),
        Ok(Rotation { enabled: false, .. }) => Ok(Today::Off),
        Err(error) => match error.kind() {
            ErrorKind::Blocked(blocker) => Ok(Today::Blocked(blocker)),
            _ => Err(error),
        },
    }
}

/// Adds the tags that may group keys. Without the permission for it, or where the cloud does not offer it, the policy
/// is made without tags.
async fn add_tags(kms: &KmsClient, keys: &mut [ListedKey], doubts: &mut Vec<String>) -> Result<(), Error> {
    let tags = match kms.project_tags().await {
        Ok(tags) => tags,
        Err(error) => return without_tags(error, doubts),
    };
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Tag { key, value } in &tags {
        by_key.entry(key).or_default().push(value);
    }
    let indices: HashMap<_, _> = keys.iter().enumerate().map(|(at, key)| (key.key_id, at)).collect();
    let (mut searches, mut left_out) = (0, Vec::new());
    for (tag, values) in by_key {
        if values.len() > MAX_TAG_VALUES || searches + values.len() > MAX_TAG_SEARCHES {
            left_out.push(tag);
            continue;
        }
        searches += values.len();
        let Listed { items, doubt } = match kms.tagged(tag, Some(&values)).await {
            Ok(tagged) => tagged,
            Err(error) => {
                for key in keys {
                    key.tags.clear();
                }
                return without_tags(error, doubts);
            }
        };
        if let Some(doubt) = doubt {
            doubts.push(format!("The tag {tag} is not used: the search for it may be incomplete: {doubt}."));
            continue;
        }
        for (key_id, tag) in items {
            if let Some(at) = indices.get(&key_id) {
                keys[*at].tags.push(tag);
            }
        }
    }
    if !left_out.is_empty() {
        let tags = super::names(left_out.iter().copied());
        doubts.push(format!("Not used to group keys, because they have too many values: the tags {tags}."));
    }
    Ok(())
}

fn without_tags(error: Error, doubts: &mut Vec<String>) -> Result<(), Error> {
    match error.kind() {
        ErrorKind::Permission | ErrorKind::NotOffered => {
            doubts.push(format!("Tags are not used, because they cannot be read: {}.", ErrorChain(&error)));
            Ok(())
        }
        _ => Err(error),
    }
}
