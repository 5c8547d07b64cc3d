//! The logins of the web configuration: users with a password, and a bearer token.
//!
//! A right password costs bcrypt's time once: a keyed digest of it is remembered, and not the password. Checks run
//! beside the daemon's only thread, few at a time, and are refused after a long wait, so that many wrong passwords
//! occupy neither the thread nor all processors. Every refusal takes as long as the most expensive hash, so that its
//! duration does not reveal whether the user exists.
//!
//! Reading the `Authorization` header is kept by hand because it is a split at a space and one at a colon.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use sha2::Sha256;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::web::config;

/// Password checks at a time: with one, a single expensive hash would delay all others.
const CHECKS: usize = 2;
/// How long a request waits for a free password check.
const PATIENCE: Duration = Duration::from_secs(5);

const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"kms-rotationd\", charset=\"UTF-8\"");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"kms-rotationd\"");

/// Whether a request is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginOutcome {
    Allowed,
    /// It has no credentials, or wrong ones.
    Refused,
    /// Too many passwords are waiting to be checked.
    Busy,
}

/// Permits for password checks; they outlast a reload of the web configuration.
pub(super) type Checks = Arc<Semaphore>;

pub(super) fn checks() -> Checks {
    Arc::new(Semaphore::new(CHECKS))
}

/// The users and the token. Without either, every request is admitted.
pub(super) struct Logins {
    users: Vec<KnownUser>,
    token: Option<Digest>,
    key: DigestKey,
    checks: Checks,
    verify: Verify,
    /// The highest cost of a user's hash.
    highest_cost: u32,
}

/// Checks a password against a bcrypt hash.
type Verify = Arc<dyn Fn(&[u8], &str) -> bool + Send + Sync>;

struct KnownUser {
    name: String,
    hash: Arc<str>,
    /// The binary logarithm of the work of a check.
    cost: u32,
    /// The digest of the last right password.
    verified: Mutex<Option<Digest>>,
}

type Digest = CtOutput<Hmac<Sha256>>;

/// A random key, so that neither a digest nor the time of a comparison reveals anything.
struct DigestKey([u8; 32]);

impl DigestKey {
    fn digest(&self, bytes: &[u8]) -> Option<Digest> {
        // HMAC accepts keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(bytes);
        Some(mac.finalize())
    }
}

impl Logins {
    /// Admits every request.
    pub(super) fn open() -> Self {
        Self {
            users: Vec::new(),
            token: None,
            key: DigestKey([0; 32]),
            checks: checks(),
            verify: Arc::new(has_hash),
            highest_cost: 0,
        }
    }

    /// None if the system has no randomness.
    pub(super) fn new(users: Vec<config::User>, token: Option<&[u8]>, checks: Checks) -> Option<Self> {
        let mut key = DigestKey([0; 32]);
        rustls::crypto::ring::default_provider().secure_random.fill(&mut key.0).ok()?;
        let token = match token {
            Some(token) => Some(key.digest(token)?),
            None => None,
        };
        let known =
            |config::User { name, hash, cost }| KnownUser { name, hash: hash.into(), cost, verified: Mutex::default() };
        let users: Vec<_> = users.into_iter().map(known).collect();
        let highest_cost = users.iter().map(|user| user.cost).max().unwrap_or_default();
        Some(Self { users, token, key, checks, verify: Arc::new(has_hash), highest_cost })
    }

