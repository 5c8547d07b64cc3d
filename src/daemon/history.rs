//! The history of single keys, for their pages: from the evidence log, or else from what this process has seen.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::evidence::changes::{Change, Recorded};
use crate::evidence::folder;
use crate::evidence::reader;
use crate::evidence::record::{Cause, Event, KeyRecord, KeyState, Record, WritePhase, WriteRecord};
use crate::rotation::decide::{Reason, Status};
use crate::rotation::report::Report;
use crate::support::error_chain::ErrorChain;
use crate::views::history::{HistoryEvent, HistorySource, KeyHistory};
use crate::views::wording;
use crate::web::KeyHistories;

/// The most events of a page.
const SHOWN: usize = 100;
/// The most segments of a log that are read for a page, the newest ones: about two years with a few changes a day, and a
/// few seconds at most.
const SEGMENTS: usize = 8;
/// The most events of all keys that the process remembers.
const REMEMBERED: usize = 10_000;

/// The histories of all keys.
pub struct Histories {
    /// The folder of the evidence log, if there is one.
    log: Mutex<Option<PathBuf>>,
    seen: Mutex<Seen>,
    /// One page reads the log at a time: a segment of it takes as much memory as the rest of the process.
    reading: Arc<Semaphore>,
}

impl Default for Histories {
    fn default() -> Self {
        Self { log: Mutex::default(), seen: Mutex::default(), reading: Arc::new(Semaphore::new(1)) }
    }
}

/// What this process has seen.
#[derive(Default)]
struct Seen {
    recorded: Recorded,
    /// The oldest first.
    events: VecDeque<(SystemTime, KeyRecord)>,
    /// Events were forgotten.
    is_cut: bool,
    has_run: bool,
}

impl Histories {
    /// The policy in force has an evidence log in this folder, or none.
    pub fn log_is_in(&self, folder: Option<PathBuf>) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = folder;
    }

    /// A run has ended. Without an evidence log its changes are remembered.
    pub(super) fn run_ended(&self, report: &Arc<Report>) {
        if self.log().is_some() {
            *self.seen() = Seen::default();
            return;
        }
        let mut seen = self.seen();
        let Seen { recorded, events, is_cut, has_run } = &mut *seen;
        recorded.update(report, |change| {
            // Each key of the first run is new to the process.
            if let (Change::Key(key), true) = (change, *has_run) {
                events.push_back((report.ended, *key));
            }
        });
        let surplus = events.len().saturating_sub(REMEMBERED);
        events.drain(..surplus);
        *is_cut |= surplus > 0;
        *has_run = true;
    }

    fn remembered(&self, project: &str, key: &str) -> KeyHistory {
        let seen = self.seen();
        let of_key = seen.events.iter().rev().filter(|(_, record)| record.project == project && record.key_id == key);
        let mut events: Vec<_> = of_key.take(SHOWN + 1).map(|(at, record)| of_change(*at, record)).collect();
        let is_cut = seen.is_cut || events.len() > SHOWN;
        events.truncate(SHOWN);
        KeyHistory { source: HistorySource::Process, events, is_cut }
    }

    fn log(&self) -> Option<PathBuf> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyHistories for Histories {
    fn of<'a>(&'a self, project: &'a str, key: &'a str) -> BoxFuture<'a, KeyHistory> {
        async move {
            let Some(folder) = self.log() else { return self.remembered(project, key) };
            let Ok(turn) = Arc::clone(&self.reading).acquire_owned().await else { return KeyHistory::default() };
            let (project, key) = (project.to_owned(), key.to_owned());
            let read = tokio::task::spawn_blocking(move || {
                let history = recorded(&folder, &project, &key);
                drop(turn);
                history
            });
            let unreadable = |why| KeyHistory { source: HistorySource::Unreadable(why), ..KeyHistory::default() };
            match read.await {
                Ok(Ok(history)) => history,
                Ok(Err(error)) => unreadable(ErrorChain(&error).to_string()),
                // It panicked.
                Err(error) => unreadable(error.to_string()),
            }
        }
        .boxed()
    }
}

