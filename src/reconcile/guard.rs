//! What a run may change at most: the guard against a slip in a selector.

use tokio::sync::watch;

use crate::policy::types::{Guards, Project};
use crate::rotation::project::Mode;
use crate::rotation::rule::{Asks, Names};

/// How many keys matched by selectors a run may change; shared by its projects.
pub(super) struct ChangeBudget {
    pub(super) guards: Guards,
    /// How many keys each project wants to change, once it knows.
    wanted: watch::Sender<Box<[Option<usize>]>>,
}

impl ChangeBudget {
    /// A budget for these projects, in the order of the policy.
    pub(super) fn new<'p>(guards: Guards, projects: impl Iterator<Item = &'p Project>) -> Self {
        let wanted = projects.map(|project| if may_want(project) { None } else { Some(0) });
        Self { guards, wanted: watch::Sender::new(wanted.collect()) }
    }

    /// How many of the `wanted` changes the project at this place of the policy may make. It is served after those
    /// before it, which may have to read their keys first: whoever is quickest would be another one each time, and a
    /// run would change other keys than the plan before it. Each project has to say what it wants, once.
    pub(super) async fn share(&self, project: usize, wanted: usize) -> usize {
        self.wanted.send_modify(|all| all[project] = Some(wanted));
        if wanted == 0 || self.guards.max_changes_per_run == usize::MAX {
            return wanted;
        }
        let mut all = self.wanted.subscribe();
        let known = all.wait_for(|all| all[..project].iter().all(Option::is_some)).await;
        let before: usize = known.iter().flat_map(|all| all[..project].iter().flatten()).sum();
        self.guards.max_changes_per_run.saturating_sub(before).min(wanted)
    }
}

/// Whether selectors may bring changes to the project. One without any holds up no other.
fn may_want(project: &Project) -> bool {
    let brings_changes = |names: &Names, asks: &Asks| matches!((names, asks), (Names::Select(_), Asks::Rotation(_)));
    project.mode == Mode::Enforce && project.keys.iter().any(|rule| brings_changes(&rule.names, &rule.asks))
}
