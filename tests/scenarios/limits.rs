//! What clients can do to the HTTP server by being slow, large or many, with and without TLS: end their own connection.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::cloud::{Cloud, rotating};
use super::guest::{Authority, Guest, connect, exchange};
use super::program::Daemon;
use super::site::{Policy, Site};

/// The server has so many places.
const PLACES: usize = 64;

fn with_tls(cloud: &Cloud, authority: &Authority) -> Site {
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let papers = authority.sign();
    site.write("server.key", &papers.key);
    site.write("server.crt", &papers.certificate);
    site.write("web.yaml", "tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    site
}

/// Waits until the other side ends the connection; what it still said does not matter.
fn await_end(mut stream: impl Read) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("it never ended"),
        // A reset, and TLS without its farewell, are ends too.
        _ => {}
    }
}

#[test]
fn who_begins_and_does_not_go_on_is_given_up() {
    let cloud = Cloud::of([rotating(90)]);
    let authority = Authority::new();
    let (plain, tls) = (Site::new(&Policy::of_one_key(cloud.url())), with_tls(&cloud, &authority));
    let (plain, tls) = (plain.run(), tls.run_with(&["--web-config", "web.yaml"]));
    let begin = Instant::now();
    let mut half_a_request = connect(&plain.address);
    half_a_request.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
    let silent = connect(&tls.address);
    let mut half_a_handshake = connect(&tls.address);
    // The head of a record that is to have 512 bytes.
    half_a_handshake.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    let mut half_a_request_in_tls = Guest::new(&authority).connect(&tls.address).unwrap();
    half_a_request_in_tls.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
    half_a_request_in_tls.flush().unwrap();
    await_end(half_a_request);
    await_end(silent);
    await_end(half_a_handshake);
    await_end(half_a_request_in_tls);
    let took = begin.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(30)).contains(&took), "{took:?}");
}

#[test]
fn a_head_without_end_is_refused() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    let heads = [
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "a".repeat(256 * 1024)),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}", "X: a\r\n".repeat(1_000)),
        format!("GET /{}", "a".repeat(256 * 1024)),
    ];
    for head in heads {
        let mut stream = connect(&daemon.address);
        let reader = stream.try_clone().unwrap();
        // The server may have refused it before all of it is sent.
        let _ = stream.write_all(head.as_bytes());
        let mut answer = [0; 12];
        // The refusal can be lost with a connection that is reset, but never be another answer.
        if (&reader).read_exact(&mut answer).is_ok() {
            assert!(matches!(&answer, b"HTTP/1.1 431" | b"HTTP/1.1 414"), "{}", String::from_utf8_lossy(&answer));
        }
        await_end(reader);
    }
    assert_eq!(daemon.get("/healthz").0, 200);
}

fn assert_lets_others_in(daemon: &Daemon<'_>, is_well: impl Fn() -> bool) {
    let silent: Vec<TcpStream> = (0..PLACES).map(|_| connect(&daemon.address)).collect();
    let begin = Instant::now();
    assert!(is_well());
    // They have all places, and are given up after ten seconds.
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    drop(silent);
}

#[test]
fn many_that_say_nothing_only_make_others_wait() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    assert_lets_others_in(&daemon, || exchange(connect(&daemon.address), "/healthz", "").unwrap().status == 200);
}

#[test]
fn many_that_begin_no_tls_only_make_others_wait() {
    let cloud = Cloud::of([rotating(90)]);
    let authority = Authority::new();
    let site = with_tls(&cloud, &authority);
    let daemon = site.run_with(&["--web-config", "web.yaml"]);
    let guest = Guest::new(&authority);
    assert_lets_others_in(&daemon, || guest.get(&daemon.address, "/healthz", "").unwrap().status == 200);
}
