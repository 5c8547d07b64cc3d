//! The verdict over one key: a pure function of its timeline, and of when the log shows nothing.
//!
//! | verdict | rule |
//! |---|---|
//! | not met | off policy at any time, or material older than interval and grace |
//! | not shown | else: not read for longer than the gap rule allows, contradictory readings, material of unknown age |
//! | not applicable | else: exempt or uncovered whenever it was read |
//! | met | else |

use std::sync::Arc;

use super::collect::{Outage, default_grace, millis};
use super::key::is_unlisted;
use super::keyline::{Exemption, KeyLine, Segment};
use super::looks::{LookedDays, Looks};
use super::model::{
    Key, NotApplicable, Piece, ProjectFacts, Required, Rotation, Shares, Shown, State, Stretch, StretchCause, Verdict,
};
use super::time::{DAY, Time};
use crate::rotation::decide::{Reason, Reasons, Status};

/// What is known of a log beside its keys.
pub(super) struct Scene<'a> {
    pub(super) from: Time,
    pub(super) to: Time,
    /// Of the log's first record.
    pub(super) begins: Time,
    pub(super) looks: &'a Looks,
    pub(super) days: &'a LookedDays,
    /// The gaps that count, by time.
    pub(super) gaps: &'a [(Time, Time)],
    pub(super) exemptions: &'a [Exemption],
}

/// What is known of a project beside its keys.
pub(super) struct ProjectScene<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) facts: &'a [(Time, ProjectFacts)],
    pub(super) outages: &'a [Outage],
}

/// A state and the time in which the key had it, within the period.
#[derive(Clone, Copy)]
struct Held {
    from: Time,
    to: Time,
    state: State,
}

/// Judges a key; `None` if it was not there within the period, or only stood for keys that are judged themselves.
pub(super) fn judge(scene: &Scene<'_>, project: &ProjectScene<'_>, key_id: &Arc<str>, line: KeyLine) -> Option<Key> {
    let held = held(scene, &line);
    let (first, last) = (held.first()?, held.last()?);
    let state = last.state;
    let begins = first_moment(scene, &line, first.from);
    let mut timeline = Vec::new();
    if first.from.since(begins) > DAY {
        let (shown, reasons) = (Shown::NotLooked, Reasons::NONE);
        timeline.push(Piece { from: begins, to: first.from, shown, reasons });
    }
    let begins = timeline.first().map_or(first.from, |piece: &Piece| piece.from);
    for part in &held {
        pieces(scene, project, part, &mut timeline);
    }
    let vanished = line.segments.last().is_some_and(|last| last.state.is_none());
    if vanished && is_unlisted(key_id, &state) {
        // The gap rule allows that its keys were not listed before.
        let is_unread = timeline.iter().all(|piece| piece.shown == Shown::Status(Status::Unknown));
        if is_unread && last.to <= scene.looks.allows_until(begins) {
            return None;
        }
    }
    let is_governed = held.iter().any(|part| required(&part.state).is_some());
    let old = old_material(project, &held, &timeline, &line.rotations);
    let mut off_policy = off_policy(&timeline, &old.stretches);
    off_policy.extend(line.repaired);
    off_policy.extend(&old.stretches);
    off_policy.sort_by_key(|stretch| (stretch.from, stretch.to, stretch.cause as u8));
    let mut not_shown = Vec::new();
    if is_governed {
        not_shown.extend(not_read(scene, &timeline));
        not_shown.extend(doubts(&held, &timeline));
        not_shown.extend(old.missed);
        not_shown.sort_by_key(|stretch: &Stretch| (stretch.from, stretch.to, stretch.cause as u8));
    }
    let verdict = if !off_policy.is_empty() {
        Verdict::NotMet
    } else if !not_shown.is_empty() {
        Verdict::NotShown
    } else if !is_governed {
        Verdict::NotApplicable
    } else {
        Verdict::Met
    };
    let is_free = matches!(state.status, Status::Exempt | Status::Uncovered);
    let exemption = state.exemption.and_then(|place| scene.exemptions.get(place as usize));
    let not_applicable = is_free.then(|| NotApplicable {
        reasons: state.reasons,
        exemption: exemption.map(|(reason, _)| Arc::clone(reason)),
        until: exemption.and_then(|(_, until)| until.clone()),
    });
    let (days, days_not_looked) = scene.days.between(begins, last.to);
    let mut departures = line.departures;
    departures.sort_by_key(|departure| departure.at);
    Some(Key {
        project: Arc::clone(project.name),
        key_id: Arc::clone(key_id),
        alias: line.alias,
        verdict,
        not_applicable,
        from: begins,
        to: last.to,
        appeared: !line.is_initial && first.from > scene.from,
        vanished,
        created_at: line.created,
        state,
        shares: shares(&timeline),
        days,
        days_not_looked,
        oldest_material_days: old.oldest.map(|age| age / DAY),
        off_policy,
        not_shown,
        rotations: line.rotations,
        departures,
        timeline,
    })
}

