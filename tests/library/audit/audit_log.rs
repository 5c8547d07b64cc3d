//! An evidence log that a test writes record by record, with the daemon's rules for their order.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kms_rotationd::evidence::key::SigningKey;
use kms_rotationd::evidence::log::{Log, LogOptions};
use kms_rotationd::evidence::record::{
    Cause, Counts, Event, ExemptionState, GapRecord, KeyMemory, KeyRecord, KeyState, PolicyRecord, ProjectRecord,
    ReadableRecord, RecordType, RunRecord, SnapshotRecord, StartRecord, UnreadableRecord, WritePhase, WriteRecord,
};
use kms_rotationd::evidence::tree::Hash;
use tempfile::TempDir;

pub(crate) const HOUR: u64 = 3_600;
pub(crate) const DAY: u64 = 24 * HOUR;

pub(crate) fn time(text: &str) -> SystemTime {
    text.parse::<Timestamp>().unwrap().into()
}

pub(crate) fn text(at: SystemTime) -> String {
    format!("{:.3}", Timestamp::try_from(at).unwrap())
}

/// The id of a key.
pub(crate) fn id(number: usize) -> String {
    format!("{number:08x}-0000-4000-8000-{number:012x}")
}

/// A log that is being written, and what it has of the keys.
pub(crate) struct EvidenceLog {
    pub(crate) folder: TempDir,
    log: Log,
    pub(crate) now: SystemTime,
    keys: BTreeMap<(String, String), KeyState>,
    last_run: Option<SystemTime>,
    /// Whether each run is signed, and not only the last one.
    pub(crate) signs_runs: bool,
}

impl EvidenceLog {
    /// A log that begins at this time with these projects, which have a grace of two days.
    pub(crate) fn begin(at: &str, simulated: bool, projects: &[&str]) -> Self {
        let (folder, now, options) = (TempDir::new().unwrap(), time(at), options(simulated));
        let (log, _) = Log::open(folder.path(), &options, now).unwrap();
        let mut evidence = Self { folder, log, now, keys: BTreeMap::new(), last_run: None, signs_runs: true };
        evidence.start(simulated);
        evidence.policy("projects:\n  - name: payments\n    keys:\n      - {all: true, rotation_interval: 90}\n");
        for project in projects {
            evidence.project(project, 2);
        }
        evidence
    }

    /// Signs what is written and closes the log.
    pub(crate) fn close(mut self) -> TempDir {
        self.sign();
        self.folder
    }

    pub(crate) fn sign(&mut self) {
        self.log.commit(self.now).unwrap();
        self.log.checkpoint(self.now).unwrap();
    }

    pub(crate) fn add(&mut self, record: &impl RecordType) {
        self.log.append(self.now, record);
    }

    pub(crate) fn start(&mut self, simulated: bool) {
        self.add(&StartRecord {
            version: "0.1.0".to_owned(),
            revision: "5287441".to_owned(),
            executable_sha256: Some("ab".repeat(32)),
            host: Some("kms-1".to_owned()),
            boot_id: None,
            replica: None,
            simulated,
        });
    }

    pub(crate) fn policy(&mut self, text: &str) {
        let sha256 = format!("{:064x}", text.bytes().map(u64::from).sum::<u64>());
        self.add(&PolicyRecord { sha256, text: text.to_owned() });
    }

    pub(crate) fn project(&mut self, project: &str, grace_days: u64) {
        self.add(&ProjectRecord {
            project: project.to_owned(),
            cloud: "open-telekom-cloud".to_owned(),
            region: "eu-de".to_owned(),
            endpoint: Some("https://kms.eu-de.otc.t-systems.com".to_owned()),
            project_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
            principal: Some("user kms-rotation".to_owned()),
            mode: "enforce".to_owned(),
            coverage: "reported".to_owned(),
            proof: "reported".to_owned(),
            grace_seconds: grace_days * DAY,
            listed: true,
            readable: true,
        });
    }

    /// A key on policy, whose interval is 90 days, and whose material is this many days old.
    pub(crate) fn on_policy(&self, alias: &str, age_days: u64) -> KeyState {
        let since = text(self.now - Duration::from_secs(age_days * DAY));
        KeyState {
            alias: Some(alias.to_owned()),
            status: "compliant".to_owned(),
            reasons: Vec::new(),
            enabled: Some(true),
            interval_days: Some(90),
            policy_interval_days: Some(90),
            policy_max_interval_days: None,
            exemption: None,
            created_at: Some("2024-03-02T10:00:00.000Z".to_owned()),
            last_rotation_at: Some(since.clone()),
            rotations: Some(4),
            material_since: Some(since),
            rotation_due_at: None,
        }
    }

    pub(crate) fn appear(&mut self, project: &str, key: &str, state: KeyState) {
        let mut record = self.record(project, key, Event::Appeared, None);
        record.after = Some(state.clone());
        record.seen_after = None;
        self.keys.insert((project.to_owned(), key.to_owned()), state);
        self.add(&record);
    }

