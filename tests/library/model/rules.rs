//! What must hold of each run, as predicates over what it found, the calls that it made, what it left and its report.
//! They follow the rules of "What a run does to a key" in `docs/how-it-works.md`, and use nothing of the code that runs.

use std::time::Duration;

use kms_rotationd::kms::observe::Operation;
use kms_rotationd::kms::{ErrorKind, SendMode};
use kms_rotationd::rotation::decide::{Reason, Status};
use kms_rotationd::rotation::key::{Bound, DesiredRotation, Reapply};
use kms_rotationd::rotation::report::KeyReport;

use super::cloud::{Event, key_id};
use super::explore::Root;
use super::fault::{Fault, Plan};
use super::key::{Answer, Key, Kind};
use super::process::{End, Outcome};
use super::writes;

/// A reading holds for this long before the first write.
pub(super) const READING_HOLDS: Duration = Duration::from_secs(60);

pub(super) type Checked = Result<(), String>;

/// What a rule looks at: one key in one run.
#[derive(Clone, Copy)]
pub(super) struct KeyInRun<'a> {
    pub(super) root: &'a Root,
    pub(super) outcome: &'a Outcome,
    pub(super) key: usize,
    pub(super) desired: DesiredRotation,
    /// Rule 4: no reading of the run has shown a setting before its first write, and none did before.
    pub(super) is_write_only: bool,
}

impl<'a> KeyInRun<'a> {
    /// The calls for the key. Calls that the client did not make because the program stops are left out.
    pub(super) fn events(self) -> impl DoubleEndedIterator<Item = &'a Event> + Clone {
        let events = self.outcome.events.iter();
        events.filter(move |event| event.key == Some(self.key) && !event.answer.is(ErrorKind::Stopped))
    }

    fn found(self) -> Key {
        self.outcome.found[self.key]
    }

    fn left(self) -> Key {
        self.outcome.left[self.key]
    }

    /// Whether this process, or the one whose log it continues, was shown that the key is disabled or the like.
    fn is_known_blocked(self) -> bool {
        let is_shown = |event: &Event| {
            let is_refusal = matches!(event.answer, Answer::Failed { kind: ErrorKind::Blocked(_), .. });
            event.key.is_none_or(|key| key == self.key) && (is_refusal || event.answer == Answer::Described)
        };
        self.outcome.knew.described[self.key] || self.outcome.events.iter().any(is_shown)
    }

    fn report(self) -> Option<&'a KeyReport> {
        let report = self.outcome.report.as_ref()?;
        report.keys().map(|(_, key)| key).find(|key| key.subject.key_id() == Some(key_id(self.key)))
    }
}

pub(super) fn is_on_policy(desired: DesiredRotation, on: Option<u32>) -> bool {
    on.is_some_and(|days| desired.accepts(days))
}

