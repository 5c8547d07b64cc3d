//! The timeline of one key, as its records are read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::model::{Departure, DepartureKind, Required, Rotation, Setting, State, Stretch, StretchCause};
use super::time::{DAY, Time};
use crate::evidence::record::{Cause, Event, ExemptionState, KeyRecord, KeyState, WritePhase, WriteRecord};
use crate::rotation::decide::{Reason, Reasons, Status, why_interval_wrong};
use crate::rotation::key::Bound;

/// Texts that occur often, each kept once.
#[derive(Default)]
pub(super) struct Texts {
    shared: HashSet<Arc<str>>,
    pub(super) exemptions: Vec<Exemption>,
    places: HashMap<Exemption, u32>,
}

/// The policy's text of an exemption and its last day.
pub(super) type Exemption = (Arc<str>, Option<Arc<str>>);

impl Texts {
    pub(super) fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.shared.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.shared.insert(Arc::clone(&new));
        new
    }

    fn exemption(&mut self, state: &ExemptionState) -> u32 {
        let exemption = (self.shared(&state.reason), state.until.as_deref().map(|until| self.shared(until)));
        let next = u32::try_from(self.exemptions.len()).unwrap_or(u32::MAX);
        *self.places.entry(exemption).or_insert_with_key(|exemption| {
            self.exemptions.push(exemption.clone());
            next
        })
    }
}

/// What a key needs of the log.
pub(super) struct Context<'a> {
    /// The first moment of the period.
    pub(super) from: Time,
    /// Of the project, in milliseconds.
    pub(super) grace: i64,
    pub(super) texts: &'a mut Texts,
}

/// The state of a key from a time on; `None` while it is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) from: Time,
    pub(super) state: Option<State>,
}

/// A key, as far as its records were read.
#[derive(Default)]
pub(super) struct KeyLine {
    pub(super) alias: Option<Arc<str>>,
    pub(super) created: Option<Time>,
    /// By time. The first one may be before the period, and no other one is.
    pub(super) segments: Vec<Segment>,
    pub(super) rotations: Vec<Rotation>,
    pub(super) departures: Vec<Departure>,
    /// Times at which a run found it off policy and repaired it.
    pub(super) repaired: Vec<Stretch>,
    /// Whether the first run of the log has found it.
    pub(super) is_initial: bool,
    /// The last complete list that has it.
    pub(super) list: u32,
    /// The requests of writes that were applied in this run, with the time of the last one.
    applied: Option<(Time, Vec<Box<str>>)>,
    /// Writes that were to be sent, and whose end is not recorded.
    intents: Vec<Time>,
}

impl KeyLine {
    pub(super) fn is_new(&self) -> bool {
        self.segments.is_empty()
    }

    /// The key is so from now on.
    pub(super) fn set(&mut self, at: Time, state: Option<&KeyState>, context: &mut Context<'_>) {
        let state = state.map(|state| self.state(state, context));
        match self.segments.last_mut() {
            Some(last) if last.state == state => {}
            // Not within the period, or of the same moment.
            Some(last) if at <= context.from || last.from == at => *last = Segment { from: at, state },
            None if state.is_none() => {}
            _ => self.segments.push(Segment { from: at, state }),
        }
    }

    /// Takes a record of the key.
    pub(super) fn record(&mut self, at: Time, record: &KeyRecord, context: &mut Context<'_>) {
        let before = self.segments.last().and_then(|last| last.state);
        self.set(at, record.after.as_ref(), context);
        let after = record.after.as_ref().map(|after| self.state(after, context));
        if at >= context.from {
            self.event(at, record, before, after, context);
        }
        if record.event == Event::Repaired {
            self.applied = None;
        }
    }

