//! The cache of one project's credentials.
//!
//! It hands out what proves a request, renews it before it ends with one renewal in flight, and renews it once when the
//! cloud refuses it. A refusal that a renewal does not cure ends the project's run: five failures in a row lock an
//! access key, and wrong passwords lock the user (`docs/kms-api.md` 3.2 and 3.3). For the same reason a secret that is
//! refused is not sent again for a while unless it has changed (`refusals`), and a new credential is probed by one
//! request first (`probe`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::super::executor::Executor;
use super::super::observe::Code;
use super::super::outage::RetryBudget;
use super::super::run_breaker::RunBreaker;
use super::super::transport::{HeaderText, Request, SetUpError};
use super::access_key::AccessKey;
use super::iam::{ProjectScope, RequestAuth, unfit};
use super::probe::CredentialProbe;
use super::refusals::{Fingerprint, Refusals};
use super::source::{CredentialSource, Issued};
use super::{Credentials, Error, Kind, Lifetime, Operation, login_failed};
use crate::support::printable::excerpt;

/// What those get to hear who come after a refusal, before the reason.
const NOT_AGAIN: &str = "not tried again in this run";
/// How long an early renewal that failed is not tried again.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// What proves that a request may be made. The one seam through which every request gets its authentication.
#[derive(Clone)]
pub(in crate::kms) struct Credential {
    secret: CredentialSecret,
    /// Counts renewals, so that a refusal is never taken to be about a newer credential than the one refused.
    generation: u64,
    /// When it ends, where that is known.
    ends: Option<SystemTime>,
    fingerprint: Fingerprint,
}

#[derive(Clone)]
enum CredentialSecret {
    Token(HeaderText),
    Key(Arc<AccessKey>),
}

impl Credential {
    /// Adds the credential to a request about a project that is made now; nothing where it does not fit into a header.
    pub(in crate::kms) fn authenticate(&self, request: &mut Request, project_id: &str, now: SystemTime) -> Option<()> {
        match &self.secret {
            CredentialSecret::Token(token) => request.headers.push(("x-auth-token", token.clone())),
            CredentialSecret::Key(key) => key.sign(request, Some(project_id), now)?,
        }
        Some(())
    }

    /// The error of a request that is not sent, since the credential has ended. Another one is then asked for.
    pub(in crate::kms) fn check_end(&self, now: SystemTime) -> Result<(), Error> {
        if self.has_ended(now) {
            let text = "the credentials have ended";
            return Err(Error::new(Operation::Authenticate, Kind::Credentials, text));
        }
        Ok(())
    }

    fn has_ended(&self, now: SystemTime) -> bool {
        self.ends.is_some_and(|end| now >= end)
    }
}

/// The cache of one project's credentials.
pub(in crate::kms) struct Session {
    source: CredentialSource,
    /// The id of the project that tokens are for, once it is known.
    project_id: OnceLock<String>,
    /// The ids of projects that were looked up by name, or why they were not found in this run.
    names: Mutex<HashMap<String, ProjectLookup>>,
    current: std::sync::Mutex<Current>,
    /// Held by the one renewal in flight.
    renewal: Mutex<()>,
    probe: CredentialProbe,
    /// A renewed credential was refused as well, or none could be had: nothing more is sent in this run.
    closed: RunBreaker,
    refusals: Arc<Refusals>,
}

#[derive(Default)]
struct Current {
    credential: Option<Credential>,
    lifetime: Option<Lifetime>,
    generation: u64,
    /// After an early renewal that failed: not before this.
    next_renewal: Option<SystemTime>,
    /// When the next run is due, while no credential was had in this one: the last is to hold until then.
    next_run: Option<SystemTime>,
    /// The credential that was accepted last, and the projects that were let in with it.
    admit: Option<(Fingerprint, HashSet<Arc<str>>)>,
}

/// A project's id, or why it was not found.
type ProjectLookup = Result<String, (Kind, Box<str>)>;

/// A credential that was refused, and the cloud's words where it had any.
#[derive(Clone, Copy)]
struct Refused<'e> {
    generation: u64,
    words: Option<&'e str>,
}

/// What the cache has for a request.
enum Cached {
    /// A credential that holds for a while.
    Good(Credential),
    /// A credential that holds, and is due for renewal.
    Due(Credential),
    /// None that would be accepted.
    Nothing,
}

