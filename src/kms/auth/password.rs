//! A user and a password, for which IAM gives a token scoped to the project (API sheet, section 5.1).

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::super::caller::{Call, Caller};
use super::super::error::printable;
use super::super::observe::Code;
use super::super::outage::Effort;
use super::super::transport::{Answer, HeaderText, Request, Url};
use super::{Error, Issued, Kind, Operation, SecretSource};

/// An IAM user.
#[derive(Clone, Debug, PartialEq)]
pub struct Password {
    /// The user's name.
    pub user_name: String,
    /// The account that the user belongs to.
    pub domain_name: String,
    /// The password, read anew at each authentication.
    pub password: SecretSource,
    /// Scope the token by this project name, within the account, instead of by the project's id.
    pub project_name: Option<String>,
}

impl Password {
    /// Gets a token. A wrong password is final: IAM locks the user after a few.
    pub(super) async fn issue(
        &self,
        caller: &Caller,
        effort: Effort,
        tokens: &Url,
        project_id: &str,
    ) -> Result<Issued, Error> {
        let call = Call::new(Operation::Authenticate, None, None);
        let password = match self.password.read() {
            Ok(password) => password,
            Err(error) => {
                caller.observer.operation(call.operation, false);
                return Err(error);
            }
        };
        let request = Request {
            url: tokens.clone(),
            headers: vec![("content-type", HeaderText::plain("application/json;charset=utf8"))],
            body: self.body(&password, project_id),
            secret_in_body: Some(password),
        };
        let attempt = || async {
            let answer = caller.attempt(&call, &request).await.map_err(|error| {
                // IAM.0020: authentication has moved to another site, and the next attempt finds it.
                let moved = error.code() == Some(Code::Http(410));
                let passing = moved || error.kind().is_transient();
                match error.kind() {
                    Kind::Stopped => error,
                    _ if passing => error.with_kind(Kind::Transient),
                    _ => error.with_kind(Kind::Credentials),
                }
            })?;
            parse(&answer, project_id, caller)
        };
        caller.call_with(effort, &call, attempt).await
    }

    fn body(&self, password: &SecretString, project_id: &str) -> String {
        let scope = match &self.project_name {
            Some(name) => json!({"name": name, "domain": {"name": self.domain_name}}),
            None => json!({"id": project_id}),
        };
        let user = json!({
            "name": self.user_name,
            "password": password.expose_secret(),
            "domain": {"name": self.domain_name},
        });
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        json!({"auth": {"identity": identity, "scope": {"project": scope}}}).to_string()
    }
}

fn parse(answer: &Answer, project_id: &str, caller: &Caller) -> Result<Issued, Error> {
    #[derive(Deserialize)]
    struct Body {
        token: Token,
    }
    #[derive(Deserialize)]
    struct Token {
        issued_at: Option<String>,
        expires_at: Option<String>,
        project: Option<Project>,
    }
    #[derive(Deserialize)]
    struct Project {
        id: String,
    }
    let failed = |text: &str| {
        Err(Error::new(Operation::Authenticate, Kind::Credentials, text).with_request_id(answer.request_id()))
    };
    let Some(token) = answer.header("x-subject-token").filter(|token| !token.is_empty()) else {
        return failed("IAM answered without a token (no X-Subject-Token header); is iam_endpoint right?");
    };
    // A body that cannot be read costs the time at which the token ends, not the token.
    let body = serde_json::from_slice::<Body>(&answer.body).ok().map(|body| body.token);
    if let Some(Project { id }) = body.as_ref().and_then(|token| token.project.as_ref())
        && id != project_id
    {
        let id = printable(id, 64);
        return failed(&format!("IAM gave a token for project {id}, but the policy's project_id is {project_id}"));
    }
    // The token's own span counted from now: the clock here may differ from IAM's.
    let now = caller.clock.now();
    let time = |text: Option<String>| text?.parse::<Timestamp>().ok();
    let lifetime = body.and_then(|token| {
        let end = time(token.expires_at)?;
        let span = time(token.issued_at).and_then(|begin| Duration::try_from(end.duration_since(begin)).ok());
        Some(match span {
            Some(span) => (now, now + span),
            None => (now, end.into()),
        })
    });
    Ok(Issued { token: SecretString::from(token), lifetime })
}
