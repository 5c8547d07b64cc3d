//! The lease in Kubernetes by which one of several replicas acts and the others stand by.
//!
//! `kube-leader-election` asks for the lease, renews it and gives it back. What it says is not enough to write by: it
//! judges by wall clocks whether a lease has ended, and two replicas that find it ended in the same moment are both told
//! that they have it. So the [`Gate`] opens only
//!
//! * once this replica has seen itself as the holder for a whole duration of the lease, without a break, and
//! * until two thirds of a duration after it last *asked* when it was told so.
//!
//! Before another replica opens its gate, the previous holder has gone a full lease duration without a renewal; its gate
//! closed a third of that earlier, which leaves time for a request in flight. That holds however wrong the wall clocks
//! are, and whatever two replicas were told.
//!
//! Durations are those of the [`BootClock`], which goes on while a machine is suspended or a process is stopped: when it
//! goes on, the gate is found closed before the next write. Two cases are not covered. A request that had passed the
//! gate may still go out then, however late that is. And where a hypervisor pauses a machine and its clock with it, or
//! sets it back to a snapshot, a gate that was open stays so until its time is over by that clock, or until the next
//! answer of the API server, whichever is first.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use kube_leader_election::{LeaseLock, LeaseLockParams, LeaseLockResult};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::support::clock::BootClock;
use crate::support::error_chain::Chain;
use crate::support::write_gate::{Gate, GateHandle};

/// Attempts in the duration of a lease. With this many one may be lost, and take its time, before the gate closes.
const ATTEMPTS: u32 = 6;

/// However long a lease lasts, no answer is worth waiting longer for: giving the lease back is part of a stop.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

/// What lease, who asks for it, and for how long.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The namespace of the lease.
    pub namespace: String,
    /// The name of the lease, which is made where there is none.
    pub lease: String,
    /// The name of this replica, of which no two may be alike; at most 128 characters, since it is the field manager
    /// of patches too.
    pub identity: String,
    /// How long the lease holds after it was last renewed.
    pub duration: Duration,
}

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum NoCluster {
    /// Neither the mounted service account nor a kubeconfig says where it is.
    #[error(
        "find the Kubernetes API (the pod needs the token of its service account, or KUBECONFIG is to name a file)"
    )]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// What is said of it is of no use.
    #[error("set up the way to the Kubernetes API")]
    Client(#[source] Box<kube::Error>),
}

/// Acquires and renews the lease.
pub struct LeaderElection {
    candidate: Candidate,
    lock: LeaseLock,
    handle: GateHandle,
    gate: Gate,
    clock: BootClock,
    hold: Option<Hold>,
    /// Who holds the lease as far as this replica knows.
    holder: String,
    /// Whether the last attempt failed.
    failing: bool,
}

/// An unbroken hold on the lease.
#[derive(Clone, Copy)]
struct Hold {
    /// `acquireTime` of the lease; it differs for each acquisition.
    taken: Option<Timestamp>,
    /// When this replica heard of it, by its own clock.
    since: Duration,
}

impl LeaderElection {
    /// Prepares to ask for the lease; the gate is closed until [`LeaderElection::run`] opens it.
    ///
    /// # Errors
    ///
    /// Nothing says where the API server is. Whether it answers is found out later, and again and again.
    pub async fn new(candidate: Candidate, clock: BootClock) -> Result<(Self, Gate), NoCluster> {
        let config = kube::Config::infer().await.map_err(|error| NoCluster::Config(Box::new(error)))?;
        Self::at(config, candidate, clock)
    }

