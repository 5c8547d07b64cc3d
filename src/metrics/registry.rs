//! The metrics that live between runs, and the gauges of the process as a whole.
//!
//! Metrics of the whole process are in a registry of the `prometheus` crate. Metrics with a `project` label are in
//! `project_calls` and written by `exposition`, since projects come and go with the policy. Metrics of keys are in
//! `key_series`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::exposition::{Family, Samples, sample};
use super::key_series::write_no_findings;
use super::process;
use super::project_calls::{self, ProjectCalls};
use crate::kms::observe::Operation;
use crate::rotation::report::Trigger;
use crate::support::version::{REVISION, VERSION};
use crate::views::snapshot::{CallCounts, EvidenceStatus, Snapshot};

/// Seconds. A KMS call on a warm connection takes 10 to 100 ms; 8 s is the default timeout, and the buckets
/// around it separate slow requests from timeouts.
const REQUEST_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0];
/// Seconds. At 10 requests a second, 200 keys take 20 s to read and 10 000 keys a quarter of an hour to read and
/// about an hour to change.
const RUN_BUCKETS: &[f64] = &[0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];

/// The metrics could not be set up: their definitions contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the metrics")]
pub struct MetricsError(#[from] prometheus::Error);

/// All metrics except those of keys.
pub(crate) struct Metrics {
    registry: Registry,
    /// By trigger; failures, then successes.
    runs: Vec<[IntCounter; 2]>,
    run_duration: Histogram,
    /// By operation.
    request_durations: Arc<[Histogram]>,
    projects: Mutex<Vec<(Arc<str>, Arc<ProjectCalls>)>>,
}

impl Metrics {
    /// The metrics of a process, which may use a simulated cloud.
    pub(crate) fn new(simulated: bool) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let build = Opts::new("kms_rotation_build_info", "Always 1; the labels describe the program.");
        let build = if simulated { build.const_label("simulated", "true") } else { build };
        let build = IntGaugeVec::new(build, &["version", "revision"])?;
        build.get_metric_with_label_values(&[VERSION, REVISION])?.set(1);
        registry.register(Box::new(build))?;

        let runs = Opts::new("kms_rotation_runs_total", "Runs that ended.");
        let runs = IntCounterVec::new(runs, &["trigger", "result"])?;
        registry.register(Box::new(runs.clone()))?;
        let by_result = |trigger: Trigger| {
            let of = |result| runs.get_metric_with_label_values(&[trigger.as_str(), result]);
            Ok([of("failure")?, of("success")?])
        };
        let runs = Trigger::ALL.into_iter().map(by_result).collect::<Result<_, prometheus::Error>>()?;

        let run_duration = HistogramOpts::new("kms_rotation_run_duration_seconds", "Duration of a run.");
        let run_duration = Histogram::with_opts(run_duration.buckets(RUN_BUCKETS.to_vec()))?;
        registry.register(Box::new(run_duration.clone()))?;

        let requests = HistogramOpts::new("kms_rotation_request_duration_seconds", "Duration of an HTTP request.");
        let requests = HistogramVec::new(requests.buckets(REQUEST_BUCKETS.to_vec()), &["operation"])?;
        registry.register(Box::new(requests.clone()))?;
        let by_operation = |operation: Operation| requests.get_metric_with_label_values(&[operation.as_str()]);
        let request_durations = Operation::ALL.into_iter().map(by_operation).collect::<Result<_, _>>()?;

        Ok(Self { registry, runs, run_duration, request_durations, projects: Mutex::default() })
    }

    pub(crate) fn run_ended(&self, trigger: Trigger, succeeded: bool, took: Duration) {
        if let Some(counters) = self.runs.get(trigger as usize) {
            counters[usize::from(succeeded)].inc();
        }
        self.run_duration.observe(took.as_secs_f64());
    }

    /// Sets the projects that have series.
    pub(crate) fn set_projects<'a>(&self, names: impl IntoIterator<Item = &'a Arc<str>>) {
        let mut projects = self.projects();
        let mut before = std::mem::take(&mut *projects);
        *projects = names
            .into_iter()
            .map(|name| match before.iter().position(|(known, _)| known == name) {
                Some(at) => before.swap_remove(at),
                None => (Arc::clone(name), self.new_calls()),
            })
            .collect();
    }

    /// The counters of a project's calls; a new project gets its series now.
    pub(crate) fn calls(&self, name: &Arc<str>) -> Arc<ProjectCalls> {
        let mut projects = self.projects();
        if let Some((_, calls)) = projects.iter().find(|(known, _)| known == name) {
            return Arc::clone(calls);
        }
        let calls = self.new_calls();
        projects.push((Arc::clone(name), Arc::clone(&calls)));
        calls
    }

    /// How many requests were sent again, in all projects.
    pub(crate) fn retries(&self) -> u64 {
        self.projects().iter().map(|(_, calls)| calls.retries()).sum()
    }

    /// The calls of each project, as the page shows them.
    pub(crate) fn call_counts(&self) -> Vec<CallCounts> {
        let projects = self.projects();
        projects.iter().map(|(name, calls)| calls.counts(Arc::clone(name))).collect()
    }

    /// Writes all metrics except those of keys.
    pub(crate) fn write(&self, snapshot: &Snapshot, out: &mut Vec<u8>) {
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), out) {
            tracing::error!(%error, "encoding the metrics failed");
        }
        write_gauges(snapshot, out);
        if let Some(evidence) = &snapshot.evidence {
            write_evidence(evidence, out);
        }
        let projects = self.projects();
        project_calls::write(&projects, out);
        if snapshot.report.is_none() {
            write_no_findings(projects.iter().map(|(name, _)| &**name), out);
        }
        drop(projects);
        process::write(out);
    }

    fn new_calls(&self) -> Arc<ProjectCalls> {
        Arc::new(ProjectCalls::new(Arc::clone(&self.request_durations)))
    }

    fn projects(&self) -> MutexGuard<'_, Vec<(Arc<str>, Arc<ProjectCalls>)>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gauges of the daemon. They exist from the start, with 0 for a time that has not come: an alert on `time() - x` must
