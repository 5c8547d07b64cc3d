//! Addresses of servers.

use super::error::SetUpError;

/// Where a request goes.
pub(in crate::kms) type Url = reqwest::Url;

/// The address of a call at an endpoint.
pub(in crate::kms) fn address(endpoint: &str, call: &str) -> Result<Url, SetUpError> {
    Url::parse(&format!("{endpoint}/{call}")).map_err(|_| SetUpError::Endpoint(endpoint.to_owned()))
}

/// The server of an address: its host, and its port where that is not the scheme's own.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
