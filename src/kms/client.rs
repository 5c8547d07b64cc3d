//! Calls of one project's KMS: authenticated, repeated, and with errors that name the missing permission.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::auth::{Credential, Credentials, ProjectScope, Session};
use super::endpoint::Endpoints;
use super::error::{Error, ErrorKind, classify_contradiction, parse_body};
use super::executor::{Call, Executor, UNKNOWN_SKEW};
use super::observe::{Code, Observer, Operation};
use super::outage::Outage;
use super::retry::RetryPolicy;
use super::route::Route;
use super::run_breaker::RunBreaker;
use super::shared::Shared;
use super::transport::{Answer, HeaderText, Proxy, Request, SetUpError, TransportSettings, Url, address};
use super::wire::{self, Unusable};
use super::{RunStart, SendMode};
use crate::rotation::key::{KeyId, RotationInterval};
use crate::rotation::project::CloudAccess;
use crate::support::clock::Clock;
use crate::support::write_gate::WriteGate;

/// The settings of a client, which is for one project.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSettings {
    /// The project's name, for logs.
    pub project: Arc<str>,
    /// Where KMS and IAM answer.
    pub endpoints: Endpoints,
    /// The project in the cloud.
    pub scope: ProjectScope,
    /// How to log in.
    pub credentials: Credentials,
    /// File of certificates, in PEM form, that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A proxy for HTTPS.
    pub proxy: Option<Proxy>,
    /// Longest time of one attempt.
    pub request_timeout: Duration,
    /// Limit of requests, per second.
    pub requests_per_second: f64,
    /// How calls are repeated.
    pub retry: RetryPolicy,
}

/// The KMS of one project.
pub struct KmsClient {
    pub(super) executor: Executor,
    pub(super) session: Arc<Session>,
    scope: ProjectScope,
    kms: Arc<str>,
    /// Who logs in, for the record.
    principal: Arc<str>,
    addresses: OnceLock<Addresses>,
    /// Closed after a failed login. Each project has its own: one may be accepted where another is refused.
    login: RunBreaker,
}

/// The URLs of one project's calls.
pub(super) struct Addresses {
    project_id: String,
    /// Indexed by route.
    urls: Vec<Url>,
}

impl Addresses {
    fn new(kms: &str, project_id: &str) -> Result<Self, SetUpError> {
        let root = format!("v1.0/{project_id}/kms");
        let urls = Route::ALL.map(|route| address(kms, &format!("{root}/{}", route.path())));
        let urls: Vec<_> = urls.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { project_id: project_id.to_owned(), urls })
    }
}

impl KmsClient {
    /// A client without a connection yet, which shares logins, limits and connections with clients of equal settings.
    /// It makes no further call once `stop` is cancelled, and sends no write while `gate` is closed.
    ///
    /// # Errors
    ///
    /// An endpoint or the proxy's address is not valid. Missing or invalid files are errors of the first request.
    pub fn new(
        settings: ClientSettings,
        shared: &Shared,
        observer: Arc<dyn Observer>,
        clock: Clock,
        stop: CancellationToken,
        gate: WriteGate,
    ) -> Result<Self, SetUpError> {
        let Endpoints { kms, iam } = settings.endpoints;
        let is_https = |endpoint: &str| endpoint.starts_with("https:");
        let needs_iam = settings.scope.id.is_none() || settings.credentials.need_iam();
        let login = &settings.credentials.login;
        let tls = is_https(&kms) || (needs_iam && is_https(&iam)) || login.own_endpoint().is_some_and(is_https);
        let transport = shared.transport(TransportSettings {
            tls,
            ca_file: settings.ca_file,
            proxy: settings.proxy,
            request_timeout: settings.request_timeout,
            metadata: login.link_local_endpoint().map(is_https),
        })?;
        let own = login.own_endpoint();
        [Some(&*kms), needs_iam.then_some(&*iam), own].into_iter().flatten().for_each(|at| transport.add_server(at));
        let executor = Executor {
            project: settings.project,
            transport,
            limit: shared.limit(&settings.credentials, &iam, settings.requests_per_second),
            retry: settings.retry,
            observer,
            clock,
            stop,
            gate,
            outages: std::array::from_fn(|_| Outage::none()),
            unreachable: RunBreaker::default(),
            skew_logged: AtomicBool::new(false),
            cloud_ahead: AtomicI64::new(UNKNOWN_SKEW),
        };
        let session = shared.session(&settings.credentials, &iam, &settings.scope)?;
        let (scope, kms, principal) = (settings.scope, kms.into(), settings.credentials.principal().into());
        Ok(Self { session, scope, kms, principal, addresses: OnceLock::new(), login: RunBreaker::default(), executor })
    }

    /// A run begins: what was true only for the last run is forgotten.
    pub(super) fn forget_last_run(&self, RunStart { next_run, retry_refused }: RunStart) {
        if retry_refused {
            self.session.forget_refusals();
            self.executor.transport.forget_refusals();
        }
        self.session.begin_run(next_run);
        self.executor.begin_run();
        self.login.begin_run();
    }

    /// How the project is reached.
    pub(super) fn access(&self) -> CloudAccess {
        let id = || self.addresses.get().map(|addresses| &*addresses.project_id).or(self.scope.id.as_deref());
        CloudAccess {
            endpoint: Some(Arc::clone(&self.kms)),
            project_id: id().map(Into::into),
            principal: Some(Arc::clone(&self.principal)),
            clock_skew_seconds: self.executor.clock_skew(),
        }
    }

