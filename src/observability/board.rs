//! What the daemon's loop tells and the server shows: one board between the two.
//!
//! The loop is the only writer. Readers take all facts in one step, so that they never see a new run with an old
//! policy. Nothing here renders anything but the one line that a service manager is told.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use super::gzip::Archive;
use super::key_series::KeySeries;
use super::metrics::{Metrics, MetricsError};
use super::words;
use crate::kms::observe::Observer;
use crate::rotation::report::Report;
use crate::support::write_gate::Gate;

/// What is known to the outside.
pub struct Board {
    pub(super) metrics: Metrics,
    facts: watch::Sender<Facts>,
    gate: Gate,
}

/// All that changes, as of one moment.
#[derive(Clone, Default)]
pub(super) struct Facts {
    /// Of several replicas this is the one that acts.
    pub(super) acting: bool,
    pub(super) policy: Option<LoadedPolicy>,
    /// Why the file as it is now was refused.
    pub(super) reload_error: Option<Arc<ReloadError>>,
    pub(super) next_run: Option<SystemTime>,
    pub(super) last_success: Option<SystemTime>,
    pub(super) run: Option<Arc<Run>>,
}

/// The last policy that was read and is valid.
#[derive(Clone)]
pub(super) struct LoadedPolicy {
    pub(super) file: Arc<Path>,
    pub(super) at: SystemTime,
}

/// Why the policy file was refused: for people, and as a list for programs.
pub(super) struct ReloadError {
    pub(super) message: String,
    pub(super) problems: Value,
}

/// The last run, and its series in compressed form once somebody asked for them.
pub(super) struct Run {
    pub(super) report: Arc<Report>,
    archive: OnceCell<Archive>,
}

impl Run {
    /// The series of the run's keys, compressed by the first who asks.
    pub(super) async fn archive(&self) -> io::Result<&Archive> {
        self.archive.get_or_try_init(|| Archive::of(KeySeries::new(Arc::clone(&self.report)))).await
    }
}

impl Board {
    /// A board that knows of no policy and no run.
    ///
    /// # Errors
    /// None that a user can cause: the definitions of the metrics contradict each other.
    pub fn new() -> Result<Self, MetricsError> {
        Ok(Self { metrics: Metrics::new()?, facts: watch::Sender::default(), gate: Gate::default() })
    }

    /// The same, showing whether this process may write by this gate.
    #[must_use]
    pub fn behind(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// The policy file was read and is valid: its policy is in force, or will be after the run that is under way.
    pub fn policy_loaded(&self, at: SystemTime, file: &Path) {
        self.facts.send_modify(|facts| {
            facts.policy = Some(LoadedPolicy { file: file.into(), at });
            facts.reload_error = None;
        });
    }

    /// A policy of these projects came into force. Counters of those that it names first begin at 0, those of projects
    /// that it does not name any more are gone. Of the file it tells nothing: that may have become another since.
    pub fn policy_in_force<'a>(&self, projects: impl IntoIterator<Item = &'a Arc<str>>) {
        self.metrics.set_projects(projects);
    }

    /// The policy file was read again and refused; what was loaded before stays. The message is for people, the list of
    /// problems for programs.
    pub fn reload_failed(&self, message: String, problems: Value) {
        self.facts.send_modify(|facts| facts.reload_error = Some(Arc::new(ReloadError { message, problems })));
    }

    /// When the next run is due; nothing where none is.
    pub fn next_run(&self, at: Option<SystemTime>) {
        self.facts.send_modify(|facts| facts.next_run = at);
    }

    /// A run ended: it is counted, and its report is what is shown from now on.
    pub fn publish(&self, report: Arc<Report>) {
        self.metrics.run_ended(report.trigger, report.is_success(), report.took);
        self.facts.send_modify(|facts| {
            if report.is_success() {
                facts.last_success = Some(report.ended);
            }
            facts.run = Some(Arc::new(Run { report, archive: OnceCell::new() }));
        });
    }

    /// Who listens to the calls of a project of the policy that is in force.
    #[must_use]
    pub fn observer(&self, project: &Arc<str>) -> Arc<dyn Observer> {
        self.metrics.calls(project)
    }

