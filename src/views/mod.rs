//! A run's report for people and programs: the status page, JSON, and the text of `apply` and `plan`, with one wording
//! for all.
//!
//! Everything is rendered from an immutable [`Report`](crate::rotation::report::Report), so that no reader sees half a
//! run.

pub(crate) mod document;
pub(crate) mod escape;
pub(crate) mod history;
pub(crate) mod page;
pub(crate) mod query;
pub(crate) mod snapshot;
pub(crate) mod status_json;
mod text_report;
pub(crate) mod wording;

pub use history::{HistoryEvent, HistorySource, KeyHistory};
pub use snapshot::EvidenceStatus;
pub use status_json::{RefusedPolicy, write_json, write_json_without_run};
pub use text_report::{Purpose, TextStyle, write_text};