/// also see a daemon without any successful run.
fn write_gauges(snapshot: &Snapshot, out: &mut Vec<u8>) {
    let mut gauge = |name, help, at: Option<SystemTime>| sample(out, name, "gauge", help, at.unwrap_or(UNIX_EPOCH));
    gauge(
        "kms_rotation_last_run_timestamp_seconds",
        "When the last run ended; 0 before the first.",
        snapshot.report.as_ref().map(|report| report.ended),
    );
    gauge(
        "kms_rotation_last_success_timestamp_seconds",
        "When the last successful run ended; 0 before the first.",
        snapshot.last_success,
    );
    gauge("kms_rotation_next_run_timestamp_seconds", "When the next run is due; 0 when none is.", snapshot.next_run);
    gauge(
        "kms_rotation_policy_reload_success_timestamp_seconds",
        "When the policy file was last loaded.",
        snapshot.policy.as_ref().map(|policy| policy.at),
    );
    let help = "Whether the policy file could be loaded when it was last read.";
    let is_successful = snapshot.policy.is_some() && snapshot.reload_error.is_none();
    sample(out, "kms_rotation_policy_reload_successful", "gauge", help, is_successful);
    let help = "Whether this replica may write; without a lease always 1.";
    sample(out, "kms_rotation_acting", "gauge", help, snapshot.acting);
    let help = "Whether a run is under way.";
    sample(out, "kms_rotation_run_in_progress", "gauge", help, snapshot.run.is_some());
    let keys = Family {
        name: "kms_rotation_run_keys",
        kind: "gauge",
        help: "Keys of the run under way that are done, and all that are listed so far; 0 when no run is under way.",
    };
    let (done, total) = snapshot.run.as_ref().map_or((0, 0), |run| (run.done as u64, run.found as u64));
    let mut samples = Samples::of(&keys, out);
    samples.write(&[("state", "done")], done);
    samples.write(&[("state", "total")], total);
}

