//! `healthcheck`: requests `/healthz` or `/readyz`, for containers whose images have no curl.

use super::arguments::HealthOptions;
use super::{Exit, fail};
use crate::support::error_chain::ErrorChain;
use crate::web::{Probe, Scheme};

pub(super) async fn healthcheck(options: HealthOptions) -> Exit {
    let HealthOptions { listen, url, ready, ca_file, cert_file, key_file } = options;
    let (scheme, host, port) = url.unwrap_or_else(|| {
        let (host, port) = listen.reached_at();
        (Scheme::HttpOrHttps, host, port)
    });
    let path = if ready { "/readyz" } else { "/healthz" };
    let probe = Probe { scheme, host, port, path, ca_file, certificate: cert_file.zip(key_file) };
    match probe.send().await {
        Ok(()) => Exit::Success,
        Err(error) => fail(Exit::Failed, &ErrorChain(&error)),
    }
}
