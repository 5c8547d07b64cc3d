//! The HTTP server: connections, their limits, and their end. What is answered is in `routes`.
//!
//! An own accept loop over hyper, because the limits are the point: a bounded number of connections, each with a time
//! for TLS, for a request's head, for taking the answer and for all of it, and a stop that waits for answers in flight,
//! but not for ever. Who gets in, and whether in TLS, is for `entrance` to say. `run` and `rehearse` bind it before the
//! first run and let it serve until the daemon stops.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Health};
use super::entrance::{Entrance, WebFile};
use super::places::{Place, Places};
use super::routes::{Site, respond};
use super::stall::StallGuard;

/// Connections at a time: a handful of Prometheus servers, probes and people.
const CONNECTIONS: usize = 64;
/// The time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a request's head, and for the next request on a connection that is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which a client must take some of what is sent to it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection takes requests. Without it a client that takes a byte now and then keeps its place for ever.
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
    pub async fn bind(address: SocketAddr, board: Arc<Board>, health: Health) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(named)?;
        Self::on(listener, board, health).map_err(named)
    }

    /// Takes a port that somebody else has opened and listens on, as systemd does.
    ///
    /// # Errors
    /// It is not one to listen on.
    pub fn adopt(listener: std::net::TcpListener, board: Arc<Board>, health: Health) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on the socket handed over: {error}"))
        };
        listener.set_nonblocking(true).map_err(named)?;
        TcpListener::from_std(listener).and_then(|listener| Self::on(listener, board, health)).map_err(named)
    }

    fn on(listener: TcpListener, board: Arc<Board>, health: Health) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let site = Site { board, health, web: None, open: Arc::new(Entrance::open()) };
        Ok(Self { listener, address, site })
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

    /// Answers until `stop`, then finishes what is in flight.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, site, .. } = self;
        let site = Arc::new(site);
        let mut places = Places::new(CONNECTIONS);
        let mut connections = JoinSet::new();
        // Accepted, and without a place.
        let mut arrived = None;
        let mut archive = std::pin::pin!(site.board.keep_archive_fresh());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                stream = accept(&listener), if arrived.is_none() => {
                    places.make_room();
                    arrived = Some(stream);
                }
                place = places.take(), if arrived.is_some() => {
                    if let Some(stream) = arrived.take() {
                        connections.spawn(attend(stream, place, Arc::clone(&site), stop.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
                never = &mut archive => match never {},
            }
        }
        drop(listener);
        places.clear();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "accepting an HTTP connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection, unless it has to give up its place before the first of them.
async fn attend(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    place: Arc<Place>,
    site: Arc<Site>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = let_in(stream, &place, &site, &stop) => {}
        () = place.dismissed() => tracing::debug!("an HTTP connection without a request has given up its place"),
    }
}

/// Lets a connection in, by TLS where that is asked for, and answers its requests.
async fn let_in(stream: impl AsyncRead + AsyncWrite + Unpin, place: &Place, site: &Site, stop: &CancellationToken) {
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
    place: &Place,
    entrance: &Entrance,
    site: &Site,
    stop: &CancellationToken,
) {
    let service = service_fn(async |request| {
        let is_last = place.has_asked();
        let mut response = respond(site, &request).await;
        if is_last {
            // The house is full, so nobody stays: others wait for their turn.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
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
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    /// A client whose connection is attended to, and of whose answers so many bytes can be on the way.
    fn client(on_the_way: usize) -> (DuplexStream, JoinHandle<()>) {
        let (server, client) = tokio::io::duplex(on_the_way);
        let board = Arc::new(Board::new().unwrap());
        let site = Site { board, health: Health::new(LIFETIME * 2), web: None, open: Arc::new(Entrance::open()) };
        let place = Places::new(2).take().now_or_never().unwrap();
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
