//! The state that the daemon's loop publishes and the server shows.
//!
//! The loop is the only writer. A reader gets everything in one step, so that it never sees a new run with an old
//! policy. Only the status line for the service manager is rendered here.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{OnceCell, watch};

use crate::kms::observe::Observer;
use crate::metrics::{Archive, KeySeries, Metrics, MetricsError};
use crate::rotation::progress::RunProgress;
use crate::rotation::project::PerKey;
use crate::rotation::report::{ProjectReport, Report};
use crate::support::write_gate::WriteGate;
use crate::views::KeyHistory;
use crate::views::snapshot::{EvidenceStatus, LoadedPolicy, ReloadError, Snapshot};
use crate::views::wording;

/// Holds the state for its readers.
pub struct StatusStore {
    pub(super) metrics: Metrics,
    current: watch::Sender<Current>,
    gate: WriteGate,
    progress: Arc<RunProgress>,
    histories: OnceLock<Arc<dyn KeyHistories>>,
    simulated: bool,
}

/// Knows what happened to each key.
pub trait KeyHistories: Send + Sync {
    /// What happened to the key of this project, the newest first.
    fn of<'a>(&'a self, project: &'a str, key: &'a str) -> BoxFuture<'a, KeyHistory>;
}

/// The state at one moment.
#[derive(Clone, Default)]
pub(super) struct Current {
    pub(super) snapshot: Snapshot,
    /// The series of the last run's keys.
    pub(super) series: Option<Arc<RunSeries>>,
    /// Which keys of the next run have series.
    per_key: PerKey,
    /// The text of the policy of the next run, where it is kept.
    policy_text: Option<Arc<str>>,
}

/// The series of one run's keys; compressed at the first request for that form.
pub(super) struct RunSeries {
    report: Arc<Report>,
    per_key: PerKey,
    archive: OnceCell<Archive>,
}

impl RunSeries {
    /// The series as text.
    pub(super) fn plain(&self) -> KeySeries {
        KeySeries::new(Arc::clone(&self.report), self.per_key)
    }

    /// The compressed series.
    pub(super) async fn archive(&self) -> io::Result<&Archive> {
        self.archive.get_or_try_init(|| Archive::of(self.plain())).await
    }
}

impl StatusStore {
    /// No policy is loaded yet, and no run has ended.
    ///
    /// # Errors
    /// Two metrics contradict each other, which no user can cause.
    pub fn new() -> Result<Self, MetricsError> {
        Self::of(false)
    }

    /// The same for a daemon with a simulated cloud, which everything that is shown says.
    ///
    /// # Errors
    /// As of [`StatusStore::new`].
    pub fn simulated() -> Result<Self, MetricsError> {
        Self::of(true)
    }

    fn of(simulated: bool) -> Result<Self, MetricsError> {
        Ok(Self {
            metrics: Metrics::new(simulated)?,
            current: watch::Sender::default(),
            gate: WriteGate::default(),
            progress: Arc::default(),
            histories: OnceLock::new(),
            simulated,
        })
    }

    /// The same store, which also shows whether this gate lets the process write.
    #[must_use]
    pub fn behind(self, gate: WriteGate) -> Self {
        Self { gate, ..self }
    }

    /// How far the run under way is, for the reconciler to write and for this store to show.
    #[must_use]
    pub fn progress(&self) -> Arc<RunProgress> {
        Arc::clone(&self.progress)
    }

