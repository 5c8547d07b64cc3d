//! The Kubernetes Lease by which one of several replicas writes and the others are on standby.
//!
//! `kube-leader-election` acquires, renews and releases the lease. That alone does not make writing safe: it compares
//! wall clocks to see whether a lease has expired, and two replicas that see it expire at the same time both get
//! success. So the [`WriteGate`] opens only:
//!
//! * after this replica has been the holder for a whole lease duration without a break, and
//! * until two thirds of a lease duration after it *sent* the last successful request.
//!
//! Before another replica opens its gate, the previous holder has not renewed the lease for a full duration; its gate
//! closed a third of a duration earlier, which leaves time for a request in flight. Wrong wall clocks do not change
//! that.
//!
//! Durations are measured with the [`BootClock`], which continues while the machine is suspended or the process is
//! stopped: afterwards the gate is closed before the next write. Two cases are not covered. A request that has passed
//! the gate before may still be sent afterwards. And if a hypervisor pauses a machine together with its clock, or
//! restores a snapshot, an open gate stays open until its limit by that clock, or until the API server's next response,
//! whichever is first.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use kube_leader_election::{LeaseLock, LeaseLockParams, LeaseLockResult};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::support::clock::BootClock;
use crate::support::error_chain::ErrorChain;
use crate::support::write_gate::{WriteGate, WriteGateHandle};

/// Attempts per lease duration. With this many, one may time out before the gate closes.
const ATTEMPTS_PER_LEASE: u32 = 6;

/// Limit of the request timeout for long leases: shutdown waits for the request that releases the lease.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A lease, and the replica that applies for it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The namespace of the lease.
    pub namespace: String,
    /// The name of the lease. It is created if it does not exist.
    pub lease: String,
    /// The unique name of this replica; at most 128 characters, since it is also the field manager of patches.
    pub identity: String,
    /// How long the lease is valid after a renewal.
    pub duration: Duration,
}

/// Why the API server cannot be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseSetUpError {
    /// Neither a mounted service account nor a kubeconfig was found.
    #[error("find the Kubernetes API (mount the pod's service account token, or set KUBECONFIG to a kubeconfig file)")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The configuration that was found cannot be used.
    #[error("set up the client for the Kubernetes API")]
    Client(#[source] Box<kube::Error>),
}

/// Acquires and renews the lease.
pub(crate) struct LeaderElection {
    candidate: Candidate,
    lock: LeaseLock,
    handle: WriteGateHandle,
    gate: WriteGate,
    clock: BootClock,
    hold: Option<Tenure>,
    /// The holder according to the last response.
    holder: String,
    /// The last attempt failed, and that is logged.
    failing: bool,
}

/// The time since this replica acquired the lease, without a break.
#[derive(Clone, Copy)]
struct Tenure {
    /// `acquireTime` of the lease; it differs for each acquisition.
    acquired: Option<Timestamp>,
    /// When this replica received the first response, by its own clock.
    since: Duration,
}

impl LeaderElection {
    /// Prepares the requests; the gate is closed until [`LeaderElection::run`] opens it.
    ///
    /// # Errors
    ///
    /// There is no usable configuration of the API server. No request is sent yet.
    pub(crate) async fn new(candidate: Candidate, clock: BootClock) -> Result<(Self, WriteGate), LeaseSetUpError> {
        let config = kube::Config::infer().await.map_err(|error| LeaseSetUpError::Config(Box::new(error)))?;
        Self::with_config(config, candidate, clock)
    }

    fn with_config(
        mut config: kube::Config,
        candidate: Candidate,
        clock: BootClock,
    ) -> Result<(Self, WriteGate), LeaseSetUpError> {
        config.connect_timeout = Some(candidate.request_timeout());
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(|error| LeaseSetUpError::Client(Box::new(error)))?;
        let params = LeaseLockParams {
            lease_name: candidate.lease.clone(),
            holder_id: candidate.identity.clone(),
            lease_ttl: candidate.duration,
        };
        let lock = LeaseLock::new(client, &candidate.namespace, params);
        let (handle, gate) = WriteGate::closed(clock.clone());
        let election = Self {
            candidate,
            lock,
            handle,
            gate: gate.clone(),
            clock,
            hold: None,
            holder: String::new(),
            failing: false,
        };
        Ok((election, gate))
    }

