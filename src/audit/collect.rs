//! Reads the records of a log, one after the other, into a timeline of each key, and what else a report needs.
//!
//! It keeps no record. What is before the period is kept only as the state in which the period begins, and of what is
//! after it only when the next run began.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::keyline::{Context, KeyLine, Texts};
use super::looks::{Look, Looks};
use super::model::{Gap, GapKind, PolicyInForce, Program, ProjectFacts};
use super::time::Time;
use crate::evidence::reader::Entry;
use crate::evidence::record::{
    GapRecord, KeyRecord, ProjectRecord, Record, RunRecord, SnapshotRecord, StartRecord, UnreadableRecord, WriteRecord,
};
use crate::rotation::project::ProofRule;

/// What a log has over a period.
pub(super) struct Collector<'a> {
    /// Only these projects; all if empty.
    only: &'a [String],
    /// The first moment of the period, and the first one after it.
    from: Time,
    until: Time,
    /// The time of the last record, which never goes back.
    now: Time,
    pub(super) first: Option<Time>,
    pub(super) looks: Looks,
    /// Lost records and interrupted runs.
    pub(super) gaps: Vec<Gap>,
    pub(super) programs: Vec<Program>,
    pub(super) policies: Vec<PolicyInForce>,
    policy_texts: HashMap<Arc<str>, Arc<str>>,
    pub(super) projects: BTreeMap<Arc<str>, ProjectLine>,
    /// All projects of the log, also if the report leaves them out.
    pub(super) names: HashSet<Box<str>>,
    pub(super) texts: Texts,
    /// The opening records of a segment that are still to come.
    opening: u64,
    /// Grows with each complete list of keys, so that keys that it lacks are found.
    list: u32,
    /// A log that continues another one lists all keys in its first run.
    awaits_list: bool,
    is_first_run_over: bool,
    /// Keys with a write whose end is not known yet.
    written: Vec<(Arc<str>, Arc<str>)>,
}

/// A project and its keys.
#[derive(Default)]
pub(super) struct ProjectLine {
    /// What it was from which time on.
    pub(super) facts: Vec<(Time, ProjectFacts)>,
    pub(super) outages: Vec<Outage>,
    pub(super) keys: HashMap<Arc<str>, KeyLine>,
}

/// A time in which no key of a project could be read.
pub(super) struct Outage {
    pub(super) from: Time,
    pub(super) to: Option<Time>,
    pub(super) record: UnreadableRecord,
}

impl ProjectLine {
    /// The grace at the end, in milliseconds.
    fn grace(&self) -> i64 {
        self.facts.last().map_or_else(default_grace, |(_, facts)| millis(facts.grace_seconds))
    }

    fn is_unreadable(&self) -> bool {
        self.outages.last().is_some_and(|outage| outage.to.is_none())
    }
}

/// The grace of a project without a record, in milliseconds.
pub(super) fn default_grace() -> i64 {
    millis(ProofRule::default().grace.as_secs())
}

pub(super) fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX / 2_000).saturating_mul(1_000)
}

impl<'a> Collector<'a> {
    pub(super) fn new(only: &'a [String], from: Time, until: Time) -> Self {
        Self {
            only,
            from,
            until,
            now: Time(i64::MIN),
            first: None,
            looks: Looks::default(),
            gaps: Vec::new(),
            programs: Vec::new(),
            policies: Vec::new(),
            policy_texts: HashMap::new(),
            projects: BTreeMap::new(),
            names: HashSet::new(),
            texts: Texts::default(),
            opening: 0,
            list: 1,
            awaits_list: false,
            is_first_run_over: false,
            written: Vec::new(),
        }
    }

    /// The time of the newest record.
    pub(super) fn newest(&self) -> Time {
        self.now
    }

    /// The next records are of a log that continues the one before.
    pub(super) fn continue_with_next_log(&mut self) {
        self.list += 1;
        (self.awaits_list, self.opening) = (true, 0);
    }

