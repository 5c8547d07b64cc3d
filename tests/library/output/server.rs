//! The HTTP server, on a free port of the loopback.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use kms_rotationd::kms::observe::{Code, Operation};
use kms_rotationd::rotation::decide::Status;
use kms_rotationd::rotation::project::PerKey;
use kms_rotationd::rotation::report::{KeyReport, Report};
use kms_rotationd::web::{Health, Server, StatusStore, WebFile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::documents::assert_golden;
use super::sample::{ENDED, account, many, one_of_each, project, report};

/// A server, and the state that a daemon passes to it.
pub(crate) struct Running {
    pub(crate) store: Arc<StatusStore>,
    pub(crate) health: Health,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

/// An answer, its head as text and its body without the framing.
pub(crate) struct Answer {
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::serving(|server| server).await
    }

    /// A server with this web configuration.
    pub(crate) async fn guarded_by(web: WebFile) -> Self {
        Self::serving(|server| server.guarded_by(web)).await
    }

    async fn serving(prepare: impl FnOnce(Server) -> Server) -> Self {
        Self::listening(([127, 0, 0, 1], 0).into(), prepare).await
    }

    async fn listening(at: SocketAddr, prepare: impl FnOnce(Server) -> Server) -> Self {
        let store = Arc::new(StatusStore::new().unwrap());
        let health = Health::new(Duration::from_secs(60));
        let server = Server::bind(at, Arc::clone(&store), health.clone()).await.unwrap();
        let server = prepare(server);
        let address = server.address();
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(stop.clone()));
        Self { store, health, address, stop, task }
    }

    /// A daemon that has loaded its policy and ended this run.
    pub(crate) async fn with(report: Arc<Report>) -> Self {
        let running = Self::start().await;
        let names: Vec<Arc<str>> = report.projects.iter().map(|project| Arc::clone(&project.name)).collect();
        let loaded = UNIX_EPOCH + ENDED - Duration::from_secs(60);
        running.store.policy_loaded(loaded, Path::new("/etc/kms-rotationd/policy.yaml"));
        running.store.policy_in_force(&names, PerKey::All, None);
        running.store.publish(report);
        running.store.next_run(Some(UNIX_EPOCH + ENDED + Duration::from_secs(1800)));
        running
    }

    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut answer = Answer { head, body: bytes[end + 4..].to_vec() };
        if answer.header("transfer-encoding") == Some("chunked") && !request.starts_with("HEAD") {
            answer.body = without_chunks(&answer.body);
        }
        answer
    }

    pub(crate) async fn get(&self, path: &str, headers: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        at_once(self.ask(&request)).await
    }
}

/// Does this while the paused clock stands still. By itself the clock advances when no task is ready, and a busy machine
/// needs a moment to pass bytes from one end of a connection to the other.
pub(crate) async fn at_once<T>(doing: impl Future<Output = T>) -> T {
    let mut doing = std::pin::pin!(doing);
    loop {
        tokio::select! {
            biased;
            done = &mut doing => return done,
            () = tokio::task::yield_now() => {}
        }
    }
}

fn without_chunks(mut framed: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = framed.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&framed[..line]).unwrap(), 16).unwrap();
        framed = &framed[line + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&framed[..size]);
        framed = &framed[size + 2..];
    }
}

pub(super) fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

