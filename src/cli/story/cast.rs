//! Which keys of the simulated cloud can have a part in the story, by the entries that decide for them.

use std::time::{Duration, SystemTime};

use super::super::population::{Population, simulated_id};
use super::StoryKey;
use crate::policy::Policy;
use crate::policy::types::Project;
use crate::rotation::assignment::{Action, Listing, assign_rules};
use crate::rotation::key::{DesiredRotation, KeyDescription, ListedKey, Reapply, Tag};
use crate::rotation::project::Mode;
use crate::rotation::rule::{Matcher, Requirement};
use kms_simulator::{Behaviour, Key};

/// A key that can rotate, and what the policy requires of it.
pub(super) struct Member<'p> {
    pub(super) project: &'p Project,
    pub(super) key: Key,
    pub(super) role: Role,
}

/// What the policy requires of a key.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Rotates(DesiredRotation),
    /// Nothing; and when that ends.
    Exempt(Option<SystemTime>),
}

/// The rotations of a key, as far as nothing happens to it.
#[derive(Clone, Copy)]
pub(super) struct Rotations {
    interval: Duration,
    /// When the first one is due.
    due: SystemTime,
    /// When the daemon begins to look.
    watched_from: SystemTime,
    grace: Duration,
}

/// A rotation that the cloud misses.
pub(super) struct Missed {
    /// When it is due.
    pub(super) due: SystemTime,
    /// Since when the readings of the daemon count for this rotation.
    pub(super) watched_from: SystemTime,
    /// When the daemon finds it overdue, if it was not interrupted since.
    pub(super) overdue: SystemTime,
}

/// Every key that can rotate and has an entry, in the order of the policy.
pub(super) fn members<'p>(policy: &'p Policy, population: &mut Population, start: SystemTime) -> Vec<Member<'p>> {
    let setups = population.add(policy);
    let members = policy.projects.iter().zip(setups).flat_map(|(project, setup)| {
        let keys: Vec<_> = setup.keys.into_iter().filter(Key::can_rotate).collect();
        let listed: Vec<_> = keys.iter().filter_map(listed).collect();
        let assigned = assign_rules(&project.keys, Listing::Complete(&listed), start).all.into_iter();
        let members = assigned.filter_map(|assignment| {
            let key = keys.iter().find(|key| key.id == assignment.subject.as_str())?;
            let role = match (assignment.action, assignment.rule.map(|rule| &rule.requirement)) {
                (Action::Observe(desired), _) => Role::Rotates(desired),
                (_, Some(Requirement::Exempt(exemption))) => {
                    Role::Exempt(exemption.until.as_ref().map(|until| until.ends))
                }
                _ => return None,
            };
            Some(Member { project, key: key.clone(), role })
        });
        members.collect::<Vec<_>>()
    });
    members.collect()
}

/// A key that appears at this time, and that a selector of the project matches, in a project of this mode.
pub(super) fn newcomer<'p>(
    policy: &'p Policy,
    population: &Population,
    mode: Mode,
    at: SystemTime,
) -> Option<(&'p Project, Key)> {
    let projects = policy.projects.iter().filter(|project| project.mode == mode);
    let mut newcomers = projects.flat_map(|project| {
        project.keys.iter().filter_map(move |rule| {
            let Matcher::Select(selector) = &rule.matcher else { return None };
            let key = population.newcomer(project, selector, at)?;
            let listed = [listed(&key)?];
            let assigned = assign_rules(&project.keys, Listing::Complete(&listed), at).all;
            let is_governed = assigned.iter().any(|assignment| {
                assignment.subject.as_str() == key.id && matches!(assignment.action, Action::Observe(_))
            });
            (is_governed && key.can_rotate()).then_some((project, key))
        })
    });
    newcomers.next()
}

/// The key as the cloud lists it.
fn listed(key: &Key) -> Option<ListedKey> {
    let tags = key.tags.iter().map(|(key, value)| Tag { key: key.as_ref().into(), value: value.as_ref().into() });
    Some(ListedKey {
        key_id: key.id.parse().ok()?,
        description: KeyDescription {
            alias: Some(key.alias.as_str().into()),
            blocker: None,
            state: None,
            created: key.created,
        },
        key_spec: Some(key.spec.as_ref().into()),
        enterprise_project_id: Some(key.enterprise_project.as_ref().into()),
        tags: tags.collect(),
    })
}

impl StoryKey {
    pub(super) fn new(project: &Project, key: &Key) -> Option<Self> {
        Some(Self {
            project: std::sync::Arc::clone(&project.name),
            mode: project.mode,
            project_id: simulated_id(project),
            key_id: key.id.parse().ok()?,
            alias: key.alias.clone(),
        })
    }
}

impl Member<'_> {
    pub(super) fn desired(&self) -> Option<DesiredRotation> {
        match self.role {
            Role::Rotates(desired) => Some(desired),
            Role::Exempt(_) => None,
        }
    }

    /// Whether its rotation is on, and the daemon has nothing to change.
    pub(super) fn is_on_policy(&self) -> bool {
        let rotation = self.key.rotation;
        rotation.enabled && self.desired().is_some_and(|desired| desired.accepts(rotation.interval_days))
    }

    /// Its rotations, if the first run is made at this time; `None` if it has none.
    pub(super) fn rotations(&self, first_run: SystemTime) -> Option<Rotations> {
        // The cloud never rotates a key whose period begins anew in each run.
        let desired = self.desired().filter(|desired| desired.reapply == Reapply::OnDrift)?;
        let (interval, due) = if self.is_on_policy() || self.project.mode == Mode::Monitor {
            let due = self.key.due()?;
            (Duration::from_secs(86_400) * self.key.rotation.interval_days, due.max(first_run))
        } else {
            // The first run sets the interval.
            let interval = desired.interval.as_duration();
            (interval, first_run + interval)
        };
        Some(Rotations { interval, due, watched_from: first_run, grace: self.project.proof.grace })
    }
}

impl Rotations {
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// The rotations that the cloud may miss, those until `end`.
    pub(super) fn until(self, end: SystemTime) -> impl Iterator<Item = Missed> {
        let delay = Behaviour::default().rotation_delay;
        let missed = (0..).map(move |n| {
            let due = self.due + (self.interval + delay) * n;
            let before = due.checked_sub(self.interval).filter(|_| n > 0).unwrap_or(self.watched_from);
            let watched_from = before.max(self.watched_from);
            Missed { due, watched_from, overdue: watched_from + self.interval + self.grace }
        });
        missed.take_while(move |missed| missed.due < end)
    }
}
