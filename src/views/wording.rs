//! The words for statuses, reasons, steps and times: one wording for page, terminal and log. JSON shares the form of
//! times.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::snapshot::Snapshot;
use crate::rotation::assignment::Subject;
use crate::rotation::decide::{Reason, Status, Step, Steps};
use crate::rotation::key::{Bound, DesiredRotation};
use crate::rotation::material::whole_days;
use crate::rotation::progress::RunUnderWay;
use crate::rotation::report::{KeyReport, Report, Tally};

/// Text that is written directly to its destination, without a `String`.
struct Formatted<F>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Formatted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0(f)
    }
}

fn formatted<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result>(write: F) -> Formatted<F> {
    Formatted(write)
}

/// A status in words.
pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Compliant => "on policy",
        Status::NonCompliant => "off policy",
        Status::Unknown => "unknown",
        Status::Exempt => "exempt",
        Status::Uncovered => "uncovered",
    }
}

/// The statuses with problems first.
pub(super) const PROBLEMS_FIRST: [Status; Status::ALL.len()] =
    [Status::NonCompliant, Status::Unknown, Status::Uncovered, Status::Exempt, Status::Compliant];

/// A reason in words.
pub(crate) fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::AuthenticationFailed => "login failed: no credentials, or they were refused",
        Reason::LoginUnavailable => "the login service is unavailable",
        Reason::NotFound => "the key does not exist in this project",
        Reason::KeyDisabled => "the key is disabled",
        Reason::PendingDeletion => "the key is scheduled for deletion",
        Reason::RotationDisabled => "rotation is off",
        Reason::IntervalMismatch => "interval differs from policy",
        Reason::IntervalTooLong => "the interval is too long",
        Reason::RotationOverdue => "the cloud has not rotated it when due",
        Reason::MaterialTooOld => "key material older than the policy allows",
        Reason::RotationUnproven => "its rotations cannot be proven",
        Reason::StatusUnreadable => "rotation setting cannot be read",
        Reason::ReadFailed => "reading the setting failed",
        Reason::WriteFailed => "a write failed",
        Reason::AccessDenied => "access was denied",
        Reason::Throttled => "the cloud's request limit was reached",
        Reason::NotVerified => "change not confirmed yet",
        Reason::DefaultKey => "default key of a cloud service",
        Reason::ImportedMaterial => "imported key material",
        Reason::UnsupportedKeyType => "asymmetric or HMAC key",
        Reason::CustomKeystore => "key in a custom keystore",
        Reason::ReplicaKey => "replica of a multi-region key",
        Reason::RotationUnsupported => "this region does not offer rotation",
        Reason::Exempted => "exempted by the policy",
        Reason::ExemptionEndsSoon => "the exemption ends soon",
        Reason::AmbiguousEntry => "several keys have this alias",
        Reason::ChangeLimit => "postponed: max_changes_per_run reached",
        Reason::Flapping => "something else keeps changing it back",
        Reason::Uncovered => "not matched by any policy entry",
    }
}

/// A reason in words, for a row that stands for an entry of the policy and not for a key.
fn reason_of_entry(of: Reason) -> &'static str {
    match of {
        Reason::NotFound => "no key of this project has this alias",
        Reason::ReadFailed => "the project's keys cannot all be listed",
        Reason::AccessDenied => "listing the project's keys was denied",
        other => reason(other),
    }
}

/// A reason of this row in words.
pub(crate) fn reason_of(key: &KeyReport, of: Reason) -> &'static str {
    match key.subject {
        Subject::Key(_) => reason(of),
        Subject::Entry(_) => reason_of_entry(of),
    }
}

/// Why a key has its status: the reasons, and the policy's text for an exemption.
pub(crate) fn why(key: &KeyReport) -> impl fmt::Display {
    formatted(move |f| {
        for (at, each) in key.reasons.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "; " })?;
            f.write_str(reason_of(key, each))?;
            match (each, &key.exemption, key.material_since, key.overdue_from) {
                (Reason::Exempted, Some(exemption), ..) => {
                    if let Some(until) = &exemption.until {
                        write!(f, " until {}", until.date)?;
                    }
                    write!(f, ": {}", exemption.reason)?;
                }
                (Reason::MaterialTooOld, _, Some(since), _) => write!(f, ": in use since {}", day(since))?,
                (Reason::RotationOverdue, .., Some(from)) => write!(f, ": overdue from {}", day(from))?,
                _ => {}
            }
        }
        Ok(())
    })
}

