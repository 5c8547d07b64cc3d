//! Why a project's run ended early or is incomplete: logged once for the project, not once for each key, and from run to
//! run only when it begins, changes or ends, and once a day.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use tracing::{debug, error, info, warn};

use super::NotConnected;
use crate::kms::{Error, ErrorKind};
use crate::rotation::decide::Reason;
use crate::rotation::key::DAY;
use crate::rotation::remedies::remedy;
use crate::support::error_chain::ErrorChain;

/// What ended a project's run early, and what is wrong with the list of its keys. The first of each is kept and logged.
pub(super) struct ProjectFailure<'a> {
    project: &'a Arc<str>,
    logged: &'a LoggedFailures,
    /// When its run began.
    now: SystemTime,
    end: OnceLock<Box<str>>,
    list: OnceLock<Box<str>>,
}

/// Which of the two failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    End,
    List,
}

/// The failures that runs have logged.
#[derive(Debug, Default)]
pub(super) struct LoggedFailures(Mutex<Logged>);

/// The cause of each failure, and when it was logged.
type Logged = HashMap<(Arc<str>, Kind), (String, SystemTime)>;

impl LoggedFailures {
    /// Whether this failure is to be logged: it is new, has another cause, or was logged a day ago. Without a cause it
    /// repeats the one before.
    fn is_news(&self, project: &Arc<str>, kind: Kind, cause: Option<&str>, now: SystemTime) -> bool {
        let mut logged = self.lock();
        let id = (Arc::clone(project), kind);
        let is_recent = |at: SystemTime| now.duration_since(at).map_or(true, |ago| ago < DAY);
        let is_same = |known: &str| cause.is_none_or(|cause| cause == known);
        if logged.get(&id).is_some_and(|(known, at)| is_same(known) && is_recent(*at)) {
            return false;
        }
        let known = cause.map(ToOwned::to_owned).or_else(|| logged.remove(&id).map(|(known, _)| known));
        logged.insert(id, (known.unwrap_or_default(), now));
        true
    }

    /// Forgets a failure that has ended. Returns whether there was one.
    fn end(&self, project: &Arc<str>, kind: Kind) -> bool {
        self.lock().remove(&(Arc::clone(project), kind)).is_some()
    }

    /// Forgets other projects than these.
    pub(super) fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.lock().retain(|(project, _), _| is_known(project));
    }

    fn lock(&self) -> MutexGuard<'_, Logged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the problem passes by itself or an operator must act, which decides the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Warn,
    Error,
}

const LOGIN_FAILED: &str = "login failed; the project's keys cannot be checked";
const LOGIN_UNAVAILABLE: &str = "login service unavailable; the project's keys cannot be checked";
const CANNOT_REACH: &str = "cannot reach the cloud; the project's keys cannot be checked";

impl<'a> ProjectFailure<'a> {
    pub(super) fn of(project: &'a Arc<str>, logged: &'a LoggedFailures, now: SystemTime) -> Self {
        Self { project, logged, now, end: OnceLock::new(), list: OnceLock::new() }
    }

    /// Keeps an error that ends the run of the whole project (rule 7); false for an error of a single call.
    pub(super) fn ends_run(&self, error: &Error) -> bool {
        let (level, message, reason) = match error.kind() {
            ErrorKind::Credentials => (Level::Error, LOGIN_FAILED, Reason::AuthenticationFailed),
            ErrorKind::LoginUnavailable => (Level::Warn, LOGIN_UNAVAILABLE, Reason::LoginUnavailable),
            ErrorKind::Unreachable => (Level::Error, CANNOT_REACH, Reason::ReadFailed),
            ErrorKind::Shortage => (Level::Warn, CANNOT_REACH, Reason::ReadFailed),
            _ => return false,
        };
        let cause = (!error.is_on_hold()).then(|| error.cause());
        self.keep(Kind::End, &ErrorChain(error).to_string(), cause.as_deref(), reason, level, message);
        true
    }

    /// The project has no client.
    pub(super) fn not_connected(&self, why: &NotConnected) {
        let (error, message, reason) = match why {
            NotConnected::Credentials(error) => (error, LOGIN_FAILED, Reason::AuthenticationFailed),
            NotConnected::Unreachable(error) => (error, CANNOT_REACH, Reason::ReadFailed),
        };
        self.keep(Kind::End, error, Some(error), reason, Level::Error, message);
    }

    /// The keys cannot be listed.
    pub(super) fn list_failed(&self, error: &Error) {
        let level = if error.kind().is_transient() { Level::Warn } else { Level::Error };
        let reason = match error.kind() {
            ErrorKind::Permission | ErrorKind::AccessDenied => Reason::AccessDenied,
            ErrorKind::Throttled => Reason::Throttled,
            _ => Reason::ReadFailed,
        };
        let message = "the project's keys cannot be listed";
        self.keep(Kind::List, &ErrorChain(error).to_string(), Some(&error.cause()), reason, level, message);
    }

    /// The list of keys may be incomplete, for this reason.
    pub(super) fn list_incomplete(&self, doubt: &str) {
        let message = "the list of the project's keys may be incomplete";
        self.keep(Kind::List, doubt, Some(doubt), Reason::ReadFailed, Level::Warn, message);
    }

    fn keep(&self, kind: Kind, error: &str, cause: Option<&str>, reason: Reason, level: Level, message: &'static str) {
        if self.kept(kind).set(error.into()).is_err() {
            return;
        }
        let project = &**self.project;
        if !self.logged.is_news(self.project, kind, cause, self.now) {
            debug!(project, error, "{message}");
            return;
        }
        let remedy = remedy(reason);
        match level {
            Level::Warn => warn!(project, error, remedy, "{message}"),
            Level::Error => error!(project, error, remedy, "{message}"),
        }
    }

    fn kept(&self, kind: Kind) -> &OnceLock<Box<str>> {
        match kind {
            Kind::End => &self.end,
            Kind::List => &self.list,
        }
    }

    /// The project's run is complete: logs the failures of earlier runs that it did not have.
    pub(super) fn run_ended(&self) {
        let project = &**self.project;
        for (kind, message) in [
            (Kind::End, "the project's keys can be checked again"),
            (Kind::List, "the project's keys can be listed again"),
        ] {
            if self.kept(kind).get().is_none() && self.logged.end(self.project, kind) {
                info!(project, "{message}");
            }
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
