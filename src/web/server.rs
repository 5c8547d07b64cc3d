//! The HTTP server: connections, their limits, and their end. What is answered is in `routes`.
//!
//! An own accept loop over hyper, because the limits are the point: a bounded number of connections and of large
//! answers, a time for TLS, for a request's head, for taking the answer and for all of it, and a stop that waits for
//! answers in flight, within a limit. `entrance` decides who is admitted, and whether by TLS. `run` and `rehearse` bind
//! it before the first run and let it serve until the daemon stops.

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

use super::access_control::{Entrance, WebFile};
use super::health::Health;
use super::listen::{self, ListenAddress};
use super::routes::{Site, respond};
use super::slots::{Place, Places};
use super::stall::StallGuard;
use super::status::StatusStore;

/// Connections at a time. A quiet one costs a few KiB and a file descriptor, of which systems give 1024 by default.
const CONNECTIONS: usize = 128;
/// Answers about keys at a time, each of which takes up to 200 KiB while it is sent: for a handful of Prometheus servers
/// and people.
const LARGE_ANSWERS: usize = 32;
/// The time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a request's head, and for the next request on a connection that is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which a client must take some of what is sent to it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection takes requests. Without it a client could read a byte now and then without end.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The time for the last answer of a connection that is to end: 15 MB at two megabits a second.
const FAREWELL: Duration = Duration::from_secs(60);
/// What answers in flight get when the daemon stops; less than the grace that systemd and Kubernetes give.
const DRAIN: Duration = Duration::from_secs(5);
/// Without file descriptors accepting fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// What a connection buffers of requests and of answers; answers come in pieces of about this size.
const BUFFER: usize = 64 * 1024;

/// A server that has its port.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    site: Site,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// Where the address is not of this machine, or the port is taken or not allowed; the message names the address.
    pub async fn bind(address: SocketAddr, store: Arc<StatusStore>, health: Health) -> io::Result<Self> {
        Self::listen(&address.into(), store, health).await
    }

    /// Takes the port at this address or name.
    ///
    /// # Errors
    /// As above, or the name is not known.
    pub async fn listen(at: &ListenAddress, store: Arc<StatusStore>, health: Health) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {at}: {error}"));
        let listener = at.open().await.map_err(named)?;
        Ok(Self::on(listener, store, health).map_err(named)?.called(at.name()))
    }

    /// Takes a port that somebody else has opened and listens on, as systemd does.
    ///
    /// # Errors
    /// It is not one to listen on.
    pub fn adopt(listener: std::net::TcpListener, store: Arc<StatusStore>, health: Health) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on the socket handed over: {error}"))
        };
        listener.set_nonblocking(true).map_err(named)?;
        TcpListener::from_std(listener).and_then(|listener| Self::on(listener, store, health)).map_err(named)
    }

    fn on(listener: TcpListener, store: Arc<StatusStore>, health: Health) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let on_loopback = address.ip().to_canonical().is_loopback();
        let site = Site { on_loopback, ..Site::open(store, health) };
        Ok(Self { listener, address, site })
    }

    /// Accepts this name as `Host` too, where that is checked.
    #[must_use]
    pub fn called(mut self, name: Option<&str>) -> Self {
        self.site.name = name.map(Into::into);
        self
    }

    /// Lets in only whom this file lets in.
    #[must_use]
    pub fn guarded_by(mut self, web: WebFile) -> Self {
        self.site.web = Some(web);
        self
    }

    /// The address it listens on, with the port that port 0 became.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address at which programs of this machine reach it.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        listen::local(self.address)
    }

    /// Answers until `stop`, then finishes what is in flight.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, site, .. } = self;
        let site = Arc::new(site);
        let mut places = Places::new(CONNECTIONS, LARGE_ANSWERS);
        let mut connections = JoinSet::new();
        let mut door = Door { listener, failing: false };
        let mut archive = std::pin::pin!(site.store.keep_archive_fresh());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                stream = door.next() => {
                    connections.spawn(attend(stream, places.take(), Arc::clone(&site), stop.clone()));
                }
                Some(_) = connections.join_next() => {}
                never = &mut archive => match never {},
            }
        }
        drop(door);
        places.dismiss_newcomers();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    /// The last attempt to accept one failed, and that is logged.
    failing: bool,
}

