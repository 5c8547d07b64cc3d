//! Secrets that the cloud has refused: an unchanged one is not sent again for 30 minutes, whatever the schedule.
//!
//! Five failures in a row lock an access key, and wrong passwords lock the user (`docs/kms-api.md` 3.2 and 3.3), so
//! neither concurrent calls nor close runs may repeat a refused secret. Only a salted hash of it is kept. Projects with
//! the same login share one record.
//!
//! A refusal may concern the project alone: IAM answers 401 as well where the user has no role on it. So it counts for
//! this project, and for all others only after a second project was refused while none was accepted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::accepted_secret::{AcceptedSecret, Fingerprint};
use crate::kms::secret::is_on_hold;

/// How many projects may be refused with a secret before it is held for all. Five failures lock a user.
const MOST_REFUSED: usize = 2;
/// How long a login waits for others: for `MOST_REFUSED` logins that take the whole request timeout of 8 seconds.
const LONGEST_TURN: Duration = Duration::from_secs(20);

/// The refused secrets of one login.
pub(in crate::kms) struct Refusals {
    salt: [Uuid; 2],
    known: Mutex<KnownRefusals>,
    /// Locked by the one login in flight.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct KnownRefusals {
    refused: Vec<RefusedSecret>,
    accepted_secret: AcceptedSecret,
    /// The number of accepted logins.
    accepted: u64,
}

struct RefusedSecret {
    secret: Fingerprint,
    /// The project of the refusal.
    project: Arc<str>,
    at: SystemTime,
    why: Box<str>,
    /// The refusal concerns this project only, since another one was accepted.
    of_project_only: bool,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { salt: [Uuid::new_v4(), Uuid::new_v4()], known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl Refusals {
    /// The hash that is kept of a secret.
    pub(super) fn fingerprint(&self, parts: &[&str]) -> Fingerprint {
        let mut hash = Sha256::new();
        self.salt.iter().for_each(|salt| hash.update(salt.as_bytes()));
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Fails with the cloud's message if the project must not send the secret now.
    pub(super) fn check(&self, project: &str, secret: &Fingerprint, now: SystemTime) -> Result<(), Box<str>> {
        let known = self.known();
        let held = || known.refused.iter().filter(|refused| refused.secret == *secret && is_on_hold(refused.at, now));
        let own = held().find(|refused| &*refused.project == project);
        let of_all = held().filter(|refused| !refused.of_project_only).nth(MOST_REFUSED - 1);
        own.or(of_all).map_or(Ok(()), |refused| Err(refused.why.clone()))
    }

    /// The secret was refused to the project; `of_project_only` where that means nothing for other projects.
    pub(super) fn refuse(
        &self,
        project: &Arc<str>,
        secret: Fingerprint,
        why: &str,
        of_project_only: bool,
        now: SystemTime,
    ) {
        let mut known = self.known();
        known.accepted_secret.refuse(project, &secret);
        let of_project_only = of_project_only || known.accepted_secret.is_accepted(&secret);
        known
            .refused
            .retain(|known| is_on_hold(known.at, now) && !(known.secret == secret && known.project == *project));
        let project = Arc::clone(project);
        known.refused.push(RefusedSecret { secret, project, at: now, why: why.into(), of_project_only });
    }

    /// The project was accepted with the secret, so earlier refusals concern their own projects only.
    pub(super) fn accept(&self, project: &Arc<str>, secret: &Fingerprint) {
        let mut known = self.known();
        known.accepted += 1;
        let refused = known.refused.iter_mut().filter(|refused| refused.secret == *secret);
        refused.for_each(|refused| refused.of_project_only = true);
        known.accepted_secret.accept(project, secret);
    }

    /// Waits for the end of another login, so that many projects do not send a wrong password at once. Once a login is
    /// accepted, the others need not wait. A server that does not answer delays them by `LONGEST_TURN` at most.
    pub(super) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let before = self.known().accepted;
        let turn = tokio::time::timeout(LONGEST_TURN, self.turn.lock()).await.ok();
        turn.filter(|_| self.known().accepted == before)
    }

    /// An operator has started the run: refused secrets may be sent at once.
    pub(super) fn forget(&self) {
        self.known().refused.clear();
    }

    fn known(&self) -> MutexGuard<'_, KnownRefusals> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;
    use tokio::time::{Instant, sleep};

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
            ("b", old, 0, false),
            ("a", old, 30, false),
            ("a", new, 0, false),
        ] {
            let checked = refusals.check(project, &secret, now() + minutes * MINUTE);
            assert_eq!(checked.err().as_deref(), held.then_some("HTTP 401"), "{project} {minutes}");
        }
        assert_eq!(refusals.check("a", &old, now() - MINUTE), Ok(()), "the clock was set back");
        refusals.forget();
        assert_eq!(refusals.check("a", &old, now()), Ok(()));
    }

