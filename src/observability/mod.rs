//! What the outside sees: metrics, status page, JSON, the report on a terminal, logs.
//!
//! All that is shown of keys is rendered from the last [`Report`](crate::rotation::report::Report), an immutable
//! snapshot, so that no reader ever meets half a run; only counters and histograms live between runs. The daemon holds
//! one [`Board`] and tells it what happened; a [`Server`] reads it. `apply` and `plan` need neither: they print with
//! [`write_text`] or [`write_json`].
//!
//! Documents over all keys can be long (15 MB of metrics for 10 000 keys), so they are never whole in memory: see
//! `document` and `gzip`.

mod access;
mod board;
mod document;
mod entrance;
mod exposition;
mod gzip;
mod host;
mod key_series;
mod listen;
mod log_queue;
pub mod logging;
mod metrics;
mod page;
mod places;
mod probe;
mod process;
mod project_calls;
mod query;
mod routes;
mod server;
mod stall;
mod status_json;
mod text_report;
mod tls;
mod words;

pub use board::{Board, Health};
pub use entrance::{WebError, WebFile};
pub use listen::ListenAddress;
pub use log_queue::{LastLines, LogQueue};
pub use metrics::MetricsError;
pub use probe::{Probe, ProbeError, Way};
pub use server::Server;
pub use status_json::{RefusedPolicy, write_json, write_json_without_run};
pub use text_report::{Purpose, TextStyle, write_text};
pub use tls::TlsError;
