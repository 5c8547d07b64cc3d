//! A client over a socket: requests as bytes, and answers with the way in which the connection ended.

use std::fmt::Write;
use std::io::ErrorKind;

use kms_simulator::Simulator;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The whole body was received.
    Whole,
    /// The connection was closed earlier.
    Closed,
    /// The connection was reset earlier.
    Reset,
}

#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 if no head was received.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Status and code of an error, in any of the shapes.
    pub(crate) fn error(&self) -> (u16, String) {
        let body = self.json();
        let code = [&body["error"]["error_code"], &body["error_code"], &body["error"]["code"]];
        let code = code.into_iter().find(|code| !code.is_null()).unwrap_or_else(|| panic!("no code in {body}"));
        (self.status, code.as_str().map_or_else(|| code.to_string(), ToOwned::to_owned))
    }
}

pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(simulator: &Simulator) -> Self {
        Self(TcpStream::connect(simulator.address()).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Answer {
        let _ = self.0.write_all(bytes).await;
        self.receive().await
    }

    pub(crate) async fn receive(&mut self) -> Answer {
        let mut received = Vec::new();
        let mut end = End::Whole;
        let complete = |received: &[u8]| {
            let head = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            let text = String::from_utf8(received[..head].to_vec()).unwrap();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            Some((text, head, length))
        };
        loop {
            if complete(&received).is_some_and(|(_, head, length): (_, _, usize)| received.len() >= head + length) {
                break;
            }
            let mut chunk = vec![0; 16 * 1024];
            match self.0.read(&mut chunk).await {
                Ok(0) => end = End::Closed,
                Ok(count) => {
                    received.extend_from_slice(&chunk[..count]);
                    continue;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    end = End::Reset;
                }
            }
            break;
        }
        let Some((head, at, _)) = complete(&received) else {
            return Answer { status: 0, head: String::new(), body: received, end };
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: received[at..].to_vec(), end }
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "Host: localhost\r\n" };
    let mut text = format!("{method} {path} HTTP/1.1\r\n{host}Content-Length: {}\r\n", body.len());
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    format!("{text}\r\n{body}").into_bytes()
}

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

pub(crate) async fn get(simulator: &Simulator, path: &str, headers: &[(&str, &str)]) -> Answer {
    Client::connect(simulator).await.send(&request("GET", path, headers, "")).await
}

pub(crate) async fn call(simulator: &Simulator, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    Client::connect(simulator).await.send(&request("POST", path, headers, body)).await
}
