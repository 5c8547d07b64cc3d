//! The HTTP server: connections, their limits, and their end. `routes` makes the responses.
//!
//! The accept loop over hyper is kept by hand because ready-made ones, `axum::serve` among them, set no limits: on the
//! number of connections and of large answers, on the time for TLS, for a request's head, for reading a response and
//! for a whole connection, and on the time that a stop waits for responses in flight. `access_control` decides who is
//! admitted, and whether TLS is used. `run` and `rehearse` bind the server before the first run, and it serves until
//! the daemon stops.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access_control::{AccessControl, WebFile};
use super::health::Health;
use super::listen::{self, ListenAddress};
use super::routes::{ServerState, respond};
use super::slots::{ConnectionSlots, Slot};
use super::stall::StallGuard;
use super::status::StatusStore;

/// Open connections. A quiet one costs a few KiB and a file descriptor, of which a process has 1024 by default.
const CONNECTIONS: usize = 128;
/// Answers about keys that are sent at a time, each of which takes up to 200 KiB: enough for a few Prometheus servers
/// and people.
const LARGE_ANSWERS: usize = 32;
/// The time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a request's head, and for the next request on a connection that is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which a client must read some of what is sent to it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection accepts requests. Without this limit a client could read one byte at a time without end.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The time for the last response of a connection that is to end: 15 MB at two megabits a second.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(60);
/// The time for responses in flight when the daemon stops; less than the grace period of systemd and Kubernetes.
const DRAIN: Duration = Duration::from_secs(5);
/// The pause after a failed accept: without free file descriptors, every attempt fails at once.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// The buffer of a connection, for requests and for responses; responses come in pieces of about this size.
const BUFFER: usize = 64 * 1024;

/// A server that is bound to its address.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: ServerState,
}

impl Server {
    /// Binds to the address.
    ///
    /// # Errors
    /// The address is not one of this machine, or the port is in use or not allowed; the message names the address.
    pub async fn bind(address: SocketAddr, store: Arc<StatusStore>, health: Health) -> io::Result<Self> {
        Self::listen(&address.into(), store, health).await
    }

    /// Binds to the address or name of `--listen`.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind), or the name cannot be resolved.
    pub async fn listen(at: &ListenAddress, store: Arc<StatusStore>, health: Health) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {at}: {error}"));
        let listener = at.open().await.map_err(named)?;
        Ok(Self::on(listener, store, health).map_err(named)?.called(at.name()))
    }

    /// Uses a listening socket that another process has opened, as systemd does.
    ///
    /// # Errors
    /// The socket cannot be used to listen.
    pub(crate) fn adopt(listener: std::net::TcpListener, store: Arc<StatusStore>, health: Health) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on the socket handed over: {error}"))
        };
        listener.set_nonblocking(true).map_err(named)?;
        TcpListener::from_std(listener).and_then(|listener| Self::on(listener, store, health)).map_err(named)
    }

    fn on(listener: TcpListener, store: Arc<StatusStore>, health: Health) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let on_loopback = address.ip().to_canonical().is_loopback();
        let state = ServerState { on_loopback, ..ServerState::open(store, health) };
        Ok(Self { listener, address, state })
    }

    /// Accepts this name as `Host` too, if that is checked.
    #[must_use]
    pub fn called(mut self, name: Option<&str>) -> Self {
        self.state.name = name.map(Into::into);
        self
    }

    /// Admits only clients that this file admits.
    #[must_use]
    pub fn guarded_by(mut self, web: WebFile) -> Self {
        self.state.web = Some(web);
        self
    }

    /// The address it listens on, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address at which programs on this machine reach it.
    #[must_use]
    pub(crate) fn local_address(&self) -> SocketAddr {
        listen::local(self.address)
    }

    /// Serves until `stop`, then finishes the responses in flight.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, state, .. } = self;
        let state = Arc::new(state);
        let mut slots = ConnectionSlots::new(CONNECTIONS, LARGE_ANSWERS);
        let mut connections = JoinSet::new();
        let mut acceptor = Acceptor { listener, failing: false };
        let mut archive = std::pin::pin!(state.store.keep_archive_fresh());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                stream = acceptor.next() => {
                    let slot = slots.take().await;
                    connections.spawn(serve_connection(stream, slot, Arc::clone(&state), stop.clone()));
                }
                Some(_) = connections.join_next() => {}
                never = &mut archive => match never {},
            }
        }
        drop(acceptor);
        slots.close_newcomers();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// Accepts connections.
