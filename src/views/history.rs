//! The history of one key, as its page shows it.

use std::time::SystemTime;

/// What happened to a key, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyHistory {
    /// From where it is.
    pub source: HistorySource,
    pub events: Vec<HistoryEvent>,
    /// Whether there are older events that are not shown.
    pub is_cut: bool,
}

/// From where a history is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HistorySource {
    /// The memory of the process: what happened since it started.
    #[default]
    Process,
    /// The evidence log.
    EvidenceLog,
    /// The evidence log, which cannot be read for this reason.
    Unreadable(String),
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEvent {
    /// When it was recorded.
    pub at: SystemTime,
    /// What happened.
    pub what: String,
    /// More about it, such as the cloud's answer; may be empty.
    pub details: String,
}
