//! A token or an access key, and how it authenticates a request.

use std::sync::Arc;
use std::time::SystemTime;

use super::accepted_secret::Fingerprint;
use super::access_key::AccessKey;
use crate::kms::error::{Error, ErrorKind};
use crate::kms::observe::Operation;
use crate::kms::transport::{HeaderText, Request};

/// What authenticates a request. Every request of the KMS goes through [`authenticate`](Self::authenticate).
#[derive(Clone)]
pub(in crate::kms) struct Credential {
    pub(super) secret: CredentialSecret,
    /// Counts renewals, so that a refusal never counts against a newer credential than the refused one.
    pub(super) generation: u64,
    /// When it expires, where that is known.
    pub(super) expires: Option<SystemTime>,
    pub(super) fingerprint: Fingerprint,
}

/// The secret of a credential.
#[derive(Clone)]
pub(super) enum CredentialSecret {
    Token(HeaderText),
    Key(Arc<AccessKey>),
}

impl Credential {
    /// Adds the credential to a request about this project. `None` if no header can carry it.
    pub(in crate::kms) fn authenticate(&self, request: &mut Request, project_id: &str, now: SystemTime) -> Option<()> {
        match &self.secret {
            CredentialSecret::Token(token) => request.headers.push(("x-auth-token", token.clone())),
            CredentialSecret::Key(key) => key.sign(request, Some(project_id), now)?,
        }
        Some(())
    }

    /// The error of a request that is not sent because the credential has expired. A new credential is then requested.
    pub(in crate::kms) fn check_expiry(&self, now: SystemTime) -> Result<(), Error> {
        if self.has_expired(now) {
            return Err(Error::new(Operation::Authenticate, ErrorKind::Credentials, "the credentials have expired"));
        }
        Ok(())
    }

    pub(super) fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
}
