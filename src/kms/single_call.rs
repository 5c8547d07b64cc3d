//! Single calls whose answers are returned as they are: status, some headers, body.
//!
//! For `cli/probe`, which shows what the real API answers. A single call is authenticated, limited and logged as every
//! other one, and a refused credential is renewed once. Apart from that it is sent once: no refusal and no server error
//! is retried or interpreted here. It is the only way to `disable-key-rotation`, which the trait [`Kms`](super::Kms)
//! does not have, so no run can disable rotation.

use serde_json::json;
use tracing::debug;
use uuid::Uuid;

use super::SendMode;
use super::auth::Credential;
use super::client::KmsClient;
use super::error::{Error, ErrorKind, classify, parse_body};
use super::executor::{Call, broken_off};
use super::observe::Operation;
use super::route::Route;
use super::transport::{Answer, Request};
use super::wire;
use crate::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation};

/// A call with its parameters (`docs/kms-api.md` 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SingleCall {
    /// `describe-key`
    Describe(KeyId),
    /// `list-keys` of every algorithm, its first page, with this `limit`.
    ListKeys(Option<&'static str>),
    /// `get-key-rotation-status`
    ReadStatus(KeyId),
    /// The same with a `sequence` of 32 characters instead of the documented 36.
    ReadStatusShortSequence(KeyId),
    /// `enable-key-rotation`
    Enable(KeyId),
    /// `disable-key-rotation`
    Disable(KeyId),
    /// `update-key-rotation-interval` with any number of days, also one that is refused.
    SetInterval(KeyId, u16),
}

impl SingleCall {
    fn route(self) -> Route {
        match self {
            Self::Describe(_) => Route::Describe,
            Self::ListKeys(_) => Route::ListKeys,
            Self::ReadStatus(_) | Self::ReadStatusShortSequence(_) => Route::ReadStatus,
            Self::Enable(_) => Route::Enable,
            Self::Disable(_) => Route::Disable,
            Self::SetInterval(..) => Route::SetInterval,
        }
    }

    /// The end of its path, which is its name in the documents.
    pub(crate) fn path(self) -> &'static str {
        self.route().path()
    }

    /// Whether it changes the key.
    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::Enable(_) | Self::Disable(_) | Self::SetInterval(..))
    }

    /// The permission that it needs (`docs/kms-api.md` 7).
    pub(crate) fn permission(self) -> &'static str {
        self.route().permission()
    }

    /// The key; nothing for a list.
    fn key_id(&self) -> Option<&str> {
        match self {
            Self::ListKeys(_) => None,
            Self::Describe(key_id)
            | Self::ReadStatus(key_id)
            | Self::ReadStatusShortSequence(key_id)
            | Self::Enable(key_id)
            | Self::Disable(key_id)
            | Self::SetInterval(key_id, _) => Some(key_id.as_str()),
        }
    }

    fn body(&self, sequence: &str) -> String {
        let mut body = json!({"sequence": sequence});
        if let Some(key_id) = self.key_id() {
            body["key_id"] = key_id.into();
        }
        match self {
            Self::ListKeys(limit) => {
                body["key_spec"] = "ALL".into();
                if let Some(limit) = limit {
                    body["limit"] = (*limit).into();
                }
            }
            Self::SetInterval(_, days) => body["rotation_interval"] = (*days).into(),
            _ => {}
        }
        body.to_string()
    }
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct RawAnswer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `Content-Type`
    pub(crate) content_type: Option<String>,
    /// `Retry-After`
    pub(crate) retry_after: Option<String>,
    /// Which of the headers `Date` and `X-Request-Id` it has.
    pub(crate) other_headers: Vec<&'static str>,
    /// The body, complete.
    pub(crate) body: Vec<u8>,
    /// The body repeats a secret of the request, so it must not be shown.
    pub(crate) repeats_secret: bool,
    /// The request was signed, and not sent with a token.
    pub(crate) was_signed: bool,
    /// The cloud's error code, empty where the body has none.
    pub(crate) code: String,
    /// The message beside the code.
    pub(crate) message: String,
    operation: Operation,
}