/// The line of an entry of the policy, for readers who have the file.
pub(crate) fn policy_line(line: u32) -> impl fmt::Display {
    formatted(move |f| write!(f, "policy line {line}"))
}

/// The mark of everything that does not show a real cloud.
pub(crate) const SIMULATED: &str =
    "SIMULATED: a built-in cloud with keys made from the policy; no real key is shown here.";

/// The notice for a project whose keys cannot all be listed.
pub(super) const COVERAGE_NOT_KNOWN: &str =
    "key list unavailable or incomplete: keys that the policy does not mention cannot be detected";

/// The notice for a selector without a key.
pub(super) const IDLE_ENTRY: &str = "the selector matches no key";

/// The notice for changes beyond the limit of a run, and what to do about it.
pub(crate) fn postponed(report: &Report) -> [impl fmt::Display; 2] {
    let changes = count(report.postponed(), "change", "changes");
    [
        format!("{changes} postponed: the limit is {} a run (max_changes_per_run).", report.max_changes),
        "To change all of them at once, as with the first policy of an account: kms-rotationd apply --allow-many"
            .to_owned(),
    ]
}

/// What the planned writes mean for the material of a key whose rotation they postpone.
pub(crate) fn age_if_written(age: Duration) -> impl fmt::Display {
    let days = whole_days(age);
    formatted(move |f| write!(f, "its material will be up to {days} days old before the cloud rotates it"))
}

/// A sign for readers who do not see the colour; the word is next to it or above it.
pub(crate) fn sign(status: Status) -> &'static str {
    match status {
        Status::Compliant => "✓",
        Status::NonCompliant => "✗",
        Status::Unknown => "?",
        Status::Exempt => "–",
        Status::Uncovered => "○",
    }
}

/// The interval that the policy requires.
pub(crate) fn wanted(desired: DesiredRotation) -> impl fmt::Display {
    formatted(move |f| match desired.bound {
        Bound::Exact => write!(f, "{}", desired.interval),
        Bound::Longest => write!(f, "{} or less", desired.interval),
    })
}

/// A change that was made.
pub(crate) fn taken(step: Step) -> impl fmt::Display {
    formatted(move |f| match step {
        Step::EnableRotation => f.write_str("rotation was enabled"),
        Step::UpdateInterval(interval) => write!(f, "the interval was set to {interval}"),
    })
}

