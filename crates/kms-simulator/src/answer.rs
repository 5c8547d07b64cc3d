//! Answers: the body shapes of KMS, gateway and IAM (`docs/kms-api.md` 3), the HTML pages of proxies, and delivery.
//!
//! Builds values only; `server` sends them.

use std::time::Duration;

use hyper::body::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::fault::Hold;
use super::route::Service;

/// The 32 digits of `X-Request-Id`.
pub(super) type RequestId = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Json,
    Html,
    Text,
}

impl ContentType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf8",
            Self::Html => "text/html",
            Self::Text => "text/plain",
        }
    }
}

/// Status, headers and body of one answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: ContentType,
    pub(super) body: Bytes,
    /// `X-Subject-Token`
    pub(super) subject_token: Option<Box<str>>,
    /// `Retry-After`
    pub(super) retry_after: Option<Box<str>>,
}

impl Answer {
    pub(super) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: ContentType::Json, body: body.into(), subject_token: None, retry_after: None }
    }

    pub(super) fn text(status: u16, text: impl Into<Bytes>) -> Self {
        Self { content_type: ContentType::Text, ..Self::json(status, text) }
    }

    pub(super) fn value(status: u16, body: &Value) -> Self {
        Self::json(status, body.to_string())
    }

    /// A 200 with this as JSON.
    pub(super) fn success(body: &impl Serialize) -> Self {
        // None of these types can fail to serialize.
        Self::json(200, serde_json::to_vec(body).unwrap_or_default())
    }

    /// An error in the shape of the KMS.
    pub(super) fn kms(status: u16, code: &str, text: &str) -> Self {
        Self::value(status, &json!({"error": {"error_code": code, "error_msg": text}}))
    }

    /// An error in the shape of the API gateway in front of KMS and IAM.
    pub(super) fn gateway(status: u16, code: &str, text: &str, request_id: &str) -> Self {
        Self::value(status, &json!({"error_msg": text, "error_code": code, "request_id": request_id}))
    }

    /// An error in the shape of IAM's v3 API.
    pub(super) fn iam(status: u16, title: &str, text: &str) -> Self {
        Self::value(status, &json!({"error": {"code": status, "message": text, "title": title}}))
    }

    /// An error in the shape of IAM with an error code.
    pub(super) fn iam_code(status: u16, code: &str, text: &str) -> Self {
        Self::value(status, &json!({"error_code": code, "error_msg": text}))
    }

    /// The HTML page of a proxy without an answer from its backend.
    pub(super) fn html(status: u16) -> Self {
        let title = format!("{status} {}", reason(status));
        let page = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
             <hr><center>proxy</center>\r\n</body>\r\n</html>\r\n"
        );
        Self { content_type: ContentType::Html, ..Self::json(status, page) }
    }

    /// No such API (`docs/kms-api.md` 3.2).
    pub(super) fn no_such_api(request_id: &str) -> Self {
        Self::gateway(
            404,
            "APIGW.0101",
            "The API does not exist or has not been published in the environment",
            request_id,
        )
    }
}

fn reason(status: u16) -> &'static str {
    hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error")
}

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Completely.
    Whole,
    /// Not sent: the connection is reset.
    Reset,
    /// Never: the client has to time out.
    Hang,
    /// Half of the body, with the length of all of it; then the connection ends.
    CutOff {
        /// By a reset instead of an orderly close.
        reset: bool,
    },
    /// The body byte by byte, with this pause before each.
    Drip(Duration),
}

/// An answer and how to send it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) delay: Duration,
    pub(super) hold: Option<Hold>,
    pub(super) delivery: Delivery,
    pub(super) request_id: RequestId,
    /// The service that answers; `None` for the gateway, if the API does not exist.
    pub(super) service: Option<Service>,
    /// `Date`
    pub(super) date: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: &Answer) -> &str {
        std::str::from_utf8(&answer.body).unwrap()
    }

    #[test]
    fn error_bodies_have_the_four_documented_shapes() {
        assert_eq!(
            text(&Answer::kms(400, "KMS.2901", "on")),
            r#"{"error":{"error_code":"KMS.2901","error_msg":"on"}}"#
        );
        let gateway: Value = serde_json::from_slice(&Answer::gateway(401, "APIGW.0301", "no", "abc").body).unwrap();
        assert_eq!(gateway, json!({"error_code": "APIGW.0301", "error_msg": "no", "request_id": "abc"}));
        let iam: Value = serde_json::from_slice(&Answer::iam(401, "Unauthorized", "no").body).unwrap();
        assert_eq!(iam, json!({"error": {"code": 401, "message": "no", "title": "Unauthorized"}}));
        assert_eq!(
            text(&Answer::iam_code(401, "IAM.0061", "locked")),
            r#"{"error_code":"IAM.0061","error_msg":"locked"}"#
        );
    }

    #[test]
    fn a_proxy_answers_with_a_page_for_every_status() {
        let page = Answer::html(502);
        assert_eq!(page.content_type, ContentType::Html);
        assert!(text(&page).contains("<h1>502 Bad Gateway</h1>"));
        assert!(text(&Answer::html(599)).contains("599 Error"));
    }
}
