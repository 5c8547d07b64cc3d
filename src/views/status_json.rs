//! The state of every key as JSON: `/api/v1/status`, and what `apply` and `plan` print with `--output json`.
//!
//! One document type for all three. A command has no next run, and of the policy only why it was refused; the rest is
//! `null`, as every unknown value is. Times are RFC 3339 in UTC. The document is compact with one line for each key, so
//! that it can be streamed, searched and compared.
//!
//! The brackets between the parts are kept by hand because `serde_json` writes a document in one call, and a reader
//! would then cost the memory of all of it.

use std::borrow::Borrow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::document::{Document, write_to};
use super::snapshot::Snapshot;
use super::wording;
use crate::rotation::decide::{Reason, Reasons, Status, Step, Steps};
use crate::rotation::key::Bound;
use crate::rotation::report::{Change, KeyReport, ProjectReport, Report, Tally};
use crate::rotation::rule::Exemption;
use crate::support::version::VERSION;

/// Writes a report of a command, which may have used a simulated cloud.
///
/// # Errors
/// Those of `out`.
pub fn write_json(report: &Report, simulated: bool, out: &mut dyn io::Write) -> io::Result<()> {
    write_to(StatusDocument::of_command(report, simulated), out)
}

/// Writes the document of a command without a report: the policy was refused, or the command was stopped.
///
/// # Errors
/// Those of `out`.
pub fn write_json_without_run(
    refused: Option<RefusedPolicy<'_>>,
    simulated: bool,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let policy = refused.map(|RefusedPolicy { file, error, problems }| PolicyPart {
        file: file.to_string_lossy(),
        reload_successful: false,
        loaded_at: None,
        error: Some(error),
        problems: Some(problems),
    });
    write_to(StatusDocument::<&Report>::new(simulated, None, policy, None, None), out)
}

/// Why a command has no policy.
#[derive(Clone, Copy, Debug)]
pub struct RefusedPolicy<'a> {
    /// The policy file as given on the command line.
    pub file: &'a Path,
    /// The problems for people.
    pub error: &'a str,
    /// The problems for programs, as a list.
    pub problems: &'a Value,
}

/// The document over a report that is owned or borrowed.
pub(crate) struct StatusDocument<R> {
    report: Option<R>,
    next: Part,
}

/// The next part to write.
enum Part {
    Head(Vec<u8>),
    /// The project with this index, up to its keys.
    Project(usize),
    /// The project's index, and the key's in it.
    Key(usize, usize),
    End,
}

impl StatusDocument<Arc<Report>> {
    /// The document of the daemon.
    pub(crate) fn of_daemon(snapshot: &Snapshot) -> Self {
        let report = snapshot.report.clone();
        let policy = snapshot.policy.as_ref().map(|policy| PolicyPart {
            file: policy.file.to_string_lossy(),
            reload_successful: snapshot.reload_error.is_none(),
            loaded_at: Some(Time(policy.at)),
            error: snapshot.reload_error.as_ref().map(|refused| &*refused.message),
            problems: snapshot.reload_error.as_ref().map(|refused| &refused.problems),
        });
        let tally = snapshot.report.as_ref().map(|report| report.tally()).unwrap_or_default();
        Self::new(snapshot.simulated, report, policy, snapshot.next_run, Some(tally))
    }
}

impl<'r> StatusDocument<&'r Report> {
    /// The document of a command.
    fn of_command(report: &'r Report, simulated: bool) -> Self {
        Self::new(simulated, Some(report), None, None, Some(report.tally()))
    }
}

impl<R: Borrow<Report>> StatusDocument<R> {
    fn new(
        simulated: bool,
        report: Option<R>,
        policy: Option<PolicyPart<'_>>,
        next_run: Option<SystemTime>,
        tally: Option<Tally>,
    ) -> Self {
        let run: Option<&Report> = report.as_ref().map(Borrow::borrow);
        let head = Head {
            version: VERSION,
            simulated,
            policy,
            run: run.map(RunPart::of),
            next_run_at: next_run.map(Time),
            summary: Summary(tally),
        };
        let mut bytes = Vec::new();
        open_object(&mut bytes, &head, "projects");
        Self { report, next: Part::Head(bytes) }
    }
}

