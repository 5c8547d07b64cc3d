//! What happens to the cloud at certain times without a request, such as an outage or a change in its console.
//!
//! There is no timer: `dispatch` calls [`World::catch_up`](super::world::World::catch_up) before each request, and every
//! action until then is carried out as of its own time, in order. So a clock that jumps skips nothing.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::key::Key;

/// What happens.
#[derive(Clone, Debug)]
pub enum Action {
    /// A key is created; if [`Key::created`] is not set, at this time. Nothing happens if the project does not exist.
    AddKey {
        /// The project of the key.
        project_id: String,
        /// The key.
        key: Box<Key>,
    },
    /// Everything of a key but its id can be changed. A changed rotation setting starts a new period, and a key that is
    /// overdue and can rotate again rotates [`rotation_delay`](super::Behaviour::rotation_delay) later. Nothing happens
    /// if the key does not exist.
    ChangeKey {
        /// The project of the key.
        project_id: String,
        /// The key's id.
        key_id: String,
        /// The change.
        change: fn(&mut Key),
    },
    /// From now on KMS and IAM answer every request with the HTML page of a gateway, 502 or 504, and carry out none.
    /// Keys rotate nevertheless.
    BeginOutage,
    /// KMS and IAM work again.
    EndOutage,
}

/// The actions that are still to come, by their time.
#[derive(Debug, Default)]
pub(super) struct Timeline(VecDeque<(SystemTime, Action)>);

impl Timeline {
    /// In order of time; actions at the same time stay in their order.
    pub(super) fn new(actions: Vec<(SystemTime, Action)>) -> Self {
        let mut actions = actions;
        actions.sort_by_key(|(at, _)| *at);
        Self(actions.into())
    }

    /// The next action that is due, and its time.
    pub(super) fn take_due(&mut self, now: SystemTime) -> Option<(SystemTime, Action)> {
        let is_due = self.0.front().is_some_and(|(at, _)| *at <= now);
        if is_due { self.0.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn actions_are_due_by_their_time_and_then_in_their_order() {
        let at = |hour: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600);
        let actions = vec![(at(3), Action::EndOutage), (at(1), Action::BeginOutage), (at(3), Action::BeginOutage)];
        let mut timeline = Timeline::new(actions);
        assert!(timeline.take_due(at(0)).is_none());
        assert!(matches!(timeline.take_due(at(9)), Some((time, Action::BeginOutage)) if time == at(1)));
        assert!(timeline.take_due(at(2)).is_none());
        assert!(matches!(timeline.take_due(at(3)), Some((_, Action::EndOutage))));
        assert!(matches!(timeline.take_due(at(3)), Some((_, Action::BeginOutage))));
        assert!(timeline.take_due(at(99)).is_none());
    }
}
