//! `healthcheck`: is the daemon well? For containers, whose images have no curl.

use super::arguments::HealthOptions;
use super::{Exit, fail};
use crate::support::error_chain::ErrorChain;
use crate::web::{Probe, Way};

pub(super) async fn healthcheck(options: HealthOptions) -> Exit {
    let HealthOptions { listen, url, ready, ca_file, cert_file, key_file } = options;
    let (way, host, port) = url.unwrap_or_else(|| {
        let (host, port) = listen.reached_at();
        (Way::Either, host, port)
    });
    let path = if ready { "/readyz" } else { "/healthz" };
    let probe = Probe { way, host, port, path, ca_file, certificate: cert_file.zip(key_file) };
    match probe.ask().await {
        Ok(()) => Exit::Success,
        Err(error) => fail(Exit::Failed, &ErrorChain(&error)),
    }
}