impl<R: Borrow<Report> + Send> Document for StatusDocument<R> {
    fn next_part(&mut self, piece: &mut Vec<u8>) -> bool {
        let projects = self.report.as_ref().map_or(&[][..], |report| &report.borrow().projects);
        self.next = match std::mem::replace(&mut self.next, Part::End) {
            Part::End => return false,
            Part::Head(bytes) => {
                piece.extend_from_slice(&bytes);
                Part::Project(0)
            }
            Part::Project(at) => {
                if let Some(project) = projects.get(at) {
                    piece.extend_from_slice(if at == 0 { b"\n" } else { b",\n" });
                    open_object(piece, &ProjectPart::of(project), "keys");
                    Part::Key(at, 0)
                } else {
                    piece.extend_from_slice(b"]}\n");
                    Part::End
                }
            }
            Part::Key(at, key_at) => {
                if let Some(key) = projects.get(at).and_then(|project| project.keys.get(key_at)) {
                    piece.extend_from_slice(if key_at == 0 { b"\n" } else { b",\n" });
                    object(piece, &KeyPart::of(key));
                    Part::Key(at, key_at + 1)
                } else {
                    piece.extend_from_slice(b"]}");
                    Part::Project(at + 1)
                }
            }
        };
        true
    }
}

/// An object up to the opening bracket of one more member, an array.
fn open_object(piece: &mut Vec<u8>, value: &impl Serialize, array: &str) {
    object(piece, value);
    piece.pop();
    piece.extend_from_slice(format!(",\"{array}\":[").as_bytes());
}

/// An object. Serializing into memory fails only for maps with keys that are not text and for types whose own code
/// fails, neither of which is here.
fn object(piece: &mut Vec<u8>, value: &impl Serialize) {
    if let Err(error) = serde_json::to_writer(&mut *piece, value) {
        tracing::error!(%error, "writing JSON failed");
    }
}

#[derive(Serialize)]
struct Head<'a> {
    version: &'a str,
    simulated: bool,
    policy: Option<PolicyPart<'a>>,
    run: Option<RunPart>,
    next_run_at: Option<Time>,
    summary: Summary,
}

#[derive(Serialize)]
struct PolicyPart<'a> {
    file: std::borrow::Cow<'a, str>,
    reload_successful: bool,
    loaded_at: Option<Time>,
    error: Option<&'a str>,
    problems: Option<&'a Value>,
}

#[derive(Serialize)]
struct RunPart {
    trigger: &'static str,
    result: &'static str,
    started_at: Time,
    ended_at: Time,
    duration_seconds: f64,
    interrupted: bool,
    standby: bool,
}

impl RunPart {
    fn of(report: &Report) -> Self {
        Self {
            trigger: report.trigger.as_str(),
            result: if report.is_success() { "success" } else { "failure" },
            started_at: Time(report.started),
            ended_at: Time(report.ended),
            duration_seconds: report.took.as_secs_f64(),
            interrupted: report.interrupted,
            standby: report.standby,
        }
    }
}

#[derive(Serialize)]
struct ProjectPart<'a> {
    name: &'a str,
    cloud: &'static str,
    region: &'a str,
    mode: &'static str,
    coverage: &'static str,
    proof: &'static str,
    keys_listed: bool,
    idle_entries: &'a [u32],
    error: Option<&'a str>,
    summary: Summary,
}

