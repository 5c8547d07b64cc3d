//! Building the HTTP client from settings and files: the proxy, its password, and trusted certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::address::Url;
use super::error::{ClientBuildError, HttpError, SetUpError};
use super::proxy::Proxy;
use crate::kms::error::Source;
use crate::kms::secret::is_on_hold;
use crate::support::small_file;

/// Below the 60 s after which common gateways close an idle connection, so that we rarely write into a closed one.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);
/// The metadata service answers within milliseconds or does not exist; the vendor's own clients wait as long. The same
/// for a proxy that has just refused.
pub(super) const NEIGHBOUR_TIMEOUT: Duration = Duration::from_secs(3);

/// How connections are made.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kms) struct TransportSettings {
    /// Whether any endpoint needs TLS, so that the system's root certificates are loaded.
    pub(in crate::kms) tls: bool,
    /// Certificates to trust beside the system's.
    pub(in crate::kms) ca_file: Option<PathBuf>,
    pub(in crate::kms) proxy: Option<Proxy>,
    pub(in crate::kms) request_timeout: Duration,
    /// Whether a metadata service is used, and by TLS.
    pub(in crate::kms) metadata: Option<bool>,
}

/// The HTTP client, which keeps the connections, and the files that it was built from.
pub(super) struct ClientBuild {
    files: Result<Files, Arc<ClientBuildError>>,
    /// The number of idle connections that are kept to each server.
    idle: usize,
    client: Result<reqwest::Client, Arc<ClientBuildError>>,
    /// When the proxy refused the password.
    proxy_refused: Option<SystemTime>,
}

/// The content of the files, which are read again before each run.
#[derive(Default)]
pub(super) struct Files {
    /// Certificates to trust beside the system's, in PEM form.
    pem: Zeroizing<Vec<u8>>,
    /// The value of `Proxy-Authorization`.
    authorization: Option<SecretString>,
}

impl ClientBuild {
    /// Reads the files again, and builds a new client where they have changed. While a refused proxy password is on
    /// hold and has not changed, every request fails without an attempt.
    pub(super) fn refreshed(known: Option<Self>, settings: &TransportSettings, idle: usize, now: SystemTime) -> Self {
        let files = Files::read(settings).map_err(Arc::new);
        let is_same = |known: &Self| matches!((&files, &known.files), (Ok(new), Ok(known)) if new.is_same(known));
        match (known, &settings.proxy) {
            (Some(known), Some(proxy)) if is_same(&known) && known.is_on_hold(now) => {
                let (authority, login) = (proxy.authority(), proxy.origin.login_location());
                Self { client: Err(Arc::new(ClientBuildError::RefusedByProxy { authority, login })), ..known }
            }
            (Some(known), _) if is_same(&known) && known.idle == idle && known.client.is_ok() => known,
            _ => {
                let client = match &files {
                    Ok(files) => connect(settings, files, idle).map_err(Arc::new),
                    Err(error) => Err(Arc::clone(error)),
                };
                Self { files, idle, client, proxy_refused: None }
            }
        }
    }

    fn is_on_hold(&self, now: SystemTime) -> bool {
        self.proxy_refused.is_some_and(|refused| is_on_hold(refused, now))
    }

    /// The client; or why no request can be sent.
    pub(super) fn client(&self) -> Result<reqwest::Client, Arc<ClientBuildError>> {
        self.client.clone()
    }

    /// The proxy has refused its password.
    pub(super) fn proxy_refuses(&mut self, now: SystemTime) {
        self.proxy_refused = Some(now);
    }

    /// The password that the proxy has refused may be sent again at once.
    pub(super) fn forget_refusal(&mut self) {
        self.proxy_refused = None;
    }

