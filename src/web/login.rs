//! Who may ask: users with a password, or whoever has the token.
//!
//! A password costs bcrypt's price once: what was found right is remembered, and what is remembered is a keyed digest
//! and no password. The checks run beside the daemon's only thread, few at a time and none after a long wait, so that
//! a flood of wrong passwords takes neither the thread nor more than its share of the processors. Every refusal costs what
//! the most expensive hash does, so that how long one takes does not tell whether the user exists.

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

/// Checks of passwords at a time: one would let a single expensive hash hold up the others.
const CHECKS: usize = 2;
/// How long a request waits for a free password check.
const PATIENCE: Duration = Duration::from_secs(5);

const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"kms-rotationd\", charset=\"UTF-8\"");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"kms-rotationd\"");

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Allowed,
    /// It brings no credentials, or wrong ones.
    Refused,
    /// Too many passwords wait to be checked.
    Busy,
}

/// The checks of passwords that may run; they outlive what they check against.
pub(super) type Checks = Arc<Semaphore>;

pub(super) fn checks() -> Checks {
    Arc::new(Semaphore::new(CHECKS))
}

/// Who may ask. With neither users nor a token everybody may.
pub(super) struct Access {
    users: Vec<Known>,
    token: Option<Digest>,
    key: DigestKey,
    checks: Checks,
    verify: Verify,
    /// The highest cost of a user's hash.
    highest_cost: u32,
}

/// Whether a password has this bcrypt hash.
type Verify = Arc<dyn Fn(&[u8], &str) -> bool + Send + Sync>;

struct Known {
    name: String,
    hash: Arc<str>,
    /// Checking a password against the hash takes two to the power of this.
    cost: u32,
    /// The password that was found right last.
    verified: Mutex<Option<Digest>>,
}

type Digest = CtOutput<Hmac<Sha256>>;

/// A key that nobody knows, so that digests tell nothing and take no time to compare that tells anything.
struct DigestKey([u8; 32]);

impl DigestKey {
    fn digest(&self, bytes: &[u8]) -> Option<Digest> {
        // No key has a wrong length for HMAC.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(bytes);
        Some(mac.finalize())
    }
}

impl Access {
    /// Everybody may ask.
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

    /// Nothing where the system has no randomness.
    pub(super) fn new(users: Vec<config::User>, token: Option<&[u8]>, checks: Checks) -> Option<Self> {
        let mut key = DigestKey([0; 32]);
        rustls::crypto::ring::default_provider().secure_random.fill(&mut key.0).ok()?;
        let token = match token {
            Some(token) => Some(key.digest(token)?),
            None => None,
        };
        let known =
            |config::User { name, hash, cost }| Known { name, hash: hash.into(), cost, verified: Mutex::default() };
        let users: Vec<_> = users.into_iter().map(known).collect();
        let highest_cost = users.iter().map(|user| user.cost).max().unwrap_or_default();
        Some(Self { users, token, key, checks, verify: Arc::new(has_hash), highest_cost })
    }

    /// How a client may say who it is.
    pub(super) fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        let basic = (!self.users.is_empty()).then_some(BASIC);
        basic.into_iter().chain(self.token.as_ref().map(|_| BEARER))
    }

    /// Whether a request with these headers is answered.
    pub(super) async fn judge(&self, headers: &HeaderMap) -> Verdict {
        if self.users.is_empty() && self.token.is_none() {
            return Verdict::Allowed;
        }
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let (Some(sent), None) = (sent.next(), sent.next()) else { return Verdict::Refused };
        let Some((scheme, credentials)) = sent.to_str().ok().and_then(|sent| sent.split_once(' ')) else {
            return Verdict::Refused;
        };
        let credentials = credentials.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            let sent = self.key.digest(credentials.as_bytes());
            return if self.token.is_some() && self.token == sent { Verdict::Allowed } else { Verdict::Refused };
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Verdict::Refused;
        }
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(credentials).unwrap_or_default());
        let Some(colon) = decoded.iter().position(|byte| *byte == b':') else { return Verdict::Refused };
        self.check(&decoded[..colon], &decoded[colon + 1..]).await
    }

    async fn check(&self, name: &[u8], password: &[u8]) -> Verdict {
        if self.users.is_empty() {
            return Verdict::Refused;
        }
        let known = self.users.iter().find(|user| user.name.as_bytes() == name);
        let Some(digest) = self.key.digest(password) else { return Verdict::Refused };
        let remembered = || {
            let verified = known.map(|user| user.verified.lock().unwrap_or_else(PoisonError::into_inner));
            verified.is_some_and(|verified| verified.as_ref() == Some(&digest))
        };
        if remembered() {
            return Verdict::Allowed;
        }
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.checks).acquire_owned());
        let Ok(Ok(permit)) = permit.await else { return Verdict::Busy };
        // Somebody else may have sent the same meanwhile.
        if remembered() {
            return Verdict::Allowed;
        }
        let (verify, highest_cost) = (Arc::clone(&self.verify), self.highest_cost);
        let own = known.map(|user| (Arc::clone(&user.hash), user.cost));
        let password = Zeroizing::new(password.to_vec());
        let check = tokio::task::spawn_blocking(move || {
            // A client that goes away does not end the check, so the check keeps its place.
            let _permit = permit;
            let padding = match own {
                Some((hash, _)) if verify(&password, &hash) => return true,
                Some((_, cost)) => cost..highest_cost,
                None => highest_cost..highest_cost + 1,
            };
            for cost in padding {
                verify(&password, &nobodys_hash(cost));
            }
            false
        });
        let (true, Some(user)) = (check.await.unwrap_or(false), known) else { return Verdict::Refused };
        *user.verified.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
        Verdict::Allowed
    }
}

