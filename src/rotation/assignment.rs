//! Which rule decides for which key: the policy's rules × the keys of a project → an assignment for each key.
//!
//! A pure function of rules, list and time. The most specific rule decides: one that names the key's id, then one that
//! names its alias, then the selector with more conditions, then the earlier one. A rule whose exemption has ended is
//! ignored.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::time::SystemTime;

use super::decide::{Reason, Reasons, Status, blocked};
use super::key::{DesiredRotation, KeyId, ListedKey};
use super::rule::{Attribute, Exemption, Match, Matcher, Requirement, Rule, Selector};

/// The keys of a project, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub enum Listing<'a> {
    /// Only the keys that rules name: there is no list.
    None,
    /// Every key.
    Complete(&'a [ListedKey]),
    /// From a list that may be incomplete.
    Doubtful {
        /// The keys on the list.
        keys: &'a [ListedKey],
        /// Others may exist, so nothing follows from the absence of a key.
        may_lack_keys: bool,
        /// Tags that a key may have although it is listed without them.
        unsure_tags: &'a [Box<str>],
    },
    /// Listing failed, for this reason; these are the keys of the last list.
    Failed(Reason, &'a [ListedKey]),
}

/// The subject of a line of a report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Key(KeyId),
    /// A policy entry whose keys are not known: `alias/NAME`, or `entry@LINE` for a selector.
    Entry(Box<str>),
}

impl Subject {
    /// The key's id, or the name of the entry.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Key(key_id) => key_id.as_str(),
            Self::Entry(name) => name,
        }
    }

    /// The key; nothing for an entry.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Key(key_id) => Some(*key_id),
            Self::Entry(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A key, the rule that decides for it, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment<'a> {
    pub subject: Subject,
    /// The rule that decides for it.
    pub rule: Option<&'a Rule>,
    /// The key on the list, or on the last list where this one failed.
    pub listed: Option<&'a ListedKey>,
    /// Why the rule that decides is not known, if so.
    pub unsure: Option<Unsure<'a>>,
    /// What a run does about it.
    pub action: Action,
}

/// A rule that would decide for a key if it matched, and the attribute that the list does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsure<'a> {
    pub rule: &'a Rule,
    pub attribute: Attribute<'a>,
}

impl fmt::Display for Unsure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule: Rule { line, .. }, attribute } = self;
        write!(
            f,
            "the cloud's list does not show the {attribute} of this key, which the entry on line {line} matches on; \
             add an entry with its key_id"
        )
    }
}

/// What a run does about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read it and compare it with this.
    Observe(DesiredRotation),
    /// Its status is known without its setting, which is read at most once a day, to be shown.
    Skip(Status, Reasons),
}

/// The keys of a project with their rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignments<'a> {
    /// Every key, in the order of the rules that decide; keys without a rule are last.
    pub all: Vec<Assignment<'a>>,
    /// Selectors that match no key.
    pub idle: Vec<&'a Rule>,
}

