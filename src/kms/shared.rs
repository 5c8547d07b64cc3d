//! What projects with the same credentials share: the credential itself, so that a refused key is refused once and not
//! once for each project (five times lock it), and the request budget, since the cloud counts by user.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::auth::{Credentials, ProjectScope, Session};
use super::limit::RequestLimit;
use super::transport::SetUpError;

/// The sessions and budgets of clients that are in use.
#[derive(Default)]
pub struct Shared {
    sessions: Mutex<Vec<(SessionKey, Weak<Session>)>>,
    limits: Mutex<Vec<(LimitKey, Weak<RequestLimit>)>>,
}

/// Whose credential: by an access key it is for whatever project, by a token for one.
type SessionKey = (Credentials, String, Option<ProjectScope>);
/// Whose budget, and how large: a policy has one size for all, but that may change.
type LimitKey = (Credentials, String, u64);

impl Shared {
    /// The session of whoever logs in like this at this IAM.
    pub(super) fn session(
        &self,
        credentials: &Credentials,
        iam: &str,
        scope: &ProjectScope,
    ) -> Result<Arc<Session>, SetUpError> {
        let scope = (!credentials.login.is_for_any_project()).then(|| scope.clone());
        let key = (credentials.clone(), iam.to_owned(), scope.clone());
        find_or_make(&self.sessions, key, || Session::new(credentials.clone(), iam, scope))
    }

    /// The request budget of whoever logs in like this at this IAM.
    pub(super) fn limit(&self, credentials: &Credentials, iam: &str, requests_per_second: f64) -> Arc<RequestLimit> {
        let key = (credentials.clone(), iam.to_owned(), requests_per_second.to_bits());
        let made: Result<_, std::convert::Infallible> =
            find_or_make(&self.limits, key, || Ok(RequestLimit::new(requests_per_second)));
        match made {
            Ok(limit) => limit,
            Err(never) => match never {},
        }
    }
}

/// The one that is in use, or a new one. Those that are not in use any more are forgotten.
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
