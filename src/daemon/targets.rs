//! From a policy to the clouds that it speaks of: one client for each project.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::clock::Clock;
use crate::kms::auth::{Credentials, Password, SecretSource};
use crate::kms::endpoint::Endpoints;
use crate::kms::observe::Observer;
use crate::kms::{Client, ClientSettings, RetryPolicy};
use crate::policy::types::{self, Policy, Project};
use crate::reconcile::Target;

/// Gives who listens to the calls of a project, by the project's name.
pub type ObserverOf = Box<dyn Fn(&Arc<str>) -> Arc<dyn Observer> + Send>;

/// Changes where a client finds its cloud and how it logs in.
pub type Redirect = Box<dyn Fn(&mut ClientSettings) + Send>;

/// What clients need of the world beside the policy.
pub struct Connector {
    /// The time of day.
    pub clock: Clock,
    /// Ends all calls.
    pub stop: CancellationToken,
    /// Who listens to the calls of a project.
    pub observer: ObserverOf,
    /// The last word on where a project's cloud is: a rehearsal points it at its simulator.
    pub redirect: Option<Redirect>,
}

impl Connector {
    /// A client for each of the policy's projects. One that cannot be made fails its own project only.
    #[must_use]
    pub fn connect(&self, policy: &Policy) -> Vec<Target<Client>> {
        policy.projects.iter().map(|project| self.target(policy, project)).collect()
    }

    fn target(&self, policy: &Policy, project: &Project) -> Target<Client> {
        let mut settings = settings(policy, project);
        if let Some(redirect) = &self.redirect {
            redirect(&mut settings);
        }
        let observer = (self.observer)(&project.name);
        let client = Client::new(settings, observer, self.clock.clone(), self.stop.clone());
        Target {
            project: project.clone(),
            kms: client.map_err(|error| Chain(&error).to_string()),
            concurrency: policy.limits.concurrency,
        }
    }
}

fn settings(policy: &Policy, project: &Project) -> ClientSettings {
    let own = Endpoints::of(project.cloud, &project.region);
    let retry = policy.retry;
    ClientSettings {
        endpoints: Endpoints {
            kms: project.kms_endpoint.clone().unwrap_or(own.kms),
            iam: project.iam_endpoint.clone().unwrap_or(own.iam),
        },
        project_id: project.project_id.clone(),
        credentials: match &project.credentials {
            types::Credentials::TokenFile(path) => Credentials::Token(SecretSource::File(path.clone())),
            types::Credentials::Password { user_name, domain_name, password_file, project_name } => {
                Credentials::Password(Password {
                    user_name: user_name.clone(),
                    domain_name: domain_name.clone(),
                    password: SecretSource::File(password_file.clone()),
                    project_name: project_name.clone(),
                })
            }
        },
        ca_file: project.ca_file.clone(),
        request_timeout: policy.limits.request_timeout,
        requests_per_second: policy.limits.requests_per_second,
        concurrency: policy.limits.concurrency,
        retry: RetryPolicy {
            initial_interval: retry.initial_interval,
            max_interval: retry.max_interval,
            max_elapsed: retry.max_elapsed,
        },
    }
}
