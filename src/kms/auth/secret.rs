//! Where a secret is kept, and reading it from there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use secrecy::{ExposeSecret, SecretString};

use super::{Error, Kind, Operation};
use crate::{shortage, small_file};

/// Where a secret is kept. Printing it shows the place, never the secret.
#[derive(Clone)]
pub enum SecretSource {
    /// A file, read anew at each authentication, so that a rotated secret is picked up.
    File(PathBuf),
    /// An entry of another program's file, read anew at each authentication like a file of its own.
    Entry {
        /// Gives the secret, or says why there is none: the file, never its content.
        read: Arc<dyn Fn() -> Result<String, Unreadable> + Send + Sync>,
        /// Which entry of which file, for people; two entries are the same where this is.
        origin: Arc<str>,
    },
    /// This process itself.
    Memory {
        /// The secret.
        secret: Arc<SecretString>,
        /// Where it came from, for people.
        origin: Arc<str>,
    },
}

/// Why credentials, or what says where they are, could not be read. Holds nothing of them.
#[derive(Debug)]
pub struct Unreadable {
    /// Says so to people.
    pub text: String,
    /// It is this machine that has run out of something, and may do better later.
    pub is_shortage: bool,
}

impl Unreadable {
    /// A file that cannot be read.
    #[must_use]
    pub fn file(path: &Path, error: &io::Error) -> Self {
        let lack = shortage::of(error);
        let cause = lack.map_or_else(|| error.to_string(), str::to_owned);
        Self { text: format!("cannot read {}: {cause}", path.display()), is_shortage: lack.is_some() }
    }
}

impl From<String> for Unreadable {
    fn from(text: String) -> Self {
        Self { text, is_shortage: false }
    }
}

impl From<Unreadable> for Error {
    fn from(Unreadable { text, is_shortage }: Unreadable) -> Self {
        let kind = if is_shortage { Kind::Shortage } else { Kind::Credentials };
        Self::new(Operation::Authenticate, kind, text)
    }
}

impl SecretSource {
    /// A secret that is in no file of its own, and where it came from.
    #[must_use]
    pub fn in_memory(secret: String, origin: &str) -> Self {
        Self::Memory { secret: Arc::new(SecretString::from(secret)), origin: origin.into() }
    }

    /// A secret that is an entry of a file, and which.
    #[must_use]
    pub fn entry(origin: &str, read: impl Fn() -> Result<String, Unreadable> + Send + Sync + 'static) -> Self {
        Self::Entry { read: Arc::new(read), origin: origin.into() }
    }

    /// The secret, without the line break at its end. The error names the file, never its content.
    pub(in crate::kms) fn read(&self) -> Result<SecretString, Error> {
        let path = match self {
            Self::Memory { secret, .. } => return Ok(SecretString::clone(secret)),
            Self::Entry { read, .. } => {
                return read().map(SecretString::from).map_err(Error::from);
            }
            Self::File(path) => path,
        };
        // Wiped on drop, as is the copy without the line break.
        let text = small_file::read_text(path).map_err(|error| Unreadable::file(path, &error))?;
        let secret = SecretString::from(text.trim_end_matches(['\r', '\n']));
        if secret.expose_secret().is_empty() {
            return Err(Unreadable::from(format!("cannot read {}: it is empty", path.display())).into());
        }
        Ok(secret)
    }
}

/// Two sources are the same where they are the same place. Both are ours, so that the time it takes tells nobody
/// anything.
impl PartialEq for SecretSource {
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

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for SecretSource {
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
    fn a_secret_is_read_without_its_line_break_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "s3cret \r\n").unwrap();
        let source = SecretSource::File(path.clone());
        assert_eq!(source.read().unwrap().expose_secret(), "s3cret ");
        std::fs::write(&path, "\n").unwrap();
        assert!(source.read().unwrap_err().to_string().ends_with("password: it is empty"));
        let memory = SecretSource::in_memory("s3cret".to_owned(), "here");
        assert!(!format!("{memory} {memory:?}").contains("s3cret"));
    }
}
