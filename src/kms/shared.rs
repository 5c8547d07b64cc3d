//! What projects share. Projects with the same credentials share the session, the record of refused secrets (so that a
//! wrong secret is not sent once for each project: five failures lock it), and the request limit, since the cloud
//! counts by user. Projects with the same connection settings share connections and trusted certificates. All projects
//! share the open files of the process.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::auth::{Credentials, Login, Password, ProjectScope, Refusals, Session};
use super::connections::Connections;
use super::limit::RequestLimit;
use super::transport::{SetUpError, Transport, TransportSettings};

/// The sessions, limits and connections of clients that are in use.
pub struct Shared {
    connections: Arc<Connections>,
    transports: Mutex<Vec<Weak<Transport>>>,
    sessions: Mutex<Vec<(SessionKey, Weak<Session>)>>,
    limits: Mutex<Vec<(LimitKey, Weak<RequestLimit>)>>,
    refusals: Mutex<Vec<(RefusalsKey, Weak<Refusals>)>>,
}

/// The login and its IAM; with the project where a credential is for one project, as a token is. The project is first,
/// since it differs where a thousand projects have the same login.
type SessionKey = (Option<ProjectScope>, Credentials, String);
/// The login and its IAM.
type RefusalsKey = (Login, String);
/// The login, its IAM, and the limit, which a new policy may change.
type LimitKey = (Credentials, String, u64);

impl Shared {
    /// Nothing is in use yet, in a process with this limit of open files.
    #[must_use]
    pub fn for_descriptors(limit: u64) -> Self {
        Self::over(Connections::for_descriptors(limit))
    }

    /// Nothing is in use yet, and the clients of all projects together make one request at a time.
    #[must_use]
    pub fn one_at_a_time() -> Self {
        Self::over(Connections::one_at_a_time())
    }

    fn over(connections: Arc<Connections>) -> Self {
        Self {
            connections,
            transports: Mutex::default(),
            sessions: Mutex::default(),
            limits: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// The transport of clients that connect like this.
    pub(super) fn transport(&self, settings: TransportSettings) -> Result<Arc<Transport>, SetUpError> {
        let mut known = self.transports.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|used| used.strong_count() > 0);
        if let Some(found) = known.iter().filter_map(Weak::upgrade).find(|known| *known.settings() == settings) {
            return Ok(found);
        }
        let new = Arc::new(Transport::new(settings, Arc::clone(&self.connections))?);
        known.push(Arc::downgrade(&new));
        Ok(new)
    }

    /// The session of this login at this IAM.
    pub(super) fn session(
        &self,
        credentials: &Credentials,
        iam: &str,
        scope: &ProjectScope,
    ) -> Result<Arc<Session>, SetUpError> {
        let scope = (!credentials.login.is_for_any_project()).then(|| scope.clone());
        let key = (scope.clone(), credentials.clone(), iam.to_owned());
        let refusals = self.refusals(&credentials.login, iam);
        find_or_make(&self.sessions, key, || Session::new(credentials.clone(), iam, scope, refusals))
    }

    /// The refused secrets of this login at this IAM, for all projects.
    fn refusals(&self, login: &Login, iam: &str) -> Arc<Refusals> {
        let login = match login {
            Login::Password(password) => Login::Password(Password { project_name: None, ..password.clone() }),
            login => login.clone(),
        };
        find_or_make_always(&self.refusals, (login, iam.to_owned()), Refusals::default)
    }

    /// The request limit of this login at this IAM.
    pub(super) fn limit(&self, credentials: &Credentials, iam: &str, requests_per_second: f64) -> Arc<RequestLimit> {
        let key = (credentials.clone(), iam.to_owned(), requests_per_second.to_bits());
        find_or_make_always(&self.limits, key, || RequestLimit::new(requests_per_second))
    }
}

/// The value in use, or a new one. Values that are no longer in use are forgotten.
fn find_or_make<K: PartialEq, T, E>(
    known: &Mutex<Vec<(K, Weak<T>)>>,
    key: K,
    make: impl FnOnce() -> Result<T, E>,
) -> Result<Arc<T>, E> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|(_, used)| used.strong_count() > 0);
    if let Some(found) = known.iter().find(|(other, _)| *other == key).and_then(|(_, used)| used.upgrade()) {
        return Ok(found);
    }
    let new = Arc::new(make()?);
    known.push((key, Arc::downgrade(&new)));
    Ok(new)
}

/// As [`find_or_make`], where making cannot fail.
fn find_or_make_always<K: PartialEq, T>(known: &Mutex<Vec<(K, Weak<T>)>>, key: K, make: impl FnOnce() -> T) -> Arc<T> {
    let found: Result<_, std::convert::Infallible> = find_or_make(known, key, || Ok(make()));
    match found {
        Ok(found) => found,
        Err(never) => match never {},
    }
}
