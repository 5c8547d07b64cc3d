//! Where a session's credentials come from: each way to log in, and the agency that is assumed on top.
//!
//! Whoever asks gets them anew. How long they are kept, and whether they may be asked for at all, the `session` knows.

use secrecy::SecretString;

use super::super::caller::Caller;
use super::super::outage::RetryBudget;
use super::super::transport::{SetUpError, Url, address};
use super::access_key::AccessKey;
use super::iam::{Iam, ProjectScope, Token};
use super::{Credentials, Error, Kind, Lifetime, Login, Operation, ecs_agency, token};

/// Credentials as their source gave them.
pub(super) enum Issued {
    /// A token, and the project that it is for where that was told.
    Token(SecretString, Option<String>),
    Key(AccessKey),
}

/// The way to one project's credentials.
pub(super) struct Source {
    credentials: Credentials,
    iam: Url,
    metadata: Url,
    /// What a token is to be for.
    project: Option<ProjectScope>,
}

impl Source {
    /// Nothing is asked of it yet; IAM is at the endpoint `iam`.
    pub(super) fn new(credentials: Credentials, iam: &str, project: Option<ProjectScope>) -> Result<Self, SetUpError> {
        let metadata = match &credentials.login {
            Login::EcsAgency { metadata_endpoint: Some(endpoint) } => endpoint,
            _ => ecs_agency::METADATA_ENDPOINT,
        };
        Ok(Self { iam: address(iam, "")?, metadata: address(metadata, "")?, credentials, project })
    }

    /// Whether they are given in files as they are, which cost nothing to read.
    pub(super) fn is_in_files(&self) -> bool {
        matches!(self.credentials, Credentials { login: Login::Token(_) | Login::AccessKey(_), agency: None })
    }

    /// Where the secret is, for who has to look why it is refused.
    pub(super) fn place(&self) -> String {
        self.credentials.login.place()
    }

    /// IAM, asked on behalf of this caller.
    pub(super) fn iam<'a>(&'a self, caller: &'a Caller, budget: RetryBudget) -> Iam<'a> {
        Iam { caller, endpoint: &self.iam, budget }
    }

    /// A token or an access key, with its lifetime where that is told.
    pub(super) async fn issue(
        &self,
        caller: &Caller,
        budget: RetryBudget,
    ) -> Result<(Issued, Option<Lifetime>), Error> {
        let result = self.ask(caller, budget).await;
        // What is wrong with a file names the file itself.
        result.map_err(|error| if error.code().is_some() { self.placed(error) } else { error })
    }

    /// The error and where the secret is, which has nothing to do with a service that is away.
    pub(super) fn placed(&self, error: Error) -> Error {
        let is_refusal = !error.kind().is_transient() && !matches!(error.kind(), Kind::NoWay | Kind::LoginUnavailable);
        if is_refusal { error.with_hint(&self.place()) } else { error }
    }

    async fn ask(&self, caller: &Caller, budget: RetryBudget) -> Result<(Issued, Option<Lifetime>), Error> {
        let iam = self.iam(caller, budget);
        let counted = |error: Error| {
            caller.observer.operation(Operation::Authenticate, false);
            error
        };
        let token = |token: Token| (Issued::Token(token.text, token.project_id), token.lifetime);
        let (key, lifetime) = match (&self.credentials.login, &self.credentials.agency) {
            (Login::Token(source), None) => {
                let given = token::read(source).map_err(counted)?;
                caller.observer.operation(Operation::Authenticate, true);
                return Ok((Issued::Token(given, None), None));
            }
            (Login::Token(source), Some(agency)) => {
                let given = token::read(source).map_err(counted)?;
                return Ok(token(agency.token(&iam, &given, self.project.as_ref()).await?));
            }
            (Login::Password(password), None) => return Ok(token(password.token(&iam, self.project.as_ref()).await?)),
            (Login::Password(password), Some(agency)) => {
                let own = password.account_token(&iam).await?.text;
                return Ok(token(agency.token(&iam, &own, self.project.as_ref()).await?));
            }
            (Login::AccessKey(files), agency) => {
                let key = files.read().map_err(counted)?;
                if agency.is_none() {
                    caller.observer.operation(Operation::Authenticate, true);
                }
                (key, None)
            }
            (Login::EcsAgency { .. }, _) => ecs_agency::access_key(caller, budget, &self.metadata).await?,
            (Login::IdToken(id_token), _) => id_token.access_key(&iam).await?,
            (Login::OidcAgency(agency), _) => agency.access_key(&iam).await?,
            (Login::Pod(pod), _) => pod.access_key(caller, budget).await?,
        };
        let (key, lifetime) = match &self.credentials.agency {
            Some(agency) => agency.access_key(&iam, &key).await?,
            None => (key, lifetime),
        };
        Ok((Issued::Key(key), lifetime))
    }
}
