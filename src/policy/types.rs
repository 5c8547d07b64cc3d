//! A valid policy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::calendar::Calendar;
use crate::rotation::project::{Cloud, Coverage, Mode, PerKey, ProofRule};
use crate::rotation::rule::Rule;
use crate::yaml::{NamedFile, Position};

/// A whole policy file.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// When runs start.
    pub schedule: Schedule,
    /// How to retry failed requests.
    pub retry: Retry,
    /// Limits of the requests of each project.
    pub limits: Limits,
    /// Limits of the damage of a mistake.
    pub guards: Guards,
    /// Where the evidence log is, if there is one.
    pub evidence: Option<Evidence>,
    /// Which keys have metrics of their own.
    pub per_key: PerKey,
    /// The projects, in the order of the file.
    pub projects: Vec<Project>,
    /// Every file that the policy names.
    pub files: Vec<NamedFile>,
}

/// When runs start.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The cron expression, five fields or six with leading seconds.
    pub cron: String,
    /// The IANA name of the time zone of the expression.
    pub timezone: String,
    /// The expression in its zone.
    pub calendar: Calendar,
    /// The longest random delay of a run.
    pub jitter: Duration,
    /// Whether the daemon runs once when it starts.
    pub run_on_start: bool,
}

/// Exponential backoff with jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// The longest first wait.
    pub initial_interval: Duration,
    /// The longest wait.
    pub max_interval: Duration,
    /// The time limit of one operation, attempts and waits together.
    pub max_elapsed: Duration,
}

/// Limits of the requests of one project.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Requests per second.
    pub requests_per_second: f64,
    /// Requests in flight.
    pub concurrency: usize,
    /// The time limit of one HTTP attempt, from the connection to the end of the body.
    pub request_timeout: Duration,
}

/// Limits of the damage of a mistake in the policy, or of another program that changes keys back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// The most keys matched by selectors that one run changes.
    pub max_changes_per_run: usize,
    /// A key that was repaired this often within the window is left alone.
    pub flap_repairs: usize,
    /// The period in which repairs are counted.
    pub flap_window: Duration,
}

impl Default for Guards {
    fn default() -> Self {
        Self { max_changes_per_run: 50, flap_repairs: 3, flap_window: Duration::from_secs(24 * 3600) }
    }
}

/// The evidence log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Its folder.
    pub directory: PathBuf,
    /// Its name, `[a-z0-9.-]{1,64}`; if it is not set, that of the pod or the host.
    pub name: Option<String>,
    /// The file with the private key that signs it; if it is not set, a key is made in the folder.
    pub signing_key_file: Option<PathBuf>,
    /// How long records are kept; if it is not set, none is removed.
    pub retention: Option<Duration>,
    /// What to do while nothing can be recorded.
    pub on_failure: OnFailure,
}

/// What to do while the evidence log cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Go on.
    #[default]
    Continue,
    /// Read, but write nothing to the cloud.
    Stop,
}

impl OnFailure {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::Continue, Self::Stop];

    /// The name in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stop => "stop",
        }
    }
}

/// One project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// The name in metrics and reports.
    pub name: Arc<str>,
    /// The cloud of the project.
    pub cloud: Cloud,
    pub region: Arc<str>,
    /// The project's id in the cloud. If it is not set, the project has [this name](Credentials::project_name), unless
    /// the environment names another one.
    pub project_id: Option<String>,
    /// KMS endpoint, if not the cloud's own.
    pub kms_endpoint: Option<String>,
    /// IAM endpoint, if not the cloud's own.
    pub iam_endpoint: Option<String>,
    /// CA certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether its keys may be written.
    pub mode: Mode,
    /// How to log in.
    pub credentials: Credentials,
    /// The position of its credentials in the file.
    pub credentials_at: Position,
    /// The agency to assume after the login.
    pub assume_agency: Option<AssumeAgency>,
    /// The proxy to the cloud; if it is not set, the environment's.
    pub proxy: Option<Proxy>,
    /// Whether keys that no entry matches are only reported or count as failures.
    pub coverage: Coverage,
    /// How its keys must be proven to rotate.
    pub proof: ProofRule,
    /// The entries of `keys`, in the order of the file.
    pub keys: Vec<Rule>,
}

/// How to log in to a project. Contains paths of secret files, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A file with an IAM token that another process renews.
    TokenFile(PathBuf),
    /// A user and a password, which IAM exchanges for tokens.
    Password {
        /// The IAM user.
        user_name: String,
        /// The account of the user.
        domain_name: String,
        /// The file with the password.
        password_file: PathBuf,
        /// Request the token for the project of this name instead of the project's id.
        project_name: Option<String>,
    },
    /// An access key that signs requests.
    AccessKey {
        /// The id of the key.
        access_key_id: AccessKeyId,
        /// The file with its secret.
        secret_access_key_file: PathBuf,
        /// The file with the security token of a temporary key.
        security_token_file: Option<PathBuf>,
    },
    /// Temporary keys of the agency of this virtual machine.
    EcsAgency {
        /// The metadata service, if not at its usual address.
        metadata_endpoint: Option<String>,
    },
    /// Workload identity: a token of an identity provider, which IAM exchanges for an IAM token.
    IdToken {
        /// The identity provider's name in IAM.
        provider_id: String,
        /// The file with the provider's token.
        token_file: PathBuf,
    },
    /// The environment variables of the official clients.
    Environment,
}

impl Project {
    /// The paths of its secret files.
    pub(crate) fn secret_files(&self) -> impl Iterator<Item = &Path> {
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
    /// The project's name in the cloud: the name that is set, or else the name of the region, like the first project of
    /// every account.
    #[must_use]
    pub fn project_name<'a>(&'a self, region: &'a str) -> &'a str {
        match self {
            Self::Password { project_name: Some(name), .. } => name,
            _ => region,
        }
    }
}

/// The id of an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessKeyId {
    /// The id, which is not a secret.
    Value(String),
    /// A file with the id.
    File(PathBuf),
}

/// An agency: rights that another account has delegated to the user's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeAgency {
    /// The account that delegates.
    pub domain: AgencyDomain,
    /// The agency's name there.
    pub agency_name: String,
    /// The lifetime of its credentials.
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
    /// The user name; set together with the password file.
    pub user_name: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
}
