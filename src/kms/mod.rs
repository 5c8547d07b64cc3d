//! The cloud's Key Management Service, as a client sees it.
//!
//! [`Kms`] is what reconciling needs of it; [`Client`] is the one that speaks HTTP. From the wire upwards: `transport`
//! makes one attempt over one of the process's `connections`, `caller` makes attempts until an operation has ended
//! (with `limit`, `retry`, `outage`, `closed` and the meaning that `error` gives to an answer), `auth` proves who asks,
//! `wire` knows the bodies, `listing` reads lists to their end, and `client` puts them together. Nothing here knows of
//! policies.

pub mod auth;
mod caller;
mod client;
mod closed;
mod connections;
pub mod endpoint;
pub mod error;
mod limit;
mod listing;
pub mod observe;
mod outage;
mod retry;
mod shared;
mod transport;
mod wire;
mod write;

pub use caller::SendMode;
pub use client::{Client, ClientSettings};
pub use error::{Error, Kind};
pub use retry::RetryPolicy;
pub use shared::Shared;
pub use transport::{NoProxy, Proxy, ProxyOrigin, SetUpError};

use std::time::{Duration, SystemTime};

use crate::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation, RotationInterval, Tag};

/// What reconciling needs of one project's KMS. Every call repeats itself where that is safe and sensible.
pub trait Kms: Send + Sync {
    /// A run begins: what held only for the last one is forgotten, such as an outage or a login that failed.
    fn begin_run(&self, start: RunStart);

    /// `get-key-rotation-status`. [`Kind::NotOffered`]: this answer says nothing of the setting, which alone does not
    /// mean that the project's cloud never does.
    fn read_status(&self, key_id: KeyId) -> impl Future<Output = Result<Rotation, Error>> + Send;

    /// `describe-key`
    fn describe(&self, key_id: KeyId) -> impl Future<Output = Result<KeyDescription, Error>> + Send;

    /// `list-keys`, all pages of it: every key of the project, of every kind, without its tags.
    fn list_keys(&self) -> impl Future<Output = Result<Listed<ListedKey>, Error>> + Send;

    /// The keys that have this tag with one of these values, or with any where none are given
    /// (`resource_instances/action`). Each comes with the tag that it has.
    fn tagged(
        &self,
        key: &str,
        values: Option<&[&str]>,
    ) -> impl Future<Output = Result<Listed<(KeyId, Tag)>, Error>> + Send;

    /// `enable-key-rotation`, which sets an interval of its own. Nothing is sent yet.
    fn enable_rotation(&self, key_id: KeyId) -> impl WriteOperation;

    /// `update-key-rotation-interval`. Nothing is sent yet.
    fn update_interval(&self, key_id: KeyId, interval: RotationInterval, mode: SendMode) -> impl WriteOperation;
}

/// One write to one key. It counts as one operation, however often it is sent.
///
/// Where a sending ends as [`Kind::Unclear`], the write may or may not have been applied. The caller waits, reads the
/// key, and then sends the write again, reports it as [found applied](Self::found_applied), or drops it, which counts it
/// as failed.
pub trait WriteOperation: Send {
    /// Sends the write, or sends it again.
    ///
    /// # Errors
    ///
    /// The write was refused or failed; or its end is unclear.
    fn send(&mut self) -> impl Future<Output = Result<Receipt, Error>> + Send;

    /// How long to wait before the key is read, after a sending with an unclear end. Nothing once the time of the
    /// operation is used up: the write is then not to be sent again.
    fn next_wait(&mut self) -> Option<Duration>;

    /// A reading shows that the write took effect, although the end of its last sending was unclear.
    fn found_applied(self);
}

/// What a client needs to know of a run that begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunStart {
    /// When the run after this one is due, where there is a schedule: credentials that would end before it are renewed in
    /// this run.
    pub next_run: Option<SystemTime>,
    /// An operator has started the run: a secret that was refused and has not changed is sent again at once.
    pub retry_refused: bool,
}

/// What a list gave, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// What was seen.
    pub items: Vec<T>,
    /// Why there may be more, where that is so. For people.
    pub doubt: Option<Box<str>>,
}

/// An accepted write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The cloud's id of the request, where it gave one.
    pub request_id: Option<Box<str>>,
}
