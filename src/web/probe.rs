//! Asks a daemon's `/healthz` or `/readyz`, as the `healthcheck` command does where there is no curl.
//!
//! Nothing is sent but the path, and nothing believed but a status: the certificate of a daemon on this machine's own
//! loopback is therefore not verified, as kubelet's probes do not verify it either. It would have to name 127.0.0.1,
//! which no public authority signs. One that is elsewhere needs an authority to be named.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls::{self, TlsError};
use crate::support::printable::printable;

/// Below the time that those give who start such a check: Kubernetes a second unless told otherwise, Docker 30.
const TIMEOUT: Duration = Duration::from_secs(4);
/// What is read of an answer: a line.
const LONGEST: usize = 1024;

/// How the daemon is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Plain HTTP.
    Plain,
    /// HTTP in TLS.
    Tls,
    /// Plain, and where that is not understood in TLS: whoever asks need not know the daemon's web configuration.
    Either,
}

/// A question to a daemon.
#[derive(Debug)]
pub struct Probe {
    /// How it is spoken to.
    pub way: Way,
    /// Its name or its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What is asked for.
    pub path: &'static str,
    /// Authorities whose word is taken for its certificate.
    pub ca_file: Option<PathBuf>,
    /// A certificate and its key, where the daemon asks for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody is there.
    #[error("connect to {0}")]
    Connect(String, #[source] io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS cannot be set up.
    #[error("set up TLS")]
    SetUp(#[source] rustls::Error),
    /// A daemon that is not on this machine's loopback.
    #[error("{0} is not the loopback, so that its certificate must be verified: name its authority with --ca-file")]
    Unverified(IpAddr),
    /// No certificate can name it.
    #[error("{0} is no name of a host")]
    NoName(String, #[source] InvalidDnsNameError),
    /// TLS failed.
    #[error("speak TLS with {0}")]
    Handshake(String, #[source] io::Error),
    /// There was no answer.
    #[error("ask {0}")]
    Ask(String, #[source] hyper::Error),
    /// The answer is that it is not.
    #[error("HTTP {status}: {text}")]
    Unwell {
        /// Its status.
        status: StatusCode,
        /// What the answer says.
        text: String,
    },
    /// It took too long.
    #[error("no answer from {place} within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// Who was asked.
        place: String,
    },
}

impl Probe {
    /// Reads an address such as `https://127.0.0.1:9847`.
    ///
    /// # Errors
    ///
    /// It is something else; the message says what is expected.
    pub fn address(url: &str) -> Result<(Way, String, u16), String> {
        const EXPECTED: &str = "expected http:// or https://, a host, and a port where it is not 9847";
        let uri: Uri = url.parse().map_err(|error| format!("{error}; {EXPECTED}"))?;
        let way = match uri.scheme_str() {
            Some("http") => Way::Plain,
            Some("https") => Way::Tls,
            _ => return Err(EXPECTED.to_owned()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(EXPECTED)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("{EXPECTED}; no path"));
        }
        let port = authority.port_u16().unwrap_or(9847);
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok((way, host.to_owned(), port))
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// The daemon is not well, or cannot be asked.
    pub async fn ask(&self) -> Result<(), ProbeError> {
        match self.way {
            Way::Plain => self.within(self.plain()).await,
            Way::Tls => self.within(self.tls()).await,
            Way::Either => match self.within(self.plain()).await {
                // What it makes of plain HTTP is to end the connection.
                Err(ProbeError::Ask(..)) => self.within(self.tls()).await,
                answer => answer,
            },
        }
    }

    async fn within(&self, answer: impl Future<Output = Result<(), ProbeError>>) -> Result<(), ProbeError> {
        tokio::time::timeout(TIMEOUT, answer).await.unwrap_or_else(|_| Err(ProbeError::Timeout { place: self.place() }))
    }

    /// The host and the port as an address has them.
    fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    async fn connect(&self) -> Result<TcpStream, ProbeError> {
        TcpStream::connect((&*self.host, self.port)).await.map_err(|error| ProbeError::Connect(self.place(), error))
    }

    async fn plain(&self) -> Result<(), ProbeError> {
        self.exchange(self.connect().await?).await
    }

    async fn tls(&self) -> Result<(), ProbeError> {
        let stream = self.connect().await?;
        let peer = stream.peer_addr().map_err(|error| ProbeError::Connect(self.place(), error))?.ip();
        let name = ServerName::try_from(self.host.clone()).map_err(|why| ProbeError::NoName(self.host.clone(), why))?;
        let connector = TlsConnector::from(Arc::new(self.client(peer)?));
        let stream = connector.connect(name, stream).await;
        self.exchange(stream.map_err(|error| ProbeError::Handshake(self.place(), error))?).await
    }

    fn client(&self, peer: IpAddr) -> Result<ClientConfig, ProbeError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(ProbeError::SetUp)?;
        let config = match &self.ca_file {
            Some(file) => config.with_root_certificates(tls::authorities(file)?),
            None if peer.to_canonical().is_loopback() => {
                config.dangerous().with_custom_certificate_verifier(Arc::new(Loopback(provider)))
            }
            None => return Err(ProbeError::Unverified(peer)),
        };
        match &self.certificate {
            None => Ok(config.with_no_client_auth()),
            Some((cert_file, key_file)) => {
                let (chain, key) = tls::pair(cert_file, key_file)?;
                config.with_client_auth_cert(chain, key).map_err(ProbeError::SetUp)
            }
        }
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), ProbeError> {
        let failed = |error| ProbeError::Ask(self.place(), error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = Uri::from_static(self.path);
        // What can be connected to can stand in a header.
        if let Ok(host) = self.place().parse() {
            request.headers_mut().insert(HOST, host);
        }
        let answer = async {
            let answer = sender.send_request(request).await.map_err(failed)?;
            let status = answer.status();
            // Whether there is a text to it makes no difference to the status.
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
            Ok::<_, ProbeError>((status, text))
        };
        let answer = std::pin::pin!(answer);
        let (status, text) = match futures_util::future::select(answer, std::pin::pin!(connection)).await {
            futures_util::future::Either::Left((answer, _)) => answer?,
            // The connection has ended, so that the answer is there or never will be.
            futures_util::future::Either::Right((_, answer)) => answer.await?,
        };
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(ProbeError::Unwell { status, text: printable(text.trim()) })
    }
}

/// Takes any certificate, but from who has its key.
#[derive(Debug)]
struct Loopback(Arc<CryptoProvider>);

impl ServerCertVerifier for Loopback {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        let read = |url: &str| Probe::address(url);
        assert_eq!(read("http://127.0.0.1:80"), Ok((Way::Plain, "127.0.0.1".to_owned(), 80)));
        assert_eq!(read("https://[::1]:9000/"), Ok((Way::Tls, "::1".to_owned(), 9000)));
        assert_eq!(read("https://daemon.test"), Ok((Way::Tls, "daemon.test".to_owned(), 9847)));
        for url in ["", "127.0.0.1:80", "ftp://x", "http://", "http://a:b@c/", "http://x/healthz", "http://x/?a"] {
            assert!(read(url).unwrap_err().contains("expected http:// or https://"), "{url}");
        }
    }
}
