//! The state of the daemon at one moment, from which page, JSON and metrics are rendered.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::rotation::progress::RunUnderWay;
use crate::rotation::report::Report;

/// Everything that changes while the daemon runs, at one moment.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// The cloud is a simulated one.
    pub(crate) simulated: bool,
    /// This process may write: it is the only replica, or the lease holder.
    pub(crate) acting: bool,
    pub(crate) policy: Option<LoadedPolicy>,
    /// Why the current policy file was refused.
    pub(crate) reload_error: Option<Arc<ReloadError>>,
    pub(crate) next_run: Option<SystemTime>,
    pub(crate) last_success: Option<SystemTime>,
    /// The report of the last run.
    pub(crate) report: Option<Arc<Report>>,
    /// The run under way.
    pub(crate) run: Option<RunUnderWay>,
    /// The text of the policy in force, where it is kept.
    pub(crate) policy_text: Option<Arc<str>>,
    /// The calls of each project; only for the page.
    pub(crate) calls: Vec<CallCounts>,
    /// The evidence log, if there is one.
    pub(crate) evidence: Option<Arc<EvidenceStatus>>,
}

impl Snapshot {
    /// Whether there is an evidence log that cannot be written.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.evidence.as_ref().is_some_and(|evidence| !evidence.write_successful)
    }
}

/// The calls of a project since the start.
#[derive(Clone, Debug)]
pub(crate) struct CallCounts {
    pub(crate) project: Arc<str>,
    /// HTTP requests.
    pub(crate) requests: u64,
    /// Requests among them that were sent again.
    pub(crate) retries: u64,
    /// When the credentials in use expire.
    pub(crate) credentials_expiry: Option<SystemTime>,
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
