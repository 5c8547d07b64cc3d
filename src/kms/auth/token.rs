//! A token that somebody else writes into a file and keeps fresh. Nothing is known of when it ends.

use secrecy::{ExposeSecret, SecretString};

use super::{Error, Kind, Operation, SecretSource};

/// Reads the token.
pub(super) fn read(source: &SecretSource) -> Result<SecretString, Error> {
    let token = source.read()?;
    if token.expose_secret().bytes().any(|byte| !byte.is_ascii_graphic()) {
        let text = format!("{source} holds no token: expected one line without blanks");
        return Err(Error::new(Operation::Authenticate, Kind::Credentials, text));
    }
    Ok(token)
}
