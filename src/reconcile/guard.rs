//! What a run may change at most: the guard against a slip in a selector.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::policy::types::{Guards, Project};
use crate::rotation::project::Mode;
use crate::rotation::rule::{Asks, Names};

/// How many keys matched by selectors a run may change; shared by its projects.
pub(super) struct ChangeBudget {
    pub(super) guards: Guards,
    /// What each project wants, once it knows.
    wanted: watch::Sender<Box<[Option<Changes>]>>,
    /// How many changes were granted, or made without having been planned.
    spent: AtomicUsize,
}

/// Numbers of keys to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Keys that no write has failed for.
    pub(super) new: usize,
    /// Keys whose last write failed. They come after all others, so that keys that cannot be written to keep none from
    /// its turn.
    pub(super) again: usize,
}

impl ChangeBudget {
    /// A budget for these projects, in the order of the policy.
    pub(super) fn new<'p>(guards: Guards, projects: impl Iterator<Item = &'p Project>) -> Self {
        let wanted = projects.map(|project| if may_want(project) { None } else { Some(Changes::default()) });
        Self { guards, wanted: watch::Sender::new(wanted.collect()), spent: AtomicUsize::new(0) }
    }

    /// How many of the `wanted` changes the project at this place of the policy may make. It is served after those
    /// before it, which may have to read their keys first. First come, first served would differ from run to run, and a
    /// run would change other keys than the plan before it. Each project has to say what it wants, once.
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

    /// Whether a key that took no share may still turn out to be one that the run changes. Calls in flight are not
    /// counted, so that the limit may be exceeded by as many.
    pub(super) fn has_room(&self) -> bool {
        self.spent.load(Ordering::Relaxed) < self.guards.max_changes_per_run
    }

    /// A key that took no share was changed.
    pub(super) fn spend(&self) {
        self.spent.fetch_add(1, Ordering::Relaxed);
    }

    /// What the projects before this place want, once all of them know.
    async fn known(&self, before: usize) -> Box<[Option<Changes>]> {
        let mut all = self.wanted.subscribe();
        let known = all.wait_for(|all| all.iter().take(before).all(Option::is_some)).await;
        // The sender is in `self`, so that waiting does not fail.
        known.map(|all| all.iter().take(before).copied().collect()).unwrap_or_default()
    }
}

/// Whether selectors may bring changes to the project. One without any holds up no other.
fn may_want(project: &Project) -> bool {
    let brings_changes = |names: &Names, asks: &Asks| matches!((names, asks), (Names::Select(_), Asks::Rotation(_)));
    project.mode == Mode::Enforce && project.keys.iter().any(|rule| brings_changes(&rule.names, &rule.asks))
}
