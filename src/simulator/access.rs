//! Who gets in: tokens and their end, and locks after too many failures.
//!
//! `iam` issues tokens here, and every call of the KMS passes [`World::admit`] before it is looked at.

use std::time::{Duration, SystemTime};

use hyper::HeaderMap;

use super::answer::Answer;
use super::fault::ACCESS_LOCKED;
use super::operation::Operation;
use super::setup::TokenRefusal;
use super::world::World;

/// How long access stays locked after too many failures: documented for access keys, chosen for users.
pub(super) const LOCK_TIME: Duration = Duration::from_secs(5 * 60);

/// Dead tokens are remembered up to this many, so that an expired one is told from one that never was.
const REMEMBERED_TOKENS: usize = 512;

/// Failures in a row, and the lock that too many of them bring.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lock {
    failures: u32,
    until: Option<SystemTime>,
}

impl Lock {
    pub(super) fn holds(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    pub(super) fn failed(&mut self, limit: u32, now: SystemTime) {
        if self.until.is_some_and(|until| until <= now) {
            *self = Self::default();
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= limit && self.until.is_none() {
            self.until = Some(now + LOCK_TIME);
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

pub(super) struct Token {
    /// The project that it is scoped to.
    project_id: Option<Box<str>>,
    expires: Option<SystemTime>,
    revoked: bool,
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug)]
enum BadToken {
    Missing,
    Invalid,
    Revoked,
    Expired,
}

impl BadToken {
    fn refused_by_kms(self) -> Answer {
        let (code, text) = match self {
            Self::Missing => ("KMS.0301", "The token is null."),
            Self::Invalid | Self::Revoked => ("KMS.0302", "The token is invalid."),
            Self::Expired => ("KMS.0303", "The token has expired."),
        };
        Answer::kms(403, code, text)
    }

    fn refused_by_gateway(self, request_id: &str) -> Answer {
        let (code, text) = match self {
            Self::Missing => ("APIGW.0301", "Incorrect IAM authentication information: x-auth-token not found"),
            Self::Invalid => ("APIGW.0301", "Incorrect IAM authentication information: decrypt token fail"),
            Self::Revoked | Self::Expired => ("APIGW.0307", "The token must be updated"),
        };
        Answer::gateway(401, code, text, request_id)
    }
}

impl World {
    /// Whether the request's token opens this project and this call.
    pub(super) fn admit(
        &mut self,
        headers: &HeaderMap,
        project_id: &str,
        operation: Operation,
        request_id: &str,
    ) -> Result<(), Answer> {
        let now = self.now();
        if self.access.holds(now) {
            self.authentication_failures += 1;
            return Err(Answer::gateway(401, "APIGW.0301", ACCESS_LOCKED, request_id));
        }
        let token = headers.get("x-auth-token").and_then(|token| token.to_str().ok()).filter(|token| !token.is_empty());
        let opens = match token.map(|token| self.tokens.get(token)) {
            None => Err(BadToken::Missing),
            Some(None) => Err(BadToken::Invalid),
            Some(Some(token)) if token.revoked => Err(BadToken::Revoked),
            Some(Some(token)) if token.expires.is_some_and(|at| at <= now) => Err(BadToken::Expired),
            Some(Some(token)) => Ok(token.project_id.as_deref() == Some(project_id)),
        };
        let opens = opens.map_err(|bad| {
            self.authentication_failed();
            match self.behaviour.token_refusal {
                TokenRefusal::Kms => bad.refused_by_kms(),
                TokenRefusal::Gateway => bad.refused_by_gateway(request_id),
            }
        })?;
        if !opens || !self.projects.contains_key(project_id) {
            return Err(Answer::kms(403, "KMS.0321", "The project ID in the URL does not match that in the token."));
        }
        self.access.succeeded();
        if self.behaviour.forbidden.contains(operation) {
            return Err(Answer::kms(403, "KMS.0307", "You have no permission to perform this operation."));
        }
        Ok(())
    }

    pub(super) fn authentication_failed(&mut self) {
        self.authentication_failures += 1;
        if let Some(limit) = self.behaviour.access_lock_after {
            let now = self.now();
            self.access.failed(limit, now);
        }
    }

    /// A new token for a project, or for none.
    pub(super) fn issue_token(&mut self, project_id: Option<&str>, expires: SystemTime) -> Box<str> {
        // As the real ones begin; they are base64 without a line break.
        let mut token = String::with_capacity(self.token_length.max(36));
        token.push_str("MIIF");
        token.extend((4..self.token_length.max(36)).map(|_| self.rng.alphanumeric()));
        let token = token.into_boxed_str();
        self.add_token(token.clone(), project_id, Some(expires));
        token
    }

    pub(super) fn add_token(&mut self, token: Box<str>, project_id: Option<&str>, expires: Option<SystemTime>) {
        if self.tokens.len() >= REMEMBERED_TOKENS {
            let now = self.now();
            self.tokens.retain(|_, token| !token.revoked && token.expires.is_none_or(|at| at > now));
        }
        self.tokens.insert(token, Token { project_id: project_id.map(Into::into), expires, revoked: false });
    }

    pub(super) fn revoke_tokens(&mut self) {
        self.tokens.values_mut().for_each(|token| token.revoked = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_opens_again_after_its_time() {
        let now = SystemTime::UNIX_EPOCH;
        let mut lock = Lock::default();
        for _ in 0..4 {
            lock.failed(5, now);
        }
        assert!(!lock.holds(now));
        lock.failed(5, now);
        assert!(lock.holds(now + LOCK_TIME - Duration::from_secs(1)));
        assert!(!lock.holds(now + LOCK_TIME));
        lock.failed(5, now + LOCK_TIME);
        assert!(!lock.holds(now + LOCK_TIME), "the count starts anew");
    }
}
