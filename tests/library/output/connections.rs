//! The server's connections: slow ones, idle ones, too many of them, and shutdown.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use kms_rotationd::web::{Server, WebFile};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::sample::many;
use super::server::{Running, at_once};

const HALF_A_REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost:";
/// The limit of connections.
const CONNECTIONS: usize = 128;
/// The limit of concurrent large answers.
const LARGE_ANSWERS: usize = 32;
/// The header of a TLS record of 512 bytes.
const HALF_A_HANDSHAKE: &[u8] = &[22, 3, 1, 2, 0, 1];

/// A TLS server, and a client that trusts it.
async fn speaking_tls() -> (Running, TlsConnector) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["daemon.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.yaml");
    fs::write(folder.path().join("server.crt"), cert.pem()).unwrap();
    fs::write(folder.path().join("server.key"), signing_key.serialize_pem()).unwrap();
    fs::write(&path, "tls_server_config: {cert_file: server.crt, key_file: server.key}\n").unwrap();
    let running = Running::guarded_by(WebFile::open(path, |_| None).unwrap()).await;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    (running, TlsConnector::from(Arc::new(config)))
}

/// Seconds until the server closes the connection; its output is ignored.
async fn ends_after(mut stream: impl AsyncRead + Unpin) -> u64 {
    let begun = Instant::now();
    // A reset and a missing TLS close count too.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    begun.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_request_times_out() {
    let running = Running::start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(HALF_A_REQUEST).await.unwrap();
    assert_eq!(ends_after(stream).await, 10);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_tls_handshake_times_out() {
    let (running, guest) = speaking_tls().await;
    let silent = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(ends_after(silent).await, 10);
    let mut half_a_handshake = TcpStream::connect(running.address).await.unwrap();
    half_a_handshake.write_all(HALF_A_HANDSHAKE).await.unwrap();
    assert_eq!(ends_after(half_a_handshake).await, 10);
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut half_a_request = guest.connect(ServerName::try_from("daemon.test").unwrap(), stream).await.unwrap();
    half_a_request.write_all(HALF_A_REQUEST).await.unwrap();
    half_a_request.flush().await.unwrap();
    assert_eq!(ends_after(half_a_request).await, 10);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let running = Running::start().await;
    let heads = [
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "a".repeat(256 * 1024)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}", "X: a\r\n".repeat(1_000)),
        format!("GET /{}", "a".repeat(256 * 1024)),
    ];
    for head in heads {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        // The server may refuse it before everything is sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        // A reset can lose the refusal, but there is never another answer.
        if stream.read_exact(&mut answer).await.is_ok() {
            assert!(matches!(&answer, b"HTTP/1.1 431" | b"HTTP/1.1 414"), "{}", String::from_utf8_lossy(&answer));
        }
        ends_after(stream).await;
    }
    assert_eq!(running.get("/healthz", "").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_times_out() {
    let running = Running::start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let begun = Instant::now();
    // More answers than fit into the system's buffers, so that the server cannot send them.
    let requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(4_000);
    while stream.write_all(&requests).await.is_ok() {}
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(running.get("/healthz", "").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn requests_are_served_while_idle_connections_use_every_slot() {
    let running = Running::start().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let begun = Instant::now();
    assert_eq!(running.get("/healthz", "").await.status(), 200);
    assert_eq!(begun.elapsed().as_secs(), 0);
    // Only the oldest connection is closed.
    assert_eq!(at_once(ends_after(silent.remove(0))).await, 0);
    assert_eq!(ends_after(silent.remove(0)).await, 10);
}

#[tokio::test(start_paused = true)]
async fn tls_clients_are_served_while_idle_connections_use_every_slot() {
    let (running, guest) = speaking_tls().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let begun = Instant::now();
    let stream = TcpStream::connect(running.address).await.unwrap();
    at_once(guest.connect(ServerName::try_from("daemon.test").unwrap(), stream)).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
    // Only the oldest connection is closed.
    assert_eq!(at_once(ends_after(silent.remove(0))).await, 0);
    assert_eq!(ends_after(silent.remove(0)).await, 10);
}

/// The health endpoints answer at once.
async fn assert_health_is_answered_at_once(running: &Running) {
    let begun = Instant::now();
    assert_eq!(running.get("/healthz", "").await.status(), 200);
    assert_eq!(running.get("/readyz", "").await.status(), 200);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn health_is_answered_at_once_while_others_read_large_answers_slowly() {
    let running = Running::with(many(10_000)).await;
    let mut slow = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        // More than fits into the system's buffers.
        let mut status = [0; 12];
        at_once(async {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            stream.read_exact(&mut status).await.unwrap();
        })
        .await;
        slow.push((stream, status));
        assert_eq!(slow.iter().filter(|(_, status)| status == b"HTTP/1.1 200").count(), slow.len().min(LARGE_ANSWERS));
    }
    assert!(slow.iter().skip(LARGE_ANSWERS).all(|(_, status)| status == b"HTTP/1.1 503"));
    assert_health_is_answered_at_once(&running).await;
    let refused = running.get("/metrics", "").await;
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("10")));
    // No large answer was cut off, and after one has ended another one can start.
    let mut whole = Vec::new();
    let mut first = slow.remove(0).0;
    at_once(async {
        while !whole.ends_with(b"\r\n0\r\n\r\n") {
            assert!(first.read_buf(&mut whole).await.unwrap() > 0, "it ends before its end");
        }
    })
    .await;
    assert_eq!(running.get("/metrics", "").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn health_is_answered_at_once_while_others_stay_or_do_not_read() {
    let running = Running::with(many(1)).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for more in [0, 800] {
        let mut others = Vec::new();
        for _ in 0..CONNECTIONS {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(2048).unwrap();
            let mut stream = socket.connect(running.address).await.unwrap();
            at_once(async {
                stream.write_all(request).await.unwrap();
                stream.read_exact(&mut [0; 12]).await.unwrap();
                stream.write_all(&request.repeat(more)).await.unwrap();
            })
            .await;
            others.push(stream);
        }
        assert_health_is_answered_at_once(&running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_is_idle_for_longest_is_closed() {
    let running = Running::start().await;
    let mut staying = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        at_once(async {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            stream.read_exact(&mut [0; 1]).await.unwrap();
        })
        .await;
        staying.push(stream);
    }
    assert_eq!(running.get("/healthz", "").await.status(), 200);
    assert_eq!(at_once(ends_after(staying.remove(0))).await, 0);
    assert_eq!(ends_after(staying.remove(0)).await, 10);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let running = Running::start().await;
    let refused =
        Server::bind(running.address, Arc::clone(&running.store), running.health.clone()).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    assert!(refused.to_string().starts_with(&format!("cannot listen on {}: ", running.address)), "{refused}");
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_finishes_answers_in_flight() {
    let running = Running::with(many(3_000)).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    busy.read_exact(&mut head).await.unwrap();
    let mut half = TcpStream::connect(running.address).await.unwrap();
    half.write_all(HALF_A_REQUEST).await.unwrap();
    running.stop.cancel();
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "the answer in flight came whole");
    idle.read_to_end(&mut rest).await.unwrap();
    let begun = Instant::now();
    running.task.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "half a request holds up nothing");
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_only_briefly_for_a_client_that_does_not_read() {
    let running = Running::with(many(10_000)).await;
    let mut stuck = TcpStream::connect(running.address).await.unwrap();
    stuck.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    stuck.read_exact(&mut head).await.unwrap();
    let begun = Instant::now();
    running.stop.cancel();
    running.task.await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
}
