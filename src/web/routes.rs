//! Which request gets which response. No request changes anything, and nothing here uses sockets.
//!
//! `/healthz` and `/readyz` need no login: kubelet and load balancers send no credentials (a pod's manifest would have
//! to contain them), and these responses name no key.
//!
//! The table of routes is kept by hand because it has five fixed paths: a router crate would be more code than the
//! match.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::access_control::{AccessControl, WebFile};
use super::body::Content;
use super::encoding::accepts_gzip;
use super::health::Health;
use super::host;
use super::login::LoginOutcome;
use super::slots::Slot;
use super::status::{Current, StatusStore};
use crate::metrics::Archive;
use crate::views::page;
use crate::views::query::{KEYS, PageQuery, parse_key_address};
use crate::views::snapshot::Snapshot;
use crate::views::status_json::StatusDocument;

const PLAIN: &str = "text/plain; charset=utf-8";
/// The text format's version is part of its type: Prometheus 3 refuses an answer without one.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What all responses are made from.
pub(super) struct ServerState {
    pub(super) store: Arc<StatusStore>,
    pub(super) health: Health,
    /// The web configuration file, if there is one.
    pub(super) web: Option<WebFile>,
    /// The access control without such a file.
    pub(super) open: Arc<AccessControl>,
    /// One large answer begins at a time, since that takes long with many keys or projects.
    pub(super) turn: Semaphore,
    /// Only this machine can connect.
    pub(super) on_loopback: bool,
    /// The name in `--listen`, if it is not an address.
    pub(super) name: Option<Box<str>>,
}

impl ServerState {
    /// A state that shows this store without a login.
    pub(super) fn open(store: Arc<StatusStore>, health: Health) -> Self {
        let (open, turn) = (Arc::new(AccessControl::open()), Semaphore::new(1));
        Self { store, health, web: None, open, turn, on_loopback: false, name: None }
    }

    /// Waits until a large answer may begin. Many at once would occupy the only thread one after the other; so other
    /// tasks run in between. None if the semaphore was closed, which it never is.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.turn.acquire().await.ok();
        tokio::task::yield_now().await;
        turn
    }

    /// The access control in force.
    pub(super) fn access_control(&self) -> Arc<AccessControl> {
        self.web.as_ref().map_or_else(|| Arc::clone(&self.open), WebFile::access_control)
    }
}

/// The response to a request. The request's body is not read.
pub(super) async fn respond<B>(state: &ServerState, request: &Request<B>, slot: &Arc<Slot>) -> Response<Content> {
    let mut response = match refusal(state, request).await {
        Some(refusal) => refusal,
        None => answer(state, request, slot).await,
    };
    set(&mut response, CACHE_CONTROL, "no-store");
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

/// The response to a request that is not admitted.
async fn refusal<B>(state: &ServerState, request: &Request<B>) -> Option<Response<Content>> {
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return None;
    }
    if state.on_loopback
        && state.web.is_none()
        && !host::is_own(request.version(), request.headers(), state.name.as_deref())
    {
        return Some(line(
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header must be localhost, a loopback address or the name in --listen; a reverse proxy has to set it",
        ));
    }
    let access_control = state.access_control();
    let mut refusal = match access_control.logins.judge(request.headers()).await {
        LoginOutcome::Allowed => return None,
        LoginOutcome::Refused => {
            let mut refusal = line(StatusCode::UNAUTHORIZED, "authentication required");
            for challenge in access_control.logins.challenges() {
                refusal.headers_mut().append(WWW_AUTHENTICATE, challenge);
            }
            refusal
        }
        LoginOutcome::Busy => busy("too many passwords wait to be checked; ask again later"),
    };
    // Each wrong password costs its client a new connection.
    set(&mut refusal, CONNECTION, "close");
    Some(refusal)
}

