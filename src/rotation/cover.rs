//! Which rule decides for which key: the policy's rules × the keys of a project → a case for each key.
//!
//! Pure, like the decision: what a key's case is follows from rules, list and time alone. The most specific rule
//! decides: one that names the key's id, then one that names its alias, then the selector with more conditions, then
//! the earlier one. A rule whose exemption has ended decides nothing any more.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::time::SystemTime;

use super::decide::{Reason, Reasons, Status, hindered};
use super::key::{DesiredRotation, KeyId, ListedKey};
use super::rule::{Asks, Exemption, Names, Rule, Selector};

/// What is known of a project's keys.
#[derive(Clone, Copy, Debug)]
pub enum Listing<'a> {
    /// Nothing beside what the rules name.
    None,
    /// Every key.
    Complete(&'a [ListedKey]),
    /// They could not be listed, for this reason; these are those that were known before.
    Failed(Reason, &'a [ListedKey]),
}

/// What a line of a report is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A key.
    Key(KeyId),
    /// The keys of an entry of the policy that could not be found out: `alias/NAME`, or `entry@LINE` for a selector.
    Entry(Box<str>),
}

impl Subject {
    /// The key's id, or what stands for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Key(key_id) => key_id.as_str(),
            Self::Entry(name) => name,
        }
    }

    /// The key, where it is one.
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

/// A key and what the policy says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case<'a> {
    /// The key.
    pub subject: Subject,
    /// The rule that decides for it.
    pub rule: Option<&'a Rule>,
    /// What the list says of it, or the last one where this one failed.
    pub listed: Option<&'a ListedKey>,
    /// What is to be done.
    pub course: Course,
}

/// What is to be done about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Read it and hold it against this.
    Observe(DesiredRotation),
    /// Nothing: its status is clear without asking.
    Settled(Status, Reasons),
}

/// The rules of a project held against its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover<'a> {
    /// Every key, in the order of the rules that decide; those that no rule speaks of are last.
    pub cases: Vec<Case<'a>>,
    /// Selectors that no key meets.
    pub idle: Vec<&'a Rule>,
}

/// Holds the rules of a project against its keys.
#[must_use]
pub fn cover<'a>(rules: &'a [Rule], listing: Listing<'a>, now: SystemTime) -> Cover<'a> {
    let (listed, failure) = match listing {
        Listing::None => (&[][..], None),
        Listing::Complete(keys) => (keys, None),
        Listing::Failed(reason, known) => (known, Some(reason)),
    };
    let complete = matches!(listing, Listing::Complete(_));
    let index = Index::new(rules, now);
    let mut namesakes: HashMap<&str, usize> = HashMap::new();
    for key in listed {
        *namesakes.entry(key.alias()).or_default() += 1;
    }
    let mut met = vec![false; rules.len()];
    let mut cases = Vec::with_capacity(rules.len().max(listed.len()));
    for key in listed {
        let decides = index.decides(key, &mut met);
        let rule = decides.map(|at| &rules[at]);
        let course = match (rule.map(|rule| &rule.names), failure) {
            // What names a key by its id needs no list for the key to be asked about, and what an earlier list said of
            // its state may be over.
            (Some(Names::Key(_)), Some(_)) => course(rule, None, now),
            (_, Some(reason)) => unknown(reason),
            (Some(Names::Alias(alias)), None) if namesakes[&**alias] > 1 => unknown(Reason::AmbiguousEntry),
            _ => course(rule, Some(key), now),
        };
        let case = Case { subject: Subject::Key(key.key_id), rule, listed: Some(key), course };
        cases.push((decides.unwrap_or(usize::MAX), case));
    }
    let without_keys = rules.iter().enumerate().filter(|(at, _)| !met[*at]);
    cases.extend(without_keys.filter_map(|(at, rule)| {
        let case = |subject, rule, course| Some((at, Case { subject, rule, listed: None, course }));
        let ended = rule.has_ended(now);
        match &rule.names {
            // The cloud is asked about a key that its list lacks: the user may be shown less than there is. But nothing
            // asks about one that is excused.
            Names::Key(key_id) if !ended && complete && matches!(rule.asks, Asks::Exempt(_)) => {
                case(Subject::Key(*key_id), Some(rule), unknown(Reason::NotFound))
            }
            Names::Key(key_id) if !ended => case(Subject::Key(*key_id), Some(rule), course(Some(rule), None, now)),
            // Excused no more, and whether anything else speaks of it only a list would tell.
            Names::Key(key_id) if !complete && listed.iter().all(|key| key.key_id != *key_id) => {
                case(Subject::Key(*key_id), None, failure.map_or_else(|| course(None, None, now), unknown))
            }
            Names::Alias(alias) if !ended && !namesakes.contains_key(&**alias) => {
                let subject = Subject::Entry(format!("alias/{alias}").into());
                case(subject, Some(rule), unknown(failure.unwrap_or(Reason::NotFound)))
            }
            Names::Select(_) if !ended => {
                let subject = Subject::Entry(unresolved(rules, at).into());
                failure.and_then(|reason| case(subject, Some(rule), unknown(reason)))
            }
            _ => None,
        }
    }));
    // Stable: within a rule, and among what no rule speaks of, keys stay in the cloud's order.
    cases.sort_by_key(|(place, _)| *place);
    let idle = index.selectors.iter().filter(|(at, _)| complete && !met[*at]).map(|(at, _)| &rules[*at]).collect();
    Cover { cases: cases.into_iter().map(|(_, case)| case).collect(), idle }
}

