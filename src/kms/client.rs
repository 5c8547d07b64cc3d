//! The KMS of one project: each call of the API that is used, with authentication, retry and meaning.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::auth::{Credential, Credentials, ProjectScope, Session, unfit};
use super::caller::{Call, Caller, Manner};
use super::closed::ClosedForRun;
use super::endpoint::Endpoints;
use super::error::{Error, Kind, classify_contradiction, parse_body};
use super::observe::{Code, Observer, Operation};
use super::outage::Outage;
use super::retry::{Backoff, RetryPolicy};
use super::shared::Shared;
use super::transport::{Answer, HeaderText, Method, Proxy, Request, SetUpError, TransportSettings, Url, address};
use super::wire::{self, Unusable};
use super::{Kms, Listed, Receipt, Settled};
use crate::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation, RotationInterval, Tag};
use crate::support::clock::Clock;
use crate::support::write_gate::WriteGate;

/// All that a client needs to know of its project.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSettings {
    /// The project's name, for logs.
    pub project: Arc<str>,
    /// Where KMS and IAM answer.
    pub endpoints: Endpoints,
    /// Which project it is in the cloud.
    pub scope: ProjectScope,
    /// How to log in.
    pub credentials: Credentials,
    /// Certificates to trust beside the system's, in PEM form.
    pub ca_file: Option<PathBuf>,
    /// A proxy for HTTPS.
    pub proxy: Option<Proxy>,
    /// The time one attempt may take.
    pub request_timeout: Duration,
    /// Requests a second.
    pub requests_per_second: f64,
    /// When to make a call again.
    pub retry: RetryPolicy,
}

/// The KMS of one project.
pub struct Client {
    caller: Caller,
    session: Arc<Session>,
    scope: ProjectScope,
    kms: String,
    addresses: OnceLock<Addresses>,
    /// The project's credentials were refused, or none were to be had. Each project's own: one that shares them
    /// may be let in where another is not.
    refused: ClosedForRun,
}

/// Where the calls of one project go.
struct Addresses {
    project_id: String,
    /// By route.
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

/// A call of the KMS (`docs/kms-api.md` 1.1).
#[derive(Clone, Copy)]
pub(super) enum Route {
    ReadStatus,
    Enable,
    SetInterval,
    Describe,
    ListKeys,
    KeysByTag,
    Tags,
}

impl Route {
    const ALL: [Self; 7] = [
        Self::ReadStatus,
        Self::Enable,
        Self::SetInterval,
        Self::Describe,
        Self::ListKeys,
        Self::KeysByTag,
        Self::Tags,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::ReadStatus => "get-key-rotation-status",
            Self::Enable => "enable-key-rotation",
            Self::SetInterval => "update-key-rotation-interval",
            Self::Describe => "describe-key",
            Self::ListKeys => "list-keys",
            Self::KeysByTag => "resource_instances/action",
            Self::Tags => "tags",
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Tags => Method::Get,
            _ => Method::Post,
        }
    }

    /// The permission that a user needs for it (`docs/kms-api.md` 7).
    fn permission(self) -> &'static str {
        match self {
            Self::ReadStatus => "kms:cmk:getRotation",
            Self::Enable => "kms:cmk:enableRotation",
            Self::SetInterval => "kms:cmk:updateRotation",
            Self::Describe => "kms:cmk:get",
            Self::ListKeys => "kms:cmk:list",
            Self::KeysByTag => "kms:cmkTag:listInstance",
            Self::Tags => "kms:cmkTag:list",
        }
    }

    /// What it counts as.
    fn operation(self) -> Operation {
        match self {
            Self::ReadStatus => Operation::ReadStatus,
            Self::Enable => Operation::EnableRotation,
            Self::SetInterval => Operation::UpdateInterval,
            Self::Describe => Operation::DescribeKey,
            Self::ListKeys | Self::KeysByTag | Self::Tags => Operation::ListKeys,
        }
    }
}

