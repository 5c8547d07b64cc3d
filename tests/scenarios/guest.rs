//! HTTP clients of the daemon: with and without TLS, a certificate, credentials.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::DEADLINE;

/// A private authority that signs for servers and clients.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Papers {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn sign(&self) -> Papers {
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "daemon.test".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        Papers { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Papers {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(Result::unwrap).collect()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A client that trusts an authority.
pub(crate) struct Guest {
    config: Arc<ClientConfig>,
}

pub(crate) type Connection = StreamOwned<ClientConnection, TcpStream>;

impl Guest {
    pub(crate) fn new(authority: &Authority) -> Self {
        Self::with(authority, None, rustls::ALL_VERSIONS)
    }

    pub(crate) fn with(
        authority: &Authority,
        papers: Option<&Papers>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let config = config.with_root_certificates(roots);
        let config = match papers {
            None => config.with_no_client_auth(),
            Some(papers) => {
                let key = PrivateKeyDer::from_pem_slice(papers.key.as_bytes()).unwrap();
                config.with_client_auth_cert(papers.chain(), key).unwrap()
            }
        };
        Self { config: Arc::new(config) }
    }

    /// A connection after the handshake.
    pub(crate) fn connect(&self, address: &str) -> io::Result<Connection> {
        let name = ServerName::try_from("daemon.test").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let mut stream = connect(address);
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(tls, stream))
    }

    /// The answer to a request on a new connection.
    pub(crate) fn get(&self, address: &str, path: &str, authorization: &str) -> io::Result<Answer> {
        exchange(self.connect(address)?, path, authorization)
    }
}

/// The server's certificate.
pub(crate) fn shown(connection: &Connection) -> CertificateDer<'static> {
    connection.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

pub(crate) fn is_of(certificate: &CertificateDer<'_>, papers: &Papers) -> bool {
    papers.chain()[0] == *certificate
}

/// A connection without TLS.
pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The answer to a request, and the end of the connection.
pub(crate) fn exchange(mut stream: impl Read + Write, path: &str, authorization: &str) -> io::Result<Answer> {
    let authorization =
        if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
    // 1.0, so that the answer has no chunks.
    write!(stream, "GET {path} HTTP/1.0\r\n{authorization}\r\n")?;
    stream.flush()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// The header of a user's login.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// The hash of a password at this cost.
pub(crate) fn hash(password: &str, cost: u32) -> String {
    bcrypt::hash(password, cost).unwrap()
}
