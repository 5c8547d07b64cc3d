//! One HTTP attempt: the only place that knows the HTTP client.
//!
//! An attempt follows no redirect (the token would go along), repeats nothing by itself, ends within the request
//! timeout with its body, and reads no more than 8 MiB. What the answer means is for others to say.

use std::error::Error as StdError;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::auth::SecretSource;
use super::observe::Code;

/// An answer longer than this is none of KMS or IAM: a page of 2 000 keys has 2 MB, a token with its roles some 10 KB.
const LONGEST_BODY: usize = 8 * 1024 * 1024;
/// Below the 60 s after which common gateways close an idle connection, so that we rarely write into a closed one.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);

/// The HTTP client of one project.
pub(super) struct Transport {
    client: reqwest::Client,
    /// For the metadata service: no proxy, and little patience, since it is next door.
    direct: Option<reqwest::Client>,
}

/// The metadata service answers within milliseconds or is not there; the vendor's own clients wait as long.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a request goes.
pub(super) type Url = reqwest::Url;

/// A request, complete but for the transport's own headers.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, HeaderText)>,
    /// Wiped when the request is done with: one of them holds a password.
    pub(super) body: SecretString,
    /// What of the body nobody may see.
    pub(super) secret_in_body: Option<SecretString>,
    /// Past any proxy: the metadata service of the machine itself.
    pub(super) direct: bool,
}

/// What is done with the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
}

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// A secret as the bytes of a request, without a copy of its own, and wiped after the last use.
struct SecretBytes(SecretString);

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

/// So much of a secret's beginning gives it away; nobody else's text has it in it by chance.
const TELLING: usize = 8;

/// What stands before the signature in `Authorization`.
const SIGNATURE: &str = "Signature=";

/// The value of a header. Made once and shared: a token is several KiB long and goes with every request.
#[derive(Clone)]
pub(super) struct HeaderText(HeaderValue);

/// The answer to an attempt.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The body broke off, was too long or too slow.
    pub(super) broken: Option<Code>,
    headers: HeaderMap,
}

/// No answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) code: Code,
    /// The request may have reached the server.
    pub(super) may_have_arrived: bool,
    /// The server's certificate was not accepted.
    pub(super) bad_certificate: bool,
    /// The innermost cause.
    pub(super) cause: String,
}

/// A proxy for HTTPS.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    /// Its address, which may hold a password where the environment gives it.
    pub url: String,
    /// Hosts that are reached without it, as `NO_PROXY` lists them.
    pub except: String,
    /// Whom it lets through, and where the password is, which is read when the policy comes into force.
    pub user: Option<(String, SecretSource)>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("except", &self.except).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why a transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The file of additional certificates cannot be read.
    #[error("cannot read ca_file {path}")]
    ReadCertificates {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file of additional certificates holds no certificate.
    #[error("ca_file {path} holds no certificate in PEM form")]
    NoCertificate {
        /// The file.
        path: String,
    },
    /// The proxy's address is none. It may hold a password, so it is not repeated.
    #[error("the proxy's address is none: expected one such as http://proxy.example.com:3128")]
    Proxy,
    /// The file with the proxy's password cannot be read.
    #[error("no password for the proxy: {0}")]
    ProxyPassword(String),
    /// An endpoint is no address.
    #[error("{0} is no address of an HTTP server")]
    Endpoint(String),
    /// The HTTP client cannot be built.
    #[error("cannot set up TLS: {0}; install the system's CA certificates or name a ca_file")]
    Client(String),
}

impl Transport {
    /// A transport that trusts the system's roots and those of `ca_file`. Without `tls`, for a project all of whose
    /// endpoints are plain HTTP on loopback, it loads no roots.
    pub(super) fn new(
        tls: bool,
        ca_file: Option<&Path>,
        proxy: Option<&Proxy>,
        request_timeout: Duration,
        connections: usize,
    ) -> Result<Self, SetUpError> {
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = builder(request_timeout, connections);
        if let Some(Proxy { url, except, user }) = proxy {
            let mut proxy = reqwest::Proxy::https(url).map_err(|_| SetUpError::Proxy)?;
            if let Some((name, password)) = user {
                let password = password.read().map_err(|error| SetUpError::ProxyPassword(error.text().to_owned()))?;
                proxy = proxy.basic_auth(name, password.expose_secret());
            }
            builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_string(except)));
        }
        if let Some(path) = ca_file {
            let shown = || path.display().to_string();
            let pem = std::fs::read(path).map_err(|source| SetUpError::ReadCertificates { path: shown(), source })?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(SetUpError::NoCertificate { path: shown() });
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if !tls {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| SetUpError::Client(innermost(&error)))?;
        Ok(Self { client, direct: None })
    }

    /// The same, and able to ask the metadata service.
    pub(super) fn with_metadata(self, request_timeout: Duration, tls: bool) -> Result<Self, SetUpError> {
        let direct = builder(request_timeout.min(METADATA_TIMEOUT), 1);
        let direct = if tls { direct } else { direct.tls_certs_only([]) }.build();
        Ok(Self { direct: Some(direct.map_err(|error| SetUpError::Client(innermost(&error)))?), ..self })
    }

    /// Sends the request once and reads the answer to its end.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut sent = reqwest::Request::new(method, request.url.clone());
        for (name, HeaderText(value)) in &request.headers {
            sent.headers_mut().insert(*name, value.clone());
        }
        if request.method == Method::Post {
            *sent.body_mut() = Some(Bytes::from_owner(SecretBytes(request.body.clone())).into());
        }
        let client = self.direct.as_ref().filter(|_| request.direct).unwrap_or(&self.client);
        let mut response = client.execute(sent).await.map_err(|error| no_answer(&error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        let broken = loop {
            match response.chunk().await {
                Ok(None) => break None,
                Ok(Some(chunk)) if body.len() + chunk.len() > LONGEST_BODY => break Some(Code::Body),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) if error.is_timeout() => break Some(Code::Timeout),
                Err(_) => break Some(Code::Body),
            }
        };
        Ok(Answer { status, body, broken, headers })
    }
}

