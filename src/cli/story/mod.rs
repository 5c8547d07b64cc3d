//! The story of `rehearse --fast-forward`: what happens to the simulated cloud, its keys and the daemon meanwhile.
//!
//! [`Story::new`] is a pure function of policy, start, span and seed, so that a report about the rehearsal can be compared
//! with it. It has only the parts that the policy allows and the span has room for, and they do not overlap. It changes
//! nothing itself: the simulated cloud carries out [`Story::actions`], and the fast-forward jumps over
//! [`Story::absences`].

mod cast;
mod diary;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::population::Population;
use crate::policy::Policy;
use crate::rotation::key::KeyId;
use crate::rotation::project::Mode;
use cast::{Member, Role};
use diary::Diary;
use kms_simulator::{Action, Behaviour, Key};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// What happens, by its time. The default is nothing.
#[derive(Default)]
pub(super) struct Story {
    pub(super) events: Vec<Event>,
    /// The key that appears.
    newcomer: Option<Key>,
}

/// One part of the story. Its `Display` is a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: EventKind,
    /// The key that it happens to; `None` if it happens to all.
    pub(super) key: Option<StoryKey>,
    pub(super) from: SystemTime,
    /// When it is over; `None` for a moment.
    pub(super) to: Option<SystemTime>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// The rotation of a key is switched off by others. In a monitor project they switch it on again at `to`; in an
    /// enforce project the daemon does, at once.
    SwitchedOff,
    /// The cloud answers nothing.
    Outage,
    /// The cloud does not rotate a key that is due at `from`, and makes up for it at `to`.
    MissedRotation,
    /// A key is created, and a selector matches it.
    NewKey,
    /// The policy's exemption of a key has ended.
    ExemptionEnds,
    /// No run is made.
    DaemonDown,
}

/// A key in the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoryKey {
    /// The project's name in the policy.
    pub(super) project: Arc<str>,
    /// Whether the daemon repairs the key or only reports it.
    pub(super) mode: Mode,
    /// The project's id in the cloud.
    project_id: String,
    pub(super) key_id: KeyId,
    pub(super) alias: String,
}

impl Story {
    /// The story of a rehearsal of this policy that begins at `start` and takes `span`.
    pub(super) fn new(policy: &Policy, start: SystemTime, span: Duration, seed: u64) -> Self {
        let mut population = Population::new(seed, start, true);
        let members = cast::members(policy, &mut population, start);
        let diary = Diary::new(start, span, seed);
        let mut plot = Plot { policy, members, diary, end: start + span, events: Vec::new() };
        // What is fixed comes first, and then what needs the most room.
        plot.exemptions(start);
        plot.missed_rotation(start);
        plot.daemon_down();
        plot.switched_off(Mode::Monitor, Some(2 * DAY));
        plot.outage();
        plot.switched_off(Mode::Enforce, None);
        let newcomer = plot.new_key(&population);
        let mut events = plot.events;
        events.sort_by_key(|event| event.from);
        Self { events, newcomer }
    }

    /// When the daemon is down.
    pub(super) fn absences(&self) -> Vec<Range<SystemTime>> {
        let down = self.events.iter().filter(|event| event.kind == EventKind::DaemonDown);
        down.map(Event::time).collect()
    }

    /// What the simulated cloud has to do.
    pub(super) fn actions(&self) -> Vec<(SystemTime, Action)> {
        self.events.iter().flat_map(|event| self.actions_of(event)).collect()
    }

