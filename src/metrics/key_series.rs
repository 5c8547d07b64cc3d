//! The metrics of keys and projects, rendered from one report. The server streams them as text, and `gzip` compresses
//! them once a report.

use std::sync::Arc;

use super::exposition::{Family, Samples};
use crate::rotation::decide::{Reason, Status};
use crate::rotation::key::SECONDS_PER_DAY;
use crate::rotation::project::PerKey;
use crate::rotation::report::{KeyReport, ProjectReport, Report};
use crate::views::document::{Document, KeyCursor};

const PROJECT_INFO: Family = gauge("kms_rotation_project_info", "Always 1; the labels describe the project.");
const KEYS: Family = gauge("kms_rotation_keys", "Keys with this status.");
const FINDINGS: Family = gauge("kms_rotation_findings", "Keys with this reason.");

/// The series of one family for one key.
type WriteSeries = fn(&mut Samples<'_>, &ProjectReport, &KeyReport);

/// The families of keys, in the order of writing. Each one iterates over all keys, since the format requires a family
/// in one piece.
const FAMILIES: [(Family, WriteSeries); 11] = [
    (
        gauge("kms_rotation_key_status", "1 for the status that the key has, 0 for the others."),
        |samples, project, key| {
            for status in Status::ALL {
                let labels =
                    [("project", &*project.name), ("key_id", key.subject.as_str()), ("status", status.as_str())];
                samples.write(&labels, status == key.status);
            }
        },
    ),
    (
        gauge(
            "kms_rotation_key_finding",
            "Reason for the key's status, or finding beside it; absent when it does not apply.",
        ),
        |samples, project, key| {
            for reason in key.reasons.iter() {
                let labels =
                    [("project", &*project.name), ("key_id", key.subject.as_str()), ("reason", reason.as_str())];
                samples.write(&labels, true);
            }
        },
    ),
    (
        gauge("kms_rotation_key_enabled", "Whether the key's rotation is on, by its last reading."),
        |samples, project, key| {
            if let Some(rotation) = key.rotation {
                samples.write(&labels(project, key), rotation.enabled);
            }
        },
    ),
    (
        gauge("kms_rotation_key_interval_seconds", "The key's rotation interval in the cloud, by its last reading."),
        |samples, project, key| {
            if let Some(days) = key.rotation.and_then(|rotation| rotation.interval_days) {
                samples.write(&labels(project, key), u64::from(days) * SECONDS_PER_DAY);
            }
        },
    ),
    (
        gauge("kms_rotation_key_policy_interval_seconds", "Rotation interval that the policy requires."),
        |samples, project, key| {
            if let Some(desired) = key.desired {
                samples.write(&labels(project, key), desired.interval.as_seconds());
            }
        },
    ),
    (
        gauge("kms_rotation_key_last_rotation_timestamp_seconds", "When the key material was last rotated."),
        |samples, project, key| {
            if let Some(at) = key.rotation.and_then(|rotation| rotation.last_rotated) {
                samples.write(&labels(project, key), at);
            }
        },
    ),
    (
        gauge("kms_rotation_key_rotations", "How often the key material was rotated, as the cloud counts."),
        |samples, project, key| {
            if let Some(rotations) = key.rotation.and_then(|rotation| rotation.rotations) {
                samples.write(&labels(project, key), rotations);
            }
        },
    ),
    (
        gauge(
            "kms_rotation_key_material_timestamp_seconds",
            "Since when the key's present material is in use; absent when unknown.",
        ),
        |samples, project, key| {
            if let Some(at) = key.material_since {
                samples.write(&labels(project, key), at);
            }
        },
    ),
    (
        gauge(
            "kms_rotation_key_rotation_due_timestamp_seconds",
            "When the key's next rotation is due; absent when unknown or when none is.",
        ),
        |samples, project, key| {
            if let Some(at) = key.rotation_due {
                samples.write(&labels(project, key), at);
            }
        },
    ),
    (
        gauge("kms_rotation_key_observed_timestamp_seconds", "When the key's rotation setting was last read."),
        |samples, project, key| {
            if let Some(at) = key.observed {
                samples.write(&labels(project, key), at);
            }
        },
    ),
    (
        gauge("kms_rotation_key_info", "The key's alias and the line of the policy entry that applies to it."),
        |samples, project, key| {
            let entry = key.entry_line.map(|line| line.to_string()).unwrap_or_default();
            let [project_label, key_label] = labels(project, key);
            let alias = key.alias.as_deref().unwrap_or_default();
            samples.write(&[project_label, key_label, ("alias", alias), ("entry", &entry)], true);
        },
    ),
];

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", help }
}

