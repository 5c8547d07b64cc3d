//! Where a secret is kept, and reading it from there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{Error, Kind, Operation};
use crate::support::{shortage, small_file};

/// Where a secret is kept. Printing it shows the place, never the secret.
#[derive(Clone)]
pub enum SecretLocation {
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
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
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

impl SecretLocation {
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

    /// The secret, without the line break at its end. The error names the file or the variable, never its content.
    pub(in crate::kms) fn read(&self) -> Result<SecretString, Error> {
        // Wiped on drop, as is the copy without the line break.
        let text = match self {
            Self::File(path) => small_file::read_text(path).map_err(|error| Unreadable::file(path, &error))?,
            Self::Entry { read, .. } => Zeroizing::new(read()?),
            Self::Memory { secret, .. } => Zeroizing::new(secret.expose_secret().to_owned()),
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        match fault(secret) {
            Some(fault) => Err(Unreadable::from(format!("cannot use {self}: {fault}")).into()),
            None => Ok(SecretString::from(secret)),
        }
    }

    /// The secret, which is of a kind that has no blanks, such as a token.
    pub(in crate::kms) fn read_word(&self, kind: &str) -> Result<SecretString, Error> {
        let secret = self.read()?;
        if secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(secret);
        }
        let text = format!("{self} holds no {kind}: expected one line of ASCII characters without blanks");
        Err(Unreadable::from(text).into())
    }
}

/// What an editor or a mistake has put into a secret, and no service accepts. A blank is allowed: a password may have
/// one.
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

/// Two sources are the same where they are the same place. Both are ours, so that the time it takes tells nobody
/// anything.
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
    fn a_secret_is_read_without_its_line_break_and_never_printed() {
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
    fn stray_bytes_are_cut_or_refused_wherever_the_secret_is_kept() {
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
                let expected = format!("{source} holds no token: expected one line of ASCII characters without blanks");
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
