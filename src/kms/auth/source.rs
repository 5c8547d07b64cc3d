//! Logging in: the secret is read, exchanged for a credential, and an agency is assumed with it where there is one.
//!
//! Every call logs in anew. `credential_cache` decides when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::{ExposeSecret, SecretString};

use super::accepted_secret::Fingerprint;
use super::access_key::AccessKey;
use super::iam::{IamExchange, ProjectScope, Token};
use super::id_token::IdToken;
use super::lifetime::Lifetime;
use super::login::{Credentials, Login};
use super::password::Password;
use super::pod::PodIdentity;
use super::refusals::Refusals;
use super::sts::OidcAgency;
use super::{ecs_agency, token};
use crate::kms::endpoint::METADATA_ENDPOINT;
use crate::kms::error::{Error, ErrorKind, ON_HOLD};
use crate::kms::executor::Executor;
use crate::kms::observe::Code;
use crate::kms::observe::Operation;
use crate::kms::outage::RetryBudget;
use crate::kms::transport::{SetUpError, Url, address};

/// An issued credential.
pub(super) enum Issued {
    /// A token, and its project where IAM has named it.
    Token(SecretString, Option<String>),
    Key(AccessKey),
}

impl Issued {
    pub(super) fn fingerprint(&self, refusals: &Refusals) -> Fingerprint {
        match self {
            Self::Token(token, _) => refusals.fingerprint(&[token.expose_secret()]),
            Self::Key(key) => refusals.fingerprint(&key.parts()),
        }
    }
}

/// A login and its endpoints.
pub(super) struct CredentialSource {
    credentials: Credentials,
    iam: Url,
    metadata: Url,
    /// The project of tokens.
    project: Option<ProjectScope>,
    refusals: Arc<Refusals>,
}

impl CredentialSource {
    /// No login is made yet; IAM is at the endpoint `iam`.
    pub(super) fn new(
        credentials: Credentials,
        iam: &str,
        project: Option<ProjectScope>,
        refusals: Arc<Refusals>,
    ) -> Result<Self, SetUpError> {
        let metadata = match &credentials.login {
            Login::EcsAgency { metadata_endpoint: Some(endpoint) } => endpoint,
            _ => METADATA_ENDPOINT,
        };
        Ok(Self { iam: address(iam, "")?, metadata: address(metadata, "")?, credentials, project, refusals })
    }

    /// Whether the files contain the credential itself, so that no login is made.
    pub(super) fn is_in_files(&self) -> bool {
        matches!(self.credentials, Credentials { login: Login::Token(_) | Login::AccessKey(_), agency: None })
    }

    /// The location of the secret, for the error of a refusal.
    pub(super) fn secret_location(&self) -> String {
        self.credentials.login.secret_location()
    }

    /// Requests to IAM through this executor.
    pub(super) fn iam<'a>(&'a self, executor: &'a Executor, budget: RetryBudget) -> IamExchange<'a> {
        IamExchange { executor, endpoint: &self.iam, budget }
    }

    /// A token or an access key, with its lifetime where that is known. An unchanged secret that was refused lately is
    /// not sent; `is_known` as in [`on_hold`](Self::on_hold).
    pub(super) async fn issue(
        &self,
        executor: &Executor,
        budget: RetryBudget,
        is_known: bool,
    ) -> Result<(Issued, Option<Lifetime>), Error> {
        let counted = |_: &Error| executor.observer.operation(Operation::Authenticate, false);
        let prepared = self.prepare().inspect_err(counted)?;
        let secrets = prepared.secret().map(|parts| self.secrets(&parts));
        // A credential from files is not sent by a login.
        let secrets = secrets.filter(|_| !self.is_in_files());
        let _turn = match &secrets {
            Some(_) => self.refusals.turn().await,
            None => None,
        };
        for secret in secrets.iter().flatten() {
            self.refusals
                .check(&executor.project, secret, executor.clock.now())
                .map_err(|why| self.on_hold(&why, is_known))?;
        }
        let is_accepted = AtomicBool::new(false);
        let on_accepted = || {
            is_accepted.store(true, Ordering::Relaxed);
            if let Some([own, _]) = &secrets {
                self.refusals.accept(&executor.project, own);
            }
        };
        let result = self.log_in(executor, budget, prepared, on_accepted).await;
        // The errors of files name the file already.
        let result =
            result.map_err(|error| if error.code().is_some() { self.with_secret_location(error) } else { error });
        if let (Err(error), Some([own, then])) = (&result, secrets)
            && matches!(error.code(), Some(Code::Http(401 | 403)))
        {
            let is_accepted = is_accepted.into_inner();
            let secret = if is_accepted { then } else { own };
            self.refusals.refuse(&executor.project, secret, &error.text(), is_accepted, executor.clock.now());
        }
        result
    }

