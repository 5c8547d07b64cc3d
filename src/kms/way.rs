//! Whether anything bars the way to a project's KMS for the rest of a run.
//!
//! A certificate that is not trusted, and a proxy that does not accept its password, are the same for every key, will be
//! the same a second later, and some proxies lock an account that comes back with a wrong password. So whoever meets
//! them first closes the way, and no further call is made until the next run. That only one meets them is for the trial
//! of a proof to see to, which lets the first request of a run go alone. Logins do not come here: one that fails ends
//! the run by itself.

use std::sync::{Mutex, PoisonError};

use super::error::{Error, Kind};
use super::observe::Operation;

/// What bars the way, if anything.
#[derive(Default)]
pub(super) struct Way(Mutex<Option<Box<str>>>);

impl Way {
    /// A new run begins: whatever it was may have been put right.
    pub(super) fn begin_run(&self) {
        self.set(None);
    }

    /// No call shall be made for the rest of the run, for this reason.
    pub(super) fn close(&self, why: &str) {
        self.set(Some(why.into()));
    }

    /// The error of a call that is not made.
    pub(super) fn check(&self, operation: Operation) -> Result<(), Error> {
        if operation == Operation::Authenticate {
            return Ok(());
        }
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => Err(Error::new(operation, Kind::NoWay, &**why)),
            None => Ok(()),
        }
    }

    fn set(&self, why: Option<Box<str>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}
