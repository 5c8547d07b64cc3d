//! The errors of the transport: set-up, files, and attempts without an answer.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem;

use crate::kms::error::Source;
use crate::kms::observe::Code;
use crate::kms::secret::Unreadable;
use crate::support::error_chain::innermost;

/// Why a transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The proxy's address is not valid. It may contain a password, so it is not repeated.
    #[error("the proxy address in {0} is not valid, expected one such as http://proxy.example.com:3128")]
    Proxy(&'static str),
    /// An endpoint's address is not valid.
    #[error("{0} is not the address of an HTTP server")]
    Endpoint(String),
    /// The HTTP client cannot be built.
    #[error("cannot set up TLS (install the system's CA certificates or set ca_file)")]
    Client(#[source] HttpError),
}

/// An error of the HTTP client. Its text is the innermost cause, so it has no source.
#[derive(Debug)]
pub struct HttpError(pub(super) reqwest::Error);

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&innermost(&self.0))
    }
}

impl StdError for HttpError {}

/// Why no connection is attempted: a file or the proxy's password cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientBuildError {
    #[error("no password for the proxy")]
    ProxyPassword(#[source] Unreadable),
    #[error("the proxy's password contains characters that are not allowed in an HTTP header; set another one")]
    ProxyPasswordCharacters,
    #[error(
        "the proxy {authority} refused the password (HTTP 407); the unchanged password is sent again after 30 minutes, \
         or after SIGHUP ({login})"
    )]
    RefusedByProxy { authority: String, login: String },
    #[error("cannot read ca_file {}", .0.display())]
    CaFile(PathBuf, #[source] io::Error),
    #[error("ca_file {} is not valid PEM", .0.display())]
    Pem(PathBuf, #[source] pem::Error),
    #[error("certificate {number} in ca_file {} is broken", file.display())]
    Certificate { number: u32, file: PathBuf, source: Source },
    #[error("ca_file {} has no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    #[error(transparent)]
    SetUp(#[from] SetUpError),
}

/// No answer: what happened, and what to do about it where an operator can do something.
#[derive(Debug)]
pub(in crate::kms) struct NoAnswer {
    pub(in crate::kms) code: Code,
    /// The request may have reached the server.
    pub(in crate::kms) may_have_arrived: bool,
    pub(in crate::kms) fault: Fault,
    pub(in crate::kms) text: String,
    pub(in crate::kms) source: Option<Source>,
}

/// What follows from a missing answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kms) enum Fault {
    /// A later attempt may succeed.
    Transient,
    /// Every other request fails as well until an operator acts: a certificate is not trusted, or a proxy refuses.
    Unreachable,
    /// The same, and no attempt was made: a file that is needed to connect cannot be used.
    NotAttempted,
    /// This machine has run out of a resource.
    Shortage,
}

impl NoAnswer {
    /// No attempt was made, for this reason.
    pub(super) fn not_attempted(authority: &str, why: Arc<ClientBuildError>) -> Self {
        Self {
            code: Code::Connect,
            may_have_arrived: false,
            fault: Fault::NotAttempted,
            text: format!("no connection to {authority}"),
            source: Some(Box::new(why)),
        }
    }
}
