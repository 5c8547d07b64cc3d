//! Access keys, permanent and temporary: who signed a request, and the lockout after repeated bad signatures.
//!
//! `signature` computes signatures; `access` checks what the owner of a key may use.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::access::{Lockout, Permissions};
use super::answer::Answer;
use super::fault::ACCESS_LOCKED;
use super::iam::iso;
use super::signature::{self, Authorization, CanonicalError};
use super::world::{Request, World};

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

/// A temporary key as its owner receives it.
pub(super) struct TemporaryKey {
    pub(super) access: String,
    pub(super) secret: String,
    pub(super) security_token: String,
    pub(super) expires: SystemTime,
}

/// Counts and lockout of one access key, whether it exists or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) requests: u64,
    pub(super) refusals: u64,
    pub(super) lock: Lockout,
}

#[derive(Default)]
pub(super) struct AccessKeys {
    keys: HashMap<Box<str>, AccessKey>,
    usage: BTreeMap<Box<str>, Usage>,
}

/// Why a signature is refused.
#[derive(Debug, PartialEq, Eq)]
enum SignatureError {
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
    fn text(&self) -> String {
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
    pub(super) fn set(&mut self, access: &str, secret: &str) {
        let key = AccessKey { secret: secret.into(), session: None, permissions: Permissions::OwnAccount(None) };
        self.keys.insert(access.into(), key);
    }

    pub(super) fn revoke(&mut self, access: &str) {
        self.keys.remove(access);
    }

    pub(super) fn revoke_temporary(&mut self) {
        self.keys.retain(|_, key| key.session.is_none());
    }

    pub(super) fn usage(&self, access: &str) -> Usage {
        self.usage.get(access).copied().unwrap_or_default()
    }

    /// The keys that requests named so far.
    pub(super) fn seen(&self) -> impl Iterator<Item = &str> {
        self.usage.iter().filter(|(_, usage)| usage.requests > 0).map(|(access, _)| access.as_ref())
    }

    /// Resets the counts; lockouts stay.
    pub(super) fn forget_requests(&mut self) {
        self.usage.values_mut().for_each(|usage| (usage.requests, usage.refusals) = (0, 0));
    }

    fn update(&mut self, access: &str, change: impl FnOnce(&mut Usage)) {
        if let Some(usage) = self.usage.get_mut(access) {
            change(usage);
        } else if self.usage.len() < MAX_USAGE_RECORDS {
            change(self.usage.entry(access.into()).or_default());
        }
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

impl Request<'_> {
    /// Whether it has a signature, valid or not; a token in the same request is ignored.
    pub(super) fn is_signed(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }
}

impl World {
    /// The permissions of the key that signed a request.
    pub(super) fn signed_by(&mut self, request: &Request<'_>, request_id: &str) -> Result<Permissions, Answer> {
        let outcome = self.access_keys.check(request, self.now());
        match outcome {
            Ok(permissions) => {
                if let Some(authorization) = Authorization::of(request.headers) {
                    self.access_keys.update(authorization.access, |usage| usage.lock.succeeded());
                }
                Ok(permissions)
            }
            Err(refusal) => {
                self.authentication_failed(request);
                Err(Answer::gateway(401, "APIGW.0301", &refusal.text(), request_id))
            }
        }
    }

    /// Counts a request for the access key that it names.
    pub(super) fn count_access_key(&mut self, request: &Request<'_>) {
        if let Some(authorization) = Authorization::of(request.headers) {
            self.access_keys.update(authorization.access, |usage| usage.requests += 1);
        }
    }

    /// Counts a refusal for the access key that a request names; repeated refusals lock it.
    pub(super) fn refuse_access_key(&mut self, request: &Request<'_>) {
        let (now, limit) = (self.now(), self.behaviour.access_key_lock_after);
        if let Some(authorization) = Authorization::of(request.headers) {
            self.access_keys.update(authorization.access, |usage| {
                usage.refusals += 1;
                usage.lock.failed(limit, now);
            });
        }
    }

    /// A new temporary key, as IAM and the metadata service return it (`docs/kms-api.md` 5.3).
    pub(super) fn issue_temporary_key(&mut self, permissions: Permissions, lifetime: Duration) -> Value {
        let key = self.new_temporary_key(permissions, lifetime);
        json!({"credential": {
            "access": key.access,
            "secret": key.secret,
            "securitytoken": key.security_token,
            "expires_at": iso(key.expires),
        }})
    }

    /// A new temporary key.
    pub(super) fn new_temporary_key(&mut self, permissions: Permissions, lifetime: Duration) -> TemporaryKey {
        const CAPITALS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let now = self.now();
        if self.access_keys.keys.len() >= MAX_KEYS {
            let lives = |key: &AccessKey| key.session.as_ref().is_none_or(|session| session.expires > now);
            self.access_keys.keys.retain(|_, key| lives(key));
        }
        let lifetime = self.behaviour.temporary_key_lifetime.unwrap_or(lifetime);
        let expires = now + lifetime.min(super::iam::MAX_LIFETIME);
        let mut access = "HST".to_owned();
        access.extend((3..20).map(|_| char::from(CAPITALS[self.rng.usize(..CAPITALS.len())])));
        let secret: String = (0..40).map(|_| self.rng.alphanumeric()).collect();
        let security_token = self.long_text("gQpldS13ZXN0", "+/==");
        let session = Some(Session { security_token: security_token.as_str().into(), expires });
        let key = AccessKey { secret: secret.as_str().into(), session, permissions };
        self.access_keys.keys.insert(access.as_str().into(), key);
        TemporaryKey { access, secret, security_token, expires }
    }
}
