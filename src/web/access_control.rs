//! Who may use the HTTP server: TLS and logins from the web configuration file, as it is now.
//!
//! The file and the files that it names are checked with every connection and every request, which costs a few `stat`
//! calls, and are read again when the content of one has changed. So a renewed certificate is in use from the next
//! connection on, without a signal. A configuration that cannot be used is logged once and changes nothing.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::login::{self, Checks, Logins};
use super::tls::{self, TlsError};
use crate::support::error_chain::ErrorChain;
use crate::support::file_stamp::LastRead;
use crate::support::{shortage, small_file};
use crate::web::config::{self, WebConfig};
use crate::yaml::Problems;

/// Why a web configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The file cannot be read.
    #[error("read web configuration {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// Its content is not valid.
    #[error("{0}")]
    Invalid(Problems),
    /// The certificates that it names cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token cannot be read.
    #[error("read bearer token file {}", .0.display())]
    Token(PathBuf, #[source] io::Error),
    /// The token's file does not hold one token.
    #[error("bearer token file {} is empty or has more than one line", .0.display())]
    NoToken(PathBuf),
    /// The system has no randomness.
    #[error("cannot get random numbers from the system")]
    NoRandomness,
}

/// The web configuration file, read again when it changes.
pub struct WebFile {
    path: PathBuf,
    environment: fn(&str) -> Option<String>,
    checks: Checks,
    state: Mutex<State>,
}

struct State {
    access_control: Arc<AccessControl>,
    seen: Vec<SeenFile>,
}

/// The TLS and the logins of a connection.
pub(super) struct AccessControl {
    /// None for plain HTTP.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) logins: Logins,
    /// Cancelled when another one is in force: connections that this one admitted then end after the response in
    /// flight, since their clients might not be admitted any more.
    pub(super) retired: CancellationToken,
}

impl AccessControl {
    /// Plain HTTP without a login.
    pub(super) fn open() -> Self {
        Self { tls: None, logins: Logins::open(), retired: CancellationToken::new() }
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
        let (seen, access_control) = read(&path, environment, &checks);
        let state = Mutex::new(State { access_control: Arc::new(access_control?), seen });
        Ok(Self { path, environment, checks, state })
    }

    /// Whether the last configuration that could be used has TLS.
    #[must_use]
    pub(crate) fn uses_tls(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).access_control.tls.is_some()
    }

    /// The access control in force, after reading the file again if it has changed.
    pub(super) fn access_control(&self) -> Arc<AccessControl> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.seen.iter_mut().all(SeenFile::is_unchanged) {
            return Arc::clone(&state.access_control);
        }
        let (seen, access_control) = read(&self.path, self.environment, &self.checks);
        state.seen = seen;
        match access_control {
            Ok(access_control) => {
                info!(file = %self.path.display(), "web configuration reloaded");
                state.access_control.retired.cancel();
                state.access_control = Arc::new(access_control);
            }
            Err(refused) => {
                for problem in ErrorChain(&refused).to_string().lines() {
                    error!(problem, "web configuration reload failed; still using the previous one");
                }
            }
        }
        Arc::clone(&state.access_control)
    }
}

/// A file that the access control was made from.
struct SeenFile {
    path: PathBuf,
    last_read: LastRead,
}

impl SeenFile {
    /// The file as it is now, and its content.
    fn read(path: &Path) -> (Self, io::Result<Zeroizing<Vec<u8>>>) {
        let (last_read, content) = LastRead::of(path, small_file::read);
        (Self { path: path.to_owned(), last_read }, content)
    }

    fn is_unchanged(&mut self) -> bool {
        if self.last_read.is_current(&self.path) {
            return true;
        }
        let (now, content) = Self::read(&self.path);
        // A shortage on this machine is no change of the file.
        if content.is_err_and(|error| shortage::of(&error).is_some()) {
            return true;
        }
        let is_same = self.last_read.is_same(&now.last_read);
        if is_same {
            *self = now;
        }
        is_same
    }
}

/// Whether the file is world-readable.
fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

/// Reads the file, and the files that it names. Each is seen before its content is used, so that a change between the
/// two is detected the next time.
fn read(
    path: &Path,
    environment: fn(&str) -> Option<String>,
    checks: &Checks,
) -> (Vec<SeenFile>, Result<AccessControl, WebError>) {
    let (file, content) = SeenFile::read(path);
    let mut seen = vec![file];
    let content = content.map_err(|error| WebError::Read(path.to_owned(), error));
    let access_control = content.and_then(|content| config(&content, path, environment)).and_then(|config| {
        seen.extend(config.files().map(|file| SeenFile::read(file).0));
        config.secret_files().filter(|file| is_exposed(file)).for_each(|file| {
            warn!(file = %file.display(), "secret file is world-readable; run: chmod o-r FILE");
        });
        access_control(config, checks)
    });
    (seen, access_control)
}

fn config(content: &[u8], path: &Path, environment: fn(&str) -> Option<String>) -> Result<WebConfig, WebError> {
    let (config, warnings) = config::read(content, path, environment).map_err(WebError::Invalid)?;
    for warning in warnings.render_plain().lines() {
        warn!(problem = warning, "web configuration warning");
    }
    Ok(config)
}

fn access_control(config: WebConfig, checks: &Checks) -> Result<AccessControl, WebError> {
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
            Some(Zeroizing::new(token.to_vec()))
        }
        None => None,
    };
    let token = token.as_ref().map(|token| token.as_slice());
    let logins = Logins::new(config.users, token, Arc::clone(checks)).ok_or(WebError::NoRandomness)?;
    Ok(AccessControl { tls, logins, retired: CancellationToken::new() })
}