impl Request {
    /// The text of an answer, unless it repeats a secret: a server may quote in an error what it could not read.
    pub(super) fn without_secrets(&self, text: String) -> String {
        let headers = self.headers.iter().filter(|(_, HeaderText(value))| value.is_sensitive());
        let in_headers = headers.filter_map(|(_, HeaderText(value))| value.to_str().ok());
        let in_body = self.secret_in_body.iter().map(ExposeSecret::expose_secret);
        // What is secret of a signed header is the signature alone.
        let own = |secret: &str| secret.rfind(SIGNATURE).map_or(0, |at| at + SIGNATURE.len());
        let beginning = |secret: &str| secret[own(secret)..].chars().take(TELLING).collect::<String>();
        if in_headers.chain(in_body).any(|secret| text.contains(&beginning(secret))) {
            return "(text not shown: it repeats a secret)".to_owned();
        }
        text
    }

    /// The server that it goes to, as messages name it.
    pub(super) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

impl HeaderText {
    /// A text that anybody may see.
    pub(super) fn plain(text: &'static str) -> Self {
        Self(HeaderValue::from_static(text))
    }

    /// A text that anybody may see; nothing where it has characters that no header can carry.
    pub(super) fn text(text: &str) -> Option<Self> {
        HeaderValue::from_str(text).ok().map(Self)
    }

    /// A secret; nothing where it has characters that no header can carry. Wiped after its last use.
    pub(super) fn secret(secret: SecretString) -> Option<Self> {
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(SecretBytes(secret))).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// The text itself.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the answer asks to wait, in seconds or as a date against `now`.
    pub(super) fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
        }
    }

    /// When the server says that it answered.
    pub(super) fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.header("date")?).ok()
    }

    /// The cloud's id of the request.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.header("x-request-id").or_else(|| self.header("x-iam-trace-id"))
    }
}

fn builder(request_timeout: Duration, connections: usize) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("kms-rotationd/", env!("CARGO_PKG_VERSION")))
        .timeout(request_timeout)
        .connect_timeout(request_timeout)
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(connections)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The library's own reading of the environment would send plain HTTP on loopback, token and all, to whatever
        // HTTP_PROXY names.
        .no_proxy()
        .http1_only()
}

/// The address of a call at an endpoint.
pub(super) fn address(endpoint: &str, call: &str) -> Result<Url, SetUpError> {
    Url::parse(&format!("{endpoint}/{call}")).map_err(|_| SetUpError::Endpoint(endpoint.to_owned()))
}

fn no_answer(error: &reqwest::Error) -> NoAnswer {
    let tls = find(error, &|cause| cause.is::<rustls::Error>()).and_then(|cause| cause.downcast_ref());
    let code = match tls {
        _ if error.is_timeout() => Code::Timeout,
        Some(_) => Code::Tls,
        None => Code::Connect,
    };
    NoAnswer {
        code,
        may_have_arrived: !error.is_connect(),
        bad_certificate: matches!(tls, Some(rustls::Error::InvalidCertificate(_))),
        cause: innermost(error),
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let is_last = |cause: &(dyn StdError + 'static)| next(cause).is_none();
    find(error, &is_last).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The first cause, from the outside in, that satisfies the condition.
fn find<'a>(
    error: &'a (dyn StdError + 'static),
    wanted: &dyn Fn(&(dyn StdError + 'static)) -> bool,
) -> Option<&'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| next(*error)).find(|error| wanted(*error))
}

/// The cause behind an error. `io::Error` hides its payload from `source()`, and a TLS error sits in two of them.
fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(payload) => Some(payload),
        None => error.source(),
    }
}
