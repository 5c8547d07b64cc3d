//! What a run may change at most: the guard against a slip in a selector.

use tokio::sync::watch;

use crate::policy::types::Guards;

/// How many keys matched by selectors a run may change; shared by its projects.
pub(super) struct ChangeBudget {
    pub(super) guards: Guards,
    /// How many keys each project wants to change, once it knows.
    wanted: watch::Sender<Box<[Option<usize>]>>,
}

impl ChangeBudget {
    pub(super) fn new(guards: Guards, projects: usize) -> Self {
        Self { guards, wanted: watch::Sender::new(vec![None; projects].into()) }
    }

    /// How many of the `wanted` changes the project at this place of the policy may make. It is served after those
    /// before it, which may have to read their keys first: whoever is quickest would be another one each time, and a
    /// run would change other keys than the plan before it. Each project has to say what it wants, once.
    pub(super) async fn share(&self, project: usize, wanted: usize) -> usize {
        self.wanted.send_modify(|all| all[project] = Some(wanted));
        if wanted == 0 {
            return 0;
        }
        let mut all = self.wanted.subscribe();
        let known = all.wait_for(|all| all[..project].iter().all(Option::is_some)).await;
        let before: usize = known.iter().flat_map(|all| all[..project].iter().flatten()).sum();
        self.guards.max_changes_per_run.saturating_sub(before).min(wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_budget_goes_by_the_order_of_projects_and_not_by_who_asks_first() {
        let guards = Guards { max_changes_per_run: 5, flap_repairs: 3, flap_window: Duration::from_secs(1) };
        let budget = ChangeBudget::new(guards, 4);
        let shares = tokio::join!(budget.share(3, 1), budget.share(2, 0), budget.share(1, 4), budget.share(0, 3));
        assert_eq!(shares, (0, 0, 2, 3));
    }
}
