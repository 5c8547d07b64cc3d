//! The proxy on the way to a cloud, and what it is told of who comes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::super::auth::SecretSource;
use super::{Url, message};

/// A proxy for HTTPS.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    /// Its address, which may hold a password where the environment gives it.
    pub url: String,
    /// Hosts that are reached without it, as `NO_PROXY` lists them.
    pub except: String,
    /// Whom it lets through, and where the password is, which is read again before each run.
    pub user: Option<(String, SecretSource)>,
}

impl Proxy {
    /// What `Proxy-Authorization` says (RFC 7617), wiped after its last use; nothing where the policy names no user.
    pub(super) fn authorization(&self) -> Result<Option<SecretString>, String> {
        const SCHEME: &str = "Basic ";
        let Some((name, password)) = &self.user else { return Ok(None) };
        let password = password.read().map_err(|error| format!("no password for the proxy: {}", error.text()))?;
        // Both as long as they get to be, so that no copy is left behind where they grow.
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

    /// Whether it is told a password.
    pub(super) fn has_password(&self) -> bool {
        self.user.is_some() || self.url.parse().is_ok_and(|url: Url| url.password().is_some())
    }

    /// Where it is, as messages name it.
    pub(super) fn host(&self) -> String {
        self.url.parse().map_or_else(|_| String::new(), |url: Url| message::host(&url))
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("except", &self.except).field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_a_password_are_told_as_the_standard_has_it() {
        // The example of RFC 7617, section 2, and each length of the last group.
        for (name, password, told) in [
            ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("a", "b", "Basic YTpi"),
            ("a", "bc", "Basic YTpiYw=="),
            ("a", "bcd", "Basic YTpiY2Q="),
        ] {
            let user = Some((name.to_owned(), SecretSource::in_memory(password.to_owned(), "test")));
            let proxy = Proxy { url: "http://u:p@proxy.example.com:3128".to_owned(), except: String::new(), user };
            assert_eq!(proxy.authorization().unwrap().unwrap().expose_secret(), told);
            assert_eq!(proxy.host(), "proxy.example.com:3128");
        }
    }
}
