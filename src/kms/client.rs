//! The KMS of one project: each call of the API that is used, with authentication, retry and meaning.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::auth::{Credentials, Proof, Session};
use super::caller::{Call, Caller};
use super::endpoint::Endpoints;
use super::error::{Error, Kind};
use super::limit::RequestLimit;
use super::observe::{Observer, Operation};
use super::outage::Outage;
use super::retry::{Backoff, RetryPolicy};
use super::transport::{Answer, HeaderText, Proxy, Request, SetUpError, Transport, Url, address};
use super::{Kms, Receipt, Settled, wire};
use crate::clock::Clock;
use crate::rotation::key::{KeyDescription, KeyId, Reading, RotationInterval};

/// All that a client needs to know of its project.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSettings {
    /// The project's name, for logs.
    pub project: Arc<str>,
    /// Where KMS and IAM answer.
    pub endpoints: Endpoints,
    /// The project's id.
    pub project_id: String,
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
    /// Calls in flight that the caller will make at most; connections kept open.
    pub concurrency: usize,
    /// When to make a call again.
    pub retry: RetryPolicy,
}

/// The KMS of one project.
pub struct Client {
    caller: Caller,
    session: Session,
    read_status: Url,
    describe_key: Url,
    enable_rotation: Url,
    update_interval: Url,
}

impl Client {
    /// A client that connects to nothing yet. It makes no further call once `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// The additional certificates cannot be read, or the system has none at all.
    pub fn new(
        settings: ClientSettings,
        observer: Arc<dyn Observer>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Result<Self, SetUpError> {
        let Endpoints { kms, iam } = settings.endpoints;
        let is_https = |endpoint: &str| endpoint.starts_with("https:");
        let tls = is_https(&kms) || (settings.credentials.need_iam() && is_https(&iam));
        let transport = Transport::new(
            tls,
            settings.ca_file.as_deref(),
            settings.proxy.as_ref(),
            settings.request_timeout,
            settings.concurrency,
        )?;
        let caller = Caller {
            project: settings.project,
            transport,
            limit: RequestLimit::new(settings.requests_per_second),
            retry: settings.retry,
            observer,
            clock,
            stop,
            outages: std::array::from_fn(|_| Outage::none()),
        };
        let project_id = settings.project_id;
        let url = |call: &str| address(&kms, &format!("v1.0/{project_id}/kms/{call}"));
        Ok(Self {
            read_status: url("get-key-rotation-status")?,
            describe_key: url("describe-key")?,
            enable_rotation: url("enable-key-rotation")?,
            update_interval: url("update-key-rotation-interval")?,
            session: Session::new(settings.credentials, &iam, &project_id)?,
            caller,
        })
    }

    /// One call about one key; `parse` makes what is wanted of an answer, or nothing where it is none of KMS.
    async fn call<T>(
        &self,
        operation: Operation,
        url: &Url,
        key_id: KeyId,
        interval: Option<RotationInterval>,
        parse: fn(&Answer) -> Option<T>,
    ) -> Result<T, Error> {
        let sequence = Uuid::new_v4().to_string();
        let body = wire::key_body(key_id, &sequence, interval);
        let call = Call::new(operation, Some(key_id.as_str()), Some(&sequence));
        let request = |proof: Proof| {
            let (url, body, headers) = (url.clone(), body.clone(), Vec::with_capacity(2));
            let mut request = Request { url, headers, body, secret_in_body: None };
            request.headers.push(("content-type", HeaderText::plain("application/json")));
            proof.authenticate(&mut request);
            let call = &call;
            async move {
                let answer = self.caller.attempt(call, &request).await?;
                parse(&answer).ok_or_else(|| garbled(operation, &request, &answer))
            }
        };
        let retrying = |error: &Error| {
            if let Some(code) = error.code() {
                self.caller.observer.retry(operation, code);
            }
        };
        self.caller.call(&call, || self.session.with_proof(&self.caller, request, retrying)).await
    }
}

impl Kms for Client {
    fn begin_run(&self) {
        self.session.begin_run();
        self.caller.outages.iter().for_each(Outage::begin_run);
    }

    async fn read_status(&self, key_id: KeyId) -> Result<Reading, Error> {
        let parse = |answer: &Answer| wire::rotation_status(&answer.body);
        match self.call(Operation::ReadStatus, &self.read_status, key_id, None, parse).await {
            Err(error) if matches!(error.kind(), Kind::NotOffered | Kind::Permission) => Ok(Reading::NotOffered),
            result => result,
        }
    }

    async fn describe(&self, key_id: KeyId) -> Result<KeyDescription, Error> {
        let parse = |answer: &Answer| wire::description(&answer.body);
        self.call(Operation::DescribeKey, &self.describe_key, key_id, None, parse).await
    }

    async fn enable_rotation(&self, key_id: KeyId) -> Result<Receipt, Error> {
        self.call(Operation::EnableRotation, &self.enable_rotation, key_id, None, receipt).await
    }

    async fn update_interval(&self, key_id: KeyId, interval: RotationInterval) -> Result<Receipt, Error> {
        self.call(Operation::UpdateInterval, &self.update_interval, key_id, Some(interval), receipt).await
    }

    fn backoff(&self, operation: Operation) -> Backoff {
        self.caller.backoff(self.caller.outage(operation).effort())
    }

    fn settle(&self, unclear: &Error, settled: Settled, backoff: &Backoff) {
        let operation = unclear.operation();
        match settled {
            Settled::Applied => self.caller.succeeded(operation),
            Settled::GivenUp => self.caller.exhausted(operation, backoff.began()),
            Settled::Repeated => {
                if let Some(code) = unclear.code() {
                    self.caller.observer.retry(operation, code);
                }
            }
        }
    }
}

/// A write is accepted by its status alone: its body is documented as none or `{}`.
#[expect(clippy::unnecessary_wraps, reason = "as the other answers, which may be none of KMS")]
fn receipt(answer: &Answer) -> Option<Receipt> {
    Some(Receipt { request_id: answer.request_id().map(Into::into) })
}

fn garbled(operation: Operation, request: &Request, answer: &Answer) -> Error {
    let text =
        format!("HTTP {} with an answer that is none of KMS from {}; is that the KMS?", answer.status, request.host());
    Error::new(operation, Kind::Garbled, text).with_request_id(answer.request_id())
}
