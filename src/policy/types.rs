//! A policy that was read and found right in every part.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::calendar::Calendar;
use crate::rotation::project::{Cloud, Coverage, Mode};
use crate::rotation::rule::Rule;
use crate::yaml::{NamedFile, Position};

/// A whole policy file.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// When to run.
    pub schedule: Schedule,
    /// How to retry a call.
    pub retry: Retry,
    /// How hard a project may use the cloud.
    pub limits: Limits,
    /// What keeps a slip from spreading.
    pub guards: Guards,
    /// Projects, each with its keys, in the file's order.
    pub projects: Vec<Project>,
    /// Every file that the policy names.
    pub files: Vec<NamedFile>,
}

/// When to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The cron expression, five fields or six with leading seconds.
    pub cron: String,
    /// The IANA name of the time zone that the expression is read in.
    pub timezone: String,
    /// What the two say.
    pub calendar: Calendar,
    /// Up to this much is added to each tick.
    pub jitter: Duration,
    /// Whether the start of the daemon runs at once.
    pub run_on_start: bool,
}

/// Exponential backoff with jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// The first wait is up to this long.
    pub initial_interval: Duration,
    /// No wait is longer than this.
    pub max_interval: Duration,
    /// The time one operation may take, attempts and waits together.
    pub max_elapsed: Duration,
}

/// How hard one project may use the cloud.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Requests a second.
    pub requests_per_second: f64,
    /// Calls in flight.
    pub concurrency: usize,
    /// The time one HTTP attempt may take, from connecting to the end of the body.
    pub request_timeout: Duration,
}

/// What keeps a slip in the policy, or somebody who works against it, from spreading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// How many keys matched by selectors one run may change.
    pub max_changes_per_run: usize,
    /// A key that was repaired this often within the window is left alone.
    pub flap_repairs: usize,
    /// The window that repairs are counted in.
    pub flap_window: Duration,
}

impl Default for Guards {
    fn default() -> Self {
        Self { max_changes_per_run: 50, flap_repairs: 3, flap_window: Duration::from_secs(24 * 3600) }
    }
}

/// One project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// The name in metrics and reports.
    pub name: Arc<str>,
    /// The cloud it is in.
    pub cloud: Cloud,
    /// The region.
    pub region: Arc<str>,
    /// The project's id in the cloud; where it is not given, the project is the one of
    /// [this name](Credentials::project_name), unless the environment names another one.
    pub project_id: Option<String>,
    /// Where its KMS answers, when not at the cloud's own address.
    pub kms_endpoint: Option<String>,
    /// Where its IAM answers, when not at the cloud's own address.
    pub iam_endpoint: Option<String>,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether its keys may be written.
    pub mode: Mode,
    /// How to log in.
    pub credentials: Credentials,
    /// Where in the file that is said.
    pub credentials_at: Position,
    /// The agency to act for, once logged in.
    pub assume_agency: Option<AssumeAgency>,
    /// The proxy that leads to its cloud; where there is none, the environment says.
    pub proxy: Option<Proxy>,
    /// What keys that no entry speaks of count for.
    pub coverage: Coverage,
    /// The entries of `keys`: which keys, and what is wanted of them, in the file's order.
    pub keys: Vec<Rule>,
}

/// How to log in to a project. Holds where secrets are, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A file with an IAM token that somebody else keeps fresh.
    TokenFile(PathBuf),
    /// A user and a password, for which IAM gives tokens.
    Password {
        /// The IAM user.
        user_name: String,
        /// The account that the user belongs to.
        domain_name: String,
        /// The file with the password.
        password_file: PathBuf,
        /// Scope the token by this project name instead of the project's id.
        project_name: Option<String>,
    },
    /// An access key that signs requests.
    AccessKey {
        /// Which key.
        access_key_id: AccessKeyId,
        /// The file with its secret.
        secret_access_key_file: PathBuf,
        /// The file with the security token of a temporary key.
        security_token_file: Option<PathBuf>,
    },
    /// Temporary keys of the agency of the virtual machine that the program runs on.
    EcsAgency {
        /// Where the metadata service answers, when not at the usual address.
        metadata_endpoint: Option<String>,
    },
    /// Workload identity: a token of an identity provider, which IAM exchanges for one of its own.
    IdToken {
        /// The identity provider's name in IAM.
        provider_id: String,
        /// The file with the provider's token.
        token_file: PathBuf,
    },
    /// What the environment variables of the official clients say.
    Environment,
}

impl Project {
    /// The files that hold its secrets.
    pub fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let of_login = match &self.credentials {
            Credentials::TokenFile(file) => [Some(file), None],
            Credentials::Password { password_file, .. } => [Some(password_file), None],
            Credentials::AccessKey { secret_access_key_file, security_token_file, .. } => {
                [Some(secret_access_key_file), security_token_file.as_ref()]
            }
            Credentials::IdToken { token_file, .. } => [Some(token_file), None],
            Credentials::EcsAgency { .. } | Credentials::Environment => [None, None],
        };
        let of_proxy = self.proxy.as_ref().and_then(|proxy| proxy.password_file.as_ref());
        of_login.into_iter().chain([of_proxy]).flatten().map(PathBuf::as_path)
    }
}

impl Credentials {
    /// The project's name in the cloud: what they give, or else the region, after which the cloud names the first
    /// project that every account has there.
    #[must_use]
    pub fn project_name<'a>(&'a self, region: &'a str) -> &'a str {
        match self {
            Self::Password { project_name: Some(name), .. } => name,
            _ => region,
        }
    }
}

/// Which access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessKeyId {
    /// The id itself, which is no secret.
    Value(String),
    /// A file with the id.
    File(PathBuf),
}

/// An agency by which another account has delegated rights to the one that logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeAgency {
    /// The account that delegates.
    pub domain: AgencyDomain,
    /// The agency's name there.
    pub agency_name: String,
    /// How long what it gives shall hold.
    pub duration: Option<Duration>,
}

/// The account that delegates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgencyDomain {
    /// By its name.
    Name(String),
    /// By its id.
    Id(String),
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its address, without a user name.
    pub url: String,
    /// Whom it lets through; with a password file or not at all.
    pub user_name: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
}
