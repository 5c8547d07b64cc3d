//! The calls of IAM that give credentials (`docs/kms-api.md` 5.1 and 5.4).

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::access_key::AccessKey;
use super::body::{self, Auth, CredentialRequest, Identity, Scope, ScopedProject};
use super::lifetime::{Lifetime, lifetime};
use super::login_error::end_of_attempt;
use super::signing::encode;
use crate::kms::error::{Error, ErrorKind};
use crate::kms::executor::{Call, Executor};
use crate::kms::observe::Code;
use crate::kms::observe::Operation;
use crate::kms::outage::RetryBudget;
use crate::kms::transport::{Answer, HeaderText, Method, Request, Url};
use crate::support::printable::excerpt;

/// The project of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectScope {
    /// Its id, where the policy gives it.
    pub id: Option<String>,
    /// Its name in the cloud.
    pub name: String,
}

/// Requests to the IAM of one project, with a retry budget.
pub(super) struct IamExchange<'a> {
    pub(super) executor: &'a Executor,
    pub(super) endpoint: &'a Url,
    pub(super) budget: RetryBudget,
}

/// A token from IAM.
pub(super) struct Token {
    pub(super) text: SecretString,
    pub(super) lifetime: Option<Lifetime>,
    /// The project that it is for, if any.
    pub(super) project_id: Option<String>,
}