impl Session {
    /// Credentials that nothing has been asked of yet; IAM is at the endpoint `iam`. A token is for one project, an
    /// access key for none in particular.
    pub(in crate::kms) fn new(
        source: Credentials,
        iam: &str,
        project: Option<ProjectScope>,
        refusals: Arc<Refusals>,
    ) -> Result<Self, SetUpError> {
        Ok(Self {
            project_id: project
                .as_ref()
                .and_then(|project| project.id.clone())
                .map_or_else(OnceLock::new, OnceLock::from),
            source: CredentialSource::new(source, iam, project, Arc::clone(&refusals))?,
            names: Mutex::default(),
            current: std::sync::Mutex::default(),
            renewal: Mutex::default(),
            probe: CredentialProbe::default(),
            closed: RunBreaker::default(),
            refusals,
        })
    }

    /// A new run: what was refused in the last one may be right by now, and a token or key that is given in files is
    /// read again.
    pub(in crate::kms) fn begin_run(&self) {
        self.closed.begin_run();
        self.probe.begin_run();
        let mut current = self.current();
        current.next_renewal = None;
        if let Ok(mut names) = self.names.try_lock() {
            names.retain(|_, id| id.is_ok());
        }
        if self.source.is_in_files() {
            current.credential = None;
        }
    }

    /// When the run after the one that begins now is due, where there is a schedule.
    pub(in crate::kms) fn next_run(&self, due: Option<SystemTime>) {
        self.current().next_run = due;
    }

    /// Somebody looks after it: what was refused may be sent again at once.
    pub(in crate::kms) fn forgive(&self) {
        self.refusals.forgive();
    }

    /// The error of a call that would end without a request, since what there is was refused in this run.
    pub(in crate::kms) fn check(&self, executor: &Executor) -> Result<(), Error> {
        let Err(error) = self.check_open() else { return Ok(()) };
        let is_over = match self.cached(None, executor.clock.now()) {
            Cached::Good(credential) | Cached::Due(credential) => self.probe.has_refused(credential.generation),
            Cached::Nothing => true,
        };
        if is_over { Err(error) } else { Ok(()) }
    }

    /// Has the request made with a credential, and once more with a renewed one where the first was refused.
    pub(in crate::kms) async fn with_credential<T, F>(
        &self,
        executor: &Executor,
        mut request: impl FnMut(Credential) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let credential = self.credential(executor, None).await?;
        // Told by each project, whoever of those that share it has renewed it.
        executor.observer.credentials_expire(credential.ends);
        let refused = match self.try_with(executor, &credential, false, &mut request).await {
            Err(error) if error.kind() == Kind::Credentials => error,
            result => return result,
        };
        let words = refused.code().map(|_| refused.text());
        let Credential { generation, fingerprint, .. } = credential;
        let renewed = match self.credential(executor, Some(Refused { generation, words })).await {
            Ok(renewed) => renewed,
            // The cloud's words on the refusal come first; what follows is why there is no other credential.
            Err(error) if error.kind() != Kind::Stopped && words.is_some() => {
                // It stays the newest one, and is not for the next run to try. What is in files is read again by then.
                if !self.source.is_in_files() && !credential.has_ended(executor.clock.now()) {
                    self.note_refusal(executor, fingerprint, &refused, self.probe.has_confirmed(generation));
                }
                return Err(refused.with_hint(error.text()).with_kind(error.kind()));
            }
            Err(error) => return Err(error),
        };
        executor.count_retry(refused.operation(), refused.code());
        match self.try_with(executor, &renewed, true, &mut request).await {
            // It is said of a credential that had ended, and not of its secret: worth another try.
            Err(error) if error.kind() == Kind::Credentials && renewed.has_ended(executor.clock.now()) => {
                Err(error.with_kind(Kind::Transient))
            }
            Err(error) if error.kind() == Kind::Credentials => {
                let error = error.with_hint(&self.source.secret_location());
                self.close(Kind::Credentials, error.text());
                Err(error)
            }
            result => result,
        }
    }

