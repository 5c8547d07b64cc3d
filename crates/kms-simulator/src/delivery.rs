//! How and when an answer is sent: completely, in parts, late or never.
//!
//! Faults choose it; `server` carries it out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::answer::{Answer, RequestId};
use super::route::Service;

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Completely.
    Whole,
    /// Not sent: the connection is reset.
    Reset,
    /// Never: the client has to time out.
    Hang,
    /// Half of the body, with the length of all of it; then the connection ends.
    CutOff {
        /// By a reset instead of an orderly close.
        reset: bool,
    },
    /// The body byte by byte, with this pause before each.
    Drip(Duration),
}

/// Holds answers back until it is released, so that a test can act in between. Clones share it.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Semaphore>);

impl Hold {
    /// A hold that is not released.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Releases the answers, now and from now on.
    pub fn release(&self) {
        self.0.close();
    }

    pub(super) async fn released(&self) {
        // There are no permits: this ends when the semaphore is closed.
        let _ = self.0.acquire().await;
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}

/// An answer and how to send it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) delay: Duration,
    pub(super) hold: Option<Hold>,
    pub(super) delivery: Delivery,
    pub(super) request_id: RequestId,
    /// The service that answers; `None` for the gateway, if the API does not exist.
    pub(super) service: Option<Service>,
    /// `Date`
    pub(super) date: String,
}
