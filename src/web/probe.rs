//! Requests a daemon's `/healthz` or `/readyz`, for the `healthcheck` command where there is no curl.
//!
//! The request holds no secret, and of the response only the status counts. On this machine's loopback the certificate
//! is therefore not verified, as kubelet's probes do not verify it either: it would have to name 127.0.0.1, which no
//! public authority signs. Elsewhere the authority has to be named.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use reqwest::{Certificate, Client, ClientBuilder, Identity, StatusCode};
use zeroize::Zeroizing;

use super::tls::{self, TlsError};
use crate::support::error_chain::{causes, has_ended_early, innermost};
use crate::support::printable::printable;

/// Below the time limit of callers: Kubernetes has one second unless it is set, Docker 30.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How much of a response is read: it is one line.
const LONGEST: usize = 1024;

/// The protocol of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    /// HTTP first, and HTTPS if the daemon does not answer: for callers without its web configuration.
    HttpOrHttps,
}

/// A request to a daemon.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) scheme: Scheme,
    /// Its name or its address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: &'static str,
    /// Certificates of the authorities that verify the daemon's.
    pub(crate) ca_file: Option<PathBuf>,
    /// A client certificate and its key, if the daemon requires one.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot set up the request to {0}: {1}")]
    SetUp(String, String),
    /// The daemon is not on this machine's loopback.
    #[error("{0} is not a loopback address; set --ca-file to verify its certificate")]
    Unverified(IpAddr),
    #[error("TLS with {0} failed: {1}")]
    Handshake(String, String),
    /// The connection ended without a response.
    #[error("no response from {0}: {1}")]
    NoResponse(String, String),
    /// The response has another status than 200.
    #[error("HTTP {0}: {1}")]
    BadStatus(StatusCode, String),
    #[error("no response from {0} within {seconds} s", seconds = TIMEOUT.as_secs())]
    Timeout(String),
}

impl Probe {
    /// Reads an address such as `https://127.0.0.1:9847`.
    ///
    /// # Errors
    ///
    /// It has another form; the message contains what is expected.
    pub(crate) fn address(url: &str) -> Result<(Scheme, String, u16), String> {
        const EXPECTED: &str = "expected http:// or https://, a host, and a port unless it is 9847";
        let uri: Uri = url.parse().map_err(|error| format!("{error}; {EXPECTED}"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(EXPECTED.to_owned()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(EXPECTED)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("{EXPECTED}; no path"));
        }
        let port = authority.port_u16().unwrap_or(9847);
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok((scheme, host.to_owned(), port))
    }

    /// Makes the request.
    ///
    /// # Errors
    ///
    /// The daemon does not answer, or its answer is not 200.
    pub(crate) async fn send(&self) -> Result<(), ProbeError> {
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match self.scheme {
            Scheme::Http => self.within_timeout(self.http()).await,
            Scheme::Https => self.within_timeout(self.https()).await,
            Scheme::HttpOrHttps => match self.within_timeout(self.http()).await {
                // A server that expects TLS ends the connection.
                Err(ProbeError::NoResponse(..)) => self.within_timeout(self.https()).await,
                response => response,
            },
        }
    }

    async fn within_timeout(&self, sent: impl Future<Output = Result<(), ProbeError>>) -> Result<(), ProbeError> {
        tokio::time::timeout(TIMEOUT, sent).await.unwrap_or_else(|_| Err(ProbeError::Timeout(self.authority())))
    }

    /// The host and the port as a URL has them.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    async fn http(&self) -> Result<(), ProbeError> {
        // Without certificates the system's are not loaded.
        self.get("http", &self.authority(), builder().tls_certs_only([])).await
    }

    async fn https(&self) -> Result<(), ProbeError> {
        let (authority, mut client) = if let Some(file) = &self.ca_file {
            let authorities = tls::certificates(file)?.into_iter().map(|der| Certificate::from_der(&der));
            let authorities: Result<Vec<_>, _> = authorities.collect();
            (self.authority(), builder().tls_certs_only(authorities.map_err(|error| self.error(&error))?))
        } else {
            // Not by its own name, which the client would look up again and perhaps find elsewhere.
            let client = builder().tls_certs_only([]).tls_danger_accept_invalid_certs(true);
            let client = client.resolve_to_addrs("localhost", &self.loopback_addresses().await?);
            (format!("localhost:{}", self.port), client)
        };
        if let Some((cert_file, key_file)) = &self.certificate {
            // For its errors, which name the file; the client takes nothing but PEM.
            tls::pair(cert_file, key_file)?;
            let mut pem = Zeroizing::new(Vec::new());
            for file in [cert_file, key_file] {
                pem.extend_from_slice(&tls::read(file)?);
                pem.push(b'\n');
            }
            client = client.identity(Identity::from_pem(&pem).map_err(|error| self.error(&error))?);
        }
        self.get("https", &authority, client).await
    }

    /// The addresses of the host that are on this machine's loopback.
    async fn loopback_addresses(&self) -> Result<Vec<SocketAddr>, ProbeError> {
        let failed = |error: &io::Error| ProbeError::Connect(self.authority(), error.to_string());
        let found = tokio::net::lookup_host((&*self.host, self.port)).await.map_err(|error| failed(&error))?;
        let (loopback, elsewhere): (Vec<_>, Vec<_>) =
            found.partition(|address| address.ip().to_canonical().is_loopback());
        match elsewhere.first() {
            Some(address) if loopback.is_empty() => Err(ProbeError::Unverified(address.ip())),
            _ => Ok(loopback),
        }
    }

    async fn get(&self, scheme: &str, authority: &str, client: ClientBuilder) -> Result<(), ProbeError> {
        let failed = |error| self.error(&error);
        let request = client.build().map_err(failed)?.get(format!("{scheme}://{authority}{}", self.path));
        let mut response = request.send().await.map_err(failed)?;
        if response.status() == StatusCode::OK {
            return Ok(());
        }
        let mut body = Vec::new();
        // The status counts, whether a text comes with it or not.
        while body.len() < LONGEST
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk[..chunk.len().min(LONGEST - body.len())]);
        }
        Err(ProbeError::BadStatus(response.status(), printable(String::from_utf8_lossy(&body).trim())))
    }

    fn error(&self, error: &reqwest::Error) -> ProbeError {
        let (authority, cause) = (self.authority(), innermost(error));
        if error.is_builder() {
            ProbeError::SetUp(authority, cause)
        } else if has_ended_early(error) && error.is_connect() || causes(error).any(<dyn Error>::is::<rustls::Error>) {
            ProbeError::Handshake(authority, cause)
        } else if error.is_connect() {
            ProbeError::Connect(authority, cause)
        } else {
            ProbeError::NoResponse(authority, cause)
        }
    }
}

/// Goes to the daemon itself, whatever proxy the environment names, and follows no redirect.
fn builder() -> ClientBuilder {
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never()).http1_only()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        let read = |url: &str| Probe::address(url);
        assert_eq!(read("http://127.0.0.1:80"), Ok((Scheme::Http, "127.0.0.1".to_owned(), 80)));
        assert_eq!(read("https://[::1]:9000/"), Ok((Scheme::Https, "::1".to_owned(), 9000)));
        assert_eq!(read("https://daemon.test"), Ok((Scheme::Https, "daemon.test".to_owned(), 9847)));
        for url in ["", "127.0.0.1:80", "ftp://x", "http://", "http://a:b@c/", "http://x/healthz", "http://x/?a"] {
            assert!(read(url).unwrap_err().contains("expected http:// or https://"), "{url}");
        }
    }
}
