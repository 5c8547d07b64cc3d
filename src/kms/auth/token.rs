//! A token that somebody else writes into a file and keeps fresh. Nothing is known of when it ends.

use secrecy::SecretString;

use crate::kms::secret::{SecretLocation, Unreadable};

/// Reads the token.
pub(super) fn read(source: &SecretLocation) -> Result<SecretString, Unreadable> {
    source.read_word("token")
}
