//! The limit of changes per run: it bounds the damage of a mistake in a selector.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::policy::types::{Guards, Project};
use crate::rotation::project::Mode;
use crate::rotation::rule::{Matcher, Requirement};

/// How many keys that selectors match a run may change; shared by its projects.
pub(super) struct ChangeBudget {
    pub(super) guards: Guards,
    /// What each project needs, once it is known.
    wanted: watch::Sender<Box<[Option<Changes>]>>,
    /// How many changes were granted, or made without a share.
    spent: AtomicUsize,
}

/// Numbers of keys to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Keys whose last write did not fail.
    pub(super) new: usize,
    /// Keys whose last write failed. They come after all others, so that keys that cannot be written do not use up the
    /// limit.
    pub(super) again: usize,
}

impl ChangeBudget {
    /// The budget of these projects, in the order of the policy.
    pub(super) fn new<'p>(guards: Guards, projects: impl Iterator<Item = &'p Project>) -> Self {
        let wanted = projects.map(|project| if may_want(project) { None } else { Some(Changes::default()) });
        Self { guards, wanted: watch::Sender::new(wanted.collect()), spent: AtomicUsize::new(0) }
    }

    /// How many of the `wanted` changes the project with this index in the policy may make. Waits for the projects
    /// before it, which may have to read their keys first: if the first to ask were served first, a run would change
    /// other keys than the plan before it. Every project must call this once, even without changes.
    pub(super) async fn share(&self, project: usize, wanted: Changes) -> Changes {
        self.wanted.send_modify(|all| all[project] = Some(wanted));
        let most = self.guards.max_changes_per_run;
        if most == usize::MAX {
            return wanted;
        }
        let sum = |all: &[Option<Changes>], part: fn(&Changes) -> usize| all.iter().flatten().map(part).sum::<usize>();
        let mut granted = Changes::default();
        if wanted.new > 0 {
            let before = sum(&self.known(project).await, |changes| changes.new);
            granted.new = most.saturating_sub(before).min(wanted.new);
        }
        if wanted.again > 0 {
            let all = self.known(usize::MAX).await;
            let before = sum(&all, |changes| changes.new) + sum(&all[..project], |changes| changes.again);
            granted.again = most.saturating_sub(before).min(wanted.again);
        }
        self.spent.fetch_add(granted.new + granted.again, Ordering::Relaxed);
        granted
    }

    /// Whether the run may change one more key that took no share. Calls in flight are not counted, so the limit may be
    /// exceeded by their number.
    pub(super) fn has_room(&self) -> bool {
        self.spent.load(Ordering::Relaxed) < self.guards.max_changes_per_run
    }

    /// A key that took no share was changed.
    pub(super) fn spend(&self) {
        self.spent.fetch_add(1, Ordering::Relaxed);
    }

    /// What the projects before this index need, once all of them have called `share`.
    async fn known(&self, before: usize) -> Box<[Option<Changes>]> {
        let mut all = self.wanted.subscribe();
        let known = all.wait_for(|all| all.iter().take(before).all(Option::is_some)).await;
        // Waiting fails only without a sender, and that is in `self`.
        known.map(|all| all.iter().take(before).copied().collect()).unwrap_or_default()
    }
}

/// Whether selectors may bring changes to the project. Others do not wait for one where they cannot.
fn may_want(project: &Project) -> bool {
    let brings_changes = |matcher: &Matcher, requirement: &Requirement| {
        matches!((matcher, requirement), (Matcher::Select(_), Requirement::Rotation(_)))
    };
    project.mode == Mode::Enforce && project.keys.iter().any(|rule| brings_changes(&rule.matcher, &rule.requirement))
}
