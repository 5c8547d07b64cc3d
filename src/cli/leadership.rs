//! Whether this process acts alone, or is one of several replicas of which one acts.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::arguments::LeaseOptions;
use super::{Exit, complain};
use crate::support::write_gate::Gate;

/// The gate that writes pass, and what opens it.
#[derive(Default)]
pub(super) struct Leadership {
    pub(super) gate: Gate,
    /// How long a lease lasts, where there is one.
    pub(super) duration: Option<Duration>,
    /// Not begun yet.
    election: Option<BoxFuture<'static, ()>>,
    begun: Option<JoinHandle<()>>,
    over: CancellationToken,
}

impl Leadership {
    /// As the options say, but the lease is not asked for yet; or the exit code after it was said why that cannot be.
    #[cfg(feature = "kubernetes")]
    pub(super) async fn of(options: LeaseOptions) -> Result<Self, Exit> {
        use futures_util::FutureExt;

        use crate::leadership::{Candidate, LeaderElection};
        use crate::support::clock::BootClock;
        use crate::support::error_chain::Chain;

        let Some(lease) = options.lease else { return Ok(Self::default()) };
        let duration = Duration::from_secs(options.duration.into());
        let candidate = Candidate { namespace: lease.namespace, lease: lease.name, identity: identity(), duration };
        let (election, gate) = match LeaderElection::new(candidate, BootClock::system()).await {
            Ok(election) => election,
            Err(error) => return Err(complain(Exit::Failed, &format_args!("cannot {}", Chain(&error)))),
        };
        let over = CancellationToken::new();
        let election = election.run(over.clone()).boxed();
        Ok(Self { gate, duration: Some(duration), election: Some(election), begun: None, over })
    }

    #[cfg(not(feature = "kubernetes"))]
    #[expect(clippy::unused_async, reason = "so that its caller is the same with leases and without")]
    pub(super) async fn of(options: LeaseOptions) -> Result<Self, Exit> {
        let Some(lease) = options.lease else { return Ok(Self::default()) };
        let why = format_args!(
            "cannot ask for the lease {}/{} of {} seconds: this program was built without the feature `kubernetes`",
            lease.namespace, lease.name, options.duration
        );
        Err(complain(Exit::Invalid, &why))
    }

    /// Begins to ask for the lease. Only once nothing can keep this process from acting any more: it would take the
    /// lease and die with it.
    pub(super) fn begin(&mut self) {
        self.begun = self.election.take().map(tokio::spawn);
    }

    /// Gives a lease back, for another replica to act. Only when nothing is written any more.
    pub(super) async fn release(self) {
        self.over.cancel();
        if let Some(election) = self.begun {
            let _ = election.await;
        }
    }
}

/// The pod's name and something of this process's own: pods on the network of one node have one host name.
#[cfg(feature = "kubernetes")]
fn identity() -> String {
    /// With what is added below the field manager's 128 that the cluster takes.
    const LONGEST: usize = 119;
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = super::variable("POD_NAME").or_else(host).unwrap_or_default();
    let name: String = name.trim().chars().take(LONGEST).collect();
    let mut own = uuid::Uuid::new_v4().simple().to_string();
    own.truncate(8);
    format!("{name}_{own}")
}
