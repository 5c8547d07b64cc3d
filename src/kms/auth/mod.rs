//! Credentials: where they come from, one file for each kind, and one cache above them all.
//!
//! The cache hands out what proves a request, renews it before it ends with one renewal in flight, and renews it once
//! when the cloud refuses it. A refusal that a renewal does not cure ends the project's run: five failures in a row
//! lock an access key, and wrong passwords lock the user (API sheet, section 3). For the same reason a proof that no
//! answer has confirmed yet is tried by one request at a time.

mod password;
mod secret;
mod token;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::caller::Caller;
use super::error::{Error, Kind};
use super::observe::Operation;
use super::outage::Effort;
use super::transport::{HeaderText, Request, SetUpError, Url, address};

pub use password::Password;
pub use secret::SecretSource;

/// How to log in to a project. Holds where secrets are, never a secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Credentials {
    /// An IAM token that somebody else keeps fresh.
    Token(SecretSource),
    /// A user and a password, for which IAM gives tokens.
    Password(Password),
}

impl Credentials {
    /// Whether IAM is asked for anything.
    #[must_use]
    pub fn need_iam(&self) -> bool {
        matches!(self, Self::Password(_))
    }

    /// Where the secret is, for who has to look why it is refused.
    fn place(&self) -> String {
        match self {
            Self::Token(source) => format!("token from {source}"),
            Self::Password(Password { user_name, password, .. }) => {
                format!("user {user_name}, password from {password}")
            }
        }
    }
}

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
    lifetime: Option<Lifetime>,
}

type Lifetime = (SystemTime, SystemTime);

/// The cache of one project's credentials.
pub(super) struct Session {
    source: Credentials,
    tokens: Url,
    project_id: Box<str>,
    current: std::sync::Mutex<Current>,
    /// Held by the one renewal in flight.
    renewal: Mutex<()>,
    /// Held by the one request that tries a proof which nothing has confirmed yet.
    trial: Mutex<()>,
    /// The newest generation that the cloud has accepted, and the newest that it has refused.
    confirmed: AtomicU64,
    rejected: AtomicU64,
    /// A renewed proof was refused as well, or none could be had: nothing more is sent in this run.
    refused: AtomicBool,
}

#[derive(Default)]
struct Current {
    proof: Option<Proof>,
    lifetime: Option<Lifetime>,
    generation: u64,
    /// After an early renewal that failed: not before this.
    next_renewal: Option<SystemTime>,
}

/// What the cache has for a request.
enum Cached {
    /// A proof that holds for a while.
    Good(Proof),
    /// A proof that holds, and is due for renewal.
    Due(Proof),
    /// None that would be accepted.
    Nothing,
}

impl Session {
    /// Credentials that nothing has been asked of yet; IAM gives tokens at the endpoint `iam`.
    pub(super) fn new(source: Credentials, iam: &str, project_id: &str) -> Result<Self, SetUpError> {
        Ok(Self {
            source,
            // Without the catalogue of services, several KiB that nobody reads.
            tokens: address(iam, "v3/auth/tokens?nocatalog=true")?,
            project_id: project_id.into(),
            current: std::sync::Mutex::default(),
            renewal: Mutex::default(),
            trial: Mutex::default(),
            confirmed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        })
    }

    /// A new run: what was refused in the last one may be right by now, and a given token is read again.
    pub(super) fn begin_run(&self) {
        self.refused.store(false, Ordering::Relaxed);
        let mut current = self.current();
        current.next_renewal = None;
        if let Credentials::Token(_) = self.source {
            current.proof = None;
        }
    }

    /// Has the request made with a proof, and once more with a renewed one where the first was refused. `retrying`
    /// hears of the refusal that is worth the second try.
    pub(super) async fn with_proof<T, F>(
        &self,
        caller: &Caller,
        mut request: impl FnMut(Proof) -> F,
        retrying: impl FnOnce(&Error),
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let proof = self.proof(caller, None).await?;
        let refused = match self.try_out(proof.clone(), &mut request).await {
            Err(error) if error.kind() == Kind::Credentials => error,
            result => return result,
        };
        let renewed = self.proof(caller, Some(proof.generation)).await?;
        retrying(&refused);
        let result = self.try_out(renewed, &mut request).await;
        match result {
            Err(error) if error.kind() == Kind::Credentials => {
                self.refused.store(true, Ordering::Relaxed);
                Err(error.with_hint(&self.source.place()))
            }
            result => result,
        }
    }

