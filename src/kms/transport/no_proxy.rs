//! Which servers are reached without the proxy: what `NO_PROXY` lists.
//!
//! It has no standard. An entry has the meaning that it has for the clients of Go or curl: `*`,
//! `example.com` and `.example.com` (the name and all below it), `*.example.com` (all below it), addresses with or
//! without brackets, ranges such as `10.0.0.0/8`, and any of these but ranges with a port. Commas and blanks separate.

use std::net::IpAddr;

use super::address::Url;

/// The servers that are reached without the proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoProxy {
    all: bool,
    entries: Vec<Entry>,
}

/// Servers, on any port or on this one.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
enum Hosts {
    /// This address.
    Address(IpAddr),
    /// The addresses that share this number of leading bits with this one.
    Range(IpAddr, u8),
    /// This name and those below it.
    Domain(String),
    /// The names below this one.
    Subdomains(String),
}

impl NoProxy {
    /// Reads a list. Also returns the entries that can have no effect, each with the reason.
    #[must_use]
    pub fn parse(list: &str) -> (Self, Vec<(&str, &'static str)>) {
        let mut known = Self::default();
        let mut ignored = Vec::new();
        let separates = |sign: char| sign == ',' || sign.is_ascii_whitespace();
        for text in list.split(separates).filter(|text| !text.is_empty()) {
            match Entry::parse(text) {
                _ if text == "*" => known.all = true,
                Ok(entry) => known.entries.push(entry),
                Err(why) => ignored.push((text, why)),
            }
        }
        (known, ignored)
    }

    /// Whether the server of this address is reached without the proxy.
    pub(super) fn covers(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let host = without_brackets(host).trim_end_matches('.');
        let is_listed = |entry: &Entry| {
            entry.hosts.have(host) && entry.port.is_none_or(|port| Some(port) == url.port_or_known_default())
        };
        self.all || self.entries.iter().any(is_listed)
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some((address, bits)) = text.split_once('/') {
            const EXPECTED: &str = "expected a host or a range of addresses such as 10.0.0.0/8, without scheme or path";
            let address: IpAddr = without_brackets(address).parse().map_err(|_| EXPECTED)?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.parse().ok().filter(|bits| *bits <= longest).ok_or(EXPECTED)?;
            return Ok(Self { hosts: Hosts::Range(address, bits), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            // The colons of an IPv6 address are inside its brackets, or there are several of them.
            Some((host, port)) if !port.contains(']') && (!host.contains(':') || host.ends_with(']')) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, Some(port.ok_or("expected a port from 1 to 65535 after the colon")?))
            }
            _ => (text, None),
        };
        Ok(Self { hosts: Hosts::parse(host)?, port })
    }
}

impl Hosts {
    fn parse(host: &str) -> Result<Self, &'static str> {
        if let Ok(address) = without_brackets(host).parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let (name, only_below) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host.strip_prefix('.').unwrap_or(host), false),
        };
        if name.contains('*') {
            return Err("`*` is valid only alone or as in *.example.com");
        }
        let is_sign = |sign: char| sign.is_alphanumeric() || matches!(sign, '-' | '_' | '.');
        if !name.chars().all(is_sign) {
            return Err("expected the name of a host or an address");
        }
        // In lower case and ASCII, as the host of an address is.
        let url = Url::parse(&format!("http://{}", name.trim_end_matches('.')));
        let name = url.ok().and_then(|url| url.host_str().map(str::to_owned));
        // `10.1` would be an address to some and is none as it stands.
        let name = name.filter(|name| name.parse::<IpAddr>().is_err());
        let name = name.ok_or("expected the name of a host or an address")?;
        Ok(if only_below { Self::Subdomains(name) } else { Self::Domain(name) })
    }

    fn have(&self, host: &str) -> bool {
        let is_below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        match (self, host.parse::<IpAddr>().map(|address| address.to_canonical())) {
            (Self::Address(known), Ok(address)) => *known == address,
            (Self::Range(known, bits), Ok(address)) => have_in_common(*known, address, *bits),
            (Self::Domain(name), Err(_)) => host == name || is_below(name),
            (Self::Subdomains(name), Err(_)) => is_below(name),
            _ => false,
        }
    }
}

/// Whether both have this number of leading bits in common.
fn have_in_common(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(list: &str, url: &str) -> bool {
        NoProxy::parse(list).0.covers(&url.parse().unwrap())
    }

    #[test]
    fn an_entry_covers_what_go_or_curl_would_reach_without_the_proxy() {
        for (list, covered, others) in [
            ("*", &["https://kms.example.com", "https://[::1]", "https://10.0.0.1"][..], &[][..]),
            (
                "example.com",
                &["https://example.com", "https://kms.EXAMPLE.com", "https://example.com.:8443"],
                &["https://notexample.com", "https://example.com.test", "https://com"],
            ),
            (".Example.com.", &["https://example.com", "https://a.b.example.com"], &["https://notexample.com"]),
            (
                "*.example.com",
                &["https://kms.example.com", "https://a.b.example.com:1"],
                &["https://example.com", "https://notexample.com"],
            ),
            ("kms.example.com:443", &["https://kms.example.com"], &["https://kms.example.com:8443"]),
            ("*.example.com:8443", &["https://kms.example.com:8443"], &["https://kms.example.com"]),
            ("127.0.0.1", &["https://127.0.0.1", "https://127.0.0.1:8443"], &["https://127.0.0.2", "https://1"]),
            ("127.0.0.1:8443", &["https://127.0.0.1:8443"], &["https://127.0.0.1"]),
            ("[::1]", &["https://[::1]", "https://[::1]:8443"], &["https://[::2]"]),
            ("::1", &["https://[::1]"], &["https://[::2]", "https://127.0.0.1"]),
            ("[::1]:443", &["https://[::1]"], &["https://[::1]:8443"]),
            ("10.0.0.0/8", &["https://10.255.0.1:8443"], &["https://11.0.0.1", "https://[a00::]"]),
            ("0.0.0.0/0", &["https://10.255.0.1"], &["https://[::1]", "https://example.com"]),
            ("10.1.2.3/32,fe80::/10", &["https://10.1.2.3", "https://[fe80::1]"], &["https://10.1.2.2"]),
            ("bücher.example", &["https://xn--bcher-kva.example"], &[]),
            (" a.test ,, b.test\tc.test", &["https://a.test", "https://b.test", "https://c.test"], &["https://d.test"]),
            ("", &[], &["https://example.com"]),
        ] {
            assert_eq!(NoProxy::parse(list).1, [], "{list}");
            assert!(covered.iter().all(|url| covers(list, url)), "{list}");
            assert!(!others.iter().any(|url| covers(list, url)), "{list}");
        }
    }

    #[test]
    fn an_entry_without_effect_is_returned_and_does_not_disturb_others() {
        for entry in [
            "https://example.com",
            "example.com/path",
            "10.0.0.0/33",
            "10.0.0.0/",
            "kms*.example.com",
            "10.*",
            "10.1",
            "**",
            "*.",
            ".",
            "example.com:https",
            "example.com:0",
            "example.com:65536",
            ":443",
            "[::1",
            "[kms]",
            "a;b",
            "user@example.com",
        ] {
            let list = format!("a.test,{entry},b.test");
            let (_, ignored) = NoProxy::parse(&list);
            assert_eq!(ignored.iter().map(|(entry, _)| *entry).collect::<Vec<_>>(), [entry]);
            assert!(covers(&list, "https://a.test") && covers(&list, "https://b.test"), "{entry}");
            assert!(!covers(entry, "https://example.com"), "{entry}");
        }
    }
}
