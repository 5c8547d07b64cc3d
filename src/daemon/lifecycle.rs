//! The life of the process: signals, and what systemd is told.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::kms::observe::{Code, Observer, Operation};
use crate::observability::Health;

/// What signals ask of the process.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// SIGTERM or SIGINT came: finish the calls in flight and end.
    pub stop: CancellationToken,
    /// A second one came: end at once.
    pub end_now: CancellationToken,
    /// SIGHUP came: read the policy again and run.
    pub reload: Arc<Notify>,
}

impl Signals {
    /// Listens to the process's signals for as long as the runtime lives.
    ///
    /// # Errors
    ///
    /// The system lets no handler be installed.
    pub fn listen() -> std::io::Result<Self> {
        let signals = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hup = signal(SignalKind::hangup())?;
        let heard = signals.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                    _ = hup.recv() => {
                        heard.reload.notify_one();
                        continue;
                    }
                };
                if heard.stop.is_cancelled() {
                    warn!(signal = name, "ending at once");
                    heard.end_now.cancel();
                    return;
                }
                info!(signal = name, "stopping after the calls in flight");
                heard.stop.cancel();
            }
        });
        Ok(signals)
    }
}

/// Tells systemd how the service is. Without systemd, tells nobody.
#[derive(Debug)]
pub struct Supervisor {
    watchdog: Option<Duration>,
    last_ping: Option<Instant>,
}

impl Supervisor {
    /// Reads from the environment what systemd wants to hear.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), last_ping: None }
    }

    /// The policy is in force and the loop runs.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// The policy is being read again.
    pub fn reloading(&self) {
        // systemd 253 and later kill a unit that reloads without telling the time.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
    }

    /// The process ends.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// The line that `systemctl status` shows.
    pub fn status(&self, line: &str) {
        notify(&[NotifyState::Status(line)]);
    }

    /// The longest the loop may sleep without missing a watchdog ping.
    #[must_use]
    pub fn longest_sleep(&self) -> Option<Duration> {
        self.watchdog.map(|within| within / 3)
    }

    /// The loop or a run is alive.
    pub fn ping(&mut self) {
        let Some(within) = self.watchdog else { return };
        if self.last_ping.is_none_or(|last| last.elapsed() >= within / 4) {
            self.last_ping = Some(Instant::now());
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(error = %error, "cannot tell systemd");
    }
}

/// A sign of life from the loop and from runs: `/healthz` and systemd's watchdog both hang on it.
#[derive(Clone)]
pub struct Pulse {
    health: Health,
    supervisor: Arc<std::sync::Mutex<Supervisor>>,
}

impl Pulse {
    /// The pulse that these two hang on.
    #[must_use]
    pub fn new(health: Health, supervisor: Supervisor) -> Self {
        Self { health, supervisor: Arc::new(std::sync::Mutex::new(supervisor)) }
    }

    /// Something was done.
    pub fn beat(&self) {
        self.health.beat();
        self.with_supervisor(Supervisor::ping);
    }

    /// Speaks to systemd.
    pub fn with_supervisor<T>(&self, speak: impl FnOnce(&mut Supervisor) -> T) -> T {
        speak(&mut self.supervisor.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// An observer that passes everything on, and takes each attempt for a sign of life.
    #[must_use]
    pub fn listen(&self, inner: Arc<dyn Observer>) -> Arc<dyn Observer> {
        Arc::new(Listening { inner, pulse: self.clone() })
    }
}

struct Listening {
    inner: Arc<dyn Observer>,
    pulse: Pulse,
}

impl Observer for Listening {
    fn request(&self, operation: Operation, code: Code, took: Duration) {
        self.pulse.beat();
        self.inner.request(operation, code, took);
    }

    fn retry(&self, operation: Operation, reason: Code) {
        self.inner.retry(operation, reason);
    }

    fn operation(&self, operation: Operation, succeeded: bool) {
        self.inner.operation(operation, succeeded);
    }

    fn credentials_expire(&self, at: Option<SystemTime>) {
        self.inner.credentials_expire(at);
    }
}