fn labels<'r>(project: &'r ProjectReport, key: &'r KeyReport) -> [(&'static str, &'r str); 2] {
    [("project", &project.name), ("key_id", key.subject.as_str())]
}

/// Writes that no key of these projects has a finding: what the first run will find is not known yet.
pub(crate) fn write_no_findings<'p>(projects: impl Iterator<Item = &'p str>, out: &mut Vec<u8>) {
    let mut samples = Samples::of(&FINDINGS, out);
    for project in projects {
        for reason in Reason::ALL {
            samples.write(&[("project", project), ("reason", reason.as_str())], 0_u64);
        }
    }
}

/// The series of a report.
pub(crate) struct KeySeries {
    report: Arc<Report>,
    per_key: PerKey,
    /// Number of projects whose `project_info` is written.
    described: usize,
    /// Number of projects whose number of keys by status is written.
    tallied: usize,
    /// Number of projects whose number of keys by reason is written.
    counted: usize,
    family: usize,
    begun: bool,
    cursor: KeyCursor,
}

impl KeySeries {
    /// The series of this report, with those of these keys.
    pub(crate) fn new(report: Arc<Report>, per_key: PerKey) -> Self {
        let (described, tallied, counted) = (0, 0, 0);
        let family = if per_key == PerKey::None { FAMILIES.len() } else { 0 };
        Self { report, per_key, described, tallied, counted, family, begun: false, cursor: KeyCursor::default() }
    }

    fn includes(&self, key: &KeyReport) -> bool {
        let is_well = key.reasons.is_empty() && matches!(key.status, Status::Compliant | Status::Exempt);
        self.per_key == PerKey::All || !is_well
    }
}

impl Document for KeySeries {
    fn next_part(&mut self, piece: &mut Vec<u8>) -> bool {
        if let Some(project) = self.report.projects.get(self.described) {
            let labels = [
                ("project", &*project.name),
                ("cloud", project.cloud.as_str()),
                ("region", &*project.region),
                ("mode", project.mode.as_str()),
                ("coverage", project.coverage.as_str()),
                ("proof", project.proof.as_str()),
            ];
            Samples::resume(&PROJECT_INFO, piece, self.described > 0).write(&labels, true);
            self.described += 1;
            return true;
        }
        if let Some(project) = self.report.projects.get(self.tallied) {
            let tally = project.tally();
            let mut samples = Samples::resume(&KEYS, piece, self.tallied > 0);
            for status in Status::ALL {
                samples.write(&[("project", &project.name), ("status", status.as_str())], tally.of(status) as u64);
            }
            self.tallied += 1;
            return true;
        }
        if let Some(project) = self.report.projects.get(self.counted) {
            let mut samples = Samples::resume(&FINDINGS, piece, self.counted > 0);
            for (reason, keys) in Reason::ALL.iter().zip(project.findings()) {
                samples.write(&[("project", &project.name), ("reason", reason.as_str())], keys as u64);
            }
            self.counted += 1;
            return true;
        }
        let Some((family, write)) = FAMILIES.get(self.family) else { return false };
        let report = Arc::clone(&self.report);
        if let Some((project, key)) = self.cursor.next(&report) {
            if self.includes(key) {
                let mut samples = Samples::resume(family, piece, self.begun);
                write(&mut samples, project, key);
                self.begun = samples.begun();
            }
        } else {
            self.family += 1;
            self.begun = false;
            self.cursor = KeyCursor::default();
        }
        true
    }
}