    /// How many requests were sent again, in all projects.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.metrics.retries()
    }

    /// The report of the last run.
    #[must_use]
    pub fn report(&self) -> Option<Arc<Report>> {
        self.current.borrow().snapshot.report.clone()
    }

    /// The policy file was read and is valid. Its policy is in force now or after the current run.
    pub fn policy_loaded(&self, at: SystemTime, file: &Path) {
        self.change(|snapshot| {
            snapshot.policy = Some(LoadedPolicy { file: file.into(), at });
            snapshot.reload_error = None;
        });
    }

    /// A policy with these projects and this text came into force. Counters of new projects begin at 0; counters of
    /// removed projects are removed. The loaded file stays: a newer one may have been loaded meanwhile.
    pub fn policy_in_force<'a>(
        &self,
        projects: impl IntoIterator<Item = &'a Arc<str>>,
        per_key: PerKey,
        text: Option<Arc<str>>,
    ) {
        self.metrics.set_projects(projects);
        self.current.send_modify(|current| {
            current.per_key = per_key;
            // The lines of a report are those of the policy that its run followed.
            if current.snapshot.report.is_none() {
                current.snapshot.policy_text.clone_from(&text);
            }
            current.policy_text = text;
        });
    }

    /// The policy file was read again and refused; the old policy stays. `message` is for people, `problems` for
    /// programs.
    pub fn reload_failed(&self, message: String, problems: Value) {
        self.change(|snapshot| snapshot.reload_error = Some(Arc::new(ReloadError { message, problems })));
    }

    /// The state of the evidence log; none if the policy has none.
    pub fn evidence(&self, status: Option<EvidenceStatus>) {
        self.change(|snapshot| snapshot.evidence = status.map(Arc::new));
    }

    /// When the next run is due; none if no run is due.
    pub fn next_run(&self, at: Option<SystemTime>) {
        self.change(|snapshot| snapshot.next_run = at);
    }

    /// A run ended: it is counted, and its report is shown from now on.
    pub fn publish(&self, report: Arc<Report>) {
        self.metrics.run_ended(report.trigger, report.is_success(), report.took);
        for project in &report.projects {
            self.metrics.calls(&project.name).rotations_observed(project.new_rotations());
        }
        self.current.send_modify(|Current { snapshot, series, per_key, policy_text }| {
            if report.is_success() {
                snapshot.last_success = Some(report.ended);
            }
            snapshot.report = Some(Arc::clone(&report));
            snapshot.policy_text.clone_from(policy_text);
            *series = Some(Arc::new(RunSeries { report, per_key: *per_key, archive: OnceCell::new() }));
        });
    }

    /// The observer that counts the calls of a project of the policy in force.
    #[must_use]
    pub fn observer(&self, project: &Arc<str>) -> Arc<dyn Observer> {
        self.metrics.calls(project)
    }

    /// The state as the page shows it: with the calls of each project, and, before the first run has ended, with the
    /// keys that it has read.
    pub(super) fn for_page(&self) -> Snapshot {
        let mut snapshot = self.current().snapshot;
        if snapshot.report.is_none() {
            snapshot.run = self.progress.run_with_keys();
        }
        snapshot.calls = self.metrics.call_counts();
        snapshot
    }

    /// Whether the last run has this key, or the first one has read it so far.
    pub(super) fn has_key(&self, project: &str, key: &str) -> bool {
        let is_in =
            |of: &ProjectReport| *of.name == *project && of.keys.iter().any(|known| known.subject.as_str() == key);
        match self.report() {
            Some(report) => report.projects.iter().any(is_in),
            None => {
                self.progress.run_with_keys().is_some_and(|run| run.projects.iter().any(|read| is_in(&read.report)))
            }
        }
    }

    /// What happened to a key.
    pub(super) async fn history(&self, project: &str, key: &str) -> KeyHistory {
        match self.histories.get() {
            Some(histories) => histories.of(project, key).await,
            None => KeyHistory::default(),
        }
    }

    /// Sets where the histories of keys are from. Only the first call counts.
    pub fn show_histories(&self, histories: Arc<dyn KeyHistories>) {
        let _ = self.histories.set(histories);
    }

    /// The status line for the service manager.
    #[must_use]
    pub fn line(&self) -> String {
        let Current { snapshot, .. } = self.current();
        let report = snapshot.report.as_ref();
        let tally = report.map(|report| report.tally());
        let standby = report.is_some_and(|report| report.standby);
        wording::daemon_line(tally.as_ref(), standby, &snapshot).to_string()
    }

    pub(super) fn current(&self) -> Current {
        let mut current = self.current.borrow().clone();
        current.snapshot.acting = self.gate.is_open();
        current.snapshot.simulated = self.simulated;
        current.snapshot.run = self.progress.run();
        current
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        self.current.send_modify(|current| change(&mut current.snapshot));
    }

    /// Compresses each new report at once if the last one was requested in that form: a scraper never waits for it, and
    /// without a scraper nothing is compressed. Never ends.
    pub(super) async fn keep_archive_fresh(&self) -> Infallible {
        let mut current = self.current.subscribe();
        let mut latest: Option<Arc<RunSeries>> = None;
        loop {
            let series = current.borrow_and_update().series.clone();
            if let Some(series) = series.filter(|new| latest.as_ref().is_none_or(|latest| !Arc::ptr_eq(latest, new))) {
                let wanted = latest.take().is_some_and(|before| before.archive.initialized());
                if wanted && let Err(error) = series.archive().await {
                    tracing::warn!(%error, "compressing the metrics failed");
                }
                latest = Some(series);
            }
            if current.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::rotation::report::Trigger;

    fn report(interrupted: bool) -> Arc<Report> {
        let ended = UNIX_EPOCH + Duration::from_secs(if interrupted { 20 } else { 10 });
        Arc::new(Report {
            trigger: Trigger::Start,
            started: UNIX_EPOCH,
            ended,
            took: Duration::from_secs(1),
            interrupted,
            standby: false,
            max_changes: 50,
            only: None,
            projects: Vec::new(),
        })
    }

    #[test]
    fn the_last_success_outlives_a_failure() {
        let store = StatusStore::new().unwrap();
        store.publish(report(false));
        store.publish(report(true));
        assert_eq!(store.current().snapshot.last_success, Some(UNIX_EPOCH + Duration::from_secs(10)));
    }

    #[test]
    fn a_refused_reload_keeps_the_policy_and_a_good_one_clears_the_error() {
        let store = StatusStore::new().unwrap();
        store.policy_loaded(UNIX_EPOCH, Path::new("a.yaml"));
        store.reload_failed("bad cron".to_owned(), Value::Null);
        let refused =
            |store: &StatusStore| store.current().snapshot.reload_error.map(|refused| refused.message.clone());
        let snapshot = store.current().snapshot;
        assert_eq!(refused(&store).as_deref(), Some("bad cron"));
        assert_eq!(snapshot.policy.map(|policy| policy.at), Some(UNIX_EPOCH));
        // Of an earlier file, which was valid.
        store.policy_in_force([], PerKey::All, None);
        assert_eq!(refused(&store).as_deref(), Some("bad cron"));
        store.policy_loaded(UNIX_EPOCH + Duration::from_secs(1), Path::new("a.yaml"));
        assert_eq!(refused(&store), None);
    }

    #[test]
    fn the_text_of_a_policy_is_shown_with_the_lines_of_its_own_run() {
        let store = StatusStore::new().unwrap();
        let text = || store.current().snapshot.policy_text.map(|text| text.to_string());
        store.policy_in_force([], PerKey::All, Some("first".into()));
        assert_eq!(text().as_deref(), Some("first"), "for the keys that the first run has read");
        store.publish(report(false));
        store.policy_in_force([], PerKey::All, Some("second".into()));
        assert_eq!(text().as_deref(), Some("first"));
        store.publish(report(false));
        assert_eq!(text().as_deref(), Some("second"));
    }

    #[tokio::test]
    async fn a_report_is_compressed_ahead_only_when_the_one_before_was_asked_for() {
        let store = Arc::new(StatusStore::new().unwrap());
        let keeper = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.keep_archive_fresh().await }
        });
        let yield_often = async || {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        let is_compressed = || store.current().series.is_some_and(|series| series.archive.initialized());

        store.publish(report(false));
        yield_often().await;
        assert!(!is_compressed(), "not requested yet");
        store.current().series.unwrap().archive().await.unwrap();
        store.publish(report(false));
        yield_often().await;
        assert!(is_compressed(), "the reader will be back");
        keeper.abort();
    }
}