impl Door {
    /// The next connection.
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

/// Answers the requests of one connection, unless it has to make room for another one.
async fn attend(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    place: Arc<Place>,
    site: Arc<Site>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = let_in(stream, &place, &site, &stop) => {}
        () = place.dismissed() => tracing::debug!("a quiet HTTP connection was closed to make room for another one"),
    }
}

/// Lets a connection in, by TLS where that is asked for, and answers its requests.
async fn let_in(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    place: &Arc<Place>,
    site: &Site,
    stop: &CancellationToken,
) {
    let entrance = site.entrance();
    let stream = StallGuard::new(stream, STALL_TIMEOUT);
    let Some(tls) = &entrance.tls else { return answer(stream, place, &entrance, site, stop).await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => answer(stream, place, &entrance, site, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Answers the requests of one connection, until there is a reason to part with its client.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    place: &Arc<Place>,
    entrance: &Entrance,
    site: &Site,
    stop: &CancellationToken,
) {
    let service = service_fn(async |request| {
        place.has_asked();
        Ok::<_, Infallible>(respond(site, &request, place).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let parting = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = entrance.retired.cancelled() => {}
            () = tokio::time::sleep(LIFETIME) => {}
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = parting => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await
        }
    };
    // Whatever ends a connection is its client's affair; the server has nothing to do about it.
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

    /// A client whose connection is attended to, and of whose answers so many bytes can be on the way.
    fn client(on_the_way: usize) -> (DuplexStream, JoinHandle<()>) {
        let (server, client) = tokio::io::duplex(on_the_way);
        let store = Arc::new(StatusStore::new().unwrap());
        let site = Site::open(store, Health::new(LIFETIME * 2));
        let place = Places::new(1, 1).take();
        (client, tokio::spawn(attend(server, place, Arc::new(site), CancellationToken::new())))
    }

    /// How many answers these are, the last of which is whole.
    fn whole(answers: &[u8]) -> Option<usize> {
        let answers = str::from_utf8(answers).unwrap();
        let (before, body) = answers.rsplit_once("\r\n\r\n").unwrap();
        let (_, rest) = before.rsplit_once("content-length: ").unwrap();
        let length: usize = rest.lines().next().unwrap().parse().unwrap();
        (body.len() == length).then(|| answers.matches("HTTP/1.1 200 OK").count())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_little_now_and_then_loses_its_place() {
        let begun = Instant::now();
        let (mut client, attended) = client(64);
        let taking = tokio::spawn(async move {
            client.write_all(REQUEST).await.unwrap();
            let mut taken = Vec::new();
            while client.read_buf(&mut taken).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_secs(29)).await;
            }
            taken
        });
        attended.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 6 * 60);
        assert_eq!(whole(&taking.await.unwrap()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_under_way_at_the_end_comes_whole_and_is_the_last() {
        let begun = Instant::now();
        let (mut client, attended) = client(256);
        client.write_all(&REQUEST.repeat(2)).await.unwrap();
        let mut taken = Vec::new();
        while begun.elapsed() < LIFETIME {
            client.read_buf(&mut taken).await.unwrap();
            tokio::time::sleep(Duration::from_secs(25)).await;
        }
        assert_eq!(whole(&taken), None);
        client.read_to_end(&mut taken).await.unwrap();
        assert_eq!(whole(&taken), Some(1));
        attended.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_asking_is_parted_with_between_two_answers() {
        let begun = Instant::now();
        let (mut client, attended) = client(BUFFER);
        let asking = tokio::spawn(async move {
            let mut taken = Vec::new();
            while client.write_all(REQUEST).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(9)).await;
                client.read_buf(&mut taken).await.unwrap();
            }
            taken
        });
        attended.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 5 * 60);
        assert_eq!(whole(&asking.await.unwrap()), Some(34));
    }
}