    fn event(
        &mut self,
        at: Time,
        record: &KeyRecord,
        before: Option<State>,
        after: Option<State>,
        context: &mut Context<'_>,
    ) {
        let seen_after = record.seen_after.as_deref().and_then(Time::parse);
        let stated = |state: &Option<KeyState>| state.as_ref().and_then(setting);
        let mut departure = Departure {
            at,
            kind: DepartureKind::Drift,
            by: record.by,
            before: stated(&record.before),
            after: stated(&record.after),
            reasons: after.map_or(Reasons::NONE, |after| after.reasons),
            seen_after,
            write: None,
            request_ids: Vec::new(),
            error: record.error.as_deref().map(|error| context.texts.shared(error)),
        };
        // The exemption has ended, and the same run has changed the key.
        let is_exempt = |state: Option<State>| state.is_some_and(|state| state.status == Status::Exempt);
        if matches!(record.event, Event::Repaired | Event::Drift) && is_exempt(before) && !is_exempt(after) {
            self.departures.push(Departure { kind: DepartureKind::NoLongerExempt, by: None, ..departure.clone() });
        }
        departure.kind = match record.event {
            Event::Vanished => return,
            Event::Rotated => {
                let before = record.before.as_ref().map(|state| self.state(state, context)).or(before);
                self.rotations.push(rotation(at, record, before, after, context.grace));
                return;
            }
            Event::Drift => {
                // It was repaired in the same run, so that its status has not changed.
                if let Some(after) = after.filter(|after| after.status == Status::Compliant && !is_on_policy(after)) {
                    let (cause, reasons) = (StretchCause::FoundAndRepaired, why_off(&after));
                    self.repaired.push(Stretch { from: at, to: at, cause, reasons, seen_after });
                    departure.reasons = reasons;
                }
                DepartureKind::Drift
            }
            Event::Repaired => {
                departure.request_ids = self.applied.take().map(|(_, ids)| ids).unwrap_or_default();
                departure.reasons = Reasons::NONE;
                DepartureKind::Repaired
            }
            Event::Exempted => DepartureKind::Exempted,
            Event::Status | Event::Appeared => match change(before, after) {
                Some(kind) => kind,
                None => return,
            },
        };
        // A change of the setting and of the status in one run are one event.
        let follows = |kind| self.departures.last().is_some_and(|last| last.at == at && last.kind == kind);
        match departure.kind {
            DepartureKind::OffPolicy if follows(DepartureKind::Drift) => {
                if let Some(drift) = self.departures.last_mut() {
                    drift.reasons = departure.reasons;
                }
            }
            DepartureKind::OnPolicy if follows(DepartureKind::Repaired) => {}
            _ => self.departures.push(departure),
        }
    }

    /// Takes a write to the key.
    pub(super) fn write(&mut self, at: Time, record: &WriteRecord, context: &mut Context<'_>) {
        let request = record.request_id.as_deref().map(Box::from);
        if record.phase == WritePhase::Intent {
            self.intents.push(at);
            return;
        }
        self.intents.pop();
        if record.phase == WritePhase::Applied {
            let (last, requests) = self.applied.get_or_insert((at, Vec::new()));
            *last = at;
            requests.extend(request);
            return;
        }
        let error = record.error.as_deref().map(|error| context.texts.shared(error));
        if at >= context.from {
            let (before, requests) = (record.before, request.into_iter().collect());
            let before = before.map(|it| Setting { enabled: it.enabled, interval_days: it.interval_days });
            self.departures.push(Departure { before, error, ..write(at, record.phase, requests) });
        }
    }

    /// The run has ended.
    pub(super) fn end_applied(&mut self, from: Time) {
        if let Some((at, requests)) = self.applied.take().filter(|(at, _)| *at >= from) {
            self.departures.push(write(at, WritePhase::Applied, requests));
        }
    }

    /// The process has ended.
    pub(super) fn end_intents(&mut self, from: Time) {
        let cut = std::mem::take(&mut self.intents).into_iter().filter(|at| *at >= from);
        self.departures.extend(cut.map(|at| write(at, WritePhase::Intent, Vec::new())));
    }

