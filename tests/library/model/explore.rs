//! The search: every plan within a bound, from every state that a run can leave.
//!
//! Breadth first by how much has happened (faults, and a kill or a stop), so that the first plan that breaks a rule is a
//! shortest one. A plan is made by replay: a run without it shows which calls there are, and each of them gets each
//! fault. After each run, the state is what the cloud has and what the next run knows: the memory of the process, or
//! what a new one restores. A state that was seen before is not continued again.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use kms_rotationd::kms::observe::Operation;
use tokio::runtime::Runtime;

use super::fault::{Plan, decisions};
use super::key::Key;
use super::log::Durable;
use super::process::{End, Outcome, Process, Setting};
use super::rules;

/// Where a search begins.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) setting: Setting,
    pub(super) keys: Vec<Key>,
}

/// How much may happen on the way from a root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) faults: usize,
    /// Kills and stops.
    pub(super) interruptions: usize,
    /// Both together.
    pub(super) all: usize,
}

/// How much of the model a search has visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Visited {
    pub(super) states: usize,
    /// Plans of one run, each from its state.
    pub(super) schedules: usize,
    /// All runs, with those that lead to a state, and those without faults after it.
    pub(super) runs: usize,
}

impl Visited {
    pub(super) fn add(&mut self, other: Self) {
        self.states += other.states;
        self.schedules += other.schedules;
        self.runs += other.runs;
    }
}

/// What happened on the way to a state, or in a plan.
#[derive(Clone, Copy, Debug, Default)]
struct Happened {
    faults: usize,
    interruptions: usize,
}

impl Happened {
    fn with(self, plan: &Plan) -> Self {
        Self {
            faults: self.faults + plan.iter().filter(|decision| decision.fault.is_some()).count(),
            interruptions: self.interruptions + plan.iter().filter(|decision| decision.interruption.is_some()).count(),
        }
    }

    fn all(self) -> usize {
        self.faults + self.interruptions
    }

    fn is_within(self, bound: Bound) -> bool {
        self.faults <= bound.faults && self.interruptions <= bound.interruptions && self.all() <= bound.all
    }
}

/// A state from which the next run begins: a process that has found these keys and this log, after these runs.
struct Node {
    keys: Vec<Key>,
    log: Durable,
    plans: Vec<Plan>,
    happened: Happened,
    /// A restart was without the evidence log.
    is_log_lost: bool,
    /// The last run of the process before, if that has ended.
    ended_by: Option<Plan>,
    parent: Option<Rc<Self>>,
}

impl Node {
    fn root(root: &Root) -> Self {
        let (keys, log, happened) = (root.keys.clone(), Durable::default(), Happened::default());
        Self { keys, log, plans: Vec::new(), happened, is_log_lost: false, ended_by: None, parent: None }
    }

    /// The process before its next run.
    fn process<'r>(&self, runtime: &'r Runtime, setting: Setting) -> Process<'r> {
        let mut process = Process::start(runtime, setting, self.keys.clone(), &self.log);
        for plan in &self.plans {
            process.run(plan);
        }
        process
    }

    /// What has happened, for people.
    fn story(&self) -> String {
        let before = self.parent.as_ref().map_or_else(String::new, |parent| parent.story());
        let last = match (self.plans.last(), &self.ended_by) {
            (Some(plan), _) => format!("  a run: {plan:?}"),
            (None, Some(plan)) => format!("  its last run: {plan:?}\n{}", self.found()),
            (None, None) => self.found(),
        };
        format!("{before}{last}\n")
    }

    fn found(&self) -> String {
        format!("a process finds {:?} (evidence log lost: {})", self.keys, self.is_log_lost)
    }
}

/// One run of a search.
struct Ran {
    calls: Vec<Operation>,
    /// Each state that can follow, with what identifies it.
    next: Vec<(Then, Node, u64)>,
}

struct Search<'a> {
    runtime: &'a Runtime,
    root: &'a Root,
    bound: Bound,
    visited: Visited,
    seen: HashSet<u64>,
    /// What is still to be run, by how much has happened.
    levels: Vec<VecDeque<(Rc<Node>, Plan)>>,
}

/// Visits everything within the bound. The error is the first rule that does not hold, and what led to it.
pub(super) fn explore(runtime: &Runtime, root: &Root, bound: Bound) -> Result<Visited, String> {
    let mut search = Search::new(runtime, root, bound);
    let node = Node::root(root);
    let state = fingerprint(&node.keys, &node.log, None);
    search.enter(node, state)?;
    for level in 0..=bound.all {
        while let Some((node, plan)) = search.levels[level].pop_front() {
            search.visit(&node, &plan)?;
        }
    }
    Ok(search.visited)
}

/// What happens between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The process goes on.
    SameProcess,
    /// A new one continues from the evidence log.
    NewProcess,
    WithoutLog,
}

/// Visits only what these runs lead to. The error is as that of [`explore`].
pub(super) fn replay(runtime: &Runtime, root: &Root, runs: &[(Plan, Then)]) -> Result<(), String> {
    let mut search = Search::new(runtime, root, Bound { faults: 0, interruptions: 0, all: 0 });
    let mut node = Rc::new(Node::root(root));
    for (plan, then) in runs {
        let next = search.run(&node, plan)?.next;
        let (_, next, _) = next.into_iter().find(|(kind, ..)| kind == then).ok_or("the process has ended")?;
        node = Rc::new(next);
    }
    search.settle(&node)
}