/// How a request to IAM is authenticated.
pub(super) enum RequestAuth<'a> {
    /// By its body alone.
    None,
    /// By the token of this identity provider, which is in the body.
    IdentityProvider(&'a str),
    /// By an IAM token.
    Token(&'a SecretString),
    /// By a signature with an access key.
    Key(&'a AccessKey),
}

impl IamExchange<'_> {
    /// A token for this scope.
    pub(super) async fn token(
        &self,
        auth: RequestAuth<'_>,
        identity: Identity<impl Serialize>,
        scope: Option<Scope<'_>>,
        secret: Option<&SecretString>,
    ) -> Result<Token, Error> {
        let project = match &scope {
            Some(Scope::Project(ScopedProject::Id { id: project } | ScopedProject::Name { name: project, .. })) => {
                Some(*project)
            }
            Some(Scope::Domain(_)) | None => None,
        };
        let body = body::json(&CredentialRequest { auth: Auth { identity, scope } });
        // Without the catalogue of services, which is several KiB and not used.
        let path = "v3/auth/tokens?nocatalog=true";
        let token = self.exchange(Method::Post, path, auth, body, secret, |answer| self.parse_token(answer)).await;
        token.map_err(|error| match (error.code(), project) {
            // The cause may be a missing role on the project, rather than the password.
            (Some(Code::Http(403 | 404)), Some(project)) => {
                error.with_purpose(&format!("requesting a token for project {project}"))
            }
            _ => error,
        })
    }

    /// An unscoped token for the token of an identity provider.
    pub(super) async fn token_for_id_token(&self, provider: &str, id_token: &SecretString) -> Result<Token, Error> {
        #[derive(Serialize)]
        struct ByIdToken<'a> {
            id_token: IdToken<'a>,
        }
        #[derive(Serialize)]
        struct IdToken<'a> {
            id: &'a str,
        }
        let auth = ByIdToken { id_token: IdToken { id: id_token.expose_secret() } };
        let body = body::json(&CredentialRequest { auth });
        let path = "v3.0/OS-AUTH/id-token/tokens";
        let auth = RequestAuth::IdentityProvider(provider);
        self.exchange(Method::Post, path, auth, body, Some(id_token), |answer| self.parse_token(answer)).await
    }

    /// A temporary access key.
    pub(super) async fn access_key(
        &self,
        auth: RequestAuth<'_>,
        identity: Identity<impl Serialize>,
        secret: Option<&SecretString>,
    ) -> Result<(AccessKey, Option<Lifetime>), Error> {
        let body = body::json(&CredentialRequest { auth: Auth { identity, scope: None } });
        self.exchange(Method::Post, "v3.0/OS-CREDENTIAL/securitytokens", auth, body, secret, |answer| {
            let failed = || failed(answer, "IAM answered without a temporary access key; is iam_endpoint right?");
            AccessKey::parse(&answer.body, answer.date(), self.executor.clock.now()).ok_or_else(failed)
        })
        .await
    }

    /// The id of the one project with this name.
    pub(super) async fn project_id(&self, auth: RequestAuth<'_>, name: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Answered {
            projects: Vec<Project>,
        }
        #[derive(Deserialize)]
        struct Project {
            id: String,
            name: String,
        }
        let path = format!("v3/projects?name={}", encode(name.as_bytes()));
        self.exchange(Method::Get, &path, auth, SecretString::default(), None, |answer| {
            let answered: Answered = serde_json::from_slice(&answer.body)
                .map_err(|_| failed(answer, "IAM did not list projects; is iam_endpoint right?"))?;
            let ids: Vec<String> = answered
                .projects
                .into_iter()
                .filter(|project| project.name == name)
                .map(|project| project.id)
                .collect();
            match ids.as_slice() {
                [id] => Ok(id.clone()),
                [] => Err(failed(answer, &format!("IAM lists no project {name}; set project_id"))),
                _ => {
                    let listed = excerpt(&ids.join(", "), 200);
                    Err(failed(
                        answer,
                        &format!("IAM lists several projects {name}; set project_id to one of {listed}"),
                    ))
                }
            }
        })
        .await
        .map_err(|error| {
            const GRANT: &str = "set project_id, or grant iam:projects:listProjects, the permission to list projects";
            match error.code() {
                // The errors from above name the project already.
                None => error,
                Some(code) => {
                    let error = error.with_purpose(&format!("looking up the id of project {name}"));
                    if code == Code::Http(403) { error.with_hint(GRANT) } else { error }
                }
            }
        })
    }

    /// One call. The `secret` in the body appears in no error.
    pub(super) async fn exchange<T>(
        &self,
        method: Method,
        path: &str,
        auth: RequestAuth<'_>,
        body: SecretString,
        secret: Option<&SecretString>,
        parse: impl Fn(&Answer) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let call = Call::new(Operation::Authenticate, None, None);
        let url = self.endpoint.join(path).map_err(|_| {
            Error::new(
                call.operation,
                ErrorKind::Credentials,
                format!("{} is not a valid address of IAM", self.endpoint),
            )
        })?;
        let attempt = || async {
            let mut request = Request {
                method,
                url: url.clone(),
                headers: vec![("content-type", HeaderText::plain("application/json;charset=utf8"))],
                body: body.clone(),
                secret_in_body: secret.cloned(),
                direct: false,
            };
            auth.authenticate(&mut request, self.executor).ok_or_else(Error::invalid_header)?;
            let answer = self.executor.attempt(&call, &request).await.map_err(|error| {
                // IAM.0020: authentication has moved to another site, and the next attempt finds it.
                let moved = error.code() == Some(Code::Http(410));
                if moved { error.with_kind(ErrorKind::Transient) } else { end_of_attempt(error) }
            })?;
            // The error may quote the answer.
            parse(&answer).map_err(|error| error.map_text(|text| request.without_secrets(text)))
        };
        self.executor.call_with(self.budget, &call, attempt).await
    }

    fn parse_token(&self, answer: &Answer) -> Result<Token, Error> {
        #[derive(Deserialize)]
        struct Body {
            token: Described,
        }
        #[derive(Deserialize)]
        struct Described {
            issued_at: Option<String>,
            expires_at: Option<String>,
            project: Option<Project>,
        }
        #[derive(Deserialize)]
        struct Project {
            id: String,
        }
        let Some(token) = answer.header("x-subject-token").filter(|token| !token.is_empty()) else {
            let text = "IAM answered without a token (no X-Subject-Token header); is iam_endpoint right?";
            return Err(failed(answer, text));
        };
        // This copy is wiped. The one in the HTTP client's read buffer cannot be.
        let text = SecretString::from(token);
        // Without a readable body the token is usable, and its lifetime is unknown.
        let described = serde_json::from_slice::<Body>(&answer.body).ok().map(|body| body.token);
        let project_id = described.as_ref().and_then(|token| token.project.as_ref()).map(|project| project.id.clone());
        // The token's lifetime counted from now: this machine's clock may differ from IAM's.
        let now = self.executor.clock.now();
        let time = |text: Option<String>| text?.parse::<Timestamp>().ok();
        let lifetime = described.and_then(|token| {
            let end = time(token.expires_at)?;
            let span = time(token.issued_at).and_then(|begin| Duration::try_from(end.duration_since(begin)).ok());
            match span.filter(|span| !span.is_zero()) {
                Some(span) => Some((now, now + span)),
                None => lifetime(end.into(), answer.date(), now),
            }
        });
        Ok(Token { text, lifetime, project_id })
    }
}

impl RequestAuth<'_> {
    fn authenticate(&self, request: &mut Request, executor: &Executor) -> Option<()> {
        match self {
            Self::None => {}
            Self::IdentityProvider(id) => request.headers.push(("x-idp-id", HeaderText::text(id)?)),
            Self::Token(token) => request.headers.push(("x-auth-token", HeaderText::secret((*token).clone())?)),
            Self::Key(key) => key.sign(request, None, executor.clock.now())?,
        }
        Some(())
    }
}

/// The error of an answer without the requested credential.
pub(super) fn failed(answer: &Answer, text: &str) -> Error {
    Error::new(Operation::Authenticate, ErrorKind::Credentials, text).with_request_id(answer.request_id())
}