    pub(crate) fn vanish(&mut self, project: &str, key: &str) {
        let record = self.record(project, key, Event::Vanished, None);
        self.keys.remove(&(project.to_owned(), key.to_owned()));
        self.add(&record);
    }

    /// The log no longer knows the key, without a record.
    pub(crate) fn forget(&mut self, project: &str, key: &str) {
        self.keys.remove(&(project.to_owned(), key.to_owned()));
    }

    /// Damages the log, and goes on in the one that the next process begins.
    pub(crate) fn reopen_damaged(self) -> Self {
        let Self { folder, mut log, now, .. } = self;
        log.commit(now).unwrap();
        log.checkpoint(now).unwrap();
        drop(log);
        let segment = folder.path().join("00000000000000000000.jsonl");
        let content = std::fs::read_to_string(&segment).unwrap();
        let last = content.trim_end().rfind('\n').unwrap();
        std::fs::write(&segment, &content[..=last]).unwrap();
        let (log, _) = Log::open(folder.path(), &options(false), now).unwrap();
        let mut evidence = Self { folder, log, now, keys: BTreeMap::new(), last_run: None, signs_runs: true };
        evidence.start(false);
        evidence.project("payments", 2);
        evidence
    }

    /// Records a change of a key.
    pub(crate) fn change(
        &mut self,
        project: &str,
        key: &str,
        event: Event,
        by: Option<Cause>,
        change: impl FnOnce(&mut KeyState),
    ) {
        let mut record = self.record(project, key, event, by);
        let mut state = record.before.clone().unwrap();
        change(&mut state);
        record.after = Some(state.clone());
        self.keys.insert((project.to_owned(), key.to_owned()), state);
        self.add(&record);
    }

    /// The cloud has rotated a key this many hours ago.
    pub(crate) fn rotate(&mut self, project: &str, key: &str, hours_ago: u64) {
        let mut record = self.record(project, key, Event::Rotated, Some(Cause::Cloud));
        let mut state = record.before.clone().unwrap();
        let rotated = self.now - Duration::from_secs(hours_ago * HOUR);
        let age = state.material_since.as_deref().map(|since| rotated.duration_since(time(since)).unwrap().as_secs());
        record.material_age_seconds = age;
        (state.material_since, state.last_rotation_at) = (Some(text(rotated)), Some(text(rotated)));
        state.rotations = state.rotations.map(|rotations| rotations + 1);
        record.after = Some(state.clone());
        self.keys.insert((project.to_owned(), key.to_owned()), state);
        self.add(&record);
    }

    /// Someone switched rotation off, and this run switches it on again.
    pub(crate) fn drift_and_repair(&mut self, project: &str, key: &str) {
        self.write(project, key, WritePhase::Intent);
        self.write(project, key, WritePhase::Applied);
        self.change(project, key, Event::Drift, Some(Cause::Other), |key| key.enabled = Some(false));
        self.change(project, key, Event::Repaired, Some(Cause::Us), |key| key.enabled = Some(true));
    }

    pub(crate) fn off_policy(&mut self, project: &str, key: &str) {
        self.change(project, key, Event::Drift, Some(Cause::Other), |key| {
            (key.enabled, key.interval_days) = (Some(true), Some(365));
            (key.status, key.reasons) = ("non_compliant".to_owned(), vec!["interval_mismatch".to_owned()]);
        });
    }

    pub(crate) fn back_on_policy(&mut self, project: &str, key: &str) {
        self.write(project, key, WritePhase::Intent);
        self.write(project, key, WritePhase::Applied);
        self.change(project, key, Event::Repaired, Some(Cause::Us), |key| {
            (key.enabled, key.interval_days) = (Some(true), Some(90));
            (key.status, key.reasons) = ("compliant".to_owned(), Vec::new());
        });
    }

    pub(crate) fn exempt(&mut self, project: &str, key: &str, until: &str) {
        self.change(project, key, Event::Exempted, None, |key| {
            key.exemption = Some(ExemptionState {
                reason: "replaced by a key of the HSM, SEC-112".to_owned(),
                until: Some(until.to_owned()),
            });
            (key.status, key.reasons) = ("exempt".to_owned(), vec!["exempted".to_owned()]);
            key.policy_interval_days = None;
        });
    }

    pub(crate) fn unknown(&mut self, project: &str, key: &str) {
        self.change(project, key, Event::Status, None, |key| {
            (key.status, key.reasons) = ("unknown".to_owned(), vec!["read_failed".to_owned()]);
        });
    }

    pub(crate) fn known(&mut self, project: &str, key: &str) {
        self.change(project, key, Event::Status, None, |key| {
            (key.status, key.reasons) = ("compliant".to_owned(), Vec::new());
        });
    }

