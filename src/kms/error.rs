//! Errors of calls, by what follows from them.
//!
//! [`classify`] is the one place that interprets HTTP statuses and the cloud's error codes. Messages are never
//! interpreted: those of the wire differ from the documented ones (`docs/kms-api.md` 3).

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::observe::{Code, Operation};
use crate::rotation::key::{CallFailure, RotationBlocker};
use crate::support::error_chain::ErrorChain;
use crate::support::printable::excerpt;

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The same call may succeed later; it was repeated for as long as the retry policy allows.
    Transient,
    /// As `Transient`: the cloud's request limit was reached.
    Throttled,
    /// A write that may or may not have been applied. Read before repeating it.
    Unclear,
    /// The credentials were refused, or cannot be used.
    Credentials,
    /// The login service did not answer, or failed, for as long as the retry policy allows. It has refused nothing; no
    /// other call of this run will succeed either.
    LoginUnavailable,
    /// The key does not exist in this project.
    NotFound,
    /// The key cannot be rotated, or not now.
    Blocked(RotationBlocker),
    /// Rotation was to be enabled and is on already.
    AlreadyOn,
    /// An interval was to be set and rotation is off.
    NotOn,
    /// The cloud does not offer this call here, or its answer lacks what was asked for.
    NotOffered,
    /// This user may not make this call.
    Permission,
    /// The cloud refuses the project or the account as such.
    AccessDenied,
    /// The cloud cannot be reached for any key: a certificate is not trusted, or a proxy refuses. No other call of this
    /// run will succeed either.
    Unreachable,
    /// This machine lacks a resource that a request needs, such as open files; the call was repeated for as long as the
    /// retry policy allows.
    Shortage,
    /// The answer was not understood.
    Garbled,
    /// Refused for any other reason; the same call would be refused again.
    Refused,
    /// Not made: the program stops, or another replica writes from now on.
    Stopped,
}

impl ErrorKind {
    /// The call is repeated within the retry budget.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Transient | Self::Throttled | Self::Shortage)
    }
}

/// What the end of a call means for its key.
impl From<ErrorKind> for CallFailure {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::AccessDenied | ErrorKind::Permission => Self::AccessDenied,
            ErrorKind::Throttled => Self::Throttled,
            ErrorKind::Credentials => Self::Authentication,
            ErrorKind::LoginUnavailable => Self::LoginUnavailable,
            _ => Self::Other,
        }
    }
}

/// The beginning of the error of a refused secret that is not sent again yet; the refusal follows.
pub(super) const ON_HOLD: &str = "not sent again for 30 minutes, as it has not changed since it was refused: ";

/// A call that failed. Its text has the operation, what happened and the request id; the cause, such as that of a lost
/// connection, is its source.
#[derive(Debug)]
pub struct Error(Box<Inner>);

/// The cause of an error, whatever its type.
pub(super) type Source = Box<dyn StdError + Send + Sync>;

#[derive(Debug)]
struct Inner {
    operation: Operation,
    kind: ErrorKind,
    code: Option<Code>,
    text: String,
    source: Option<Source>,
    request_id: Option<Box<str>>,
    retry_after: Option<Duration>,
    maybe_applied: bool,
}

impl Error {
    /// An error without an answer of the cloud. `text` is what happened, and what the user can do about it.
    #[must_use]
    pub fn new(operation: Operation, kind: ErrorKind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self(Box::new(Inner {
            operation,
            kind,
            code: None,
            text,
            source: None,
            request_id: None,
            retry_after: None,
            maybe_applied: false,
        }))
    }

    /// The error of a credential that cannot be sent.
    pub(super) fn invalid_header() -> Self {
        let text = "the credentials contain characters that are not allowed in an HTTP header; set other ones";
        Self::new(Operation::Authenticate, ErrorKind::Credentials, text)
    }

    /// Adds the cause, where there is one.
    pub(super) fn with_source(mut self, source: Option<Source>) -> Self {
        self.0.source = source;
        self
    }

