//! A credential that no answer has confirmed yet is probed by one request first, while the others wait.
//!
//! Five failures in a row lock an access key, and wrong passwords lock the user (`docs/kms-api.md` 3.2 and 3.3), so that
//! calls side by side must not all try a wrong one. What a credential is, and where the next one comes from, the
//! `session` knows.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::kms::error::{Error, Kind};
use crate::kms::observe::Operation;

/// How long the others wait for the first answer to a credential.
pub(super) const LONGEST_PROBE: Duration = Duration::from_secs(2);

/// What is known of a session's credentials, which are numbered as they are renewed.
#[derive(Default)]
pub(super) struct CredentialProbe {
    /// Held by the one request that tries a credential which nothing has confirmed yet.
    turn: Mutex<()>,
    /// The newest generation that the cloud has accepted.
    confirmed: AtomicU64,
    /// The newest that it has refused, and its words.
    rejected: std::sync::Mutex<(u64, Box<str>)>,
}

impl CredentialProbe {
    /// A new run: what was refused in the last one may be right by now. What was accepted is probed again, so
    /// that the first request of a run goes alone: whatever bars the way by now is met by one.
    pub(super) fn begin_run(&self) {
        *self.rejected() = Default::default();
        self.confirmed.store(0, Ordering::Relaxed);
    }

    /// Whether all that is known of the credential of this generation is that it was refused.
    pub(super) fn has_refused(&self, generation: u64) -> bool {
        self.rejected().0 >= generation && !self.has_confirmed(generation)
    }

    /// Whether the cloud has accepted the credential of this generation.
    pub(super) fn has_confirmed(&self, generation: u64) -> bool {
        self.confirmed.load(Ordering::Relaxed) >= generation
    }

    /// Makes a request with the credential of this generation; alone, while nothing has confirmed it. Who comes after a
    /// refusal gets to hear the cloud's words on it.
    pub(super) async fn of<T, F>(&self, generation: u64, request: impl FnOnce() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let _turn = if self.has_confirmed(generation) {
            None
        } else {
            // A server that does not answer must not hold up the projects that share the credential.
            let turn = tokio::time::timeout(LONGEST_PROBE, self.turn.lock()).await;
            (!self.has_confirmed(generation)).then_some(turn)
        };
        if self.has_refused(generation) {
            return Err(Error::new(Operation::Authenticate, Kind::Credentials, &*self.rejected().1));
        }
        let result = request().await;
        match &result {
            Err(error) if error.kind() == Kind::Credentials => {
                let mut rejected = self.rejected();
                if rejected.0 < generation {
                    *rejected = (generation, error.text().into());
                }
            }
            Err(error)
                if error.kind().is_transient()
                    || matches!(error.kind(), Kind::Unclear | Kind::Stopped | Kind::Unreachable) => {}
            // Whatever else is answered, it was not the credential that was wrong.
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

    /// Ten requests side by side with a credential, each of which ends like this: how many were made, and how long it
    /// took.
    async fn ten(probe: &CredentialProbe, generation: u64, end: Option<Kind>) -> (u32, Duration) {
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
            ten(&probe, 2, Some(Kind::NotFound)).await,
            (10, 2 * ANSWER_TAKES),
            "a new credential is tried anew"
        );
        probe.begin_run();
        assert_eq!(ten(&probe, 2, None).await, (10, 2 * ANSWER_TAKES), "and each in a new run");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_is_tried_once_in_a_run() {
        let probe = CredentialProbe::default();
        assert_eq!(ten(&probe, 1, Some(Kind::Credentials)).await, (1, ANSWER_TAKES));
        assert_eq!(ten(&probe, 1, None).await.0, 0);
        assert_eq!(ten(&probe, 2, Some(Kind::Credentials)).await, (1, ANSWER_TAKES));
        probe.begin_run();
        assert_eq!(ten(&probe, 1, None).await.0, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_says_nothing_of_the_credential_leaves_it_untried() {
        for kind in [Kind::Transient, Kind::Throttled, Kind::Unclear, Kind::Stopped, Kind::Unreachable] {
            assert_eq!(ten(&CredentialProbe::default(), 1, Some(kind)).await, (10, 10 * ANSWER_TAKES), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_a_probe_that_does_not_end() {
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
