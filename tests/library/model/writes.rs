//! When a write may be sent: rules 1 to 7 of "What a run does to a key" in `docs/how-it-works.md`, for each sending.

use kms_rotationd::kms::observe::Operation;
use kms_rotationd::kms::{ErrorKind, SendMode};
use kms_rotationd::rotation::key::{Bound, DesiredRotation, Reapply};
use tokio::time::Instant;

use super::cloud::Event;
use super::key::{Answer, Kind};
use super::rules::{Checked, KeyInRun, READING_HOLDS, is_on_policy, require};

/// What a run knows of a key so far.
#[derive(Default)]
struct SoFar<'a> {
    /// The last reading that showed a setting, and how many writes were sent before it.
    reading: Option<(Shown, Instant, usize)>,
    sent: Vec<&'a Event>,
    /// Its last description succeeded, and shows that it cannot be written.
    is_known_blocked: bool,
    is_login_refused: bool,
}

impl SoFar<'_> {
    /// This run has switched rotation on, or may have.
    fn has_enabled(&self) -> bool {
        self.sent.iter().any(|sent| sent.operation == Operation::EnableRotation && sent.answer.may_have_applied())
    }
}

#[derive(Clone, Copy)]
struct Shown {
    enabled: bool,
    days: Option<u32>,
}

impl Shown {
    /// Whether the write is due by this reading.
    fn requires(self, write: &Event, desired: DesiredRotation) -> bool {
        if write.operation == Operation::EnableRotation {
            return !self.enabled;
        }
        let reapplies = desired.reapply == Reapply::Always && self.days == write.interval;
        !(self.enabled && is_on_policy(desired, self.days)) || reapplies
    }
}

