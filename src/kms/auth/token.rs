//! A token that somebody else writes into a file and keeps fresh. Nothing is known of when it ends.

use secrecy::SecretString;

use super::{Error, SecretLocation};

/// Reads the token.
pub(super) fn read(source: &SecretLocation) -> Result<SecretString, Error> {
    source.read_word("token")
}
