//! The verdict over several logs of the same keys: several replicas read them, and each writes its own log.
//!
//! A key is not met if one log shows that. Otherwise it is not shown only in the times that no log shows: while one
//! replica was down, another one has looked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::key::{is_entry, is_unlisted};
use super::model::{Combined, Key, Observer, Stretch, Totals, Verdict};
use super::time::Time;

/// The keys of all logs, by project and key.
pub(super) fn combine(observers: &[Observer]) -> Vec<Combined> {
    let mut all = BTreeMap::<_, Vec<Option<&Key>>>::new();
    for (at, observer) in observers.iter().enumerate() {
        for key in &observer.keys {
            let by_log = all.entry((&key.project, &key.key_id)).or_insert_with(|| vec![None; observers.len()]);
            by_log[at] = Some(key);
        }
    }
    // Without an entry that stands in one log for keys that another log has.
    all.retain(|(project, key_id), by_log| {
        let is_unlisted = by_log.iter().flatten().all(|key| is_unlisted(key_id, &key.state));
        let is_listed = |log: &Observer| log.keys.iter().any(|key| key.project == **project && !is_entry(&key.key_id));
        !is_unlisted || observers.iter().zip(by_log).all(|(log, key)| key.is_some() || !is_listed(log))
    });
    let combined = all.into_iter().map(|((project, key_id), keys)| Combined {
        project: Arc::clone(project),
        key_id: Arc::clone(key_id),
        alias: keys.iter().flatten().find_map(|key| key.alias.clone()),
        verdict: verdict(&keys.iter().flatten().copied().collect::<Vec<_>>()),
        verdicts: keys.iter().map(|key| key.map(|key| key.verdict)).collect(),
    });
    combined.collect()
}

/// How many keys have each verdict over all logs.
pub(super) fn totals(observers: &[Observer], combined: &[Combined]) -> Totals {
    match observers {
        [only] => only.totals,
        _ => Totals::count(combined.iter().map(|key| key.verdict)),
    }
}

fn verdict(keys: &[&Key]) -> Verdict {
    let has = |verdict| keys.iter().any(|key| key.verdict == verdict);
    if has(Verdict::NotMet) {
        Verdict::NotMet
    } else if has(Verdict::Met) {
        Verdict::Met
    } else if has(Verdict::NotShown) {
        let begins = keys.iter().map(|key| key.from).min().unwrap_or_default();
        let ends = keys.iter().map(|key| key.to).max().unwrap_or_default();
        let judged: Vec<_> = keys.iter().filter(|key| key.verdict == Verdict::NotShown).collect();
        let hidden = judged.iter().map(|key| hidden(key, begins, ends));
        let common = hidden.reduce(|one, other| intersection(&one, &other)).unwrap_or_default();
        if common.is_empty() { Verdict::Met } else { Verdict::NotShown }
    } else {
        Verdict::NotApplicable
    }
}

/// The times of a key that its log does not show, in order and apart.
fn hidden(key: &Key, begins: Time, ends: Time) -> Vec<(Time, Time)> {
    let stretch = |stretch: &Stretch| (stretch.from, stretch.to);
    let mut all: Vec<_> = key.not_shown.iter().map(stretch).collect();
    // Before it was seen, and after it was gone.
    all.extend([(begins, key.from), (key.to, ends)].into_iter().filter(|(from, to)| from < to));
    all.sort_unstable();
    let mut apart: Vec<(Time, Time)> = Vec::new();
    for (from, to) in all {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

fn intersection(one: &[(Time, Time)], other: &[(Time, Time)]) -> Vec<(Time, Time)> {
    let mut common = Vec::new();
    let (mut left, mut right) = (0, 0);
    while let (Some(a), Some(b)) = (one.get(left), other.get(right)) {
        let (from, to) = (a.0.max(b.0), a.1.min(b.1));
        if from < to {
            common.push((from, to));
        }
        if a.1 <= b.1 {
            left += 1;
        } else {
            right += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_both_lack_remain() {
        let times = |pairs: &[(i64, i64)]| pairs.iter().map(|(from, to)| (Time(*from), Time(*to))).collect::<Vec<_>>();
        let common = intersection(&times(&[(0, 5), (10, 20), (30, 40)]), &times(&[(5, 12), (15, 35)]));
        assert_eq!(common, times(&[(10, 12), (15, 20), (30, 35)]));
        assert_eq!(intersection(&times(&[(0, 5)]), &times(&[(5, 9)])), []);
    }
}
