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

pub use client::{Client, ClientSettings};
pub use error::{Error, Kind};
pub use retry::{Backoff, RetryPolicy};
pub use shared::Shared;
pub use transport::{NoProxy, Proxy, ProxyOrigin, SetUpError};

use std::time::SystemTime;

use observe::Operation;

use crate::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation, RotationInterval, Tag};

/// What reconciling needs of one project's KMS. Every call repeats itself where that is safe and sensible.
pub trait Kms: Send + Sync {
    /// Forgets what held for the last run only.
    fn begin_run(&self);

    /// When the run after the one that begins now is due, where there is a schedule: what is to last is renewed until
    /// then.
    fn next_run(&self, _due: Option<SystemTime>) {}

    /// Somebody looks after it: a secret that was refused may be sent again at once, though it has not changed.
    fn forgive(&self) {}

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

    /// `enable-key-rotation`. [`Kind::Unclear`]: it may have been applied; [`settle`](Self::settle) it.
    fn enable_rotation(&self, key_id: KeyId) -> impl Future<Output = Result<Receipt, Error>> + Send;

    /// `update-key-rotation-interval`. [`Kind::Unclear`]: it may have been applied; [`settle`](Self::settle) it.
    fn update_interval(
        &self,
        key_id: KeyId,
        interval: RotationInterval,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send;

    /// The same for a key that has this interval already: made once, since each write may start the cloud's rotation
    /// period anew. [`Kind::Unclear`] as well where a server answers with an error of its own.
    fn update_interval_once(
        &self,
        key_id: KeyId,
        interval: RotationInterval,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send;

    /// `update-key-rotation-interval`, although the program is stopping: for a key that it has switched on, and whose
    /// interval it owes. Ends within seconds, however it ends.
    fn send_owed_interval(
        &self,
        key_id: KeyId,
        interval: RotationInterval,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send;

    /// The waits of an operation that begins now.
    fn backoff(&self, operation: Operation) -> Backoff;

    /// Tells what became of a write whose end was unclear, and whose waits were these, so that it is counted as what it
    /// was.
    fn settle(&self, unclear: &Error, settled: Settled, backoff: &Backoff);
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

/// What became of a write whose end was unclear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Applied,
    /// It did not, and is sent once more.
    Repeated,
    /// It could not be found out, or was not worth another try.
    GivenUp,
}
