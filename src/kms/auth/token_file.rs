//! A token that somebody else writes into a file and keeps fresh. Nothing is known of when it ends.

use std::path::Path;

use secrecy::ExposeSecret;

use super::{Error, Issued, Kind, Operation, read_secret};

/// Reads the token.
pub(super) fn read(path: &Path) -> Result<Issued, Error> {
    let token = read_secret(path)?;
    if token.expose_secret().bytes().any(|byte| !byte.is_ascii_graphic()) {
        let text = format!("{} holds no token: expected one line without blanks", path.display());
        return Err(Error::new(Operation::Authenticate, Kind::Credentials, text));
    }
    Ok(Issued { token, lifetime: None })
}
