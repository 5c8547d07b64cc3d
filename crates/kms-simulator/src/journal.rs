//! What the simulator has received: counts by operation and key, every interval, and a log of calls.
//!
//! Tests read it to assert "no second write" and "only the policy's interval". The simulator itself does not use it.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::Value;

use super::operation::Operation;
use super::setup::Journal;

/// One call for one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// When it arrived, by the simulator's clock.
    pub at: SystemTime,
    /// The requested operation.
    pub operation: Operation,
    /// The interval in the request, as sent.
    pub interval: Option<Value>,
    /// The status of the answer; `None` if there was none.
    pub status: Option<u16>,
    /// It was a write, and it took effect, whatever the answer was.
    pub applied: bool,
}

/// Requests per operation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts([u64; Operation::ALL.len()]);

impl Counts {
    pub(super) fn add(&mut self, operation: Operation) {
        self.0[operation as usize] += 1;
    }

    pub(super) fn of(&self, operation: Operation) -> u64 {
        self.0[operation as usize]
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// The calls for one key.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyJournal {
    pub(super) counts: Counts,
    pub(super) applied: u64,
    pub(super) intervals: Vec<Value>,
    pub(super) calls: Vec<Call>,
}

/// The calls for the keys of one project, including keys that do not exist.
#[derive(Debug, Default)]
pub(super) struct ProjectJournal(HashMap<Box<str>, KeyJournal>);

impl ProjectJournal {
    pub(super) fn of(&self, key_id: &str) -> Option<&KeyJournal> {
        self.0.get(key_id)
    }

    pub(super) fn intervals(&self) -> impl Iterator<Item = (&str, &[Value])> {
        self.0.iter().map(|(key_id, journal)| (key_id.as_ref(), journal.intervals.as_slice()))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn record(&mut self, key_id: &str, call: Call, keep: Journal) {
        // Only the first call for a key allocates.
        if !self.0.contains_key(key_id) {
            self.0.insert(key_id.into(), KeyJournal::default());
        }
        let Some(journal) = self.0.get_mut(key_id) else { return };
        journal.counts.add(call.operation);
        journal.applied += u64::from(call.applied);
        if let Some(interval) = &call.interval {
            journal.intervals.push(interval.clone());
        }
        if keep == Journal::Calls {
            journal.calls.push(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_intervals_are_kept_also_without_calls() {
        let call = |operation, interval, applied| Call {
            at: SystemTime::UNIX_EPOCH,
            operation,
            interval,
            status: Some(200),
            applied,
        };
        for (keep, calls) in [(Journal::Calls, 3), (Journal::Counts, 0)] {
            let mut journal = ProjectJournal::default();
            journal.record("a", call(Operation::UpdateInterval, Some(90.into()), true), keep);
            journal.record("a", call(Operation::UpdateInterval, Some("90".into()), false), keep);
            journal.record("a", call(Operation::ReadStatus, None, false), keep);
            let of_a = journal.of("a").unwrap();
            assert_eq!(of_a.counts.of(Operation::UpdateInterval), 2);
            assert_eq!(of_a.counts.total(), 3);
            assert_eq!(of_a.applied, 1);
            assert_eq!(of_a.intervals, [Value::from(90), Value::from("90")]);
            assert_eq!(of_a.calls.len(), calls);
            assert!(journal.of("b").is_none());
        }
    }
}
