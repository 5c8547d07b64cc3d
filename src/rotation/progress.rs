//! How far the run under way is: its counters, and, where no run has ended before, the keys that it has read.
//!
//! The run writes it; the progress line, the log, the page and the metrics read it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::report::{KeyReport, ProjectReport, Tally, Trigger};

/// The most keys that are shown before the first run has ended. All of them are counted.
const MAX_SHOWN: usize = 1_000;

/// How many keys the run has found, how many of them are done, and the first ones that it has read.
#[derive(Debug, Default)]
pub struct RunProgress {
    found: AtomicUsize,
    read: AtomicUsize,
    done: AtomicUsize,
    shows_keys: AtomicBool,
    run: Mutex<Option<Run>>,
}

#[derive(Debug)]
struct Run {
    trigger: Trigger,
    started: SystemTime,
    /// By the index of the project in the policy; none before a key of it was read.
    projects: Vec<Option<ReadProject>>,
    /// Number of keys in all of them.
    shown: usize,
}

/// What is shown of a project whose first run is under way.
#[derive(Clone, Debug)]
pub struct ReadProject {
    /// The project, with the first keys that were read.
    pub report: ProjectReport,
    /// All keys that were read so far.
    pub tally: Tally,
}

/// The run under way, at one moment.
#[derive(Clone, Debug)]
pub struct RunUnderWay {
    pub trigger: Trigger,
    pub started: SystemTime,
    /// Keys of all projects that are listed so far.
    pub found: usize,
    /// Keys that are read so far, or need not be.
    pub read: usize,
    /// Keys whose status in this run is final.
    pub done: usize,
    /// Projects of which keys were read, if the run shows its keys.
    pub projects: Vec<ReadProject>,
}

impl RunUnderWay {
    /// How many keys the present stage has done, and what that does: all keys are read first, and then changed.
    #[must_use]
    pub fn stage(&self) -> (usize, &'static str) {
        stage(self.found, self.read, self.done)
    }
}

fn stage(found: usize, read: usize, done: usize) -> (usize, &'static str) {
    if read < found { (read, "read") } else { (done, "done") }
}

impl RunProgress {
    /// How many keys the present stage of the run has done, and what that does.
    #[must_use]
    pub fn stage(&self) -> (usize, &'static str) {
        stage(self.found(), self.read(), self.done())
    }

    /// Keys of all projects that are listed so far.
    #[must_use]
    pub fn found(&self) -> usize {
        self.found.load(Ordering::Relaxed)
    }

    /// Keys that are read so far, or need not be.
    #[must_use]
    pub fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    /// Keys whose status in this run is final.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Whether the next run shows its keys as they are read: the report of a run before it shows them better.
    pub(crate) fn show_keys(&self, shows: bool) {
        self.shows_keys.store(shows, Ordering::Relaxed);
    }

    /// The run under way, without its keys.
    #[must_use]
    pub fn run(&self) -> Option<RunUnderWay> {
        let run = self.lock();
        let (trigger, started) = run.as_ref().map(|run| (run.trigger, run.started))?;
        let (found, read, done) = (self.found(), self.read(), self.done());
        Some(RunUnderWay { trigger, started, found, read, done, projects: Vec::new() })
    }

    /// The run under way, with the keys that it has read so far, if it shows them.
    #[must_use]
    pub fn run_with_keys(&self) -> Option<RunUnderWay> {
        let under_way = self.run()?;
        let projects = self.lock().iter().flat_map(|run| run.projects.iter().flatten().cloned()).collect();
        Some(RunUnderWay { projects, ..under_way })
    }

    /// A run begins.
    pub(crate) fn begin(&self, trigger: Trigger, started: SystemTime) {
        self.found.store(0, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        *self.lock() = Some(Run { trigger, started, projects: Vec::new(), shown: 0 });
    }

    /// The run has ended.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    pub(crate) fn add_found(&self, keys: usize) {
        self.found.fetch_add(keys, Ordering::Relaxed);
    }

    pub(crate) fn add_read(&self, keys: usize) {
        self.read.fetch_add(keys, Ordering::Relaxed);
    }

    pub(crate) fn add_done(&self, keys: usize) {
        self.done.fetch_add(keys, Ordering::Relaxed);
    }

    /// A key of the project with this index was read. `head` and `key` are called only if they are shown.
    pub(crate) fn key_read(&self, index: usize, head: impl FnOnce() -> ProjectReport, key: impl FnOnce() -> KeyReport) {
        if !self.shows_keys.load(Ordering::Relaxed) {
            return;
        }
        // Both are made before the lock is taken.
        let (head, key) = (head(), key());
        let mut run = self.lock();
        let Some(run) = &mut *run else { return };
        if run.projects.len() <= index {
            run.projects.resize_with(index + 1, || None);
        }
        let Some(place) = run.projects.get_mut(index) else { return };
        let project = place.get_or_insert_with(|| ReadProject { report: head, tally: Tally::default() });
        project.tally.add(key.status);
        if run.shown < MAX_SHOWN {
            run.shown += 1;
            project.report.keys.push(key);
        }
    }

    /// A key that was read before has this state now.
    pub(crate) fn key_changed(&self, index: usize, key: &KeyReport) {
        if !self.shows_keys.load(Ordering::Relaxed) {
            return;
        }
        let mut run = self.lock();
        let project = run.as_mut().and_then(|run| run.projects.get_mut(index)).and_then(Option::as_mut);
        let Some(project) = project else { return };
        if let Some(shown) = project.report.keys.iter_mut().find(|shown| shown.subject == key.subject) {
            project.tally.moved(shown.status, key.status);
            shown.clone_from(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