    /// A client that sends requests for plain HTTP servers to the proxy, for [`status_of_proxy`](super::Transport).
    pub(super) fn client_of_proxy(&self, settings: &TransportSettings, proxy: &Proxy) -> Option<reqwest::Client> {
        let files = self.files.as_ref().ok()?;
        let address = proxy.address().ok()?;
        let builder = builder(settings.request_timeout.min(NEIGHBOUR_TIMEOUT), 0);
        let builder = match &settings.ca_file {
            _ if address.scheme() == "http" => builder.tls_certs_only([]),
            Some(path) => builder.tls_certs_merge(certificates(path, &files.pem).ok()?),
            None => builder,
        };
        let rule = reqwest::Proxy::http(address).ok()?;
        builder.proxy(Proxy::authorized(rule, files.authorization.as_ref()).ok()?).build().ok()
    }

    #[cfg(test)]
    pub(super) fn with_client(client: reqwest::Client, idle: usize) -> Self {
        Self { files: Ok(Files::default()), idle, client: Ok(client), proxy_refused: None }
    }
}

impl Files {
    fn read(settings: &TransportSettings) -> Result<Self, ClientBuildError> {
        let mut files = Self::default();
        if let Some(proxy) = &settings.proxy {
            files.authorization = proxy.authorization()?;
        }
        if let Some(path) = &settings.ca_file {
            files.pem = small_file::read(path).map_err(|error| ClientBuildError::CaFile(path.clone(), error))?;
        }
        Ok(files)
    }

    /// Whether the content is the same. It is compared in variable time: both are this process's own.
    fn is_same(&self, other: &Self) -> bool {
        fn authorization(files: &Files) -> Option<&str> {
            files.authorization.as_ref().map(ExposeSecret::expose_secret)
        }
        self.pem == other.pem && authorization(self) == authorization(other)
    }
}

fn connect(settings: &TransportSettings, files: &Files, idle: usize) -> Result<reqwest::Client, ClientBuildError> {
    let mut builder = builder(settings.request_timeout, idle);
    if let Some(proxy) = &settings.proxy {
        let (address, rules) = (proxy.address()?, proxy.clone());
        // The library reads `NO_PROXY` in another way.
        let rule = reqwest::Proxy::custom(move |url: &Url| rules.is_for(url).then(|| address.clone()));
        builder = builder.proxy(Proxy::authorized(rule, files.authorization.as_ref())?);
    }
    if let Some(path) = &settings.ca_file {
        builder = builder.tls_certs_merge(certificates(path, &files.pem)?);
    }
    if !settings.tls {
        builder = builder.tls_certs_only([]);
    }
    Ok(builder.build().map_err(|error| SetUpError::Client(HttpError(error)))?)
}

/// The certificates of a `ca_file`, each of which can be used.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<reqwest::Certificate>, ClientBuildError> {
    let mut roots = rustls::RootCertStore::empty();
    let mut found = Vec::new();
    for (certificate, number) in CertificateDer::pem_slice_iter(pem).zip(1..) {
        let certificate = certificate.map_err(|error| ClientBuildError::Pem(path.to_owned(), error))?;
        let broken = |source: Source| ClientBuildError::Certificate { number, file: path.to_owned(), source };
        roots.add(certificate.clone()).map_err(|error| broken(error.into()))?;
        let certificate = reqwest::Certificate::from_der(&certificate);
        found.push(certificate.map_err(|error| broken(HttpError(error).into()))?);
    }
    if found.is_empty() {
        return Err(ClientBuildError::NoCertificate(path.to_owned()));
    }
    Ok(found)
}

/// `idle` connections are kept open to each server, for the next request.
pub(super) fn builder(request_timeout: Duration, idle: usize) -> reqwest::ClientBuilder {
    // Less than a request may take, so that a timeout shows whether the request was sent.
    let connect_timeout = request_timeout / 8 * 7;
    reqwest::Client::builder()
        .user_agent(concat!("kms-rotationd/", env!("CARGO_PKG_VERSION")))
        .timeout(request_timeout)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(idle)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The library would send plain HTTP on loopback, token and all, to the server in HTTP_PROXY.
        .no_proxy()
        .http1_only()
}