    fn actions_of(&self, Event { kind, key, from, to }: &Event) -> Vec<(SystemTime, Action)> {
        let change = |change: fn(&mut Key)| {
            let StoryKey { project_id, key_id, .. } = key.as_ref()?;
            Some(Action::ChangeKey { project_id: project_id.clone(), key_id: key_id.to_string(), change })
        };
        let delay = Behaviour::default().rotation_delay;
        let both = match kind {
            EventKind::SwitchedOff => [
                Some((*from, change(|key| key.rotation.enabled = false))),
                to.map(|to| (to, change(|key| key.rotation.enabled = true))),
            ],
            EventKind::Outage => [Some((*from, Some(Action::BeginOutage))), to.map(|to| (to, Some(Action::EndOutage)))],
            EventKind::MissedRotation => [
                Some((*from, change(|key| key.forgotten = true))),
                to.and_then(|to| to.checked_sub(delay)).map(|to| (to, change(|key| key.forgotten = false))),
            ],
            EventKind::NewKey => {
                let new = key.as_ref().zip(self.newcomer.clone());
                let new = new.map(|(of, key)| Action::AddKey { project_id: of.project_id.clone(), key: key.into() });
                [Some((*from, new)), None]
            }
            EventKind::ExemptionEnds | EventKind::DaemonDown => [None, None],
        };
        both.into_iter().flatten().filter_map(|(at, action)| Some((at, action?))).collect()
    }
}

/// A story that is being written.
struct Plot<'p> {
    policy: &'p Policy,
    /// The keys without a part.
    members: Vec<Member<'p>>,
    diary: Diary,
    end: SystemTime,
    events: Vec<Event>,
}

impl Plot<'_> {
    /// The exemptions that end meanwhile, by the policy.
    fn exemptions(&mut self, start: SystemTime) {
        for member in &self.members {
            let Role::Exempt(Some(from)) = member.role else { continue };
            let key = StoryKey::new(member.project, &member.key);
            if (start..self.end).contains(&from) {
                self.diary.take(from..from);
                self.events.push(Event { kind: EventKind::ExemptionEnds, key, from, to: None });
            }
        }
        self.members.retain(|member| member.desired().is_some());
    }

    /// A rotation that is overdue for some weeks before the cloud makes up for it. Of the keys with the shortest
    /// interval, since the daemon needs a whole interval without an interruption to find it overdue.
    fn missed_rotation(&mut self, start: SystemTime) {
        let schedule = &self.policy.schedule;
        let first_run = match Timestamp::try_from(start).map(|start| schedule.calendar.next_after(start)) {
            Ok(Ok(next)) if !schedule.run_on_start => next.into(),
            _ => start,
        };
        let late = self.diary.days(10, 21);
        let rotations = self.members.iter().enumerate();
        let rotations = rotations.filter_map(|(at, member)| Some((at, member.rotations(first_run)?)));
        let mut rotations: Vec<_> = rotations.collect();
        self.diary.rng.shuffle(&mut rotations);
        rotations.sort_by_key(|(_, rotations)| rotations.interval());
        for (at, rotations) in rotations {
            let until = |overdue: SystemTime| overdue + late;
            let missed = self.diary.take_one(rotations.until(self.end), |missed| missed.due..until(missed.overdue));
            if let Some(missed) = missed {
                self.give(at, EventKind::MissedRotation, missed.due, Some(until(missed.overdue)));
                // An interruption of the daemon would begin this time anew.
                self.diary.take(missed.watched_from..until(missed.overdue));
                return;
            }
        }
    }

    fn daemon_down(&mut self) {
        if let Some(week) = self.diary.take_any(7 * DAY, 6) {
            self.happen(EventKind::DaemonDown, &week);
        }
    }

    /// A run is made in it, so that it is seen.
    fn outage(&mut self) {
        let schedule = &self.policy.schedule;
        let length = HOUR * self.diary.rng.u32(3..=9) + schedule.jitter;
        let before = Duration::from_secs(60) * self.diary.rng.u32(5..=55);
        let part = |from: SystemTime| {
            let run = Timestamp::try_from(from).ok().and_then(|from| schedule.calendar.next_after(from).ok());
            let from = run.map_or(from, SystemTime::from) - before;
            from..from + length
        };
        if let Some(hours) = self.diary.take_any_of(length, 10, part) {
            self.happen(EventKind::Outage, &hours);
        }
    }

    /// The rotation of a key in a project of this mode is switched off, and after this time on again.
    fn switched_off(&mut self, mode: Mode, lasts: Option<Duration>) {
        let rotates = |member: &Member<'_>| mode == Mode::Enforce || member.key.rotation.enabled;
        let mut candidates: Vec<_> = (0..self.members.len())
            .filter(|at| self.members[*at].project.mode == mode && rotates(&self.members[*at]))
            .collect();
        // In a monitor project the others are off policy all the time, so that the change would hardly be seen.
        if candidates.iter().any(|at| self.members[*at].is_on_policy()) {
            candidates.retain(|at| mode == Mode::Enforce || self.members[*at].is_on_policy());
        }
        if candidates.is_empty() {
            return;
        }
        let at = candidates.swap_remove(self.diary.rng.usize(..candidates.len()));
        if let Some(time) = self.diary.take_any(lasts.unwrap_or_default(), 4) {
            self.give(at, EventKind::SwitchedOff, time.start, lasts.map(|lasts| time.start + lasts));
        }
    }

    fn new_key(&mut self, population: &Population) -> Option<Key> {
        let of = |mode| cast::newcomer(self.policy, population, mode, self.end);
        let (project, key) = of(Mode::Enforce).or_else(|| of(Mode::Monitor))?;
        let of_story = StoryKey::new(project, &key)?;
        let from = self.diary.take_any(Duration::ZERO, 1)?.start;
        self.events.push(Event { kind: EventKind::NewKey, key: Some(of_story), from, to: None });
        Some(key.created(from))
    }

    fn happen(&mut self, kind: EventKind, time: &Range<SystemTime>) {
        self.events.push(Event { kind, key: None, from: time.start, to: Some(time.end) });
    }

    /// Gives the key at this place a part. It gets no other one.
    fn give(&mut self, at: usize, kind: EventKind, from: SystemTime, to: Option<SystemTime>) {
        let member = self.members.swap_remove(at);
        let key = StoryKey::new(member.project, &member.key);
        self.events.push(Event { kind, key, from, to });
    }
}

