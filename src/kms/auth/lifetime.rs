//! How long credentials are valid, by this machine's clock.

use std::time::{Duration, SystemTime};

/// When credentials were issued, and when they expire.
pub(super) type Lifetime = (SystemTime, SystemTime);

/// The lifetime of credentials that were received `now` and expire at a time by the cloud's clock. The clocks may
/// differ, so the span is counted from the `Date` of the response. `None` if they would have expired before they
/// were received: then the clocks are wrong, not the credentials.
pub(super) fn lifetime(end: SystemTime, answered: Option<SystemTime>, now: SystemTime) -> Option<Lifetime> {
    /// A `Date` has whole seconds, and is up to one second older than the response.
    const WHOLE: Duration = Duration::from_secs(1);
    let span = end.duration_since(answered.map_or(now, |answered| answered + WHOLE)).ok()?;
    Some((now, now + span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_last_for_the_same_span_whatever_the_clocks_show() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for cloud in [1_000, 500_000, 999_999_999] {
            assert_eq!(lifetime(at(cloud + 601), Some(at(cloud)), at(500_000)), Some((at(500_000), at(500_600))));
        }
        assert_eq!(
            lifetime(at(900), None, at(500)),
            Some((at(500), at(900))),
            "without a Date, by this machine's clock"
        );
        assert_eq!(lifetime(at(400), None, at(500)), None);
        assert_eq!(lifetime(at(400), Some(at(500)), at(100)), None);
    }
}
