//! Why there is no answer: who is to blame, and what to do about it.
//!
//! The meaning is read from the types of errors alone. Their texts are quoted where they tell the cause, in words of
//! our own where a library's are no help to who operates the program.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use tower_service::Service;

use super::{Code, Proxy};
use crate::support::printable::excerpt;
use crate::support::shortage;

/// How a proxy's tunnel fails. The type has no name of its own outside its crate.
type TunnelError = <Tunnel<HttpConnector> as Service<hyper::Uri>>::Error;

/// No answer.
#[derive(Debug)]
pub(in crate::kms) struct NoAnswer {
    pub(in crate::kms) code: Code,
    /// The request may have reached the server.
    pub(in crate::kms) may_have_arrived: bool,
    pub(in crate::kms) fault: Fault,
    /// What happened, and what to do about it where somebody can do something.
    pub(in crate::kms) text: String,
}

/// What follows from there being no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kms) enum Fault {
    /// It may pass.
    Passing,
    /// It is in the way of every other request as well, and is for somebody to put right: a certificate that is not
    /// trusted, a proxy that refuses.
    Unreachable,
    /// The same of a file that is needed to connect: no attempt was made.
    File,
    /// This machine has run out of something.
    Shortage,
}

/// Who was asked, and by which way.
pub(super) struct Destination<'a> {
    pub(super) host: String,
    pub(super) proxy: Option<&'a Proxy>,
    pub(super) ca_file: Option<&'a Path>,
}

/// A proxy has refused to connect to the server, and the status of its answer is not known.
pub(super) struct Refused(pub(super) NoAnswer);

impl Destination<'_> {
    /// What an error of the HTTP client means; or that the proxy refuses, which the client tells without its status.
    pub(super) fn explain(&self, error: &reqwest::Error) -> Result<NoAnswer, Refused> {
        let Self { host, proxy, ca_file } = self;
        let io_errors = || causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
        let tls = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
        let tunnel = causes(error).find_map(|cause| cause.downcast_ref::<TunnelError>());
        let code = if error.is_timeout() { Code::Timeout } else { Code::Connect };
        let no_answer = |code, fault, text| NoAnswer { code, may_have_arrived: !error.is_connect(), fault, text };
        if let Some(lack) = io_errors().find_map(shortage::of) {
            return Ok(no_answer(code, Fault::Shortage, format!("no connection to {host}: {lack}")));
        }
        if let (Some(tunnel), Some(proxy)) = (tunnel, proxy) {
            let (code, fault, what) = match tunnel {
                TunnelError::ProxyAuthRequired => return Ok(self.refusal(proxy, 407)),
                TunnelError::TunnelUnsuccessful => {
                    return Err(Refused(no_answer(code, Fault::Passing, self.blamed(proxy, "has refused to connect"))));
                }
                TunnelError::ProxyHeadersTooLong => {
                    (code, Fault::Passing, "answers something else than a proxy".to_owned())
                }
                TunnelError::TunnelUnexpectedEof => {
                    (code, Fault::Passing, "has closed the connection without an answer".to_owned())
                }
                _ => match tls {
                    Some(rustls::Error::InvalidCertificate(why)) => {
                        (Code::Tls, Fault::Unreachable, format!("cannot be used: its {}", certificate(why, *ca_file)))
                    }
                    Some(_) => (Code::Tls, Fault::Passing, format!("cannot be reached by TLS: {}", cause(error))),
                    None => (code, Fault::Passing, format!("cannot be reached: {}", cause(error))),
                },
            };
            return Ok(no_answer(code, fault, self.blamed(proxy, &what)));
        }
        let through = proxy.map(|proxy| format!(" through the proxy {}{}", proxy.host(), address_from(proxy)));
        let through = through.unwrap_or_default();
        Ok(match tls {
            _ if error.is_timeout() && error.is_connect() => {
                let text = format!("no connection to {host}{through} within the request timeout");
                no_answer(code, Fault::Passing, text)
            }
            _ if error.is_timeout() => {
                let text = format!("no answer from {host}{through} within the request timeout");
                no_answer(code, Fault::Passing, text)
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                let text = format!("no connection to {host}: its {}", certificate(why, *ca_file));
                no_answer(Code::Tls, Fault::Unreachable, text)
            }
            Some(_) => no_answer(Code::Tls, Fault::Passing, format!("TLS with {host} failed: {}", cause(error))),
            None if error.is_connect() => {
                no_answer(code, Fault::Passing, format!("no connection to {host}{through}: {}", cause(error)))
            }
            None => {
                no_answer(code, Fault::Passing, format!("the connection to {host}{through} was lost: {}", cause(error)))
            }
        })
    }

    /// The proxy has answered with this status instead of connecting.
    pub(super) fn refusal(&self, proxy: &Proxy, status: u16) -> NoAnswer {
        let (code, what) = match status {
            407 => {
                let login = proxy.origin.login();
                (Code::Http(status), format!("answers HTTP 407, it wants another user name or password ({login})"))
            }
            400..=499 => (Code::Connect, format!("answers HTTP {status}; does it allow connections to {}?", self.host)),
            _ => (Code::Connect, format!("answers HTTP {status}")),
        };
        let fault = if (400..500).contains(&status) { Fault::Unreachable } else { Fault::Passing };
        NoAnswer { code, may_have_arrived: false, fault, text: self.blamed(proxy, &what) }
    }

    fn blamed(&self, proxy: &Proxy, what: &str) -> String {
        format!("no connection to {}: the proxy {} {what}{}", self.host, proxy.host(), address_from(proxy))
    }
}

fn address_from(proxy: &Proxy) -> String {
    format!(" (its address is from {})", proxy.origin.place())
}

/// What is wrong with a certificate. Only where its issuer is not known does another `ca_file` help.
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
        // As after an authority was set up anew, while the file still has the old one.
        Why::BadSignature => {
            let place = ca_file.map_or_else(|| "the system".to_owned(), |file| format!("ca_file {}", file.display()));
            format!("certificate is not trusted: the authority that issued it has another key than the one in {place}")
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

/// The innermost cause, in words of our own where it is that the other side has gone: the TLS library refers to its
/// documentation there.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let ended = |cause: &io::Error| cause.kind() == io::ErrorKind::UnexpectedEof && cause.raw_os_error().is_none();
    if causes(error).filter_map(|cause| cause.downcast_ref()).any(ended) {
        return "the other side has closed it".to_owned();
    }
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The causes of an error, from the outside in.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| next(*error))
}

/// The cause behind an error. `io::Error` hides its payload from `source()`, and a TLS error sits in two of them.
fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(payload) => Some(payload),
        None => error.source(),
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
        for (why, told) in [
            (CertificateError::ExpiredContext { time: at(100), not_after: at(90) }, "expired 1970-01-01T00:01:30Z"),
            (CertificateError::NotValidYetContext { time: at(1), not_before: at(90) }, "before 1970-01-01T00:01:30Z"),
            (CertificateError::NotValidForName, "another name"),
            (CertificateError::BadEncoding, "not valid: BadEncoding"),
            (webpki(webpki::Error::CaUsedAsEndEntity), "that of an authority"),
            (webpki(webpki::Error::BadDer), "not valid"),
        ] {
            for file in [None, file] {
                let text = certificate(&why, file);
                assert!(text.contains(told) && !text.contains("ca_file") && !text.contains("://"), "{text}");
            }
        }
    }
}
