//! How far a run has come, for those who wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the keys of a run.
#[derive(Debug, Default)]
pub struct Headway {
    found: AtomicUsize,
    done: AtomicUsize,
}

impl Headway {
    /// The keys that are known of, of all projects whose keys are listed.
    #[must_use]
    pub fn found(&self) -> usize {
        self.found.load(Ordering::Relaxed)
    }

    /// The keys of which all is known.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// A run begins.
    pub(super) fn reset(&self) {
        self.found.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    pub(super) fn find(&self, keys: usize) {
        self.found.fetch_add(keys, Ordering::Relaxed);
    }

    pub(super) fn finish(&self, keys: usize) {
        self.done.fetch_add(keys, Ordering::Relaxed);
    }
}
