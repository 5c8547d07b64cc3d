//! A signer that computes nothing: the test itself supplies the canonical parts of a request, so that the signer cannot
//! have the same errors as the simulator.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use kms_simulator::Simulator;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::PROJECT;
use crate::wire::{Answer, Client, request};

pub(crate) const ACCESS: &str = "EXAMPLEAK0123456789A";
pub(crate) const SECRET: &str = "ExampleSecretKey0123456789abcdefghijKLMN";
/// The start of [`crate::clock`], in seconds since 1970.
pub(crate) const START: u64 = 1_700_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) access: String,
    pub(crate) secret: String,
    pub(crate) security_token: Option<String>,
}

impl Keys {
    pub(crate) fn permanent() -> Self {
        Self::new(ACCESS, SECRET)
    }

    pub(crate) fn new(access: &str, secret: &str) -> Self {
        Self { access: access.to_owned(), secret: secret.to_owned(), security_token: None }
    }

    /// From an answer with `credential`.
    pub(crate) fn temporary(answer: &Answer) -> Self {
        let credential = &answer.json()["credential"];
        let text = |name: &str| credential[name].as_str().unwrap().to_owned();
        Self { access: text("access"), secret: text("secret"), security_token: Some(text("securitytoken")) }
    }
}

/// A request with a signature; a test can change it before or after signing.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// The query as sent, without the question mark.
    pub(crate) query: &'static str,
    pub(crate) canonical_query: &'static str,
    /// The signed headers, in lower case and sorted.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    authorization: String,
}

impl Signed {
    pub(crate) fn new(simulator: &Simulator, method: &'static str, path: &str, body: &str, at: u64) -> Self {
        let host = ("host", simulator.address().to_string());
        let headers = vec![("content-type", "application/json".to_owned()), host, ("x-sdk-date", date(at))];
        let (path, body) = (path.to_owned(), body.to_owned());
        Self { method, path, query: "", canonical_query: "", headers, body, authorization: String::new() }
    }

    /// A call of KMS.
    pub(crate) fn kms(simulator: &Simulator, operation: &str, body: &Value, at: u64) -> Self {
        Self::new(simulator, "POST", &format!("/v1.0/{PROJECT}/kms/{operation}"), &body.to_string(), at)
    }

    /// Signs the current state.
    pub(crate) fn by(mut self, keys: &Keys) -> Self {
        if let Some(token) = &keys.security_token {
            self.headers.push(("x-security-token", token.clone()));
        }
        let mut canonical = format!("{}\n{}/\n{}\n", self.method, self.path, self.canonical_query);
        for (name, value) in &self.headers {
            let _ = writeln!(canonical, "{name}:{}", value.trim());
        }
        let names: Vec<_> = self.headers.iter().map(|(name, _)| *name).collect();
        let _ = write!(canonical, "\n{}\n{}", names.join(";"), hex(&Sha256::digest(&self.body)));
        let at = self.header("x-sdk-date");
        let text = format!("SDK-HMAC-SHA256\n{at}\n{}", hex(&Sha256::digest(&canonical)));
        let mac = Hmac::<Sha256>::new_from_slice(keys.secret.as_bytes()).unwrap().chain_update(text).finalize();
        self.authorization = format!(
            "SDK-HMAC-SHA256 Access={}, SignedHeaders={}, Signature={}",
            keys.access,
            names.join(";"),
            hex(&mac.into_bytes())
        );
        self
    }

    /// Adds a header, which is signed if added before [`by`](Self::by).
    pub(crate) fn header_added(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self.headers.sort_unstable();
        self
    }

    /// Replaces the value of a header.
    pub(crate) fn header_changed(mut self, name: &str, value: &str) -> Self {
        let header = self.headers.iter_mut().find(|(found, _)| *found == name);
        value.clone_into(&mut header.unwrap().1);
        self
    }

    /// Removes a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self
    }

    /// Changes `Authorization`.
    pub(crate) fn authorized(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.authorization = change(&self.authorization);
        self
    }

    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }

    pub(crate) async fn send(&self, simulator: &Simulator) -> Answer {
        let target = if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) };
        let mut headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("Authorization", &self.authorization));
        Client::connect(simulator).await.send(&request(self.method, &target, &headers, &self.body)).await
    }
}

fn date(at: u64) -> String {
    let time = jiff::Timestamp::try_from(SystemTime::UNIX_EPOCH + Duration::from_secs(at)).unwrap();
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
