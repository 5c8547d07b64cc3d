//! Counters of the run under way, for the progress line of `plan`, `apply` and `init`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many keys the run has found, and how many of them are done.
#[derive(Debug, Default)]
pub struct RunProgress {
    found: AtomicUsize,
    done: AtomicUsize,
}

impl RunProgress {
    /// Keys of all projects that are listed so far.
    #[must_use]
    pub fn found(&self) -> usize {
        self.found.load(Ordering::Relaxed)
    }

    /// Keys whose status in this run is final.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// A run begins.
    pub(super) fn reset(&self) {
        self.found.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    pub(crate) fn add_found(&self, keys: usize) {
        self.found.fetch_add(keys, Ordering::Relaxed);
    }

    pub(crate) fn add_done(&self, keys: usize) {
        self.done.fetch_add(keys, Ordering::Relaxed);
    }
}