struct Acceptor {
    listener: TcpListener,
    /// The last attempt failed, and that is logged.
    failing: bool,
}

impl Acceptor {
    async fn next(&mut self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.failing = false;
                    return stream;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, "accepting an HTTP connection failed; retrying every second");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Serves one connection until it ends or has to make room for another one.
async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    slot: Arc<Slot>,
    state: Arc<ServerState>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = admit(stream, &slot, &state, &stop) => {}
        () = slot.closed() => tracing::debug!("a quiet HTTP connection was closed to make room for another one"),
    }
}

/// Makes the TLS handshake if TLS is configured, then answers the requests.
async fn admit(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    slot: &Arc<Slot>,
    state: &ServerState,
    stop: &CancellationToken,
) {
    let access_control = state.access_control();
    let stream = StallGuard::new(stream, STALL_TIMEOUT);
    let Some(tls) = &access_control.tls else { return answer(stream, slot, &access_control, state, stop).await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => answer(stream, slot, &access_control, state, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Answers the requests of one connection until its client ends it, or one of the reasons to end it applies.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    slot: &Arc<Slot>,
    access_control: &AccessControl,
    state: &ServerState,
    stop: &CancellationToken,
) {
    let service = service_fn(async |request| {
        slot.has_requested();
        Ok::<_, Infallible>(respond(state, &request, slot).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let has_to_end = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = access_control.retired.cancelled() => {}
            () = tokio::time::sleep(LIFETIME) => {}
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = has_to_end => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(SHUTDOWN_GRACE, connection).await
        }
    };
    // The server has nothing to do about a connection that its client breaks.
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection ended early"),
        Err(_) => tracing::debug!("the last answer of an HTTP connection took too long"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// A client whose connection is served, with this many bytes of buffer between client and server.
    async fn client(buffer: usize) -> (DuplexStream, JoinHandle<()>) {
        let (server, client) = tokio::io::duplex(buffer);
        let store = Arc::new(StatusStore::new().unwrap());
        let state = ServerState::open(store, Health::new(LIFETIME * 2));
        let slot = ConnectionSlots::new(1, 1).take().await;
        (client, tokio::spawn(serve_connection(server, slot, Arc::new(state), CancellationToken::new())))
    }

    /// The number of responses; none if the last one is incomplete.
    fn whole(answers: &[u8]) -> Option<usize> {
        let answers = str::from_utf8(answers).unwrap();
        let (before, body) = answers.rsplit_once("\r\n\r\n").unwrap();
        let (_, rest) = before.rsplit_once("content-length: ").unwrap();
        let length: usize = rest.lines().next().unwrap().parse().unwrap();
        (body.len() == length).then(|| answers.matches("HTTP/1.1 200 OK").count())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_little_now_and_then_loses_its_slot() {
        let begun = Instant::now();
        let (mut client, served) = client(64).await;
        let taking = tokio::spawn(async move {
            client.write_all(REQUEST).await.unwrap();
            let mut taken = Vec::new();
            while client.read_buf(&mut taken).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_secs(29)).await;
            }
            taken
        });
        served.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 6 * 60);
        assert_eq!(whole(&taking.await.unwrap()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_in_flight_at_the_end_is_complete_and_the_last() {
        let begun = Instant::now();
        let (mut client, served) = client(256).await;
        client.write_all(&REQUEST.repeat(2)).await.unwrap();
        let mut taken = Vec::new();
        while begun.elapsed() < LIFETIME {
            client.read_buf(&mut taken).await.unwrap();
            tokio::time::sleep(Duration::from_secs(25)).await;
        }
        assert_eq!(whole(&taken), None);
        client.read_to_end(&mut taken).await.unwrap();
        assert_eq!(whole(&taken), Some(1));
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_asking_is_disconnected_between_two_responses() {
        let begun = Instant::now();
        let (mut client, served) = client(BUFFER).await;
        let asking = tokio::spawn(async move {
            let mut taken = Vec::new();
            while client.write_all(REQUEST).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(9)).await;
                client.read_buf(&mut taken).await.unwrap();
            }
            taken
        });
        served.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 5 * 60);
        assert_eq!(whole(&asking.await.unwrap()), Some(34));
    }
}
