//! What one log shows over the period: the verdict over each of its keys, and all that is the same for them.

use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use sha2::{Digest, Sha256};

use super::collect::{Collector, Outage};
use super::judge::{ProjectScene, Scene, judge};
use super::model::{Gap, GapKind, Key, LogFacts, Observer, Project, Totals, Verdict};
use super::time::{DAY, Time};
use crate::evidence::anchor::Anchor;
use crate::evidence::folder::{Identity, ReadError, expect_log, identity, segments, with_successors};
use crate::evidence::reader::{parse_time, read_segment};
use crate::evidence::verify::{Verification, verify};
use crate::rotation::decide::Status;

/// A log that was read and verified.
pub(super) struct ReadLog<'a> {
    pub(super) verifications: Vec<Verification>,
    pub(super) collected: Collector<'a>,
    identities: Vec<Option<Identity>>,
}

/// Reads the log in a folder and the logs that continue it, and verifies them meanwhile.
pub(super) fn read<'a>(
    folder: &Path,
    anchors: &[Anchor],
    collector: impl Fn() -> Collector<'a>,
) -> Result<ReadLog<'a>, ReadError> {
    expect_log(folder)?;
    let folders = with_successors(folder)?;
    let (verifications, mut read) = thread::scope(|scope| {
        let verified = scope.spawn(|| verify(folder, anchors));
        let read = collect(&folders, None, collector());
        (verified.join(), read)
    });
    let verifications = verifications.unwrap_or_else(|_| verify(folder, anchors))?;
    let sizes: Vec<_> = verifications.iter().map(|log| log.size).collect();
    // The log is being written: what was written since it was verified is left out.
    if read.as_ref().is_ok_and(|(_, read)| *read != sizes) {
        read = collect(&folders, Some(&sizes), collector());
    }
    // A damaged one is a finding of the verification.
    let identities = folders.iter().map(|folder| identity(folder).ok().flatten()).collect();
    Ok(ReadLog { verifications, collected: read?.0, identities })
}

/// Reads the records of some logs, up to these sizes. Returns the size of each log as well.
fn collect<'a>(
    folders: &[PathBuf],
    sizes: Option<&[u64]>,
    mut collected: Collector<'a>,
) -> Result<(Collector<'a>, Vec<u64>), ReadError> {
    let mut read = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        if at > 0 {
            collected.continue_with_next_log();
        }
        let limit = sizes.and_then(|sizes| sizes.get(at)).copied().unwrap_or(u64::MAX);
        let mut size = 0;
        for segment in segments(folder).map_err(ReadError::at(folder))? {
            let taken = read_segment(&segment, &mut |entry| {
                if entry.seq < limit {
                    size = entry.seq + 1;
                    collected.take(entry);
                }
            });
            match taken {
                // That it is damaged is a finding of the verification.
                Err(error) if matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) => {}
                taken => taken.map_err(ReadError::at(&segment.path))?,
            }
        }
        read.push(size);
    }
    collected.finish();
    Ok((collected, read))
}

/// The common period and the parameters of the sample.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) from: Time,
    pub(super) to: Time,
    pub(super) sample: usize,
    pub(super) seed: u64,
}

