//! The simulated cloud of `rehearse`: seeded from the policy, with made-up credentials.
//!
//! The daemon beside it is the real one. Only the addresses and the credentials of its clients are others, so that a
//! policy can be rehearsed on a machine that has neither the network nor the secrets.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::connect::Redirect;
use crate::kms::auth::{Credentials, Login, Named, Password, SecretLocation};
use crate::kms::endpoint::Endpoints;
use crate::policy::Policy;
use crate::policy::types::Project;
use crate::rotation::rule::{Matcher, Requirement, Rule, Selector};
use kms_simulator::seed::{Seed, Wanted};
use kms_simulator::{Journal, Preset, Setup, Simulator};

const USER_NAME: &str = "rehearsal";
const DOMAIN_NAME: &str = "simulated-account";

/// A running simulated cloud; it ends when it is dropped.
pub(super) struct Rehearsal {
    simulator: Arc<Simulator>,
    seeded: Arc<Mutex<Seeded>>,
    password: SecretLocation,
    faults: Option<Preset>,
}

struct Seeded {
    seed: Seed,
    /// Project and key of what the cloud was asked to make up; an id that it does not know stays unknown.
    keys: HashSet<(String, String)>,
}

impl Rehearsal {
    /// A cloud with a mix of keys made from those that the policy names.
    pub(super) async fn start(policy: &Policy, faults: Option<Preset>) -> io::Result<Self> {
        let password = uuid::Uuid::new_v4().to_string();
        let setup = Setup::new().journal(Journal::Counts).login(USER_NAME, DOMAIN_NAME, &password);
        let setup = faults.into_iter().fold(setup, Setup::preset);
        let seeded = Seeded { seed: Seed::new(SystemTime::now()), keys: HashSet::new() };
        let rehearsal = Self {
            simulator: Arc::new(Simulator::start(setup).await?),
            seeded: Arc::new(Mutex::new(seeded)),
            password: SecretLocation::in_memory(password, "the rehearsal"),
            faults,
        };
        rehearsal.keep_up()(policy);
        Ok(rehearsal)
    }

    /// Makes up what a policy names and the cloud has not heard of yet, as after a reload.
    pub(super) fn keep_up(&self) -> impl Fn(&Policy) + use<> {
        let (simulator, seeded) = (Arc::clone(&self.simulator), Arc::clone(&self.seeded));
        move |policy| {
            let mut seeded = seeded.lock().unwrap_or_else(PoisonError::into_inner);
            let Seeded { seed, keys } = &mut *seeded;
            for project in &policy.projects {
                let project_id = &simulated_id(project);
                let new = wanted(project_id, &project.keys);
                let new = new.into_iter().filter(|wanted| keys.insert((project_id.clone(), wanted.id.clone())));
                simulator.add_project(seed.project(project_id, &project.region, new));
            }
        }
    }

    /// Points a project's client at the simulated cloud.
    pub(super) fn redirect(&self) -> Redirect {
        let (url, password) = (self.simulator.url(), self.password.clone());
        Box::new(move |project, settings| {
            settings.endpoints = Endpoints { kms: url.clone(), iam: url.clone() };
            settings.ca_file = None;
            settings.proxy = None;
            settings.scope.id = Some(simulated_id(project));
            let login = Login::Password(Password {
                user: Named::Name(USER_NAME.to_owned()),
                domain: Some(Named::Name(DOMAIN_NAME.to_owned())),
                password: password.clone(),
                project_name: None,
            });
            settings.credentials = Credentials::from(login);
        })
    }

    /// Says what was made up and where to look.
    pub(super) fn introduce(&self, scheme: &str, listen: SocketAddr, out: &mut dyn Write) -> io::Result<()> {
        let mix = self.seeded.lock().unwrap_or_else(PoisonError::into_inner).seed.mix();
        let keys = if mix.total() == 1 { "key" } else { "keys" };
        writeln!(out, "A simulated cloud at {} has the policy's {} {keys}:", self.simulator.url(), mix.total())?;
        writeln!(out, "  {mix}")?;
        if let Some(preset) = self.faults {
            writeln!(out, "  faults: {}", preset.description())?;
        }
        writeln!(out, "See what becomes of them:")?;
        for (path, what) in
            [("/", "status page"), ("/metrics", "Prometheus metrics"), ("/api/v1/status", "the same as JSON")]
        {
            writeln!(out, "  {:<42} {what}", format!("{scheme}://{listen}{path}"))?;
        }
        writeln!(out, "Stop with Ctrl-C.")
    }
}

/// How many keys each selector finds.
const SELECTED: usize = 12;
/// How many keys there are that no entry names, where some are selected.
const OTHERS: usize = 3;

/// Keys that meet what the entries of a project say, and some more where not all are named by their ids.
fn wanted(project_id: &str, rules: &[Rule]) -> Vec<Wanted> {
    let mut keys = Vec::new();
    for rule in rules {
        let interval_days = match &rule.requirement {
            Requirement::Rotation(desired) => u32::from(desired.interval.days()),
            Requirement::Exempt(_) => 365,
        };
        let made_up = |name: &str| Wanted::new(made_up_key(project_id, name), interval_days);
        match &rule.matcher {
            Matcher::Key(key_id) => keys.push(Wanted::new(key_id.as_str(), interval_days)),
            Matcher::Alias(alias) => keys.push(Wanted { alias: Some(alias.to_string()), ..made_up(alias) }),
            Matcher::Select(selector) => {
                let key = |number| met(selector, number, made_up(&format!("{selector:?} {number}")));
                keys.extend((0..SELECTED).map(key));
            }
        }
    }
    if rules.iter().any(Rule::needs_listing) {
        keys.extend((0..OTHERS).map(|number| Wanted::new(made_up_key(project_id, &format!("other {number}")), 365)));
    }
    keys
}

/// The key as one of those that meet the conditions.
fn met(selector: &Selector, number: usize, key: Wanted) -> Wanted {
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

/// The id of a project in the simulated cloud: the policy's, or one in the cloud's form where that knows a name only.
fn simulated_id(project: &Project) -> String {
    let made_up = || format!("{:032x}", hash(project.credentials.project_name(&project.region)));
    project.project_id.clone().unwrap_or_else(made_up)
}

/// An id in the cloud's form for a key that the policy does not know by its id.
fn made_up_key(project_id: &str, name: &str) -> String {
    let (first, last) = (hash((project_id, name)), hash((name, project_id)) & 0xffff_ffff_ffff);
    format!("{:08x}-{:04x}-4{:03x}-8000-{last:012x}", first >> 32, first >> 16 & 0xffff, first & 0xfff)
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
