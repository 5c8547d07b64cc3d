//! The cache of a session's credential: here a token or a temporary access key is renewed.
//!
//! A credential is renewed shortly before it expires, by one request at a time, and again when the cloud refuses it.
//! After a failed login no other is tried in the run.

use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::accepted_secret::Fingerprint;
use super::credential::{Credential, CredentialSecret};
use super::lifetime::Lifetime;
use super::login_error::end_of_login;
use super::refusals::Refusals;
use super::source::{CredentialSource, Issued};
use crate::kms::error::{Error, ErrorKind};
use crate::kms::executor::Executor;
use crate::kms::observe::Operation;
use crate::kms::outage::RetryBudget;
use crate::kms::run_breaker::RunBreaker;
use crate::kms::transport::HeaderText;
use crate::support::error_chain::ErrorChain;
use crate::support::printable::excerpt;

/// Prefix of the error for calls after the first refusal.
pub(super) const NOT_AGAIN: &str = "not tried again in this run";
/// How long an early renewal that failed is not tried again.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// The credential of a session, and where the next one comes from.
pub(super) struct CredentialCache {
    pub(super) source: CredentialSource,
    /// The id of the project that tokens are for, once it is known.
    pub(super) project_id: OnceLock<String>,
    current: std::sync::Mutex<Current>,
    /// Locked by the one renewal in flight.
    renewal: Mutex<()>,
    /// Closed once a renewed credential was refused as well, or none was issued: no other login is tried in this run.
    breaker: RunBreaker,
    refusals: Arc<Refusals>,
}

#[derive(Default)]
struct Current {
    credential: Option<Credential>,
    lifetime: Option<Lifetime>,
    generation: u64,
    /// After an early renewal that failed: not before this.
    next_renewal: Option<SystemTime>,
    /// When the next run is due, until a credential was issued in this run: the current one should last until then.
    next_run: Option<SystemTime>,
}

/// A credential that was refused, and the cloud's message where there is one.
#[derive(Clone, Copy)]
pub(super) struct RefusedCredential<'e> {
    pub(super) generation: u64,
    pub(super) message: Option<&'e str>,
}

/// What the cache has for a request.
pub(super) enum Cached {
    /// A valid credential.
    Valid(Credential),
    /// A valid credential that is due for renewal.
    Due(Credential),
    /// None that would be accepted.
    Nothing,
}

impl CredentialCache {
    pub(super) fn new(source: CredentialSource, project_id: Option<String>, refusals: Arc<Refusals>) -> Self {
        Self {
            source,
            project_id: project_id.map_or_else(OnceLock::new, OnceLock::from),
            current: std::sync::Mutex::default(),
            renewal: Mutex::default(),
            breaker: RunBreaker::default(),
            refusals,
        }
    }

    /// A new run: a login that failed in the last run is tried again, and a token or key in files is read again.
    pub(super) fn begin_run(&self, next_run: Option<SystemTime>) {
        self.breaker.begin_run();
        let mut current = self.current();
        current.next_renewal = None;
        current.next_run = next_run;
        if self.source.is_in_files() {
            current.credential = None;
        }
    }

    /// A credential for a request that is made now; a newer one than the `refused`, where there is one.
    pub(super) async fn credential(
        &self,
        executor: &Executor,
        refused: Option<RefusedCredential<'_>>,
    ) -> Result<Credential, Error> {
        let look = || self.cached(refused.map(|refused| refused.generation), executor.clock.now());
        match look() {
            Cached::Valid(credential) => Ok(credential),
            // Renewed early, so that a short outage of IAM costs nothing. Other requests use the old one meanwhile.
            Cached::Due(credential) => match self.renewal.try_lock() {
                Ok(_renewal) => Ok(self.renew_early(executor).await.unwrap_or(credential)),
                Err(_) => Ok(credential),
            },
            Cached::Nothing => {
                let _renewal = self.renewal.lock().await;
                if let Cached::Valid(credential) | Cached::Due(credential) = look() {
                    return Ok(credential);
                }
                self.renew(executor, refused).await
            }
        }
    }

    /// Logs in, with retries. A failure ends the logins of this run.
    async fn renew(&self, executor: &Executor, refused: Option<RefusedCredential<'_>>) -> Result<Credential, Error> {
        let message = refused.and_then(|refused| refused.message);
        // The cloud's own message is better than the breaker's.
        self.check_open().map_err(|error| match message {
            Some(_) => Error::new(Operation::Authenticate, error.kind(), NOT_AGAIN),
            None => error,
        })?;
        // Boxed, as below: a login is rare, and every call of every key would have memory for one.
        let issued = Box::pin(self.source.issue(executor, RetryBudget::Full, message.is_some())).await;
        let renewed = issued.and_then(|(issued, lifetime)| {
            let fingerprint = issued.fingerprint(&self.refusals);
            if refused.is_some() {
                self.check_refusals(executor, &fingerprint, message.is_some())?;
            }
            self.keep(executor, issued, lifetime, fingerprint)
        });
        renewed.map_err(|error| {
            let error = end_of_login(error);
            // Neither means anything for the credentials.
            if matches!(error.kind(), ErrorKind::Stopped | ErrorKind::Shortage) {
                return error;
            }
            match message {
                Some(message) => self.close(error.kind(), &format!("{message} ({})", error.text())),
                None => self.close(error.kind(), &error.text()),
            }
            error
        })
    }