    /// The ways to log in, for the response to a request without a login.
    pub(super) fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        let basic = (!self.users.is_empty()).then_some(BASIC);
        basic.into_iter().chain(self.token.as_ref().map(|_| BEARER))
    }

    /// Whether a request with these headers is admitted.
    pub(super) async fn judge(&self, headers: &HeaderMap) -> LoginOutcome {
        if self.users.is_empty() && self.token.is_none() {
            return LoginOutcome::Allowed;
        }
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let (Some(sent), None) = (sent.next(), sent.next()) else { return LoginOutcome::Refused };
        let Some((scheme, credentials)) = sent.to_str().ok().and_then(|sent| sent.split_once(' ')) else {
            return LoginOutcome::Refused;
        };
        let credentials = credentials.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            let sent = self.key.digest(credentials.as_bytes());
            return if self.token.is_some() && self.token == sent {
                LoginOutcome::Allowed
            } else {
                LoginOutcome::Refused
            };
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return LoginOutcome::Refused;
        }
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(credentials).unwrap_or_default());
        let Some(colon) = decoded.iter().position(|byte| *byte == b':') else { return LoginOutcome::Refused };
        self.check(&decoded[..colon], &decoded[colon + 1..]).await
    }

    async fn check(&self, name: &[u8], password: &[u8]) -> LoginOutcome {
        if self.users.is_empty() {
            return LoginOutcome::Refused;
        }
        let known = self.users.iter().find(|user| user.name.as_bytes() == name);
        let Some(digest) = self.key.digest(password) else { return LoginOutcome::Refused };
        let remembered = || {
            let verified = known.map(|user| user.verified.lock().unwrap_or_else(PoisonError::into_inner));
            verified.is_some_and(|verified| verified.as_ref() == Some(&digest))
        };
        if remembered() {
            return LoginOutcome::Allowed;
        }
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.checks).acquire_owned());
        let Ok(Ok(permit)) = permit.await else { return LoginOutcome::Busy };
        // Another request may have had the same password checked meanwhile.
        if remembered() {
            return LoginOutcome::Allowed;
        }
        let (verify, highest_cost) = (Arc::clone(&self.verify), self.highest_cost);
        let own = known.map(|user| (Arc::clone(&user.hash), user.cost));
        let password = Zeroizing::new(password.to_vec());
        let check = tokio::task::spawn_blocking(move || {
            // A client that goes away does not end the check, so the check keeps its permit.
            let _permit = permit;
            let padding = match own {
                Some((hash, _)) if verify(&password, &hash) => return true,
                Some((_, cost)) => cost..highest_cost,
                None => highest_cost..highest_cost + 1,
            };
            for cost in padding {
                verify(&password, &padding_hash(cost));
            }
            false
        });
        let (true, Some(user)) = (check.await.unwrap_or(false), known) else { return LoginOutcome::Refused };
        *user.verified.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
        LoginOutcome::Allowed
    }
}

fn has_hash(password: &[u8], hash: &str) -> bool {
    bcrypt::verify(password, hash).unwrap_or(false)
}

