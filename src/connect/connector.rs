//! From a policy to the clouds that it speaks of: one client for each project.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::environment::{self, Found, Variables};
use crate::kms::auth::{
    AccessKeyFiles, AccessKeyIdSource, Agency, Credentials, IdToken, Login, Named, Password, ProjectScope,
    SecretLocation, Unreadable,
};
use crate::kms::endpoint::Endpoints;
use crate::kms::observe::Observer;
use crate::kms::{ClientSettings, KmsClient, NoProxy, Proxy, ProxyOrigin, RetryPolicy, Shared};
use crate::policy::types::{self, AccessKeyId, AgencyDomain, AssumeAgency, Policy, Project};
use crate::reconcile::{NotConnected, Target};
use crate::support::clock::Clock;
use crate::support::error_chain::Chain;
use crate::support::write_gate::Gate;

/// Gives who listens to the calls of a project, by the project's name.
pub type ObserverOf = Box<dyn Fn(&Arc<str>) -> Arc<dyn Observer> + Send>;

/// Changes where a project's client finds its cloud and how it logs in.
pub type Redirect = Box<dyn Fn(&Project, &mut ClientSettings) + Send>;

/// What clients need of the world beside the policy.
pub struct Connector {
    /// The time of day.
    pub clock: Clock,
    /// Ends all calls.
    pub stop: CancellationToken,
    /// Lets writes through.
    pub gate: Gate,
    /// Who listens to the calls of a project.
    pub observer: ObserverOf,
    /// Variables of the environment: `HTTPS_PROXY` and `NO_PROXY`, and credentials where a project asks for them.
    pub environment: Variables,
    /// The last word on where a project's cloud is: a rehearsal points it at its simulator.
    pub redirect: Option<Redirect>,
    /// What is kept from policy to policy.
    pub kept: Kept,
}

/// The clients that a policy needed, for the next one: where nothing has changed for them, their tokens and connections
/// stay, and so does a pause that the cloud has asked for.
pub struct Kept {
    clients: Vec<(ClientSettings, Arc<KmsClient>)>,
    /// What clients share among each other.
    shared: Shared,
    /// Entries of `NO_PROXY` without effect were warned of.
    no_proxy_told: bool,
}

impl Kept {
    /// Nothing yet, for a process with this limit of open files.
    #[must_use]
    pub fn for_descriptors(limit: u64) -> Self {
        Self { clients: Vec::new(), shared: Shared::for_descriptors(limit), no_proxy_told: false }
    }
}

impl Connector {
    /// A client for each of the policy's projects. One that cannot be made fails its own project only.
    #[must_use]
    pub fn connect(&mut self, policy: &Policy) -> Vec<Target<KmsClient>> {
        let before = std::mem::take(&mut self.kept.clients);
        let targets: Vec<_> = policy.projects.iter().map(|project| self.target(policy, project, &before)).collect();
        // With the client of a project that cannot be connected to now, its token and its refused secrets would go.
        let failed = |name: &str| targets.iter().any(|target| target.kms.is_err() && *target.project.name == *name);
        self.kept.clients.extend(before.into_iter().filter(|(known, _)| failed(&known.project)));
        targets
    }

    fn target(
        &mut self,
        policy: &Policy,
        project: &Project,
        before: &[(ClientSettings, Arc<KmsClient>)],
    ) -> Target<KmsClient> {
        let concurrency = policy.limits.concurrency;
        let mut settings = match settings(policy, project, self.environment) {
            Ok(settings) => settings,
            Err(why) => {
                let text = Chain(&why).to_string();
                let kms = Err(if why.is_shortage {
                    NotConnected::Unreachable(text)
                } else {
                    NotConnected::Credentials(text)
                });
                return Target { project: project.clone(), kms, concurrency };
            }
        };
        settings.proxy = settings.proxy.or_else(|| self.proxy());
        if let Some(redirect) = &self.redirect {
            redirect(project, &mut settings);
        }
        let kept = before.iter().find(|(known, _)| *known == settings).map(|(_, client)| Arc::clone(client));
        let client = kept.map_or_else(|| self.client(settings.clone()), Ok);
        if let Ok(client) = &client {
            self.kept.clients.push((settings, Arc::clone(client)));
        }
        Target { project: project.clone(), kms: client, concurrency }
    }