/// What stands for the keys of a selector: its line, and its place there where that has several.
fn unresolved(rules: &[Rule], at: usize) -> String {
    let line = rules[at].line;
    let before = rules[..at].iter().filter(|rule| rule.line == line && matches!(rule.names, Names::Select(_))).count();
    if before == 0 { format!("entry@{line}") } else { format!("entry@{line}.{}", before + 1) }
}

fn unknown(reason: Reason) -> Course {
    Course::Settled(Status::Unknown, reason.into())
}

fn course(rule: Option<&Rule>, key: Option<&ListedKey>, now: SystemTime) -> Course {
    let hindrance = key.and_then(|key| key.description.hindrance).map(hindered);
    match (rule.map(|rule| &rule.asks), hindrance) {
        (Some(Asks::Exempt(exemption)), _) => Course::Settled(Status::Exempt, exempted(exemption, now)),
        (Some(Asks::Rotation(_)), Some((status, reason))) => Course::Settled(status, reason.into()),
        (Some(Asks::Rotation(desired)), None) => Course::Observe(*desired),
        // Nothing is asked of it, and nothing could be.
        (None, Some((_, reason))) => Course::Settled(Status::Exempt, reason.into()),
        (None, None) => Course::Settled(Status::Uncovered, Reason::Uncovered.into()),
    }
}

fn exempted(exemption: &Exemption, now: SystemTime) -> Reasons {
    let reasons = Reasons::from(Reason::Exempted);
    if exemption.ends_soon(now) { reasons.with(Reason::ExemptionEndsSoon) } else { reasons }
}

/// The rules that are in force, by what they name.
struct Index<'a> {
    by_key: HashMap<KeyId, usize>,
    by_alias: HashMap<&'a str, usize>,
    /// The most specific first.
    selectors: Vec<(usize, &'a Selector)>,
}

impl<'a> Index<'a> {
    fn new(rules: &'a [Rule], now: SystemTime) -> Self {
        let mut index = Self { by_key: HashMap::new(), by_alias: HashMap::new(), selectors: Vec::new() };
        for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.has_ended(now)) {
            match &rule.names {
                Names::Key(key_id) => {
                    index.by_key.entry(*key_id).or_insert(at);
                }
                Names::Alias(alias) => {
                    index.by_alias.entry(alias).or_insert(at);
                }
                Names::Select(selector) => index.selectors.push((at, selector)),
            }
        }
        // Stable, so that of equals the earlier one comes first.
        index.selectors.sort_by_key(|(_, selector)| Reverse(selector.conditions()));
        index
    }

    /// The rule that decides for the key. Notes which rules the key meets, deciding or not.
    fn decides(&self, key: &ListedKey, met: &mut [bool]) -> Option<usize> {
        let by_name = [self.by_key.get(&key.key_id), self.by_alias.get(key.alias())];
        let selectors = self.selectors.iter().filter(|(_, selector)| selector.matches(key)).map(|(at, _)| at);
        let mut first = None;
        for at in by_name.into_iter().flatten().chain(selectors) {
            met[*at] = true;
            first = first.or(Some(*at));
        }
        first
    }
}
