//! One HTTP attempt: the only place that knows the HTTP client.
//!
//! An attempt follows no redirect (the token would go along), repeats nothing by itself, ends within the request
//! timeout with its body, and reads no more than 8 MiB. What the answer means is for others to say.

mod message;
mod proxy;

use std::error::Error as StdError;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret;

use super::observe::Code;
use message::SecretBytes;

pub(super) use message::{Answer, HeaderText, Method, Request};
pub use proxy::Proxy;

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