    /// The URLs of the calls. They contain the project's id, which is looked up at IAM where the policy has none.
    pub(super) async fn addresses(&self) -> Result<&Addresses, Error> {
        if let Some(known) = self.addresses.get() {
            return Ok(known);
        }
        let project_id = match &self.scope.id {
            Some(id) => id.clone(),
            // Boxed, since it is rare, and every call would have memory for it.
            None => Box::pin(self.session.project_id(&self.executor, &self.scope.name)).await?,
        };
        let addresses = Addresses::new(&self.kms, &project_id)
            .map_err(|error| Error::new(Operation::Authenticate, ErrorKind::AccessDenied, error.to_string()))?;
        Ok(self.addresses.get_or_init(|| addresses))
    }

    /// One call about one key.
    pub(super) async fn key_call<T>(
        &self,
        route: Route,
        key_id: KeyId,
        interval: Option<RotationInterval>,
        parse: fn(&Answer) -> Result<T, Unusable>,
        mode: SendMode,
    ) -> Result<T, Error> {
        let sequence = Uuid::new_v4().to_string();
        let body = wire::key_body(key_id, &sequence, interval);
        let call = Call::new(route.operation(), Some(key_id.as_str()), Some(&sequence)).sent(mode);
        self.call(route, &call, &body, parse).await
    }

    /// One call about all keys.
    pub(super) async fn list_call<T>(
        &self,
        route: Route,
        sequence: Option<&str>,
        body: &str,
        parse: fn(&Answer) -> Option<T>,
    ) -> Result<T, Error> {
        let parse = |answer: &Answer| parse(answer).ok_or(Unusable::Garbled);
        // Boxed, since lists contain several of these large futures.
        Box::pin(self.call(route, &Call::new(route.operation(), None, sequence), body, parse)).await
    }

    /// One call; `parse` reads the answer of a success.
    async fn call<T>(
        &self,
        route: Route,
        call: &Call<'_>,
        body: &str,
        parse: impl Fn(&Answer) -> Result<T, Unusable>,
    ) -> Result<T, Error> {
        let parse = &parse;
        let addresses = self.addresses().await?;
        // An error that ends the run for all keys is returned before the call waits for its turn.
        let open = || {
            self.executor.unreachable.check(call.operation)?;
            self.login.check(Operation::Authenticate)?;
            self.session.check(&self.executor)
        };
        open().inspect_err(|_| self.executor.observer.operation(call.operation, false))?;
        let request = |credential: Credential| async move {
            // The credential may expire while the request waits for its turn.
            self.executor.await_turn(call).await?;
            credential.check_expiry(self.executor.clock.now())?;
            let request = self.request(addresses, route, body, &credential)?;
            let answer = self.executor.attempt(call, &request).await?;
            parse(&answer).map_err(|why| unusable(call.operation, &request, &answer, why))
        };
        let attempt = || async {
            // The credential may have been refused to other calls while this one waited for its turn.
            open()?;
            self.session.with_credential(&self.executor, request).await
        };
        self.executor.call(call, attempt).await.map_err(|error| self.judge(route, error))
    }

    /// The request of one call.
    pub(super) fn request(
        &self,
        addresses: &Addresses,
        route: Route,
        body: &str,
        credential: &Credential,
    ) -> Result<Request, Error> {
        let mut request = Request {
            method: route.method(),
            url: addresses.urls[route as usize].clone(),
            headers: Vec::with_capacity(6),
            body: SecretString::from(body),
            secret_in_body: None,
            direct: false,
        };
        request.headers.push(("content-type", HeaderText::plain("application/json")));
        let authenticated = credential.authenticate(&mut request, &addresses.project_id, self.executor.clock.now());
        authenticated.ok_or_else(Error::invalid_header)?;
        Ok(request)
    }

    /// Ends the run of the project after a failed login, and names the permission that a refused call needs.
    fn judge(&self, route: Route, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Credentials | ErrorKind::LoginUnavailable => {
                // Five failures in a row lock an access key (`docs/kms-api.md` 3.2), and only the login that has failed
                // could give another credential.
                self.login.close(error.kind(), &error.text());
                error
            }
            ErrorKind::Permission if error.operation() == route.operation() => {
                error.with_hint(&format!("the user needs the permission {}", route.permission()))
            }
            _ => error,
        }
    }
}

/// The error of a success whose body cannot be used.
fn unusable(operation: Operation, request: &Request, answer: &Answer, why: Unusable) -> Error {
    let (status, host) = (answer.status, request.authority());
    let (code, message) = parse_body(&answer.body);
    let error = if !code.is_empty() {
        let [code_text, message] = [&code, &message].map(|text| request.without_secrets(text.clone()));
        let text = format!("HTTP {status} from {host} with the error {code_text} {message}");
        let error = Error::new(operation, classify_contradiction(operation, &code), text.trim_end());
        if operation.is_write() { error.maybe_applied() } else { error }
    } else if why == Unusable::Missing {
        let text = if answer.body.trim_ascii().is_empty() {
            format!("HTTP {status} from {host} with an empty body")
        } else {
            format!("HTTP {status} from {host} with a body without the rotation setting")
        };
        Error::new(operation, ErrorKind::NotOffered, text)
    } else {
        let text = format!("HTTP {status} from {host} with a body that is not a KMS answer; is the endpoint right?");
        Error::new(operation, ErrorKind::Garbled, text)
    };
    error.with_code(Code::Http(status)).with_request_id(answer.request_id())
}