/// The writes that a run would send to a key that cannot be read.
pub(super) fn unread_steps(steps: Steps) -> impl fmt::Display {
    formatted(move |f| {
        f.write_str("a run would send, without reading: ")?;
        for (at, step) in steps.iter().enumerate() {
            write!(f, "{}{step}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    })
}

/// "27 of 30 keys on policy; 2 off policy; 1 unknown", problems first after the good news.
pub(crate) fn headline(tally: &Tally) -> impl fmt::Display {
    let tally = *tally;
    formatted(move |f| {
        let all = count(tally.total(), "key", "keys");
        write!(f, "{} of {all} on policy", tally.of(Status::Compliant))?;
        for each in PROBLEMS_FIRST.into_iter().filter(|each| *each != Status::Compliant && tally.of(*each) > 0) {
            write!(f, "; {} {}", tally.of(each), status(each))?;
        }
        Ok(())
    })
}

/// The daemon in one line, for the service manager: the result of the last run, when the next one is due, and what is
/// wrong with the daemon itself. "27 of 30 keys on policy; 2 off policy; 1 unknown; next run 2026-11-22 06:00 UTC".
pub(crate) fn daemon_line(last: Option<&Tally>, standby: bool, snapshot: &Snapshot) -> impl fmt::Display {
    let next_run = snapshot.next_run;
    let refused = snapshot.reload_error.is_some();
    let unrecorded = snapshot.is_unrecorded();
    formatted(move |f| {
        f.write_str(if standby { "standby; " } else { "" })?;
        match (last, &snapshot.run) {
            (Some(tally), _) => write!(f, "{}", headline(tally))?,
            (None, Some(run)) => write!(f, "{}", first_run(run))?,
            (None, None) => f.write_str("no run has ended yet")?,
        }
        match next_run {
            Some(at) => write!(f, "; next run {} UTC", minute(at))?,
            None => f.write_str("; no run is due")?,
        }
        f.write_str(if refused { "; policy reload failed, still using the policy loaded before" } else { "" })?;
        f.write_str(if unrecorded { "; the evidence log cannot be written" } else { "" })
    })
}

/// The headline before the first run has ended: no number of it is final.
pub(super) fn first_run(run: &RunUnderWay) -> String {
    match run.found {
        0 => "first run under way: listing keys".to_owned(),
        found => {
            let (keys, stage) = run.stage();
            format!("first run under way: {keys} of {} {stage}", count(found, "key", "keys"))
        }
    }
}

/// A number of things.
pub(crate) fn count(number: usize, one: &str, many: &str) -> impl fmt::Display {
    formatted(move |f| write!(f, "{number} {}", if number == 1 { one } else { many }))
}

/// A time in RFC 3339, UTC, to the millisecond.
pub(crate) fn rfc3339(at: SystemTime) -> impl fmt::Display {
    formatted(move |f| write!(f, "{:.3}", timestamp(at)))
}

/// A time to the minute, UTC, for people: `2026-11-22 01:51`.
pub(super) fn minute(at: SystemTime) -> impl fmt::Display {
    formatted(move |f| write!(f, "{}", timestamp(at).strftime("%Y-%m-%d %H:%M")))
}

/// A day, UTC: `2026-11-22`.
pub(super) fn day(at: SystemTime) -> impl fmt::Display {
    formatted(move |f| write!(f, "{}", timestamp(at).strftime("%Y-%m-%d")))
}

/// A time of day, UTC: `01:51`.
pub(super) fn time_of_day(at: SystemTime) -> impl fmt::Display {
    formatted(move |f| write!(f, "{}", timestamp(at).strftime("%H:%M")))
}

/// A duration to about three digits: `350 ms`, `12.3 s`, `14 min 5 s`.
pub(crate) fn took(duration: Duration) -> impl fmt::Display {
    formatted(move |f| match duration.as_secs() {
        0 => write!(f, "{} ms", duration.as_millis()),
        1..60 => write!(f, "{:.1} s", duration.as_secs_f64()),
        seconds => write!(f, "{} min {} s", seconds / 60, seconds % 60),
    })
}

/// A time after the year 9999 is shown as the last moment of that year.
fn timestamp(at: SystemTime) -> jiff::Timestamp {
    jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use serde_json::Value;

    use super::*;
    use crate::views::snapshot::{EvidenceStatus, ReloadError};

    #[test]
    fn every_status_has_its_place_in_the_order() {
        for status in Status::ALL {
            assert_eq!(PROBLEMS_FIRST.iter().filter(|listed| **listed == status).count(), 1);
        }
    }

    #[test]
    fn no_two_reasons_are_said_alike() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|each| reason(*each)).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn the_daemons_line_has_the_last_run_the_next_one_and_what_is_wrong() {
        let next_run = Some(UNIX_EPOCH + Duration::from_secs(1_795_327_200));
        let line = |last: Option<&Tally>, snapshot: &Snapshot| daemon_line(last, false, snapshot).to_string();
        let healthy = Snapshot { next_run, ..Snapshot::default() };
        assert_eq!(line(None, &healthy), "no run has ended yet; next run 2026-11-22 06:00 UTC");
        let error = ReloadError { message: String::new(), problems: Value::Null };
        let evidence = EvidenceStatus { origin: String::new(), records: 0, checkpoint: None, write_successful: false };
        let ill =
            Snapshot { reload_error: Some(Arc::new(error)), evidence: Some(Arc::new(evidence)), ..Snapshot::default() };
        assert_eq!(
            line(Some(&Tally::default()), &ill),
            "0 of 0 keys on policy; no run is due; policy reload failed, still using the policy loaded before; the \
             evidence log cannot be written"
        );
    }

    #[test]
    fn times_are_utc_and_have_a_fixed_width() {
        let at = UNIX_EPOCH + Duration::from_millis(1_763_776_285_120);
        assert_eq!(rfc3339(at).to_string(), "2025-11-22T01:51:25.120Z");
        assert_eq!(rfc3339(UNIX_EPOCH).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(minute(at).to_string(), "2025-11-22 01:51");
        assert_eq!((day(at).to_string(), time_of_day(at).to_string()), ("2025-11-22".to_owned(), "01:51".to_owned()));
    }

    #[test]
    fn durations_have_a_unit_that_fits() {
        let formatted = |millis| took(Duration::from_millis(millis)).to_string();
        assert_eq!(
            [formatted(0), formatted(350), formatted(12_340), formatted(845_000)],
            ["0 ms", "350 ms", "12.3 s", "14 min 5 s"]
        );
    }
}
