//! Access keys, permanent and temporary: who signed a request, and the lockout after repeated bad signatures.
//!
//! `signature` computes signatures; `access` checks what the owner of a key may use.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use super::identity::Permissions;
use super::lockout::Lockout;
use super::signature::{self, Authorization, CanonicalError};
use crate::answer::ACCESS_LOCKED;
use crate::request::Request;

/// Allowed distance between a signature's date and the gateway's clock (`docs/kms-api.md` 3.2).
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);
/// Above this number of keys the expired ones are deleted; until then they are refused as expired.
const MAX_KEYS: usize = 512;
/// Number of keys, unknown ones included, for which usage is counted.
const MAX_USAGE_RECORDS: usize = 4096;

struct AccessKey {
    secret: Box<str>,
    session: Option<Session>,
    permissions: Permissions,
}

/// The part that only temporary keys have.
struct Session {
    security_token: Box<str>,
    expires: SystemTime,
}

/// Counts and lockout of one access key, whether it exists or not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) requests: u64,
    pub(crate) refusals: u64,
    pub(crate) lock: Lockout,
}

/// A temporary key as its owner receives it.
pub(crate) struct TemporaryKey {
    pub(crate) access: String,
    pub(crate) secret: String,
    pub(crate) security_token: String,
    pub(crate) expires: SystemTime,
}

#[derive(Default)]
pub(crate) struct AccessKeys {
    keys: HashMap<Box<str>, AccessKey>,
    usage: BTreeMap<Box<str>, Usage>,
}

/// Why a signature is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SignatureError {
    Malformed,
    Locked,
    Unknown(Box<str>),
    NoDate,
    Skewed,
    CanonicalError(CanonicalError),
    Wrong,
    /// A temporary key without its security token.
    NoSecurityToken,
    /// The security token of another key, or one sent with a permanent key.
    WrongSecurityToken,
    Expired,
}

impl SignatureError {
    /// The texts for an unknown key, a wrong signature, an expired one and a locked key are from recordings and
    /// documents; the others are invented.
    pub(crate) fn text(&self) -> String {
        let cause = match self {
            // The only text that is documented without the prefix.
            Self::Locked => return ACCESS_LOCKED.to_owned(),
            Self::Unknown(access) => &format!("ak {access} not exist"),
            Self::Skewed => "calc ak sk signature fail:signature expired",
            Self::Wrong => "verify aksk signature fail",
            Self::Malformed => "authorization header is malformed",
            Self::NoDate => "x-sdk-date is missing or malformed",
            Self::CanonicalError(CanonicalError::Names) => "signed headers are not in lower case and in order",
            Self::CanonicalError(CanonicalError::DateNotSigned) => "x-sdk-date is not signed",
            Self::CanonicalError(CanonicalError::Header(name)) => {
                &format!("signed header {name} not found or not unique")
            }
            Self::CanonicalError(CanonicalError::BodyHash) => "x-sdk-content-sha256 does not match the body",
            Self::NoSecurityToken => "x-security-token not found",
            Self::WrongSecurityToken => "x-security-token does not belong to the ak",
            Self::Expired => "x-security-token expired",
        };
        format!("Incorrect IAM authentication information: {cause}")
    }
}

impl AccessKeys {
    /// Adds a permanent key, or replaces its secret.
    pub(crate) fn set(&mut self, access: &str, secret: &str) {
        let key = AccessKey { secret: secret.into(), session: None, permissions: Permissions::OwnAccount(None) };
        self.keys.insert(access.into(), key);
    }

    pub(crate) fn revoke(&mut self, access: &str) {
        self.keys.remove(access);
    }

    pub(crate) fn revoke_temporary(&mut self) {
        self.keys.retain(|_, key| key.session.is_none());
    }

    pub(crate) fn usage(&self, access: &str) -> Usage {
        self.usage.get(access).copied().unwrap_or_default()
    }

    /// The keys that requests named so far.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &str> {
        self.usage.iter().filter(|(_, usage)| usage.requests > 0).map(|(access, _)| access.as_ref())
    }

    /// Resets the counts; lockouts stay.
    pub(crate) fn forget_requests(&mut self) {
        self.usage.values_mut().for_each(|usage| (usage.requests, usage.refusals) = (0, 0));
    }

    /// Adds a temporary key.
    pub(crate) fn add_temporary(&mut self, key: &TemporaryKey, permissions: Permissions, now: SystemTime) {
        if self.keys.len() >= MAX_KEYS {
            let lives = |key: &AccessKey| key.session.as_ref().is_none_or(|session| session.expires > now);
            self.keys.retain(|_, key| lives(key));
        }
        let session = Some(Session { security_token: key.security_token.as_str().into(), expires: key.expires });
        let stored = AccessKey { secret: key.secret.as_str().into(), session, permissions };
        self.keys.insert(key.access.as_str().into(), stored);
    }

    /// Counts a request for the access key that it names.
    pub(crate) fn count_request(&mut self, request: &Request<'_>) {
        self.update(request, |usage| usage.requests += 1);
    }

    /// Counts a refusal for the access key that a request names; repeated refusals lock it.
    pub(crate) fn count_refusal(&mut self, request: &Request<'_>, limit: u32, now: SystemTime) {
        self.update(request, |usage| {
            usage.refusals += 1;
            usage.lock.failed(limit, now);
        });
    }

    /// Changes the usage of the access key that a request names.
    fn update(&mut self, request: &Request<'_>, change: impl FnOnce(&mut Usage)) {
        let Some(Authorization { access, .. }) = Authorization::of(request.headers) else { return };
        if let Some(usage) = self.usage.get_mut(access) {
            change(usage);
        } else if self.usage.len() < MAX_USAGE_RECORDS {
            change(self.usage.entry(access.into()).or_default());
        }
    }

    /// The permissions of the key that signed a request. A valid signature ends its count of refusals.
    pub(crate) fn signed_by(&mut self, request: &Request<'_>, now: SystemTime) -> Result<Permissions, SignatureError> {
        let permissions = self.check(request, now)?;
        self.update(request, |usage| usage.lock.succeeded());
        Ok(permissions)
    }

    fn check(&self, request: &Request<'_>, now: SystemTime) -> Result<Permissions, SignatureError> {
        let authorization = Authorization::of(request.headers).ok_or(SignatureError::Malformed)?;
        let access = authorization.access;
        if self.usage(access).lock.is_active(now) {
            return Err(SignatureError::Locked);
        }
        let key = self.keys.get(access).ok_or_else(|| SignatureError::Unknown(access.into()))?;
        let date = signature::date(request.headers).ok_or(SignatureError::NoDate)?;
        let skew = now.duration_since(date).unwrap_or_else(|ahead| ahead.duration());
        if skew > MAX_SKEW {
            return Err(SignatureError::Skewed);
        }
        let sent = request.headers.get("x-security-token");
        match (&key.session, sent) {
            (None, None) => {}
            (Some(_), None) => return Err(SignatureError::NoSecurityToken),
            (Some(session), Some(sent)) if *sent == *session.security_token => {
                if session.expires <= now {
                    return Err(SignatureError::Expired);
                }
            }
            (_, Some(_)) => return Err(SignatureError::WrongSecurityToken),
        }
        match authorization.matches(&key.secret, request) {
            Ok(true) => Ok(key.permissions.clone()),
            Ok(false) => Err(SignatureError::Wrong),
            Err(error) => Err(SignatureError::CanonicalError(error)),
        }
    }
}
