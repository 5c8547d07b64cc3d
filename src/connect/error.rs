//! Why a project has no client. The kind decides what a caller does about it.

use std::path::PathBuf;

use crate::kms::SetUpError;
use crate::kms::auth::Unreadable;
use crate::reconcile::NotConnected;
use crate::support::error_chain::ErrorChain;

/// Why the client of a project cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The credentials are missing, incomplete or invalid. A person must correct them.
    #[error("cannot use the credentials")]
    Credentials(#[source] EnvironmentError),
    /// This machine has run out of a resource. The next run may succeed.
    #[error("cannot read the credentials now")]
    Shortage(#[source] EnvironmentError),
    /// The settings are invalid, such as the proxy's address. A person must correct them.
    #[error("cannot set up the client")]
    Client(#[from] SetUpError),
}

impl From<EnvironmentError> for ConnectError {
    fn from(error: EnvironmentError) -> Self {
        match &error {
            EnvironmentError::File(Unreadable { is_shortage: true, .. }) => Self::Shortage(error),
            _ => Self::Credentials(error),
        }
    }
}

impl From<ConnectError> for NotConnected {
    fn from(error: ConnectError) -> Self {
        let text = ErrorChain(&error).to_string();
        match error {
            ConnectError::Credentials(_) => Self::Credentials(text),
            ConnectError::Shortage(_) | ConnectError::Client(_) => Self::Unreachable(text),
        }
    }
}

/// Why the environment has no usable credentials. Contains no secret.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Only some of the variables of a login are set.
    #[error("{} {} set, but not {}", set.join(" and "), is_or_are(set), missing.join(", nor "))]
    Incomplete {
        /// The variables that are set.
        set: Vec<&'static str>,
        /// The variables that are missing, each with its alternatives.
        missing: Vec<String>,
    },
    /// A variable or a field has an invalid value, which is not repeated: it may be a secret.
    #[error("{name} is not {expected}")]
    Invalid {
        /// The variable, or the field and its file.
        name: String,
        expected: &'static str,
    },
    /// A file lacks a section or a field.
    #[error("{location} has no {missing}")]
    Missing {
        /// The file, or its section.
        location: String,
        /// What is missing.
        missing: String,
    },
    /// A file cannot be parsed.
    #[error("{} is not valid {format}", file.display())]
    Syntax {
        file: PathBuf,
        /// `JSON` or `YAML`.
        format: &'static str,
    },
    /// `OS_CLOUD` is set without a `clouds.yaml`.
    #[error("OS_CLOUD is set, but there is no clouds.yaml in {folders}")]
    NoCloudsFile {
        /// The folders that were searched.
        folders: String,
    },
    /// The agency needs an STS endpoint, and the region has no known one.
    #[error(
        "{variable} is set, but not HUAWEICLOUD_SDK_STS_ENDPOINT, and no STS endpoint of {cloud} in {region} is known"
    )]
    NoStsEndpoint {
        /// The variable that names the agency.
        variable: &'static str,
        /// The policy's cloud.
        cloud: &'static str,
        /// The policy's region.
        region: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] Unreadable),
}

fn is_or_are(variables: &[&str]) -> &'static str {
    if variables.len() == 1 { "is" } else { "are" }
}

/// For a secret that is an entry of a file.
impl From<EnvironmentError> for Unreadable {
    fn from(error: EnvironmentError) -> Self {
        match error {
            EnvironmentError::File(error) => error,
            other => Self::from(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;
    use std::path::Path;

    use super::*;

    #[test]
    fn an_error_keeps_its_cause_and_a_shortage_is_not_an_error_of_the_credentials() {
        let unreadable = |errno: i32| Unreadable::file(Path::new("clouds.yaml"), io::Error::from_raw_os_error(errno));
        let connect = |error: EnvironmentError| ConnectError::from(error);
        let (missing, too_many_open_files) = (unreadable(2), unreadable(24));
        let missing = connect(missing.into());
        let source = missing.source().and_then(|source| source.downcast_ref::<EnvironmentError>());
        assert!(matches!(source, Some(EnvironmentError::File(_))), "{missing:?}");
        let expected = "cannot use the credentials: cannot read clouds.yaml: No such file or directory (os error 2)";
        assert_eq!(NotConnected::from(missing), NotConnected::Credentials(expected.to_owned()));
        let NotConnected::Unreachable(text) = NotConnected::from(connect(too_many_open_files.into())) else {
            panic!("a shortage is not an error of the credentials");
        };
        assert!(text.starts_with("cannot read the credentials now: cannot read clouds.yaml: "), "{text}");
        let address = ConnectError::from(SetUpError::Endpoint("x".to_owned()));
        let expected = "cannot set up the client: x is not the address of an HTTP server".to_owned();
        assert_eq!(NotConnected::from(address), NotConnected::Unreachable(expected));
    }
}