/// The states within the period. A key that the first run has found was so since the log began.
fn held(scene: &Scene<'_>, line: &KeyLine) -> Vec<Held> {
    let ends = line.segments.iter().skip(1).map(|next| next.from).chain([scene.to]);
    let mut held = Vec::new();
    for (at, (Segment { from, state }, end)) in line.segments.iter().zip(ends).enumerate() {
        let Some(state) = *state else { continue };
        let mut from = (*from).max(scene.from);
        if at == 0 && line.is_initial {
            from = from.min(scene.begins.max(scene.from).max(line.created.unwrap_or(scene.from)));
        }
        held.push(Held { from, to: end, state });
    }
    held
}

/// When the key's time within the period begins: a key that is older than the log was there before it too.
fn first_moment(scene: &Scene<'_>, line: &KeyLine, seen: Time) -> Time {
    if !line.is_initial || scene.begins <= scene.from {
        return seen;
    }
    line.created.unwrap_or(scene.from).max(scene.from).min(seen)
}

/// Splits a state by the gaps and the outages in its time.
fn pieces(scene: &Scene<'_>, project: &ProjectScene<'_>, held: &Held, timeline: &mut Vec<Piece>) {
    let Held { from, to, state } = *held;
    let mut cuts = vec![from, to];
    let gaps = &scene.gaps[scene.gaps.partition_point(|gap| gap.1 <= from)..];
    let gaps = &gaps[..gaps.partition_point(|gap| gap.0 < to)];
    cuts.extend(gaps.iter().flat_map(|gap| [gap.0, gap.1]));
    let outages = if state.required.is_some() { project.outages } else { &[] };
    let until = |outage: &Outage| outage.to.unwrap_or(scene.to);
    let outages = &outages[outages.partition_point(|outage| until(outage) <= from)..];
    let outages = &outages[..outages.partition_point(|outage| outage.from < to)];
    cuts.extend(outages.iter().flat_map(|outage| [outage.from, until(outage)]));
    cuts.retain(|cut| (from..=to).contains(cut));
    cuts.sort_unstable();
    cuts.dedup();
    for cut in cuts.windows(2) {
        let (from, to) = (cut[0], cut[1]);
        let is_in_gap = gaps.iter().any(|gap| gap.0 <= from && to <= gap.1);
        let outage = outages.iter().find(|outage| outage.from <= from && to <= until(outage));
        let (shown, reasons) = match outage {
            _ if is_in_gap => (Shown::NotLooked, Reasons::NONE),
            Some(outage) => (Shown::Status(Status::Unknown), reasons_of(outage)),
            None => (Shown::Status(state.status), state.reasons),
        };
        push(timeline, Piece { from, to, shown, reasons });
    }
}

fn reasons_of(outage: &Outage) -> Reasons {
    let known = |name: &String| Reason::named(name);
    outage.record.reasons.iter().filter_map(known).fold(Reasons::NONE, Reasons::with)
}

/// Adds a piece, or makes the last one longer.
fn push(timeline: &mut Vec<Piece>, piece: Piece) {
    match timeline.last_mut() {
        Some(last) if last.to == piece.from && (last.shown, last.reasons) == (piece.shown, piece.reasons) => {
            last.to = piece.to;
        }
        _ => timeline.push(piece),
    }
}