    fn state(&mut self, state: &KeyState, context: &mut Context<'_>) -> State {
        if state.alias.as_deref() != self.alias.as_deref() && state.alias.is_some() {
            self.alias = state.alias.as_deref().map(|alias| context.texts.shared(alias));
        }
        let time = |text: &Option<String>| text.as_deref().and_then(Time::parse);
        self.created = time(&state.created_at).or(self.created);
        let known = |name: &String| Reason::named(name);
        let exactly = state.policy_interval_days.map(|days| Required { days, at_most: false });
        State {
            status: Status::named(&state.status).unwrap_or(Status::Unknown),
            reasons: state.reasons.iter().filter_map(known).fold(Reasons::NONE, Reasons::with),
            setting: setting(state),
            required: exactly.or(state.policy_max_interval_days.map(|days| Required { days, at_most: true })),
            material_since: time(&state.material_since),
            last_rotation_at: time(&state.last_rotation_at),
            rotations: state.rotations,
            rotation_due_at: time(&state.rotation_due_at),
            exemption: state.exemption.as_ref().map(|exemption| context.texts.exemption(exemption)),
        }
    }
}

fn setting(state: &KeyState) -> Option<Setting> {
    state.enabled.map(|enabled| Setting { enabled, interval_days: state.interval_days })
}

fn write(at: Time, phase: WritePhase, request_ids: Vec<Box<str>>) -> Departure {
    Departure {
        at,
        kind: DepartureKind::Write,
        by: Some(Cause::Us),
        before: None,
        after: None,
        reasons: Reasons::NONE,
        seen_after: None,
        write: Some(phase),
        request_ids,
        error: None,
    }
}

/// What a change of the status means; `None` if it is no departure and no repair.
fn change(before: Option<State>, after: Option<State>) -> Option<DepartureKind> {
    let (before, after) = (before.map(|before| before.status), after?.status);
    match (before, after) {
        _ if before == Some(after) => None,
        // Also where it is off policy from then on, which its stretches show.
        (Some(Status::Exempt), Status::Compliant | Status::NonCompliant | Status::Uncovered) => {
            Some(DepartureKind::NoLongerExempt)
        }
        (_, Status::NonCompliant) => Some(DepartureKind::OffPolicy),
        (_, Status::Unknown) => Some(DepartureKind::Unknown),
        (Some(Status::NonCompliant | Status::Unknown), Status::Compliant) => Some(DepartureKind::OnPolicy),
        _ => None,
    }
}

/// Whether the setting is what the policy requires.
fn is_on_policy(state: &State) -> bool {
    why_off(state) == Reasons::NONE
}

fn why_off(state: &State) -> Reasons {
    let (Some(setting), Some(Required { days, at_most })) = (state.setting, state.required) else {
        return Reasons::NONE;
    };
    let bound = if at_most { Bound::Longest } else { Bound::Exact };
    match setting.interval_days {
        _ if !setting.enabled => Reason::RotationDisabled.into(),
        Some(found) if bound.accepts(days, found) => Reasons::NONE,
        found => why_interval_wrong(bound, days, found).into(),
    }
}

fn rotation(at: Time, record: &KeyRecord, before: Option<State>, after: Option<State>, grace: i64) -> Rotation {
    let required = before.and_then(|before| before.required).or(after.and_then(|after| after.required));
    let allowed = required.map(|required| i64::from(required.days) * DAY + grace);
    let age = record.material_age_seconds.and_then(|age| i64::try_from(age).ok());
    let number = |state: Option<State>| state.and_then(|state| state.rotations);
    let count = number(after).zip(number(before)).map_or(1, |(after, before)| after.saturating_sub(before).max(1));
    let in_time = age.zip(allowed).map(|(age, allowed)| age.saturating_mul(1_000) <= allowed);
    Rotation {
        recorded_at: at,
        rotated_at: after.and_then(|after| after.last_rotation_at),
        seen_after: record.seen_after.as_deref().and_then(Time::parse),
        age_seconds: age,
        allowed_seconds: allowed.map(|allowed| allowed / 1_000),
        // Of several rotations only the last has a time: the material may have been younger.
        in_time: in_time.filter(|in_time| *in_time || count == 1),
        count,
    }
}
