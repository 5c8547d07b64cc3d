//! Which request gets which answer. Nothing here changes anything, and nothing here knows of sockets.
//!
//! `/healthz` and `/readyz` are answered to everybody: kubelet and load balancers ask them without credentials (those
//! that a pod's probe can send would stand in its manifest), and they tell of no key.

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Mutex, MutexGuard};

use super::access_control::{Entrance, WebFile};
use super::body::Content;
use super::encoding::accepts_gzip;
use super::health::Health;
use super::host;
use super::login::Verdict;
use super::slots::Place;
use super::status::{Current, StatusStore};
use crate::metrics::Archive;
use crate::views::filter::Filter;
use crate::views::page::{self, Page};
use crate::views::status_json::StatusDocument;

const PLAIN: &str = "text/plain; charset=utf-8";
/// The text format's version is part of its type: Prometheus 3 refuses an answer without one.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the answers are made from.
pub(super) struct Site {
    pub(super) store: Arc<StatusStore>,
    pub(super) health: Health,
    /// Who gets in; everybody where there is no such file.
    pub(super) web: Option<WebFile>,
    pub(super) open: Arc<Entrance>,
    /// Held while a large answer is begun, which takes a while where there are many keys or projects.
    pub(super) turn: Mutex<()>,
    /// Only this machine can connect.
    pub(super) on_loopback: bool,
    /// The name that the daemon was told to listen on, where it was one.
    pub(super) name: Option<Box<str>>,
}

impl Site {
    /// A site that shows this store to everybody, without a password.
    pub(super) fn open(store: Arc<StatusStore>, health: Health) -> Self {
        let (open, turn) = (Arc::new(Entrance::open()), Mutex::new(()));
        Self { store, health, web: None, open, turn, on_loopback: false, name: None }
    }

    /// Waits for the turn to begin a large answer. Many of them at once would keep the only thread busy one after the
    /// other: in this way everything else that is ready runs in between.
    async fn turn(&self) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock().await;
        tokio::task::yield_now().await;
        turn
    }

    /// What is in force for who comes now.
    pub(super) fn entrance(&self) -> Arc<Entrance> {
        self.web.as_ref().map_or_else(|| Arc::clone(&self.open), WebFile::entrance)
    }
}

/// The answer to a request. The request's body is not looked at.
pub(super) async fn respond<B>(site: &Site, request: &Request<B>, place: &Arc<Place>) -> Response<Content> {
    let mut response = match refusal(site, request).await {
        Some(refusal) => refusal,
        None => answer(site, request, place).await,
    };
    set(&mut response, CACHE_CONTROL, "no-store");
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

/// The answer to a client that may not ask.
async fn refusal<B>(site: &Site, request: &Request<B>) -> Option<Response<Content>> {
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return None;
    }
    if site.on_loopback
        && site.web.is_none()
        && !host::is_own(request.version(), request.headers(), site.name.as_deref())
    {
        return Some(line(
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header must be localhost, a loopback address or the name in --listen; a reverse proxy has to set it",
        ));
    }
    let entrance = site.entrance();
    let mut refusal = match entrance.access.judge(request.headers()).await {
        Verdict::Allowed => return None,
        Verdict::Refused => {
            let mut refusal = line(StatusCode::UNAUTHORIZED, "authentication required");
            for challenge in entrance.access.challenges() {
                refusal.headers_mut().append(WWW_AUTHENTICATE, challenge);
            }
            refusal
        }
        Verdict::Busy => {
            let mut refusal = line(StatusCode::SERVICE_UNAVAILABLE, "too many passwords wait to be checked");
            set(&mut refusal, RETRY_AFTER, "10");
            refusal
        }
    };
    // Who tries many passwords queues for a connection with each of them.
    set(&mut refusal, CONNECTION, "close");
    Some(refusal)
}

async fn answer<B>(site: &Site, request: &Request<B>, place: &Arc<Place>) -> Response<Content> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        match request.uri().path() {
            "/healthz" => healthz(site),
            "/readyz" => readyz(site),
            path @ ("/" | "/metrics" | "/api/v1/status") => {
                let Some(permission) = place.large_answer() else { return too_many() };
                let response = match path {
                    "/" => status_page(site, request).await,
                    "/metrics" => metrics(site, request).await,
                    _ => status_document(site).await,
                };
                response.map(|content| content.holding(permission))
            }
            _ => line(StatusCode::NOT_FOUND, "not found; try /, /metrics, /api/v1/status, /healthz, /readyz"),
        }
    } else {
        let mut refusal = line(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
        set(&mut refusal, ALLOW, "GET, HEAD");
        refusal
    }
}

