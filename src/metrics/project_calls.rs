//! The counters of one project, in atomics. The KMS client reports each call, and each run the rotations that it saw.
//!
//! One HTTP attempt costs a few atomic additions: label values are resolved when they are written, not when they are
//! counted. A project's counters are dropped with their last owner, so a reload has nothing to clean up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::Histogram;

use super::exposition::{Family, Samples};
use crate::kms::observe::{Code, Observer, Operation};
use crate::views::snapshot::CallCounts;

const OPERATIONS: Family =
    Family { name: "kms_rotation_operations_total", kind: "counter", help: "Calls, each with all its retries." };
const REQUESTS: Family = Family {
    name: "kms_rotation_requests_total",
    kind: "counter",
    help: "HTTP requests by status code or transport error.",
};
const RETRIES: Family = Family {
    name: "kms_rotation_retries_total",
    kind: "counter",
    help: "Retries, by the status code or transport error of the attempt before.",
};
const EXPIRY: Family = Family {
    name: "kms_rotation_credentials_expiry_timestamp_seconds",
    kind: "gauge",
    help: "When the credentials in use expire; absent when unknown.",
};

const CLOCK_SKEW: Family = Family {
    name: "kms_rotation_clock_skew_seconds",
    kind: "gauge",
    help: "How far the cloud's clock is ahead of this machine's, by its last response; absent before the first.",
};
const ROTATIONS: Family = Family {
    name: "kms_rotation_rotations_observed_total",
    kind: "counter",
    help: "Rotations of key material by the cloud that readings have shown.",
};

/// The usual codes, counted without a lock.
const USUAL: [Code; 19] = [
    Code::Http(200),
    Code::Http(201),
    Code::Http(204),
    Code::Http(400),
    Code::Http(401),
    Code::Http(403),
    Code::Http(404),
    Code::Http(405),
    Code::Http(408),
    Code::Http(429),
    Code::Http(500),
    Code::Http(501),
    Code::Http(502),
    Code::Http(503),
    Code::Http(504),
    Code::Timeout,
    Code::Connect,
    Code::Tls,
    Code::Body,
];

/// The codes that cause a retry: temporary errors, and refused credentials, which are renewed once
/// (`docs/kms-api.md` 3.4).
fn leads_to_a_retry(code: Code) -> bool {
    match code {
        Code::Http(status) => matches!(status, 401 | 403 | 408 | 429 | 500 | 502 | 503 | 504),
        Code::Timeout | Code::Connect | Code::Tls | Code::Body => true,
    }
}

/// Counters by operation and code.
#[derive(Default)]
struct ByCode {
    usual: [[AtomicU64; USUAL.len()]; Operation::ALL.len()],
    unusual: Mutex<BTreeMap<(usize, u16), u64>>,
}

impl ByCode {
    fn add(&self, operation: Operation, code: Code) {
        if let Some(at) = USUAL.iter().position(|usual| *usual == code) {
            self.usual[operation as usize][at].fetch_add(1, Relaxed);
        } else if let Code::Http(status) = code {
            let mut unusual = self.unusual.lock().unwrap_or_else(PoisonError::into_inner);
            *unusual.entry((operation as usize, status)).or_default() += 1;
        }
    }

    fn total(&self) -> u64 {
        let usual: u64 = self.usual.iter().flatten().map(|count| count.load(Relaxed)).sum();
        usual + self.unusual.lock().unwrap_or_else(PoisonError::into_inner).values().sum::<u64>()
    }

    /// Writes the codes that exist from the start, since `rate()` needs the 0 before the first one, and all codes
    /// counted so far.
    fn write(&self, samples: &mut Samples<'_>, project: &str, label: &str, from_the_start: impl Fn(Code) -> bool) {
        let mut write = |operation: Operation, code: Code, count: u64| {
            if count > 0 || from_the_start(code) {
                let code = code.to_string();
                samples.write(&[("project", project), ("operation", operation.as_str()), (label, &code)], count);
            }
        };
        for (operation, counts) in Operation::ALL.into_iter().zip(&self.usual) {
            for (code, count) in USUAL.into_iter().zip(counts) {
                write(operation, code, count.load(Relaxed));
            }
        }
        for ((operation, status), count) in self.unusual.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(operation) = Operation::ALL.get(*operation) {
                write(*operation, Code::Http(*status), *count);
            }
        }
    }
}

/// The calls of one project.
pub(crate) struct ProjectCalls {
    /// By operation; failures, then successes.
    operations: [[AtomicU64; 2]; Operation::ALL.len()],
    requests: ByCode,
    retries: ByCode,
    credentials_expiry: Mutex<Option<SystemTime>>,
    clock_skew: Mutex<Option<i64>>,
    rotations: AtomicU64,
    /// By operation, shared by all projects.
    durations: Arc<[Histogram]>,
}

impl ProjectCalls {
    pub(crate) fn new(durations: Arc<[Histogram]>) -> Self {
        Self {
            operations: Default::default(),
            requests: ByCode::default(),
            retries: ByCode::default(),
            credentials_expiry: Mutex::new(None),
            clock_skew: Mutex::new(None),
            rotations: AtomicU64::new(0),
            durations,
        }
    }

    /// How many requests were sent again.
    pub(super) fn retries(&self) -> u64 {
        self.retries.total()
    }

