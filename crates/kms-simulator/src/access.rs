//! Who gets in and how far: tokens and their end, what an identity may open, and locks after too many failures.
//!
//! `iam` and `agency` issue tokens here; every call of the KMS passes [`World::admit`] before it is looked at, and the
//! calls of IAM that need somebody to make them ask [`World::caller`]. Signatures are checked in `access_key`.

use std::time::{Duration, SystemTime};

use super::answer::Answer;
use super::behaviour::TokenRefusal;
use super::fault::ACCESS_LOCKED;
use super::operation::Operation;
use super::world::{Request, World};

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

/// What an identity may open, whatever token or signature it comes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every project, except what an agency delegates in another account than its own; nothing is no account.
    Own(Option<Box<str>>),
    /// What an agency delegates.
    Agency {
        /// The account that delegates.
        domain_name: Box<str>,
        project_ids: Vec<String>,
    },
    /// One project: whoever put a token into a file, it is not known.
    Project(Box<str>),
}

/// What a token was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Nothing,
    Project(Box<str>),
    /// An account, by its name.
    Domain(Box<str>),
}

pub(super) struct Token {
    scope: Scope,
    reach: Reach,
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
    /// Whether the request's token or signature opens this project and this call.
    pub(super) fn admit(
        &mut self,
        request: &Request<'_>,
        project_id: &str,
        operation: Operation,
        request_id: &str,
    ) -> Result<(), Answer> {
        let now = self.now();
        if self.access.holds(now) {
            self.count_failure(request);
            return Err(Answer::gateway(401, "APIGW.0301", ACCESS_LOCKED, request_id));
        }
        let opens = if request.is_signed() {
            let reach = self.signed_by(request, request_id)?;
            let stated = request.headers.get("x-project-id");
            self.opens(&reach, project_id) && stated.is_none_or(|stated| stated == project_id)
        } else {
            let opens = self.token(request).map(|token| match &token.scope {
                Scope::Project(scoped) => **scoped == *project_id && self.projects.contains_key(project_id),
                Scope::Domain(_) | Scope::Nothing => false,
            });
            opens.map_err(|bad| {
                self.authentication_failed(request);
                match self.behaviour.token_refusal {
                    TokenRefusal::Kms => bad.refused_by_kms(),
                    TokenRefusal::Gateway => bad.refused_by_gateway(request_id),
                }
            })?
        };
        if !opens {
            let text = "The project ID in the URL does not match that in the token.";
            return Err(Answer::kms(403, "KMS.0321", text));
        }
        self.access.succeeded();
        if self.behaviour.forbidden.contains(operation) {
            return Err(Answer::kms(403, "KMS.0307", "You have no permission to perform this operation."));
        }
        Ok(())
    }

    /// Who makes a call of IAM, by signature or by token; with a token for nothing only where that is enough.
    pub(super) fn caller(
        &mut self,
        request: &Request<'_>,
        unscoped: bool,
        operation: Operation,
        request_id: &str,
    ) -> Result<Reach, Answer> {
        let reach = if request.is_signed() {
            self.signed_by(request, request_id)?
        } else {
            let found = self.token(request).map(|token| (token.reach.clone(), token.scope == Scope::Nothing));
            match found {
                Ok((_, true)) if !unscoped => return Err(forbidden_by_iam()),
                Ok((reach, _)) => reach,
                Err(bad) => {
                    self.authentication_failed(request);
                    return Err(bad.refused_by_iam());
                }
            }
        };
        self.permit(operation)?;
        Ok(reach)
    }

    /// Whether users of IAM may do this at all.
    pub(super) fn permit(&self, operation: Operation) -> Result<(), Answer> {
        if self.behaviour.forbidden.contains(operation) { Err(forbidden_by_iam()) } else { Ok(()) }
    }

    /// Whose token this is, wherever it was sent.
    pub(super) fn holder(&mut self, request: &Request<'_>, token: &str) -> Result<Reach, Answer> {
        let found = self.valid(Some(token)).map(|token| token.reach.clone());
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

    /// Whether the project exists and an identity may open it.
    pub(super) fn opens(&self, reach: &Reach, project_id: &str) -> bool {
        let reached = match reach {
            Reach::Own(domain_name) => {
                let mut delegating = self.agencies.iter().filter(|agency| agency.delegates(project_id));
                delegating.all(|agency| domain_name.as_deref() == Some(&*agency.domain_name))
            }
            Reach::Agency { project_ids, .. } => project_ids.iter().any(|id| id == project_id),
            Reach::Project(id) => **id == *project_id,
        };
        reached && self.projects.contains_key(project_id)
    }

    /// Counts a refusal for whoever sent the request; many in a row lock.
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
    pub(super) fn issue_token(&mut self, scope: Scope, reach: Reach, expires: SystemTime) -> Box<str> {
        // As the real ones begin; they are base64 without a line break.
        let token = self.long_text("MIIF", "").into_boxed_str();
        self.remember_token(token.clone(), Token { scope, reach, expires: Some(expires), revoked: false });
        token
    }

    /// A token from elsewhere, for a project.
    pub(super) fn add_token(&mut self, token: Box<str>, project_id: &str, expires: Option<SystemTime>) {
        let (scope, reach) = (Scope::Project(project_id.into()), Reach::Project(project_id.into()));
        self.remember_token(token, Token { scope, reach, expires, revoked: false });
    }

    fn remember_token(&mut self, text: Box<str>, token: Token) {
        if self.tokens.len() >= REMEMBERED_TOKENS {
            let now = self.now();
            self.tokens.retain(|_, token| !token.revoked && token.expires.is_none_or(|at| at > now));
        }
        self.tokens.insert(text, token);
    }

    /// Something as long as a token.
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
