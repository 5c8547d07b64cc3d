//! The life of the process: signals, and notifications to the service manager.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::web::Health;

/// A signal that follows the first one sooner belongs to the same request: `timeout` and service managers signal the
/// process and its group, or send one signal after the other.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// The requests that signals have made.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// SIGTERM or SIGINT: finish the requests in flight and exit.
    pub stop: CancellationToken,
    /// A further one, a second or more later: exit immediately.
    pub exit_now: CancellationToken,
    /// SIGHUP.
    pub hang_up: Arc<Notify>,
}

/// What SIGHUP means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HangUp {
    /// Reload the policy.
    Reload,
    /// The terminal is closed: exit as on the first SIGTERM.
    Stop,
}

impl Signals {
    /// Installs the handlers of a daemon: SIGHUP reloads the policy.
    ///
    /// # Errors
    ///
    /// A handler cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Self::listen_to(Some(signal(SignalKind::hangup())?), HangUp::Reload)
    }

    /// Installs the handlers of a command: SIGHUP stops it, unless it was ignored at the start: under `nohup` a command
    /// outlives its terminal.
    ///
    /// # Errors
    ///
    /// A handler cannot be installed.
    pub(crate) fn listen_unless_ignored() -> std::io::Result<Self> {
        let hang_up = if is_hang_up_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Self::listen_to(hang_up, HangUp::Stop)
    }

    fn listen_to(mut hang_up: Option<Signal>, on_hang_up: HangUp) -> std::io::Result<Self> {
        let signals = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let requests = signals.clone();
        tokio::spawn(async move {
            let mut first = None;
            loop {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                    () = next(&mut hang_up) => "SIGHUP",
                };
                match action(name, on_hang_up, first, Instant::now()) {
                    SignalAction::Reload => requests.hang_up.notify_one(),
                    SignalAction::Stop => {
                        first = Some(Instant::now());
                        info!(signal = name, "shutting down; waiting for requests in flight");
                        requests.stop.cancel();
                    }
                    SignalAction::Ignore => debug!(signal = name, "already shutting down"),
                    SignalAction::ExitNow => {
                        warn!(signal = name, "exiting immediately");
                        requests.exit_now.cancel();
                        return;
                    }
                }
            }
        });
        Ok(signals)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignalAction {
    Reload,
    Stop,
    Ignore,
    ExitNow,
}

/// The action for a signal at `now`, if the first request to stop was at `first`.
fn action(name: &str, on_hang_up: HangUp, first: Option<Instant>, now: Instant) -> SignalAction {
    let is_hang_up = name == "SIGHUP";
    match first {
        _ if is_hang_up && on_hang_up == HangUp::Reload => SignalAction::Reload,
        None => SignalAction::Stop,
        Some(first) if is_hang_up || now.duration_since(first) < REPEAT_AFTER => SignalAction::Ignore,
        Some(_) => SignalAction::ExitNow,
    }
}

/// Waits for the signal; never ends if it has no handler.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP is ignored, from the mask of `proc_pid_status(5)`: `sigaction(2)` needs unsafe code.
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // Bit 0 is signal 1.
    mask.is_some_and(|mask| mask >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1)
}

/// Reports the daemon's state to `/healthz` and to the service manager, if there is one.
#[derive(Clone)]
pub struct Supervisor {
    health: Health,
    manager: Arc<Manager>,
    watchdog: Option<Duration>,
    last_ping: Arc<Mutex<Option<Instant>>>,
    last_line: Arc<Mutex<String>>,
}

impl Supervisor {
    /// Reads the service manager's settings from the environment.
    #[must_use]
    pub fn from_environment(health: Health) -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty());
        Self {
            health,
            manager: Arc::new(Manager { socket, failing: AtomicBool::new(false) }),
            watchdog: sd_notify::watchdog_enabled(),
            last_ping: Arc::default(),
            last_line: Arc::default(),
        }
    }

    /// Reports that the policy is in force and the loop runs.
    pub fn ready(&self) {
        self.manager.notify(&[NotifyState::Ready]);
    }

    /// Reports that the policy is being reloaded.
    pub(crate) fn reloading(&self) {
        // systemd 253 and later kill a unit that reloads without a timestamp.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.manager.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// Reports that the process is shutting down.
    pub(crate) fn stopping(&self) {
        self.manager.notify(&[NotifyState::Stopping]);
    }

    /// Sets the line that `systemctl status` shows. It is sent only if it has changed.
    pub fn status(&self, line: String) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != line {
            self.manager.notify(&[NotifyState::Status(&line)]);
            *last = line;
        }
    }

    /// The longest time between two heartbeats of the loop.
    #[must_use]
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        /// Well below the limit of `/healthz`.
        const MAX: Duration = Duration::from_secs(30);
        self.watchdog.map_or(MAX, |timeout| (timeout / 3).min(MAX))
    }

    /// Reports that the loop is alive.
    pub fn beat(&self) {
        self.health.beat();
        let Some(timeout) = self.watchdog else { return };
        let mut last = self.last_ping.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= timeout / 4) {
            *last = Some(Instant::now());
            self.manager.notify(&[NotifyState::Watchdog]);
        }
    }
}

/// The service manager, if there is one (`sd_notify(3)`). The crate does not support sockets without a path.
struct Manager {
    socket: Option<OsString>,
    /// The last notification failed, and the failure is logged.
    failing: AtomicBool,
}

impl Manager {
    fn notify(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        match send(socket, states) {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    let socket = socket.display();
                    warn!(%socket, %error, "cannot notify the service manager; logged once until it succeeds");
                }
            }
        }
    }
}

/// Sends one datagram with one line for each state.
fn send(socket: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // The kernel's abstract namespace: the first byte is sent as NUL.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is neither a path nor @NAME")),
    };
    let mut message = String::new();
    for state in states {
        // Writing to a `String` does not fail.
        let _ = writeln!(message, "{state}");
    }
    // A datagram is sent whole or not.
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_signal_counts_only_after_a_second_and_a_hang_up_never() {
        let first = Instant::now();
        let after = |millis, name, hang_up| action(name, hang_up, Some(first), first + Duration::from_millis(millis));
        for hang_up in [HangUp::Reload, HangUp::Stop] {
            for name in ["SIGTERM", "SIGINT"] {
                assert_eq!(action(name, hang_up, None, first), SignalAction::Stop);
                assert_eq!(after(0, name, hang_up), SignalAction::Ignore);
                assert_eq!(after(999, name, hang_up), SignalAction::Ignore);
                assert_eq!(after(1000, name, hang_up), SignalAction::ExitNow);
                assert_eq!(after(60_000, name, hang_up), SignalAction::ExitNow);
            }
        }
        assert_eq!(action("SIGHUP", HangUp::Stop, None, first), SignalAction::Stop);
        assert_eq!(action("SIGHUP", HangUp::Reload, None, first), SignalAction::Reload);
        for millis in [0, 60_000] {
            assert_eq!(after(millis, "SIGHUP", HangUp::Stop), SignalAction::Ignore);
            assert_eq!(after(millis, "SIGHUP", HangUp::Reload), SignalAction::Reload);
        }
    }
}