async fn answer<B>(state: &ServerState, request: &Request<B>, slot: &Arc<Slot>) -> Response<Content> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        match request.uri().path() {
            "/healthz" => healthz(state),
            "/readyz" => readyz(state),
            path if matches!(path, "/" | "/metrics" | "/api/v1/status") || path.starts_with(KEYS) => {
                let Some(permit) = slot.large_answer() else {
                    return busy("too many answers are being sent; ask again later");
                };
                let response = match path {
                    "/" => status_page(state, request).await,
                    "/metrics" => metrics(state, request).await,
                    "/api/v1/status" => status_document(state).await,
                    key => key_page(state, request, key.strip_prefix(KEYS).unwrap_or_default()).await,
                };
                response.map(|content| content.holding(permit))
            }
            _ => line(
                StatusCode::NOT_FOUND,
                "not found; try /, /keys/PROJECT/KEY_ID, /metrics, /api/v1/status, /healthz, /readyz",
            ),
        }
    } else {
        let mut refusal = line(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
        set(&mut refusal, ALLOW, "GET, HEAD");
        refusal
    }
}

/// The response when a limit of the server is reached.
fn busy(text: &str) -> Response<Content> {
    let mut refusal = line(StatusCode::SERVICE_UNAVAILABLE, text);
    set(&mut refusal, RETRY_AFTER, "10");
    refusal
}

async fn status_document(state: &ServerState) -> Response<Content> {
    let _turn = state.turn().await;
    let current = state.store.current();
    with(StatusCode::OK, "application/json", Content::document(StatusDocument::of_daemon(&current.snapshot)))
}

async fn status_page<B>(state: &ServerState, request: &Request<B>) -> Response<Content> {
    let query = PageQuery::parse(request.uri().query().unwrap_or_default());
    html(state, request, move |snapshot| Some(page::status_page(snapshot, &query))).await
}

async fn key_page<B>(state: &ServerState, request: &Request<B>, address: &str) -> Response<Content> {
    let Some((project, key)) = parse_key_address(address) else { return no_such_key() };
    if !state.store.has_key(&project, &key) {
        return no_such_key();
    }
    let history = state.store.history(&project, &key).await;
    html(state, request, move |snapshot| page::key_page(snapshot, &project, &key, &history)).await
}

fn no_such_key() -> Response<Content> {
    line(StatusCode::NOT_FOUND, "the last run has no such key; / lists all keys")
}

/// A page of HTML as its reader gets it.
struct Html {
    /// Changes whenever the page changes.
    tag: HeaderValue,
    /// Nothing if the reader has the page already.
    body: Option<Vec<Bytes>>,
    is_gzip: bool,
}

impl Html {
    fn new(page: Vec<u8>, known: Option<&HeaderValue>, gzips: bool) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        page.hash(&mut hasher);
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).ok()?;
        // A proxy that compresses answers makes the tag a weak one.
        if known.is_some_and(|known| known.as_bytes().strip_prefix(b"W/").unwrap_or(known.as_bytes()) == tag.as_bytes())
        {
            return Some(Self { tag, body: None, is_gzip: false });
        }
        // No cause is known why compressing could fail.
        let compressed = if gzips { Archive::preceded_by(None, &page).ok() } else { None };
        let is_gzip = compressed.is_some();
        Some(Self { tag, body: Some(compressed.unwrap_or_else(|| vec![page.into()])), is_gzip })
    }
}

/// Answers with a page of HTML, or with 304 if its reader has it already. The page is made on another thread: sorting
/// 100 000 keys takes a while.
async fn html<B>(
    state: &ServerState,
    request: &Request<B>,
    make: impl FnOnce(&Snapshot) -> Option<Vec<u8>> + Send + 'static,
) -> Response<Content> {
    let _turn = state.turn().await;
    let (snapshot, gzips) = (state.store.for_page(), accepts_gzip(request.headers()));
    let known = request.headers().get(IF_NONE_MATCH).cloned();
    let page = tokio::task::spawn_blocking(move || Html::new(make(&snapshot)?, known.as_ref(), gzips)).await;
    let Html { tag, body, is_gzip } = match page {
        Ok(Some(page)) => page,
        Ok(None) => return no_such_key(),
        Err(error) => {
            tracing::error!(%error, "making the page failed");
            return line(StatusCode::INTERNAL_SERVER_ERROR, "making the page failed; the log has the reason");
        }
    };
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::NOT_MODIFIED };
    let mut response = with(status, "text/html; charset=utf-8", Content::ready(body.unwrap_or_default()));
    response.headers_mut().insert(ETAG, tag);
    set(&mut response, VARY, "Accept-Encoding");
    set(&mut response, CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY);
    if is_gzip {
        set(&mut response, CONTENT_ENCODING, "gzip");
    }
    response
}

