//! The server's connections: who is slow, who stays, who comes when there is no room, and the end of all of them.

use std::sync::Arc;
use std::time::Duration;

use kms_rotationd::observability::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sample::many;
use crate::server::Running;

#[tokio::test(start_paused = true)]
async fn a_half_sent_request_is_given_up() {
    let running = Running::start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut answer = Vec::new();
    // A reset ends the connection as well as an orderly end.
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_never_reads_is_given_up() {
    let running = Running::start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let begun = tokio::time::Instant::now();
    // More answers than fit into the buffers of the system, so that the server cannot get rid of them.
    let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(4_000);
    while stream.write_all(&requests).await.is_ok() {}
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(running.get("/healthz", "").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn more_connections_than_there_is_room_for_wait_their_turn() {
    let running = Running::start().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(running.get("/healthz", "").await.status(), 200);
    assert_eq!(begun.elapsed().as_secs(), 10, "the silent ones are given up first");
}

#[tokio::test(start_paused = true)]
async fn nobody_stays_where_others_wait_for_a_place() {
    let running = Running::start().await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut staying = Vec::new();
    for _ in 0..63 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = [0; 1];
        stream.read_exact(&mut answer).await.unwrap();
        staying.push(stream);
    }
    let begun = tokio::time::Instant::now();
    // The last place, and one after the other has it.
    for _ in 0..3 {
        let answer = running.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    }
    assert_eq!(begun.elapsed().as_secs(), 0);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let running = Running::start().await;
    let refused =
        Server::bind(running.address, Arc::clone(&running.board), running.health.clone()).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    assert!(refused.to_string().starts_with(&format!("cannot listen on {}: ", running.address)), "{refused}");
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_finishes_answers_in_flight() {
    let running = Running::with(many(3_000)).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    busy.read_exact(&mut head).await.unwrap();
    running.stop.cancel();
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "the answer in flight came whole");
    idle.read_to_end(&mut rest).await.unwrap();
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever_for_a_client_that_does_not_read() {
    let running = Running::with(many(10_000)).await;
    let mut stuck = TcpStream::connect(running.address).await.unwrap();
    stuck.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    stuck.read_exact(&mut head).await.unwrap();
    let begun = tokio::time::Instant::now();
    running.stop.cancel();
    running.task.await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
}
