//! The words of a report for people. The names of verdicts and causes in machine formats are in the model.

use std::fmt;

use super::model::{DepartureKind, Gap, GapKind, Key, Required, Setting, Shown, Stretch, StretchCause, Verdict};
use super::time::length;
use crate::evidence::record::{Cause, WritePhase};
use crate::rotation::decide::Reasons;
use crate::views::wording;

/// What may be claimed of a log, and nothing beyond it.
pub(super) const CLAIM: &str = "It shows that nothing older than the newest checkpoint kept elsewhere was changed or \
    removed. What this machine writes after that, and whether it told the truth in the first place, rests on the \
    machine.";

/// A verdict in words.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotMet => "not met",
        Verdict::NotShown => "not shown",
        Verdict::NotApplicable => "not applicable",
        Verdict::Met => "met",
    }
}

/// A sign beside the word, for readers who do not see the colour.
pub(super) fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotMet => "✗",
        Verdict::NotShown => "?",
        Verdict::NotApplicable => "–",
        Verdict::Met => "✓",
    }
}

/// What a verdict means.
pub(super) fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotMet => "off policy at some time, or key material older than interval and grace",
        Verdict::NotShown => {
            "not off policy as far as the log shows, but for some time the log does not show it: not read for longer \
             than the gap rule allows, contradictory readings, or key material of unknown age"
        }
        Verdict::NotApplicable => "exempt, not covered by the policy, or of a kind that cannot rotate, all the time",
        Verdict::Met => "on policy whenever it was read, and its material never older than interval and grace",
    }
}

/// The status during a piece of the timeline.
pub(super) fn shown(shown: Shown) -> &'static str {
    match shown {
        Shown::Status(status) => wording::status(status),
        Shown::NotLooked => "no run has looked",
    }
}

/// Why a stretch counts.
pub(super) fn cause(cause: StretchCause) -> &'static str {
    match cause {
        StretchCause::OffPolicy => "off policy",
        StretchCause::FoundAndRepaired => "found off policy and repaired in the same run",
        StretchCause::MaterialTooOld => "key material older than interval and grace",
        StretchCause::BeforeLog => "before the first record of the log",
        StretchCause::NotLooked => "no run has looked",
        StretchCause::Unreadable => "could not be read",
        StretchCause::Contradictory => "readings contradict each other",
        StretchCause::MaterialUnknown => "start of the key material unknown",
        StretchCause::RotationsMissed => "several rotations since the last reading, times unknown",
    }
}

/// Reasons in words.
pub(super) fn reasons(reasons: Reasons) -> impl fmt::Display {
    let words: Vec<_> = reasons.iter().map(wording::reason).collect();
    words.join("; ")
}

/// A stretch in a sentence.
pub(super) fn stretch(stretch: &Stretch) -> impl fmt::Display {
    let Stretch { from, to, cause, reasons, seen_after } = *stretch;
    let mut text = self::cause(cause).to_owned();
    let says_more = !matches!(cause, StretchCause::MaterialTooOld | StretchCause::Contradictory)
        && !matches!(cause, StretchCause::MaterialUnknown | StretchCause::RotationsMissed);
    if !reasons.is_empty() && says_more {
        text = format!("{text}: {}", self::reasons(reasons));
    }
    if from == to {
        text = format!("{text}, {}", from.minute());
    } else {
        text = format!("{text}, {} to {} ({})", from.minute(), to.minute(), length(to.since(from)));
    }
    match seen_after {
        Some(after) => format!("{text}; it was last seen on policy {}", after.minute()),
        None => text,
    }
}

/// Why the policy required no rotation of a key at the end.
pub(super) fn not_applicable(key: &Key) -> Option<String> {
    let free = key.not_applicable.as_ref()?;
    let mut text = reasons(free.reasons).to_string();
    if let Some(until) = &free.until {
        text = format!("{text} until {until}");
    }
    if let Some(exemption) = &free.exemption {
        text = format!("{text}: {exemption}");
    }
    Some(text)
}

/// Why a key has its verdict, in one line.
pub(super) fn why(key: &Key) -> String {
    match key.verdict {
        Verdict::NotMet => summary(&key.off_policy),
        Verdict::NotShown => summary(&key.not_shown),
        Verdict::NotApplicable => not_applicable(key).unwrap_or_default(),
        Verdict::Met => not_applicable(key).map_or_else(String::new, |why| format!("at the end {why}")),
    }
}

/// The first stretch, and how many more there are.
fn summary(stretches: &[Stretch]) -> String {
    match stretches {
        [] => String::new(),
        [only] => stretch(only).to_string(),
        [first, others @ ..] => {
            format!("{}; and {}", stretch(first), wording::count(others.len(), "more time", "more times"))
        }
    }
}

/// A setting.
pub(super) fn setting(setting: Option<Setting>) -> String {
    match setting {
        None => "unknown".to_owned(),
        Some(Setting { enabled: false, .. }) => "off".to_owned(),
        Some(Setting { interval_days: Some(days), .. }) => format!("{days} days"),
        Some(Setting { interval_days: None, .. }) => "on".to_owned(),
    }
}

/// What the policy requires.
pub(super) fn required(required: Option<Required>) -> String {
    match required {
        None => "–".to_owned(),
        Some(Required { days, at_most: false }) => format!("{days} days"),
        Some(Required { days, at_most: true }) => format!("{days} days or less"),
    }
}

/// Who caused something.
pub(super) fn by(by: Option<Cause>) -> &'static str {
    match by {
        Some(Cause::Us) => "this program",
        Some(Cause::Other) => "another user",
        Some(Cause::Cloud) => "the cloud",
        None => "",
    }
}

/// What happened to a key.
pub(super) fn departure(kind: DepartureKind, write: Option<WritePhase>) -> &'static str {
    match (kind, write) {
        (DepartureKind::Drift, _) => "setting changed",
        (DepartureKind::Repaired, _) => "repaired",
        (DepartureKind::OffPolicy, _) => "off policy",
        (DepartureKind::OnPolicy, _) => "on policy again",
        (DepartureKind::Exempted, _) => "exempted by the policy",
        (DepartureKind::NoLongerExempt, _) => "exemption ended",
        (DepartureKind::Unknown, _) => "could not be read",
        (DepartureKind::Write, Some(WritePhase::Applied)) => "write applied",
        (DepartureKind::Write, Some(WritePhase::Failed)) => "write failed",
        (DepartureKind::Write, Some(WritePhase::Unclear)) => "write with an unclear end",
        (DepartureKind::Write, Some(WritePhase::NotSent)) => "write not sent",
        (DepartureKind::Write, Some(WritePhase::Intent) | None) => "write cut off: its end is not recorded",
    }
}

/// Why a log shows nothing.
pub(super) fn gap(gap: &Gap) -> &'static str {
    match gap.kind {
        GapKind::BeforeLog => "before the first record of the log",
        GapKind::NotLooked => "no run has looked",
        GapKind::RecordsLost => "records lost",
        GapKind::Interrupted => "run interrupted",
        GapKind::Unreadable => "no key could be read",
    }
}
