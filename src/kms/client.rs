//! The KMS of one project: each call of the API that is used, with authentication, retry and meaning.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::auth::{Credentials, Session};
use super::caller::{Caller, Health, Subject};
use super::endpoint::Endpoints;
use super::error::{Error, Kind};
use super::limit::RequestLimit;
use super::observe::{Observer, Operation};
use super::retry::{Backoff, RetryPolicy};
use super::transport::{Answer, HeaderText, Request, SetUpError, Transport, Url, address};
use super::{Kms, Receipt, Settled, wire};
use crate::clock::Clock;
use crate::rotation::key::{KeyDescription, KeyId, Reading, RotationInterval};

/// All that a client needs to know of its project.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where KMS and IAM answer.
    pub endpoints: Endpoints,
    /// The project's id.
    pub project_id: String,
    /// How to log in.
    pub credentials: Credentials,
    /// Certificates to trust beside the system's, in PEM form.
    pub ca_file: Option<PathBuf>,
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
        let tls = kms.starts_with("https:") || iam.starts_with("https:");
        let transport =
            Transport::new(tls, settings.ca_file.as_deref(), settings.request_timeout, settings.concurrency)?;
        let caller = Caller {
            transport,
            limit: RequestLimit::new(settings.requests_per_second),
            retry: settings.retry,
            observer,
            clock,
            stop,
            health: Health::new(),
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

    /// One call about one key.
    async fn call(
        &self,
        operation: Operation,
        url: &Url,
        key_id: KeyId,
        interval: Option<RotationInterval>,
    ) -> Result<Answer, Error> {
        let sequence = Uuid::new_v4().to_string();
        let body = wire::key_body(key_id, &sequence, interval);
        let subject = Subject { key_id: Some(key_id.as_str()), sequence: Some(&sequence) };
        self.caller.call(operation, || self.authenticated(operation, url, &body, subject)).await
    }

    /// One attempt, and a second one with renewed credentials where the first was refused for them.
    async fn authenticated(
        &self,
        operation: Operation,
        url: &Url,
        body: &str,
        subject: Subject<'_>,
    ) -> Result<Answer, Error> {
        let mut proof = self.session.proof(&self.caller).await?;
        let mut renewed = false;
        loop {
            let mut request = Request { url: url.clone(), headers: Vec::with_capacity(2), body: body.to_owned() };
            request.headers.push(("content-type", HeaderText::plain("application/json")));
            proof.authenticate(&mut request);
            match self.caller.attempt(operation, &request, subject).await {
                Err(error) if error.kind() == Kind::Credentials && !renewed => {
                    renewed = true;
                    if let Some(code) = error.code() {
                        self.caller.observer.retry(operation, code);
                    }
                    proof = self.session.renewed(&self.caller, &proof).await?;
                }
                Err(error) if error.kind() == Kind::Credentials => {
                    self.session.give_up();
                    return Err(error);
                }
                result => return result,
            }
        }
    }
}

impl Kms for Client {
    async fn begin_run(&self) {
        self.session.begin_run().await;
    }

    async fn read_status(&self, key_id: KeyId) -> Result<Reading, Error> {
        let operation = Operation::ReadStatus;
        match self.call(operation, &self.read_status, key_id, None).await {
            Ok(answer) => wire::rotation_status(&answer.body).ok_or_else(|| garbled(operation, &answer)),
            Err(error) if matches!(error.kind(), Kind::NotOffered | Kind::Permission) => Ok(Reading::NotOffered),
            Err(error) => Err(error),
        }
    }

    async fn describe(&self, key_id: KeyId) -> Result<KeyDescription, Error> {
        let operation = Operation::DescribeKey;
        let answer = self.call(operation, &self.describe_key, key_id, None).await?;
        wire::description(&answer.body).ok_or_else(|| garbled(operation, &answer))
    }

    async fn enable_rotation(&self, key_id: KeyId) -> Result<Receipt, Error> {
        let answer = self.call(Operation::EnableRotation, &self.enable_rotation, key_id, None).await?;
        Ok(Receipt { request_id: answer.request_id().map(Into::into) })
    }

    async fn update_interval(&self, key_id: KeyId, interval: RotationInterval) -> Result<Receipt, Error> {
        let answer = self.call(Operation::UpdateInterval, &self.update_interval, key_id, Some(interval)).await?;
        Ok(Receipt { request_id: answer.request_id().map(Into::into) })
    }

    fn settle(&self, error: &Error, settled: Settled) {
        let operation = error.operation();
        match settled {
            Settled::Applied => self.caller.observer.operation(operation, true),
            Settled::GivenUp => self.caller.observer.operation(operation, false),
            Settled::Repeated => {
                if let Some(code) = error.code() {
                    self.caller.observer.retry(operation, code);
                }
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.caller.retry)
    }
}

fn garbled(operation: Operation, answer: &Answer) -> Error {
    let text = format!("HTTP {} with an answer that is no KMS answer; is the endpoint right?", answer.status);
    Error::new(operation, Kind::Garbled, text).with_request_id(answer.request_id())
}
