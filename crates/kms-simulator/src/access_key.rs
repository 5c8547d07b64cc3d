//! Access keys, permanent and temporary: who signed a request, and the lock that too many bad signatures bring.
//!
//! How a signature comes about is in `signature`; what the holder of a key may open is decided in `access`.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::access::{Lock, Reach};
use super::answer::Answer;
use super::fault::ACCESS_LOCKED;
use super::iam::iso;
use super::signature::{self, Authorization, Flaw};
use super::world::{Request, World};

/// How far the date of a signature may be from the gateway's clock, as documented.
const MOST_SKEW: Duration = Duration::from_secs(15 * 60);
/// Temporary keys are remembered up to this many, so that an expired one is told from one that never was.
const REMEMBERED_KEYS: usize = 512;
/// Records of keys, made-up ones among them, are kept up to this many.
const MOST_RECORDS: usize = 4096;

struct AccessKey {
    secret: Box<str>,
    session: Option<Session>,
    reach: Reach,
}

/// What makes a key a temporary one.
struct Session {
    security_token: Box<str>,
    expires: SystemTime,
}

/// A temporary key as its holder sees it.
pub(super) struct TemporaryKey {
    pub(super) access: String,
    pub(super) secret: String,
    pub(super) security_token: String,
    pub(super) expires: SystemTime,
}

/// What came of the requests under one access key, whether it exists or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    pub(super) requests: u64,
    pub(super) refusals: u64,
    pub(super) lock: Lock,
}

#[derive(Default)]
pub(super) struct AccessKeys {
    keys: HashMap<Box<str>, AccessKey>,
    records: BTreeMap<Box<str>, Record>,
}

/// Why a signature is refused.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Malformed,
    Locked,
    Unknown(Box<str>),
    NoDate,
    Skewed,
    Flaw(Flaw),
    Wrong,
    /// A temporary key without its security token.
    NoSecurityToken,
    /// Another key's security token, or any one beside a permanent key.
    WrongSecurityToken,
    Expired,
}

impl Refusal {
    /// As seen on the wire or in the documents for an unknown key, a wrong signature, a late one and the lock; where
    /// neither has a text it is made up.
    fn text(&self) -> String {
        let cause = match self {
            // The one text that was documented without the words before it.
            Self::Locked => return ACCESS_LOCKED.to_owned(),
            Self::Unknown(access) => &format!("ak {access} not exist"),
            Self::Skewed => "calc ak sk signature fail:signature expired",
            Self::Wrong => "verify aksk signature fail",
            Self::Malformed => "authorization header is malformed",
            Self::NoDate => "x-sdk-date is missing or malformed",
            Self::Flaw(Flaw::Names) => "signed headers are not in lower case and in order",
            Self::Flaw(Flaw::DateNotSigned) => "x-sdk-date is not signed",
            Self::Flaw(Flaw::Header(name)) => &format!("signed header {name} not found or not unique"),
            Self::Flaw(Flaw::BodyHash) => "x-sdk-content-sha256 does not match the body",
            Self::NoSecurityToken => "x-security-token not found",
            Self::WrongSecurityToken => "x-security-token does not belong to the ak",
            Self::Expired => "x-security-token expired",
        };
        format!("Incorrect IAM authentication information: {cause}")
    }
}

impl AccessKeys {
    /// A permanent key, or another secret for the one that there is.
    pub(super) fn set(&mut self, access: &str, secret: &str) {
        let key = AccessKey { secret: secret.into(), session: None, reach: Reach::Own(None) };
        self.keys.insert(access.into(), key);
    }

    pub(super) fn revoke(&mut self, access: &str) {
        self.keys.remove(access);
    }

    pub(super) fn revoke_temporary(&mut self) {
        self.keys.retain(|_, key| key.session.is_none());
    }

    pub(super) fn record(&self, access: &str) -> Record {
        self.records.get(access).copied().unwrap_or_default()
    }

    /// The keys that requests came with so far.
    pub(super) fn seen(&self) -> impl Iterator<Item = &str> {
        self.records.iter().filter(|(_, record)| record.requests > 0).map(|(access, _)| access.as_ref())
    }

    /// Forgets the counts; locks hold on.
    pub(super) fn forget_requests(&mut self) {
        self.records.values_mut().for_each(|record| (record.requests, record.refusals) = (0, 0));
    }

    fn note(&mut self, access: &str, note: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.get_mut(access) {
            note(record);
        } else if self.records.len() < MOST_RECORDS {
            note(self.records.entry(access.into()).or_default());
        }
    }