    /// Adds how the last attempt ended.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.0.code = Some(code);
        self
    }

    pub(crate) fn with_request_id(mut self, id: Option<&str>) -> Self {
        self.0.request_id = id.map(Into::into);
        self
    }

    /// Adds where to look for the cause.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.0.text.push_str(" (");
        self.0.text.push_str(hint);
        self.0.text.push(')');
        self
    }

    /// Adds the purpose of the call.
    pub(crate) fn with_purpose(self, purpose: &str) -> Self {
        self.map_text(|text| format!("{purpose}: {text}"))
    }

    /// Replaces the text.
    pub(super) fn map_text(mut self, change: impl FnOnce(String) -> String) -> Self {
        self.0.text = change(self.0.text);
        self
    }

    pub(crate) fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.0.retry_after = after;
        self
    }

    /// Marks the error of a write that may have been applied all the same.
    #[must_use]
    pub fn maybe_applied(mut self) -> Self {
        self.0.maybe_applied = true;
        self
    }

    /// Replaces the kind: what an answer means can depend on what came before it.
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The kind, by which its consequences are decided.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether an attempt of the write was answered with a server error such as 500, or with an error inside a success:
    /// the cloud may have applied it all the same.
    #[must_use]
    pub fn is_maybe_applied(&self) -> bool {
        self.0.maybe_applied
    }

    /// The call that failed.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// How the last attempt ended, if there was one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.0.code
    }

    /// The operation, what happened and why, without the request's id: the same from request to request, and whether or
    /// not a refused secret was sent again.
    #[must_use]
    pub fn cause(&self) -> String {
        let text = self.text();
        format!("{}: {}", self.0.operation.as_str(), text.strip_prefix(ON_HOLD).unwrap_or(&text))
    }

    /// What happened and why, without the operation.
    pub(crate) fn text(&self) -> String {
        match self.source() {
            Some(source) => format!("{}: {}", self.0.text, ErrorChain(source)),
            None => self.0.text.clone(),
        }
    }

    /// The cloud's id of the request, for its support.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// How long the cloud asked to wait, within bounds.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, text, request_id, .. } = &*self.0;
        write!(f, "{}: {text}", operation.as_str())?;
        match request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

/// The kind of an answer with this HTTP status and this error code of the cloud, empty where its body has none.
#[must_use]
pub fn classify(operation: Operation, status: u16, cloud_code: &str) -> ErrorKind {
    match (status, cloud_code) {
        (500 | 503 | 408, _) => ErrorKind::Transient,
        (502 | 504, _) => lost_answer(operation),
        (429, _) => ErrorKind::Throttled,
        (401, _) | (_, "KMS.0301" | "KMS.0302" | "KMS.0303") => ErrorKind::Credentials,
        (_, "KMS.0207") => ErrorKind::NotFound,
        (_, "KMS.2901") if operation == Operation::EnableRotation => ErrorKind::AlreadyOn,
        (_, "KMS.0313") if operation == Operation::UpdateInterval => ErrorKind::NotOn,
        (_, "KMS.0106") => ErrorKind::Blocked(RotationBlocker::ReplicaKey),
        (_, "KMS.0209" | "KMS.1301") => ErrorKind::Blocked(RotationBlocker::Disabled),
        (_, "KMS.0210") => ErrorKind::Blocked(RotationBlocker::PendingDeletion),
        (_, "KMS.0211") => ErrorKind::Blocked(RotationBlocker::DefaultKey),
        (_, "KMS.0312") => ErrorKind::Blocked(RotationBlocker::ImportedMaterial),
        (_, "KMS.0319") => ErrorKind::Blocked(RotationBlocker::RotationUnsupported),
        (_, "KMS.0324" | "KMS.0325" | "KMS.0341") => ErrorKind::Blocked(RotationBlocker::UnsupportedKeyType),
        (_, "KMS.0338") => ErrorKind::Blocked(RotationBlocker::CustomKeystore),
        // The token is of another project, or the account is frozen or not verified: no other call will succeed.
        (_, "KMS.0305" | "KMS.0321" | "KMS.0314" | "KMS.0328") => ErrorKind::AccessDenied,
        (403, _) | (_, "KMS.0306" | "KMS.0307" | "KMS.0326" | "KMS.0330") => ErrorKind::Permission,
        (404, code) if !code.starts_with("KMS.") => ErrorKind::NotOffered,
        (405 | 501, _) => ErrorKind::NotOffered,
        _ => ErrorKind::Refused,
    }
}

/// The kind of an answer of 200 with an error code of the cloud: it contradicts itself, so only codes that lead to
/// another reading or to no write are accepted.
pub(super) fn classify_contradiction(operation: Operation, cloud_code: &str) -> ErrorKind {
    match classify(operation, 400, cloud_code) {
        kind @ (ErrorKind::Credentials
        | ErrorKind::Permission
        | ErrorKind::AccessDenied
        | ErrorKind::AlreadyOn
        | ErrorKind::NotOn) => kind,
        _ => ErrorKind::Garbled,
    }
}

/// The kind of a lost answer: a write may have been applied.
pub(super) fn lost_answer(operation: Operation) -> ErrorKind {
    if operation.is_write() { ErrorKind::Unclear } else { ErrorKind::Transient }
}

/// The cloud's own error code and message, from any of the four shapes of `docs/kms-api.md` 3. Empty where the body is
/// something else, such as the HTML of a gateway.
#[must_use]
pub fn parse_body(body: &[u8]) -> (String, String) {
    let Ok(Value::Object(top)) = serde_json::from_slice::<Value>(body) else { return Default::default() };
    let nested = top.values().filter_map(Value::as_object);
    for object in std::iter::once(&top).chain(nested) {
        for (code, message) in [("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message")] {
            let text = |name: &str| match object.get(name) {
                Some(Value::String(text)) => excerpt(text, 200),
                Some(Value::Number(number)) => number.to_string(),
                _ => String::new(),
            };
            if object.contains_key(code) {
                return (text(code), text(message));
            }
        }
    }
    Default::default()
}

