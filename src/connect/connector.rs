//! Makes one client for each project of a policy.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::environment::{self, FoundCredentials, Variables};
use super::error::ConnectError;
use crate::kms::auth::{
    AccessKeyFiles, AccessKeyIdSource, Agency, Credentials, IdToken, Login, Named, Password, ProjectScope,
    SecretLocation,
};
use crate::kms::endpoint::Endpoints;
use crate::kms::observe::Observer;
use crate::kms::{ClientSettings, KmsClient, NoProxy, Proxy, ProxyOrigin, RetryPolicy, Shared};
use crate::policy::types::{self, AccessKeyId, AgencyDomain, AssumeAgency, Policy, Project};
use crate::reconcile::Target;
use crate::support::clock::Clock;
use crate::support::write_gate::WriteGate;

/// Returns the observer of a project's calls, by the project's name.
pub(super) type ObserverFactory = Box<dyn Fn(&Arc<str>) -> Arc<dyn Observer> + Send>;

/// Replaces the endpoints and the login of a project's client.
pub(crate) type EndpointOverride = Box<dyn Fn(&Project, &mut ClientSettings) + Send>;

/// Makes clients from a policy. The fields are their other dependencies.
pub(crate) struct Connector {
    /// The time of day.
    pub clock: Clock,
    /// Cancels all calls.
    pub stop: CancellationToken,
    /// Checked before each write.
    pub gate: WriteGate,
    /// Makes the observers of the projects' calls.
    pub observer: ObserverFactory,
    /// Variables of the environment: `HTTPS_PROXY`, `NO_PROXY`, and credentials for projects with `environment: {}`.
    pub environment: Variables,
    /// Applied last: `rehearse` sets the endpoints of its simulated cloud.
    pub endpoint_override: Option<EndpointOverride>,
    /// The clients of the previous policy.
    pub cache: ClientCache,
}

/// Clients that the next policy reuses if their settings are the same: with their tokens, their connections, and a
/// pause that the cloud requested.
pub(crate) struct ClientCache {
    clients: Vec<(ClientSettings, Arc<KmsClient>)>,
    /// Connections and limits that clients share.
    shared: Shared,
    /// Invalid entries of `NO_PROXY` are logged once.
    no_proxy_warned: bool,
}

impl ClientCache {
    /// An empty cache, for a process with this limit of open files.
    #[must_use]
    pub(crate) fn for_descriptors(limit: u64) -> Self {
        Self::over(Shared::for_descriptors(limit))
    }

    /// An empty cache of clients that together make one request at a time.
    #[must_use]
    pub(crate) fn one_at_a_time() -> Self {
        Self::over(Shared::one_at_a_time())
    }

    fn over(shared: Shared) -> Self {
        Self { clients: Vec::new(), shared, no_proxy_warned: false }
    }
}

impl Connector {
    /// Makes a client for each of the policy's projects. An error affects only its own project.
    #[must_use]
    pub(crate) fn connect(&mut self, policy: &Policy) -> Vec<Target<KmsClient>> {
        let before = std::mem::take(&mut self.cache.clients);
        let targets: Vec<_> = policy.projects.iter().map(|project| self.target(policy, project, &before)).collect();
        // A project without a client now keeps the old one: it has the token and the refused secrets.
        let failed = |name: &str| targets.iter().any(|target| target.kms.is_err() && *target.project.name == *name);
        self.cache.clients.extend(before.into_iter().filter(|(known, _)| failed(&known.project)));
        targets
    }

    fn target(
        &mut self,
        policy: &Policy,
        project: &Project,
        before: &[(ClientSettings, Arc<KmsClient>)],
    ) -> Target<KmsClient> {
        let kms = self.connect_project(policy, project, before).map_err(Into::into);
        Target { project: project.clone(), kms, concurrency: policy.limits.concurrency }
    }

    fn connect_project(
        &mut self,
        policy: &Policy,
        project: &Project,
        before: &[(ClientSettings, Arc<KmsClient>)],
    ) -> Result<Arc<KmsClient>, ConnectError> {
        let mut settings = settings(policy, project, self.environment)?;
        settings.proxy = settings.proxy.or_else(|| self.proxy());
        if let Some(endpoint_override) = &self.endpoint_override {
            endpoint_override(project, &mut settings);
        }
        let cached = before.iter().find(|(known, _)| *known == settings).map(|(_, client)| Arc::clone(client));
        let client = cached.map_or_else(|| self.client(settings.clone()), Ok)?;
        self.cache.clients.push((settings, Arc::clone(&client)));
        Ok(client)
    }

    /// The proxy of the environment.
    fn proxy(&mut self) -> Option<Proxy> {
        let (origin, url) = variable(self.environment, ["HTTPS_PROXY", "https_proxy"])?;
        let (name, list) = variable(self.environment, ["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let (except, ignored) = NoProxy::parse(&list);
        if !std::mem::replace(&mut self.cache.no_proxy_warned, true) {
            for (entry, reason) in ignored {
                // It may contain a password before the @.
                let entry = if entry.contains('@') { "(not shown)" } else { entry };
                warn!(variable = name, entry, reason, "invalid proxy exception ignored");
            }
        }
        Some(Proxy { url, origin: ProxyOrigin::Variable(origin), except, user: None })
    }

    fn client(&self, settings: ClientSettings) -> Result<Arc<KmsClient>, ConnectError> {
        let observer = (self.observer)(&settings.project);
        let (clock, stop, gate) = (self.clock.clone(), self.stop.clone(), self.gate.clone());
        Ok(Arc::new(KmsClient::new(settings, &self.cache.shared, observer, clock, stop, gate)?))
    }
}

/// The first of these variables that is set and not empty: its name and its value.
fn variable(environment: Variables, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    let set = names.into_iter().filter_map(|name| Some((name, environment(name)?)));
    set.into_iter().find(|(_, value)| !value.trim().is_empty())
}

fn settings(policy: &Policy, project: &Project, variables: Variables) -> Result<ClientSettings, ConnectError> {
    let (credentials, scope) = credentials(project, variables)?;
    let default = Endpoints::of(project.cloud, &project.region);
    let retry = policy.retry;
    Ok(ClientSettings {
        project: Arc::clone(&project.name),
        endpoints: Endpoints {
            kms: project.kms_endpoint.clone().unwrap_or(default.kms),
            iam: project.iam_endpoint.clone().unwrap_or(default.iam),
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
            skip_waits: false,
        },
    })
}

/// The login, and the cloud's project.
fn credentials(project: &Project, variables: Variables) -> Result<(Credentials, ProjectScope), ConnectError> {
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
            let FoundCredentials { credentials, scope, .. } = environment::find(variables, project)?;
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
