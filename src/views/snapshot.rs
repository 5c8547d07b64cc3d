//! The state of the daemon at one moment, from which page, JSON and metrics are rendered.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::rotation::report::Report;

/// Everything that changes while the daemon runs, at one moment.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// This process may write: it is the only replica, or the lease holder.
    pub(crate) acting: bool,
    pub(crate) policy: Option<LoadedPolicy>,
    /// Why the current policy file was refused.
    pub(crate) reload_error: Option<Arc<ReloadError>>,
    pub(crate) next_run: Option<SystemTime>,
    pub(crate) last_success: Option<SystemTime>,
    /// The report of the last run.
    pub(crate) report: Option<Arc<Report>>,
    /// The evidence log, if there is one.
    pub(crate) evidence: Option<Arc<EvidenceStatus>>,
}

/// The state of the evidence log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceStatus {
    /// The name of the log; empty if it could never be opened.
    pub origin: String,
    /// The records on the disk.
    pub records: u64,
    /// The size and the root of a checkpoint, which changes at most hourly.
    pub checkpoint: Option<(u64, String)>,
    /// Whether the last attempt to write it succeeded.
    pub write_successful: bool,
}

/// The last policy file that was valid.
#[derive(Clone)]
pub(crate) struct LoadedPolicy {
    pub(crate) file: Arc<Path>,
    pub(crate) at: SystemTime,
}

/// Why the policy file was refused.
pub(crate) struct ReloadError {
    /// For people.
    pub(crate) message: String,
    /// For programs.
    pub(crate) problems: Value,
}
