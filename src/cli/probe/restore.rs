//! Gives the key the setting back that it was found with, and reads back that it has it.
//!
//! Level-triggered like a run: read, send the one write that is missing, read again, until the key is as it was found,
//! the writes are refused, or `retry.max_elapsed` has passed. A signal does not end it; a second one does (`mod`).

use tokio::time::Instant;

use super::conversation::Conversation;
use super::exchange::{Expected, Outcome, Purpose, Setting, Situation, Step};
use crate::kms::single_call::{RawAnswer, SingleCall};
use crate::kms::{Kms, RunStart};
use crate::rotation::key::{KeyId, Rotation};

/// A refusal may come from a setting that is not visible yet; more refusals than this do not.
const MOST_REFUSALS: u32 = 3;

/// Restores the key.
///
/// # Errors
///
/// It does not have the setting back, for this reason.
pub(super) async fn restore(conversation: &mut Conversation<'_>, key_id: KeyId, found: Rotation) -> Result<(), String> {
    let deadline = Instant::now() + conversation.retry.max_elapsed;
    let (mut attempt, mut refusals) = (0, 0);
    let mut why = String::new();
    loop {
        // A login that has failed may succeed now. A refused secret is not sent again before it has changed.
        conversation.kms.begin_run(RunStart::default());
        attempt += 1;
        let pause = conversation.pause(attempt);
        let is_last = refusals == MOST_REFUSALS || Instant::now() + pause > deadline;
        match call(conversation, SingleCall::ReadStatus(key_id)).await {
            Ok(answer) => {
                if let Some(rotation) = answer.rotation() {
                    conversation.last_read = Some(rotation);
                    let Some(write) = next_write(key_id, found, rotation) else { return Ok(()) };
                    if is_last {
                        return Err(why);
                    }
                    match call(conversation, write).await {
                        Ok(answer) if answer.is_success() => {
                            attempt = 0;
                            "the change does not become visible".clone_into(&mut why);
                        }
                        Ok(answer) => {
                            refusals += 1;
                            why = refused(write, &answer);
                        }
                        Err(no_answer) => why = no_answer,
                    }
                } else {
                    refusals += 1;
                    why = refused(SingleCall::ReadStatus(key_id), &answer);
                }
            }
            Err(no_answer) => why = no_answer,
        }
        if is_last {
            return Err(why);
        }
        tokio::time::sleep(pause).await;
    }
}

fn refused(call: SingleCall, answer: &RawAnswer) -> String {
    format!("{} is answered with HTTP {} {}", call.path(), answer.status, answer.code).trim_end().to_owned()
}

/// One call; an error if there is no clear answer.
async fn call(conversation: &mut Conversation<'_>, call: SingleCall) -> Result<RawAnswer, String> {
    let outcome = conversation.send(call).await;
    let situation = if let SingleCall::Enable(_) = call { Situation::Off } else { Situation::On };
    let step = Step { call, situation, expected: Expected::Status, section: "" };
    let answer = outcome.clear().cloned();
    let why = match &outcome {
        Outcome::Answered(answer) => refused(call, answer),
        Outcome::Unanswered { why, .. } => why.clone(),
    };
    conversation.note(step, Purpose::Restoring, outcome, 1);
    answer.ok_or(why)
}

/// The next write of a key with the setting `now`. A chosen interval that a key without rotation still shows is given
/// back while rotation is on; it has no effect on the key.
fn next_write(key_id: KeyId, found: Rotation, now: Rotation) -> Option<SingleCall> {
    let interval = found.interval().filter(|_| found.interval_days != now.interval_days);
    match (found.enabled, now.enabled, interval) {
        (true, false, _) => Some(SingleCall::Enable(key_id)),
        (_, true, Some(interval)) => Some(SingleCall::SetInterval(key_id, interval.days())),
        (false, true, None) => Some(SingleCall::Disable(key_id)),
        (true, true, None) | (false, false, _) => None,
    }
}

/// The commands that give the key its setting back, for a shell in which `TOKEN` is a token of the project.
pub(super) fn commands(root: &str, key_id: KeyId, found: Rotation) -> Vec<String> {
    let command = |path: &str, more: &str| {
        format!(
            "curl --header \"X-Auth-Token: $TOKEN\" --header 'Content-Type: application/json' --data \
             '{{\"key_id\":\"{key_id}\"{more}}}' {root}/{path}"
        )
    };
    match (found.enabled, found.interval()) {
        (false, _) => vec![command("disable-key-rotation", "")],
        (true, interval) => {
            let interval = interval.map(|interval| format!(",\"rotation_interval\":{}", interval.days()));
            let interval = interval.map(|interval| command("update-key-rotation-interval", &interval));
            std::iter::once(command("enable-key-rotation", "")).chain(interval).collect()
        }
    }
}

/// What is known of a key's setting, in words.
pub(super) fn known(rotation: Option<Rotation>) -> String {
    rotation.map_or_else(|| "not known".to_owned(), |rotation| Setting::from(rotation).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(enabled: bool, days: u32) -> Rotation {
        Rotation { enabled, interval_days: (days > 0).then_some(days), last_rotated: None, rotations: None }
    }

    #[test]
    fn each_setting_is_restored_from_each_other_one_with_three_writes_at_most() {
        let key_id: KeyId = "0d0466b0-e727-4d9c-b35d-f84bb474a37f".parse().unwrap();
        for (found_on, now_on) in [(false, false), (false, true), (true, false), (true, true)] {
            for found_days in [0, 90, 365] {
                for now_days in [0, 29, 90, 365] {
                    // A key that is on has an interval.
                    if found_on && found_days == 0 {
                        continue;
                    }
                    let found = rotation(found_on, found_days);
                    let mut key = rotation(now_on, now_days);
                    for _ in 0..3 {
                        match next_write(key_id, found, key) {
                            Some(SingleCall::Enable(_)) => key = rotation(true, 365),
                            Some(SingleCall::Disable(_)) => key.enabled = false,
                            Some(SingleCall::SetInterval(_, days)) => key.interval_days = Some(days.into()),
                            _ => {}
                        }
                    }
                    assert_eq!(next_write(key_id, found, key), None, "{found:?} {key:?}");
                    assert_eq!(key.enabled, found.enabled);
                    assert!(!found_on || key == found, "{found:?} {key:?}");
                }
            }
        }
    }
}
