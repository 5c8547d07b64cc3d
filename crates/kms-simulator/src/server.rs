//! The HTTP server: accepts connections, reads requests, passes them to the [`World`] and sends the answers, with or
//! without faults.
//!
//! It has its own accept loop for limits and for resets: a reset is a socket closed without lingering, and only the
//! owner of the socket can do that.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::answer::{Delivery, Reply};
use super::route::Service;
use super::world::{self, World};

/// Number of open connections; others wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// Longest accepted request body, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// Time for a request's body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type Shared = Arc<Mutex<World>>;

/// Held for one request or one inspection, never across an `await`. A test that panics under it leaves the world
/// consistent, so poisoning is ignored.
pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until the future is dropped; that closes all connections.
pub(super) async fn serve(listener: TcpListener, world: Shared, idle_timeout: Duration) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(idle_timeout);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    // Do not delay small answers. A failure is harmless.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, http.clone(), Arc::clone(&world)));
                }
                Err(error) => {
                    tracing::warn!(%error, "simulator cannot accept a connection");
                    // Probably out of file descriptors: wait until some are closed.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, http: http1::Builder, world: Shared) {
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket { stream, reset: Arc::clone(&reset) };
    let service = service_fn(|request| answer(request, &world, &reset));
    if let Err(error) = http.serve_connection(TokioIo::new(socket), service).await {
        tracing::debug!(%error, "simulator's connection ended early");
    }
}

/// Ends the connection without an answer.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for Broken {}

async fn answer(
    request: Request<Incoming>,
    world: &Mutex<World>,
    reset: &Arc<AtomicBool>,
) -> Result<Response<Outgoing>, Broken> {
    let (head, body) = request.into_parts();
    let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, read(body)).await else { return Err(Broken) };
    let reply = lock(world).respond(&world::Request {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        body: body.as_deref(),
    });
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    if let Some(hold) = &reply.hold {
        hold.released().await;
    }
    match reply.delivery {
        Delivery::Reset => {
            reset.store(true, Ordering::Relaxed);
            Err(Broken)
        }
        Delivery::Hang => std::future::pending().await,
        Delivery::Whole | Delivery::CutOff { .. } | Delivery::Drip(_) => Ok(response(reply, reset)),
    }
}

/// The body; `None` if it is too long.
async fn read(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Ok(None);
    }
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len() + whole.len() + data.len() > MAX_BODY {
            return Ok(None);
        }
        // Nearly every body comes in one piece, which then is not copied.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(Some(if whole.is_empty() { first } else { whole.into() }))
}

fn response(reply: Reply, reset: &Arc<AtomicBool>) -> Response<Outgoing> {
    let Reply { answer, delivery, request_id, service, date, .. } = reply;
    let length = answer.body.len();
    let body = match delivery {
        Delivery::CutOff { reset: by_reset } => {
            let reset = by_reset.then(|| Arc::clone(reset));
            Outgoing::Half { half: Some(answer.body.slice(..length / 2)), flushed: false, reset }
        }
        Delivery::Drip(pause) => {
            Outgoing::Drip { left: answer.body, pause, sleep: Box::pin(tokio::time::sleep(pause)) }
        }
        _ => Outgoing::Whole(answer.body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type.as_str()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let mut insert = |name: &'static str, value: &str| {
        // Only tests set invalid values: left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    insert(DATE.as_str(), &date);
    if service != Some(Service::Metadata) {
        insert("x-request-id", &request_id);
    }
    if service == Some(Service::Iam) {
        insert("x-iam-trace-id", &request_id);
    }
    if let Some(token) = &answer.subject_token {
        insert("x-subject-token", token);
    }
    if let Some(text) = &answer.retry_after {
        insert(RETRY_AFTER.as_str(), text);
    }
    response
}

/// A body that is being sent.
enum Outgoing {
    Whole(Bytes),
    Half {
        half: Option<Bytes>,
        /// hyper has had the chance to send the first half.
        flushed: bool,
        reset: Option<Arc<AtomicBool>>,
    },
    Drip {
        left: Bytes,
        pause: Duration,
        sleep: Pin<Box<Sleep>>,
    },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => frame(std::mem::take(bytes)),
            Self::Half { half, flushed, reset } => {
                if let Some(half) = half.take() {
                    return frame(half);
                }
                if !*flushed {
                    *flushed = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if let Some(reset) = reset {
                    reset.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Some(Err(Broken)))
            }
            Self::Drip { left, .. } if left.is_empty() => Poll::Ready(None),
            Self::Drip { left, pause, sleep } => {
                ready!(sleep.as_mut().poll(cx));
                sleep.as_mut().reset(tokio::time::Instant::now() + *pause);
                frame(left.split_to(1))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Half { .. } => false,
            Self::Drip { left, .. } => left.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) | Self::Drip { left: bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Half { .. } => SizeHint::default(),
        }
    }
}

/// A connection's socket; closed by a reset if `reset` is set.
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // If it fails, the client sees an orderly end in mid-answer, which is a fault too.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
