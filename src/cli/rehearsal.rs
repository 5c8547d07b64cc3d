//! The simulated cloud of `rehearse`, with keys made from the policy.
//!
//! The daemon is the real one. Only the endpoints and the credentials of its clients are replaced, so that a policy can
//! be rehearsed without network and secrets.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::connect::EndpointOverride;
use crate::kms::auth::{Credentials, Login, Named, Password, SecretLocation};
use crate::kms::endpoint::Endpoints;
use crate::policy::Policy;
use crate::policy::types::Project;
use crate::rotation::rule::{Matcher, Requirement, Rule, Selector};
use crate::support::clock::Clock;
use kms_simulator::seed::{Seed, Wanted};
use kms_simulator::{Journal, Preset, Setup, Simulator};

/// More requests per second than a rehearsal makes.
const UNLIMITED: f64 = 1e6;
const NO_WAIT: Duration = Duration::from_millis(1);
const USER_NAME: &str = "rehearsal";
const DOMAIN_NAME: &str = "simulated-account";

/// A running simulated cloud; it ends when it is dropped.
pub(super) struct Rehearsal {
    simulator: Arc<Simulator>,
    seeded: Arc<Mutex<Seeded>>,
    password: SecretLocation,
    faults: Option<Preset>,
    /// Time is in fast-forward: nothing limits requests, and retries do not wait.
    fast_forward: bool,
}

struct Seeded {
    seed: Seed,
    /// Project and id of the keys that were added; the seed leaves some of them unknown to the cloud.
    keys: HashSet<(String, String)>,
}

impl Rehearsal {
    /// Starts a cloud with keys in various states, made from the policy's entries.
    pub(super) async fn start(
        policy: &Policy,
        faults: Option<Preset>,
        fast_forward: bool,
        clock: Clock,
    ) -> io::Result<Self> {
        let password = uuid::Uuid::new_v4().to_string();
        let setup = Setup::new().journal(Journal::Counts).login(USER_NAME, DOMAIN_NAME, &password);
        let setup = faults.into_iter().fold(setup, Setup::preset);
        let seeded = Seeded { seed: Seed::new(clock.now()), keys: HashSet::new() };
        let setup = setup.clock(move || clock.now());
        let rehearsal = Self {
            simulator: Arc::new(Simulator::start(setup).await?),
            seeded: Arc::new(Mutex::new(seeded)),
            password: SecretLocation::in_memory(password, "the rehearsal"),
            faults,
            fast_forward,
        };
        rehearsal.add_keys()(policy);
        Ok(rehearsal)
    }

    /// Adds the keys of a policy that the cloud does not have yet, also after a reload.
    pub(super) fn add_keys(&self) -> impl Fn(&Policy) + use<> {
        let (simulator, seeded) = (Arc::clone(&self.simulator), Arc::clone(&self.seeded));
        move |policy| {
            let mut seeded = seeded.lock().unwrap_or_else(PoisonError::into_inner);
            let Seeded { seed, keys } = &mut *seeded;
            for project in &policy.projects {
                let project_id = &simulated_id(project);
                let new = keys_for(project_id, &project.keys);
                let new = new.into_iter().filter(|wanted| keys.insert((project_id.clone(), wanted.id.clone())));
                simulator.add_project(seed.project(project_id, &project.region, new));
            }
        }
    }

    /// Sets the simulated cloud's endpoints and credentials in a project's client.
    pub(super) fn endpoint_override(&self) -> EndpointOverride {
        let (url, password, fast_forward) = (self.simulator.url(), self.password.clone(), self.fast_forward);
        Box::new(move |project, settings| {
            settings.endpoints = Endpoints { kms: url.clone(), iam: url.clone() };
            settings.ca_file = None;
            settings.proxy = None;
            if fast_forward {
                // Thousands of runs take some seconds.
                settings.requests_per_second = UNLIMITED;
                (settings.retry.initial_interval, settings.retry.max_interval) = (NO_WAIT, NO_WAIT);
            }
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

    /// Prints the keys of the cloud and the addresses of the daemon.
    pub(super) fn introduce(&self, scheme: &str, listen: SocketAddr, out: &mut dyn Write) -> io::Result<()> {
        let mix = self.seeded.lock().unwrap_or_else(PoisonError::into_inner).seed.mix();
        let keys = if mix.total() == 1 { "key" } else { "keys" };
        writeln!(out, "Simulated cloud at {} with {} {keys} of the policy:", self.simulator.url(), mix.total())?;
        writeln!(out, "  {mix}")?;
        if let Some(preset) = self.faults {
            writeln!(out, "  faults: {}", preset.description())?;
        }
        writeln!(out, "Watch the daemon:")?;
        for (path, what) in
            [("/", "status page"), ("/metrics", "Prometheus metrics"), ("/api/v1/status", "status as JSON")]
        {
            writeln!(out, "  {:<42} {what}", format!("{scheme}://{listen}{path}"))?;
        }
        writeln!(out, "Stop with Ctrl-C.")
    }
}

/// Number of keys for each selector.
const PER_SELECTOR: usize = 12;
/// Number of uncovered keys, in a project with selectors or aliases.
const UNCOVERED: usize = 3;

/// Keys that match the entries of a project, and some uncovered ones.
fn keys_for(project_id: &str, rules: &[Rule]) -> Vec<Wanted> {
    let mut keys = Vec::new();
    for rule in rules {
        let interval_days = match &rule.requirement {
            Requirement::Rotation(desired) => u32::from(desired.interval.days()),
            Requirement::Exempt(_) => 365,
        };
        let generated = |name: &str| Wanted::new(generated_id(project_id, name), interval_days);
        match &rule.matcher {
            Matcher::Key(key_id) => keys.push(Wanted::new(key_id.as_str(), interval_days)),
            Matcher::Alias(alias) => keys.push(Wanted { alias: Some(alias.to_string()), ..generated(alias) }),
            Matcher::Select(selector) => {
                let key = |number| matching(selector, number, generated(&format!("{selector:?} {number}")));
                keys.extend((0..PER_SELECTOR).map(key));
            }
        }
    }
    if rules.iter().any(Rule::needs_listing) {
        keys.extend(
            (0..UNCOVERED).map(|number| Wanted::new(generated_id(project_id, &format!("other {number}")), 365)),
        );
    }
    keys
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
fn simulated_id(project: &Project) -> String {
    let generated = || format!("{:032x}", hash(project.credentials.project_name(&project.region)));
    project.project_id.clone().unwrap_or_else(generated)
}

/// The id of a key that the policy does not name by its id.
fn generated_id(project_id: &str, name: &str) -> String {
    let (first, last) = (hash((project_id, name)), hash((name, project_id)) & 0xffff_ffff_ffff);
    format!("{:08x}-{:04x}-4{:03x}-8000-{last:012x}", first >> 32, first >> 16 & 0xffff, first & 0xfff)
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