/// Finds the rule that decides for each key of a project.
#[must_use]
pub fn assign_rules<'a>(rules: &'a [Rule], listing: Listing<'a>, now: SystemTime) -> Assignments<'a> {
    let (listed, failure, unsure_tags) = match listing {
        Listing::None => (&[][..], None, &[][..]),
        Listing::Complete(keys) => (keys, None, &[][..]),
        Listing::Doubtful { keys, unsure_tags, .. } => (keys, None, unsure_tags),
        Listing::Failed(reason, known) => (known, Some(reason), &[][..]),
    };
    let complete = matches!(listing, Listing::Complete(_) | Listing::Doubtful { may_lack_keys: false, .. });
    let may_lack_keys = matches!(listing, Listing::Doubtful { may_lack_keys: true, .. });
    // Why nothing follows from the absence of a key, if so.
    let absence = failure.or(may_lack_keys.then_some(Reason::ReadFailed));
    let index = Index::new(rules, now);
    let mut namesakes: HashMap<&str, usize> = HashMap::new();
    for alias in listed.iter().filter_map(ListedKey::alias) {
        *namesakes.entry(alias).or_default() += 1;
    }
    let nameless = listed.iter().any(|key| key.alias().is_none()).then_some(Reason::ReadFailed);
    let mut met = vec![false; rules.len()];
    let mut assignments = Vec::with_capacity(rules.len().max(listed.len()));
    for key in listed {
        let decision = index.decides(key, unsure_tags, &mut met);
        let (at, rule, unsure) = match decision {
            Some(Decision::Rule(at)) => (at, Some(&rules[at]), None),
            Some(Decision::Unsure(at, attribute)) => (at, None, Some(Unsure { rule: &rules[at], attribute })),
            None => (usize::MAX, None, None),
        };
        let action = match (rule.map(|rule| &rule.matcher), failure) {
            // A key that is named by its id can be read without a list, and its state may have changed since the last
            // list.
            (Some(Matcher::Key(_)), Some(_)) => action_for(rule, None, now),
            (_, Some(reason)) => unknown(reason),
            (Some(Matcher::Alias(alias)), None) if namesakes[&**alias] > 1 => unknown(Reason::AmbiguousEntry),
            (None, None) if unsure.is_some() => undecided(key),
            _ => action_for(rule, Some(key), now),
        };
        assignments
            .push((at, Assignment { subject: Subject::Key(key.key_id), rule, listed: Some(key), unsure, action }));
    }
    let without_keys = rules.iter().enumerate().filter(|(at, _)| !met[*at]);
    assignments.extend(without_keys.filter_map(|(at, rule)| {
        let assign =
            |subject, rule, action| Some((at, Assignment { subject, rule, listed: None, unsure: None, action }));
        let ended = rule.has_ended(now);
        match &rule.matcher {
            // A key that is missing on the list is read all the same, since the list may be limited to what the user
            // may see. But an exempt key is not read.
            Matcher::Key(key_id) if !ended && complete && matches!(rule.requirement, Requirement::Exempt(_)) => {
                assign(Subject::Key(*key_id), Some(rule), unknown(Reason::NotFound))
            }
            Matcher::Key(key_id) if !ended => {
                assign(Subject::Key(*key_id), Some(rule), action_for(Some(rule), None, now))
            }
            // Its exemption has ended, and only a list would show whether another rule matches it.
            Matcher::Key(key_id) if !complete && listed.iter().all(|key| key.key_id != *key_id) => {
                assign(Subject::Key(*key_id), None, absence.map_or_else(|| action_for(None, None, now), unknown))
            }
            Matcher::Alias(alias) if !ended && !namesakes.contains_key(&**alias) => {
                let subject = Subject::Entry(format!("alias/{alias}").into());
                assign(subject, Some(rule), unknown(absence.or(nameless).unwrap_or(Reason::NotFound)))
            }
            Matcher::Select(_) if !ended => {
                let subject = Subject::Entry(unresolved(rules, at).into());
                absence.and_then(|reason| assign(subject, Some(rule), unknown(reason)))
            }
            _ => None,
        }
    }));
    // By line and then by id, not in the order of the list, so that a run with a limit of changes picks the same keys
    // as the plan before it.
    assignments.sort_by(|(at, assignment), (other_at, other)| {
        at.cmp(other_at).then_with(|| assignment.subject.as_str().cmp(other.subject.as_str()))
    });
    let idle = index.selectors.iter().filter(|(at, _)| complete && !met[*at]).map(|(at, _)| &rules[*at]).collect();
    Assignments { all: assignments.into_iter().map(|(_, assignment)| assignment).collect(), idle }
}

/// What a run does about a key whose rule is not known. A key that cannot rotate is exempt under every rule.
fn undecided(key: &ListedKey) -> Action {
    match key.description.blocker.map(blocked) {
        Some((Status::Exempt, reason)) => Action::Skip(Status::Exempt, reason.into()),
        _ => unknown(Reason::ReadFailed),
    }
}