/// Gauges of the evidence log.
fn write_evidence(evidence: &EvidenceStatus, out: &mut Vec<u8>) {
    let origin = ("origin", &*evidence.origin);
    let gauge = |name, help| Family { name, kind: "gauge", help };
    let records = gauge(
        "kms_rotation_evidence_records",
        "Records of the evidence log on the disk, counted from the beginning of the log.",
    );
    Samples::of(&records, out).write(&[origin], evidence.records);
    if let Some((size, root)) = &evidence.checkpoint {
        let checkpoint = gauge(
            "kms_rotation_evidence_checkpoint_info",
            "Always 1; the labels are a checkpoint of the evidence log, renewed at most hourly.",
        );
        Samples::of(&checkpoint, out).write(&[origin, ("size", &size.to_string()), ("root", root)], true);
    }
    let successful = gauge(
        "kms_rotation_evidence_write_successful",
        "Whether the evidence log could be written when that was last tried.",
    );
    Samples::of(&successful, out).write(&[origin], evidence.write_successful);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::observe::{Code, Observer};
    use crate::rotation::decide::Reason;

    fn text(metrics: &Metrics) -> String {
        let mut out = Vec::new();
        metrics.write(&Snapshot::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_counter_of_runs_is_there_from_the_start() {
        let text = text(&Metrics::new(false).unwrap());
        for trigger in Trigger::ALL {
            for result in ["success", "failure"] {
                let line =
                    format!("kms_rotation_runs_total{{result=\"{result}\",trigger=\"{}\"}} 0\n", trigger.as_str());
                assert!(text.contains(&line), "{line} is not in\n{text}");
            }
        }
    }

    #[test]
    fn every_finding_is_there_before_the_first_run() {
        let metrics = Metrics::new(false).unwrap();
        metrics.set_projects([&"p".into()]);
        let text = text(&metrics);
        for reason in Reason::ALL {
            let line = format!("kms_rotation_findings{{project=\"p\",reason=\"{reason}\"}} 0\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_run_counts_under_its_trigger_and_result() {
        let metrics = Metrics::new(false).unwrap();
        metrics.run_ended(Trigger::Signal, true, Duration::from_secs(3));
        let text = text(&metrics);
        assert!(text.contains("kms_rotation_runs_total{result=\"success\",trigger=\"signal\"} 1\n"));
        assert!(text.contains("kms_rotation_runs_total{result=\"failure\",trigger=\"signal\"} 0\n"));
        assert!(text.contains("kms_rotation_run_duration_seconds_bucket{le=\"2.5\"} 0\n"));
        assert!(text.contains("kms_rotation_run_duration_seconds_bucket{le=\"5\"} 1\n"));
    }

    #[test]
    fn the_time_of_a_request_counts_under_its_operation() {
        let metrics = Metrics::new(false).unwrap();
        metrics.calls(&"p".into()).request(Operation::Authenticate, Code::Timeout, Duration::from_secs(8));
        let text = text(&metrics);
        assert!(text.contains("kms_rotation_request_duration_seconds_count{operation=\"authenticate\"} 1\n"));
        assert!(text.contains("kms_rotation_request_duration_seconds_count{operation=\"read_status\"} 0\n"));
    }

    #[test]
    fn counters_of_a_project_stay_through_a_reload_and_go_with_it() {
        let metrics = Metrics::new(false).unwrap();
        let (kept, gone): (Arc<str>, Arc<str>) = ("kept".into(), "gone".into());
        metrics.set_projects([&gone, &kept]);
        metrics.calls(&kept).operation(Operation::ReadStatus, true);
        let observer = metrics.calls(&gone);
        metrics.set_projects([&kept]);
        observer.operation(Operation::ReadStatus, true);
        let text = text(&metrics);
        let line = "kms_rotation_operations_total{project=\"kept\",operation=\"read_status\",result=\"success\"} 1\n";
        assert!(text.contains(line));
        assert!(!text.contains("gone"), "a call that ends after the reload brings nothing back");
    }
}