impl Client {
    /// A client that connects to nothing yet, and shares with others what belongs to the same user. It makes no
    /// further call once `stop` is cancelled, and sends no write while `gate` is closed.
    ///
    /// # Errors
    ///
    /// An endpoint or the proxy's address is not valid. What files lack is found out, and told, with the first request.
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
        let caller = Caller {
            project: settings.project,
            transport,
            limit: shared.limit(&settings.credentials, &iam, settings.requests_per_second),
            retry: settings.retry,
            observer,
            clock,
            stop,
            gate,
            outages: std::array::from_fn(|_| Outage::none()),
            unreachable: ClosedForRun::default(),
            skew_told: AtomicBool::new(false),
        };
        let session = shared.session(&settings.credentials, &iam, &settings.scope)?;
        let scope = settings.scope;
        Ok(Self { session, scope, kms, addresses: OnceLock::new(), refused: ClosedForRun::default(), caller })
    }

    /// Where the calls go, which is known once the project's id is.
    async fn addresses(&self) -> Result<&Addresses, Error> {
        if let Some(known) = self.addresses.get() {
            return Ok(known);
        }
        let project_id = match &self.scope.id {
            Some(id) => id.clone(),
            None => self.session.project_id(&self.caller, &self.scope.name).await?,
        };
        let addresses = Addresses::new(&self.kms, &project_id)
            .map_err(|error| Error::new(Operation::Authenticate, Kind::AccessDenied, error.to_string()))?;
        Ok(self.addresses.get_or_init(|| addresses))
    }

    /// One call about one key.
    async fn key_call<T>(
        &self,
        route: Route,
        key_id: KeyId,
        interval: Option<RotationInterval>,
        parse: fn(&Answer) -> Result<T, Unusable>,
        manner: Manner,
    ) -> Result<T, Error> {
        let sequence = Uuid::new_v4().to_string();
        let body = wire::key_body(key_id, &sequence, interval);
        let call = Call::new(route.operation(), Some(key_id.as_str()), Some(&sequence)).made(manner);
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
        // Lists hold several of these at once, and a call is large.
        Box::pin(self.call(route, &Call::new(route.operation(), None, sequence), body, parse)).await
    }

    /// One call; `parse` makes what is wanted of a success.
    async fn call<T>(
        &self,
        route: Route,
        call: &Call<'_>,
        body: &str,
        parse: impl Fn(&Answer) -> Result<T, Unusable>,
    ) -> Result<T, Error> {
        let parse = &parse;
        let addresses = self.addresses().await?;
        // What ends the run for all keys is told to each of them before it waits for its turn.
        let open = || {
            self.caller.unreachable.check(call.operation)?;
            self.refused.check(Operation::Authenticate)?;
            self.session.check(&self.caller)
        };
        open().inspect_err(|_| self.caller.observer.operation(call.operation, false))?;
        let request = |credential: Credential| async move {
            // It may end while the request waits for its turn.
            self.caller.await_turn(call).await?;
            credential.check_end(self.caller.clock.now())?;
            let mut request = Request {
                method: route.method(),
                url: addresses.urls[route as usize].clone(),
                headers: Vec::with_capacity(6),
                body: SecretString::from(body),
                secret_in_body: None,
                direct: false,
            };
            request.headers.push(("content-type", HeaderText::plain("application/json")));
            let proven = credential.authenticate(&mut request, &addresses.project_id, self.caller.clock.now());
            proven.ok_or_else(unfit)?;
            let answer = self.caller.attempt(call, &request).await?;
            parse(&answer).map_err(|why| unusable(call.operation, &request, &answer, why))
        };
        let attempt = || async {
            // Others may have been refused while this one waited for its turn.
            open()?;
            self.session.with_credential(&self.caller, request).await
        };
        self.caller.call(call, attempt).await.map_err(|error| match error.kind() {
            Kind::Credentials | Kind::LoginUnavailable => {
                // Five failures in a row lock an access key (`docs/kms-api.md` 3.2), and none but the login that has
                // failed would give another.
                self.refused.close(error.kind(), error.text());
                error
            }
            Kind::Permission if error.operation() == call.operation => {
                error.with_hint(&format!("the user needs the permission {}", route.permission()))
            }
            _ => error,
        })
    }
}

impl Kms for Client {
    fn next_run(&self, due: Option<SystemTime>) {
        self.session.next_run(due);
    }

    fn forgive(&self) {
        self.session.forgive();
        self.caller.transport.forgive();
    }

