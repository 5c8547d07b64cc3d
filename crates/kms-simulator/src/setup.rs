//! The configuration of a simulator: projects and their keys, users and other logins, faults, behaviour.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::behaviour::{Behaviour, Dialect};
use super::cassette::Cassette;
use super::credentials::identity::{Agency, Login, Trust};
use super::journal::Journal;
use super::key::Key;
use super::operation::OperationSet;
use super::preset::Preset;
use super::rule::Rule;
use super::timeline::Action;

/// Returns the current time.
pub(super) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A project of the simulated cloud.
#[derive(Clone, Debug)]
pub struct ProjectSetup {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The region's name, or `REGION_NAME` for a sub-project.
    pub name: String,
    /// The account that it belongs to.
    pub domain_name: String,
    /// The types of its answers; `None` for those of [`Behaviour`].
    pub dialect: Option<Dialect>,
    /// Its keys.
    pub keys: Vec<Key>,
    /// Tokens for it that do not expire.
    pub tokens: Vec<String>,
}

impl ProjectSetup {
    /// A project without keys in the account `simulated`.
    #[must_use]
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            domain_name: "simulated".to_owned(),
            dialect: None,
            keys: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// In this account.
    #[must_use]
    pub fn domain(self, name: impl Into<String>) -> Self {
        Self { domain_name: name.into(), ..self }
    }

    /// With answers in these types.
    #[must_use]
    pub fn dialect(self, dialect: Dialect) -> Self {
        Self { dialect: Some(dialect), ..self }
    }

    /// Adds a key.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.keys.push(key);
        self
    }

    /// Adds keys.
    #[must_use]
    pub fn keys(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// Adds a token that does not expire.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.tokens.push(token.into());
        self
    }
}

/// The configuration of a simulator.
#[derive(Clone)]
pub struct Setup {
    pub(super) address: SocketAddr,
    pub(super) projects: Vec<ProjectSetup>,
    pub(super) logins: Vec<Login>,
    pub(super) access_keys: Vec<(String, String)>,
    pub(super) agencies: Vec<Agency>,
    pub(super) id_tokens: Vec<(String, String)>,
    pub(super) trusts: Vec<Trust>,
    pub(super) pod_token: Option<String>,
    pub(super) behaviour: Behaviour,
    pub(super) cassette: Option<Cassette>,
    pub(super) rules: Vec<Rule>,
    pub(super) timeline: Vec<(SystemTime, Action)>,
    pub(super) seed: u64,
    pub(super) journal: Journal,
    pub(super) clock: Clock,
    pub(super) idle_timeout: Duration,
    pub(super) token_length: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// An empty cloud on a free port of 127.0.0.1, with the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            projects: Vec::new(),
            logins: Vec::new(),
            access_keys: Vec::new(),
            agencies: Vec::new(),
            id_tokens: Vec::new(),
            trusts: Vec::new(),
            pod_token: None,
            behaviour: Behaviour::default(),
            cassette: None,
            rules: Vec::new(),
            timeline: Vec::new(),
            seed: 1,
            journal: Journal::default(),
            clock: Arc::new(SystemTime::now),
            idle_timeout: Duration::from_secs(60),
            token_length: 4096,
        }
    }

    /// On this address.
    #[must_use]
    pub fn address(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// Adds a project.
    #[must_use]
    pub fn project(mut self, project: ProjectSetup) -> Self {
        self.projects.push(project);
        self
    }

    /// Adds a user, who may use every project except those that an [agency](Self::agency) of another account
    /// delegates.
    #[must_use]
    pub fn login(
        mut self,
        user_name: impl Into<String>,
        domain_name: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        let (user_name, domain_name, password) = (user_name.into(), domain_name.into(), password.into());
        self.logins.push(Login { user_name, domain_name, password });
        self
    }

    /// Adds a permanent access key for every project that no [agency](Self::agency) delegates.
    #[must_use]
    pub fn access_key(mut self, access: impl Into<String>, secret: impl Into<String>) -> Self {
        self.access_keys.push((access.into(), secret.into()));
        self
    }

    /// Adds an agency: an account, by name and id, delegates these of its projects to everyone who assumes the agency.
    /// Only the agency, the account's own users and tokens of [`ProjectSetup::token`] can use them.
    #[must_use]
    pub fn agency(
        mut self,
        domain_name: impl Into<String>,
        domain_id: impl Into<String>,
        agency_name: impl Into<String>,
        project_ids: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.agencies.push(Agency {
            domain_name: domain_name.into(),
            domain_id: domain_id.into(),
            name: agency_name.into(),
            project_ids: project_ids.into_iter().map(Into::into).collect(),
        });
        self
    }

    /// Adds an identity provider and its only accepted token.
    #[must_use]
    pub fn identity_provider(mut self, id: impl Into<String>, accepted_jwt: impl Into<String>) -> Self {
        self.id_tokens.push((id.into(), accepted_jwt.into()));
        self
    }

    /// Adds an agency that trusts a provider at STS, and the only accepted token of that provider.
    #[must_use]
    pub fn oidc_agency(
        mut self,
        provider_urn: impl Into<String>,
        agency_urn: impl Into<String>,
        accepted_jwt: impl Into<String>,
    ) -> Self {
        let (provider_urn, agency_urn) = (provider_urn.into(), agency_urn.into());
        self.trusts.push(Trust { provider_urn, agency_urn, accepted: accepted_jwt.into() });
        self
    }

    /// Adds an agent for pods at [`Simulator::pod_url`](super::Simulator::pod_url), with its only accepted token.
    #[must_use]
    pub fn pod_identity(self, accepted_token: impl Into<String>) -> Self {
        Self { pod_token: Some(accepted_token.into()), ..self }
    }

    /// Changes the behaviour.
    #[must_use]
    pub fn behave(mut self, change: impl FnOnce(&mut Behaviour)) -> Self {
        change(&mut self.behaviour);
        self
    }

    /// Answers as recorded, where the cassette has a call in the same situation. The faults are injected as well.
    #[must_use]
    pub fn cassette(self, cassette: Cassette) -> Self {
        Self { cassette: Some(cassette), ..self }
    }

    /// Adds a rule for faults.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn fault(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds the faults of a preset.
    #[must_use]
    pub fn preset(mut self, preset: Preset) -> Self {
        preset.apply_to(&mut self.behaviour);
        self.rules.extend(preset.rules());
        self
    }

    /// Adds what happens at certain times by [`clock`](Self::clock). Before each request, all actions until then are
    /// carried out, each as of its own time.
    #[must_use]
    pub fn timeline(mut self, actions: impl IntoIterator<Item = (SystemTime, Action)>) -> Self {
        self.timeline.extend(actions);
        self
    }

    /// With this delay before every answer of KMS and IAM.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.rules.push(Rule::always(super::fault::Fault::delay(latency)).on(OperationSet::ALL));
        self
    }

    /// With this seed for everything random.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Records this much of each call.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// With this clock for tokens, lockouts, the times of calls, and the rotation of keys: a key that is due by it
    /// rotates, without waiting and however far it has jumped.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Closes connections without a complete request head for this time: idle ones, and half-sent heads.
    #[must_use]
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }

    /// With tokens of this length; real ones have several thousand characters (`docs/kms-api.md` 5.1).
    #[must_use]
    pub fn token_length(self, token_length: usize) -> Self {
        Self { token_length, ..self }
    }
}
