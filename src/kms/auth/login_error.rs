//! What a failed login means: it may succeed later, the login service is unavailable, or it refuses the credentials.

use crate::kms::error::{Error, Kind};
use crate::kms::observe::Code;

/// The error of one attempt: transient errors are retried.
pub(super) fn end_of_attempt(error: Error) -> Error {
    match (error.kind(), error.code()) {
        (Kind::Stopped | Kind::Unreachable, _) => error,
        (kind, _) if kind.is_transient() => error,
        (_, Some(Code::Http(500..))) => error.with_kind(Kind::LoginUnavailable),
        _ => error.with_kind(Kind::Credentials),
    }
}

/// The error of a login whose attempts are used up: it is not tried again in this run.
pub(super) fn end_of_login(error: Error) -> Error {
    match error.kind() {
        Kind::Stopped | Kind::Unreachable | Kind::Shortage | Kind::LoginUnavailable => error,
        kind if kind.is_transient() => error.with_kind(Kind::LoginUnavailable),
        _ => error.with_kind(Kind::Credentials),
    }
}
