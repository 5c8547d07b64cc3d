//! A request as the server has read it.

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{HeaderMap, Method};

/// A received request.
pub(super) struct Request<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    /// `None` if it is longer than the gateway accepts.
    pub(super) body: Option<&'a [u8]>,
}

impl Request<'_> {
    /// Whether it has a signature, valid or not; a token in the same request is ignored.
    pub(super) fn is_signed(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }

    /// Whether the content type is JSON, with any charset.
    pub(super) fn is_json(&self) -> bool {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    }
}
