//! Where a secret is kept, reading it from there, and for how long a refused one is not sent again.
//!
//! Used by logins and by the proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::error::{Error, ErrorKind};
use super::observe::Operation;
use crate::support::{shortage, small_file};

/// How long a refused secret that has not changed is not sent again, since the cloud and some proxies lock an account
/// after a few failures.
const HOLD: Duration = Duration::from_secs(30 * 60);

/// Whether a secret that was refused at this time is not sent again yet. A clock that was set back ends the hold
/// instead of extending it.
pub(super) fn is_on_hold(refused: SystemTime, now: SystemTime) -> bool {
    now.duration_since(refused).is_ok_and(|ago| ago < HOLD)
}

/// Where a secret is kept. Its text is the location, never the secret.
#[derive(Clone)]
pub enum SecretLocation {
    /// A file, read anew at each login, so that a changed secret is used.
    File(PathBuf),
    /// An entry of another program's file, read anew at each login.
    Entry {
        /// Returns the secret, or why it cannot be read: the file, never its content.
        read: Arc<dyn Fn() -> Result<String, Unreadable> + Send + Sync>,
        /// The entry and its file, for people. Entries with the same origin are equal.
        origin: Arc<str>,
    },
    /// The memory of this process.
    Memory {
        secret: Arc<SecretString>,
        /// Where it came from, for people.
        origin: Arc<str>,
    },
}

/// Why a secret, or the file that contains its location, could not be read. Contains nothing of the secret.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Unreadable {
    text: String,
    /// This machine has run out of a resource, so a later attempt may succeed.
    pub is_shortage: bool,
    source: Option<io::Error>,
}

impl Unreadable {
    /// A file that cannot be read.
    #[must_use]
    pub fn file(path: &Path, error: io::Error) -> Self {
        let path = path.display();
        let (text, is_shortage) = match shortage::of(&error) {
            Some(lack) => (format!("cannot read {path}: {lack}"), true),
            None => (format!("cannot read {path}"), false),
        };
        Self { text, is_shortage, source: Some(error) }
    }
}

impl From<String> for Unreadable {
    fn from(text: String) -> Self {
        Self { text, is_shortage: false, source: None }
    }
}

impl From<Unreadable> for Error {
    fn from(Unreadable { text, is_shortage, source }: Unreadable) -> Self {
        let kind = if is_shortage { ErrorKind::Shortage } else { ErrorKind::Credentials };
        Self::new(Operation::Authenticate, kind, text).with_source(source.map(Into::into))
    }
}

impl SecretLocation {
    /// A secret in the memory of this process, and where it came from.
    #[must_use]
    pub fn in_memory(secret: String, origin: &str) -> Self {
        Self::Memory { secret: Arc::new(SecretString::from(secret)), origin: origin.into() }
    }

    /// A secret that is an entry of a file.
    #[must_use]
    pub fn entry(origin: &str, read: impl Fn() -> Result<String, Unreadable> + Send + Sync + 'static) -> Self {
        Self::Entry { read: Arc::new(read), origin: origin.into() }
    }

    /// The secret, without the line break at its end. The error names the file or the variable, never its content.
    pub(super) fn read(&self) -> Result<SecretString, Unreadable> {
        // Wiped on drop, as is the copy without the line break.
        let text = match self {
            Self::File(path) => small_file::read_text(path).map_err(|error| Unreadable::file(path, error))?,
            Self::Entry { read, .. } => Zeroizing::new(read()?),
            Self::Memory { secret, .. } => Zeroizing::new(secret.expose_secret().to_owned()),
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        match fault(secret) {
            Some(fault) => Err(format!("cannot use {self}: {fault}").into()),
            None => Ok(SecretString::from(secret)),
        }
    }

    /// A secret of a kind without blanks, such as a token.
    pub(super) fn read_word(&self, kind: &str) -> Result<SecretString, Unreadable> {
        let secret = self.read()?;
        if secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(secret);
        }
        let text = format!("{self} has no {kind}: expected one line of ASCII characters without blanks");
        Err(text.into())
    }
}

/// What an editor or a mistake has put into a secret that no service accepts. Blanks are allowed, since a password may
/// have one.
fn fault(secret: &str) -> Option<String> {
    if secret.is_empty() {
        return Some("it is empty".to_owned());
    }
    if secret.starts_with('\u{feff}') {
        return Some("it begins with a byte order mark; save it as UTF-8 without one".to_owned());
    }
    let control = u32::from(secret.chars().find(|c| c.is_control())?);
    Some(format!("it has a control character (U+{control:04X}), expected one line of text"))
}

/// Secrets in memory are compared in variable time: both are this process's own.
impl PartialEq for SecretLocation {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Entry { origin: one, .. }, Self::Entry { origin: other, .. }) => one == other,
            (Self::Memory { secret: one, .. }, Self::Memory { secret: other, .. }) => {
                Arc::ptr_eq(one, other) || one.expose_secret() == other.expose_secret()
            }
            _ => false,
        }
    }
}

impl fmt::Debug for SecretLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for SecretLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Memory { origin, .. } | Self::Entry { origin, .. } => f.write_str(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_without_its_line_break_and_is_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "s3cret \r\n").unwrap();
        let source = SecretLocation::File(path.clone());
        assert_eq!(source.read().unwrap().expose_secret(), "s3cret ");
        std::fs::write(&path, "\n").unwrap();
        assert!(source.read().unwrap_err().to_string().ends_with("password: it is empty"));
        let memory = SecretLocation::in_memory("s3cret".to_owned(), "here");
        assert!(!format!("{memory} {memory:?}").contains("s3cret"));
    }

    #[test]
    fn stray_bytes_are_cut_or_refused_in_every_location() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let everywhere = |secret: &str| {
            std::fs::write(&path, secret).unwrap();
            let text = secret.to_owned();
            let entry = SecretLocation::entry("entry", move || Ok(text.clone()));
            [SecretLocation::File(path.clone()), entry, SecretLocation::in_memory(secret.to_owned(), "VARIABLE")]
        };
        for secret in ["s3 cret", "s3 cret\n", "s3 cret\r\n", "s3 cret\n\n"] {
            for source in everywhere(secret) {
                assert_eq!(source.read().unwrap().expose_secret(), "s3 cret", "{source} {secret:?}");
                let error = source.read_word("token").unwrap_err().to_string();
                let expected = format!("{source} has no token: expected one line of ASCII characters without blanks");
                assert!(error.ends_with(&expected), "{error}");
            }
        }
        for (secret, fault) in [
            ("", "it is empty"),
            ("\r\n", "it is empty"),
            ("\u{feff}s3cret", "it begins with a byte order mark; save it as UTF-8 without one"),
            ("s3\0cret", "it has a control character (U+0000), expected one line of text"),
            ("s3\ncret", "it has a control character (U+000A), expected one line of text"),
        ] {
            for source in everywhere(secret) {
                for error in [source.read(), source.read_word("token")].map(Result::unwrap_err) {
                    assert!(error.to_string().ends_with(&format!("cannot use {source}: {fault}")), "{error}");
                }
            }
        }
        for source in everywhere("s3cret\n") {
            assert_eq!(source.read_word("token").unwrap().expose_secret(), "s3cret", "{source}");
        }
    }
}