impl RawAnswer {
    fn new(operation: Operation, request: &Request, answer: &Answer) -> Self {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let header = |name| answer.header(name).map(|text| request.without_secrets(text.to_owned()));
        let (code, message) = parse_body(&answer.body);
        Self {
            status: answer.status,
            content_type: header("content-type"),
            retry_after: header("retry-after"),
            other_headers: ["date", "x-request-id"].into_iter().filter(|name| answer.header(name).is_some()).collect(),
            body: answer.body.to_vec(),
            repeats_secret: request.without_secrets(text.clone()) != text,
            was_signed: request.headers.iter().any(|(name, _)| *name == "authorization"),
            code: request.without_secrets(code),
            message: request.without_secrets(message),
            operation,
        }
    }

    /// Whether it is a success without an error in its body.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status) && self.code.is_empty()
    }

    /// What follows from it, unless it is a success.
    pub(crate) fn failure(&self) -> Option<ErrorKind> {
        (!self.is_success()).then(|| classify(self.operation, self.status.max(400), &self.code))
    }

    /// The setting, if it is an answer of `get-key-rotation-status` that has it.
    pub(crate) fn rotation(&self) -> Option<Rotation> {
        wire::rotation_status(&self.body).ok().filter(|_| self.status == 200)
    }

    /// The key, if it is an answer of `describe-key`.
    pub(crate) fn description(&self) -> Option<KeyDescription> {
        wire::description(&self.body).filter(|_| self.is_success())
    }

    /// The keys, if it is a page of `list-keys`.
    pub(crate) fn keys(&self) -> Option<Vec<ListedKey>> {
        wire::keys_page(&self.body).filter(|_| self.is_success()).map(|page| page.keys)
    }
}

impl KmsClient {
    /// Makes one call and returns its answer, whatever it is.
    ///
    /// # Errors
    ///
    /// There is no complete answer, or the login failed or was refused.
    pub(crate) async fn single_call(&self, single: SingleCall) -> Result<RawAnswer, Error> {
        let addresses = self.addresses().await?;
        let (route, uuid) = (single.route(), Uuid::new_v4());
        let sequence = match single {
            SingleCall::ReadStatusShortSequence(_) => uuid.simple().to_string(),
            _ => uuid.to_string(),
        };
        let (operation, body) = (route.operation(), &single.body(&sequence));
        let call = &Call::new(operation, single.key_id(), Some(&sequence)).sent(SendMode::Once);
        debug!(project = self.executor.project(), call = route.path(), sequence, "single call");
        let request = |credential: Credential| async move {
            self.executor.await_turn(call).await?;
            credential.check_expiry(self.executor.clock.now())?;
            let request = self.request(addresses, route, body, &credential)?;
            let answer = self.executor.exchange(call, &request).await?;
            if let Some(code) = answer.broken {
                return Err(broken_off(operation, &request, &answer, code));
            }
            if answer.status >= 300 {
                let refusal = self.executor.refusal(operation, &request, &answer);
                if refusal.kind() == ErrorKind::Credentials {
                    return Err(refusal);
                }
            }
            Ok(RawAnswer::new(operation, &request, &answer))
        };
        self.session.with_credential(&self.executor, request).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn bodies_have_the_documented_fields() {
        let key_id: KeyId = "0d0466b0-e727-4d9c-b35d-f84bb474a37f".parse().unwrap();
        let body = |call: SingleCall| serde_json::from_str::<Value>(&call.body("s")).unwrap();
        assert_eq!(body(SingleCall::Disable(key_id)), json!({"key_id": key_id.as_str(), "sequence": "s"}));
        let interval = json!({"key_id": key_id.as_str(), "rotation_interval": 366, "sequence": "s"});
        assert_eq!(body(SingleCall::SetInterval(key_id, 366)), interval);
        assert_eq!(body(SingleCall::ListKeys(None)), json!({"key_spec": "ALL", "sequence": "s"}));
        let limited = json!({"key_spec": "ALL", "limit": "2000", "sequence": "s"});
        assert_eq!(body(SingleCall::ListKeys(Some("2000"))), limited);
    }
}
