//! Checks the addresses of KMS, IAM, the metadata service and the proxy.
//!
//! An address has a scheme, a host and optionally a port. A path or query would be lost in requests, and a user name
//! would appear in logs.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::yaml::decode::{Decoder, Field};

/// The service of an address, which decides where `http://` is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// KMS or IAM. Credentials must not leave the machine in clear text.
    Cloud,
    /// The metadata service of a virtual machine, which is on the local link and has no TLS.
    Metadata,
    /// A proxy. The requests through it are encrypted.
    Proxy,
}

impl Service {
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Cloud => "an address such as https://kms.example.com",
            Self::Metadata => "an address such as http://169.254.169.254",
            Self::Proxy => "an address such as http://proxy.example.com:3128",
        }
    }

    /// The expected address, if `http://` is not allowed at this distance.
    fn refuses_plain(self, reach: Reach) -> Option<&'static str> {
        match (self, reach) {
            (Self::Proxy, _) | (_, Reach::Loopback) | (Self::Metadata, Reach::Link) => None,
            (Self::Cloud, _) => Some(
                "https://, because http:// sends tokens in clear text; http:// is allowed for loopback addresses only",
            ),
            (Self::Metadata, _) => Some(
                "https://, because http:// sends temporary keys in clear text; http:// is allowed for link-local and \
                 loopback addresses only",
            ),
        }
    }
}

/// The network distance of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// This machine.
    Loopback,
    /// The local link, which no router forwards to.
    Link,
    /// Anywhere.
    Far,
}

/// A valid address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint<'t> {
    /// Without a trailing slash.
    pub(super) address: &'t str,
    /// Whether the host is this machine.
    pub(super) loopback: bool,
}

/// Whether the text may contain a user name or a password.
fn has_user_info(text: &str) -> bool {
    text.contains('@')
}

impl Decoder<'_> {
    /// The address of a service.
    pub(super) fn address<'n>(&mut self, field: Field<'n>, service: Service) -> Option<Endpoint<'n>> {
        let text = self.text(field, service.example())?;
        if has_user_info(text) {
            // The value is not repeated: it may contain a password.
            let message =
                format!("`{}` contains a user name or password, expected an address without them", field.name);
            let finding = self.error(field.span(), message);
            finding.conceal(field.node.span);
            if service == Service::Proxy {
                finding.help(
                    "put the user name into `user_name` and the path of the password's file into `password_file`",
                );
            }
            return None;
        }
        match parse(text, service) {
            Ok(endpoint) => Some(endpoint),
            Err(expected) => {
                self.mismatch(field, expected);
                None
            }
        }
    }
}

/// Checks an address of the cloud from another source than a policy, and returns it without a trailing slash.
///
/// # Errors
///
/// The expected form, if the address is invalid.
pub(crate) fn cloud_address(text: &str) -> Result<&str, &'static str> {
    parse(text, Service::Cloud).map(|endpoint| endpoint.address)
}

/// Checks that credentials may be sent to an address with a path: to any host with TLS, to the local link and this
/// machine in clear text.
///
/// # Errors
///
/// The expected form, if the address is invalid or not allowed.
pub(crate) fn check_credential_uri(uri: &str) -> Result<(), &'static str> {
    let authority = uri.find("://").map_or(0, |at| at + "://".len());
    let end = uri[authority..].find(['/', '?', '#']).map_or(uri.len(), |at| authority + at);
    parse(&uri[..end], Service::Metadata).map(|_| ())
}

