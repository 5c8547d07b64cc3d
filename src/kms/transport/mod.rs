//! One HTTP attempt: the only place that knows the HTTP client.
//!
//! An attempt follows no redirect (the token would go along), repeats nothing by itself, ends within the request
//! timeout with its body, and reads no more than 8 MiB. What the answer means is for others to say.

mod failure;
mod message;
mod no_proxy;
mod proxy;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::SemaphorePermit;
use zeroize::Zeroizing;

use super::auth::holds;
use super::connections::Connections;
use super::observe::Code;
use crate::support::small_file;
use failure::{Destination, Refused, cause};
use message::SecretBytes;

pub(super) use failure::{Fault, NoAnswer};
pub(super) use message::{Answer, HeaderText, Method, Request};
pub use no_proxy::NoProxy;
pub use proxy::{Proxy, ProxyOrigin};

/// An answer longer than this is none of KMS or IAM: a page of 2 000 keys has 2 MB, a token with its roles some 10 KB.
const LONGEST_BODY: usize = 8 * 1024 * 1024;
/// Below the 60 s after which common gateways close an idle connection, so that we rarely write into a closed one.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);

/// What makes connections, for all projects that make them alike.
pub(super) struct Transport {
    settings: TransportSettings,
    /// Nothing before the first run.
    connector: Mutex<Option<Connector>>,
    /// For the metadata service: no proxy, and little patience, since it is next door.
    direct: Option<reqwest::Client>,
    connections: Arc<Connections>,
    /// The servers that are connected to.
    servers: Mutex<BTreeSet<String>>,
}

/// How connections are made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TransportSettings {
    /// Whether any endpoint is more than plain HTTP on loopback, and the system's roots are to be loaded.
    pub(super) tls: bool,
    /// Certificates to trust beside the system's.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) proxy: Option<Proxy>,
    pub(super) request_timeout: Duration,
    /// Whether a metadata service is asked, and by TLS.
    pub(super) metadata: Option<bool>,
}

/// What makes and keeps the connections.
struct Connector {
    /// What the files said; or why they said nothing.
    files: Result<Files, String>,
    /// How many connections are kept to each server.
    idle: usize,
    client: Result<reqwest::Client, String>,
    /// When the proxy refused the password that it is told.
    proxy_refused: Option<SystemTime>,
}

/// What is read from files, again before each run.
#[derive(Default)]
struct Files {
    /// Certificates to trust beside the system's, as the file has them.
    pem: Zeroizing<Vec<u8>>,
    /// What the proxy wants to hear.
    authorization: Option<SecretString>,
}

/// The metadata service answers within milliseconds or is not there; the vendor's own clients wait as long. So does a
/// proxy that has just refused.
const NEIGHBOUR_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a request goes.
pub(super) type Url = reqwest::Url;

/// Why a transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The proxy's address is not valid. It may hold a password, so it is not repeated.
    #[error("the proxy address in {0} is not valid, expected one such as http://proxy.example.com:3128")]
    Proxy(&'static str),
    /// An endpoint's address is not valid.
    #[error("{0} is not the address of an HTTP server")]
    Endpoint(String),
    /// The HTTP client cannot be built.
    #[error("cannot set up TLS: {0}; install the system's CA certificates or name a ca_file")]
    Client(String),
}

impl Transport {
    /// A transport that trusts the system's roots and those of its `ca_file`, and keeps within these connections. It
    /// connects to nothing yet.
    pub(super) fn new(settings: TransportSettings, connections: Arc<Connections>) -> Result<Self, SetUpError> {
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if let Some(proxy) = &settings.proxy {
            proxy.address()?;
        }
        let direct = settings.metadata.map(|tls| {
            let direct = builder(settings.request_timeout.min(NEIGHBOUR_TIMEOUT), 0);
            let direct = if tls { direct } else { direct.tls_certs_only([]) }.build();
            direct.map_err(|error| SetUpError::Client(cause(&error)))
        });
        let direct = direct.transpose()?;
        Ok(Self { settings, connector: Mutex::default(), direct, connections, servers: Mutex::default() })
    }

