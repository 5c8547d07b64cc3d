//! A credential that no answer has confirmed yet is probed by one request first, while the others wait.
//!
//! Five failures in a row lock an access key, and wrong passwords lock the user (`docs/kms-api.md` 3.2 and 3.3), so
//! concurrent calls must not all try a wrong one. `session` uses it.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::kms::error::{Error, ErrorKind};
use crate::kms::observe::Operation;

/// How long the others wait for the first answer to a credential.
pub(super) const LONGEST_PROBE: Duration = Duration::from_secs(2);

/// The record of a session's credentials, which are numbered by their renewals.
#[derive(Default)]
pub(super) struct CredentialProbe {
    /// Locked by the one request that tries a credential without confirmation.
    turn: Mutex<()>,
    /// The newest generation that the cloud has accepted.
    confirmed: AtomicU64,
    /// The newest that it has refused, and its message.
    rejected: std::sync::Mutex<(u64, Box<str>)>,
}

impl CredentialProbe {
    /// A new run: a refused credential may be accepted now. An accepted one is probed again, so that a new obstacle is
    /// met by one request only.
    pub(super) fn begin_run(&self) {
        *self.rejected() = Default::default();
        self.confirmed.store(0, Ordering::Relaxed);
    }

    /// Whether the credential of this generation was refused and never accepted.
    pub(super) fn has_refused(&self, generation: u64) -> bool {
        self.rejected().0 >= generation && !self.has_confirmed(generation)
    }

    /// Whether the cloud has accepted the credential of this generation.
    pub(super) fn has_confirmed(&self, generation: u64) -> bool {
        self.confirmed.load(Ordering::Relaxed) >= generation
    }

    /// Makes a request with the credential of this generation; alone, until it is confirmed. After a refusal, requests
    /// that waited fail with the cloud's message.
    pub(super) async fn of<T, F>(&self, generation: u64, request: impl FnOnce() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let _turn = if self.has_confirmed(generation) {
            None
        } else {
            // A server that does not answer must not delay the projects that share the credential.
            let turn = tokio::time::timeout(LONGEST_PROBE, self.turn.lock()).await;
            (!self.has_confirmed(generation)).then_some(turn)
        };
        if self.has_refused(generation) {
            return Err(Error::new(Operation::Authenticate, ErrorKind::Credentials, &*self.rejected().1));
        }
        let result = request().await;
        match &result {
            Err(error) if error.kind() == ErrorKind::Credentials => {
                let mut rejected = self.rejected();
                if rejected.0 < generation {
                    *rejected = (generation, error.text().into());
                }
            }
            Err(error)
                if error.kind().is_transient()
                    || matches!(error.kind(), ErrorKind::Unclear | ErrorKind::Stopped | ErrorKind::Unreachable) => {}
            // Any other answer shows that the credential was accepted.
            _ => {
                self.confirmed.fetch_max(generation, Ordering::Relaxed);
            }
        }
        result
    }

    fn rejected(&self) -> std::sync::MutexGuard<'_, (u64, Box<str>)> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;
    use tokio::time::{Instant, sleep};

    use super::*;

    const ANSWER_TAKES: Duration = Duration::from_millis(100);

    /// Ten concurrent requests with a credential, all with this end: how many were made, and how long it took.
    async fn ten(probe: &CredentialProbe, generation: u64, end: Option<ErrorKind>) -> (u32, Duration) {
        let (made, begin) = (Cell::new(0), Instant::now());
        let request = || async {
            made.set(made.get() + 1);
            sleep(ANSWER_TAKES).await;
            end.map_or(Ok(()), |kind| Err(Error::new(Operation::ReadStatus, kind, "")))
        };
        join_all((0..10).map(|_| probe.of(generation, request))).await;
        (made.get(), begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_confirmed_credential_is_used_by_all_at_once() {
        let probe = CredentialProbe::default();
        assert_eq!(ten(&probe, 1, None).await, (10, 2 * ANSWER_TAKES), "one ahead, then the others");
        assert_eq!(ten(&probe, 1, None).await, (10, ANSWER_TAKES));
        assert_eq!(
            ten(&probe, 2, Some(ErrorKind::NotFound)).await,
            (10, 2 * ANSWER_TAKES),
            "a new credential is tried anew"
        );
        probe.begin_run();
        assert_eq!(ten(&probe, 2, None).await, (10, 2 * ANSWER_TAKES), "and each in a new run");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_is_tried_once_in_a_run() {
        let probe = CredentialProbe::default();
        assert_eq!(ten(&probe, 1, Some(ErrorKind::Credentials)).await, (1, ANSWER_TAKES));
        assert_eq!(ten(&probe, 1, None).await.0, 0);
        assert_eq!(ten(&probe, 2, Some(ErrorKind::Credentials)).await, (1, ANSWER_TAKES));
        probe.begin_run();
        assert_eq!(ten(&probe, 1, None).await.0, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_proves_nothing_about_the_credential_does_not_confirm_it() {
        for kind in
            [ErrorKind::Transient, ErrorKind::Throttled, ErrorKind::Unclear, ErrorKind::Stopped, ErrorKind::Unreachable]
        {
            assert_eq!(ten(&CredentialProbe::default(), 1, Some(kind)).await, (10, 10 * ANSWER_TAKES), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_waits_long_for_a_probe_that_does_not_end() {
        let probe = CredentialProbe::default();
        let hanging = probe.of(1, || async {
            std::future::pending::<()>().await;
            Ok(())
        });
        let others = async {
            let begin = Instant::now();
            probe.of(1, || async { Ok(()) }).await.map(|()| begin.elapsed())
        };
        tokio::select! {
            biased;
            _ = hanging => unreachable!(),
            waited = others => assert_eq!(waited.unwrap(), LONGEST_PROBE),
        }
    }
}
