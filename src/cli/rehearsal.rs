//! The simulated cloud of `rehearse`: seeded from the policy, with made-up credentials.
//!
//! The daemon beside it is the real one. Only the addresses and the credentials of its clients are others, so that a
//! policy can be rehearsed on a machine that has neither the network nor the secrets.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::daemon::Redirect;
use crate::kms::auth::{Credentials, Login, Named, Password, SecretSource};
use crate::kms::endpoint::Endpoints;
use crate::policy::Policy;
use crate::rotation::KeyId;
use crate::rotation::rule::{Asks, Names};
use crate::simulator::seed::Seed;
use crate::simulator::{Journal, Preset, Setup, Simulator};

const USER_NAME: &str = "rehearsal";
const DOMAIN_NAME: &str = "simulated-account";

/// A running simulated cloud; it ends when it is dropped.
pub(super) struct Rehearsal {
    simulator: Arc<Simulator>,
    seeded: Arc<Mutex<Seeded>>,
    password: SecretSource,
    faults: Option<Preset>,
}

struct Seeded {
    seed: Seed,
    /// Project and key of what the cloud was asked to make up; an id that it does not know stays unknown.
    keys: HashSet<(String, KeyId)>,
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
            password: SecretSource::in_memory(password, "the rehearsal"),
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
                let name = project.credentials.project_name(&project.region);
                let project_id = &project.project_id.clone().unwrap_or_else(|| made_up_id(name));
                let named = project.keys.iter().filter_map(|rule| match (&rule.names, &rule.asks) {
                    (Names::Key(key_id), Asks::Rotation(desired)) => Some((*key_id, *desired)),
                    _ => None,
                });
                let new: Vec<_> = named.filter(|(key_id, _)| keys.insert((project_id.clone(), *key_id))).collect();
                let wanted = new.iter().map(|(key_id, desired)| (key_id.as_str(), u32::from(desired.interval.days())));
                simulator.handle().add_project(seed.project(project_id, &project.region, wanted));
            }
        }
    }

    /// Points a project's client at the simulated cloud.
    pub(super) fn redirect(&self) -> Redirect {
        let (url, password) = (self.simulator.url(), self.password.clone());
        Box::new(move |settings| {
            settings.endpoints = Endpoints { kms: url.clone(), iam: url.clone() };
            settings.ca_file = None;
            settings.proxy = None;
            settings.may_lack_rotation = false;
            let id = settings.scope.id.take().unwrap_or_else(|| made_up_id(&settings.scope.name));
            settings.scope.id = Some(id);
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
    pub(super) fn introduce(&self, listen: SocketAddr, out: &mut dyn Write) -> io::Result<()> {
        let mix = self.seeded.lock().unwrap_or_else(PoisonError::into_inner).seed.mix();
        let keys = if mix.total() == 1 { "key" } else { "keys" };
        writeln!(out, "A simulated cloud at {} has the policy's {} {keys}:", self.simulator.url(), mix.total())?;
        writeln!(out, "  {mix}")?;
        if let Some(preset) = self.faults {
            writeln!(out, "  faults: {}", preset.description())?;
        }
        // Whoever listens everywhere looks from here.
        let listen = match listen.ip() {
            ip if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port())),
            _ => listen,
        };
        writeln!(out, "See what becomes of them:")?;
        for (path, what) in
            [("/", "status page"), ("/metrics", "Prometheus metrics"), ("/api/v1/status", "the same as JSON")]
        {
            writeln!(out, "  {:<42} {what}", format!("http://{listen}{path}"))?;
        }
        writeln!(out, "Stop with Ctrl-C.")
    }
}

/// An id in the cloud's form for a project that the policy knows by name only.
fn made_up_id(name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    format!("{:032x}", hasher.finish())
}