    /// How it makes connections.
    pub(super) fn settings(&self) -> &TransportSettings {
        &self.settings
    }

    /// Connections to the server of this endpoint are counted in when it is decided how many are kept.
    pub(super) fn add_server(&self, endpoint: &str) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.insert(endpoint.to_owned()) {
            self.connections.add_server();
        }
    }

    /// Reads the files again, and connects anew where they say something else. What cannot be read or used fails every
    /// request until the next run; a password that the proxy has refused and that has not changed is not told to it again
    /// for a while, since some proxies lock an account that comes back with a wrong one.
    pub(super) fn begin_run(&self, now: SystemTime) {
        self.refresh(&mut self.connector(), now);
    }

    fn refresh(&self, connector: &mut Option<Connector>, now: SystemTime) {
        let (files, idle) = (self.read_files(), self.connections.idle_per_server());
        let same = |known: &Connector| matches!((&files, &known.files), (Ok(new), Ok(known)) if new.same(known));
        match connector {
            Some(known) if same(known) && known.proxy_refused.is_some_and(|refused| holds(refused, now)) => {
                known.client = Err(self.refused_by_proxy());
            }
            Some(known) if same(known) && known.idle == idle && known.client.is_ok() => {}
            _ => {
                let client = files.as_ref().map_err(Clone::clone).and_then(|files| self.connect(files, idle));
                *connector = Some(Connector { files, idle, client, proxy_refused: None });
            }
        }
    }

    fn refused_by_proxy(&self) -> String {
        let Some(proxy) = &self.settings.proxy else { return String::new() };
        format!(
            "the proxy {} has answered HTTP 407, and its password, which has not changed since, is not sent again for 30 \
             minutes ({})",
            proxy.host(),
            proxy.origin.login()
        )
    }

    /// The proxy has answered that it wants another password than what it was told, if anything.
    pub(super) fn proxy_refuses(&self, now: SystemTime) {
        if self.settings.proxy.as_ref().is_some_and(Proxy::has_password)
            && let Some(connector) = &mut *self.connector()
        {
            connector.proxy_refused = Some(now);
        }
    }

    /// Somebody looks after it: what the proxy has refused may be told to it at once.
    pub(super) fn forgive(&self) {
        if let Some(connector) = &mut *self.connector() {
            connector.proxy_refused = None;
        }
    }

    fn connector(&self) -> MutexGuard<'_, Option<Connector>> {
        self.connector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_files(&self) -> Result<Files, String> {
        let mut files = Files::default();
        if let Some(proxy) = &self.settings.proxy {
            files.authorization = proxy.authorization()?;
        }
        if let Some(path) = &self.settings.ca_file {
            files.pem =
                small_file::read(path).map_err(|error| format!("cannot read ca_file {}: {error}", path.display()))?;
        }
        Ok(files)
    }

    fn connect(&self, files: &Files, idle: usize) -> Result<reqwest::Client, String> {
        let mut builder = builder(self.settings.request_timeout, idle);
        if let Some(proxy) = &self.settings.proxy {
            let (through, rules) = (proxy.address().map_err(|error| error.to_string())?, proxy.clone());
            // The library's own reading of `NO_PROXY` is another one.
            let rule = reqwest::Proxy::custom(move |url| rules.is_for(url).then(|| through.clone()));
            builder = builder.proxy(Proxy::authorized(rule, files.authorization.as_ref())?);
        }
        if let Some(path) = &self.settings.ca_file {
            builder = builder.tls_certs_merge(certificates(path, &files.pem)?);
        }
        if !self.settings.tls {
            builder = builder.tls_certs_only([]);
        }
        builder.build().map_err(|error| SetUpError::Client(cause(&error)).to_string())
    }

    /// Waits until one more request may be under way in this process, which it is until what this gives is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.connections.turn().await
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
        let direct = self.direct.as_ref().filter(|_| request.direct);
        let client = direct.map_or_else(|| self.client(&request.host()), |direct| Ok(direct.clone()))?;
        let mut response = match client.execute(sent).await {
            Ok(response) => response,
            Err(error) => return Err(self.no_answer(&error, request).await),
        };
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Zeroizing::new(Vec::new());
        let broken = loop {
            match response.chunk().await {
                Ok(None) => break None,
                Ok(Some(chunk)) if body.len() + chunk.len() > LONGEST_BODY => break Some(Code::Body),
                Ok(Some(chunk)) => Answer::extend(&mut body, &chunk),
                Err(error) if error.is_timeout() => break Some(Code::Timeout),
                Err(_) => break Some(Code::Body),
            }
        };
        let request_id = request.id_in(&headers);
        Ok(Answer { status, body, broken, headers, request_id })
    }

    fn client(&self, host: &str) -> Result<reqwest::Client, NoAnswer> {
        let mut connector = self.connector();
        if connector.is_none() {
            self.refresh(&mut connector, SystemTime::UNIX_EPOCH);
        }
        let client = match &*connector {
            Some(Connector { client, .. }) => client.clone(),
            None => Err(String::new()),
        };
        client.map_err(|why| NoAnswer {
            code: Code::Connect,
            may_have_arrived: false,
            fault: Fault::File,
            text: format!("no connection to {host}: {why}"),
        })
    }

    async fn no_answer(&self, error: &reqwest::Error, request: &Request) -> NoAnswer {
        let proxy = self.settings.proxy.as_ref().filter(|proxy| !request.direct && proxy.is_for(&request.url));
        let ca_file = self.settings.ca_file.as_deref().filter(|_| !request.direct);
        let destination = Destination { host: request.host(), proxy, ca_file };
        match (destination.explain(error), proxy) {
            (Ok(no_answer), _) => no_answer,
            (Err(Refused(unexplained)), None) => unexplained,
            (Err(Refused(unexplained)), Some(proxy)) => match self.ask_proxy(proxy, &request.url).await {
                Some(status) if !(200..300).contains(&status) => destination.refusal(proxy, status),
                _ => unexplained,
            },
        }
    }

    /// Asks a proxy that has refused to connect to a server once more, for the status of its answer, which the HTTP
    /// client keeps to itself.
    async fn ask_proxy(&self, proxy: &Proxy, server: &Url) -> Option<u16> {
        let mut through = builder(self.settings.request_timeout.min(NEIGHBOUR_TIMEOUT), 0);
        {
            let connector = self.connector();
            let files = connector.as_ref()?.files.as_ref().ok()?;
            let address = proxy.address().ok()?;
            through = match &self.settings.ca_file {
                _ if address.scheme() == "http" => through.tls_certs_only([]),
                Some(path) => through.tls_certs_merge(certificates(path, &files.pem).ok()?),
                None => through,
            };
            // To the client the request below is one for a plain HTTP server, so that it is handed to the proxy as it
            // is: a `CONNECT` for this server.
            let rule = reqwest::Proxy::http(address).ok()?;
            through = through.proxy(Proxy::authorized(rule, files.authorization.as_ref()).ok()?);
        }
        let server = format!("http://{}:{}", server.host_str()?, server.port_or_known_default()?);
        let request = reqwest::Request::new(reqwest::Method::CONNECT, server.parse().ok()?);
        let answer = through.build().ok()?.execute(request).await.ok()?;
        Some(answer.status().as_u16())
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        let servers = self.servers.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.connections.remove_servers(servers.len());
    }
}

