//! What a run may change at most: the guard against a slip in a selector.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::policy::types::Guards;

/// How many more keys matched by selectors a run may change; shared by its projects.
pub(super) struct ChangeBudget {
    pub(super) guards: Guards,
    left: AtomicUsize,
}

impl ChangeBudget {
    pub(super) fn new(guards: Guards) -> Self {
        Self { guards, left: AtomicUsize::new(guards.max_changes_per_run) }
    }

    /// Takes one key's share; false where nothing is left.
    pub(super) fn take(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}