    /// What a service manager shows in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let facts = self.facts.borrow();
        let tally = facts.run.as_ref().map(|run| run.report.tally());
        let line = words::daemon_line(tally.as_ref(), facts.next_run, facts.reload_error.is_some());
        let standing_by = facts.run.as_ref().is_some_and(|run| run.report.standby);
        if standing_by { format!("standing by; {line}") } else { line.to_string() }
    }

    pub(super) fn facts(&self) -> Facts {
        Facts { acting: self.gate.is_open(), ..self.facts.borrow().clone() }
    }

    /// Compresses each new report as soon as it is there, if the one before was asked for in that form: whoever
    /// scrapes at an interval never waits for it, and where nobody does nothing is compressed. Never ends.
    pub(super) async fn keep_archive_fresh(&self) -> Infallible {
        let mut facts = self.facts.subscribe();
        let mut latest: Option<Arc<Run>> = None;
        loop {
            let run = facts.borrow_and_update().run.clone();
            if let Some(run) = run.filter(|run| latest.as_ref().is_none_or(|latest| !Arc::ptr_eq(latest, run))) {
                let wanted = latest.take().is_some_and(|before| before.archive.initialized());
                if wanted && let Err(error) = run.archive().await {
                    tracing::warn!(%error, "compressing the metrics failed");
                }
                latest = Some(run);
            }
            if facts.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// A sign of life from the daemon's loop, which `/healthz` passes on.
#[derive(Clone)]
pub struct Health {
    last_beat: Arc<Mutex<Instant>>,
    bound: Duration,
}

impl Health {
    /// A loop that is alive now and counts as dead when it gives no sign for longer than `bound`.
    #[must_use]
    pub fn new(bound: Duration) -> Self {
        Self { last_beat: Arc::new(Mutex::new(Instant::now())), bound }
    }

    /// The loop is alive. It says so while it waits too, several times within the bound.
    pub fn beat(&self) {
        *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long the loop has been silent, where that is longer than the bound.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        let silence = self.last_beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        (silence > self.bound).then_some(silence)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

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
            projects: Vec::new(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_loop_is_noticed_and_a_beat_revives_it() {
        let health = Health::new(Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(health.silence(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.silence(), Some(Duration::from_secs(61)));
        health.clone().beat();
        assert_eq!(health.silence(), None);
    }

    #[test]
    fn the_last_success_outlives_a_failure() {
        let board = Board::new().unwrap();
        board.publish(report(false));
        board.publish(report(true));
        assert_eq!(board.facts().last_success, Some(UNIX_EPOCH + Duration::from_secs(10)));
    }

    #[test]
    fn a_refused_reload_keeps_the_policy_and_a_good_one_clears_the_error() {
        let board = Board::new().unwrap();
        board.policy_loaded(UNIX_EPOCH, Path::new("a.yaml"));
        board.reload_failed("bad cron".to_owned(), Value::Null);
        let refused = |board: &Board| board.facts().reload_error.map(|refused| refused.message.clone());
        let facts = board.facts();
        assert_eq!(refused(&board).as_deref(), Some("bad cron"));
        assert_eq!(facts.policy.map(|policy| policy.at), Some(UNIX_EPOCH));
        // Of an earlier file, which was valid.
        board.policy_in_force([]);
        assert_eq!(refused(&board).as_deref(), Some("bad cron"));
        board.policy_loaded(UNIX_EPOCH + Duration::from_secs(1), Path::new("a.yaml"));
        assert_eq!(refused(&board), None);
    }

    #[tokio::test]
    async fn a_report_is_compressed_ahead_only_when_the_one_before_was_asked_for() {
        let board = Arc::new(Board::new().unwrap());
        let keeper = tokio::spawn({
            let board = Arc::clone(&board);
            async move { board.keep_archive_fresh().await }
        });
        let settle = async || {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        let is_compressed = || board.facts().run.is_some_and(|run| run.archive.initialized());

        board.publish(report(false));
        settle().await;
        assert!(!is_compressed(), "nobody asked yet");
        board.facts().run.unwrap().archive().await.unwrap();
        board.publish(report(false));
        settle().await;
        assert!(is_compressed(), "the reader will be back");
        keeper.abort();
    }
}
