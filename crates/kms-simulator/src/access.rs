//! Authentication and authorization: tokens, the permissions of an identity, and lockouts after repeated failures.
//!
//! `iam` and `agency` issue tokens here. [`World::admit`] checks every KMS call, and [`World::caller`] the IAM calls that
//! need an authenticated caller. `access_key` checks signatures.

use std::time::{Duration, SystemTime};

use super::answer::Answer;
use super::behaviour::TokenRefusal;
use super::fault::ACCESS_LOCKED;
use super::operation::Operation;
use super::world::{Request, World};

/// Duration of a lockout: documented for access keys (`docs/kms-api.md` 3.2), chosen for users.
pub(super) const LOCK_TIME: Duration = Duration::from_secs(5 * 60);

/// Above this number of tokens the expired and revoked ones are deleted; until then they are refused as such.
const MAX_TOKENS: usize = 512;

/// Consecutive failures, and the lockout that follows them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lockout {
    failures: u32,
    until: Option<SystemTime>,
}

impl Lockout {
    pub(super) fn is_active(&self, now: SystemTime) -> bool {
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

/// The projects that an identity may use, by token or by signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permissions {
    /// Every project, except those that an agency of another account delegates. `None`: in no account.
    OwnAccount(Option<Box<str>>),
    /// The projects that an agency delegates.
    Agency {
        /// The account that delegates.
        domain_name: Box<str>,
        project_ids: Vec<String>,
    },
    /// One project: the token is from a file, and its owner is not known.
    Project(Box<str>),
}

/// The scope of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Nothing,
    Project(Box<str>),
    /// An account, by its name.
    Domain(Box<str>),
}

pub(super) struct Token {
    scope: Scope,
    permissions: Permissions,
    expires: Option<SystemTime>,
    revoked: bool,
}

/// Why a token is refused.
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

    fn refused_by_iam(self) -> Answer {
        let (code, text) = match self {
            Self::Missing => ("IAM.0001", "The request you have made requires authentication."),
            Self::Expired => ("IAM.0066", "The token has expired."),
            Self::Invalid | Self::Revoked => ("IAM.0067", "Invalid token."),
        };
        Answer::iam_code(401, code, text)
    }
}

fn forbidden_by_iam() -> Answer {
    Answer::iam_code(403, "IAM.0003", "You are not authorized to perform the requested action.")
}

impl World {
    /// Checks that the request's token or signature is valid for this project and this call.
    pub(super) fn admit(
        &mut self,
        request: &Request<'_>,
        project_id: &str,
        operation: Operation,
        request_id: &str,
    ) -> Result<(), Answer> {
        let now = self.now();
        if self.access.is_active(now) {
            self.count_failure(request);
            return Err(Answer::gateway(401, "APIGW.0301", ACCESS_LOCKED, request_id));
        }
        let may_access = if request.is_signed() {
            let permissions = self.signed_by(request, request_id)?;
            let stated = request.headers.get("x-project-id");
            self.may_access(&permissions, project_id) && stated.is_none_or(|stated| stated == project_id)
        } else {
            let may_access = self.token(request).map(|token| match &token.scope {
                Scope::Project(scoped) => **scoped == *project_id && self.projects.contains_key(project_id),
                Scope::Domain(_) | Scope::Nothing => false,
            });
            may_access.map_err(|bad| {
                self.authentication_failed(request);
                match self.behaviour.token_refusal {
                    TokenRefusal::Kms => bad.refused_by_kms(),
                    TokenRefusal::Gateway => bad.refused_by_gateway(request_id),
                }
            })?
        };
        if !may_access {
            let text = "The project ID in the URL does not match that in the token.";
            return Err(Answer::kms(403, "KMS.0321", text));
        }
        self.access.succeeded();
        if self.behaviour.forbidden.contains(operation) {
            return Err(Answer::kms(403, "KMS.0307", "You have no permission to perform this operation."));
        }
        Ok(())
    }

    /// The permissions of an IAM call's sender. An unscoped token counts only if `unscoped` is set.
    pub(super) fn caller(
        &mut self,
        request: &Request<'_>,
        unscoped: bool,
        operation: Operation,
        request_id: &str,
    ) -> Result<Permissions, Answer> {
        let permissions = if request.is_signed() {
            self.signed_by(request, request_id)?
        } else {
            let found = self.token(request).map(|token| (token.permissions.clone(), token.scope == Scope::Nothing));
            match found {
                Ok((_, true)) if !unscoped => return Err(forbidden_by_iam()),
                Ok((permissions, _)) => permissions,
                Err(bad) => {
                    self.authentication_failed(request);
                    return Err(bad.refused_by_iam());
                }
            }
        };
        self.permit(operation)?;
        Ok(permissions)
    }