    fn begin_run(&self) {
        self.session.begin_run();
        self.caller.outages.iter().for_each(Outage::begin_run);
        self.caller.unreachable.begin_run();
        self.refused.begin_run();
        self.caller.transport.begin_run(self.caller.clock.now());
        self.caller.skew_told.store(false, Ordering::Relaxed);
    }

    async fn read_status(&self, key_id: KeyId) -> Result<Rotation, Error> {
        // Another 2xx says nothing of the key, not even that the cloud does not tell.
        let parse = |answer: &Answer| {
            if answer.status == 200 { wire::rotation_status(&answer.body) } else { Err(Unusable::Garbled) }
        };
        self.key_call(Route::ReadStatus, key_id, None, parse, Manner::Usual).await
    }

    async fn describe(&self, key_id: KeyId) -> Result<KeyDescription, Error> {
        let parse = |answer: &Answer| wire::description(&answer.body).ok_or(Unusable::Garbled);
        self.key_call(Route::Describe, key_id, None, parse, Manner::Usual).await
    }

    async fn list_keys(&self) -> Result<Listed<ListedKey>, Error> {
        self.all_keys().await
    }

    async fn tagged(&self, key: &str, values: Option<&[&str]>) -> Result<Listed<(KeyId, Tag)>, Error> {
        self.keys_with_tag(key, values).await
    }

    async fn enable_rotation(&self, key_id: KeyId) -> Result<Receipt, Error> {
        self.key_call(Route::Enable, key_id, None, receipt, Manner::Usual).await
    }

    async fn update_interval(&self, key_id: KeyId, interval: RotationInterval) -> Result<Receipt, Error> {
        self.key_call(Route::SetInterval, key_id, Some(interval), receipt, Manner::Usual).await
    }

    async fn update_interval_once(&self, key_id: KeyId, interval: RotationInterval) -> Result<Receipt, Error> {
        self.key_call(Route::SetInterval, key_id, Some(interval), receipt, Manner::Once).await
    }

    async fn send_owed_interval(&self, key_id: KeyId, interval: RotationInterval) -> Result<Receipt, Error> {
        self.key_call(Route::SetInterval, key_id, Some(interval), receipt, Manner::Last).await
    }

    fn backoff(&self, operation: Operation) -> Backoff {
        self.caller.backoff(self.caller.outage(operation).retry_budget())
    }

    fn settle(&self, unclear: &Error, settled: Settled, backoff: &Backoff) {
        let operation = unclear.operation();
        match settled {
            Settled::Applied => self.caller.succeeded(operation),
            Settled::GivenUp => self.caller.exhausted(operation, backoff.began()),
            Settled::Repeated => self.caller.repeats(unclear),
        }
    }
}

/// A write is accepted by its status: its body is documented as none or `{}`. But one that carries an error is no
/// success.
fn receipt(answer: &Answer) -> Result<Receipt, Unusable> {
    let is_short = answer.body.len() <= "{}".len();
    if !is_short && !parse_body(&answer.body).0.is_empty() {
        return Err(Unusable::Garbled);
    }
    Ok(Receipt { request_id: answer.request_id().map(Into::into) })
}

/// A success whose body gives nothing to go by.
fn unusable(operation: Operation, request: &Request, answer: &Answer, why: Unusable) -> Error {
    let (status, host) = (answer.status, request.host());
    let (code, message) = parse_body(&answer.body);
    let error = if !code.is_empty() {
        let [code_text, message] = [&code, &message].map(|text| request.without_secrets(text.clone()));
        let text = format!("HTTP {status} from {host} with the error {code_text} {message}");
        let error = Error::new(operation, classify_contradiction(operation, &code), text.trim_end());
        if operation.is_write() { error.doubtful() } else { error }
    } else if why == Unusable::Silent {
        let text = if answer.body.trim_ascii().is_empty() {
            format!("HTTP {status} from {host} with an empty body")
        } else {
            format!("HTTP {status} from {host} with a body that does not say whether rotation is on")
        };
        Error::new(operation, Kind::NotOffered, text)
    } else {
        let text = format!("HTTP {status} from {host} with a body that is not a KMS answer; is the endpoint right?");
        Error::new(operation, Kind::Garbled, text)
    };
    error.with_code(Code::Http(status)).with_request_id(answer.request_id())
}
