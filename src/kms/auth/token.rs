//! A token in a file that another process renews. Its lifetime is unknown.

use secrecy::SecretString;

use crate::kms::secret::{SecretLocation, Unreadable};

/// Reads the token.
pub(super) fn read(source: &SecretLocation) -> Result<SecretString, Unreadable> {
    source.read_word("token")
}
