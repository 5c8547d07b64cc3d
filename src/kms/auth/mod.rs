//! Credentials: where they come from, one file for each kind, and one cache above them all.
//!
//! The cache hands out what proves a request, renews it before it ends with one renewal in flight, and renews it once
//! when the cloud refuses it. A refusal that a renewal does not cure ends the project's run: five failures in a row
//! lock an access key, and wrong passwords lock the user (API sheet, section 3).

mod password;
mod secret;
mod token;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::caller::Caller;
use super::error::{Error, Kind};
use super::observe::Operation;
use super::transport::{HeaderText, Request, SetUpError, Url, address};

/// How to log in to a project. Holds where secrets are, never a secret.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// An IAM token that somebody else keeps fresh.
    Token(SecretSource),
    /// A user and a password, for which IAM gives tokens.
    Password(Password),
}

pub use password::Password;
pub use secret::SecretSource;

/// How long an early renewal that failed is not tried again.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// What proves that a request may be made. The one seam through which every request gets its authentication.
#[derive(Clone)]
pub(super) struct Proof {
    token: HeaderText,
    /// Counts renewals, so that a refusal is never taken to be about a newer proof than the one refused.
    generation: u64,
}

impl Proof {
    /// Adds the proof to the request.
    pub(super) fn authenticate(&self, request: &mut Request) {
        request.headers.push(("x-auth-token", self.token.clone()));
    }
}

/// A token as its source gave it.
struct Issued {
    token: SecretString,
    /// From when to when it holds, by this machine's clock; nothing where the source does not say.
    lifetime: Option<(SystemTime, SystemTime)>,
}

/// The cache of one project's credentials.
pub(super) struct Session {
    source: Credentials,
    tokens: Url,
    project_id: Box<str>,
    current: Mutex<Current>,
    refused: AtomicBool,
}

#[derive(Default)]
struct Current {
    proof: Option<Proof>,
    lifetime: Option<(SystemTime, SystemTime)>,
    generation: u64,
    /// After a renewal that failed while the old proof still held.
    next_renewal: Option<SystemTime>,
}

impl Session {
    /// Credentials that nothing has been asked of yet; IAM gives tokens at the endpoint `iam`.
    pub(super) fn new(source: Credentials, iam: &str, project_id: &str) -> Result<Self, SetUpError> {
        // Without the catalogue of services, several KiB that nobody reads.
        let tokens = address(iam, "v3/auth/tokens?nocatalog=true")?;
        let (current, refused) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { source, tokens, project_id: project_id.into(), current, refused })
    }

    /// A new run: what was refused in the last one may be right by now, and a given token is read again.
    pub(super) async fn begin_run(&self) {
        self.refused.store(false, Ordering::Relaxed);
        if let Credentials::Token(_) = self.source {
            self.current.lock().await.proof = None;
        }
    }

    /// The credentials were refused in this run, and a renewal did not help: nothing more is sent.
    pub(super) fn give_up(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// A proof for a request that is made now.
    pub(super) async fn proof(&self, caller: &Caller) -> Result<Proof, Error> {
        self.proof_after(caller, None).await
    }

    /// A proof that is newer than the one the cloud has refused.
    pub(super) async fn renewed(&self, caller: &Caller, refused: &Proof) -> Result<Proof, Error> {
        self.proof_after(caller, Some(refused.generation)).await
    }

    async fn proof_after(&self, caller: &Caller, refused: Option<u64>) -> Result<Proof, Error> {
        // The lock is held while renewing, so that everyone who needs a newer proof waits for the same one.
        let mut current = self.current.lock().await;
        if self.refused.load(Ordering::Relaxed) {
            return Err(Error::new(Operation::Authenticate, Kind::Credentials, "not tried again in this run"));
        }
        let now = caller.clock.now();
        let usable = current.proof.clone().filter(|proof| Some(proof.generation) != refused);
        if let Some(proof) = &usable
            && (!is_due(current.lifetime, now) || current.next_renewal.is_some_and(|next| now < next))
        {
            return Ok(proof.clone());
        }
        let issued = self.issue(caller).await.and_then(|issued| {
            let unfit =
                || Error::new(Operation::Authenticate, Kind::Credentials, "the token does not fit into a header");
            Ok((HeaderText::secret(&issued.token).ok_or_else(unfit)?, issued.lifetime))
        });
        match issued {
            Ok((token, lifetime)) => {
                current.generation += 1;
                current.lifetime = lifetime;
                current.next_renewal = None;
                caller.observer.credentials_expire(lifetime.map(|(_, end)| end));
                let proof = Proof { token, generation: current.generation };
                current.proof = Some(proof.clone());
                debug!(generation = proof.generation, "got credentials");
                Ok(proof)
            }
            Err(error) => match usable {
                // Renewed early, so that a short outage of IAM costs nothing.
                Some(proof) if current.lifetime.is_some_and(|(_, end)| now < end) => {
                    warn!(error = %error, "could not renew the credentials; the old ones still hold");
                    current.next_renewal = Some(now + RENEWAL_PAUSE);
                    Ok(proof)
                }
                _ => {
                    if error.kind() != Kind::Stopped {
                        self.give_up();
                    }
                    Err(error)
                }
            },
        }
    }

    async fn issue(&self, caller: &Caller) -> Result<Issued, Error> {
        match &self.source {
            Credentials::Token(source) => {
                let result = token::read(source);
                caller.observer.operation(Operation::Authenticate, result.is_ok());
                result
            }
            Credentials::Password(password) => password.issue(caller, &self.tokens, &self.project_id).await,
        }
    }
}

/// Credentials are renewed when a tenth of their life is left, ten minutes at most.
fn is_due(lifetime: Option<(SystemTime, SystemTime)>, now: SystemTime) -> bool {
    const EARLIEST: Duration = Duration::from_secs(600);
    lifetime.is_some_and(|(begin, end)| {
        let life = end.duration_since(begin).unwrap_or_default();
        now + (life / 10).min(EARLIEST) >= end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_renewed_early_in_proportion_to_their_life() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let day = Some((at(0), at(86_400)));
        assert!(!is_due(day, at(86_400 - 601)));
        assert!(is_due(day, at(86_400 - 600)));
        let seconds = Some((at(0), at(10)));
        assert!(!is_due(seconds, at(8)));
        assert!(is_due(seconds, at(9)));
        assert!(!is_due(None, at(9)));
    }
}
