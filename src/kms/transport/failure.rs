//! Why there is no answer: what failed, and what to do about it.
//!
//! The meaning is read from the types of errors, never from their texts.

use std::io;
use std::path::Path;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use tower_service::Service;

use super::error::{Fault, HttpError, NoAnswer};
use super::proxy::Proxy;
use crate::kms::observe::Code;
use crate::support::error_chain::causes;
use crate::support::printable::excerpt;
use crate::support::shortage;

/// How a proxy's tunnel fails. The type has no name outside its crate.
type TunnelError = <Tunnel<HttpConnector> as Service<hyper::Uri>>::Error;

/// The server of a request, and the proxy in between.
pub(super) struct Destination<'a> {
    pub(super) authority: String,
    pub(super) proxy: Option<&'a Proxy>,
    pub(super) ca_file: Option<&'a Path>,
}

/// A proxy has refused to connect to the server, and the status of its answer is not known.
pub(super) struct ProxyRefused(pub(super) NoAnswer);

/// The meaning of an error of the HTTP client.
struct Meaning {
    code: Code,
    fault: Fault,
    text: String,
    /// The text does not name the cause, so the error is its source.
    has_source: bool,
}

impl Meaning {
    /// The text names the cause.
    fn of(code: Code, fault: Fault, text: String) -> Self {
        Self { code, fault, text, has_source: false }
    }

    /// A transient failure whose cause is the error itself.
    fn with_source(code: Code, text: String) -> Self {
        Self { code, fault: Fault::Transient, text, has_source: true }
    }
}

impl Destination<'_> {
    /// What an error of the HTTP client means; or that the proxy refuses, which the client reports without the status.
    pub(super) fn explain(&self, error: reqwest::Error) -> Result<NoAnswer, ProxyRefused> {
        let tunnel = causes(&error).find_map(|cause| cause.downcast_ref::<TunnelError>());
        let lack = causes(&error).filter_map(|cause| cause.downcast_ref::<io::Error>()).find_map(shortage::of);
        let code = if error.is_timeout() { Code::Timeout } else { Code::Connect };
        let no_answer = |Meaning { code, fault, text, has_source }, error: reqwest::Error| {
            let may_have_arrived = !error.is_connect();
            let source = has_source.then(|| HttpError(error).into());
            NoAnswer { code, may_have_arrived, fault, text, source }
        };
        let meaning = match (lack, tunnel, self.proxy) {
            (Some(lack), ..) => {
                Meaning::of(code, Fault::Shortage, format!("no connection to {}: {lack}", self.authority))
            }
            (None, Some(TunnelError::ProxyAuthRequired), Some(proxy)) => return Ok(self.refusal(proxy, 407)),
            (None, Some(TunnelError::TunnelUnsuccessful), Some(proxy)) => {
                let text = self.blame(proxy, "has refused to connect");
                return Err(ProxyRefused(no_answer(Meaning::of(code, Fault::Transient, text), error)));
            }
            (None, Some(tunnel), Some(proxy)) => self.tunnel_failure(&error, tunnel, proxy, code),
            (None, ..) => self.failure(&error, code),
        };
        Ok(no_answer(meaning, error))
    }

    /// The proxy cannot be used.
    fn tunnel_failure(&self, error: &reqwest::Error, tunnel: &TunnelError, proxy: &Proxy, code: Code) -> Meaning {
        match (tunnel, tls_error(error)) {
            (TunnelError::ProxyHeadersTooLong, _) => {
                Meaning::of(code, Fault::Transient, self.blame(proxy, "does not answer like a proxy"))
            }
            (TunnelError::TunnelUnexpectedEof, _) => {
                let text = self.blame(proxy, "has closed the connection without an answer");
                Meaning::of(code, Fault::Transient, text)
            }
            (_, Some(rustls::Error::InvalidCertificate(why))) => {
                let what = format!("cannot be used: its {}", certificate(why, self.ca_file));
                Meaning::of(Code::Tls, Fault::Unreachable, self.blame(proxy, &what))
            }
            (_, Some(_)) => Meaning::with_source(Code::Tls, self.blame(proxy, "cannot be reached by TLS")),
            (_, None) => Meaning::with_source(code, self.blame(proxy, "cannot be reached")),
        }
    }

    /// The server cannot be reached, or the connection was lost.
    fn failure(&self, error: &reqwest::Error, code: Code) -> Meaning {
        let server = &self.authority;
        let through = self.proxy.map_or_else(String::new, |proxy| format!(" through the proxy {}", shown(proxy)));
        match tls_error(error) {
            _ if error.is_timeout() && error.is_connect() => {
                let text = format!("no connection to {server}{through} within the request timeout");
                Meaning::of(code, Fault::Transient, text)
            }
            _ if error.is_timeout() => {
                let text = format!("no answer from {server}{through} within the request timeout");
                Meaning::of(code, Fault::Transient, text)
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                let text = format!("no connection to {server}: its {}", certificate(why, self.ca_file));
                Meaning::of(Code::Tls, Fault::Unreachable, text)
            }
            Some(_) => Meaning::with_source(Code::Tls, format!("TLS with {server} failed")),
            None if error.is_connect() => Meaning::with_source(code, format!("no connection to {server}{through}")),
            None => Meaning::with_source(code, format!("the connection to {server}{through} was lost")),
        }
    }

    /// The proxy has answered with this status instead of connecting.
    pub(super) fn refusal(&self, proxy: &Proxy, status: u16) -> NoAnswer {
        let (code, what) = match status {
            407 => {
                let login = proxy.origin.login_location();
                (
                    Code::Http(status),
                    format!("answers HTTP 407: the user name or password is missing or wrong ({login})"),
                )
            }
            400..=499 => {
                let what = format!("answers HTTP {status}; does it allow connections to {}?", self.authority);
                (Code::Connect, what)
            }
            _ => (Code::Connect, format!("answers HTTP {status}")),
        };
        let fault = if (400..500).contains(&status) { Fault::Unreachable } else { Fault::Transient };
        NoAnswer { code, may_have_arrived: false, fault, text: self.blame(proxy, &what), source: None }
    }

    fn blame(&self, proxy: &Proxy, what: &str) -> String {
        let (server, origin) = (&self.authority, proxy.origin.address_location());
        format!("no connection to {server}: the proxy {} {what} (its address is from {origin})", proxy.authority())
    }
}

