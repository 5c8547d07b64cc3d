//! The server's TLS, from the settings and files of the web configuration.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use zeroize::Zeroizing;

use crate::support::small_file;
use crate::web::config::{ClientAuth, Tls, TlsVersion};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file has another content than expected.
    #[error("{} contains no {what} in PEM format", .path.display())]
    NotPem { path: PathBuf, what: &'static str },
    /// The certificates of authorities cannot be used.
    #[error("{} contains no usable CA certificate", .0.display())]
    Authorities(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// Certificate and key do not belong together.
    #[error("certificate {} and key {} cannot be used together", .0.display(), .1.display())]
    Pair(PathBuf, PathBuf, #[source] rustls::Error),
    /// The versions cannot be used.
    #[error("set up TLS")]
    Versions(#[source] rustls::Error),
}

/// The server's side of TLS.
pub(super) fn server(tls: &Tls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let offered = |version: &&'static SupportedProtocolVersion| {
        let version = if **version == rustls::version::TLS12 { TlsVersion::Tls12 } else { TlsVersion::Tls13 };
        (tls.min_version..=tls.max_version).contains(&version)
    };
    let versions: Vec<_> = [&rustls::version::TLS13, &rustls::version::TLS12].into_iter().filter(offered).collect();
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(TlsError::Versions)?;
    let config = config.with_client_cert_verifier(clients(&tls.clients, provider)?);
    let (chain, key) = pair(&tls.cert_file, &tls.key_file)?;
    let mut config = config
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::Pair(tls.cert_file.clone(), tls.key_file.clone(), error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The verifier of client certificates.
fn clients(clients: &ClientAuth, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (file, required) = match clients {
        ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::IfGiven(file) => (file, false),
        ClientAuth::Required(file) => (file, true),
    };
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(file)?), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| TlsError::Authorities(file.clone(), error.into()))
}

/// A certificate with its intermediates, and its key.
pub(super) fn pair(
    cert_file: &Path,
    key_file: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = read(key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| TlsError::NotPem { path: key_file.to_owned(), what: "private key without a password" })?;
    Ok((certificates(cert_file)?, key))
}

/// The trusted authorities of a file.
fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| TlsError::Authorities(file.to_owned(), error.into()))?;
    }
    Ok(roots)
}

/// The certificates in a file, at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NotPem { path: file.to_owned(), what: "certificate" }),
    }
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    small_file::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}