    /// One attempt at a newer credential while the old one is valid.
    async fn renew_early(&self, executor: &Executor) -> Option<Credential> {
        let issued = Box::pin(self.source.issue(executor, RetryBudget::SingleAttempt, false)).await;
        let renewed = issued.and_then(|(issued, lifetime)| {
            let fingerprint = issued.fingerprint(&self.refusals);
            self.keep(executor, issued, lifetime, fingerprint)
        });
        match renewed {
            Ok(credential) => Some(credential),
            Err(error) => {
                warn!(
                    project = &*executor.project,
                    error = %ErrorChain(&error),
                    "cannot renew the credentials early; the old ones are still valid"
                );
                let mut current = self.current();
                // A refusal is not repeated in this run: a wrong password locks the user after a few.
                current.next_renewal = match error.kind() {
                    kind if kind.is_transient() => Some(executor.clock.now() + RENEWAL_PAUSE),
                    _ => current.lifetime.map(|(_, end)| end),
                };
                None
            }
        }
    }

    pub(super) fn cached(&self, refused: Option<u64>, now: SystemTime) -> Cached {
        let current = self.current();
        let Some(credential) = current.credential.clone().filter(|credential| Some(credential.generation) != refused)
        else {
            return Cached::Nothing;
        };
        if current.lifetime.is_some_and(|(_, end)| now >= end) {
            Cached::Nothing
        } else if is_due(current.lifetime, now, current.next_run) && current.next_renewal.is_none_or(|next| now >= next)
        {
            Cached::Due(credential)
        } else {
            Cached::Valid(credential)
        }
    }

    fn keep(
        &self,
        executor: &Executor,
        issued: Issued,
        lifetime: Option<Lifetime>,
        fingerprint: Fingerprint,
    ) -> Result<Credential, Error> {
        let secret = match issued {
            Issued::Token(token, project_id) => {
                if let Some(given) = project_id {
                    self.check_project(&given)?;
                }
                CredentialSecret::Token(HeaderText::secret(token).ok_or_else(Error::invalid_header)?)
            }
            Issued::Key(key) => CredentialSecret::Key(Arc::new(key)),
        };
        let mut current = self.current();
        current.generation += 1;
        current.lifetime = lifetime;
        current.next_renewal = None;
        // Once a run: a metadata service returns the same key until shortly before its end.
        current.next_run = None;
        let expires = lifetime.map(|(_, end)| end);
        let credential = Credential { secret, generation: current.generation, expires, fingerprint };
        current.credential = Some(credential.clone());
        debug!(project = &*executor.project, generation = credential.generation, "credentials issued");
        Ok(credential)
    }

    /// Keeps the project that a token is for. A token for another project than the policy's is an error.
    fn check_project(&self, given: &str) -> Result<(), Error> {
        let known = self.project_id.get_or_init(|| given.to_owned());
        if *known == given {
            return Ok(());
        }
        let given = excerpt(given, 64);
        let text = format!("IAM issued a token for project {given}, but the policy's project_id is {known}");
        Err(Error::new(Operation::Authenticate, ErrorKind::Credentials, text))
    }

    /// The error of a secret that was refused to the project in the last 30 minutes; `is_known` as in
    /// [`CredentialSource::on_hold`].
    pub(super) fn check_refusals(
        &self,
        executor: &Executor,
        secret: &Fingerprint,
        is_known: bool,
    ) -> Result<(), Error> {
        let checked = self.refusals.check(&executor.project, secret, executor.clock.now());
        checked.map_err(|why| self.source.on_hold(&why, is_known))
    }

    /// No login is tried again in this run, for this reason.
    pub(super) fn close(&self, kind: ErrorKind, why: &str) {
        self.breaker.close(kind, &format!("{NOT_AGAIN}: {why}"));
    }

    /// The error of a login that is not tried, since one has failed in this run.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        self.breaker.check(Operation::Authenticate)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Credentials are renewed when a tenth of their lifetime is left, at most ten minutes before the end. They are renewed
/// earlier, in the current run, if they would expire before the next run and new ones would not.
fn is_due(lifetime: Option<Lifetime>, now: SystemTime, next_run: Option<SystemTime>) -> bool {
    const EARLIEST: Duration = Duration::from_secs(600);
    lifetime.is_some_and(|(begin, end)| {
        let life = end.duration_since(begin).unwrap_or_default();
        let early = (life / 10).min(EARLIEST);
        now + early >= end || next_run.is_some_and(|next| next + early >= end && next + early < now + life)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_renewed_early_in_proportion_to_their_life() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let day = Some((at(0), at(86_400)));
        assert!(!is_due(day, at(86_400 - 601), None));
        assert!(is_due(day, at(86_400 - 600), None));
        let seconds = Some((at(0), at(10)));
        assert!(!is_due(seconds, at(8), None));
        assert!(is_due(seconds, at(9), None));
        assert!(!is_due(None, at(9), Some(at(10))));
    }

    #[test]
    fn credentials_are_renewed_in_the_last_run_that_can_do_so_in_time() {
        const HOUR: u64 = 3600;
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let day = Some((at(0), at(24 * HOUR)));
        for (now, next, expected) in [
            (HOUR, 2 * HOUR, false),
            (23 * HOUR, 24 * HOUR - 601, false),
            (23 * HOUR, 24 * HOUR - 600, true),
            (23 * HOUR, 24 * HOUR, true),
            (HOUR, 24 * HOUR, true),
            // New ones would end before the next run as well, or be due when it begins.
            (HOUR, 25 * HOUR, false),
            (HOUR, 25 * HOUR - 600, false),
            (HOUR, 25 * HOUR - 601, true),
            (HOUR, 1000 * HOUR, false),
            // It should have begun already.
            (HOUR, 0, false),
        ] {
            assert_eq!(is_due(day, at(now), Some(at(next))), expected, "{now} {next}");
        }
    }
}
