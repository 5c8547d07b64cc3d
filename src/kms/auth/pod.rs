//! Temporary access keys of the agency that a pod has in CCE, from the agent on its node (`docs/kms-api.md` 5.4).
//!
//! The agent identifies the pod by a token that the cluster renews in a file. No proxy is ever used, as for the
//! metadata service of a machine.

use secrecy::SecretString;

use super::access_key::AccessKey;
use super::lifetime::Lifetime;
use super::login_error::end_of_attempt;
use crate::kms::error::{Error, ErrorKind};
use crate::kms::executor::{Call, Executor};
use crate::kms::observe::Code;
use crate::kms::observe::Operation;
use crate::kms::outage::RetryBudget;
use crate::kms::secret::SecretLocation;
use crate::kms::transport::{HeaderText, Method, Request, Url};

/// The identity of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodIdentity {
    /// The whole address of the agent. The pod's token is sent there, so it must not leave the node in clear text: the
    /// part that creates this has checked the address.
    pub uri: String,
    /// The pod's token, read anew at each login.
    pub token: SecretLocation,
}

impl PodIdentity {
    /// A temporary access key.
    pub(super) async fn access_key(
        &self,
        executor: &Executor,
        budget: RetryBudget,
        token: &SecretString,
    ) -> Result<(AccessKey, Option<Lifetime>), Error> {
        let call = Call::new(Operation::Authenticate, None, None);
        let refused = |text: String| Error::new(call.operation, ErrorKind::Credentials, text);
        let url = Url::parse(&self.uri).map_err(|_| refused("the pod's credentials have no address".to_owned()))?;
        let attempt = || async {
            let request = Request {
                method: Method::Post,
                url: url.clone(),
                headers: vec![
                    ("content-type", HeaderText::plain("application/json")),
                    ("authorization", HeaderText::secret(token.clone()).ok_or_else(Error::invalid_header)?),
                ],
                body: SecretString::from("{}"),
                secret_in_body: None,
                direct: true,
            };
            let answer = executor.attempt(&call, &request).await.map_err(|error| match error.code() {
                Some(Code::Http(401 | 403 | 404)) => error.with_kind(ErrorKind::Credentials).with_hint(
                    "does the pod's service account have an agency? associate one in the console of the cluster",
                ),
                _ => end_of_attempt(error),
            })?;
            AccessKey::parse(&answer.body, answer.date(), executor.clock.now())
                .ok_or_else(|| refused(format!("{} answered without an access key", request.authority())))
        };
        executor.call_with(budget, &call, attempt).await
    }
}