/// The name of a selector in the report: its line, and its number where the line has several.
fn unresolved(rules: &[Rule], at: usize) -> String {
    let line = rules[at].line;
    let before =
        rules[..at].iter().filter(|rule| rule.line == line && matches!(rule.matcher, Matcher::Select(_))).count();
    if before == 0 { format!("entry@{line}") } else { format!("entry@{line}.{}", before + 1) }
}

fn unknown(reason: Reason) -> Action {
    Action::Skip(Status::Unknown, reason.into())
}

fn action_for(rule: Option<&Rule>, key: Option<&ListedKey>, now: SystemTime) -> Action {
    let blocker = key.and_then(|key| key.description.blocker).map(blocked);
    match (rule.map(|rule| &rule.requirement), blocker) {
        (Some(Requirement::Exempt(exemption)), _) => Action::Skip(Status::Exempt, exempted(exemption, now)),
        (Some(Requirement::Rotation(_)), Some((status, reason))) => Action::Skip(status, reason.into()),
        (Some(Requirement::Rotation(desired)), None) => Action::Observe(*desired),
        // No rule matches it, and it could not rotate anyway.
        (None, Some((_, reason))) => Action::Skip(Status::Exempt, reason.into()),
        (None, None) => Action::Skip(Status::Uncovered, Reason::Uncovered.into()),
    }
}

fn exempted(exemption: &Exemption, now: SystemTime) -> Reasons {
    let reasons = Reasons::from(Reason::Exempted);
    if exemption.ends_soon(now) { reasons.with(Reason::ExemptionEndsSoon) } else { reasons }
}

/// The rules that are in force, by their matcher.
struct Index<'a> {
    by_key: HashMap<KeyId, usize>,
    by_alias: HashMap<&'a str, usize>,
    /// The first rule with an alias: any of them may match a key whose alias the list does not show.
    first_alias: Option<usize>,
    /// The most specific first.
    selectors: Vec<(usize, &'a Selector)>,
}

impl<'a> Index<'a> {
    fn new(rules: &'a [Rule], now: SystemTime) -> Self {
        let (by_key, by_alias, selectors) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut index = Self { by_key, by_alias, first_alias: None, selectors };
        for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.has_ended(now)) {
            match &rule.matcher {
                Matcher::Key(key_id) => {
                    index.by_key.entry(*key_id).or_insert(at);
                }
                Matcher::Alias(alias) => {
                    index.by_alias.entry(alias).or_insert(at);
                    index.first_alias = index.first_alias.or(Some(at));
                }
                Matcher::Select(selector) => index.selectors.push((at, selector)),
            }
        }
        // The sort is stable: of equal ones the earlier comes first.
        index.selectors.sort_by_key(|(_, selector)| Reverse(selector.conditions()));
        index
    }

    /// The rule that decides for the key; `None` if none matches. Marks every rule that matches it or may.
    fn decides(&self, key: &ListedKey, unsure_tags: &[Box<str>], met: &mut [bool]) -> Option<Decision<'a>> {
        let by_alias = match key.alias() {
            Some(alias) => self.by_alias.get(alias).map(|at| Decision::Rule(*at)),
            None => self.first_alias.map(|at| Decision::Unsure(at, Attribute::Alias)),
        };
        let mut first = None;
        for decision in [self.by_key.get(&key.key_id).map(|at| Decision::Rule(*at)), by_alias].into_iter().flatten() {
            // It is not known which of the rules with an alias would match.
            if let Decision::Rule(at) = decision {
                met[at] = true;
            }
            first.get_or_insert(decision);
        }
        for (at, selector) in &self.selectors {
            let decision = match selector.matches(key, unsure_tags) {
                Match::Yes => Decision::Rule(*at),
                Match::Unsure(attribute) => Decision::Unsure(*at, attribute),
                Match::No => continue,
            };
            met[*at] = true;
            first.get_or_insert(decision);
        }
        first
    }
}

/// Which rule decides for a key, by its index among the rules.
#[derive(Clone, Copy)]
enum Decision<'a> {
    Rule(usize),
    /// This one, if it matches; that depends on an attribute that the list does not show.
    Unsure(usize, Attribute<'a>),
}