async fn metrics<B>(state: &ServerState, request: &Request<B>) -> Response<Content> {
    let current = state.store.current();
    let gzip = if accepts_gzip(request.headers()) { compressed_metrics(state, &current).await } else { None };
    let is_gzip = gzip.is_some();
    let content = match gzip {
        Some(content) => content,
        None => plain_metrics(state, &current).await,
    };
    let mut response = with(StatusCode::OK, METRICS, content);
    set(&mut response, VARY, "Accept-Encoding");
    if is_gzip {
        set(&mut response, CONTENT_ENCODING, "gzip");
    }
    response
}

fn live_metrics(state: &ServerState, current: &Current) -> Vec<u8> {
    let mut live = Vec::with_capacity(16 * 1024);
    state.store.metrics.write(&current.snapshot, &mut live);
    live
}

async fn plain_metrics(state: &ServerState, current: &Current) -> Content {
    let _turn = state.turn().await;
    let live = live_metrics(state, current);
    match &current.series {
        Some(series) => Content::document(series.plain()).preceded_by(live),
        None => Content::ready([live.into()]),
    }
}

/// Metrics as gzip. If that fails, of which no cause is known, the response is plain text.
async fn compressed_metrics(state: &ServerState, current: &Current) -> Option<Content> {
    let member = async {
        let archive = match &current.series {
            Some(series) => Some(series.archive().await?),
            None => None,
        };
        let _turn = state.turn().await;
        // After the wait for the archive, so that the counters are current.
        Archive::preceded_by(archive, &live_metrics(state, current))
    };
    match member.await {
        Ok(chunks) => Some(Content::ready(chunks)),
        Err(error) => {
            tracing::warn!(%error, "compressing the metrics failed");
            None
        }
    }
}

fn healthz(state: &ServerState) -> Response<Content> {
    match state.health.silence() {
        None => line(StatusCode::OK, "ok"),
        Some(silence) => {
            let text = format!("the daemon's loop has not responded for {} s", silence.as_secs());
            line(StatusCode::SERVICE_UNAVAILABLE, &text)
        }
    }
}

fn readyz(state: &ServerState) -> Response<Content> {
    let Current { snapshot, .. } = state.store.current();
    let missing = match (&snapshot.policy, &snapshot.report) {
        (Some(_), Some(_)) => return line(StatusCode::OK, "ok"),
        (None, _) => "no policy is loaded yet",
        (Some(_), None) => "the first run has not ended yet",
    };
    line(StatusCode::SERVICE_UNAVAILABLE, missing)
}

fn line(status: StatusCode, text: &str) -> Response<Content> {
    with(status, PLAIN, Content::ready([Bytes::from(format!("{text}\n"))]))
}

fn with(status: StatusCode, content_type: &'static str, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, content_type);
    response
}

fn set(response: &mut Response<Content>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::web::slots::ConnectionSlots;

    #[tokio::test]
    async fn health_does_not_wait_until_all_large_answers_are_begun() {
        let state =
            Arc::new(ServerState::open(Arc::new(StatusStore::new().unwrap()), Health::new(Duration::from_secs(60))));
        let answered = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut slots = ConnectionSlots::new(16, 16);
        let mut asking = tokio::task::JoinSet::new();
        let large = ["/metrics", "/", "/api/v1/status"].into_iter().cycle().take(15);
        for path in large.chain(["/healthz"]) {
            let (state, answered, slot) = (Arc::clone(&state), Arc::clone(&answered), slots.take().await);
            asking.spawn(async move {
                let request = Request::builder().uri(path).body(()).unwrap();
                assert_eq!(respond(&state, &request, &slot).await.status(), StatusCode::OK);
                answered.lock().unwrap().push(path);
            });
        }
        asking.join_all().await;
        assert_eq!(answered.lock().unwrap().iter().position(|path| *path == "/healthz"), Some(0));
    }
}