    pub(crate) fn write(&mut self, project: &str, key: &str, phase: WritePhase) {
        let is_sent = !matches!(phase, WritePhase::Intent | WritePhase::NotSent);
        self.add(&WriteRecord {
            project: project.to_owned(),
            key_id: key.to_owned(),
            step: "update_interval".to_owned(),
            interval_days: Some(90),
            phase,
            before: None,
            request_id: is_sent.then(|| "req-0d1f2e".to_owned()),
            error: (phase == WritePhase::Failed).then(|| "HTTP 403 KMS.0307".to_owned()),
        });
    }

    pub(crate) fn unreadable(&mut self, project: &str) {
        self.add(&UnreadableRecord {
            project: project.to_owned(),
            reasons: vec!["login_unavailable".to_owned()],
            error: Some("IAM answered HTTP 503".to_owned()),
        });
    }

    /// The keys of a project cannot be listed, and none is known: this entry of the policy stands for them.
    pub(crate) fn unlisted(&mut self, project: &str, entry: &str) {
        let state = KeyState {
            alias: None,
            status: "unknown".to_owned(),
            reasons: vec!["access_denied".to_owned()],
            enabled: None,
            interval_days: None,
            created_at: None,
            last_rotation_at: None,
            rotations: None,
            material_since: None,
            ..self.on_policy("", 0)
        };
        self.unreadable(project);
        self.appear(project, entry, state);
    }

    pub(crate) fn readable(&mut self, project: &str) {
        self.add(&ReadableRecord { project: project.to_owned() });
    }

    pub(crate) fn gap(&mut self, from: SystemTime, to: SystemTime) {
        let (from, to) = (text(from), text(to));
        self.add(&GapRecord { from, to, records: 12, why: "no space left on device".to_owned() });
    }

    /// Ends a run that began ten seconds ago, and signs the log. The next one is due twelve hours later.
    pub(crate) fn run(&mut self) {
        self.end_run("success");
        if self.signs_runs {
            self.sign();
        }
    }

    pub(crate) fn end_run(&mut self, result: &str) {
        let started = self.now - Duration::from_secs(10);
        self.add(&RunRecord {
            trigger: "schedule".to_owned(),
            result: result.to_owned(),
            acting: true,
            started_at: text(started),
            duration_seconds: 10.0,
            keys: Counts { compliant: self.keys.len(), ..Counts::default() },
            listed: true,
            changes: 0,
            clock_skew_seconds: Some(0),
            states_sha256: Hash([0; 32]),
            next_run_at: Some(text(started + Duration::from_secs(12 * HOUR))),
            gap_after: Some(text(started + Duration::from_secs(36 * HOUR))),
        });
        self.last_run = Some(self.now);
    }

    /// Nobody looks for this long.
    pub(crate) fn wait(&mut self, hours: u64) {
        self.now += Duration::from_secs(hours * HOUR);
    }

    /// Runs without changes for this many days.
    pub(crate) fn run_for(&mut self, days: u64) {
        for _ in 0..days * 2 {
            self.wait(12);
            self.run();
        }
    }

    /// Begins a segment with a snapshot of every key.
    pub(crate) fn begin_segment(&mut self) {
        let snapshots: Vec<_> = self.keys.iter().map(|((project, key), state)| snapshot(project, key, state)).collect();
        let now = self.now;
        let opening = snapshots.len() as u64;
        self.log
            .begin_segment(now, opening, |log| snapshots.iter().for_each(|record| log.append(now, record)))
            .unwrap();
        self.sign();
    }

    /// Removes the segments that ended before this moment.
    pub(crate) fn prune(&mut self) {
        self.log.prune(self.now, self.now).unwrap();
        self.sign();
    }

    /// What the log has of a key.
    pub(crate) fn state(&self, project: &str, key: &str) -> &KeyState {
        &self.keys[&(project.to_owned(), key.to_owned())]
    }

    fn record(&self, project: &str, key: &str, event: Event, by: Option<Cause>) -> KeyRecord {
        KeyRecord {
            project: project.to_owned(),
            key_id: key.to_owned(),
            event,
            by,
            before: self.keys.get(&(project.to_owned(), key.to_owned())).cloned(),
            after: None,
            seen_after: self.last_run.map(text),
            seen_by: Some(text(self.now)),
            material_age_seconds: None,
            error: None,
            memory: None,
        }
    }
}

fn options(simulated: bool) -> LogOptions {
    let signing_key = Some(SigningKey::pem_from_seed(&[7; 32]));
    LogOptions { name: "payments".to_owned(), origin_suffix: None, signing_key, simulated, sync: false, replaced: None }
}

fn snapshot(project: &str, key: &str, state: &KeyState) -> SnapshotRecord {
    SnapshotRecord {
        project: project.to_owned(),
        key_id: key.to_owned(),
        observed_at: None,
        state: state.clone(),
        memory: KeyMemory::default(),
    }
}