/// The proxy, and where its address is configured.
fn shown(proxy: &Proxy) -> String {
    format!("{} (its address is from {})", proxy.authority(), proxy.origin.address_location())
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// What is wrong with a certificate. Another `ca_file` helps only where the issuer is unknown.
fn certificate(why: &CertificateError, ca_file: Option<&Path>) -> String {
    use CertificateError as Why;
    let date = |time: &UnixTime| {
        let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.map_or_else(String::new, |time| format!(" {time}"))
    };
    match why {
        Why::UnknownIssuer => match ca_file.map(Path::display) {
            Some(file) => format!(
                "certificate is not trusted: neither the system nor ca_file {file} has the authority that issued it"
            ),
            None => "certificate is not trusted: the system does not have the authority that issued it (a private \
                     authority goes into ca_file)"
                .to_owned(),
        },
        // As after the authority was renewed, while the file has the old one.
        Why::BadSignature => {
            let location =
                ca_file.map_or_else(|| "the system".to_owned(), |file| format!("ca_file {}", file.display()));
            format!(
                "certificate is not trusted: the authority that issued it has another key than the one in {location}"
            )
        }
        Why::ExpiredContext { not_after, .. } => format!("certificate has expired{}", date(not_after)),
        Why::Expired => "certificate has expired".to_owned(),
        Why::NotValidYetContext { not_before, .. } => {
            format!("certificate is not valid before{} (is this machine's clock right?)", date(not_before))
        }
        Why::NotValidYet => "certificate is not valid yet (is this machine's clock right?)".to_owned(),
        Why::NotValidForNameContext { presented, .. } => {
            let names = excerpt(&presented.join(", "), 200);
            format!("certificate is for another name: {names}")
        }
        Why::NotValidForName => "certificate is for another name".to_owned(),
        Why::Revoked => "certificate has been revoked".to_owned(),
        Why::Other(other) if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) => {
            "certificate is that of an authority, expected one that an authority has issued for the server".to_owned()
        }
        other => format!("certificate is not valid: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::OtherError;
    use std::sync::Arc;

    #[test]
    fn another_ca_file_is_advised_only_where_the_issuer_is_not_known() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let file = Some(Path::new("/etc/ca.pem"));
        let webpki = |error| CertificateError::Other(OtherError(Arc::new(error)));
        assert!(certificate(&CertificateError::UnknownIssuer, None).contains("goes into ca_file"));
        assert!(certificate(&CertificateError::UnknownIssuer, file).contains("ca_file /etc/ca.pem"));
        for (why, expected) in [
            (CertificateError::ExpiredContext { time: at(100), not_after: at(90) }, "expired 1970-01-01T00:01:30Z"),
            (CertificateError::NotValidYetContext { time: at(1), not_before: at(90) }, "before 1970-01-01T00:01:30Z"),
            (CertificateError::NotValidForName, "another name"),
            (CertificateError::BadEncoding, "not valid: BadEncoding"),
            (webpki(webpki::Error::CaUsedAsEndEntity), "that of an authority"),
            (webpki(webpki::Error::BadDer), "not valid"),
        ] {
            for file in [None, file] {
                let text = certificate(&why, file);
                assert!(text.contains(expected) && !text.contains("ca_file") && !text.contains("://"), "{text}");
            }
        }
    }
}