    /// Acquires and renews the lease until `shutdown` is cancelled, and then releases it.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        // A request in flight is dropped: a pod has half a minute for its whole shutdown.
        shutdown.run_until_cancelled(self.renew()).await;
        self.handle.close();
        if self.hold.is_some() {
            self.release().await;
        }
    }

    /// Acquires or renews the lease again and again. Never ends.
    async fn renew(&mut self) {
        let mut was_active = None;
        loop {
            self.try_acquire().await;
            let is_active = self.gate.is_open();
            if was_active.replace(is_active) != Some(is_active) {
                let (lease, holder) = (self.candidate.to_string(), &*self.holder);
                if is_active {
                    info!(lease, holder, "this replica is active and may write");
                } else {
                    info!(lease, holder, "this replica is on standby and only reads");
                }
            }
            sleep(self.candidate.retry_period()).await;
        }
    }

    async fn try_acquire(&mut self) {
        let sent = self.clock.now();
        let error = match timeout(self.candidate.request_timeout(), self.lock.try_acquire_or_renew()).await {
            Ok(Ok(result)) => {
                self.failing = false;
                return self.apply(&result, sent);
            }
            Ok(Err(error)) => ErrorChain(&error).to_string(),
            Err(_) => "the request timed out".to_owned(),
        };
        if !std::mem::replace(&mut self.failing, true) {
            let lease = self.candidate.to_string();
            warn!(lease, error, "cannot acquire or renew the lease; retrying, nothing is written without it");
        }
    }

    fn apply(&mut self, result: &LeaseLockResult, sent: Duration) {
        let spec = result.lease().and_then(|lease| lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        holder.clone_into(&mut self.holder);
        // The response to a renewal may name another holder.
        if !matches!(result, LeaseLockResult::Acquired(_)) || holder != self.candidate.identity {
            self.hold = None;
            self.handle.close();
            return;
        }
        let acquired = spec.and_then(|spec| spec.acquire_time.as_ref()).map(|time| time.0);
        let received = self.clock.now();
        let hold = match self.hold {
            Some(hold) if hold.acquired == acquired => hold,
            _ => {
                self.handle.close();
                Tenure { acquired, since: received }
            }
        };
        self.hold = Some(hold);
        if received >= hold.since + self.candidate.duration {
            self.handle.open_until(sent + self.candidate.duration * 2 / 3);
        }
    }

    async fn release(&self) {
        let lease = self.candidate.to_string();
        let error = match timeout(self.candidate.request_timeout(), self.lock.step_down()).await {
            Ok(Ok(())) => return info!(lease, "lease released"),
            Ok(Err(error)) => ErrorChain(&error).to_string(),
            Err(_) => "the request timed out".to_owned(),
        };
        warn!(lease, error, "cannot release the lease; another replica can take it when it expires");
    }
}

impl Candidate {
    /// Pause between an attempt and the next one.
    fn retry_period(&self) -> Duration {
        self.duration / ATTEMPTS_PER_LEASE
    }

    fn request_timeout(&self) -> Duration {
        self.retry_period().min(MAX_REQUEST_TIMEOUT)
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.lease)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;

    /// The response for a lease that this replica acquired at this time.
    fn held_since(acquired: &str) -> LeaseLockResult {
        let lease = json!({"spec": {"holderIdentity": "me", "acquireTime": acquired}});
        LeaseLockResult::Acquired(serde_json::from_value(lease).unwrap())
    }

    fn candidate(seconds: u64) -> Candidate {
        Candidate {
            namespace: "kms".to_owned(),
            lease: "rotation".to_owned(),
            identity: "me".to_owned(),
            duration: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn releasing_the_lease_takes_less_time_than_a_pod_has_to_stop() {
        let waits = [3, 12, 60, 300].map(|seconds| candidate(seconds).request_timeout().as_millis());
        assert_eq!(waits, [500, 2_000, 5_000, 5_000]);
    }

    #[tokio::test]
    async fn a_response_from_before_a_suspend_does_not_open_the_gate_after_it() {
        let seconds = Arc::<AtomicU64>::default();
        let clock = {
            let seconds = Arc::clone(&seconds);
            BootClock::from_fn(move || Duration::from_secs(seconds.load(Ordering::SeqCst)))
        };
        let candidate = candidate(30);
        let config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let (mut election, gate) = LeaderElection::with_config(config, candidate, clock).unwrap();
        let (first, second) = (held_since("2026-01-01T00:00:00.000000Z"), held_since("2026-01-01T01:00:00.000000Z"));
        // A response to a request of the time `sent` arrives; the gate is then open until this time, or closed.
        let mut receives = |now, lease, sent, open_until: Option<u64>| {
            seconds.store(now, Ordering::SeqCst);
            election.apply(lease, Duration::from_secs(sent));
            assert_eq!(gate.is_open(), open_until.is_some(), "at {now}");
            if let Some(until) = open_until {
                seconds.store(until - 1, Ordering::SeqCst);
                assert!(gate.is_open(), "at {until} less one");
                seconds.store(until, Ordering::SeqCst);
                assert!(!gate.is_open(), "at {until}");
            }
        };
        receives(0, &first, 0, None);
        receives(29, &first, 29, None);
        receives(30, &first, 30, Some(50));
        // The machine was suspended; the response is to an earlier request.
        receives(3_600, &first, 45, None);
        // No other replica held the lease meanwhile.
        receives(3_601, &first, 3_600, Some(3_620));
        // The lease was lost and acquired again.
        receives(3_621, &second, 3_621, None);
        receives(3_651, &second, 3_650, Some(3_670));
    }
}