    /// Takes the next record.
    pub(super) fn take(&mut self, entry: Entry) {
        let at = self.now.max(entry.at.into());
        self.now = at;
        self.first.get_or_insert(at);
        if at >= self.until {
            if let Record::Run(run) = &entry.record
                && run.result != RunRecord::INTERRUPTED
            {
                self.looks.add_after_period(Time::parse(&run.started_at).unwrap_or(at));
            }
            return;
        }
        let is_opening = self.opening > 0;
        match entry.record {
            Record::Segment(segment) => {
                self.opening = segment.opening;
                self.list += u32::from(segment.opening > 0);
                return;
            }
            Record::Start(start) => self.start(at, *start),
            Record::Policy(policy) => self.policy(at, &policy.sha256, policy.text),
            Record::Project(project) => self.project(at, *project),
            Record::Snapshot(snapshot) => self.snapshot(at, &snapshot),
            Record::Key(key) => self.key(at, &key),
            Record::Write(write) => self.write(at, &write),
            Record::Unreadable(unreadable) => self.unreadable(at, *unreadable),
            Record::Readable(readable) => {
                if let Some(line) = self.line(&readable.project)
                    && let Some(outage) = line.outages.last_mut()
                {
                    outage.to.get_or_insert(at);
                }
            }
            Record::Run(run) => self.run(at, &run),
            Record::Gap(gap) => self.lost(&gap),
            Record::Prune(_) | Record::Recovered(_) => {}
        }
        if is_opening {
            self.opening -= 1;
            if self.opening == 0 {
                self.close_unlisted(at);
            }
        }
    }

    /// Nothing more follows.
    pub(super) fn finish(&mut self) {
        self.end_writes();
    }

    /// The line of a project; `None` if the report leaves it out.
    fn line(&mut self, project: &str) -> Option<&mut ProjectLine> {
        if !self.names.contains(project) {
            self.names.insert(project.into());
        }
        if !self.only.is_empty() && !self.only.iter().any(|only| only == project) {
            return None;
        }
        if !self.projects.contains_key(project) {
            self.projects.insert(project.into(), ProjectLine::default());
        }
        self.projects.get_mut(project)
    }

    fn start(&mut self, at: Time, start: StartRecord) {
        // What the process before has not ended was cut off.
        self.end_writes();
        let StartRecord { version, revision, executable_sha256, host, replica, .. } = start;
        let program = Program { version, revision, executable_sha256, host, replica, from: at, starts: 1 };
        let is_same = |known: &&mut Program| {
            let same = Program { from: known.from, starts: known.starts, ..program.clone() };
            **known == same
        };
        match self.programs.last_mut().filter(is_same) {
            Some(known) => known.starts += 1,
            None => self.programs.push(program),
        }
    }

    fn policy(&mut self, at: Time, sha256: &str, text: String) {
        if let Some(last) = self.policies.last_mut() {
            if &*last.sha256 == sha256 {
                return;
            }
            last.to = at;
        }
        let sha256 = self.texts.shared(sha256);
        let text = self.policy_texts.entry(Arc::clone(&sha256)).or_insert_with(|| text.into());
        self.policies.push(PolicyInForce { sha256, from: at, to: at, text: Arc::clone(text) });
    }

    fn project(&mut self, at: Time, record: ProjectRecord) {
        let Some(line) = self.line(&record.project) else { return };
        let facts = ProjectFacts {
            cloud: record.cloud,
            region: record.region,
            endpoint: record.endpoint,
            project_id: record.project_id,
            principal: record.principal,
            mode: record.mode,
            coverage: record.coverage,
            proof: record.proof,
            grace_seconds: record.grace_seconds,
            listed: record.listed,
        };
        if line.facts.last().is_none_or(|(_, last)| *last != facts) {
            line.facts.push((at, facts));
        }
    }

    fn snapshot(&mut self, at: Time, record: &SnapshotRecord) {
        let is_first = !self.is_first_run_over;
        self.with_key(&record.project, &record.key_id, |key, context| {
            key.is_initial |= is_first && key.is_new();
            key.set(at, Some(&record.state), context);
        });
    }