    /// What the page shows of the calls of this project.
    pub(super) fn counts(&self, project: Arc<str>) -> CallCounts {
        let credentials_expiry = *self.credentials_expiry.lock().unwrap_or_else(PoisonError::into_inner);
        CallCounts { project, requests: self.requests.total(), retries: self.retries(), credentials_expiry }
    }

    /// A run has seen these rotations for the first time.
    pub(crate) fn rotations_observed(&self, rotations: u64) {
        self.rotations.fetch_add(rotations, Relaxed);
    }
}

impl Observer for ProjectCalls {
    fn request(&self, operation: Operation, code: Code, took: Duration) {
        self.requests.add(operation, code);
        if let Some(duration) = self.durations.get(operation as usize) {
            duration.observe(took.as_secs_f64());
        }
    }

    fn retry(&self, operation: Operation, reason: Code) {
        self.retries.add(operation, reason);
    }

    fn operation(&self, operation: Operation, succeeded: bool) {
        self.operations[operation as usize][usize::from(succeeded)].fetch_add(1, Relaxed);
    }

    fn credentials_expire(&self, at: Option<SystemTime>) {
        *self.credentials_expiry.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn clock_skew(&self, seconds: i64) {
        *self.clock_skew.lock().unwrap_or_else(PoisonError::into_inner) = Some(seconds);
    }
}

/// Writes the counters of all projects.
pub(crate) fn write(projects: &[(Arc<str>, Arc<ProjectCalls>)], out: &mut Vec<u8>) {
    let mut samples = Samples::of(&OPERATIONS, out);
    for (name, calls) in projects {
        for (operation, counts) in Operation::ALL.into_iter().zip(&calls.operations) {
            for (result, count) in ["failure", "success"].into_iter().zip(counts) {
                let labels = [("project", &**name), ("operation", operation.as_str()), ("result", result)];
                samples.write(&labels, count.load(Relaxed));
            }
        }
    }
    let mut samples = Samples::of(&REQUESTS, out);
    for (name, calls) in projects {
        calls.requests.write(&mut samples, name, "code", |_| true);
    }
    let mut samples = Samples::of(&RETRIES, out);
    for (name, calls) in projects {
        calls.retries.write(&mut samples, name, "reason", leads_to_a_retry);
    }
    let mut samples = Samples::of(&EXPIRY, out);
    for (name, calls) in projects {
        if let Some(at) = *calls.credentials_expiry.lock().unwrap_or_else(PoisonError::into_inner) {
            samples.write(&[("project", name)], at);
        }
    }
    let mut samples = Samples::of(&CLOCK_SKEW, out);
    for (name, calls) in projects {
        if let Some(seconds) = *calls.clock_skew.lock().unwrap_or_else(PoisonError::into_inner) {
            samples.write(&[("project", name)], seconds);
        }
    }
    let mut samples = Samples::of(&ROTATIONS, out);
    for (name, calls) in projects {
        samples.write(&[("project", name)], calls.rotations.load(Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn text(calls: &Arc<ProjectCalls>) -> String {
        let mut out = Vec::new();
        write(&[("p".into(), Arc::clone(calls))], &mut out);
        String::from_utf8(out).unwrap()
    }

    fn no_calls() -> Arc<ProjectCalls> {
        Arc::new(ProjectCalls::new(Arc::new([])))
    }

    #[test]
    fn operations_count_in_the_order_of_their_list() {
        for (at, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, at);
        }
    }

    #[test]
    fn every_counter_is_there_from_the_start() {
        let text = text(&no_calls());
        for operation in Operation::ALL.map(Operation::as_str) {
            let of = format!("{{project=\"p\",operation=\"{operation}\",");
            for rest in ["result=\"success\"} 0", "result=\"failure\"} 0"] {
                assert!(text.contains(&format!("kms_rotation_operations_total{of}{rest}\n")), "{text}");
            }
            for code in ["200", "204", "401", "404", "405", "501", "502", "timeout", "tls"] {
                assert!(text.contains(&format!("kms_rotation_requests_total{of}code=\"{code}\"}} 0\n")), "{text}");
            }
            for reason in ["401", "403", "408", "429", "500", "502", "503", "504", "timeout", "connect", "tls", "body"]
            {
                assert!(text.contains(&format!("kms_rotation_retries_total{of}reason=\"{reason}\"}} 0\n")), "{text}");
            }
        }
        assert!(!text.contains("reason=\"200\""));
    }

    #[test]
    fn each_way_to_end_is_counted_apart() {
        let calls = no_calls();
        let unusual = [Code::Http(418), Code::Http(599), Code::Http(65535)];
        for (at, code) in USUAL.into_iter().chain(unusual).enumerate() {
            (0..=at).for_each(|_| calls.request(Operation::UpdateInterval, code, Duration::ZERO));
        }
        let text = text(&calls);
        for (at, code) in USUAL.into_iter().chain(unusual).enumerate() {
            let line = format!("{{project=\"p\",operation=\"update_interval\",code=\"{code}\"}} {}\n", at + 1);
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn credentials_without_an_end_have_no_series() {
        let calls = no_calls();
        calls.credentials_expire(Some(UNIX_EPOCH + Duration::from_secs(86_400)));
        assert!(text(&calls).contains("kms_rotation_credentials_expiry_timestamp_seconds{project=\"p\"} 86400\n"));
        calls.credentials_expire(None);
        assert!(!text(&calls).contains("expiry"));
    }
}