    fn at(mut config: kube::Config, candidate: Candidate, clock: BootClock) -> Result<(Self, Gate), NoCluster> {
        config.connect_timeout = Some(candidate.answer_within());
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(|error| NoCluster::Client(Box::new(error)))?;
        let params = LeaseLockParams {
            lease_name: candidate.lease.clone(),
            holder_id: candidate.identity.clone(),
            lease_ttl: candidate.duration,
        };
        let lock = LeaseLock::new(client, &candidate.namespace, params);
        let (handle, gate) = Gate::closed(clock.clone());
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

    /// Asks for the lease, and renews it, until `over` is cancelled, and then gives it back.
    pub async fn run(mut self, over: CancellationToken) {
        // Not even an answer that is due is waited for: a pod has half a minute for all of its stop.
        over.run_until_cancelled(self.renew()).await;
        self.handle.close();
        if self.hold.is_some() {
            self.release().await;
        }
    }

    /// Asks again and again. Never ends.
    async fn renew(&mut self) {
        let mut acted = None;
        loop {
            self.ask().await;
            let acts = self.gate.is_open();
            if acted.replace(acts) != Some(acts) {
                let (lease, holder) = (self.candidate.to_string(), &*self.holder);
                if acts {
                    info!(lease, holder, "this replica acts");
                } else {
                    info!(lease, holder, "this replica stands by");
                }
            }
            sleep(self.candidate.retry_period()).await;
        }
    }

    async fn ask(&mut self) {
        let asked = self.clock.now();
        let error = match timeout(self.candidate.answer_within(), self.lock.try_acquire_or_renew()).await {
            Ok(Ok(result)) => {
                self.failing = false;
                return self.heard(&result, asked);
            }
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if !std::mem::replace(&mut self.failing, true) {
            let lease = self.candidate.to_string();
            warn!(lease, error, "cannot ask for the lease; it is tried again, and without it nothing is written");
        }
    }

    fn heard(&mut self, result: &LeaseLockResult, asked: Duration) {
        let spec = result.lease().and_then(|lease| lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        holder.clone_into(&mut self.holder);
        // The answer to a renewal says who holds it, and that may be another by now.
        if !matches!(result, LeaseLockResult::Acquired(_)) || holder != self.candidate.identity {
            self.hold = None;
            self.handle.close();
            return;
        }
        let taken = spec.and_then(|spec| spec.acquire_time.as_ref()).map(|time| time.0);
        let heard = self.clock.now();
        let hold = match self.hold {
            Some(hold) if hold.taken == taken => hold,
            _ => {
                self.handle.close();
                Hold { taken, since: heard }
            }
        };
        self.hold = Some(hold);
        if heard >= hold.since + self.candidate.duration {
            self.handle.open_until(asked + self.candidate.duration * 2 / 3);
        }
    }

    async fn release(&self) {
        let lease = self.candidate.to_string();
        let error = match timeout(self.candidate.answer_within(), self.lock.step_down()).await {
            Ok(Ok(())) => return info!(lease, "lease given back"),
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        warn!(lease, error, "cannot give the lease back; another replica has it once its duration is over");
    }
}

impl Candidate {
    /// How long to wait between an answer, or giving it up, and the next attempt.
    fn retry_period(&self) -> Duration {
        self.duration / ATTEMPTS
    }

    /// How long to wait for an answer.
    fn answer_within(&self) -> Duration {
        self.retry_period().min(LONGEST_ANSWER)
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

    /// The answer of a lease that this replica acquired then.
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
    fn no_stop_waits_for_the_lease_for_longer_than_a_pod_has() {
        let waits = [3, 12, 60, 300].map(|seconds| candidate(seconds).answer_within().as_millis());
        assert_eq!(waits, [500, 2_000, 5_000, 5_000]);
    }

    #[tokio::test]
    async fn what_was_heard_before_a_suspend_opens_no_gate_after_it() {
        let seconds = Arc::<AtomicU64>::default();
        let clock = {
            let seconds = Arc::clone(&seconds);
            BootClock::from_fn(move || Duration::from_secs(seconds.load(Ordering::SeqCst)))
        };
        let candidate = candidate(30);
        let config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let (mut election, gate) = LeaderElection::at(config, candidate, clock).unwrap();
        let (first, second) = (held_since("2026-01-01T00:00:00.000000Z"), held_since("2026-01-01T01:00:00.000000Z"));
        // When it is, when was asked for what is heard then, and whether the gate is open after it and until when.
        let mut hears = |now, lease, asked, open_until: Option<u64>| {
            seconds.store(now, Ordering::SeqCst);
            election.heard(lease, Duration::from_secs(asked));
            assert_eq!(gate.is_open(), open_until.is_some(), "at {now}");
            if let Some(until) = open_until {
                seconds.store(until - 1, Ordering::SeqCst);
                assert!(gate.is_open(), "at {until} less one");
                seconds.store(until, Ordering::SeqCst);
                assert!(!gate.is_open(), "at {until}");
            }
        };
        hears(0, &first, 0, None);
        hears(29, &first, 29, None);
        hears(30, &first, 30, Some(50));
        // The machine slept, and the answer is to a question from before.
        hears(3_600, &first, 45, None);
        // Nobody else had it meanwhile.
        hears(3_601, &first, 3_600, Some(3_620));
        // It was lost and acquired anew.
        hears(3_621, &second, 3_621, None);
        hears(3_651, &second, 3_650, Some(3_670));
    }
}
