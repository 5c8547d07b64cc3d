//! The HTTP server: connections, their limits, and their end. What is answered is in `routes`.
//!
//! An own accept loop over hyper, because the limits are the point: a bounded number of connections, each with a time
//! for TLS, for a request's head and for taking the answer, and a stop that waits for answers in flight, but not for
//! ever. Who gets in, and whether in TLS, is for `entrance` to say. `run` and `rehearse` bind it before the first run and let it serve until the daemon stops.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Health};
use super::entrance::{Entrance, WebFile};
use super::routes::{Site, respond};
use super::stall::StallGuard;

/// Connections at a time: a handful of Prometheus servers, probes and people; the next ones wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// The time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a request's head, and for the next request on a connection that is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which a client must take some of what is sent to it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
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
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut archive = std::pin::pin!(site.board.keep_archive_fresh());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &slots) => match accepted {
                    Some((stream, slot)) => {
                        connections.spawn(attend(stream, slot, Arc::clone(&site), stop.clone()));
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                () = &mut archive => {}
            }
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// The next connection, once there is room for it; nothing when there will be none.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, slot)),
            Err(error) => {
                tracing::warn!(%error, "accepting an HTTP connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Lets a connection in, by TLS where that is asked for, and answers its requests.
async fn attend(stream: TcpStream, slot: OwnedSemaphorePermit, site: Arc<Site>, stop: CancellationToken) {
    let entrance = site.entrance();
    let stream = StallGuard::new(stream, STALL_TIMEOUT);
    let Some(tls) = &entrance.tls else { return answer(stream, &slot, &entrance, &site, &stop).await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => answer(stream, &slot, &entrance, &site, &stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Answers the requests of one connection.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    slot: &OwnedSemaphorePermit,
    entrance: &Entrance,
    site: &Site,
    stop: &CancellationToken,
) {
    let service = service_fn(async |request| {
        let mut response = respond(site, &request).await;
        if slot.semaphore().available_permits() == 0 {
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
    // Whatever ends a connection is its client's affair; the server has nothing to do about it.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = entrance.retired.cancelled() => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
