//! The errors that several calls of IAM have in common.

use crate::answer::Answer;

pub(super) fn bad_request(text: &str) -> Answer {
    Answer::iam(400, "Bad Request", text)
}

pub(super) fn unauthorized(text: &str) -> Answer {
    Answer::iam(401, "Unauthorized", text)
}

pub(super) fn unsupported_method() -> Answer {
    unauthorized("Attempted to authenticate with an unsupported method.")
}

pub(super) fn not_found(text: &str) -> Answer {
    Answer::iam_code(404, "IAM.0004", text)
}
