//! One HTTP attempt: the only place that knows the HTTP client.
//!
//! An attempt follows no redirect (the token would go along), repeats nothing by itself, ends within the request
//! timeout with its body, and reads no more than 8 MiB. What the answer means is for others to say.

mod message;
mod proxy;

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::observe::Code;
use crate::small_file;
use message::SecretBytes;

pub(super) use message::{Answer, HeaderText, Method, Request};
pub use proxy::Proxy;

/// An answer longer than this is none of KMS or IAM: a page of 2 000 keys has 2 MB, a token with its roles some 10 KB.
const LONGEST_BODY: usize = 8 * 1024 * 1024;
/// Below the 60 s after which common gateways close an idle connection, so that we rarely write into a closed one.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);

/// How a proxy's refusal reads in the HTTP client, whose type for it is not public.
const PROXY_WANTS_PASSWORD: &str = "tunnel error: proxy authorization required";

/// The HTTP client of one project.
pub(super) struct Transport {
    tls: bool,
    ca_file: Option<PathBuf>,
    proxy: Option<Proxy>,
    request_timeout: Duration,
    connections: usize,
    connector: Mutex<Connector>,
    /// For the metadata service: no proxy, and little patience, since it is next door.
    direct: Option<reqwest::Client>,
}

/// What makes and keeps the connections.
struct Connector {
    /// What the files said; or why they said nothing.
    files: Result<Files, String>,
    client: Result<reqwest::Client, String>,
}

/// What is read from files, again before each run.
#[derive(Default)]
struct Files {
    /// Certificates to trust beside the system's.
    certificates: Zeroizing<Vec<u8>>,
    /// What the proxy wants to hear.
    authorization: Option<SecretString>,
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
    /// What will be in the way of every other request as well.
    pub(super) barrier: Option<Barrier>,
    /// The innermost cause.
    pub(super) cause: String,
}

/// What is in the way, and is for somebody to put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barrier {
    /// The server's certificate is not trusted.
    Certificate,
    /// The proxy wants another password.
    Proxy,
    /// A file that is needed to connect cannot be used.
    File,
}

/// Why a transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The proxy's address is not valid. It may hold a password, so it is not repeated.
    #[error("the proxy address is not valid, expected one such as http://proxy.example.com:3128")]
    Proxy,
    /// An endpoint's address is not valid.
    #[error("{0} is not the address of an HTTP server")]
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
        ca_file: Option<PathBuf>,
        proxy: Option<Proxy>,
        request_timeout: Duration,
        connections: usize,
    ) -> Result<Self, SetUpError> {
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if let Some(Proxy { url, .. }) = &proxy {
            reqwest::Proxy::https(url).map_err(|_| SetUpError::Proxy)?;
        }
        let none = Connector { files: Err(String::new()), client: Err(String::new()) };
        let connector = Mutex::new(none);
        let new = Self { tls, ca_file, proxy, request_timeout, connections, connector, direct: None };
        new.begin_run();
        Ok(new)
    }

    /// Reads the files again, and connects anew where they say something else. What cannot be read or used fails every
    /// request until the next run.
    pub(super) fn begin_run(&self) {
        let files = self.read_files();
        let mut connector = self.connector.lock().unwrap_or_else(PoisonError::into_inner);
        let same = matches!((&files, &connector.files), (Ok(new), Ok(known)) if new.same(known));
        if !same || connector.client.is_err() {
            let client = files.as_ref().map_err(Clone::clone).and_then(|files| self.connect(files));
            *connector = Connector { files, client };
        }
    }

    fn read_files(&self) -> Result<Files, String> {
        let mut files = Files::default();
        if let Some(proxy) = &self.proxy {
            files.authorization = proxy.authorization()?;
        }
        if let Some(path) = &self.ca_file {
            files.certificates =
                small_file::read(path).map_err(|error| format!("cannot read ca_file {}: {error}", path.display()))?;
        }
        Ok(files)
    }

    fn connect(&self, files: &Files) -> Result<reqwest::Client, String> {
        let mut builder = builder(self.request_timeout, self.connections);
        if let Some(Proxy { url, except, .. }) = &self.proxy {
            let mut proxy = reqwest::Proxy::https(url).map_err(|_| SetUpError::Proxy.to_string())?;
            if let Some(told) = &files.authorization {
                // The client's own way to say it would leave copies behind that nobody wipes.
                let HeaderText(told) = HeaderText::secret(told.clone()).ok_or("no header can carry the password")?;
                proxy = proxy.custom_http_auth(told);
            }
            builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_string(except)));
        }
        if let Some(path) = &self.ca_file {
            let certificates = reqwest::Certificate::from_pem_bundle(&files.certificates).unwrap_or_default();
            if certificates.is_empty() {
                return Err(format!("ca_file {} holds no certificate in PEM form", path.display()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if !self.tls {
            builder = builder.tls_certs_only([]);
        }
        builder.build().map_err(|error| SetUpError::Client(innermost(&error)).to_string())
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
        let direct = self.direct.as_ref().filter(|_| request.direct);
        let client = direct.map_or_else(|| self.client(), |direct| Ok(direct.clone()))?;
        let mut response = client.execute(sent).await.map_err(|error| self.no_answer(&error))?;
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

    fn client(&self) -> Result<reqwest::Client, NoAnswer> {
        let connector = self.connector.lock().unwrap_or_else(PoisonError::into_inner);
        connector.client.clone().map_err(|cause| NoAnswer {
            code: Code::Connect,
            may_have_arrived: false,
            barrier: Some(Barrier::File),
            cause,
        })
    }

    fn no_answer(&self, error: &reqwest::Error) -> NoAnswer {
        let tls = find(error, &|cause| cause.is::<rustls::Error>()).and_then(|cause| cause.downcast_ref());
        let (code, barrier) = match tls {
            _ if error.is_timeout() => (Code::Timeout, None),
            Some(rustls::Error::InvalidCertificate(_)) => (Code::Tls, Some(Barrier::Certificate)),
            Some(_) => (Code::Tls, None),
            None if find(error, &|cause| cause.to_string() == PROXY_WANTS_PASSWORD).is_some() => {
                (Code::Http(407), Some(Barrier::Proxy))
            }
            None => (Code::Connect, None),
        };
        let cause = match &self.proxy {
            Some(proxy) if barrier == Some(Barrier::Proxy) => proxy.host(),
            _ => innermost(error),
        };
        NoAnswer { code, may_have_arrived: !error.is_connect(), barrier, cause }
    }
}

impl Files {
    /// Whether they say the same. Both are ours, so that the time it takes tells nobody anything.
    fn same(&self, other: &Self) -> bool {
        fn told(files: &Files) -> Option<&str> {
            files.authorization.as_ref().map(ExposeSecret::expose_secret)
        }
        self.certificates == other.certificates && told(self) == told(other)
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
        let transport = Transport::new(false, None, None, Duration::from_secs(20), 4).unwrap();
        // The same client as ever, but for who is asked for addresses.
        let client = builder(Duration::from_secs(20), 4).tls_certs_only([]).dns_resolver(resolver.clone()).build();
        transport.connector.lock().unwrap().client = Ok(client.unwrap());
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
