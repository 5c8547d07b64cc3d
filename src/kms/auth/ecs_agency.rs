//! Temporary access keys of the agency that a virtual machine has, from its metadata service (`docs/kms-api.md` 5.3).
//!
//! The token-protected version is used, or the plain one where that does not exist. No proxy is ever used.

use secrecy::SecretString;

use super::access_key::AccessKey;
use super::lifetime::Lifetime;
use super::login_error::end_of_attempt;
use crate::kms::error::{Error, ErrorKind};
use crate::kms::executor::{Call, Executor};
use crate::kms::observe::Code;
use crate::kms::observe::Operation;
use crate::kms::outage::RetryBudget;
use crate::kms::transport::{Answer, HeaderText, Method, Request, Url};

/// The requested lifetime of a session with the service. Each renewal of the key opens a new one.
const SESSION_SECONDS: &str = "21600";

/// A temporary access key of the machine's agency.
pub(super) async fn access_key(
    executor: &Executor,
    budget: RetryBudget,
    endpoint: &Url,
) -> Result<(AccessKey, Option<Lifetime>), Error> {
    let call = Call::new(Operation::Authenticate, None, None);
    let attempt = || async {
        let session = session(executor, &call, endpoint).await?;
        let mut key = request(Method::Get, endpoint, "openstack/latest/securitykey")?;
        if let Some(session) = session {
            key.headers.push(("x-metadata-token", HeaderText::secret(session).ok_or_else(Error::invalid_header)?));
        }
        let answer = executor.attempt(&call, &key).await.map_err(|error| match error.code() {
            Some(Code::Http(401 | 404)) => error
                .with_kind(ErrorKind::Credentials)
                .with_hint("does the machine have an agency? attach one in the console of the cloud server"),
            _ => end_of_attempt(error),
        })?;
        AccessKey::parse(&answer.body, answer.date(), executor.clock.now()).ok_or_else(|| {
            Error::new(call.operation, ErrorKind::Credentials, "the metadata service answered without an access key")
        })
    };
    executor.call_with(budget, &call, attempt).await
}

/// The token of a session; `None` if the service has only the plain version.
async fn session(executor: &Executor, call: &Call<'_>, endpoint: &Url) -> Result<Option<SecretString>, Error> {
    let mut open = request(Method::Put, endpoint, "meta-data/latest/api/token")?;
    open.headers.push(("x-metadata-token-ttl-seconds", HeaderText::plain(SESSION_SECONDS)));
    match executor.attempt(call, &open).await {
        Ok(Answer { body, .. }) => Ok(std::str::from_utf8(&body).ok().map(|token| SecretString::from(token.trim()))),
        Err(error) if matches!(error.code(), Some(Code::Http(403 | 404 | 405 | 503))) => Ok(None),
        Err(error) => Err(end_of_attempt(error)),
    }
}

fn request(method: Method, endpoint: &Url, path: &str) -> Result<Request, Error> {
    let url = endpoint.join(path).map_err(|_| {
        Error::new(
            Operation::Authenticate,
            ErrorKind::Credentials,
            format!("{endpoint} is not a valid address of a metadata service"),
        )
    })?;
    let body = SecretString::from(String::new());
    Ok(Request { method, url, headers: Vec::with_capacity(2), body, secret_in_body: None, direct: true })
}
