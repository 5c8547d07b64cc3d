//! Whether a request is meant for this daemon, by its `Host`.
//!
//! On the loopback no login is needed, since only programs on this machine can connect. A browser is one of them, and a
//! page from another site can make it send requests here, by a name of that site which resolves to 127.0.0.1 (DNS
//! rebinding). The browser then sends that name as `Host`. The routes check it.
//!
//! Kept by hand because it is a policy of this program over `std::net`'s parsers; no crate has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::HOST;
use hyper::{HeaderMap, Version};

/// Whether the request is for the loopback or for `name`, the name in `--listen`.
///
/// A browser always sends `Host`. HTTP/1.0 clients need not.
pub(super) fn is_own(version: Version, headers: &HeaderMap, name: Option<&str>) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(|host| is_own_name(host, name)),
        (Some(_), Some(_)) => false,
    }
}

/// The port is ignored: it differs if it was forwarded, as by `ssh -L`.
fn is_own_name(host: &str, name: Option<&str>) -> bool {
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| IpAddr::from(address).to_canonical().is_loopback());
    }
    // A name may be written with the root's dot.
    let host = host.strip_suffix('.').unwrap_or(host);
    host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || ["localhost"].into_iter().chain(name).any(|name| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn judged(version: Version, hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        is_own(version, &headers, Some("kms.internal"))
    }

    #[test]
    fn localhost_loopback_addresses_and_the_own_name_are_accepted_in_every_form() {
        for host in [
            "localhost",
            "LocalHost:9847",
            "localhost.",
            "localhost.:80",
            "localhost:",
            "127.0.0.1",
            "127.0.0.1:9847",
            "127.8.9.10:1",
            "[::1]",
            "[::1]:9847",
            "[0:0:0:0:0:0:0:1]:80",
            "[::ffff:127.0.0.1]:9847",
            "kms.internal",
            "KMS.internal.:9847",
        ] {
            assert!(judged(Version::HTTP_11, &[host]), "{host}");
            assert!(judged(Version::HTTP_10, &[host]), "{host}");
        }
    }

    #[test]
    fn another_name_is_refused_and_a_missing_one_if_http_requires_it() {
        for host in [
            "evil.example",
            "evil.example:9847",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:9847.evil.example",
            "evil.example@localhost",
            "evil.localhost",
            "x",
            "",
            ":9847",
            ".",
            "0.0.0.0:9847",
            "10.0.0.1",
            "[::]",
            "[::2]:9847",
            "::1",
            "[::1",
            "[127.0.0.1]",
            "l\u{f6}calhost",
        ] {
            assert!(!judged(Version::HTTP_11, &[host]), "{host}");
        }
        assert!(!judged(Version::HTTP_11, &[]));
        assert!(judged(Version::HTTP_10, &[]));
        assert!(!judged(Version::HTTP_10, &["evil.example"]));
        assert!(!judged(Version::HTTP_11, &["localhost", "evil.example"]));
        let unnamed = HeaderMap::from_iter([(HOST, HeaderValue::from_static("kms.internal"))]);
        assert!(!is_own(Version::HTTP_11, &unnamed, None));
    }
}
