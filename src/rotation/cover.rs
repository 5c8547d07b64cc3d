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
use super::rule::{Asks, Attribute, Exemption, Match, Names, Rule, Selector};

/// What is known of a project's keys.
#[derive(Clone, Copy, Debug)]
pub enum Listing<'a> {
    /// Nothing beside what the rules name.
    None,
    /// Every key.
    Complete(&'a [ListedKey]),
    /// Keys that the project has, from a list that leaves a doubt.
    Doubtful {
        /// The keys that were seen.
        keys: &'a [ListedKey],
        /// There may be others, so that nothing follows from the absence of one.
        may_lack_keys: bool,
        /// Tags that a key may have although it is listed without them.
        unsure_tags: &'a [Box<str>],
    },
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
    /// Why it is not known which rule decides, where that is so.
    pub unsure: Option<Unsure<'a>>,
    /// What is to be done.
    pub course: Course,
}

/// A rule that would decide for a key if it matched, and the attribute that the list does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsure<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// What it asks for.
    pub attribute: Attribute<'a>,
}

impl fmt::Display for Unsure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule: Rule { line, .. }, attribute } = self;
        write!(
            f,
            "the cloud's list does not show the {attribute} of this key, which the entry on line {line} asks for; \
             name the key by its key_id to decide for it"
        )
    }
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
    let (listed, failure, unsure_tags) = match listing {
        Listing::None => (&[][..], None, &[][..]),
        Listing::Complete(keys) => (keys, None, &[][..]),
        Listing::Doubtful { keys, unsure_tags, .. } => (keys, None, unsure_tags),
        Listing::Failed(reason, known) => (known, Some(reason), &[][..]),
    };
    let complete = matches!(listing, Listing::Complete(_) | Listing::Doubtful { may_lack_keys: false, .. });
    let may_lack_keys = matches!(listing, Listing::Doubtful { may_lack_keys: true, .. });
    // Why nothing follows from the absence of a key, where that is so.
    let absence = failure.or(may_lack_keys.then_some(Reason::ReadFailed));
    let index = Index::new(rules, now);
    let mut namesakes: HashMap<&str, usize> = HashMap::new();
    for alias in listed.iter().filter_map(ListedKey::alias) {
        *namesakes.entry(alias).or_default() += 1;
    }
    let nameless = listed.iter().any(|key| key.alias().is_none()).then_some(Reason::ReadFailed);
    let mut met = vec![false; rules.len()];
    let mut cases = Vec::with_capacity(rules.len().max(listed.len()));
    for key in listed {
        let decision = index.decides(key, unsure_tags, &mut met);
        let (place, rule, unsure) = match decision {
            Some(Decision::Rule(at)) => (at, Some(&rules[at]), None),
            Some(Decision::Unsure(at, attribute)) => (at, None, Some(Unsure { rule: &rules[at], attribute })),
            None => (usize::MAX, None, None),
        };
        let course = match (rule.map(|rule| &rule.names), failure) {
            // What names a key by its id needs no list for the key to be asked about, and what an earlier list said of
            // its state may be over.
            (Some(Names::Key(_)), Some(_)) => course(rule, None, now),
            (_, Some(reason)) => unknown(reason),
            (Some(Names::Alias(alias)), None) if namesakes[&**alias] > 1 => unknown(Reason::AmbiguousEntry),
            (None, None) if unsure.is_some() => undecided(key),
            _ => course(rule, Some(key), now),
        };
        cases.push((place, Case { subject: Subject::Key(key.key_id), rule, listed: Some(key), unsure, course }));
    }
    let without_keys = rules.iter().enumerate().filter(|(at, _)| !met[*at]);
    cases.extend(without_keys.filter_map(|(at, rule)| {
        let case = |subject, rule, course| Some((at, Case { subject, rule, listed: None, unsure: None, course }));
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
                case(Subject::Key(*key_id), None, absence.map_or_else(|| course(None, None, now), unknown))
            }
            Names::Alias(alias) if !ended && !namesakes.contains_key(&**alias) => {
                let subject = Subject::Entry(format!("alias/{alias}").into());
                case(subject, Some(rule), unknown(absence.or(nameless).unwrap_or(Reason::NotFound)))
            }
            Names::Select(_) if !ended => {
                let subject = Subject::Entry(unresolved(rules, at).into());
                absence.and_then(|reason| case(subject, Some(rule), unknown(reason)))
            }
            _ => None,
        }
    }));
    // By line and then by id, whatever the order of the list: a run that may not change every key changes the same ones
    // as the plan before it.
    cases.sort_by(|(place, case), (other_place, other)| {
        place.cmp(other_place).then_with(|| case.subject.as_str().cmp(other.subject.as_str()))
    });
    let idle = index.selectors.iter().filter(|(at, _)| complete && !met[*at]).map(|(at, _)| &rules[*at]).collect();
    Cover { cases: cases.into_iter().map(|(_, case)| case).collect(), idle }
}

/// A key of which it is not known which rule decides. One that cannot rotate is exempt under each.
fn undecided(key: &ListedKey) -> Course {
    match key.description.hindrance.map(hindered) {
        Some((Status::Exempt, reason)) => Course::Settled(Status::Exempt, reason.into()),
        _ => unknown(Reason::ReadFailed),
    }
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
    /// The first rule that names an alias: each may be about a key whose alias is not shown.
    first_alias: Option<usize>,
    /// The most specific first.
    selectors: Vec<(usize, &'a Selector)>,
}

impl<'a> Index<'a> {
    fn new(rules: &'a [Rule], now: SystemTime) -> Self {
        let (by_key, by_alias, selectors) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut index = Self { by_key, by_alias, first_alias: None, selectors };
        for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.has_ended(now)) {
            match &rule.names {
                Names::Key(key_id) => {
                    index.by_key.entry(*key_id).or_insert(at);
                }
                Names::Alias(alias) => {
                    index.by_alias.entry(alias).or_insert(at);
                    index.first_alias = index.first_alias.or(Some(at));
                }
                Names::Select(selector) => index.selectors.push((at, selector)),
            }
        }
        // Stable, so that of equals the earlier one comes first.
        index.selectors.sort_by_key(|(_, selector)| Reverse(selector.conditions()));
        index
    }

    /// What decides for the key; nothing where no rule matches. Notes which rules match it, or may, deciding or not.
    fn decides(&self, key: &ListedKey, unsure_tags: &[Box<str>], met: &mut [bool]) -> Option<Decision<'a>> {
        let by_alias = match key.alias() {
            Some(alias) => self.by_alias.get(alias).map(|at| Decision::Rule(*at)),
            None => self.first_alias.map(|at| Decision::Unsure(at, Attribute::Alias)),
        };
        let mut first = None;
        for decision in [self.by_key.get(&key.key_id).map(|at| Decision::Rule(*at)), by_alias].into_iter().flatten() {
            // Which of the rules that name an alias would match is not known.
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

/// Which rule decides for a key, by its place among the rules.
#[derive(Clone, Copy)]
enum Decision<'a> {
    Rule(usize),
    /// This one, if it matches; that depends on an attribute that the list does not show.
    Unsure(usize, Attribute<'a>),
}
