//! Why a project's run ended early or is incomplete: logged once for the project, not once for each key.

use std::sync::OnceLock;

use tracing::{error, warn};

use super::NotConnected;
use crate::kms::{Error, ErrorKind};
use crate::support::error_chain::ErrorChain;

/// What ended a project's run early, and what is wrong with the list of its keys. The first of each is kept and logged.
pub(super) struct ProjectFailure<'a> {
    project: &'a str,
    end: OnceLock<Box<str>>,
    list: OnceLock<Box<str>>,
}

/// Whether the problem passes by itself or an operator must act, which decides the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Warn,
    Error,
}

const LOGIN_FAILED: &str = "login failed; the project's keys cannot be checked";
const CANNOT_REACH: &str = "cannot reach the cloud; the project's keys cannot be checked";

impl<'a> ProjectFailure<'a> {
    pub(super) fn of(project: &'a str) -> Self {
        Self { project, end: OnceLock::new(), list: OnceLock::new() }
    }

    /// Keeps an error that ends the run of the whole project (rule 7); false for an error of a single call.
    pub(super) fn ends_run(&self, error: &Error) -> bool {
        let (level, message) = match error.kind() {
            ErrorKind::Credentials => (Level::Error, LOGIN_FAILED),
            ErrorKind::LoginUnavailable => {
                (Level::Warn, "login service unavailable; the project's keys cannot be checked")
            }
            ErrorKind::Unreachable => (Level::Error, CANNOT_REACH),
            ErrorKind::Shortage => (Level::Warn, CANNOT_REACH),
            _ => return false,
        };
        self.keep(&self.end, &ErrorChain(error).to_string(), level, message);
        true
    }

    /// The project has no client.
    pub(super) fn not_connected(&self, why: &NotConnected) {
        let (error, message) = match why {
            NotConnected::Credentials(error) => (error, LOGIN_FAILED),
            NotConnected::Unreachable(error) => (error, CANNOT_REACH),
        };
        self.keep(&self.end, error, Level::Error, message);
    }

    /// The keys cannot be listed.
    pub(super) fn list_failed(&self, error: &Error) {
        let level = if error.kind().is_transient() { Level::Warn } else { Level::Error };
        self.keep(&self.list, &ErrorChain(error).to_string(), level, "the project's keys cannot be listed");
    }

    /// The list of keys may be incomplete, for this reason.
    pub(super) fn list_incomplete(&self, doubt: &str) {
        self.keep(&self.list, doubt, Level::Warn, "the list of the project's keys may be incomplete");
    }

    fn keep(&self, kept: &OnceLock<Box<str>>, error: &str, level: Level, message: &'static str) {
        if kept.set(error.into()).is_err() {
            return;
        }
        match level {
            Level::Warn => warn!(project = self.project, error, "{message}"),
            Level::Error => error!(project = self.project, error, "{message}"),
        }
    }

    /// All of it as one text for the report.
    pub(super) fn into_text(self) -> Option<Box<str>> {
        match (self.end.into_inner(), self.list.into_inner()) {
            (Some(end), Some(list)) => Some(format!("{end}; {list}").into()),
            (end, list) => end.or(list),
        }
    }
}