pub(super) fn require(holds: bool, rule: &str) -> Checked {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

/// Everything that must hold of one run.
pub(super) fn check(root: &Root, plan: &Plan, outcome: &Outcome) -> Checked {
    require(outcome.end != End::Endless, "every run ends")?;
    let is_write_only = is_write_only(outcome);
    for key in 0..outcome.found.len() {
        let key = KeyInRun { root, outcome, key, desired: root.setting.desired, is_write_only };
        writes::check(key)?;
        interval_at_stop(key)?;
        if let Some(report) = key.report() {
            report_is_true(key, report)?;
            is_read_back(key)?;
        }
    }
    change_limit(root, outcome)?;
    late_is_not_failed(root, plan, outcome)
}

/// Rule 4: every reading before the first write was answered like that, and no key of the project was ever read.
fn is_write_only(outcome: &Outcome) -> bool {
    let mut before_writes = outcome.events.iter().take_while(|event| !event.is_write());
    let is_not_offered =
        |event: &Event| event.operation != Operation::ReadStatus || event.answer.is(ErrorKind::NotOffered);
    !outcome.knew.readable && before_writes.all(is_not_offered)
}

/// What the report says of a key is so.
fn report_is_true(key: KeyInRun<'_>, report: &KeyReport) -> Checked {
    let (found, left, desired) = (key.found(), key.left(), key.desired);
    let reading = key.events().rposition_of(|event| matches!(event.answer, Answer::Shown { .. }));
    if report.status == Status::Compliant {
        require(is_on_policy(desired, left.on), "a key that is off policy is not called compliant")?;
        let (at, reading) = reading.ok_or("a key that was not read is not called compliant")?;
        let Answer::Shown { days, .. } = reading.answer else { return Err("it is a reading".to_owned()) };
        require(is_on_policy(desired, days), "a key is compliant by its last reading")?;
        let later = key.events().skip(at + 1).any(|event| event.is_write() && event.answer.may_have_applied());
        require(!later, "no write after the reading that makes a key compliant")?;
    }
    if matches!(report.status, Status::NonCompliant | Status::Unknown) {
        require(!report.reasons.is_empty(), "a key that is not on policy has a reason")?;
    }
    if is_worse(desired, found.on, left.on) {
        let is_reported = matches!(report.status, Status::NonCompliant | Status::Unknown);
        require(is_reported, "a key that is left worse than it was found is reported")?;
    }
    // What is sent at the stop may come after the report.
    let is_before_stop = |event: &&Event| !matches!(event.mode, SendMode::Optional | SendMode::AtExit);
    let last = key.events().rfind(is_before_stop);
    if last.is_some_and(|event| event.answer.is(ErrorKind::Credentials)) {
        // A key that cannot rotate is exempt all the same.
        let is_so = report.reasons.contains(Reason::AuthenticationFailed) && report.status == Status::Unknown
            || report.status == Status::Exempt;
        require(is_so, "rule 7: after a refused login a key is unknown for that reason")?;
    }
    let last_reading = key.events().rfind(|event| event.operation == Operation::ReadStatus);
    if matches!(found.kind, Kind::Usual | Kind::ReadRefused)
        && !key.is_write_only
        && last_reading.is_some_and(|event| matches!(event.answer, Answer::Failed { .. }))
    {
        require(report.status == Status::Unknown, "rule 1: a key whose setting cannot be read is unknown")?;
    }
    if key.is_write_only && key.events().next().is_some() {
        require(report.status != Status::Compliant, "rule 4: nothing proves the setting")?;
    }
    Ok(())
}

/// Whether the second setting is farther from the policy than the first: off instead of on, off policy instead of on
/// it, or a longer way to the policy's interval.
fn is_worse(desired: DesiredRotation, found: Option<u32>, left: Option<u32>) -> bool {
    let distance = |on: Option<u32>| match on {
        None => u32::MAX,
        Some(days) if desired.accepts(days) => 0,
        Some(days) => days.abs_diff(u32::from(desired.interval.days())).max(1),
    };
    distance(left) > distance(found)
}

/// Rule 2: an accepted write is followed by a reading.
fn is_read_back(key: KeyInRun<'_>) -> Checked {
    let last = key.events().next_back();
    let is_unread = last.is_some_and(|event| event.is_write() && event.answer == Answer::Accepted);
    let is_exempt = key.is_write_only || key.outcome.end == End::Stopped;
    require(!is_unread || is_exempt, "rule 2: an accepted write is read back")
}

/// Rule 2, where the program stops while it has switched rotation on: the policy's interval is still sent, unless a
/// reading shows that enabling was not applied.
fn interval_at_stop(key: KeyInRun<'_>) -> Checked {
    let is_due = key.desired.interval.days() != 365;
    let enabled = key
        .events()
        .rposition_of(|event| event.operation == Operation::EnableRotation && event.answer.may_have_applied());
    let Some((at, _)) = enabled.filter(|_| is_due) else { return Ok(()) };
    // At a later stop, the run is done with the key.
    if !key.events().skip(at).any(|event| event.stops) {
        return Ok(());
    }
    let is_settled = key.events().skip(at + 1).any(|event| {
        let is_sent = event.operation == Operation::UpdateInterval
            && (event.mode == SendMode::AtExit || event.answer == Answer::Accepted);
        let is_shown =
            matches!(event.answer, Answer::Shown { enabled, days } if !enabled || is_on_policy(key.desired, days));
        is_sent || is_shown
    });
    require(is_settled, "rule 2: a process that stops sends the interval that is due")
}

/// No more keys are changed than the limit allows. Intervals that are due at a stop are sent all the same.
fn change_limit(root: &Root, outcome: &Outcome) -> Checked {
    let Some(most) = root.setting.most_changes else { return Ok(()) };
    let is_changed = |key: &usize| {
        let mut events = outcome.events.iter().filter(|event| event.key == Some(*key));
        events.any(|event| event.mode != SendMode::AtExit && event.before != event.after)
    };
    let changed = (0..outcome.found.len()).filter(is_changed).count();
    require(changed <= most, "a run changes no more keys than max_changes_per_run")
}

/// Rule 2: a write that shows only after a few readings is no failure.
fn late_is_not_failed(root: &Root, plan: &Plan, outcome: &Outcome) -> Checked {
    let [decision] = plan[..] else { return Ok(()) };
    let is_late = matches!(decision.fault, Some(Fault::Late | Fault::LateEverywhere));
    if !is_late || outcome.end != End::Finished || outcome.found.iter().any(|key| key.is_hidden()) {
        return Ok(());
    }
    let written = outcome.events.iter().find(|event| event.is_write()).and_then(|event| event.key);
    let report = outcome.report.iter().flat_map(|report| report.keys());
    let mut written = report.map(|(_, key)| key).filter(|key| written.map(key_id) == key.subject.key_id());
    let is_readable = outcome.found.iter().all(|key| key.kind == Kind::Usual) && root.setting.may_write();
    let is_so = !is_readable || written.all(|key| key.status == Status::Compliant);
    require(is_so, "rule 2: a write is read back until it shows")
}

/// After the faults, runs without any have brought every key that can rotate to its policy.
pub(super) fn settled(root: &Root, outcome: &Outcome, is_log_lost: bool) -> Checked {
    let setting = root.setting;
    for (key, found) in outcome.found.iter().enumerate() {
        let desired = setting.desired;
        let key = KeyInRun { root, outcome, key, desired, is_write_only: is_write_only(outcome) };
        let report = key.report().ok_or("every key is in the report")?;
        let (left, expected) = (key.left().on, expected_status(key));
        require(report.status == expected, &format!("without faults the key is {expected}"))?;
        let is_mended = is_on_policy(desired, left);
        match found.kind {
            Kind::Usual if setting.may_write() => require(is_mended, "without faults the key is on policy")?,
            // Under a longest interval, a key that was on may have a shorter one. Without the log no later process
            // knows that an earlier one has switched it on; the report says that the interval is not proven.
            Kind::NotOffered if setting.may_write() => {
                let is_explained = desired.bound == Bound::Longest
                    && (report.error().is_some_and(|error| error.contains("not proven"))
                        || report.reasons.contains(Reason::ChangeLimit))
                    && (is_log_lost || !outcome.knew.interval_due[key.key]);
                let is_as_found = is_log_lost || root.keys[key.key].on.is_some();
                require(is_mended || is_explained && is_as_found, "rule 4: without faults the key is on policy")?;
            }
            // The refusal of its first write is how a process finds out.
            Kind::Unsupported if setting.may_write() => {}
            // As with `reapply: always`, for a key that shows a setting although it cannot have one.
            Kind::Imported if is_mended => {}
            Kind::Disabled | Kind::PendingDeletion if !outcome.knew.described[key.key] => {}
            _ => require(key.events().all(|event| !event.is_write()), "the key cannot be written")?,
        }
    }
    Ok(())
}

fn expected_status(key: KeyInRun<'_>) -> Status {
    let is_on_policy = is_on_policy(key.desired, key.left().on);
    match key.found().kind {
        // What cannot rotate is exempt, unless it is on policy all the same.
        Kind::Usual | Kind::Imported | Kind::Unsupported if is_on_policy => Status::Compliant,
        // Its state is seen on a list or in a description. Of a key on policy, that is asked for once a day.
        Kind::Disabled | Kind::PendingDeletion if is_on_policy && !key.is_known_blocked() => Status::Compliant,
        Kind::Usual | Kind::Disabled | Kind::PendingDeletion => Status::NonCompliant,
        Kind::Unsupported if !key.root.setting.may_write() => Status::NonCompliant,
        Kind::Imported | Kind::Unsupported => Status::Exempt,
        Kind::NotOffered | Kind::ReadRefused => Status::Unknown,
    }
}

/// A run after that has nothing to do.
pub(super) fn idle(root: &Root, outcome: &Outcome) -> Checked {
    let is_same = outcome.found.iter().zip(&outcome.left).all(|(found, left)| found.on == left.on);
    require(is_same, "a run that finds nothing to do changes nothing")?;
    let writes = outcome.events.iter().filter(|event| event.is_write());
    let is_read = outcome.found.iter().all(|key| key.kind != Kind::NotOffered);
    match root.setting.desired.reapply {
        Reapply::OnDrift if is_read => require(writes.count() == 0, "rule 3: a key on policy is not written"),
        Reapply::Always if is_read => require(writes.count() <= outcome.found.len(), "one write for each key"),
        _ => {
            let intervals = writes.filter(|event| event.operation == Operation::UpdateInterval).count();
            let most = if root.setting.desired.reapply == Reapply::Always { outcome.found.len() } else { 0 };
            require(intervals <= most, "rule 4: the interval is sent once in the lifetime of a process")
        }
    }
}

/// The last item that fits, and its position.
trait RpositionOf<T>: DoubleEndedIterator<Item = T> + Clone {
    fn rposition_of(self, fits: impl Fn(&T) -> bool) -> Option<(usize, T)>;
}

impl<T, I: DoubleEndedIterator<Item = T> + Clone> RpositionOf<T> for I {
    fn rposition_of(self, fits: impl Fn(&T) -> bool) -> Option<(usize, T)> {
        self.enumerate().filter(|(_, item)| fits(item)).last()
    }
}
