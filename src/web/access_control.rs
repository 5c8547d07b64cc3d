//! The entrance of the HTTP server: TLS and logins as the web configuration file says, and as it says now.
//!
//! The file and those that it names are looked at with every connection and every request, which costs a handful of
//! `stat` calls, and read again when one is another than before. So a renewed certificate is in use from the next
//! connection on, without a signal. What cannot be used is told once and changes nothing.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::login::{self, Access, Checks};
use super::tls::{self, TlsError};
use crate::support::error_chain::ErrorChain;
use crate::support::small_file;
use crate::web::config::{self, WebConfig};
use crate::yaml::problem::Problems;

/// Why a web configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The file cannot be read.
    #[error("read web configuration {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It does not say what it should.
    #[error("{0}")]
    Invalid(Problems),
    /// The files that it names make no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token cannot be read.
    #[error("read bearer token file {}", .0.display())]
    Token(PathBuf, #[source] std::io::Error),
    /// There is no token in its file.
    #[error("bearer token file {} is empty or has more than one line", .0.display())]
    NoToken(PathBuf),
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// The web configuration file, as a thing that changes.
pub struct WebFile {
    path: PathBuf,
    environment: fn(&str) -> Option<String>,
    checks: Checks,
    state: Mutex<State>,
}

struct State {
    entrance: Arc<Entrance>,
    seen: Vec<Seen>,
}

/// What is in force for a connection.
pub(super) struct Entrance {
    /// Where TLS is spoken.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) access: Access,
    /// Another one is in force: connections that came in by this one end after the answer in flight, since those who
    /// made them might not be let in any more.
    pub(super) retired: CancellationToken,
}

impl Entrance {
    /// Plain HTTP for everybody.
    pub(super) fn open() -> Self {
        Self { tls: None, access: Access::open(), retired: CancellationToken::new() }
    }
}

impl WebFile {
    /// Reads the file, whose paths may name variables of this environment.
    ///
    /// # Errors
    ///
    /// It cannot be used.
    pub fn open(path: PathBuf, environment: fn(&str) -> Option<String>) -> Result<Self, WebError> {
        let checks = login::checks();
        let (seen, entrance) = read(&path, environment, &checks);
        let state = Mutex::new(State { entrance: Arc::new(entrance?), seen });
        Ok(Self { path, environment, checks, state })
    }

    /// Whether TLS is spoken, as far as was read.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).entrance.tls.is_some()
    }

    /// What is in force now.
    pub(super) fn entrance(&self) -> Arc<Entrance> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.seen.iter().all(Seen::is_unchanged) {
            return Arc::clone(&state.entrance);
        }
        let (seen, entrance) = read(&self.path, self.environment, &self.checks);
        state.seen = seen;
        match entrance {
            Ok(entrance) => {
                info!(file = %self.path.display(), "the web configuration has changed and is in force");
                state.entrance.retired.cancel();
                state.entrance = Arc::new(entrance);
            }
            Err(refused) => {
                for problem in ErrorChain(&refused).to_string().lines() {
                    error!(problem, "web configuration refused; the one before stays in force");
                }
            }
        }
        Arc::clone(&state.entrance)
    }
}

/// A file, and what told it from others when it was looked at; nothing where it was not there.
struct Seen {
    path: PathBuf,
    stamp: Option<FileStamp>,
}

/// Device and file, size, and when its content or anything about it was changed.
type FileStamp = (u64, u64, u64, [i64; 4]);

impl Seen {
    fn now(path: &Path) -> Self {
        Self { path: path.to_owned(), stamp: stamp(path) }
    }

    fn is_unchanged(&self) -> bool {
        stamp(&self.path) == self.stamp
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let stamp = |file: Metadata| {
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        (file.dev(), file.ino(), file.size(), times)
    };
    std::fs::metadata(path).ok().map(stamp)
}

/// Whether everybody on this machine may read it.
fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o004 != 0)
}

/// What the file says, and which files were looked at for it. Each is stamped before it is read, so that a change
/// between the two is seen the next time.
fn read(
    path: &Path,
    environment: fn(&str) -> Option<String>,
    checks: &Checks,
) -> (Vec<Seen>, Result<Entrance, WebError>) {
    let mut seen = vec![Seen::now(path)];
    let entrance = config(path, environment).and_then(|config| {
        seen.extend(config.files().map(Seen::now));
        config.secret_files().filter(|file| is_exposed(file)).for_each(|file| {
            warn!(file = %file.display(), "everybody on this machine may read this secret; take the right away: chmod o-r");
        });
        enter(config, checks)
    });
    (seen, entrance)
}

fn config(path: &Path, environment: fn(&str) -> Option<String>) -> Result<WebConfig, WebError> {
    let bytes = small_file::read(path).map_err(|error| WebError::Read(path.to_owned(), error))?;
    let (config, warnings) = config::read(&bytes, path, environment).map_err(WebError::Invalid)?;
    for warning in warnings.render_plain().lines() {
        warn!(problem = warning, "web configuration warning");
    }
    Ok(config)
}

fn enter(config: WebConfig, checks: &Checks) -> Result<Entrance, WebError> {
    let tls = match &config.tls {
        Some(tls) => Some(TlsAcceptor::from(Arc::new(tls::server(tls)?))),
        None => None,
    };
    let token = match config.bearer_token_file {
        Some(path) => {
            let bytes = small_file::read(&path).map_err(|error| WebError::Token(path.clone(), error))?;
            let token = bytes.trim_ascii();
            if token.is_empty() || token.iter().any(u8::is_ascii_control) {
                return Err(WebError::NoToken(path));
            }
            Some(zeroize::Zeroizing::new(token.to_vec()))
        }
        None => None,
    };
    let token = token.as_ref().map(|token| token.as_slice());
    let access = Access::new(config.users, token, Arc::clone(checks)).ok_or(WebError::NoRandomness)?;
    Ok(Entrance { tls, access, retired: CancellationToken::new() })
}