    fn check(&self, request: &Request<'_>, now: SystemTime) -> Result<Reach, Refusal> {
        let authorization = Authorization::of(request.headers).ok_or(Refusal::Malformed)?;
        let access = authorization.access;
        if self.record(access).lock.holds(now) {
            return Err(Refusal::Locked);
        }
        let key = self.keys.get(access).ok_or_else(|| Refusal::Unknown(access.into()))?;
        let date = signature::date(request.headers).ok_or(Refusal::NoDate)?;
        let skew = now.duration_since(date).unwrap_or_else(|ahead| ahead.duration());
        if skew > MOST_SKEW {
            return Err(Refusal::Skewed);
        }
        let sent = request.headers.get("x-security-token");
        match (&key.session, sent) {
            (None, None) => {}
            (Some(_), None) => return Err(Refusal::NoSecurityToken),
            (Some(session), Some(sent)) if *sent == *session.security_token => {
                if session.expires <= now {
                    return Err(Refusal::Expired);
                }
            }
            (_, Some(_)) => return Err(Refusal::WrongSecurityToken),
        }
        match authorization.is_by(&key.secret, request) {
            Ok(true) => Ok(key.reach.clone()),
            Ok(false) => Err(Refusal::Wrong),
            Err(flaw) => Err(Refusal::Flaw(flaw)),
        }
    }
}

impl Request<'_> {
    /// Whether it comes, or means to come, with a signature; a token beside it does not count.
    pub(super) fn is_signed(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }
}

impl World {
    /// Who signed a request.
    pub(super) fn signed_by(&mut self, request: &Request<'_>, request_id: &str) -> Result<Reach, Answer> {
        let outcome = self.access_keys.check(request, self.now());
        match outcome {
            Ok(reach) => {
                if let Some(authorization) = Authorization::of(request.headers) {
                    self.access_keys.note(authorization.access, |record| record.lock.succeeded());
                }
                Ok(reach)
            }
            Err(refusal) => {
                self.authentication_failed(request);
                Err(Answer::gateway(401, "APIGW.0301", &refusal.text(), request_id))
            }
        }
    }

    /// Counts a request for the access key that it names, whatever becomes of it.
    pub(super) fn count_access_key(&mut self, request: &Request<'_>) {
        if let Some(authorization) = Authorization::of(request.headers) {
            self.access_keys.note(authorization.access, |record| record.requests += 1);
        }
    }

    /// Counts a refusal for the access key that a request names; many in a row lock it.
    pub(super) fn refuse_access_key(&mut self, request: &Request<'_>) {
        let (now, limit) = (self.now(), self.behaviour.access_key_lock_after);
        if let Some(authorization) = Authorization::of(request.headers) {
            self.access_keys.note(authorization.access, |record| {
                record.refusals += 1;
                record.lock.failed(limit, now);
            });
        }
    }

    /// A new temporary key, as IAM and the metadata service write it.
    pub(super) fn issue_temporary_key(&mut self, reach: Reach, lifetime: Duration) -> Value {
        let key = self.new_temporary_key(reach, lifetime);
        json!({"credential": {
            "access": key.access,
            "secret": key.secret,
            "securitytoken": key.security_token,
            "expires_at": iso(key.expires),
        }})
    }

    /// A new temporary key.
    pub(super) fn new_temporary_key(&mut self, reach: Reach, lifetime: Duration) -> TemporaryKey {
        const CAPITALS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let now = self.now();
        if self.access_keys.keys.len() >= REMEMBERED_KEYS {
            let lives = |key: &AccessKey| key.session.as_ref().is_none_or(|session| session.expires > now);
            self.access_keys.keys.retain(|_, key| lives(key));
        }
        let lifetime = self.behaviour.temporary_key_lifetime.unwrap_or(lifetime);
        let expires = now + lifetime.min(super::iam::LONGEST_LIFETIME);
        let mut access = "HST".to_owned();
        access.extend((3..20).map(|_| char::from(CAPITALS[self.rng.usize(..CAPITALS.len())])));
        let secret: String = (0..40).map(|_| self.rng.alphanumeric()).collect();
        let security_token = self.long_text("gQpldS13ZXN0", "+/==");
        let session = Some(Session { security_token: security_token.as_str().into(), expires });
        let key = AccessKey { secret: secret.as_str().into(), session, reach };
        self.access_keys.keys.insert(access.as_str().into(), key);
        TemporaryKey { access, secret, security_token, expires }
    }
}
