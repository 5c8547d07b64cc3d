//! The life of the process: signals, and what systemd is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::observability::Health;

/// What signals ask of the process.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// SIGTERM or SIGINT came: finish the calls in flight and end.
    pub stop: CancellationToken,
    /// A second one came: end at once.
    pub end_now: CancellationToken,
    /// SIGHUP came.
    pub hang_up: Arc<Notify>,
}

impl Signals {
    /// Listens to the process's signals for as long as the runtime lives.
    ///
    /// # Errors
    ///
    /// The system lets no handler be installed.
    pub fn listen() -> std::io::Result<Self> {
        Self::listen_to(Some(signal(SignalKind::hangup())?))
    }

    /// The same, but a SIGHUP that was ignored when the process began stays ignored: under `nohup` a command is to
    /// outlive whoever started it.
    ///
    /// # Errors
    ///
    /// The system lets no handler be installed.
    pub fn listen_unless_ignored() -> std::io::Result<Self> {
        Self::listen_to(if is_hang_up_ignored() { None } else { Some(signal(SignalKind::hangup())?) })
    }

    fn listen_to(mut hup: Option<Signal>) -> std::io::Result<Self> {
        let signals = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let heard = signals.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                    () = next(&mut hup) => {
                        heard.hang_up.notify_one();
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

/// Waits for the signal, for ever where it is not listened to.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP is ignored, by the mask of `proc_pid_status(5)`: to ask `sigaction(2)` takes unsafe code.
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // The lowest bit is of signal 1.
    mask.is_some_and(|mask| mask >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1)
}

/// Tells the outside how the daemon is: `/healthz`, and systemd where there is one.
#[derive(Clone)]
pub struct Supervisor {
    health: Health,
    watchdog: Option<Duration>,
    last_ping: Arc<Mutex<Option<Instant>>>,
    last_line: Arc<Mutex<String>>,
}

impl Supervisor {
    /// Reads from the environment what systemd wants to hear.
    #[must_use]
    pub fn from_environment(health: Health) -> Self {
        Self { health, watchdog: sd_notify::watchdog_enabled(), last_ping: Arc::default(), last_line: Arc::default() }
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

    /// The line that `systemctl status` shows. It is sent when it differs from the one before.
    pub fn status(&self, line: String) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != line {
            notify(&[NotifyState::Status(&line)]);
            *last = line;
        }
    }

    /// The longest the loop may go without a sign of life.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        /// Well below what `/healthz` tolerates.
        const LONGEST: Duration = Duration::from_secs(30);
        self.watchdog.map_or(LONGEST, |within| (within / 3).min(LONGEST))
    }

    /// The loop is alive.
    pub fn beat(&self) {
        self.health.beat();
        let Some(within) = self.watchdog else { return };
        let mut last = self.last_ping.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= within / 4) {
            *last = Some(Instant::now());
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(error = %error, "cannot tell systemd");
    }
}