    fn key(&mut self, at: Time, record: &KeyRecord) {
        let is_first = !self.is_first_run_over;
        self.with_key(&record.project, &record.key_id, |key, context| {
            key.is_initial |= is_first && key.is_new();
            key.record(at, record, context);
        });
    }

    fn write(&mut self, at: Time, record: &WriteRecord) {
        if let Some(written) = self.with_key(&record.project, &record.key_id, |key, context| {
            key.write(at, record, context);
        }) {
            self.written.push(written);
        }
    }

    /// Calls `act` with a key; returns the names of project and key.
    fn with_key(
        &mut self,
        project: &str,
        key_id: &str,
        act: impl FnOnce(&mut KeyLine, &mut Context<'_>),
    ) -> Option<(Arc<str>, Arc<str>)> {
        self.line(project)?;
        let (name, _) = self.projects.get_key_value(project)?;
        let name = Arc::clone(name);
        let line = self.projects.get_mut(project)?;
        let grace = line.grace();
        let key_id: Arc<str> = match line.keys.get_key_value(key_id) {
            Some((known, _)) => Arc::clone(known),
            None => key_id.into(),
        };
        let key = line.keys.entry(Arc::clone(&key_id)).or_default();
        key.list = self.list;
        act(key, &mut Context { from: self.from, grace, texts: &mut self.texts });
        Some((name, key_id))
    }

    fn unreadable(&mut self, at: Time, record: UnreadableRecord) {
        if let Some(line) = self.line(&record.project)
            && !line.is_unreadable()
        {
            line.outages.push(Outage { from: at, to: None, record });
        }
    }

    fn run(&mut self, at: Time, run: &RunRecord) {
        self.end_applied();
        let started = Time::parse(&run.started_at).unwrap_or(at).min(at);
        if run.result == RunRecord::INTERRUPTED {
            let (kind, project, why) = (GapKind::Interrupted, None, None);
            self.gaps.push(Gap { kind, from: started, to: at, counts: false, project, why });
            return;
        }
        self.looks.add(Look { started, ended: at, gap_after: run.gap_after.as_deref().and_then(Time::parse) });
        self.is_first_run_over = true;
        if std::mem::take(&mut self.awaits_list) {
            self.close_unlisted(at);
        }
    }

    fn lost(&mut self, record: &GapRecord) {
        if let (Some(from), Some(to)) = (Time::parse(&record.from), Time::parse(&record.to)) {
            let why = Some(format!("{} records were given up: {}", record.records, record.why));
            let counts = to > self.looks.allows_until(from);
            self.gaps.push(Gap { kind: GapKind::RecordsLost, from, to, counts, project: None, why });
        }
    }

    /// Keys that a complete list lacks are gone. The keys of a project that cannot be read are not listed.
    fn close_unlisted(&mut self, at: Time) {
        for line in self.projects.values_mut().filter(|line| !line.is_unreadable()) {
            let mut context = Context { from: self.from, grace: 0, texts: &mut self.texts };
            for key in line.keys.values_mut().filter(|key| key.list != self.list) {
                key.set(at, None, &mut context);
            }
        }
    }

    /// A run has ended: writes that were applied and led to no repair are shown by themselves.
    fn end_applied(&mut self) {
        let from = self.from;
        for (project, key_id) in std::mem::take(&mut self.written) {
            if let Some(key) = self.projects.get_mut(&project).and_then(|line| line.keys.get_mut(&key_id)) {
                key.end_applied(from);
            }
        }
    }

    /// The process has ended: intents without an end were cut off.
    fn end_writes(&mut self) {
        let from = self.from;
        for (project, key_id) in std::mem::take(&mut self.written) {
            if let Some(key) = self.projects.get_mut(&project).and_then(|line| line.keys.get_mut(&key_id)) {
                key.end_applied(from);
                key.end_intents(from);
            }
        }
    }
}