/// Parses an address; the error is the expected form.
fn parse(text: &str, service: Service) -> Result<Endpoint<'_>, &'static str> {
    let address = text.strip_suffix('/').unwrap_or(text);
    let (secure, authority) = if let Some(rest) = address.strip_prefix("https://") {
        (true, rest)
    } else if let Some(rest) = address.strip_prefix("http://") {
        (false, rest)
    } else {
        return Err(service.example());
    };
    if authority.contains(['/', '?', '#', '\\']) {
        return Err("an address without path, query or fragment");
    }
    let (host, port) = split_port(authority);
    if port.is_some_and(|port| port.len() > 5 || port.starts_with(['0', '+']) || port.parse::<u16>().is_err()) {
        return Err("a port from 1 to 65535 after the colon");
    }
    let Some(reach) = reach(host) else {
        return Err("a host name or IP address after the scheme");
    };
    match service.refuses_plain(reach) {
        Some(expected) if !secure => Err(expected),
        _ => Ok(Endpoint { address, loopback: reach == Reach::Loopback }),
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    // The colons of an IPv6 address are inside its brackets.
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The distance of a host, or `None` if the host is invalid.
fn reach(host: &str) -> Option<Reach> {
    let (loopback, link) = if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().ok()?;
        (address.is_loopback(), address.is_unicast_link_local())
    } else if let Ok(address) = host.parse::<Ipv4Addr>() {
        (address.is_loopback(), address.is_link_local())
    } else if is_host_name(host) {
        (host.eq_ignore_ascii_case("localhost"), false)
    } else {
        return None;
    };
    Some(match (loopback, link) {
        (true, _) => Reach::Loopback,
        (_, true) => Reach::Link,
        _ => Reach::Far,
    })
}

fn is_host_name(host: &str) -> bool {
    // Resolvers treat a name that ends in a number as an IPv4 address, which would be malformed here.
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= 253 && !numeric && host.split('.').all(is_host_label)
}

/// Whether the text is one label of a host name: letters, digits and inner hyphens.
pub(super) fn is_host_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint<'_>, &'static str> {
        super::parse(text, Service::Cloud)
    }

    #[test]
    fn plain_http_is_allowed_up_to_the_distance_of_the_service() {
        for (text, metadata, cloud) in [
            ("http://169.254.169.254", true, false),
            ("http://169.254.169.254:80/", true, false),
            ("http://[fe80::a9fe:a9fe]:80", true, false),
            ("http://127.0.0.1:1", true, true),
            ("http://localhost:1", true, true),
            ("http://169.253.169.254", false, false),
            ("http://[fd00::1]", false, false),
            ("http://[::ffff:127.0.0.1]", false, false),
            ("http://metadata.example.com", false, false),
            ("https://metadata.example.com", true, true),
        ] {
            let allowed = |service| super::parse(text, service).is_ok();
            let found = (allowed(Service::Metadata), allowed(Service::Cloud), allowed(Service::Proxy));
            assert_eq!(found, (metadata, cloud, true), "{text}");
        }
        assert!(super::parse("socks5://127.0.0.1:1080", Service::Proxy).is_err());
    }

    #[test]
    fn a_credential_uri_may_have_a_path_but_no_user_name_or_backslash() {
        for uri in [
            "http://169.254.170.23/v1/credentials",
            "http://127.0.0.1:80?x=y",
            "http://localhost/",
            "http://[fe80::1]:8080/a/b",
            "https://agent.example.com/v1/credentials#x",
        ] {
            assert_eq!(check_credential_uri(uri), Ok(()), "{uri}");
        }
        for uri in [
            "http://agent.example.com/v1",
            "http://10.0.0.1/169.254.170.23",
            "http://169.254.170.23@example.com/",
            "http://169.254.170.23\\@example.com/",
            "http://169.254.170.23\t.example.com/",
            "http:///169.254.170.23",
            "169.254.170.23/v1",
            "ftp://169.254.170.23/",
            "",
        ] {
            assert!(check_credential_uri(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for text in ["http://127.0.0.1:8080", "http://127.9.9.9", "http://[::1]:80/", "http://localhost:1/"] {
            assert_eq!(parse(text).map(|endpoint| endpoint.loopback), Ok(true), "{text}");
        }
        for text in ["http://10.0.0.1", "http://kms.example.com", "http://[::2]", "http://localhost.example.com"] {
            assert!(parse(text).is_err_and(|expected| expected.starts_with("https://")), "{text}");
        }
        let address = "https://kms.eu-de.otc.t-systems.com";
        assert_eq!(parse(address), Ok(Endpoint { address, loopback: false }));
        assert_eq!(parse(&format!("{address}/")), Ok(Endpoint { address, loopback: false }));
    }

    #[test]
    fn anything_but_a_plain_address_is_refused() {
        for text in [
            "",
            "kms.example.com",
            "ftp://kms.example.com",
            "HTTPS://kms.example.com",
            "https://",
            "https:///",
            "https://a//",
            "https://user@kms.example.com",
            "https://user:word@kms.example.com",
            "https://kms.example.com/v1.0",
            "https://kms.example.com?x",
            "https://kms.example.com#x",
            "https://kms.example.com\\x",
            "https://kms.example.com:0",
            "https://kms.example.com:",
            "https://kms.example.com:+80",
            "https://kms.example.com:65536",
            "https://::1",
            "https://[::1",
            "https://[::1]x",
            "https://[kms]",
            "https://kms..example",
            "https://-kms.example",
            "https://kms_a.example",
            "https://127.1",
            "https://1.2.3.4.5",
            "https://kms example.com",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