    /// Makes the request; alone, while nothing has confirmed the proof.
    async fn try_out<T, F>(&self, proof: Proof, request: &mut impl FnMut(Proof) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let generation = proof.generation;
        let is_confirmed = || self.confirmed.load(Ordering::Relaxed) >= generation;
        let trial = if is_confirmed() { None } else { Some(self.trial.lock().await) };
        let trial = trial.filter(|_| !is_confirmed());
        if trial.is_some() && self.rejected.load(Ordering::Relaxed) >= generation {
            return Err(given_up());
        }
        let result = request(proof).await;
        match &result {
            Err(error) if error.kind() == Kind::Credentials => {
                self.rejected.fetch_max(generation, Ordering::Relaxed);
            }
            Err(error) if error.kind().is_transient() || matches!(error.kind(), Kind::Unclear | Kind::Stopped) => {}
            // Whatever else is answered, it was not the proof that was wrong.
            _ => {
                self.confirmed.fetch_max(generation, Ordering::Relaxed);
            }
        }
        result
    }

    /// A proof for a request that is made now; a newer one than the `refused`, where one was.
    async fn proof(&self, caller: &Caller, refused: Option<u64>) -> Result<Proof, Error> {
        let look = || self.cached(refused, caller.clock.now());
        match look() {
            Cached::Good(proof) => Ok(proof),
            // Renewed early, so that a short outage of IAM costs nothing; whoever comes meanwhile uses the old one.
            Cached::Due(proof) => match self.renewal.try_lock() {
                Ok(_renewal) => Ok(self.renew_early(caller).await.unwrap_or(proof)),
                Err(_) => Ok(proof),
            },
            Cached::Nothing => {
                let _renewal = self.renewal.lock().await;
                if let Cached::Good(proof) | Cached::Due(proof) = look() {
                    return Ok(proof);
                }
                if self.refused.load(Ordering::Relaxed) {
                    return Err(given_up());
                }
                let issued = self.issue(caller, Effort::Full).await;
                issued.map(|issued| self.keep(caller, issued)).map_err(|error| {
                    if error.kind() == Kind::Stopped {
                        return error;
                    }
                    self.refused.store(true, Ordering::Relaxed);
                    error.with_kind(Kind::Credentials)
                })
            }
        }
    }

    fn cached(&self, refused: Option<u64>, now: SystemTime) -> Cached {
        let current = self.current();
        let Some(proof) = current.proof.clone().filter(|proof| Some(proof.generation) != refused) else {
            return Cached::Nothing;
        };
        if current.lifetime.is_some_and(|(_, end)| now >= end) {
            Cached::Nothing
        } else if is_due(current.lifetime, now) && current.next_renewal.is_none_or(|next| now >= next) {
            Cached::Due(proof)
        } else {
            Cached::Good(proof)
        }
    }

    /// One attempt at a newer proof while the old one holds.
    async fn renew_early(&self, caller: &Caller) -> Option<Proof> {
        match self.issue(caller, Effort::Single).await {
            Ok(issued) => Some(self.keep(caller, issued)),
            Err(error) => {
                warn!(
                    project = &*caller.project,
                    error = %error,
                    "could not renew the credentials; the old ones still hold"
                );
                let mut current = self.current();
                // A refusal is not repeated in this run: a wrong password locks the user after a few.
                current.next_renewal = match error.kind() {
                    kind if kind.is_transient() => Some(caller.clock.now() + RENEWAL_PAUSE),
                    _ => current.lifetime.map(|(_, end)| end),
                };
                None
            }
        }
    }

    fn keep(&self, caller: &Caller, (token, lifetime): (HeaderText, Option<Lifetime>)) -> Proof {
        let mut current = self.current();
        current.generation += 1;
        current.lifetime = lifetime;
        current.next_renewal = None;
        let proof = Proof { token, generation: current.generation };
        current.proof = Some(proof.clone());
        caller.observer.credentials_expire(lifetime.map(|(_, end)| end));
        debug!(project = &*caller.project, generation = proof.generation, "got credentials");
        proof
    }

    async fn issue(&self, caller: &Caller, effort: Effort) -> Result<(HeaderText, Option<Lifetime>), Error> {
        let operation = Operation::Authenticate;
        let Issued { token, lifetime } = match &self.source {
            Credentials::Token(source) => {
                let result = token::read(source);
                caller.observer.operation(operation, result.is_ok());
                result?
            }
            Credentials::Password(password) => {
                let issued = password.issue(caller, effort, &self.tokens, &self.project_id).await;
                issued.map_err(|error| error.with_hint(&self.source.place()))?
            }
        };
        let unfit = || Error::new(operation, Kind::Credentials, "the token does not fit into a header");
        Ok((HeaderText::secret(&token).ok_or_else(unfit)?, lifetime))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn given_up() -> Error {
    Error::new(Operation::Authenticate, Kind::Credentials, "not tried again in this run")
}

/// Credentials are renewed when a tenth of their life is left, ten minutes at most.
fn is_due(lifetime: Option<Lifetime>, now: SystemTime) -> bool {
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
