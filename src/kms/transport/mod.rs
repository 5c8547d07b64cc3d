//! One HTTP attempt: the only place that uses the HTTP client.
//!
//! An attempt follows no redirect (the token would be sent along), is never repeated here, ends with its body within
//! the request timeout, and reads no more than 8 MiB. It does not interpret the answer.

mod address;
mod client_build;
mod error;
mod failure;
mod message;
mod no_proxy;
mod proxy;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;
use zeroize::Zeroizing;

use super::connections::Connections;
use super::observe::Code;
use client_build::{ClientBuild, NEIGHBOUR_TIMEOUT, builder};
use error::ClientBuildError;
use failure::{Destination, ProxyRefused};
use message::SecretBytes;

pub(super) use address::{Url, address};
pub(super) use client_build::TransportSettings;
pub(super) use error::{Fault, NoAnswer};
pub use error::{HttpError, SetUpError};
pub(super) use message::{Answer, HeaderText, Method, Request};
pub use no_proxy::NoProxy;
pub use proxy::{Proxy, ProxyOrigin};

/// A longer answer is not one of KMS or IAM: a page of 2 000 keys has 2 MB, a token with its roles some 10 KB.
const LONGEST_BODY: usize = 8 * 1024 * 1024;

/// Makes connections for all projects with the same settings.
pub(super) struct Transport {
    settings: TransportSettings,
    /// Nothing before the first run.
    client_build: Mutex<Option<ClientBuild>>,
    /// For the metadata service: without a proxy, and with a short timeout.
    direct: Option<reqwest::Client>,
    connections: Arc<Connections>,
    /// The servers of its clients.
    servers: Mutex<BTreeSet<String>>,
}

impl Transport {
    /// A transport that trusts the system's root certificates and those of its `ca_file`, and shares `connections`. It
    /// does not connect yet.
    pub(super) fn new(settings: TransportSettings, connections: Arc<Connections>) -> Result<Self, SetUpError> {
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if let Some(proxy) = &settings.proxy {
            proxy.address()?;
        }
        let direct = settings.metadata.map(|tls| {
            let direct = builder(settings.request_timeout.min(NEIGHBOUR_TIMEOUT), 0);
            let direct = if tls { direct } else { direct.tls_certs_only([]) }.build();
            direct.map_err(|error| SetUpError::Client(HttpError(error)))
        });
        let direct = direct.transpose()?;
        Ok(Self { settings, client_build: Mutex::default(), direct, connections, servers: Mutex::default() })
    }

    /// How it makes connections.
    pub(super) fn settings(&self) -> &TransportSettings {
        &self.settings
    }

    /// Counts the server of this endpoint among those that share the idle connections.
    pub(super) fn add_server(&self, endpoint: &str) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.insert(endpoint.to_owned()) {
            self.connections.add_server();
        }
    }

    /// Reads the files again, and reconnects where they have changed. A file that cannot be used fails every request
    /// until the next run. A proxy password that was refused and has not changed is not sent again for a while, since
    /// some proxies lock the account.
    pub(super) fn begin_run(&self, now: SystemTime) {
        let mut client_build = self.client_build();
        *client_build = Some(self.refreshed(client_build.take(), now));
    }

    fn refreshed(&self, known: Option<ClientBuild>, now: SystemTime) -> ClientBuild {
        ClientBuild::refreshed(known, &self.settings, self.connections.idle_per_server(), now)
    }

    /// The proxy has answered that it wants another password than the one it was sent, if any.
    pub(super) fn proxy_refuses(&self, now: SystemTime) {
        if self.settings.proxy.as_ref().is_some_and(Proxy::has_password)
            && let Some(client_build) = &mut *self.client_build()
        {
            client_build.proxy_refuses(now);
        }
    }

    /// An operator has started the run: a refused proxy password may be sent again at once.
    pub(super) fn forget_refusals(&self) {
        if let Some(client_build) = &mut *self.client_build() {
            client_build.forget_refusal();
        }
    }

    fn client_build(&self) -> MutexGuard<'_, Option<ClientBuild>> {
        self.client_build.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more request may be in flight in this process. Dropping the permit ends the request.
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
        let client = match direct {
            Some(direct) => direct.clone(),
            None => self.client().map_err(|why| NoAnswer::not_attempted(&request.authority(), why))?,
        };
        let mut response = match client.execute(sent).await {
            Ok(response) => response,
            Err(error) => return Err(self.no_answer(error, request).await),
        };
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let length = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let mut body = Zeroizing::new(Vec::with_capacity(length.min(LONGEST_BODY)));
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

    fn client(&self) -> Result<reqwest::Client, Arc<ClientBuildError>> {
        let mut client_build = self.client_build();
        client_build.get_or_insert_with(|| self.refreshed(None, SystemTime::UNIX_EPOCH)).client()
    }

    async fn no_answer(&self, error: reqwest::Error, request: &Request) -> NoAnswer {
        let proxy = self.settings.proxy.as_ref().filter(|proxy| !request.direct && proxy.is_for(&request.url));
        let ca_file = self.settings.ca_file.as_deref().filter(|_| !request.direct);
        let destination = Destination { authority: request.authority(), proxy, ca_file };
        match (destination.explain(error), proxy) {
            (Ok(no_answer), _) => no_answer,
            (Err(ProxyRefused(unexplained)), None) => unexplained,
            (Err(ProxyRefused(unexplained)), Some(proxy)) => match self.status_of_proxy(proxy, &request.url).await {
                Some(status) if !(200..300).contains(&status) => destination.refusal(proxy, status),
                _ => unexplained,
            },
        }
    }

    /// Connects once more through a proxy that has refused, for the status of its answer, which the HTTP client does
    /// not report.
    async fn status_of_proxy(&self, proxy: &Proxy, server: &Url) -> Option<u16> {
        let client = self.client_build().as_ref()?.client_of_proxy(&self.settings, proxy)?;
        // For the client this is a request to a plain HTTP server, so it sends it to the proxy unchanged: a `CONNECT`
        // for this server.
        let server = format!("http://{}:{}", server.host_str()?, server.port_or_known_default()?);
        let request = reqwest::Request::new(reqwest::Method::CONNECT, server.parse().ok()?);
        let answer = client.execute(request).await.ok()?;
        Some(answer.status().as_u16())
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        let servers = self.servers.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.connections.remove_servers(servers.len());
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write as _};
    use std::net::{IpAddr, SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use secrecy::SecretString;

    use super::*;

    /// A resolver that returns the address that was last set.
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
        // The usual client with another resolver.
        let client = builder(request_timeout, 4).tls_certs_only([]).dns_resolver(resolver.clone()).build();
        *transport.client_build.lock().unwrap() = Some(ClientBuild::with_client(client.unwrap(), 4));
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
