//! Secrets that the cloud has refused: one that has not changed since is not sent again for a while, whatever the
//! schedule.
//!
//! Five failures in a row lock an access key, and wrong passwords lock the user (API sheet, section 3), so runs that
//! follow each other closely must not repeat a refused secret any more than calls side by side. What is kept of a secret
//! is a salted hash: it shows whether the secret has changed, and nobody can log in with it. Projects that log in alike
//! share one of these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::probe::LONGEST_PROBE;

/// How long a refused secret that has not changed is not sent again.
const HOLD: Duration = Duration::from_secs(30 * 60);

/// Whether what was refused at this time is not sent again yet. A clock that was set back ends it, instead of holding it
/// for longer.
pub(in crate::kms) fn holds(refused: SystemTime, now: SystemTime) -> bool {
    now.duration_since(refused).is_ok_and(|ago| ago < HOLD)
}

/// What is kept of a secret.
pub(super) type Fingerprint = [u8; 32];

/// The refused secrets of one way to log in.
pub(in crate::kms) struct Refusals {
    salt: [Uuid; 2],
    known: Mutex<Vec<Refused>>,
    /// Held by the one login that is under way.
    turn: tokio::sync::Mutex<()>,
}

struct Refused {
    secret: Fingerprint,
    /// Which project it was refused to.
    project: Arc<str>,
    at: SystemTime,
    why: Box<str>,
    /// Another project was let in with it, so that the refusal is about this project only.
    accepted_elsewhere: bool,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { salt: [Uuid::new_v4(), Uuid::new_v4()], known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl Refusals {
    /// What tells a secret from another one.
    pub(super) fn fingerprint(&self, parts: &[&str]) -> Fingerprint {
        let mut hash = Sha256::new();
        self.salt.iter().for_each(|salt| hash.update(salt.as_bytes()));
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Why the project may not send the secret now, if so: the cloud's words on it.
    pub(super) fn check(&self, project: &str, secret: &Fingerprint, now: SystemTime) -> Result<(), Box<str>> {
        let known = self.known();
        let held = known.iter().find(|refused| {
            refused.secret == *secret
                && holds(refused.at, now)
                && (&*refused.project == project || !refused.accepted_elsewhere)
        });
        held.map_or(Ok(()), |refused| Err(refused.why.clone()))
    }

    /// The secret was refused to the project; `accepted_elsewhere` where another one is let in with it.
    pub(super) fn refuse(
        &self,
        project: &Arc<str>,
        secret: Fingerprint,
        why: &str,
        accepted_elsewhere: bool,
        now: SystemTime,
    ) {
        let mut known = self.known();
        known.retain(|known| holds(known.at, now) && !(known.secret == secret && known.project == *project));
        known.push(Refused { secret, project: Arc::clone(project), at: now, why: why.into(), accepted_elsewhere });
    }

    /// The secret was accepted, so that an earlier refusal was about its project only.
    pub(super) fn accept(&self, secret: &Fingerprint) {
        let mut known = self.known();
        known.iter_mut().filter(|known| known.secret == *secret).for_each(|known| known.accepted_elsewhere = true);
    }

    /// Waits for the end of another login, so that a wrong password of five projects is sent once and not five times. A
    /// server that does not answer must not hold up the others.
    pub(super) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        tokio::time::timeout(LONGEST_PROBE, self.turn.lock()).await.ok()
    }

    /// Somebody looks after it: what was refused may be tried at once.
    pub(super) fn forgive(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, Vec<Refused>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 1_000_000 * MINUTE
    }

    #[test]
    fn a_refused_secret_is_held_for_half_an_hour_unless_it_changes() {
        let refusals = Refusals::default();
        let (old, new) = (refusals.fingerprint(&["old"]), refusals.fingerprint(&["new"]));
        refusals.refuse(&"a".into(), old, "HTTP 401", false, now());
        for (project, secret, minutes, held) in [
            ("a", old, 0, true),
            ("a", old, 29, true),
            ("b", old, 29, true),
            ("a", old, 30, false),
            ("a", new, 0, false),
        ] {
            let checked = refusals.check(project, &secret, now() + minutes * MINUTE);
            assert_eq!(checked.err().as_deref(), held.then_some("HTTP 401"), "{project} {minutes}");
        }
        assert_eq!(refusals.check("a", &old, now() - MINUTE), Ok(()), "the clock was set back");
        refusals.forgive();
        assert_eq!(refusals.check("a", &old, now()), Ok(()));
    }

    #[test]
    fn a_secret_that_another_project_is_let_in_with_is_held_for_the_refused_one_only() {
        for first in [true, false] {
            let refusals = Refusals::default();
            let secret = refusals.fingerprint(&["secret"]);
            refusals.refuse(&"a".into(), secret, "HTTP 401", first, now());
            if !first {
                assert!(refusals.check("b", &secret, now()).is_err());
                refusals.accept(&secret);
            }
            assert!(refusals.check("a", &secret, now()).is_err());
            assert_eq!(refusals.check("b", &secret, now()), Ok(()));
        }
    }

    #[test]
    fn a_fingerprint_is_of_the_whole_secret_and_of_this_process_only() {
        let refusals = Refusals::default();
        assert_eq!(refusals.fingerprint(&["ab", "c"]), refusals.fingerprint(&["ab", "c"]));
        assert_ne!(refusals.fingerprint(&["ab", "c"]), refusals.fingerprint(&["a", "bc"]));
        assert_ne!(refusals.fingerprint(&["ab"]), Refusals::default().fingerprint(&["ab"]));
    }
}
