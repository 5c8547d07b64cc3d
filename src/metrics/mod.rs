//! The Prometheus side: counters and histograms that live between runs, gauges of the process, and the series of keys,
//! which are rendered from the last run's report.

mod exposition;
mod gzip;
mod key_series;
mod process;
mod project_calls;
mod registry;

pub(crate) use gzip::Archive;
pub(crate) use key_series::KeySeries;
pub(crate) use registry::Metrics;
pub(crate) use registry::MetricsError;
