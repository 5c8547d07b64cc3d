//! Tokens of IAM: what each one allows, and why one is refused.

use std::collections::HashMap;
use std::time::SystemTime;

use super::identity::{Permissions, Scope};
use crate::answer::Answer;

/// Above this number of tokens the expired and revoked ones are deleted; until then they are refused as such.
const MAX_TOKENS: usize = 512;

/// A token; without `expires` it does not expire.
pub(crate) struct Token {
    pub(crate) scope: Scope,
    pub(crate) permissions: Permissions,
    expires: Option<SystemTime>,
    revoked: bool,
}

impl Token {
    pub(crate) fn new(scope: Scope, permissions: Permissions, expires: Option<SystemTime>) -> Self {
        Self { scope, permissions, expires, revoked: false }
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BadToken {
    Missing,
    Invalid,
    Revoked,
    Expired,
}

impl BadToken {
    pub(crate) fn refused_by_kms(self) -> Answer {
        let (code, text) = match self {
            Self::Missing => ("KMS.0301", "The token is null."),
            Self::Invalid | Self::Revoked => ("KMS.0302", "The token is invalid."),
            Self::Expired => ("KMS.0303", "The token has expired."),
        };
        Answer::kms(403, code, text)
    }

    pub(crate) fn refused_by_gateway(self, request_id: &str) -> Answer {
        let (code, text) = match self {
            Self::Missing => ("APIGW.0301", "Incorrect IAM authentication information: x-auth-token not found"),
            Self::Invalid => ("APIGW.0301", "Incorrect IAM authentication information: decrypt token fail"),
            Self::Revoked | Self::Expired => ("APIGW.0307", "The token must be updated"),
        };
        Answer::gateway(401, code, text, request_id)
    }

    pub(crate) fn refused_by_iam(self) -> Answer {
        let (code, text) = match self {
            Self::Missing => ("IAM.0001", "The request you have made requires authentication."),
            Self::Expired => ("IAM.0066", "The token has expired."),
            Self::Invalid | Self::Revoked => ("IAM.0067", "Invalid token."),
        };
        Answer::iam_code(401, code, text)
    }
}

/// The known tokens, by their text.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<Box<str>, Token>);

impl Tokens {
    pub(crate) fn add(&mut self, text: Box<str>, token: Token, now: SystemTime) {
        if self.0.len() >= MAX_TOKENS {
            self.0.retain(|_, token| !token.revoked && token.expires.is_none_or(|at| at > now));
        }
        self.0.insert(text, token);
    }

    /// The token with this text, if it is valid.
    pub(crate) fn find(&self, text: Option<&str>, now: SystemTime) -> Result<&Token, BadToken> {
        match text.filter(|text| !text.is_empty()).map(|text| self.0.get(text)) {
            None => Err(BadToken::Missing),
            Some(None) => Err(BadToken::Invalid),
            Some(Some(token)) if token.revoked => Err(BadToken::Revoked),
            Some(Some(token)) if token.expires.is_some_and(|at| at <= now) => Err(BadToken::Expired),
            Some(Some(token)) => Ok(token),
        }
    }

    pub(crate) fn revoke_all(&mut self) {
        self.0.values_mut().for_each(|token| token.revoked = true);
    }
}
