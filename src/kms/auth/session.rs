//! One login, shared by the projects that log in alike: requests are made with its credential.
//!
//! A refused credential is renewed once (`credential_cache`). A refusal that a renewal does not cure ends the project's
//! run: five failures in a row lock an access key, and wrong passwords lock the user (`docs/kms-api.md` 3.2 and 3.3).
//! So a refused secret that has not changed is not sent again for a while (`refusals`), and a new credential is first
//! tried by one request (`probe`).

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use secrecy::SecretString;
use tokio::sync::Mutex;
use tracing::debug;

use super::accepted_secret::{AcceptedSecret, Fingerprint};
use super::credential::{Credential, CredentialSecret};
use super::credential_cache::{Cached, CredentialCache, NOT_AGAIN, RefusedCredential};
use super::iam::{ProjectScope, RequestAuth};
use super::login::Credentials;
use super::login_error::end_of_login;
use super::probe::CredentialProbe;
use super::refusals::Refusals;
use super::source::CredentialSource;
use crate::kms::error::{Error, ErrorKind};
use crate::kms::executor::Executor;
use crate::kms::observe::{Code, Operation};
use crate::kms::outage::RetryBudget;
use crate::kms::retry::RETRY_TARGET;
use crate::kms::transport::SetUpError;

/// One login and its credential.
pub(in crate::kms) struct Session {
    cache: CredentialCache,
    /// Projects that were looked up by name: their ids, or why they were not found in this run.
    lookups: Mutex<HashMap<String, ProjectLookup>>,
    probe: CredentialProbe,
    /// The credential that was accepted last.
    accepted_secret: std::sync::Mutex<AcceptedSecret>,
    refusals: Arc<Refusals>,
}

/// A project's id, or why it was not found.
type ProjectLookup = Result<String, (ErrorKind, Box<str>)>;

impl Session {
    /// A session that has not logged in yet; IAM is at the endpoint `iam`. A token is for one project, an access key
    /// for no project in particular.
    pub(in crate::kms) fn new(
        credentials: Credentials,
        iam: &str,
        project: Option<ProjectScope>,
        refusals: Arc<Refusals>,
    ) -> Result<Self, SetUpError> {
        let project_id = project.as_ref().and_then(|project| project.id.clone());
        let source = CredentialSource::new(credentials, iam, project, Arc::clone(&refusals))?;
        Ok(Self {
            cache: CredentialCache::new(source, project_id, Arc::clone(&refusals)),
            lookups: Mutex::default(),
            probe: CredentialProbe::default(),
            accepted_secret: std::sync::Mutex::default(),
            refusals,
        })
    }

    /// A new run: what was refused in the last one may be accepted now. `next_run`: when the run after this one is due,
    /// where there is a schedule.
    pub(in crate::kms) fn begin_run(&self, next_run: Option<SystemTime>) {
        self.cache.begin_run(next_run);
        self.probe.begin_run();
        if let Ok(mut lookups) = self.lookups.try_lock() {
            lookups.retain(|_, id| id.is_ok());
        }
    }

    /// An operator has started the run: a refused secret may be sent again at once.
    pub(in crate::kms) fn forget_refusals(&self) {
        self.refusals.forget();
    }

    /// The error of a call that would end without a request, since every known credential was refused in this run.
    pub(in crate::kms) fn check(&self, executor: &Executor) -> Result<(), Error> {
        let Err(error) = self.cache.check_open() else { return Ok(()) };
        let is_over = match self.cache.cached(None, executor.clock.now()) {
            Cached::Valid(credential) | Cached::Due(credential) => self.probe.has_refused(credential.generation),
            Cached::Nothing => true,
        };
        if is_over { Err(error) } else { Ok(()) }
    }