    /// Which of the projects may send the secret, after these were refused (-) or accepted (+) in turn.
    fn may_send(story: &[&str], projects: [&str; 4]) -> [bool; 4] {
        let refusals = Refusals::default();
        let secret = refusals.fingerprint(&["secret"]);
        for event in story {
            match event.split_at(1) {
                ("-", project) => refusals.refuse(&project.into(), secret, "HTTP 401", false, now()),
                (_, project) => refusals.accept(&project.into(), &secret),
            }
        }
        projects.map(|project| refusals.check(project, &secret, now() + 29 * MINUTE).is_ok())
    }

    #[test]
    fn a_refusal_counts_for_its_project_until_a_second_one_is_refused_and_none_accepted() {
        for (story, expected) in [
            (&["-a"][..], [false, true, true, true]),
            (&["-a", "-a"], [false, true, true, true]),
            (&["-a", "-b"], [false; 4]),
            (&["-a", "+c", "-b"], [false, false, true, true]),
            (&["+c", "-a", "-b"], [false, false, true, true]),
            (&["-a", "-b", "+c"], [false, false, true, true]),
            // The secret was right, and is wrong now.
            (&["+a", "+b", "-a"], [false, true, true, true]),
            (&["+a", "+b", "-a", "-b"], [false; 4]),
            (&["+a", "+b", "+c", "+d", "-a", "-b"], [false; 4]),
        ] {
            assert_eq!(may_send(story, ["a", "b", "c", "d"]), expected, "{story:?}");
        }
    }

    #[test]
    fn a_refusal_of_one_project_only_never_counts_against_others() {
        let refusals = Refusals::default();
        let secret = refusals.fingerprint(&["secret"]);
        for project in ["a", "b", "c"] {
            refusals.refuse(&project.into(), secret, "HTTP 401", true, now());
            assert!(refusals.check(project, &secret, now()).is_err());
        }
        assert_eq!(refusals.check("d", &secret, now()), Ok(()));
    }

    /// Ten concurrent logins of this duration: how many were sent, and how long all took.
    async fn ten(takes: Duration, is_right: bool) -> (u32, Duration) {
        let refusals = Refusals::default();
        let secret = refusals.fingerprint(&["secret"]);
        let (sent, began) = (Cell::new(0), Instant::now());
        let login = async |project: String| {
            let project: Arc<str> = project.into();
            let _turn = refusals.turn().await;
            if refusals.check(&project, &secret, now()).is_ok() {
                sent.set(sent.get() + 1);
                sleep(takes).await;
                if is_right {
                    refusals.accept(&project, &secret);
                } else {
                    refusals.refuse(&project, secret, "HTTP 401", false, now());
                }
            }
        };
        join_all((0..10).map(|n| login(n.to_string()))).await;
        (sent.get(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_service_gets_a_wrong_secret_as_seldom_as_a_fast_one() {
        for takes in [Duration::from_millis(5), Duration::from_secs(3), Duration::from_secs(8)] {
            assert_eq!(ten(takes, false).await, (2, 2 * takes), "{takes:?}");
            assert_eq!(ten(takes, true).await, (10, 2 * takes), "one ahead, then the others: {takes:?}");
        }
        // A login that does not end delays the others by no more than this.
        let hanging = Duration::from_secs(3600);
        assert_eq!(ten(hanging, true).await, (10, LONGEST_TURN + hanging));
    }

    #[test]
    fn a_fingerprint_is_of_the_whole_secret_and_of_this_process_only() {
        let refusals = Refusals::default();
        assert_eq!(refusals.fingerprint(&["ab", "c"]), refusals.fingerprint(&["ab", "c"]));
        assert_ne!(refusals.fingerprint(&["ab", "c"]), refusals.fingerprint(&["a", "bc"]));
        assert_ne!(refusals.fingerprint(&["ab"]), Refusals::default().fingerprint(&["ab"]));
    }
}
