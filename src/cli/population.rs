//! The keys of the simulated cloud of `rehearse`, made from the policy's entries.
//!
//! The same policy and seed give the same keys. Without the policy's own ids, a key's id is a hash of the seed and of the
//! entry.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use crate::policy::Policy;
use crate::policy::types::Project;
use crate::rotation::rule::{Matcher, Requirement, Rule, Selector};
use kms_simulator::seed::{Mix, Seed, Wanted};
use kms_simulator::{Key, ProjectSetup};

/// The keys that were made so far.
pub(super) struct Population {
    seed: u64,
    per_selector: usize,
    /// Number of uncovered keys, in a project with selectors or aliases.
    uncovered: usize,
    made: Seed,
    /// Project and id; the cloud does not know all of them.
    known: HashSet<(String, String)>,
}

impl Population {
    /// None yet. Their dates will be before `now`; `is_small` for a rehearsal that reads them thousands of times.
    pub(super) fn new(seed: u64, now: SystemTime, is_small: bool) -> Self {
        let (per_selector, uncovered) = if is_small { (4, 2) } else { (12, 3) };
        Self { seed, per_selector, uncovered, made: Seed::new(now).numbered(seed), known: HashSet::new() }
    }

    /// Makes the keys of the policy that were not made before, for each of its projects.
    pub(super) fn add(&mut self, policy: &Policy) -> Vec<ProjectSetup> {
        let projects = policy.projects.iter().map(|project| {
            let project_id = simulated_id(project);
            let wanted = self.wanted(&project_id, &project.keys);
            let known = &mut self.known;
            let new = wanted.into_iter().filter(|wanted| known.insert((project_id.clone(), wanted.id.clone())));
            self.made.project(&project_id, &project.region, new)
        });
        projects.collect()
    }

    /// How many keys were made in which condition.
    pub(super) fn mix(&self) -> Mix {
        self.made.mix()
    }

    /// A key with rotation off that is made at this time, after all others, and that the selector matches.
    pub(super) fn newcomer(&self, project: &Project, selector: &Selector, at: SystemTime) -> Option<Key> {
        let project_id = simulated_id(project);
        let generated = Wanted::new(generated_id(self.seed, &project_id, &format!("{selector:?} new")), 365);
        let wanted = matching(selector, self.per_selector, generated);
        let wanted = Wanted { alias: wanted.alias.or_else(|| Some("newcomer".to_owned())), ..wanted };
        // The first key of a mix has its rotation off.
        let key = Seed::new(at).project(&project_id, &project.region, [wanted]).keys.pop()?;
        Some(key.created(at))
    }

    /// Keys that match the entries of a project, and some uncovered ones.
    fn wanted(&self, project_id: &str, rules: &[Rule]) -> Vec<Wanted> {
        let mut keys = Vec::new();
        for rule in rules {
            let interval_days = match &rule.requirement {
                Requirement::Rotation(desired) => u32::from(desired.interval.days()),
                Requirement::Exempt(_) => 365,
            };
            let generated = |name: &str| Wanted::new(generated_id(self.seed, project_id, name), interval_days);
            match &rule.matcher {
                Matcher::Key(key_id) => keys.push(Wanted::new(key_id.as_str(), interval_days)),
                Matcher::Alias(alias) => keys.push(Wanted { alias: Some(alias.to_string()), ..generated(alias) }),
                Matcher::Select(selector) => {
                    let key = |number| matching(selector, number, generated(&format!("{selector:?} {number}")));
                    keys.extend((0..self.per_selector).map(key));
                }
            }
        }
        if rules.iter().any(Rule::needs_listing) {
            let other = |number| Wanted::new(generated_id(self.seed, project_id, &format!("other {number}")), 365);
            keys.extend((0..self.uncovered).map(other));
        }
        keys
    }
}

/// Changes the key so that the selector matches it.
fn matching(selector: &Selector, number: usize, key: Wanted) -> Wanted {
    const WORDS: [&str; 4] = ["database", "objects", "volumes", "queue"];
    let word = WORDS[number % WORDS.len()];
    let any = match number / WORDS.len() {
        0 => word.to_owned(),
        round => format!("{word}-{}", round + 1),
    };
    let text = |text: &str| text.to_owned();
    Wanted {
        alias: selector.alias.as_ref().map(|glob| glob.as_str().replace('*', &any).replace('?', "1")),
        tags: selector
            .tags
            .iter()
            .map(|tag| (tag.key.to_string(), tag.value.as_deref().map_or_else(|| any.clone(), text)))
            .collect(),
        enterprise_project: selector.enterprise_project_id.as_deref().map(text),
        spec: selector.key_spec.as_deref().map(text),
        ..key
    }
}

/// The id of a project in the simulated cloud: the policy's, or a generated one.
pub(super) fn simulated_id(project: &Project) -> String {
    let generated = || format!("{:032x}", hash(project.credentials.project_name(&project.region)));
    project.project_id.clone().unwrap_or_else(generated)
}

/// The id of a key that the policy does not name by its id.
fn generated_id(seed: u64, project_id: &str, name: &str) -> String {
    let (first, last) = (hash((seed, project_id, name)), hash((name, project_id, seed)) & 0xffff_ffff_ffff);
    format!("{:08x}-{:04x}-4{:03x}-8000-{last:012x}", first >> 32, first >> 16 & 0xffff, first & 0xfff)
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