    /// Has the request made with a credential, and once more with a renewed one where the first is refused.
    pub(in crate::kms) async fn with_credential<T, F>(
        &self,
        executor: &Executor,
        mut request: impl FnMut(Credential) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let credential = self.cache.credential(executor, None).await?;
        // Reported for each project, also where another project has renewed the shared credential.
        executor.observer.credentials_expire(credential.expires);
        let refusal = match self.try_with(executor, &credential, false, &mut request).await {
            Err(error) if error.kind() == ErrorKind::Credentials => error,
            result => return result,
        };
        let message = refusal.code().map(|_| refusal.text());
        let Credential { generation, fingerprint, .. } = credential;
        let refused = RefusedCredential { generation, message: message.as_deref() };
        let renewed = match self.cache.credential(executor, Some(refused)).await {
            Ok(renewed) => renewed,
            // The cloud's message comes first, and then why there is no other credential.
            Err(error) if error.kind() != ErrorKind::Stopped && message.is_some() => {
                // It is still the newest credential, so the next run must not send it. One in files is read again then.
                if !self.cache.source.is_in_files() && !credential.has_expired(executor.clock.now()) {
                    self.note_refusal(executor, fingerprint, &refusal, self.probe.has_confirmed(generation));
                }
                return Err(refusal.with_hint(&error.text()).with_kind(error.kind()));
            }
            Err(error) => return Err(error),
        };
        let (project, error) = (executor.project(), refusal.text());
        debug!(target: RETRY_TARGET, project, error, "credentials refused, sending the request again with new ones");
        executor.count_retry(refusal.operation(), refusal.code());
        match self.try_with(executor, &renewed, true, &mut request).await {
            // The credential had expired, so its secret may be right: worth another try.
            Err(error) if error.kind() == ErrorKind::Credentials && renewed.has_expired(executor.clock.now()) => {
                Err(error.with_kind(ErrorKind::Transient))
            }
            Err(error) if error.kind() == ErrorKind::Credentials => {
                let error = error.with_hint(&self.cache.source.secret_location());
                self.cache.close(ErrorKind::Credentials, &error.text());
                Err(error)
            }
            result => result,
        }
    }

    /// Makes the request with the credential, unless that was refused lately. A refusal of a credential that was
    /// accepted before is recorded only on the last try, after it was read or issued anew.
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
        self.cache.check_refusals(executor, &fingerprint, false)?;
        let result = self.probe.of(generation, || request(credential.clone())).await;
        match &result {
            Ok(_) => self.accept(executor, &fingerprint),
            // A credential that expired during the request proves nothing. An error without a code is the refusal of
            // another request.
            Err(error)
                if (is_last || !self.accepted_secret().has_accepted(&executor.project, &fingerprint))
                    && error.kind() == ErrorKind::Credentials
                    && error.code().is_some()
                    && !credential.has_expired(executor.clock.now()) =>
            {
                self.note_refusal(executor, fingerprint, error, self.probe.has_confirmed(generation));
            }
            Err(_) => {}
        }
        result
    }

    fn note_refusal(&self, executor: &Executor, secret: Fingerprint, error: &Error, of_project_only: bool) {
        self.accepted_secret().refuse(&executor.project, &secret);
        let why = format!("{} ({})", error.text(), self.cache.source.secret_location());
        self.refusals.refuse(&executor.project, secret, &why, of_project_only, executor.clock.now());
    }

    /// The project was accepted with the credential.
    fn accept(&self, executor: &Executor, secret: &Fingerprint) {
        if self.cache.source.is_in_files() {
            self.refusals.accept(&executor.project, secret);
        }
        self.accepted_secret().accept(&executor.project, secret);
    }

    /// The project's id: the policy's, the token's, or the one that IAM lists for this name. A name that IAM does not
    /// list, or lists more than once, is looked up once a run, and does not concern other projects with the same login.
    pub(in crate::kms) async fn project_id(&self, executor: &Executor, name: &str) -> Result<String, Error> {
        let credential = self.cache.credential(executor, None).await?;
        if let Some(id) = self.cache.project_id.get() {
            return Ok(id.clone());
        }
        let mut lookups = self.lookups.lock().await;
        match lookups.get(name) {
            Some(Ok(id)) => return Ok(id.clone()),
            Some(Err((kind, why))) => {
                return Err(Error::new(Operation::Authenticate, *kind, format!("{NOT_AGAIN}: {why}")));
            }
            None => {
                self.cache.check_open()?;
                self.cache.check_refusals(executor, &credential.fingerprint, false)?;
            }
        }
        let iam = self.cache.source.iam(executor, RetryBudget::Full);
        let found = match &credential.secret {
            CredentialSecret::Token(token) => {
                iam.project_id(RequestAuth::Token(&SecretString::from(token.as_str())), name).await
            }
            CredentialSecret::Key(key) => iam.project_id(RequestAuth::Key(key), name).await,
        };
        let found = found.map_err(|error| {
            if matches!(error.kind(), ErrorKind::Stopped | ErrorKind::Shortage) {
                return error;
            }
            let is_refusal = error.code() == Some(Code::Http(401));
            if is_refusal && credential.has_expired(executor.clock.now()) {
                // This proves nothing about the name or the secret.
                return error.with_kind(ErrorKind::Transient);
            }
            if is_refusal {
                self.note_refusal(executor, credential.fingerprint, &error, false);
            }
            let error = end_of_login(self.cache.source.with_secret_location(error));
            if is_refusal {
                self.cache.close(error.kind(), &error.text());
            }
            lookups.insert(name.to_owned(), Err((error.kind(), error.text().into())));
            error
        })?;
        lookups.insert(name.to_owned(), Ok(found.clone()));
        Ok(found)
    }

    fn accepted_secret(&self) -> MutexGuard<'_, AcceptedSecret> {
        self.accepted_secret.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
