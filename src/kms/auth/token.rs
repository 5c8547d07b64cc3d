//! A token that somebody else writes into a file and keeps fresh. Nothing is known of when it ends.

use secrecy::SecretString;

use super::{Error, SecretSource};

/// Reads the token.
pub(super) fn read(source: &SecretSource) -> Result<SecretString, Error> {
    source.read_word("token")
}