    /// The proxy of the environment.
    fn proxy(&mut self) -> Option<Proxy> {
        let (origin, url) = variable(self.environment, ["HTTPS_PROXY", "https_proxy"])?;
        let (name, list) = variable(self.environment, ["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let (except, ignored) = NoProxy::parse(&list);
        if !std::mem::replace(&mut self.kept.no_proxy_told, true) {
            for (entry, why) in ignored {
                // There may be a password before the @.
                let entry = if entry.contains('@') { "(not shown)" } else { entry };
                warn!(variable = name, entry, "an entry for the proxy has no effect: {why}");
            }
        }
        Some(Proxy { url, origin: ProxyOrigin::Variable(origin), except, user: None })
    }

    fn client(&self, settings: ClientSettings) -> Result<Arc<KmsClient>, NotConnected> {
        let observer = (self.observer)(&settings.project);
        let (clock, stop, gate) = (self.clock.clone(), self.stop.clone(), self.gate.clone());
        let client = KmsClient::new(settings, &self.kept.shared, observer, clock, stop, gate);
        client.map(Arc::new).map_err(|error| NotConnected::Unreachable(Chain(&error).to_string()))
    }
}

/// The first of these spellings that says something, and what it says. One that is empty is as good as not set.
fn variable(environment: Variables, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    let set = names.into_iter().filter_map(|name| Some((name, environment(name)?)));
    set.into_iter().find(|(_, value)| !value.trim().is_empty())
}

/// What a client needs to know of its project; or why nobody can log in.
fn settings(policy: &Policy, project: &Project, variables: Variables) -> Result<ClientSettings, Unreadable> {
    let (credentials, scope) = credentials(project, variables)?;
    let own = Endpoints::of(project.cloud, &project.region);
    let retry = policy.retry;
    Ok(ClientSettings {
        project: Arc::clone(&project.name),
        endpoints: Endpoints {
            kms: project.kms_endpoint.clone().unwrap_or(own.kms),
            iam: project.iam_endpoint.clone().unwrap_or(own.iam),
        },
        scope,
        credentials,
        ca_file: project.ca_file.clone(),
        proxy: project.proxy.as_ref().map(configured_proxy),
        request_timeout: policy.limits.request_timeout,
        requests_per_second: policy.limits.requests_per_second,
        retry: RetryPolicy {
            initial_interval: retry.initial_interval,
            max_interval: retry.max_interval,
            max_elapsed: retry.max_elapsed,
        },
    })
}

/// How to log in, and which project it is in the cloud.
fn credentials(project: &Project, variables: Variables) -> Result<(Credentials, ProjectScope), Unreadable> {
    let file = |path: &PathBuf| SecretLocation::File(path.clone());
    let login = match &project.credentials {
        types::Credentials::TokenFile(path) => Login::Token(file(path)),
        types::Credentials::Password { user_name, domain_name, password_file, project_name } => {
            Login::Password(Password {
                user: Named::Name(user_name.clone()),
                domain: Some(Named::Name(domain_name.clone())),
                password: file(password_file),
                project_name: project_name.clone(),
            })
        }
        types::Credentials::AccessKey { access_key_id, secret_access_key_file, security_token_file } => {
            Login::AccessKey(AccessKeyFiles {
                id: match access_key_id {
                    AccessKeyId::Value(id) => AccessKeyIdSource::Known(id.clone()),
                    AccessKeyId::File(path) => AccessKeyIdSource::In(file(path)),
                },
                secret: file(secret_access_key_file),
                security_token: security_token_file.as_ref().map(file),
            })
        }
        types::Credentials::EcsAgency { metadata_endpoint } => {
            Login::EcsAgency { metadata_endpoint: metadata_endpoint.clone() }
        }
        types::Credentials::IdToken { provider_id, token_file } => {
            Login::IdToken(IdToken { provider_id: provider_id.clone(), token: file(token_file) })
        }
        types::Credentials::Environment => {
            let Found { credentials, scope, .. } = environment::find(variables, project)?;
            return Ok((credentials, scope));
        }
    };
    let name = project.credentials.project_name(&project.region).to_owned();
    let scope = ProjectScope { id: project.project_id.clone(), name };
    Ok((Credentials { login, agency: project.assume_agency.as_ref().map(agency) }, scope))
}

fn agency(agency: &AssumeAgency) -> Agency {
    Agency {
        account: match &agency.domain {
            AgencyDomain::Name(name) => Named::Name(name.clone()),
            AgencyDomain::Id(id) => Named::Id(id.clone()),
        },
        name: agency.agency_name.clone(),
        duration: agency.duration,
    }
}

fn configured_proxy(proxy: &types::Proxy) -> Proxy {
    let user = proxy.user_name.clone().zip(proxy.password_file.clone().map(SecretLocation::File));
    Proxy { url: proxy.url.clone(), origin: ProxyOrigin::Policy, except: NoProxy::default(), user }
}