/// What the log in this folder, and those that continue it, have of a key.
fn recorded(folder: &Path, project: &str, key: &str) -> Result<KeyHistory, folder::ReadError> {
    let mut segments = Vec::new();
    for folder in folder::with_successors(folder)? {
        segments.extend(folder::segments(&folder).map_err(folder::ReadError::at(&folder))?);
    }
    let mut is_cut = segments.len() > SEGMENTS;
    let mut events = Vec::new();
    for segment in segments.iter().rev().take(SEGMENTS) {
        let mut of_segment = Vec::new();
        let read = reader::read_lines_with(segment, key, &mut |entry| match entry.record {
            Record::Key(record) if record.project == project && record.key_id == key => {
                of_segment.push(of_change(entry.at, &record));
            }
            Record::Write(record) if record.project == project && record.key_id == key => {
                of_segment.extend(of_write(entry.at, &record));
            }
            _ => {}
        });
        read.map_err(folder::ReadError::at(&segment.path))?;
        events.extend(of_segment.into_iter().rev());
        if events.len() > SHOWN {
            is_cut = true;
            events.truncate(SHOWN);
            break;
        }
    }
    Ok(KeyHistory { source: HistorySource::EvidenceLog, events, is_cut })
}

/// A change in words.
fn of_change(at: SystemTime, record: &KeyRecord) -> HistoryEvent {
    let KeyRecord { event, by, before, after, error, .. } = record;
    let setting = |state: &Option<KeyState>| state.as_ref().map_or_else(|| "unknown".to_owned(), setting);
    let from_to = || format!("from {} to {}", setting(before), setting(after));
    let what = match event {
        Event::Rotated => "The cloud has rotated the key".to_owned(),
        Event::Drift => format!("The setting was changed {}, and not by this program", from_to()),
        Event::Repaired => format!("This program changed the setting {}", from_to()),
        Event::Exempted => "The policy exempts it from now on".to_owned(),
        Event::Appeared => "It was seen for the first time".to_owned(),
        Event::Vanished => "It is not there any more".to_owned(),
        Event::Status => match (before, after) {
            (Some(before), Some(after)) if before.status != after.status => {
                format!("Its status changed from {} to {}", status(&before.status), status(&after.status))
            }
            _ => "Its reasons, its name or its requirement changed".to_owned(),
        },
    };
    let what = match (event, by) {
        (Event::Drift, Some(Cause::Cloud)) => format!("The setting was changed {}, by the cloud", from_to()),
        _ => what,
    };
    let age = record.material_age_seconds.map(|age| format!("the material was {} days old", age / 86_400));
    let reasons = after.as_ref().map(|state| reasons(&state.reasons)).filter(|reasons| !reasons.is_empty());
    let details: Vec<_> = age.into_iter().chain(reasons).chain(error.clone()).collect();
    HistoryEvent { at, what, details: details.join("; ") }
}

/// A write in words; nothing for its intent.
fn of_write(at: SystemTime, record: &WriteRecord) -> Option<HistoryEvent> {
    let step = match (&*record.step, record.interval_days) {
        ("update_interval", Some(days)) => format!("set the interval to {days} days"),
        _ => "enable rotation".to_owned(),
    };
    let what = match record.phase {
        WritePhase::Intent => return None,
        WritePhase::Applied => format!("A write took effect: {step}"),
        WritePhase::Failed => format!("A write failed: {step}"),
        WritePhase::Unclear => format!("The answer to a write was lost: {step}"),
        WritePhase::NotSent => format!("A write was not sent: {step}"),
    };
    let request = record.request_id.as_ref().map(|id| format!("request {id}"));
    let details: Vec<_> = record.error.clone().into_iter().chain(request).collect();
    Some(HistoryEvent { at, what, details: details.join("; ") })
}

fn setting(state: &KeyState) -> String {
    match (state.enabled, state.interval_days) {
        (Some(false), _) => "off".to_owned(),
        (Some(true), Some(days)) => format!("{days} days"),
        (Some(true), None) => "on".to_owned(),
        (None, _) => "unknown".to_owned(),
    }
}

/// The words for a status, as long as this version knows it.
fn status(name: &str) -> &str {
    match Status::named(name) {
        Some(status) => wording::status(status),
        None => name,
    }
}

fn reasons(names: &[String]) -> String {
    let words = names.iter().map(|name| match Reason::named(name) {
        Some(reason) => wording::reason(reason),
        None => name,
    });
    words.collect::<Vec<_>>().join("; ")
}
