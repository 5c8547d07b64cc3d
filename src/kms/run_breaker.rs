//! Whether something is closed for the rest of a run, and why.
//!
//! The way to a project's KMS: a certificate that is not trusted, and a proxy that does not accept its password, are
//! the same for every key, will be the same a second later, and some proxies lock an account that comes back with a
//! wrong password. A login: the cloud locks a user who comes back with a wrong password, and a login service that is
//! away costs a whole retry budget. So the first call that meets it closes it, and no further call is made until the
//! next run. Each later call gets the reason as its error.

use std::sync::{Mutex, PoisonError};

use super::error::{Error, Kind};
use super::observe::Operation;

/// Why a run makes no further request of a kind, if so.
#[derive(Default)]
pub(super) struct RunBreaker(Mutex<Option<(Kind, Box<str>)>>);

impl RunBreaker {
    /// A new run begins: whatever it was may have been put right.
    pub(super) fn begin_run(&self) {
        self.with(|closed| *closed = None);
    }

    /// Nothing more shall be tried for the rest of the run, for this reason; the first one holds.
    pub(super) fn close(&self, kind: Kind, why: &str) {
        self.with(|known| {
            known.get_or_insert_with(|| (kind, why.into()));
        });
    }

    /// The error of a call that is not made.
    pub(super) fn check(&self, operation: Operation) -> Result<(), Error> {
        self.with(|closed| match closed {
            Some((kind, why)) => Err(Error::new(operation, *kind, &**why)),
            None => Ok(()),
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Option<(Kind, Box<str>)>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
