//! Lets one of several replicas write: the holder of a Kubernetes Lease, which opens the
//! [write gate](crate::support::write_gate).

#[cfg(feature = "kubernetes")]
mod lease;

#[cfg(feature = "kubernetes")]
pub(crate) use lease::{Candidate, LeaderElection};