impl<'a> ProjectPart<'a> {
    fn of(project: &'a ProjectReport) -> Self {
        Self {
            name: &project.name,
            cloud: project.cloud.as_str(),
            region: &project.region,
            mode: project.mode.as_str(),
            coverage: project.coverage.as_str(),
            proof: project.proof.as_str(),
            keys_listed: project.listed,
            idle_entries: &project.idle_entries,
            error: project.failure.as_deref(),
            summary: Summary(Some(project.tally())),
        }
    }
}

#[derive(Serialize)]
struct KeyPart<'a> {
    key_id: &'a str,
    alias: Option<&'a str>,
    status: &'static str,
    reasons: ReasonList,
    enabled: Option<bool>,
    interval_days: Option<u32>,
    policy_interval_days: Option<u16>,
    policy_max_interval_days: Option<u16>,
    exemption: Option<ExemptionPart<'a>>,
    created_at: Option<Time>,
    last_rotation_at: Option<Time>,
    rotations: Option<u64>,
    material_since: Option<Time>,
    rotation_due_at: Option<Time>,
    observed_at: Option<Time>,
    entry_line: Option<u32>,
    planned: StepList,
    changes: ChangeList<'a>,
    error: Option<&'a str>,
}

impl<'a> KeyPart<'a> {
    fn of(key: &'a KeyReport) -> Self {
        let at_most = key.desired.filter(|desired| desired.bound == Bound::Longest);
        Self {
            key_id: key.subject.as_str(),
            alias: key.alias.as_deref(),
            status: key.status.as_str(),
            reasons: ReasonList(key.reasons),
            enabled: key.rotation.map(|rotation| rotation.enabled),
            interval_days: key.rotation.and_then(|rotation| rotation.interval_days),
            policy_interval_days: key.desired.map(|desired| desired.interval.days()),
            policy_max_interval_days: at_most.map(|desired| desired.interval.days()),
            exemption: key.exemption.as_deref().map(ExemptionPart::of),
            created_at: key.created.map(Time),
            last_rotation_at: key.rotation.and_then(|rotation| rotation.last_rotated).map(Time),
            rotations: key.rotation.and_then(|rotation| rotation.rotations),
            material_since: key.material_since.map(Time),
            rotation_due_at: key.rotation_due.map(Time),
            observed_at: key.observed.map(Time),
            entry_line: key.entry_line,
            planned: StepList(key.planned),
            changes: ChangeList(&key.changes),
            error: key.error(),
        }
    }
}

#[derive(Serialize)]
struct ExemptionPart<'a> {
    reason: &'a str,
    until: Option<&'a str>,
}

impl<'a> ExemptionPart<'a> {
    fn of(exemption: &'a Exemption) -> Self {
        Self { reason: &exemption.reason, until: exemption.until.as_ref().map(|until| &*until.date) }
    }
}

#[derive(Serialize)]
struct StepPart {
    step: &'static str,
    interval_days: Option<u16>,
}

impl StepPart {
    fn of(step: Step) -> Self {
        let interval_days = match step {
            Step::EnableRotation => None,
            Step::UpdateInterval(interval) => Some(interval.days()),
        };
        Self { step: step.as_str(), interval_days }
    }
}

#[derive(Serialize)]
struct ChangePart<'a> {
    step: &'static str,
    interval_days: Option<u16>,
    at: Time,
    request_id: Option<&'a str>,
}

struct Time(SystemTime);
/// None if no keys were read.
struct Summary(Option<Tally>);
struct ReasonList(Reasons);
struct StepList(Steps);
struct ChangeList<'a>(&'a [Change]);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&wording::rfc3339(self.0))
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Status::ALL.map(|status| (status.as_str(), self.0.map(|tally| tally.of(status)))))
    }
}

impl Serialize for ReasonList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Reason::as_str))
    }
}

impl Serialize for StepList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(StepPart::of))
    }
}

impl Serialize for ChangeList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|change| {
            let StepPart { step, interval_days } = StepPart::of(change.step);
            ChangePart { step, interval_days, at: Time(change.at), request_id: change.request_id.as_deref() }
        }))
    }
}