/// Without the lines that change all the time.
fn steady(metrics: &str) -> String {
    let lines = metrics.lines().filter(|line| !line.contains("process_"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[tokio::test]
async fn readiness_waits_for_a_policy_and_the_first_run() {
    let running = Running::start().await;
    let answer = running.get("/readyz", "").await;
    assert_eq!((answer.status(), answer.text()), (503, "no policy is loaded yet\n"));
    running.store.policy_loaded(UNIX_EPOCH, Path::new("policy.yaml"));
    let answer = running.get("/readyz", "").await;
    assert_eq!((answer.status(), answer.text()), (503, "the first run has not ended yet\n"));
    running.store.publish(report(vec![]));
    let answer = running.get("/readyz", "").await;
    assert_eq!((answer.status(), answer.text()), (200, "ok\n"));
}

#[tokio::test(start_paused = true)]
async fn health_depends_on_the_loops_last_progress() {
    let running = Running::start().await;
    assert_eq!(running.get("/healthz", "").await.status(), 200);
    tokio::time::advance(Duration::from_secs(61)).await;
    let answer = running.get("/healthz", "").await;
    assert_eq!((answer.status(), answer.text()), (503, "the daemon's loop has not responded for 61 s\n"));
    running.health.beat();
    assert_eq!(running.get("/healthz", "").await.status(), 200);
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let running = Running::with(one_of_each()).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = running.ask(&format!("{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    for path in ["/nothing", "/metrics/", "/api/v1", "/../etc/passwd"] {
        assert_eq!(running.get(path, "").await.status(), 404, "{path}");
    }
    for path in ["/", "/metrics", "/healthz", "/readyz", "/api/v1/status"] {
        let answer =
            running.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.body.len()), (200, 0), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_host_name_for_the_loopback_is_refused() {
    let running = Running::with(one_of_each()).await;
    let ask = async |path: &str, host: &str| {
        let answer = running.ask(&format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{host}\r\n")).await;
        (answer.status(), answer.text().contains("payments"))
    };
    for path in ["/", "/metrics", "/api/v1/status", "/nothing"] {
        assert_eq!(ask(path, "Host: evil.example:9847\r\n").await, (421, false), "{path}");
        assert_eq!(ask(path, "").await, (421, false), "{path}");
        let own = format!("Host: {}\r\n", running.address);
        assert_ne!(ask(path, &own).await.0, 421, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(path, "Host: evil.example\r\n").await.0, 200, "{path}");
    }
    // Probes and scripts.
    let answer = running.ask("GET /metrics HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn the_host_name_in_listen_is_accepted_and_every_one_if_not_on_loopback() {
    let evil = "GET /metrics HTTP/1.1\r\nHost: KMS.internal:80\r\nConnection: close\r\n\r\n";
    for (prepare, status) in [
        (&(|server: Server| server) as &dyn Fn(Server) -> Server, 421),
        (&|server| server.called(Some("kms.internal")), 200),
    ] {
        assert_eq!(Running::serving(prepare).await.ask(evil).await.status(), status);
    }
    let everywhere = Running::listening(([0, 0, 0, 0], 0).into(), |server| server).await;
    assert_eq!(everywhere.ask(evil).await.status(), 200);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.yaml");
    std::fs::write(&path, "bearer_token_file: token\n").unwrap();
    std::fs::write(folder.path().join("token"), "t0ken\n").unwrap();
    let guarded = Running::guarded_by(WebFile::open(path, |_| None).unwrap()).await;
    let evil = evil.replace("\r\n\r\n", "\r\nAuthorization: Bearer t0ken\r\n\r\n");
    assert_eq!(guarded.ask(&evil).await.status(), 200);
}

#[tokio::test]
async fn every_answer_has_a_content_type_and_is_not_cached() {
    let running = Running::with(one_of_each()).await;
    let types = [
        ("/", "text/html; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/v1/status", "application/json"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/nothing", "text/plain; charset=utf-8"),
    ];
    for (path, content_type) in types {
        let answer = running.get(path, "").await;
        assert_eq!(answer.header("content-type"), Some(content_type), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    let policy = running.get("/", "").await.header("content-security-policy").unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn metrics_are_as_documented() {
    let running = Running::with(one_of_each()).await;
    let observer = running.store.observer(&"payments-prod".into());
    observer.request(Operation::Authenticate, Code::Http(201), Duration::from_millis(120));
    observer.request(Operation::ReadStatus, Code::Timeout, Duration::from_secs(8));
    observer.retry(Operation::ReadStatus, Code::Timeout);
    observer.operation(Operation::ReadStatus, false);
    observer.credentials_expire(Some(UNIX_EPOCH + ENDED + Duration::from_secs(86_400)));
    observer.clock_skew(-2);
    let text = steady(running.get("/metrics", "").await.text());
    assert_eq!(text.matches("# TYPE kms_rotation_").count(), 32, "every documented metric is there");
    assert_golden("metrics.txt", &text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[tokio::test]
async fn metrics_have_uncovered_and_missing_keys() {
    let running = Running::with(account()).await;
    let answer = running.get("/metrics", "").await;
    let covered = "project=\"account\",key_id=\"08d12e6b-000c-4d9c-b35d-2e6b76c84d11\"";
    let missing = "project=\"account\",key_id=\"alias/legacy-hsm\"";
    for line in [
        "kms_rotation_keys{project=\"account\",status=\"uncovered\"} 23".to_owned(),
        format!("kms_rotation_key_info{{{covered},alias=\"pay-00012\",entry=\"\"}} 1"),
        format!("kms_rotation_key_status{{{covered},status=\"uncovered\"}} 1"),
        format!("kms_rotation_key_finding{{{covered},reason=\"uncovered\"}} 1"),
        format!("kms_rotation_key_info{{{missing},alias=\"legacy-hsm\",entry=\"22\"}} 1"),
        format!("kms_rotation_key_finding{{{missing},reason=\"not_found\"}} 1"),
        "kms_rotation_key_finding{project=\"closed\",key_id=\"entry@44\",reason=\"read_failed\"} 1".to_owned(),
    ] {
        assert!(answer.text().lines().any(|written| written == line), "{line}");
    }
    assert!(!answer.text().contains(&format!("kms_rotation_key_policy_interval_seconds{{{covered}")));
}

#[tokio::test]
async fn series_of_keys_can_be_bounded_or_left_out() {
    let counts = async |per_key| {
        let running = Running::start().await;
        running.store.policy_in_force([], per_key, None);
        running.store.publish(one_of_each());
        assert_well_formed(&running).await;
        let text = running.get("/metrics", "").await.text().to_owned();
        assert!(text.contains("kms_rotation_findings{") && text.contains("kms_rotation_keys{"));
        let info = text.lines().filter(|line| line.starts_with("kms_rotation_key_info{")).count();
        let of_keys = text.lines().filter(|line| line.starts_with("kms_rotation_key_")).count();
        (info, of_keys)
    };
    let report = one_of_each();
    let keys = || report.keys().map(|(_, key)| key);
    let is_well = |key: &&KeyReport| key.reasons.is_empty() && matches!(key.status, Status::Compliant | Status::Exempt);
    let well = keys().filter(is_well).count();
    assert!(well > 0 && well < keys().count());
    assert_eq!(counts(PerKey::All).await.0, keys().count());
    assert_eq!(counts(PerKey::Problems).await.0, keys().count() - well);
    assert_eq!(counts(PerKey::None).await, (0, 0));
}

#[tokio::test]
async fn metric_families_are_contiguous_and_series_unique() {
    for report in [many(400), account()] {
        assert_well_formed(&Running::with(report).await).await;
    }
}

async fn assert_well_formed(running: &Running) {
    let answer = running.get("/metrics", "").await;
    let mut families: Vec<&str> = Vec::new();
    let mut series = std::collections::HashSet::new();
    for line in answer.text().lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let name = kind.split(' ').next().unwrap();
            assert!(!families.contains(&name), "{name} begins twice");
            families.push(name);
        } else if !line.starts_with('#') {
            let (labelled, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(labelled.starts_with(families.last().unwrap()), "{line} is not in its family");
            assert!(series.insert(labelled), "{line} comes twice");
        }
    }
}

#[tokio::test]
async fn before_the_first_run_there_are_counters_and_no_keys() {
    let running = Running::start().await;
    running.store.policy_in_force(&["p".into()], PerKey::All, None);
    for headers in ["", "Accept-Encoding: gzip\r\n"] {
        let answer = running.get("/metrics", headers).await;
        let text = if headers.is_empty() { answer.text().to_owned() } else { gunzip(&answer.body) };
        assert!(text.contains("kms_rotation_last_run_timestamp_seconds 0\n"));
        assert!(text.contains("kms_rotation_requests_total{project=\"p\",operation=\"read_status\",code=\"200\"} 0\n"));
        assert!(!text.contains("kms_rotation_key"));
    }
}

#[tokio::test]
async fn gzip_and_plain_metrics_are_equal() {
    let running = Running::with(many(3_000)).await;
    let plain = running.get("/metrics", "Accept-Encoding: gzip;q=0\r\n").await;
    assert_eq!(plain.header("content-encoding"), None);
    for _ in 0..2 {
        let packed = running.get("/metrics", "Accept-Encoding: deflate, gzip\r\n").await;
        assert_eq!((packed.header("content-encoding"), packed.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
        assert_eq!(packed.header("content-length"), Some(&*packed.body.len().to_string()));
        assert!(packed.body.len() * 4 < plain.body.len());
        assert!(steady(&gunzip(&packed.body)) == steady(plain.text()));
    }
}

#[tokio::test]
async fn a_new_report_replaces_the_old_one_everywhere() {
    let running = Running::with(many(100)).await;
    running.get("/metrics", "Accept-Encoding: gzip\r\n").await;
    let mode = kms_rotationd::rotation::project::Mode::Enforce;
    running.store.policy_in_force(&["next".into()], PerKey::All, None);
    running.store.publish(report(vec![project("next", mode, vec![super::sample::compliant(7)])]));
    for headers in ["", "Accept-Encoding: gzip\r\n"] {
        let answer = running.get("/metrics", headers).await;
        let text = if headers.is_empty() { answer.text().to_owned() } else { gunzip(&answer.body) };
        assert!(text.contains("kms_rotation_keys{project=\"next\",status=\"compliant\"} 1\n"));
        assert!(!text.contains("payments") && !text.contains("archive"));
    }
}

#[tokio::test]
async fn the_status_document_is_as_documented() {
    let running = Running::with(one_of_each()).await;
    let problems = serde_json::json!([{"file": "policy.yaml", "line": 3, "column": 9, "message": "invalid cron"}]);
    running.store.reload_failed("policy.yaml:3:9: invalid cron".to_owned(), problems);
    let answer = running.get("/api/v1/status", "").await;
    serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap();
    assert_golden("status.json", &answer.text().replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

/// The document that a daemon shows after this run.
pub(crate) async fn document_of(report: Arc<Report>) -> serde_json::Value {
    let answer = Running::with(report).await.get("/api/v1/status", "").await;
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn the_status_document_has_null_before_the_first_run() {
    let running = Running::start().await;
    let answer = running.get("/api/v1/status", "").await;
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(document["policy"].is_null() && document["run"].is_null() && document["next_run_at"].is_null());
    assert_eq!(document["projects"], serde_json::json!([]));
    assert_eq!(document["summary"]["unknown"], 0);
}
