//! The addresses at which a project's services answer, and the proxy on the way to them.
//!
//! Only what can be an address of these passes: a scheme, a host and perhaps a port. A path or a query would be lost
//! when requests are built, and a user name in an address ends up in logs.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::yaml::decode::{Decoder, Field};

/// Whose address it is, which decides where `http://` may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// KMS or IAM. What proves a request must not leave the machine in clear text.
    Cloud,
    /// The metadata service of a virtual machine, which answers on the link and speaks no TLS.
    Metadata,
    /// A proxy. What it is to forward is encrypted on its own.
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

    /// What is expected instead, where `http://` may not lead so far.
    fn refuses_plain(self, reach: Reach) -> Option<&'static str> {
        match (self, reach) {
            (Self::Proxy, _) | (_, Reach::Loopback) | (Self::Metadata, Reach::Link) => None,
            (Self::Cloud, _) => {
                Some("https:// since a token would travel in clear text; http:// is for loopback addresses only")
            }
            (Self::Metadata, _) => Some(
                "https:// since temporary keys would travel in clear text; http:// is for link-local and loopback \
                 addresses only",
            ),
        }
    }
}

/// How far away a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// This machine.
    Loopback,
    /// What no router forwards to.
    Link,
    /// Anywhere.
    Far,
}

/// An address that may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint<'t> {
    /// Without a slash at the end.
    pub(super) address: &'t str,
    /// Whether it never leaves the machine.
    pub(super) loopback: bool,
}

/// Whether there may be a user name or a password in what should be an address.
fn has_user_info(text: &str) -> bool {
    text.contains('@')
}

impl Decoder<'_> {
    /// The address of a service.
    pub(super) fn address<'n>(&mut self, field: Field<'n>, service: Service) -> Option<Endpoint<'n>> {
        let text = self.text(field, service.example())?;
        if has_user_info(text) {
            // Said without repeating it.
            let message = format!("`{}` has a user name or password in it, expected an address alone", field.name);
            let finding = self.error(field.span(), message);
            finding.conceal(field.node.span);
            if service == Service::Proxy {
                finding.help(
                    "the user name belongs in `user_name`, and the path of the password's file in `password_file`",
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

/// An address of the cloud that did not come from a policy, without a slash at its end.
///
/// # Errors
///
/// What was expected of it.
pub fn cloud_address(text: &str) -> Result<&str, &'static str> {
    parse(text, Service::Cloud).map(|endpoint| endpoint.address)
}

/// Whether an address with a path is one to which what proves who asks may be sent as it is: by TLS wherever it is, in
/// clear text no further than the link.
///
/// # Errors
///
/// What was expected of it.
pub fn neighbour_address(uri: &str) -> Result<(), &'static str> {
    let authority = uri.find("://").map_or(0, |at| at + "://".len());
    let end = uri[authority..].find(['/', '?', '#']).map_or(uri.len(), |at| authority + at);
    parse(&uri[..end], Service::Metadata).map(|_| ())
}

/// Reads an address, or says what was expected of it.
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

/// How far away the host is; nothing where it is no host.
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
    // What ends in a number is an IPv4 address to every resolver and would be a malformed one here.
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= 253 && !numeric && host.split('.').all(is_host_label)
}

/// One part of a host name: letters, digits and inner hyphens.
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
    fn plain_http_leads_as_far_as_the_service_may_be() {
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
    fn a_neighbours_address_may_have_a_path_and_nothing_that_hides_where_it_leads() {
        for uri in [
            "http://169.254.170.23/v1/credentials",
            "http://127.0.0.1:80?x=y",
            "http://localhost/",
            "http://[fe80::1]:8080/a/b",
            "https://agent.example.com/v1/credentials#x",
        ] {
            assert_eq!(neighbour_address(uri), Ok(()), "{uri}");
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
            assert!(neighbour_address(uri).is_err(), "{uri}");
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
    fn what_is_more_or_less_than_an_address_is_refused() {
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