/// The stretches off policy. Material that is too old has stretches of its own, which are exact.
fn off_policy(timeline: &[Piece], old: &[Stretch]) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for piece in timeline.iter().filter(|piece| piece.shown == Shown::Status(Status::NonCompliant)) {
        let others = |reason: &Reason| *reason != Reason::MaterialTooOld;
        let mut reasons = piece.reasons.iter().filter(others).fold(Reasons::NONE, Reasons::with);
        if reasons.is_empty() {
            if old.iter().any(|old| old.from < piece.to && piece.from < old.to) {
                continue;
            }
            reasons = piece.reasons;
        }
        add(&mut stretches, piece.from, piece.to, StretchCause::OffPolicy, reasons);
    }
    stretches
}

/// The times without a reading that the gap rule does not allow.
fn not_read(scene: &Scene<'_>, timeline: &[Piece]) -> Vec<Stretch> {
    let is_read = |piece: &Piece| !matches!(piece.shown, Shown::NotLooked | Shown::Status(Status::Unknown));
    let mut found = Vec::new();
    for run in timeline.chunk_by(|one, other| is_read(one) == is_read(other) && one.to == other.from) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let is_gap = run.iter().any(|piece| piece.shown == Shown::NotLooked);
        // Without any reading before or after it, nothing is known.
        let is_never_read = run.len() == timeline.len();
        let is_allowed = last.to <= scene.looks.allows_until(first.from) && !is_never_read;
        if is_read(first) || !is_gap && is_allowed {
            continue;
        }
        found.extend(run.iter().map(|piece| {
            let cause = match piece.shown {
                Shown::NotLooked if piece.to <= scene.begins => StretchCause::BeforeLog,
                Shown::NotLooked => StretchCause::NotLooked,
                Shown::Status(_) => StretchCause::Unreadable,
            };
            Stretch { from: piece.from, to: piece.to, cause, reasons: piece.reasons, seen_after: None }
        }));
    }
    found
}

/// The times in which readings contradict each other, or do not show the start of the material.
fn doubts(held: &[Held], timeline: &[Piece]) -> Vec<Stretch> {
    let mut found: Vec<Stretch> = Vec::new();
    for Held { from, to, state } in held.iter().filter(|held| is_judged(&held.state)) {
        let cause = match state.material_since {
            None => StretchCause::MaterialUnknown,
            Some(_) if state.reasons.contains(Reason::RotationUnproven) => StretchCause::Contradictory,
            Some(_) => continue,
        };
        // What is a gap or an outage anyway is not a doubt too.
        let is_seen = |piece: &Piece| matches!(piece.shown, Shown::Status(Status::Compliant | Status::NonCompliant));
        let here = &timeline[timeline.partition_point(|piece| piece.to <= *from)..];
        if !here.iter().take_while(|piece| piece.from < *to).any(is_seen) {
            continue;
        }
        add(&mut found, *from, *to, cause, Reason::RotationUnproven.into());
    }
    found
}

fn is_judged(state: &State) -> bool {
    state.required.is_some() && matches!(state.status, Status::Compliant | Status::NonCompliant)
}

/// What the policy requires of a key that can rotate and is not exempt.
fn required(state: &State) -> Option<Required> {
    state.required.filter(|_| !matches!(state.status, Status::Exempt | Status::Uncovered))
}

/// What the material shows.
#[derive(Default)]
struct OldMaterial {
    stretches: Vec<Stretch>,
    /// Times in which it may have been too old: rotations without a time.
    missed: Vec<Stretch>,
    /// The greatest age, in milliseconds.
    oldest: Option<i64>,
}

/// Finds when the material was older than interval and grace: at each rotation and at the end of the period. A time in
/// which the key could not be read counts only if a later reading shows that the material was not replaced.
fn old_material(project: &ProjectScene<'_>, held: &[Held], timeline: &[Piece], rotations: &[Rotation]) -> OldMaterial {
    let mut found = OldMaterial::default();
    for (same, next) in same_material(held) {
        let Some(since) = same.first().and_then(|first| first.state.material_since) else { continue };
        let next = next.filter(|next| next.state.material_since > Some(since));
        let rotated = next.and_then(|next| next.state.material_since);
        // Until when it was in use, and until when it may have been.
        let at_most = rotated.unwrap_or_else(|| last_reading(timeline, same.last().map_or(since, |last| last.to)));
        let recorded = |next: &Held| rotations.iter().find(|rotation| rotation.recorded_at == next.from);
        let at_least = match next.and_then(recorded).filter(|rotation| rotation.count > 1) {
            Some(several) => several.seen_after.unwrap_or(since).min(at_most),
            None => at_most,
        };
        if at_least > since {
            found.oldest = found.oldest.max(Some(at_least.since(since)));
        }
        for Held { from, to, state } in same {
            let Some(Required { days, .. }) = required(state) else { continue };
            for (from, to, grace) in by_grace(project, *from, *to) {
                let too_old = since.after(i64::from(days) * DAY + grace);
                let (from, reasons) = (from.max(too_old), Reason::MaterialTooOld.into());
                add(&mut found.stretches, from, to.min(at_least), StretchCause::MaterialTooOld, reasons);
                add(&mut found.missed, from.max(at_least), to.min(at_most), StretchCause::RotationsMissed, reasons);
            }
        }
    }
    found
}