    /// Refuses an operation that [`Behaviour::forbidden`](super::Behaviour::forbidden) contains.
    pub(super) fn permit(&self, operation: Operation) -> Result<(), Answer> {
        if self.behaviour.forbidden.contains(operation) { Err(forbidden_by_iam()) } else { Ok(()) }
    }

    /// The permissions of a token from the body of a request.
    pub(super) fn holder(&mut self, request: &Request<'_>, token: &str) -> Result<Permissions, Answer> {
        let found = self.valid(Some(token)).map(|token| token.permissions.clone());
        found.map_err(|bad| {
            self.authentication_failed(request);
            bad.refused_by_iam()
        })
    }

    fn token(&self, request: &Request<'_>) -> Result<&Token, BadToken> {
        self.valid(request.headers.get("x-auth-token").and_then(|token| token.to_str().ok()))
    }

    fn valid(&self, token: Option<&str>) -> Result<&Token, BadToken> {
        let now = self.now();
        match token.filter(|token| !token.is_empty()).map(|token| self.tokens.get(token)) {
            None => Err(BadToken::Missing),
            Some(None) => Err(BadToken::Invalid),
            Some(Some(token)) if token.revoked => Err(BadToken::Revoked),
            Some(Some(token)) if token.expires.is_some_and(|at| at <= now) => Err(BadToken::Expired),
            Some(Some(token)) => Ok(token),
        }
    }

    /// Whether the project exists and the permissions include it.
    pub(super) fn may_access(&self, permissions: &Permissions, project_id: &str) -> bool {
        let reached = match permissions {
            Permissions::OwnAccount(domain_name) => {
                let mut delegating = self.agencies.iter().filter(|agency| agency.delegates(project_id));
                delegating.all(|agency| domain_name.as_deref() == Some(&*agency.domain_name))
            }
            Permissions::Agency { project_ids, .. } => project_ids.iter().any(|id| id == project_id),
            Permissions::Project(id) => **id == *project_id,
        };
        reached && self.projects.contains_key(project_id)
    }

    /// Counts a failure for the sender of the request; repeated failures cause a lockout.
    pub(super) fn authentication_failed(&mut self, request: &Request<'_>) {
        self.count_failure(request);
        if let Some(limit) = self.behaviour.access_lock_after {
            let now = self.now();
            self.access.failed(limit, now);
        }
    }

    fn count_failure(&mut self, request: &Request<'_>) {
        self.authentication_failures += 1;
        self.refuse_access_key(request);
    }

    /// A new token.
    pub(super) fn issue_token(&mut self, scope: Scope, permissions: Permissions, expires: SystemTime) -> Box<str> {
        // Real tokens are base64 without a line break, and begin like this.
        let token = self.long_text("MIIF", "").into_boxed_str();
        self.remember_token(token.clone(), Token { scope, permissions, expires: Some(expires), revoked: false });
        token
    }

    /// Adds a token for a project that IAM did not issue.
    pub(super) fn add_token(&mut self, token: Box<str>, project_id: &str, expires: Option<SystemTime>) {
        let (scope, permissions) = (Scope::Project(project_id.into()), Permissions::Project(project_id.into()));
        self.remember_token(token, Token { scope, permissions, expires, revoked: false });
    }

    fn remember_token(&mut self, text: Box<str>, token: Token) {
        if self.tokens.len() >= MAX_TOKENS {
            let now = self.now();
            self.tokens.retain(|_, token| !token.revoked && token.expires.is_none_or(|at| at > now));
        }
        self.tokens.insert(text, token);
    }

    /// Random text with the length of a token.
    pub(super) fn long_text(&mut self, start: &str, end: &str) -> String {
        let random = self.token_length.max(36).saturating_sub(start.len() + end.len());
        let random: String = (0..random).map(|_| self.rng.alphanumeric()).collect();
        format!("{start}{random}{end}")
    }

    pub(super) fn revoke_tokens(&mut self) {
        self.tokens.values_mut().for_each(|token| token.revoked = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lockout_ends_after_its_time() {
        let now = SystemTime::UNIX_EPOCH;
        let mut lock = Lockout::default();
        for _ in 0..4 {
            lock.failed(5, now);
        }
        assert!(!lock.is_active(now));
        lock.failed(5, now);
        assert!(lock.is_active(now + LOCK_TIME - Duration::from_secs(1)));
        assert!(!lock.is_active(now + LOCK_TIME));
        lock.failed(5, now + LOCK_TIME);
        assert!(!lock.is_active(now + LOCK_TIME), "the count starts again");
    }
}
