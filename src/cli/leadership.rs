//! The options of the lease, and its start and release.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::arguments::LeaseOptions;
use super::{Exit, fail};
use crate::support::write_gate::WriteGate;

/// The write gate, and the election that opens it.
#[derive(Default)]
pub(super) struct Leadership {
    pub(super) gate: WriteGate,
    /// The lease duration, if there is a lease.
    pub(super) duration: Option<Duration>,
    /// The name of this replica, if there is a lease.
    pub(super) replica: Option<String>,
    /// Not started yet.
    election: Option<BoxFuture<'static, ()>>,
    running: Option<JoinHandle<()>>,
    shutdown: CancellationToken,
}

impl Leadership {
    /// Prepares the election without a request; or prints the error and returns the exit code.
    #[cfg(feature = "kubernetes")]
    pub(super) async fn from_options(options: LeaseOptions) -> Result<Self, Exit> {
        use futures_util::FutureExt;

        use crate::leadership::{Candidate, LeaderElection};
        use crate::support::clock::BootClock;
        use crate::support::error_chain::ErrorChain;

        let Some(lease) = options.lease else { return Ok(Self::default()) };
        let duration = Duration::from_secs(options.duration.into());
        let identity = identity();
        let replica = Some(identity.clone());
        let candidate = Candidate { namespace: lease.namespace, lease: lease.name, identity, duration };
        let (election, gate) = match LeaderElection::new(candidate, BootClock::system()).await {
            Ok(election) => election,
            Err(error) => return Err(fail(Exit::Failed, &format_args!("cannot {}", ErrorChain(&error)))),
        };
        let shutdown = CancellationToken::new();
        let election = election.run(shutdown.clone()).boxed();
        Ok(Self { gate, duration: Some(duration), replica, election: Some(election), running: None, shutdown })
    }

    #[cfg(not(feature = "kubernetes"))]
    #[expect(clippy::unused_async, reason = "async with the feature `kubernetes`")]
    pub(super) async fn from_options(options: LeaseOptions) -> Result<Self, Exit> {
        let Some(lease) = options.lease else { return Ok(Self::default()) };
        let why = format_args!(
            "cannot use the lease {}/{} of {} seconds: this program was built without the feature `kubernetes`",
            lease.namespace, lease.name, options.duration
        );
        Err(fail(Exit::Invalid, &why))
    }

    /// Starts the election. To be called last at start-up: a process that fails later would keep the lease from others.
    pub(super) fn start(&mut self) {
        self.running = self.election.take().map(tokio::spawn);
    }

    /// Releases the lease for another replica. To be called after the last write.
    pub(super) async fn release(self) {
        self.shutdown.cancel();
        if let Some(election) = self.running {
            let _ = election.await;
        }
    }
}

/// The pod's name and a random suffix: pods on the host network of one node have the same host name.
#[cfg(feature = "kubernetes")]
fn identity() -> String {
    /// Together with the suffix, the cluster's limit of 128 for a field manager.
    const MAX_LENGTH: usize = 119;
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = super::variable("POD_NAME").or_else(host).unwrap_or_default();
    let name: String = name.trim().chars().take(MAX_LENGTH).collect();
    let mut suffix = uuid::Uuid::new_v4().simple().to_string();
    suffix.truncate(8);
    format!("{name}_{suffix}")
}
