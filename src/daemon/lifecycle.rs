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

/// A signal that comes sooner after the first one is part of the same request: `timeout` and service managers signal the
/// process and its group, or send one signal after the other.
const SECOND_REQUEST: Duration = Duration::from_secs(1);

/// What signals ask of the process.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// SIGTERM or SIGINT came: finish the calls in flight and end.
    pub stop: CancellationToken,
    /// Another one came, a second or more later: end at once.
    pub end_now: CancellationToken,
    /// SIGHUP came.
    pub hang_up: Arc<Notify>,
}

/// What SIGHUP means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HangUp {
    /// Read the policy again.
    Reload,
    /// The terminal is gone: end as on the first SIGTERM.
    Stop,
}

impl Signals {
    /// Listens to the process's signals for as long as the runtime lives, as a daemon does.
    ///
    /// # Errors
    ///
    /// The system lets no handler be installed.
    pub fn listen() -> std::io::Result<Self> {
        Self::listen_to(Some(signal(SignalKind::hangup())?), HangUp::Reload)
    }

    /// The same as a command does, which SIGHUP stops. One that was ignored when the process began stays ignored: under
    /// `nohup` a command outlives its terminal.
    ///
    /// # Errors
    ///
    /// The system lets no handler be installed.
    pub fn listen_unless_ignored() -> std::io::Result<Self> {
        let hang_up = if is_hang_up_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Self::listen_to(hang_up, HangUp::Stop)
    }

    fn listen_to(mut hup: Option<Signal>, hang_up: HangUp) -> std::io::Result<Self> {
        let signals = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let heard = signals.clone();
        tokio::spawn(async move {
            let mut first = None;
            loop {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                    () = next(&mut hup) => "SIGHUP",
                };
                match meaning(name, hang_up, first, Instant::now()) {
                    Meaning::Reload => heard.hang_up.notify_one(),
                    Meaning::Stop => {
                        first = Some(Instant::now());
                        info!(signal = name, "stopping after the calls in flight");
                        heard.stop.cancel();
                    }
                    Meaning::Nothing => debug!(signal = name, "already stopping"),
                    Meaning::EndNow => {
                        warn!(signal = name, "ending at once");
                        heard.end_now.cancel();
                        return;
                    }
                }
            }
        });
        Ok(signals)
    }
}

/// What follows from a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Reload,
    Stop,
    Nothing,
    EndNow,
}

/// What follows from a signal that comes now, where the first one to stop came at `first`.
fn meaning(name: &str, hang_up: HangUp, first: Option<Instant>, now: Instant) -> Meaning {
    let is_hang_up = name == "SIGHUP";
    match first {
        _ if is_hang_up && hang_up == HangUp::Reload => Meaning::Reload,
        None => Meaning::Stop,
        Some(first) if is_hang_up || now.duration_since(first) < SECOND_REQUEST => Meaning::Nothing,
        Some(_) => Meaning::EndNow,
    }
}

/// Waits for the signal; never ends where it is not listened to.
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

/// Tells the outside how the daemon is: `/healthz`, and the service manager where there is one.
#[derive(Clone)]
pub struct Supervisor {
    health: Health,
    manager: Arc<Manager>,
    watchdog: Option<Duration>,
    last_ping: Arc<Mutex<Option<Instant>>>,
    last_line: Arc<Mutex<String>>,
}

impl Supervisor {
    /// Reads from the environment what the service manager expects.
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

    /// The policy is in force and the loop runs.
    pub fn ready(&self) {
        self.manager.notify(&[NotifyState::Ready]);
    }

    /// The policy is being read again.
    pub fn reloading(&self) {
        // systemd 253 and later kill a unit that reloads without telling the time.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.manager.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// The process ends.
    pub fn stopping(&self) {
        self.manager.notify(&[NotifyState::Stopping]);
    }

    /// The line that `systemctl status` shows. It is sent when it differs from the one before.
    pub fn status(&self, line: String) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != line {
            self.manager.notify(&[NotifyState::Status(&line)]);
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
            self.manager.notify(&[NotifyState::Watchdog]);
        }
    }
}

/// The service manager, if there is one (`sd_notify(3)`). The crate does not know sockets without a path.
struct Manager {
    socket: Option<OsString>,
    /// The last notification failed, and that is logged.
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
                    warn!(%socket, %error, "cannot notify the service manager; this is logged once until it works");
                }
            }
        }
    }
}

/// Sends one datagram with a line for each of these.
fn send(socket: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // The kernel's abstract namespace: the first byte stands for a NUL.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is neither a path nor @NAME")),
    };
    let mut message = String::new();
    for state in states {
        // Writing to a `String` does not fail.
        let _ = writeln!(message, "{state}");
    }
    // A datagram goes whole or not at all.
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_counts_after_a_second_and_a_hang_up_never_does() {
        let first = Instant::now();
        let after = |millis, name, hang_up| meaning(name, hang_up, Some(first), first + Duration::from_millis(millis));
        for hang_up in [HangUp::Reload, HangUp::Stop] {
            for name in ["SIGTERM", "SIGINT"] {
                assert_eq!(meaning(name, hang_up, None, first), Meaning::Stop);
                assert_eq!(after(0, name, hang_up), Meaning::Nothing);
                assert_eq!(after(999, name, hang_up), Meaning::Nothing);
                assert_eq!(after(1000, name, hang_up), Meaning::EndNow);
                assert_eq!(after(60_000, name, hang_up), Meaning::EndNow);
            }
        }
        assert_eq!(meaning("SIGHUP", HangUp::Stop, None, first), Meaning::Stop);
        assert_eq!(meaning("SIGHUP", HangUp::Reload, None, first), Meaning::Reload);
        for millis in [0, 60_000] {
            assert_eq!(after(millis, "SIGHUP", HangUp::Stop), Meaning::Nothing);
            assert_eq!(after(millis, "SIGHUP", HangUp::Reload), Meaning::Reload);
        }
    }
}