impl Event {
    fn time(&self) -> Range<SystemTime> {
        self.from..self.to.unwrap_or(self.from)
    }
}

/// A time in the minute in which it is.
pub(super) fn minute(time: SystemTime) -> impl fmt::Display {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%d %H:%M UTC")
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(to) => write!(f, "from {} to {}: ", minute(self.from), minute(to))?,
            None => write!(f, "{}: ", minute(self.from))?,
        }
        let Some(key) = &self.key else {
            return f.write_str(match self.kind {
                EventKind::DaemonDown => "the daemon is down, and no run checks the keys",
                _ => "the cloud is down: it answers every request with 502 or 504, and no key can be read",
            });
        };
        match (self.kind, key.mode) {
            (EventKind::SwitchedOff, Mode::Enforce) => {
                write!(f, "someone switches off the rotation of {key}; the next run switches it on again")
            }
            (EventKind::SwitchedOff, Mode::Monitor) => {
                write!(f, "someone has switched off the rotation of {key}; in mode monitor the daemon only reports it")
            }
            (EventKind::NewKey, Mode::Enforce) => {
                write!(f, "{key} is created with rotation off; the next run switches it on")
            }
            (EventKind::NewKey, Mode::Monitor) => {
                write!(f, "{key} is created with rotation off; in mode monitor the daemon only reports it")
            }
            (EventKind::ExemptionEnds, _) => write!(f, "the exemption of {key} ends"),
            (EventKind::MissedRotation | EventKind::Outage | EventKind::DaemonDown, _) => {
                write!(f, "the cloud misses the rotation of {key}, and makes up for it at the end")
            }
        }
    }
}

impl fmt::Display for StoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} ({}) in project {}", self.alias, self.key_id, self.project)
    }
}