    /// Fingerprints of the secret alone, and of the secret with the agency: once the secret was accepted, the refusal
    /// of the agency means nothing for the secret.
    fn secrets(&self, parts: &[&str]) -> [Fingerprint; 2] {
        let agency = self.credentials.agency.as_ref().map(ToString::to_string).unwrap_or_default();
        [self.refusals.fingerprint(parts), self.refusals.fingerprint(&[parts, &["then", &agency]].concat())]
    }

    /// The error of a refused secret that is not sent again yet. `is_known` where the error is added to the cloud's own
    /// message on the refusal.
    pub(super) fn on_hold(&self, why: &str, is_known: bool) -> Error {
        let text = if is_known {
            format!("it has not changed since, so it is not sent again for 30 minutes; {}", self.secret_location())
        } else {
            format!("{ON_HOLD}{why}")
        };
        Error::new(Operation::Authenticate, ErrorKind::Credentials, text)
    }

    /// Adds the location of the secret to the error of a refusal.
    pub(super) fn with_secret_location(&self, error: Error) -> Error {
        let is_refusal = !error.kind().is_transient()
            && !matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::LoginUnavailable);
        if is_refusal { error.with_hint(&self.secret_location()) } else { error }
    }

    /// Reads the secret, anew each time.
    fn prepare(&self) -> Result<PreparedLogin<'_>, Error> {
        Ok(match &self.credentials.login {
            Login::Token(source) => PreparedLogin::Token(token::read(source)?),
            Login::Password(password) => PreparedLogin::Password(password, password.password.read()?),
            Login::AccessKey(files) => PreparedLogin::AccessKey(files.read()?),
            Login::EcsAgency { .. } => PreparedLogin::Machine,
            Login::IdToken(id_token) => PreparedLogin::IdToken(id_token, token::read(&id_token.token)?),
            Login::OidcAgency(agency) => PreparedLogin::OidcAgency(agency, token::read(&agency.token)?),
            Login::Pod(pod) => PreparedLogin::Pod(pod, token::read(&pod.token)?),
        })
    }

    /// Calls `on_accepted` when the secret was accepted, though an agency may still refuse.
    async fn log_in(
        &self,
        executor: &Executor,
        budget: RetryBudget,
        prepared: PreparedLogin<'_>,
        on_accepted: impl Fn(),
    ) -> Result<(Issued, Option<Lifetime>), Error> {
        let iam = self.iam(executor, budget);
        let (agency, project) = (self.credentials.agency.as_ref(), self.project.as_ref());
        let token = |token: Token| (Issued::Token(token.text, token.project_id), token.lifetime);
        let (key, lifetime) = match (prepared, agency) {
            (PreparedLogin::Token(given), None) => {
                executor.observer.operation(Operation::Authenticate, true);
                return Ok((Issued::Token(given, None), None));
            }
            (PreparedLogin::Token(given), Some(agency)) => {
                return Ok(token(agency.token(&iam, &given, project).await.inspect(|_| on_accepted())?));
            }
            (PreparedLogin::Password(user, password), None) => {
                return Ok(token(user.token(&iam, &password, project).await.inspect(|_| on_accepted())?));
            }
            (PreparedLogin::Password(user, password), Some(agency)) => {
                let own = user.account_token(&iam, &password).await?.text;
                on_accepted();
                return Ok(token(agency.token(&iam, &own, project).await?));
            }
            (PreparedLogin::AccessKey(key), agency) => {
                if agency.is_none() {
                    executor.observer.operation(Operation::Authenticate, true);
                }
                (key, None)
            }
            (PreparedLogin::Machine, _) => ecs_agency::access_key(executor, budget, &self.metadata).await?,
            (PreparedLogin::IdToken(id_token, secret), _) => id_token.access_key(&iam, &secret, &on_accepted).await?,
            (PreparedLogin::OidcAgency(agency, secret), _) => {
                agency.access_key(&iam, &secret).await.inspect(|_| on_accepted())?
            }
            (PreparedLogin::Pod(pod, secret), _) => {
                pod.access_key(executor, budget, &secret).await.inspect(|_| on_accepted())?
            }
        };
        let (key, lifetime) = match agency {
            Some(agency) => agency.access_key(&iam, &key).await.inspect(|_| on_accepted())?,
            None => (key, lifetime),
        };
        Ok((Issued::Key(key), lifetime))
    }
}

/// A login with the current secret.
enum PreparedLogin<'a> {
    Token(SecretString),
    Password(&'a Password, SecretString),
    AccessKey(AccessKey),
    /// The metadata service needs no secret.
    Machine,
    IdToken(&'a IdToken, SecretString),
    OidcAgency(&'a OidcAgency, SecretString),
    Pod(&'a PodIdentity, SecretString),
}

impl PreparedLogin<'_> {
    fn secret(&self) -> Option<Vec<&str>> {
        match self {
            Self::AccessKey(key) => Some(key.parts().to_vec()),
            Self::Machine => None,
            Self::Token(secret)
            | Self::Password(_, secret)
            | Self::IdToken(_, secret)
            | Self::OidcAgency(_, secret)
            | Self::Pod(_, secret) => Some(vec![secret.expose_secret()]),
        }
    }
}
