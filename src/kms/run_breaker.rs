//! The breaker for the rest of a run: after the first failure no further call is made until the next run, and each
//! later call gets the reason as its error.
//!
//! It is used for connections, since a certificate that is not trusted fails every key alike, and some proxies lock an
//! account after repeated wrong passwords. And it is used for logins, since the cloud locks a user after wrong
//! passwords, and each call to an unavailable login service would use up a whole retry budget.

use std::sync::{Mutex, PoisonError};

use super::error::{Error, ErrorKind};
use super::observe::Operation;

/// Why a run makes no further calls, if so.
#[derive(Default)]
pub(super) struct RunBreaker(Mutex<Option<(ErrorKind, Box<str>)>>);

impl RunBreaker {
    /// A new run begins: the cause may have been corrected.
    pub(super) fn begin_run(&self) {
        self.with(|closed| *closed = None);
    }

    /// No further call is made in this run, for this reason. The first reason is kept.
    pub(super) fn close(&self, kind: ErrorKind, why: &str) {
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

    fn with<T>(&self, look: impl FnOnce(&mut Option<(ErrorKind, Box<str>)>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