/// Every write to a key in one run.
pub(super) fn check(key: KeyInRun<'_>) -> Checked {
    let lists = key.outcome.events.iter().any(|event| event.key.is_none() && event.answer == Answer::Described);
    let is_blocked = matches!(key.outcome.found[key.key].kind, Kind::Disabled | Kind::PendingDeletion | Kind::Imported);
    let mut so_far = SoFar { is_known_blocked: lists && is_blocked, ..SoFar::default() };
    for event in key.events() {
        if event.is_write() {
            check_write(key, &so_far, event)?;
            so_far.sent.push(event);
        }
        match event.answer {
            Answer::Shown { enabled, days } => {
                so_far.reading = Some((Shown { enabled, days }, event.ended, so_far.sent.len()));
            }
            Answer::Described => so_far.is_known_blocked |= is_blocked,
            _ if event.answer.is(ErrorKind::Credentials) => {
                so_far.is_login_refused |= event.mode != SendMode::Optional;
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_write(key: KeyInRun<'_>, so_far: &SoFar<'_>, write: &Event) -> Checked {
    let (desired, setting) = (key.desired, key.root.setting);
    require(setting.may_write(), "a plan, and a project in monitor mode, write nothing")?;
    if let Some(days) = write.interval {
        require(desired.accepts(days), "only an interval that the policy accepts is sent")?;
        let replaces = is_on_policy(desired, write.before) && write.before != Some(days);
        // Rule 4: enabling may have been applied, and no reading shows that the key was on before.
        let is_unread = key.is_write_only || write.mode == SendMode::AtExit && !key.outcome.knew.readable;
        let is_owed = is_unread && (key.outcome.knew.interval_due[key.key] || so_far.has_enabled());
        // With `reapply: always`, the interval that the cloud still shows is sent.
        let is_shown = so_far.reading.is_some_and(|(shown, ..)| shown.days == Some(days));
        require(!replaces || is_owed || is_shown, "an interval on policy is not replaced by another one")?;
    }
    require(!so_far.is_known_blocked, "rule 6: a key that is known to be blocked is not written")?;
    let was_refused = key.outcome.knew.refused[key.key];
    require(!was_refused, "rule 6: a write that was refused because the key cannot rotate waits for a day")?;
    if write.mode == SendMode::AtExit {
        let is_due = key.outcome.knew.interval_due[key.key]
            || so_far.sent.iter().any(|sent| sent.operation == Operation::EnableRotation);
        require(is_due, "only an interval that is due is sent at a stop")?;
        let is_first = so_far.sent.iter().all(|sent| sent.mode != SendMode::AtExit);
        return require(is_first, "an interval is sent once at a stop");
    }
    require(!so_far.is_login_refused, "rule 7: nothing is sent after the login was refused")?;
    let before = so_far.sent.iter().rev().find(|sent| sent.operation == write.operation);
    if key.is_write_only {
        return check_write_only(key, so_far, before.copied(), write);
    }
    match (before, so_far.sent.last()) {
        (None, None) => first_write(key, so_far, write),
        (None, Some(last)) => {
            let follows_enabling = last.operation == Operation::EnableRotation && last.answer.may_have_applied();
            let is_read = is_due_by_later_reading(so_far, so_far.sent.len(), write, desired);
            require(follows_enabling || is_read, "rule 2: the interval follows enabling, or a reading")
        }
        (Some(before), _) => repeated(so_far, before, write, desired),
    }
}

/// Rules 1 and 3, and the age of the reading.
fn first_write(key: KeyInRun<'_>, so_far: &SoFar<'_>, write: &Event) -> Checked {
    let Some((shown, read_at, _)) = so_far.reading else {
        let is_read = "rules 1 and 4: a key is read before it is written, unless no key of the project was ever read";
        return require(false, is_read);
    };
    let is_missing = shown.enabled && shown.days.is_none();
    require(!is_missing, "a reading without the interval is no reason to send one")?;
    require(shown.requires(write, key.desired), "rule 3: a key on policy is not written")?;
    let age = write.began.duration_since(read_at);
    require(age <= READING_HOLDS, "a reading older than a minute is repeated before a write")
}

/// Rule 5: no write is sent twice without need.
fn repeated(so_far: &SoFar<'_>, before: &Event, write: &Event, desired: DesiredRotation) -> Checked {
    let at = so_far.sent.iter().rposition(|sent| sent.operation == write.operation).unwrap_or(0);
    let between = &so_far.sent[at + 1..];
    let is_read = is_due_by_later_reading(so_far, at + 1, write, desired);
    let was_off = between.iter().any(|sent| sent.answer.is(ErrorKind::NotOn));
    let is_on_again =
        between.iter().any(|sent| sent.operation == Operation::EnableRotation && sent.answer.may_have_applied());
    match before.answer {
        Answer::Accepted => {
            let is_lost = was_off && is_read || write.operation == Operation::UpdateInterval && is_on_again;
            require(is_lost, "rule 5: an accepted write is not sent again")
        }
        answer if answer.is(ErrorKind::Unclear) => {
            require(is_read || is_on_again, "rule 5: an unclear write is sent again only after a reading")?;
            let same = so_far.sent.iter().filter(|sent| sent.mode == SendMode::Once).count();
            require(same <= 1, "rule 5: what no reading can prove is sent twice at most")
        }
        answer if answer.is(ErrorKind::NotOn) || answer.is(ErrorKind::AlreadyOn) => {
            require(is_read || is_on_again, "rule 5: a write that found another setting follows a reading")
        }
        _ => require(false, "a write that failed is not sent again in this run"),
    }
}

/// Whether a reading after so many sendings shows that the write is due.
fn is_due_by_later_reading(so_far: &SoFar<'_>, sent: usize, write: &Event, desired: DesiredRotation) -> bool {
    so_far.reading.is_some_and(|(shown, _, sent_before)| sent_before >= sent && shown.requires(write, desired))
}

/// Rule 4: what may be sent where the setting cannot be read.
fn check_write_only(key: KeyInRun<'_>, so_far: &SoFar<'_>, before: Option<&Event>, write: &Event) -> Checked {
    if let Some(before) = before {
        let was_off = so_far.sent.iter().any(|sent| sent.answer.is(ErrorKind::NotOn));
        let is_open = before.answer.is(ErrorKind::Unclear) || was_off;
        return require(is_open, "rule 4: a write that ended is not sent again");
    }
    if write.operation == Operation::EnableRotation {
        return Ok(());
    }
    let (knew, desired) = (&key.outcome.knew, key.desired);
    let is_after_enabling = so_far.sent.iter().any(|sent| sent.operation == Operation::EnableRotation);
    require(is_after_enabling, "rule 4: enabling comes before the interval")?;
    let is_owed = so_far.has_enabled() || knew.interval_due[key.key];
    if desired.bound == Bound::Longest {
        require(is_owed, "rule 4: under a longest interval, one is sent only to a key that was switched on")?;
    }
    let is_due = is_owed || !knew.interval_set[key.key] || desired.reapply == Reapply::Always;
    require(is_due, "rule 4: the interval is sent once in the lifetime of a process")
}
