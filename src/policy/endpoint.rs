//! The addresses at which a project's services answer.
//!
//! Only what can be an address of these services passes: a scheme, a host and perhaps a port. A path or a query would
//! be lost when requests are built, and a user name in an address ends up in logs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address that may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint<'t> {
    /// Without a slash at the end.
    pub(super) address: &'t str,
    /// Whether it never leaves the machine.
    pub(super) loopback: bool,
}

/// Whether there may be a user name or a password in what should be an address.
pub(super) fn has_user_info(text: &str) -> bool {
    text.contains('@')
}

/// Reads an address, or says what was expected of it.
pub(super) fn parse(text: &str) -> Result<Endpoint<'_>, &'static str> {
    let address = text.strip_suffix('/').unwrap_or(text);
    let (secure, authority) = if let Some(rest) = address.strip_prefix("https://") {
        (true, rest)
    } else if let Some(rest) = address.strip_prefix("http://") {
        (false, rest)
    } else {
        return Err("an address such as https://kms.example.com");
    };
    if authority.contains(['/', '?', '#', '\\']) {
        return Err("an address without path, query or fragment");
    }
    let (host, port) = split_port(authority);
    if port.is_some_and(|port| port.len() > 5 || port.starts_with(['0', '+']) || port.parse::<u16>().is_err()) {
        return Err("a port from 1 to 65535 after the colon");
    }
    let Some(loopback) = is_loopback(host) else {
        return Err("a host name or IP address after the scheme");
    };
    if !secure && !loopback {
        return Err("https:// since a token would travel in clear text; http:// is for loopback addresses only");
    }
    Ok(Endpoint { address, loopback })
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    // The colons of an IPv6 address are inside its brackets.
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Whether the host is this machine; nothing where it is no host.
fn is_loopback(host: &str) -> Option<bool> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|address| IpAddr::from(address).is_loopback());
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Some(address.is_loopback());
    }
    is_host_name(host).then(|| host.eq_ignore_ascii_case("localhost"))
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