impl Files {
    /// Whether they say the same. Both are ours, so that the time it takes tells nobody anything.
    fn same(&self, other: &Self) -> bool {
        fn told(files: &Files) -> Option<&str> {
            files.authorization.as_ref().map(ExposeSecret::expose_secret)
        }
        self.pem == other.pem && told(self) == told(other)
    }
}

/// The certificates of a `ca_file`, each of which can be used.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<reqwest::Certificate>, String> {
    let file = path.display();
    let mut roots = rustls::RootCertStore::empty();
    let mut found = Vec::new();
    for (certificate, number) in CertificateDer::pem_slice_iter(pem).zip(1..) {
        let certificate = certificate.map_err(|error| format!("ca_file {file} is not valid PEM: {error}"))?;
        let broken =
            |error: &dyn std::fmt::Display| format!("certificate {number} in ca_file {file} is broken: {error}");
        roots.add(certificate.clone()).map_err(|error| broken(&error))?;
        found.push(reqwest::Certificate::from_der(&certificate).map_err(|error| broken(&cause(&error)))?);
    }
    if found.is_empty() {
        return Err(format!("ca_file {file} holds no certificate in PEM form"));
    }
    Ok(found)
}

/// `idle` connections are kept open to each server, for the next request.
fn builder(request_timeout: Duration, idle: usize) -> reqwest::ClientBuilder {
    // Less than a request may take, so that it is known of one that takes too long whether it has been sent.
    let connect_timeout = request_timeout / 8 * 7;
    reqwest::Client::builder()
        .user_agent(concat!("kms-rotationd/", env!("CARGO_PKG_VERSION")))
        .timeout(request_timeout)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(idle)
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write as _};
    use std::net::{IpAddr, SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// A resolver that says what it was last told.
    #[derive(Clone)]
    struct Resolver(Arc<Mutex<IpAddr>>);

    impl reqwest::dns::Resolve for Resolver {
        fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
            let address = SocketAddr::new(*self.0.lock().unwrap(), 0);
            Box::pin(async move { Ok(Box::new(std::iter::once(address)) as reqwest::dns::Addrs) })
        }
    }

    /// Answers with its own address and closes the connection.
    fn serve(listener: TcpListener) {
        thread::spawn(move || {
            let own = listener.local_addr().unwrap().ip().to_string();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                // To the empty line after the head.
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", own.len());
                stream.write_all((head + &own).as_bytes()).unwrap();
            }
        });
    }

    #[tokio::test]
    async fn an_address_that_changes_is_followed_with_the_next_connection() {
        let old = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = old.local_addr().unwrap().port();
        let new = TcpListener::bind(("127.0.0.2", port)).unwrap();
        serve(old);
        serve(new);
        let resolver = Resolver(Arc::new(Mutex::new("127.0.0.1".parse().unwrap())));
        let request_timeout = Duration::from_secs(20);
        let settings = TransportSettings { tls: false, ca_file: None, proxy: None, request_timeout, metadata: None };
        let transport = Transport::new(settings, Connections::for_descriptors(1024)).unwrap();
        // The same client as ever, but for who is asked for addresses.
        let client = builder(request_timeout, 4).tls_certs_only([]).dns_resolver(resolver.clone()).build();
        let client = client.map_err(|error| error.to_string());
        *transport.connector.lock().unwrap() =
            Some(Connector { files: Ok(Files::default()), idle: 4, client, proxy_refused: None });
        let ask = || async {
            let request = Request {
                method: Method::Get,
                url: address(&format!("http://kms.cloud.test:{port}"), "").unwrap(),
                headers: Vec::new(),
                body: SecretString::from(""),
                secret_in_body: None,
                direct: false,
            };
            String::from_utf8(transport.send(&request).await.unwrap().body.to_vec()).unwrap()
        };
        for address in ["127.0.0.1", "127.0.0.2", "127.0.0.1"] {
            *resolver.0.lock().unwrap() = address.parse().unwrap();
            assert_eq!(ask().await, address);
        }
    }
}