/// What the next run depends on: the keys, the evidence log, and what the process remembers, if there is one.
fn fingerprint(keys: &[Key], log: &Durable, memory: Option<u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (keys, format!("{log:?}"), memory).hash(&mut hasher);
    hasher.finish()
}

impl<'a> Search<'a> {
    fn new(runtime: &'a Runtime, root: &'a Root, bound: Bound) -> Self {
        let levels = (0..=bound.all).map(|_| VecDeque::new()).collect();
        Self { runtime, root, bound, visited: Visited::default(), seen: HashSet::new(), levels }
    }

    /// Runs one plan from a state, and goes on with longer plans and with the states that it leads to.
    fn visit(&mut self, node: &Rc<Node>, plan: &Plan) -> Result<(), String> {
        self.visited.schedules += 1;
        let Ran { calls, next } = self.run(node, plan)?;
        let first = plan.last().map_or(0, |decision| decision.call + 1);
        let may_interrupt = plan.iter().all(|decision| decision.interruption.is_none());
        for (call, operation) in calls.iter().enumerate().skip(first) {
            for decision in decisions(call, *operation, may_interrupt) {
                let longer: Plan = plan.iter().copied().chain([decision]).collect();
                let happened = node.happened.with(&longer);
                if happened.is_within(self.bound) {
                    self.levels[happened.all()].push_back((Rc::clone(node), longer));
                }
            }
        }
        next.into_iter().try_for_each(|(_, node, state)| self.enter(node, state))
    }

    /// Runs one plan from a state.
    fn run(&mut self, node: &Rc<Node>, plan: &Plan) -> Result<Ran, String> {
        let mut process = node.process(self.runtime, self.root.setting);
        let outcome = process.run(plan);
        self.visited.runs += node.plans.len() + 1;
        let (end, calls) = (outcome.end, outcome.calls.clone());
        self.check(node, plan, outcome)?;
        let (happened, parent) = (node.happened.with(plan), || Some(Rc::clone(node)));
        let (keys, log) = process.left();
        let mut next = Vec::new();
        if end == End::Finished {
            let state = fingerprint(&keys, &log, Some(process.memory()));
            let Node { keys, log, is_log_lost, .. } = &**node;
            let (keys, log, is_log_lost) = (keys.clone(), log.clone(), *is_log_lost);
            let plans = node.plans.iter().cloned().chain([plan.clone()]).collect();
            let node = Node { keys, log, plans, happened, is_log_lost, ended_by: None, parent: parent() };
            next.push((Then::SameProcess, node, state));
        }
        for (then, log, is_log_lost) in
            [(Then::NewProcess, log, node.is_log_lost), (Then::WithoutLog, Durable::default(), true)]
        {
            let state = fingerprint(&keys, &log, None);
            let (keys, plans, ended_by) = (keys.clone(), Vec::new(), Some(plan.clone()));
            let node = Node { keys, log, plans, happened, is_log_lost, ended_by, parent: parent() };
            next.push((then, node, state));
        }
        Ok(Ran { calls, next })
    }

    /// A run has led to this state, or the search begins there.
    fn enter(&mut self, node: Node, state: u64) -> Result<(), String> {
        let mut whole = DefaultHasher::new();
        (state, node.is_log_lost, node.happened.interruptions).hash(&mut whole);
        if !self.seen.insert(whole.finish()) {
            return Ok(());
        }
        self.visited.states += 1;
        let node = Rc::new(node);
        self.settle(&node)?;
        let level = node.happened.all();
        if level < self.bound.all {
            self.levels[level].push_back((node, Plan::new()));
        }
        Ok(())
    }

    /// Runs without faults bring the keys to their policy, one more run for each key that the limit of changes holds
    /// back, and then nothing is left to do.
    fn settle(&mut self, node: &Node) -> Result<(), String> {
        let mut process = node.process(self.runtime, self.root.setting);
        let runs = if self.root.setting.most_changes.is_some() { self.root.keys.len() } else { 1 };
        self.visited.runs += node.plans.len() + runs + 1;
        let nothing = Plan::new();
        let mut outcomes = Vec::new();
        for run in 0..=runs {
            outcomes.push(process.run(&nothing));
            let outcome = &outcomes[run];
            let mut checked = rules::check(self.root, &nothing, outcome);
            if run + 1 == runs {
                checked = checked.and_then(|()| rules::settled(self.root, outcome, node.is_log_lost));
            }
            if run == runs {
                checked = checked.and_then(|()| rules::idle(self.root, outcome));
            }
            checked.map_err(|why| self.explain(node, &nothing, &outcomes, &why))?;
        }
        Ok(())
    }

    fn check(&self, node: &Node, plan: &Plan, outcome: Outcome) -> Result<(), String> {
        rules::check(self.root, plan, &outcome).map_err(|why| self.explain(node, plan, &[outcome], &why))
    }

    /// What led to a broken rule, for people. The last runs are shown call by call.
    fn explain(&self, node: &Node, plan: &Plan, outcomes: &[Outcome], why: &str) -> String {
        let mut lines = vec![why.to_owned(), format!("{:?}", self.root.setting), node.story()];
        for outcome in outcomes {
            lines.push(format!("  a run: {plan:?}"));
            lines.extend(outcome.events.iter().map(|event| format!("    {event:?}")));
            lines.push(format!("  {:?}, leaves {:?}", outcome.end, outcome.left));
            let report = outcome.report.iter().flat_map(|report| report.keys());
            lines.extend(report.map(|(_, key)| format!("  reports {} {} {}", key.subject, key.status, key.reasons)));
        }
        lines.join("\n")
    }
}