fn has_hash(password: &[u8], hash: &str) -> bool {
    bcrypt::verify(password, hash).unwrap_or(false)
}

/// A hash of this cost, to spend time on. A check of each cost from a hash's own to the one below the highest, after the
/// check of that hash, adds up to a single one of the highest: each step of the cost doubles the work.
fn nobodys_hash(cost: u32) -> String {
    format!("$2b${cost:02}${:.<53}", "")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Of `secret-pw`, as the C library's crypt(3) makes it.
    const OF_CRYPT: &str = "$2y$10$abcdefghijklmnopqrstuufqFY9d8x6CvHKrWjGN.IpWaUP8NRs32";

    fn access(checks: Checks) -> Access {
        let cost = |hash: &str| hash[4..6].parse().unwrap();
        let user = |name: &str, hash: String| config::User { name: name.to_owned(), cost: cost(&hash), hash };
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let users = vec![
            user("alice", hash("a:b ü")),
            user("bob", hash("").replacen("$2b$", "$2a$", 1)),
            user("carol", OF_CRYPT.to_owned()),
        ];
        Access::new(users, Some(b"t0ken"), checks).unwrap()
    }

    async fn judged(access: &Access, sent: &[&str]) -> Verdict {
        let mut headers = HeaderMap::new();
        for sent in sent {
            headers.append(AUTHORIZATION, HeaderValue::from_str(sent).unwrap());
        }
        access.judge(&headers).await
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(text))
    }

    #[tokio::test]
    async fn a_password_or_the_token_lets_in_and_nothing_else_does() {
        let access = access(checks());
        for sent in [&basic("alice:a:b ü"), &basic("bob:"), &basic("carol:secret-pw"), "bEARER t0ken", "Bearer  t0ken "]
        {
            assert_eq!(judged(&access, &[sent]).await, Verdict::Allowed, "{sent}");
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
            assert_eq!(judged(&access, sent).await, Verdict::Refused, "{sent:?}");
        }
        assert_eq!(judged(&Access::open(), &[]).await, Verdict::Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_right_is_not_checked_again_and_a_full_house_refuses_the_rest() {
        let checks = checks();
        let access = access(Arc::clone(&checks));
        assert_eq!(judged(&access, &[&basic("alice:a:b ü")]).await, Verdict::Allowed);
        let all = checks.try_acquire_many(2).unwrap();
        assert_eq!(judged(&access, &[&basic("alice:a:b ü")]).await, Verdict::Allowed);
        assert_eq!(judged(&access, &[&basic("bob:")]).await, Verdict::Busy);
        // Who is unknown does not profit from what is remembered of another.
        assert_eq!(judged(&access, &[&basic("mallory:a:b ü")]).await, Verdict::Busy);
        drop(all);
        assert_eq!(judged(&access, &[&basic("bob:")]).await, Verdict::Allowed);
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
            let access = Access::new(users.iter().copied().map(user).collect(), None, checks()).unwrap();
            let access = Access { verify: Arc::clone(&counting), ..access };
            let checked = async |sent: &str| {
                let verdict = judged(&access, &[&basic(sent)]).await;
                (verdict, work.swap(0, Ordering::SeqCst))
            };
            for (name, cost) in users.iter().copied() {
                assert_eq!(checked(&format!("{name}:wrong")).await, (Verdict::Refused, 1 << highest), "{name}");
                assert_eq!(checked(&format!("{name}:right")).await, (Verdict::Allowed, 1 << cost), "{name}");
                // What is remembered is no shorter way to a refusal.
                assert_eq!(checked(&format!("{name}:wrong")).await, (Verdict::Refused, 1 << highest), "{name}");
            }
            for sent in ["nobody:wrong", "nobody:right", ":", "Dear:right"] {
                assert_eq!(checked(sent).await, (Verdict::Refused, 1 << highest), "{sent}");
            }
        }
    }

    #[test]
    fn the_hash_that_time_is_spent_on_is_one() {
        assert_eq!(nobodys_hash(4).len(), 60);
        assert!(bcrypt::verify("", &nobodys_hash(4)).is_ok_and(|is| !is), "an invalid one would take no time");
    }
}
