//! A policy that was read and found right in every part.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::calendar::Calendar;
use crate::rotation::key::{DesiredRotation, KeyId};
use crate::rotation::project::{Cloud, Mode};

/// A whole policy file.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// When to run.
    pub schedule: Schedule,
    /// How to retry a call.
    pub retry: Retry,
    /// How hard a project may use the cloud.
    pub limits: Limits,
    /// Projects, each with its keys, in the file's order.
    pub projects: Vec<Project>,
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

/// One project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// The name in metrics and reports.
    pub name: Arc<str>,
    /// The cloud it is in.
    pub cloud: Cloud,
    /// The region.
    pub region: Arc<str>,
    /// The project's id in the cloud.
    pub project_id: String,
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
    /// The keys and what is wanted of them, in the file's order.
    pub keys: Vec<Entry>,
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
}

/// One entry of a project's `keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key_id: KeyId,
    /// The line in the policy file where the entry begins, counted from 1.
    pub line: u32,
    /// What is wanted of the key.
    pub desired: DesiredRotation,
}
