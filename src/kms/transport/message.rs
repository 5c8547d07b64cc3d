//! What is sent and what comes back: requests and answers, and how secrets in them are kept and hidden.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::address::{Url, authority};
use crate::kms::observe::Code;
use crate::support::printable::excerpt;

/// A request, complete but for the transport's own headers.
pub(in crate::kms) struct Request {
    pub(in crate::kms) method: Method,
    pub(in crate::kms) url: Url,
    pub(in crate::kms) headers: Vec<(&'static str, HeaderText)>,
    /// Wiped on drop: the body of a login contains a password.
    pub(in crate::kms) body: SecretString,
    /// The secret in the body, which must not appear in errors.
    pub(in crate::kms) secret_in_body: Option<SecretString>,
    /// Without a proxy: to the metadata service of this machine.
    pub(in crate::kms) direct: bool,
}

/// The HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kms) enum Method {
    Get,
    Post,
    Put,
}

impl Method {
    pub(in crate::kms) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// A secret as the bytes of a request, without another copy, and wiped after the last use.
pub(super) struct SecretBytes(pub(super) SecretString);

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

/// Length of the prefix by which a secret is recognised in an error text.
const RECOGNISED_PREFIX: usize = 8;

/// The longest request id that is kept, in characters. The cloud's have 32.
const LONGEST_ID: usize = 64;

/// The text before the signature in `Authorization`.
const SIGNATURE: &str = "Signature=";

/// The value of a header. Made once and shared: a token is several KiB long and goes with every request.
#[derive(Clone)]
pub(in crate::kms) struct HeaderText(pub(super) HeaderValue);

/// The answer to an attempt.
pub(in crate::kms) struct Answer {
    pub(in crate::kms) status: u16,
    /// Wiped on drop, since some contain keys. The HTTP client's own buffers cannot be wiped.
    pub(in crate::kms) body: Zeroizing<Vec<u8>>,
    /// The body broke off, was too long or too slow.
    pub(in crate::kms) broken: Option<Code>,
    pub(super) headers: HeaderMap,
    /// As [`Request::id_in`] has it.
    pub(super) request_id: Option<Box<str>>,
}

/// The part of a secret by which it is recognised.
fn beginning(secret: &str) -> &str {
    secret.char_indices().nth(RECOGNISED_PREFIX).map_or(secret, |(end, _)| &secret[..end])
}

impl Request {
    /// The text of an answer, unless it repeats a secret: a server may quote the request in an error.
    pub(in crate::kms) fn without_secrets(&self, text: String) -> String {
        let headers = self.headers.iter().filter(|(_, HeaderText(value))| value.is_sensitive());
        let in_headers = headers.filter_map(|(name, HeaderText(value))| {
            if *name != "authorization" {
                // Only the beginning is looked at: a token has thousands of characters, and every answer is searched.
                let bytes = value.as_bytes();
                return str::from_utf8(bytes.get(..RECOGNISED_PREFIX).unwrap_or(bytes)).ok();
            }
            let value = value.to_str().ok()?;
            // In a signed header only the signature is secret.
            value.get(value.rfind(SIGNATURE).map_or(0, |at| at + SIGNATURE.len())..)
        });
        let in_body = self.secret_in_body.iter().map(ExposeSecret::expose_secret);
        if in_headers.chain(in_body).any(|secret| text.contains(beginning(secret))) {
            return "(text not shown: it repeats a secret)".to_owned();
        }
        text
    }

    /// The cloud's id of this request for logs and reports, unless it repeats a secret.
    pub(super) fn id_in(&self, headers: &HeaderMap) -> Option<Box<str>> {
        let id = headers.get("x-request-id").or_else(|| headers.get("x-iam-trace-id"))?.to_str().ok()?;
        Some(excerpt(&self.without_secrets(id.to_owned()), LONGEST_ID).into())
    }

    /// The server and its port.
    pub(in crate::kms) fn authority(&self) -> String {
        authority(&self.url)
    }
}

impl HeaderText {
    /// A text that is not secret.
    pub(in crate::kms) fn plain(text: &'static str) -> Self {
        Self(HeaderValue::from_static(text))
    }

    /// A text that is not secret; `None` if it has characters that no header can carry.
    pub(in crate::kms) fn text(text: &str) -> Option<Self> {
        HeaderValue::from_str(text).ok().map(Self)
    }

    /// A secret; `None` if it has characters that no header can carry. Wiped after its last use.
    pub(in crate::kms) fn secret(secret: SecretString) -> Option<Self> {
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(SecretBytes(secret))).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// The text itself.
    pub(in crate::kms) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl Answer {
    /// Appends to a body that is being read. No copy is left behind when it grows.
    pub(super) fn extend(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
        let length = body.len() + chunk.len();
        if body.capacity() < length {
            let mut roomier = Zeroizing::new(Vec::with_capacity(length.max(2 * body.capacity())));
            roomier.extend_from_slice(body);
            *body = roomier;
        }
        body.extend_from_slice(chunk);
    }

    /// A header's text.
    pub(in crate::kms) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the answer asks to wait, in seconds or as a date against `now`.
    pub(in crate::kms) fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
        }
    }

    /// The `Date` of the answer.
    pub(in crate::kms) fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.header("date")?).ok()
    }

    /// The cloud's id of the request.
    pub(in crate::kms) fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}