/// Judges the keys of a log over a period.
pub(super) fn observer(log: ReadLog<'_>, window: Window) -> Observer {
    let ReadLog { verifications, collected, identities } = log;
    let Window { from, to, sample, seed } = window;
    let begins = collected.first.unwrap_or(to);
    let newest_record_at = collected.newest();
    let Collector { looks, texts, projects, gaps: recorded, mut programs, mut policies, .. } = collected;
    let counted = looks.gaps(begins, from, to);
    let days = looks.days(from.day(), to.day());
    let scene = Scene { from, to, begins, looks: &looks, days: &days, gaps: &counted, exemptions: &texts.exemptions };
    let mut gaps = recorded;
    if begins > from {
        gaps.push(gap(GapKind::BeforeLog, from, begins, begins.since(from) > DAY));
    }
    gaps.extend(counted.iter().map(|(from, to)| gap(GapKind::NotLooked, *from, *to, true)));
    let mut keys: Vec<Key> = Vec::new();
    let mut summaries = Vec::new();
    for (name, line) in projects {
        gaps.extend(line.outages.iter().map(|outage| outage_gap(outage, &name, &scene)));
        let project = ProjectScene { name: &name, facts: &line.facts, outages: &line.outages };
        let mut lines: Vec<_> = line.keys.into_iter().collect();
        lines.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let before = keys.len();
        keys.extend(lines.into_iter().filter_map(|(key_id, line)| judge(&scene, &project, &key_id, line)));
        let own = &keys[before..];
        let facts = line.facts.last().map(|(_, facts)| facts.clone());
        if facts.is_none() && own.is_empty() {
            continue;
        }
        let at_end = |status: Status| own.iter().filter(|key| !key.vanished && key.state.status == status).count();
        summaries.push(Project {
            facts,
            keys: own.len(),
            appeared: own.iter().filter(|key| key.appeared).count(),
            vanished: own.iter().filter(|key| key.vanished).count(),
            uncovered: at_end(Status::Uncovered),
            exempt: at_end(Status::Exempt),
            totals: totals(own),
            name,
        });
    }
    gaps.retain_mut(|gap| {
        (gap.from, gap.to) = (gap.from.max(from), gap.to.min(to));
        gap.from < gap.to || gap.from == gap.to && gap.kind == GapKind::Interrupted
    });
    gaps.sort_by(|one, other| (one.from, one.to, &one.project).cmp(&(other.from, other.to, &other.project)));
    clip(&mut programs, from, to, |program| &mut program.from);
    if let Some(last) = policies.last_mut() {
        last.to = to;
    }
    clip(&mut policies, from, to, |policy| &mut policy.from);
    let (days, days_not_looked) = days.between(from, to);
    let sample = draw(&keys, sample, seed);
    let first = verifications.first();
    Observer {
        origin: first.and_then(|log| log.origin.clone()).unwrap_or_default(),
        simulated: verifications.iter().any(|log| log.simulated),
        logs: verifications.iter().zip(identities).map(|(log, identity)| facts(log, identity)).collect(),
        first_record_at: begins,
        newest_record_at,
        programs,
        policies,
        runs: looks.count(from, to),
        days,
        days_not_looked,
        gaps,
        totals: totals(&keys),
        projects: summaries,
        keys,
        sample,
    }
}

fn totals(keys: &[Key]) -> Totals {
    Totals::count(keys.iter().map(|key| key.verdict))
}

fn gap(kind: GapKind, from: Time, to: Time, counts: bool) -> Gap {
    Gap { kind, from, to, counts, project: None, why: None }
}

fn outage_gap(outage: &Outage, project: &Arc<str>, scene: &Scene<'_>) -> Gap {
    let to = outage.to.unwrap_or(scene.to);
    let counts = to.min(scene.to) > scene.looks.allows_until(outage.from);
    let why = outage.record.error.clone().or_else(|| Some(outage.record.reasons.join(", ")));
    Gap { project: Some(Arc::clone(project)), why, ..gap(GapKind::Unreadable, outage.from, to, counts) }
}

/// Keeps what holds within the period: each holds until the next one begins.
fn clip<T>(all: &mut Vec<T>, from: Time, to: Time, begin: impl Fn(&mut T) -> &mut Time) {
    all.retain_mut(|one| *begin(one) < to || *begin(one) <= from);
    let before = all.iter_mut().map(|one| *begin(one)).filter(|begin| *begin <= from).count();
    all.drain(..before.saturating_sub(1));
    if let Some(first) = all.first_mut() {
        let begin = begin(first);
        *begin = (*begin).max(from);
    }
}

fn facts(log: &Verification, identity: Option<Identity>) -> LogFacts {
    let anchored = log.anchored.last();
    let until = anchored.and_then(|anchored| parse_time(anchored.until.as_ref()?));
    let (created_at, public_key) = identity.map(|known| (known.created_at, known.public_key)).unwrap_or_default();
    LogFacts {
        origin: log.origin.clone().unwrap_or_default(),
        created_at,
        public_key,
        continues: log.continues.clone(),
        first_record: log.first,
        size: log.size,
        root: log.root.to_string(),
        signed: log.signed.as_ref().map(|signed| signed.size),
        anchored: anchored.map(|anchored| anchored.checkpoint.size),
        anchored_until: until.map(Time::from),
        problems: log.problems.iter().map(ToString::to_string).collect(),
    }
}

/// Draws a sample of the keys that the policy requires to rotate: those with the smallest
/// SHA-256(seed, line break, project, line break, key), so that others can draw the same one.
fn draw(keys: &[Key], size: usize, seed: u64) -> Vec<usize> {
    let is_drawn_from = |key: &&Key| key.verdict != Verdict::NotApplicable;
    let numbered = keys.iter().enumerate().filter(|(_, key)| is_drawn_from(key));
    let mut ranked: Vec<([u8; 32], usize)> = numbered
        .map(|(at, key)| (Sha256::digest(format!("{seed}\n{}\n{}", key.project, key.key_id)).into(), at))
        .collect();
    ranked.sort_unstable();
    let mut drawn: Vec<_> = ranked.into_iter().take(size).map(|(_, at)| at).collect();
    drawn.sort_unstable();
    drawn
}