    /// Makes the request with the credential, unless that was refused lately. The refusal of one that was let in before
    /// counts only where this `is_last` try, though it be the same credential when it is read or had again.
    async fn try_with<T, F>(
        &self,
        executor: &Executor,
        credential: &Credential,
        is_last: bool,
        request: &mut impl FnMut(Credential) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let Credential { generation, fingerprint, .. } = *credential;
        self.check_refusals(executor, &fingerprint, false)?;
        let result = self.probe.of(generation, || request(credential.clone())).await;
        match &result {
            Ok(_) => self.admit(executor, &fingerprint),
            // One that has ended while the request was under way says nothing; and without a code, it is what another
            // request has met.
            Err(error)
                if (is_last || !self.has_admitted(executor, &fingerprint))
                    && error.kind() == Kind::Credentials
                    && error.code().is_some()
                    && !credential.has_ended(executor.clock.now()) =>
            {
                self.note_refusal(executor, fingerprint, error, self.probe.has_confirmed(generation));
            }
            Err(_) => {}
        }
        result
    }

    fn check_refusals(&self, executor: &Executor, secret: &Fingerprint, told: bool) -> Result<(), Error> {
        let checked = self.refusals.check(&executor.project, secret, executor.clock.now());
        checked.map_err(|why| self.source.held(&why, told))
    }

    fn note_refusal(&self, executor: &Executor, secret: Fingerprint, error: &Error, of_project_only: bool) {
        // Of one that was let in before, it may be wrong for all others too by now.
        self.current().admit.take_if(|(known, projects)| *known == secret && projects.contains(&executor.project));
        let why = format!("{} ({})", error.text(), self.source.secret_location());
        self.refusals.refuse(&executor.project, secret, &why, of_project_only, executor.clock.now());
    }

    /// Notes that the project was let in with the credential.
    fn admit(&self, executor: &Executor, secret: &Fingerprint) {
        if self.source.is_in_files() {
            self.refusals.accept(&executor.project, secret);
        }
        match &mut self.current().admit {
            Some((known, projects)) if known == secret => {
                projects.insert(Arc::clone(&executor.project));
            }
            admit => *admit = Some((*secret, HashSet::from([Arc::clone(&executor.project)]))),
        }
    }

    /// Whether the project was let in with the credential, and not refused since.
    fn has_admitted(&self, executor: &Executor, secret: &Fingerprint) -> bool {
        let current = self.current();
        current.admit.as_ref().is_some_and(|(known, projects)| known == secret && projects.contains(&executor.project))
    }

    /// A credential for a request that is made now; a newer one than the `refused`, where one was.
    async fn credential(&self, executor: &Executor, refused: Option<Refused<'_>>) -> Result<Credential, Error> {
        let look = || self.cached(refused.map(|refused| refused.generation), executor.clock.now());
        let words = refused.and_then(|refused| refused.words);
        match look() {
            Cached::Good(credential) => Ok(credential),
            // Renewed early, so that a short outage of IAM costs nothing; whoever comes meanwhile uses the old one.
            Cached::Due(credential) => match self.renewal.try_lock() {
                Ok(_renewal) => Ok(self.renew_early(executor).await.unwrap_or(credential)),
                Err(_) => Ok(credential),
            },
            Cached::Nothing => {
                let _renewal = self.renewal.lock().await;
                if let Cached::Good(credential) | Cached::Due(credential) = look() {
                    return Ok(credential);
                }
                // Who has the cloud's own words needs no other's.
                self.check_open().map_err(|error| match words {
                    Some(_) => Error::new(Operation::Authenticate, error.kind(), NOT_AGAIN),
                    None => error,
                })?;
                let issued = self.source.issue(executor, RetryBudget::Full, words.is_some()).await;
                let renewed = issued.and_then(|(issued, lifetime)| {
                    let fingerprint = issued.fingerprint(&self.refusals);
                    if refused.is_some() {
                        self.check_refusals(executor, &fingerprint, words.is_some())?;
                    }
                    self.keep(executor, issued, lifetime, fingerprint)
                });
                renewed.map_err(|error| {
                    let error = login_failed(error);
                    // Neither says anything of the credentials.
                    if matches!(error.kind(), Kind::Stopped | Kind::Shortage) {
                        return error;
                    }
                    match words {
                        Some(words) => self.close(error.kind(), &format!("{words} ({})", error.text())),
                        None => self.close(error.kind(), error.text()),
                    }
                    error
                })
            }
        }
    }

