//! The value of `--listen`, and the socket for it. The server opens the socket; `healthcheck` connects to it.
//!
//! Its form is kept by hand because it accepts more than a socket address (`:9847`, `9847`, a name), and names the
//! mistake in every other text. The socket for all addresses is opened by hand, because tokio does not set
//! `IPV6_V6ONLY`.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the system accepts before the server does, as many as of tokio's own listeners.
const BACKLOG: u32 = 1024;

const EXPECTED: &str = "expected ADDRESS:PORT or NAME:PORT such as 127.0.0.1:9847, [::1]:9847 or localhost:9847, \
                        :9847 for all addresses, or 9847 for 127.0.0.1:9847";

/// The address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress(ListenKind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum ListenKind {
    /// All IPv4 and IPv6 addresses of this machine.
    All(u16),
    Address(SocketAddr),
    Name(Box<str>, u16),
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self(ListenKind::Address(address))
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{why}; {EXPECTED}"));
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, text),
        };
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return wrong("there is no port");
        }
        let Ok(port) = port.parse() else { return wrong("a port is a number up to 65535") };
        match host {
            None => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()),
            Some("") => Ok(Self(ListenKind::All(port))),
            // It needs no resolver.
            Some(host) if host.eq_ignore_ascii_case("localhost") => {
                Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
            }
            Some(host) if host.starts_with('[') => wrong("this is not an IPv6 address"),
            Some(host) if host.contains(':') => wrong("an IPv6 address is written in brackets"),
            Some(host) if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
                wrong("this is not an IPv4 address")
            }
            Some(host) if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) => {
                Ok(Self(ListenKind::Name(host.into(), port)))
            }
            Some(_) => wrong("this is not the name of a host"),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ListenKind::All(port) => write!(f, ":{port}"),
            ListenKind::Address(address) => address.fmt(f),
            ListenKind::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl ListenAddress {
    /// The name, if it is one that has to be resolved.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            ListenKind::Name(name, _) => Some(name.strip_suffix('.').unwrap_or(name)),
            ListenKind::All(_) | ListenKind::Address(_) => None,
        }
    }

    /// The host and the port at which programs on this machine reach the server.
    #[must_use]
    pub(crate) fn reached_at(&self) -> (String, u16) {
        match &self.0 {
            ListenKind::All(port) => (Ipv4Addr::LOCALHOST.to_string(), *port),
            ListenKind::Address(address) => (local(*address).ip().to_string(), address.port()),
            ListenKind::Name(name, port) => (name.to_string(), *port),
        }
    }

    pub(super) async fn open(&self) -> io::Result<TcpListener> {
        match &self.0 {
            ListenKind::All(port) => match both_families(*port) {
                Err(error) if lacks_ipv6(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await,
                listener => listener,
            },
            ListenKind::Address(address) => TcpListener::bind(address).await,
            ListenKind::Name(name, port) => {
                let mut found: Vec<SocketAddr> = tokio::net::lookup_host((&**name, *port)).await?.collect();
                // Only one of them is used, and clients try IPv4 at the latest.
                found.sort_by_key(SocketAddr::is_ipv6);
                TcpListener::bind(&*found).await
            }
        }
    }
}

/// An IPv6 socket that accepts IPv4 as well, whatever the system's default is.
fn both_families(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    set_ipv6_v6only(&socket, false)?;
    // The same as tokio's own listeners: a restarted daemon does not wait for its old connections.
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(BACKLOG)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// The address at which programs on this machine reach a server that listens on this one.
pub(super) fn local(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        elsewhere => elsewhere,
    };
    (host, listen.port()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ListenAddress, String> {
        text.parse()
    }

    #[test]
    fn an_address_a_name_all_addresses_or_a_port_is_read() {
        for (text, address) in [
            ("127.0.0.1:9847", "127.0.0.1:9847"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:80", "[::1]:80"),
            ("9847", "127.0.0.1:9847"),
            ("localhost:9847", "127.0.0.1:9847"),
            ("LOCALHOST:1", "127.0.0.1:1"),
        ] {
            assert_eq!(read(text), Ok(address.parse::<SocketAddr>().unwrap().into()), "{text}");
        }
        assert_eq!(read(":9847"), Ok(ListenAddress(ListenKind::All(9847))));
        let named = read("kms.internal.:9847").unwrap();
        assert_eq!((named.name(), named.reached_at()), (Some("kms.internal"), ("kms.internal.".to_owned(), 9847)));
        assert_eq!(read(":80").unwrap().reached_at(), ("127.0.0.1".to_owned(), 80));
        assert_eq!(read("0.0.0.0:80").unwrap().reached_at(), ("127.0.0.1".to_owned(), 80));
        assert_eq!(read("[::]:80").unwrap().reached_at(), ("::1".to_owned(), 80));
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_is_accepted() {
        for (text, why) in [
            ("", "there is no port"),
            ("nowhere", "there is no port"),
            ("localhost:", "there is no port"),
            ("localhost:http", "there is no port"),
            ("127.0.0.1", "there is no port"),
            (":65536", "a port is a number up to 65535"),
            ("::1:9847", "an IPv6 address is written in brackets"),
            ("[::g]:80", "this is not an IPv6 address"),
            ("127.0.0.256:80", "this is not an IPv4 address"),
            ("127.1:80", "this is not an IPv4 address"),
            ("*:80", "this is not the name of a host"),
            ("a b:80", "this is not the name of a host"),
        ] {
            assert_eq!(read(text), Err(format!("{why}; {EXPECTED}")), "{text}");
        }
        assert!(read("http://127.0.0.1:9847").is_err());
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_ipv4_too() {
        let listener = read(":0").unwrap().open().await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_unspecified());
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await.unwrap();
        if address.is_ipv6() && std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            tokio::net::TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).await.unwrap();
        }
    }
}
