//! The lockout after repeated failures: of a user, an access key, or all access.

use std::time::{Duration, SystemTime};

/// Duration of a lockout: documented for access keys (`docs/kms-api.md` 3.2), chosen for users.
const LOCK_TIME: Duration = Duration::from_secs(5 * 60);

/// Consecutive failures, and the lockout that follows them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lockout {
    failures: u32,
    until: Option<SystemTime>,
}

impl Lockout {
    pub(crate) fn is_active(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    pub(crate) fn failed(&mut self, limit: u32, now: SystemTime) {
        if self.until.is_some_and(|until| until <= now) {
            *self = Self::default();
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= limit && self.until.is_none() {
            self.until = Some(now + LOCK_TIME);
        }
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lockout_ends_after_its_time() {
        let now = SystemTime::UNIX_EPOCH;
        let mut lock = Lockout::default();
        for _ in 0..4 {
            lock.failed(5, now);
        }
        assert!(!lock.is_active(now));
        lock.failed(5, now);
        assert!(lock.is_active(now + LOCK_TIME - Duration::from_secs(1)));
        assert!(!lock.is_active(now + LOCK_TIME));
        lock.failed(5, now + LOCK_TIME);
        assert!(!lock.is_active(now + LOCK_TIME), "the count starts again");
    }
}