/// The request id in the body of a gateway's error.
pub(super) fn body_request_id(body: &[u8]) -> Option<String> {
    let Ok(Value::Object(top)) = serde_json::from_slice::<Value>(body) else { return None };
    top.get("request_id")?.as_str().map(|id| excerpt(id, 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{EnableRotation, ReadStatus, UpdateInterval};

    #[test]
    fn a_cause_is_the_source_and_is_printed_once() {
        let error = Error::new(ReadStatus, ErrorKind::Transient, "no connection to kms.example.com");
        let error = error.with_source(Some("connection refused".into())).with_hint("through a proxy");
        assert_eq!(error.to_string(), "read_status: no connection to kms.example.com (through a proxy)");
        assert_eq!(error.text(), "no connection to kms.example.com (through a proxy): connection refused");
        assert_eq!(ErrorChain(&error).to_string(), error.cause());
    }

    #[test]
    fn a_refusal_has_the_same_cause_while_its_secret_is_not_sent_again() {
        let refusal = "HTTP 401 The password is wrong.";
        let error = |text: String| Error::new(Operation::Authenticate, ErrorKind::Credentials, text);
        assert_eq!(error(format!("{ON_HOLD}{refusal}")).cause(), error(refusal.to_owned()).cause());
    }

    #[test]
    fn all_four_shapes_of_error_bodies_are_read() {
        let shapes = [
            (r#"{"error":{"error_code":"KMS.2901","error_msg":"on"}}"#, "KMS.2901", "on"),
            (r#"{"error_code":"APIGW.0301","error_msg":"bad","request_id":"r"}"#, "APIGW.0301", "bad"),
            (
                r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#,
                "401",
                "The username or password is wrong.",
            ),
            (r#"{"errorCode":"IAM.0012","errorMsg":"slow down"}"#, "IAM.0012", "slow down"),
        ];
        for (body, code, message) in shapes {
            assert_eq!(parse_body(body.as_bytes()), (code.to_owned(), message.to_owned()), "{body}");
        }
        for body in ["", "<html>502</html>", "[]", "{\"error\":\"text\"}", "\"x\"", "{\"error\":{\"error_msg\":7}}"] {
            assert_eq!(parse_body(body.as_bytes()), (String::new(), String::new()), "{body}");
        }
    }

    #[test]
    fn the_status_decides_over_the_body_for_server_errors() {
        for code in ["", "KMS.2901", "KMS.0207"] {
            assert_eq!(classify(ReadStatus, 502, code), ErrorKind::Transient);
            assert_eq!(classify(UpdateInterval, 502, code), ErrorKind::Unclear);
            assert_eq!(classify(EnableRotation, 500, code), ErrorKind::Transient);
            assert_eq!(classify(EnableRotation, 429, code), ErrorKind::Throttled);
        }
    }

    #[test]
    fn a_code_for_rotation_on_or_off_has_a_meaning_only_for_its_own_write() {
        let [on, off] = ["KMS.2901", "KMS.0313"].map(|code| move |operation| classify(operation, 400, code));
        assert_eq!(
            [EnableRotation, UpdateInterval, ReadStatus].map(on),
            [ErrorKind::AlreadyOn, ErrorKind::Refused, ErrorKind::Refused]
        );
        assert_eq!(
            [EnableRotation, UpdateInterval, ReadStatus].map(off),
            [ErrorKind::Refused, ErrorKind::NotOn, ErrorKind::Refused]
        );
    }

    #[test]
    fn a_missing_key_and_a_missing_call_are_distinguished() {
        assert_eq!(classify(ReadStatus, 404, "KMS.0207"), ErrorKind::NotFound);
        assert_eq!(classify(ReadStatus, 404, "APIGW.0101"), ErrorKind::NotOffered);
        assert_eq!(classify(ReadStatus, 404, ""), ErrorKind::NotOffered);
        assert_eq!(classify(ReadStatus, 404, "KMS.9999"), ErrorKind::Refused);
    }

    #[test]
    fn a_refused_token_a_missing_permission_and_a_foreign_project_are_distinguished() {
        for (status, code) in [(401, ""), (401, "APIGW.0307"), (403, "KMS.0303")] {
            assert_eq!(classify(ReadStatus, status, code), ErrorKind::Credentials);
        }
        assert_eq!(classify(ReadStatus, 403, "KMS.0307"), ErrorKind::Permission);
        assert_eq!(classify(ReadStatus, 403, ""), ErrorKind::Permission);
        assert_eq!(classify(ReadStatus, 403, "KMS.0321"), ErrorKind::AccessDenied);
    }
}