    fn cached(&self, refused: Option<u64>, now: SystemTime) -> Cached {
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
            Cached::Good(credential)
        }
    }

    /// One attempt at a newer credential while the old one holds.
    async fn renew_early(&self, executor: &Executor) -> Option<Credential> {
        let issued = self.source.issue(executor, RetryBudget::SingleAttempt, false).await;
        let renewed = issued.and_then(|(issued, lifetime)| {
            let fingerprint = issued.fingerprint(&self.refusals);
            self.keep(executor, issued, lifetime, fingerprint)
        });
        match renewed {
            Ok(credential) => Some(credential),
            Err(error) => {
                warn!(
                    project = &*executor.project,
                    error = %error,
                    "could not renew the credentials; the old ones still hold"
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
                    self.settle_project(&given)?;
                }
                CredentialSecret::Token(HeaderText::secret(token).ok_or_else(unfit)?)
            }
            Issued::Key(key) => CredentialSecret::Key(Arc::new(key)),
        };
        let mut current = self.current();
        current.generation += 1;
        current.lifetime = lifetime;
        current.next_renewal = None;
        // Once in a run: a metadata service gives the same key again until shortly before its end.
        current.next_run = None;
        let ends = lifetime.map(|(_, end)| end);
        let credential = Credential { secret, generation: current.generation, ends, fingerprint };
        current.credential = Some(credential.clone());
        debug!(project = &*executor.project, generation = credential.generation, "got credentials");
        Ok(credential)
    }

    /// Notes which project a token is for. One that is for another than the policy's is no use.
    fn settle_project(&self, given: &str) -> Result<(), Error> {
        let known = self.project_id.get_or_init(|| given.to_owned());
        if *known == given {
            return Ok(());
        }
        let given = excerpt(given, 64);
        let text = format!("IAM gave a token for project {given}, but the policy's project_id is {known}");
        Err(Error::new(Operation::Authenticate, Kind::Credentials, text))
    }

    /// The project's id: the policy's, the token's, or the one that IAM knows by this name. A name that IAM does not
    /// know, or not as one project, is asked for once in a run, and is the concern of nobody else who shares the
    /// credential.
    pub(in crate::kms) async fn project_id(&self, executor: &Executor, name: &str) -> Result<String, Error> {
        let credential = self.credential(executor, None).await?;
        if let Some(id) = self.project_id.get() {
            return Ok(id.clone());
        }
        let mut names = self.names.lock().await;
        match names.get(name) {
            Some(Ok(id)) => return Ok(id.clone()),
            Some(Err((kind, why))) => {
                return Err(Error::new(Operation::Authenticate, *kind, format!("{NOT_AGAIN}: {why}")));
            }
            None => {
                self.check_open()?;
                self.check_refusals(executor, &credential.fingerprint, false)?;
            }
        }
        let iam = self.source.iam(executor, RetryBudget::Full);
        let found = match &credential.secret {
            CredentialSecret::Token(token) => {
                iam.project_id(RequestAuth::Token(&SecretString::from(token.as_str())), name).await
            }
            CredentialSecret::Key(key) => iam.project_id(RequestAuth::Key(key), name).await,
        };
        let found = found.map_err(|error| {
            if matches!(error.kind(), Kind::Stopped | Kind::Shortage) {
                return error;
            }
            let is_refusal = error.code() == Some(Code::Http(401));
            if is_refusal && credential.has_ended(executor.clock.now()) {
                // Which says nothing of the name, nor of the secret.
                return error.with_kind(Kind::Transient);
            }
            if is_refusal {
                self.note_refusal(executor, credential.fingerprint, &error, false);
            }
            let error = login_failed(self.source.with_secret_location(error));
            if is_refusal {
                self.close(error.kind(), error.text());
            }
            names.insert(name.to_owned(), Err((error.kind(), error.text().into())));
            error
        })?;
        names.insert(name.to_owned(), Ok(found.clone()));
        Ok(found)
    }

    /// No login is tried again in this run, for this reason.
    fn close(&self, kind: Kind, why: &str) {
        self.closed.close(kind, &format!("{NOT_AGAIN}: {why}"));
    }

    fn check_open(&self) -> Result<(), Error> {
        self.closed.check(Operation::Authenticate)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Credentials are renewed when a tenth of their life is left, ten minutes at most; and in the last run before that, so
/// that the next one has good ones though IAM may be away by then. Not where new ones would not last until then either.
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