/// Adds a stretch unless it is empty, or makes the last one longer.
fn add(stretches: &mut Vec<Stretch>, from: Time, to: Time, cause: StretchCause, reasons: Reasons) {
    match stretches.last_mut() {
        _ if from >= to => {}
        Some(last) if (last.to, last.cause, last.reasons) == (from, cause, reasons) => last.to = to,
        _ => stretches.push(Stretch { from, to, cause, reasons, seen_after: None }),
    }
}

/// The states with the same material, and the one that follows them.
fn same_material(held: &[Held]) -> impl Iterator<Item = (&[Held], Option<&Held>)> {
    let mut rest = held;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let length = rest.iter().take_while(|held| held.state.material_since == first.state.material_since).count();
        let (same, after) = rest.split_at(length);
        rest = after;
        Some((same, after.first()))
    })
}

/// The last moment up to a time for which the key was read.
fn last_reading(timeline: &[Piece], until: Time) -> Time {
    let is_read = |piece: &&Piece| matches!(piece.shown, Shown::Status(status) if status != Status::Unknown);
    let here = &timeline[..timeline.partition_point(|piece| piece.from < until)];
    here.iter().rev().find(is_read).map_or(Time(i64::MIN), |piece| piece.to.min(until))
}

/// Splits a time by the project's grace, in milliseconds.
fn by_grace<'a>(
    project: &'a ProjectScene<'_>,
    from: Time,
    to: Time,
) -> impl Iterator<Item = (Time, Time, i64)> + use<'a> {
    let facts = project.facts;
    let at = facts.partition_point(|(since, _)| *since <= from).max(1) - 1;
    let ends = facts.get(at + 1..).unwrap_or_default().iter().map(|(since, _)| *since).chain([to]);
    let graces = facts.get(at..).unwrap_or_default().iter().map(|(_, facts)| millis(facts.grace_seconds));
    let graces = graces.chain(facts.is_empty().then(default_grace));
    let mut begin = from;
    graces.zip(ends).map_while(move |(grace, end)| {
        let part = (begin, end.min(to), grace);
        begin = part.1;
        (part.0 < part.1).then_some(part)
    })
}

/// The shares of the time.
fn shares(timeline: &[Piece]) -> Shares {
    let mut shares = Shares::default();
    let sum: i64 = timeline.iter().map(|piece| piece.to.since(piece.from)).sum();
    let mut lengths = [0_i64; Status::ALL.len() + 1];
    for piece in timeline {
        let place = match piece.shown {
            Shown::Status(status) => status as usize,
            Shown::NotLooked => Status::ALL.len(),
        };
        lengths[place] += piece.to.since(piece.from);
    }
    for (length, shown) in lengths.into_iter().zip(Status::ALL.map(Shown::Status).into_iter().chain([Shown::NotLooked]))
    {
        *share(&mut shares, shown) = ratio(length, sum);
    }
    shares
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a few thousand years are exact")]
fn ratio(part: i64, whole: i64) -> f64 {
    part as f64 / whole as f64
}

fn share(shares: &mut Shares, shown: Shown) -> &mut f64 {
    match shown {
        Shown::Status(Status::Compliant) => &mut shares.compliant,
        Shown::Status(Status::NonCompliant) => &mut shares.non_compliant,
        Shown::Status(Status::Unknown) => &mut shares.unknown,
        Shown::Status(Status::Exempt) => &mut shares.exempt,
        Shown::Status(Status::Uncovered) => &mut shares.uncovered,
        Shown::NotLooked => &mut shares.not_looked,
    }
}
