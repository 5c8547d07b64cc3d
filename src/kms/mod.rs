//! The client of the cloud's Key Management Service.
//!
//! [`Kms`] is the trait that reconciling uses, and [`KmsClient`] is the KMS of one project over HTTP. From the wire
//! upwards: `transport` makes one attempt over one of the process's `connections`; `executor` makes attempts until an
//! operation has ended (with `limit`, `retry`, `outage`, `run_breaker` and the kinds of `error`); `auth` authenticates
//! requests; `wire` has the bodies, and `route` the paths; `client` makes one call; `listing` reads lists to their end,
//! and `write` sends writes and counts writes with an unclear end; `api` implements the trait with all of it.
//! `single_call` returns the raw answer of one call, for `probe` alone. Nothing here depends on policies.

mod api;
pub mod auth;
mod client;
mod connections;
pub mod endpoint;
pub mod error;
mod executor;
mod limit;
mod listing;
pub mod observe;
mod outage;
mod retry;
mod route;
mod run_breaker;
mod secret;
mod shared;
pub(crate) mod single_call;
mod transport;
mod wire;
mod write;

pub use client::{ClientSettings, KmsClient};
pub use error::{Error, ErrorKind};
pub use executor::SendMode;
pub use retry::{RETRY_TARGET, RetryPolicy};
pub use shared::Shared;
pub use transport::{HttpError, NoProxy, Proxy, ProxyOrigin, SetUpError};

use std::time::{Duration, SystemTime};

use crate::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation, RotationInterval, Tag};
use crate::rotation::project::CloudAccess;

/// The KMS of one project. Every call is repeated as the retry policy allows, where that is safe.
pub trait Kms: Send + Sync {
    /// A run begins: what held only for the last one is forgotten, such as an outage or a login that failed.
    fn begin_run(&self, start: RunStart);

    /// How the project is reached, as far as that is known.
    fn access(&self) -> CloudAccess;

    /// The time of day by the cloud's clock, as far as it is known.
    fn cloud_time(&self) -> SystemTime;

    /// `get-key-rotation-status`.
    ///
    /// # Errors
    ///
    /// The call failed. [`ErrorKind::NotOffered`]: this answer does not contain the setting, which alone does not prove that
    /// the project's cloud never does.
    fn read_status(&self, key_id: KeyId, mode: SendMode) -> impl Future<Output = Result<Rotation, Error>> + Send;

    /// `describe-key`: the key's alias, its state and creation, and what blocks its rotation.
    ///
    /// # Errors
    ///
    /// The call failed.
    fn describe(&self, key_id: KeyId, mode: SendMode) -> impl Future<Output = Result<KeyDescription, Error>> + Send;

    /// `list-keys`, all pages: every key of the project, of every kind, without its tags.
    ///
    /// # Errors
    ///
    /// A page could not be read.
    fn list_keys(&self) -> impl Future<Output = Result<Listed<ListedKey>, Error>> + Send;

    /// The keys that have this tag with one of these values, or with any value where none are given
    /// (`resource_instances/action`). Each comes with the tag that it has.
    ///
    /// # Errors
    ///
    /// A page could not be read.
    fn tagged(
        &self,
        key: &str,
        values: Option<&[&str]>,
    ) -> impl Future<Output = Result<Listed<(KeyId, Tag)>, Error>> + Send;

    /// `enable-key-rotation`, to be sent with [`WriteOperation::send`]. With it the cloud sets an interval.
    fn enable_rotation(&self, key_id: KeyId) -> impl WriteOperation;

    /// `update-key-rotation-interval`, to be sent with [`WriteOperation::send`].
    fn update_interval(&self, key_id: KeyId, interval: RotationInterval, mode: SendMode) -> impl WriteOperation;
}

/// One write to one key, which counts as one operation however often it is sent.
///
/// Where [`send`](Self::send) ends as [`ErrorKind::Unclear`], the write may or may not have been applied. The user of the
/// operation waits, reads the key, and then sends the write again, reports it as [found applied](Self::found_applied),
/// or drops it, which counts it as failed. No other accounting is left to the user.
pub trait WriteOperation: Send {
    /// Sends the write, or sends it again.
    ///
    /// # Errors
    ///
    /// The write was refused, or failed for as long as the retry policy allows; or its end is unclear.
    fn send(&mut self) -> impl Future<Output = Result<Receipt, Error>> + Send;

    /// How long to wait before the key is read, after an unclear end. Nothing once the time of the operation is used
    /// up: the write must not be sent again then.
    fn next_wait(&mut self) -> Option<Duration>;

    /// A reading shows that the write took effect, although its end was unclear: it counts as a success.
    fn found_applied(self);
}

/// The beginning of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunStart {
    /// When the run after this one is due, where there is a schedule: credentials that would end before it are renewed
    /// in this run.
    pub next_run: Option<SystemTime>,
    /// An operator has started the run: a secret that was refused and has not changed is sent again at once.
    pub retry_refused: bool,
}

/// The items of a list, all pages of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// Why some may be missing, as text for the report; `None` if the list is complete.
    pub doubt: Option<Box<str>>,
}

/// An accepted write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The cloud's id of the request, where it gave one.
    pub request_id: Option<Box<str>>,
}