/// A hash of this cost that no password has, to spend time on. One check of each cost from a hash's own to the one
/// below the highest, after the check of that hash, adds up to one check of the highest: each step of the cost doubles
/// the work.
fn padding_hash(cost: u32) -> String {
    format!("$2b${cost:02}${:.<53}", "")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Of `secret-pw`, as the C library's crypt(3) makes it.
    const OF_CRYPT: &str = "$2y$10$abcdefghijklmnopqrstuufqFY9d8x6CvHKrWjGN.IpWaUP8NRs32";

    fn logins(checks: Checks) -> Logins {
        let cost = |hash: &str| hash[4..6].parse().unwrap();
        let user = |name: &str, hash: String| config::User { name: name.to_owned(), cost: cost(&hash), hash };
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let users = vec![
            user("alice", hash("a:b ü")),
            user("bob", hash("").replacen("$2b$", "$2a$", 1)),
            user("carol", OF_CRYPT.to_owned()),
        ];
        Logins::new(users, Some(b"t0ken"), checks).unwrap()
    }

    async fn judged(logins: &Logins, sent: &[&str]) -> LoginOutcome {
        let mut headers = HeaderMap::new();
        for sent in sent {
            headers.append(AUTHORIZATION, HeaderValue::from_str(sent).unwrap());
        }
        logins.judge(&headers).await
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(text))
    }

    #[tokio::test]
    async fn a_password_or_the_token_is_admitted_and_nothing_else() {
        let logins = logins(checks());
        for sent in [&basic("alice:a:b ü"), &basic("bob:"), &basic("carol:secret-pw"), "bEARER t0ken", "Bearer  t0ken "]
        {
            assert_eq!(judged(&logins, &[sent]).await, LoginOutcome::Allowed, "{sent}");
        }
        let (alice, wrong) = (basic("alice:a:b ü"), basic("alice:a"));
        let refused: [&[&str]; 10] = [
            &[],
            &[&wrong],
            &[&basic("mallory:a:b ü")],
            &[&basic("alice")],
            &[&basic("")],
            &["Basic ???"],
            &["Bearer t0ke"],
            &["Bearer"],
            &["Digest t0ken"],
            &[&alice, &alice],
        ];
        for sent in refused {
            assert_eq!(judged(&logins, sent).await, LoginOutcome::Refused, "{sent:?}");
        }
        assert_eq!(judged(&Logins::open(), &[]).await, LoginOutcome::Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_password_is_not_checked_again_and_without_a_permit_others_are_refused() {
        let checks = checks();
        let logins = logins(Arc::clone(&checks));
        assert_eq!(judged(&logins, &[&basic("alice:a:b ü")]).await, LoginOutcome::Allowed);
        let all = checks.try_acquire_many(2).unwrap();
        assert_eq!(judged(&logins, &[&basic("alice:a:b ü")]).await, LoginOutcome::Allowed);
        assert_eq!(judged(&logins, &[&basic("bob:")]).await, LoginOutcome::Busy);
        // A user that does not exist is not admitted by another's remembered password.
        assert_eq!(judged(&logins, &[&basic("mallory:a:b ü")]).await, LoginOutcome::Busy);
        drop(all);
        assert_eq!(judged(&logins, &[&basic("bob:")]).await, LoginOutcome::Allowed);
    }

    #[tokio::test]
    async fn every_refusal_takes_the_work_of_the_most_expensive_hash() {
        let work = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&work);
        let counting: Verify = Arc::new(move |password, hash| {
            counter.fetch_add(1 << hash[4..6].parse::<u32>().unwrap(), Ordering::SeqCst);
            password == b"right" && !hash.contains("....")
        });
        let user = |(name, cost): (&str, u32)| {
            let hash = format!("$2b${cost:02}${}", "a".repeat(53));
            config::User { name: name.to_owned(), hash, cost }
        };
        for users in [&[("cheap", 4), ("dear", 12), ("between", 9)][..], &[("dear", 12)], &[("cheap", 4), ("dear", 4)]]
        {
            let highest = users.iter().map(|(_, cost)| *cost).max().unwrap();
            let logins = Logins::new(users.iter().copied().map(user).collect(), None, checks()).unwrap();
            let logins = Logins { verify: Arc::clone(&counting), ..logins };
            let checked = async |sent: &str| {
                let verdict = judged(&logins, &[&basic(sent)]).await;
                (verdict, work.swap(0, Ordering::SeqCst))
            };
            for (name, cost) in users.iter().copied() {
                assert_eq!(checked(&format!("{name}:wrong")).await, (LoginOutcome::Refused, 1 << highest), "{name}");
                assert_eq!(checked(&format!("{name}:right")).await, (LoginOutcome::Allowed, 1 << cost), "{name}");
                // A remembered password does not make a refusal faster.
                assert_eq!(checked(&format!("{name}:wrong")).await, (LoginOutcome::Refused, 1 << highest), "{name}");
            }
            for sent in ["nobody:wrong", "nobody:right", ":", "Dear:right"] {
                assert_eq!(checked(sent).await, (LoginOutcome::Refused, 1 << highest), "{sent}");
            }
        }
    }

    #[test]
    fn the_hash_that_time_is_spent_on_is_valid() {
        assert_eq!(padding_hash(4).len(), 60);
        assert!(bcrypt::verify("", &padding_hash(4)).is_ok_and(|is| !is), "an invalid one would take no time");
    }
}