/// The answer where as many large answers as may be are under way.
fn too_many() -> Response<Content> {
    let mut refusal = line(StatusCode::SERVICE_UNAVAILABLE, "too many answers are being sent; ask again later");
    set(&mut refusal, RETRY_AFTER, "10");
    refusal
}

async fn status_document(site: &Site) -> Response<Content> {
    let _turn = site.turn().await;
    let current = site.store.current();
    with(StatusCode::OK, "application/json", Content::document(StatusDocument::of_daemon(&current.snapshot)))
}

async fn status_page<B>(site: &Site, request: &Request<B>) -> Response<Content> {
    let _turn = site.turn().await;
    let filter = Filter::parse(request.uri().query().unwrap_or_default());
    let page = Page::new(&site.store.current().snapshot, filter);
    let mut response = with(StatusCode::OK, "text/html; charset=utf-8", Content::document(page));
    set(&mut response, CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY);
    response
}

async fn metrics<B>(site: &Site, request: &Request<B>) -> Response<Content> {
    let current = site.store.current();
    let gzip = if accepts_gzip(request.headers()) { compressed_metrics(site, &current).await } else { None };
    let is_gzip = gzip.is_some();
    let content = match gzip {
        Some(content) => content,
        None => plain_metrics(site, &current).await,
    };
    let mut response = with(StatusCode::OK, METRICS, content);
    set(&mut response, VARY, "Accept-Encoding");
    if is_gzip {
        set(&mut response, CONTENT_ENCODING, "gzip");
    }
    response
}

fn live_metrics(site: &Site, current: &Current) -> Vec<u8> {
    let mut live = Vec::with_capacity(16 * 1024);
    site.store.metrics.write(&current.snapshot, &mut live);
    live
}

async fn plain_metrics(site: &Site, current: &Current) -> Content {
    let _turn = site.turn().await;
    let live = live_metrics(site, current);
    match &current.series {
        Some(series) => Content::document(series.plain()).preceded_by(live),
        None => Content::ready([live.into()]),
    }
}

/// Metrics as gzip; where that fails, which nothing is known to cause, plain text serves as well.
async fn compressed_metrics(site: &Site, current: &Current) -> Option<Content> {
    let member = async {
        let archive = match &current.series {
            Some(series) => Some(series.archive().await?),
            None => None,
        };
        let _turn = site.turn().await;
        // After the wait for the archive, so that the counters are of now.
        Archive::preceded_by(archive, &live_metrics(site, current))
    };
    match member.await {
        Ok(chunks) => Some(Content::ready(chunks)),
        Err(error) => {
            tracing::warn!(%error, "compressing the metrics failed");
            None
        }
    }
}

fn healthz(site: &Site) -> Response<Content> {
    match site.health.silence() {
        None => line(StatusCode::OK, "ok"),
        Some(silence) => {
            let text = format!("the daemon's loop has not responded for {} s", silence.as_secs());
            line(StatusCode::SERVICE_UNAVAILABLE, &text)
        }
    }
}

fn readyz(site: &Site) -> Response<Content> {
    let Current { snapshot, .. } = site.store.current();
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
    use crate::web::slots::Places;

    #[tokio::test]
    async fn health_does_not_wait_until_all_large_answers_are_begun() {
        let site = Arc::new(Site::open(Arc::new(StatusStore::new().unwrap()), Health::new(Duration::from_secs(60))));
        let answered = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut places = Places::new(16, 16);
        let mut asking = tokio::task::JoinSet::new();
        let large = ["/metrics", "/", "/api/v1/status"].into_iter().cycle().take(15);
        for path in large.chain(["/healthz"]) {
            let (site, answered, place) = (Arc::clone(&site), Arc::clone(&answered), places.take());
            asking.spawn(async move {
                let request = Request::builder().uri(path).body(()).unwrap();
                assert_eq!(respond(&site, &request, &place).await.status(), StatusCode::OK);
                answered.lock().unwrap().push(path);
            });
        }
        asking.join_all().await;
        assert_eq!(answered.lock().unwrap().iter().position(|path| *path == "/healthz"), Some(0));
    }
}
