//! What a failed login means: it may succeed later, the login service is unavailable, or it refuses the credentials.

use crate::kms::error::{Error, ErrorKind};
use crate::kms::observe::Code;

/// The error of one attempt: transient errors are retried.
pub(super) fn end_of_attempt(error: Error) -> Error {
    match (error.kind(), error.code()) {
        (ErrorKind::Stopped | ErrorKind::Unreachable, _) => error,
        (kind, _) if kind.is_transient() => error,
        (_, Some(Code::Http(500..))) => error.with_kind(ErrorKind::LoginUnavailable),
        _ => error.with_kind(ErrorKind::Credentials),
    }
}

/// The error of a login whose attempts are used up: it is not tried again in this run.
pub(super) fn end_of_login(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Stopped | ErrorKind::Unreachable | ErrorKind::Shortage | ErrorKind::LoginUnavailable => error,
        kind if kind.is_transient() => error.with_kind(ErrorKind::LoginUnavailable),
        _ => error.with_kind(ErrorKind::Credentials),
    }
}
