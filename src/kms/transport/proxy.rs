//! The proxy between this machine and a cloud, and its login.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::address::{Url, authority};
use super::error::{ClientBuildError, SetUpError};
use super::message::HeaderText;
use super::no_proxy::NoProxy;
use crate::kms::secret::SecretLocation;

/// A proxy for HTTPS.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    /// Its address. One from the environment may contain a password.
    pub url: String,
    /// Where the address is configured.
    pub origin: ProxyOrigin,
    /// The servers that are reached without it.
    pub except: NoProxy,
    /// The user name, and the location of the password, which is read again before each run.
    pub user: Option<(String, SecretLocation)>,
}

/// Where a proxy's address is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyOrigin {
    /// The policy.
    Policy,
    /// The variable of this name.
    Variable(&'static str),
}

impl ProxyOrigin {
    /// The location of the address, for messages.
    pub(super) fn address_location(self) -> &'static str {
        match self {
            Self::Policy => "proxy.url of the policy",
            Self::Variable(name) => name,
        }
    }

    /// The location of its user name and password, for messages.
    pub(super) fn login_location(self) -> String {
        match self {
            Self::Policy => "user_name and password_file of proxy".to_owned(),
            Self::Variable(name) => format!("those in {name}"),
        }
    }
}

impl Proxy {
    /// The parsed address. Without a scheme it is a plain HTTP proxy, as for other clients.
    pub(super) fn address(&self) -> Result<Url, SetUpError> {
        let text = self.url.trim();
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        // The HTTP client silently ignores an address that it cannot use.
        let is_usable = |url: &Url| {
            let is_sign = |sign: char| sign.is_ascii_alphanumeric() || "-_.:[]".contains(sign);
            matches!(url.scheme(), "http" | "https")
                && url.host_str().is_some_and(|host| !host.is_empty() && host.chars().all(is_sign))
                && url.port() != Some(0)
        };
        url.ok().filter(is_usable).ok_or(SetUpError::Proxy(self.origin.address_location()))
    }

    /// Whether requests to this address go through it: those by TLS, unless its server is excepted.
    pub(super) fn is_for(&self, url: &Url) -> bool {
        url.scheme() == "https" && !self.except.covers(url)
    }

    /// Adds this header to `rule`, a proxy of the HTTP client.
    pub(super) fn authorized(
        rule: reqwest::Proxy,
        authorization: Option<&SecretString>,
    ) -> Result<reqwest::Proxy, ClientBuildError> {
        let Some(authorization) = authorization else { return Ok(rule) };
        // The client's own function would leave copies that are not wiped.
        let header = HeaderText::secret(authorization.clone()).ok_or(ClientBuildError::ProxyPasswordCharacters)?;
        Ok(rule.custom_http_auth(header.0))
    }

    /// The value of `Proxy-Authorization` (RFC 7617), wiped after its last use; `None` if the policy names no user.
    pub(super) fn authorization(&self) -> Result<Option<SecretString>, ClientBuildError> {
        const SCHEME: &str = "Basic ";
        let Some((name, password)) = &self.user else { return Ok(None) };
        let password = password.read().map_err(ClientBuildError::ProxyPassword)?;
        // Both with their final length, so that no copy is left behind when they grow.
        let parts = [name, ":", password.expose_secret()];
        let mut plain = String::with_capacity(parts.iter().map(|part| part.len()).sum());
        plain.extend(parts);
        let plain = SecretString::from(plain);
        let mut header = vec![0; SCHEME.len() + plain.expose_secret().len().div_ceil(3) * 4];
        let (scheme, encoded) = header.split_at_mut(SCHEME.len());
        scheme.copy_from_slice(SCHEME.as_bytes());
        // It fits, and is ASCII.
        let _ = STANDARD.encode_slice(plain.expose_secret(), encoded);
        Ok(Some(SecretString::from(String::from_utf8(header).unwrap_or_default())))
    }

    /// Whether it is sent a password.
    pub(super) fn has_password(&self) -> bool {
        self.user.is_some() || self.address().is_ok_and(|url| url.password().is_some())
    }

    /// Its host and port.
    pub(super) fn authority(&self) -> String {
        self.address().map_or_else(|_| String::new(), |url| authority(&url))
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { origin, except, user, .. } = self;
        let mut shown = f.debug_struct("Proxy");
        shown.field("origin", origin).field("except", except).field("user", user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Proxy {
        let origin = ProxyOrigin::Variable("HTTPS_PROXY");
        Proxy { url: url.to_owned(), origin, except: NoProxy::default(), user: None }
    }

    #[test]
    fn a_user_and_a_password_are_sent_in_the_standard_form() {
        // The example of RFC 7617, section 2, and each length of the last group.
        for (name, password, expected) in [
            ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("a", "b", "Basic YTpi"),
            ("a", "bc", "Basic YTpiYw=="),
            ("a", "bcd", "Basic YTpiY2Q="),
        ] {
            let user = Some((name.to_owned(), SecretLocation::in_memory(password.to_owned(), "test")));
            let proxy = Proxy { user, ..at("http://u:p@proxy.example.com:3128") };
            assert_eq!(proxy.authorization().unwrap().unwrap().expose_secret(), expected);
            assert_eq!(proxy.authority(), "proxy.example.com:3128");
        }
    }

    #[test]
    fn an_address_that_the_client_could_not_use_is_refused_without_repeating_it() {
        for (url, host) in [
            ("http://proxy.example.com:3128", "proxy.example.com:3128"),
            ("https://proxy.example.com/", "proxy.example.com"),
            ("proxy.example.com:3128", "proxy.example.com:3128"),
            ("127.0.0.1:3128", "127.0.0.1:3128"),
            ("u:p@[::1]:3128", "[::1]:3128"),
            (" http://proxy_1:8080 ", "proxy_1:8080"),
        ] {
            assert!(at(url).address().is_ok(), "{url}");
            assert_eq!(at(url).authority(), host, "{url}");
        }
        for url in [
            "socks5://proxy.example.com:1080",
            "ftp://u:secret@proxy.example.com",
            "http://",
            "http://u:secret@",
            "http://proxy.example.com:0",
            "http://proxy.example.com:99999",
            "http://a b",
            "http://a{b}",
            ":3128",
        ] {
            let error = at(url).address().unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_found_in_every_form_of_the_address() {
        for url in ["http://u:p@proxy:3128", "u:p@proxy:3128", " u:p@[::1]:3128 "] {
            assert!(at(url).has_password(), "{url}");
        }
        assert!(!at("proxy:3128").has_password() && !at("u@proxy:3128").has_password());
    }

    #[test]
    fn only_what_goes_by_tls_goes_through_it() {
        let is_for = |url: &str| at("http://proxy").is_for(&url.parse().unwrap());
        assert_eq!([is_for("https://kms.example.com"), is_for("http://127.0.0.1:1")], [true, false]);
    }
}
