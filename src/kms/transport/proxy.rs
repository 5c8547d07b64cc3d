//! The proxy on the way to a cloud.

use super::super::auth::SecretSource;

/// A proxy for HTTPS.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    /// Its address, which may hold a password where the environment gives it.
    pub url: String,
    /// Hosts that are reached without it, as `NO_PROXY` lists them.
    pub except: String,
    /// Whom it lets through, and where the password is, which is read when the policy comes into force.
    pub user: Option<(String, SecretSource)>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("except", &self.except).field("user", &self.user).finish_non_exhaustive()
    }
}
