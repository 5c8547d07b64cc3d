//! What a later process knows of a key: the same as the one before, from the records alone.

use std::time::{Duration, SystemTime};

use kms_rotationd::evidence::reader::parse_time;
use kms_rotationd::evidence::record::{KeyMemory, KeyState};
use kms_rotationd::rotation::decide::Step;
use kms_rotationd::rotation::key::{KeyState as CloudState, Rotation, RotationBlocker, RotationInterval};
use kms_rotationd::rotation::material::{History, Observation};
use kms_rotationd::rotation::past::KeyPast;
use kms_rotationd::rotation::report::KeyReport;
use proptest::prelude::*;

use crate::output::sample::compliant;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn began() -> SystemTime {
    parse_time("2026-01-01T00:00:00.000Z").unwrap()
}

/// What happens to a key between two readings.
#[derive(Clone, Debug)]
enum Happens {
    Nothing,
    Rotated,
    /// The cloud's record goes back.
    Forgotten,
    Set(bool, u32),
    Written(u16),
    MaybeWritten,
    Gap,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Nothing),
        2 => Just(Happens::Rotated),
        1 => Just(Happens::Forgotten),
        1 => (any::<bool>(), 30..365_u32).prop_map(|(enabled, days)| Happens::Set(enabled, days)),
        1 => (30..365_u16).prop_map(Happens::Written),
        1 => Just(Happens::MaybeWritten),
        1 => Just(Happens::Gap),
    ]
}

/// The history of a key that is read every hour, in state `Enabled`.
fn history(events: &[Happens]) -> History {
    let mut history = History::default();
    history.created = Some(began() - 400 * DAY);
    let mut rotation =
        Rotation { enabled: true, interval_days: Some(90), last_rotated: Some(began() - 30 * DAY), rotations: Some(3) };
    let mut at = began();
    for event in events {
        match *event {
            Happens::Nothing => {}
            Happens::Rotated => {
                (rotation.last_rotated, rotation.rotations) = (Some(at), rotation.rotations.map(|count| count + 1));
            }
            Happens::Forgotten => rotation.rotations = rotation.rotations.map(|count| count.saturating_sub(2)),
            Happens::Set(enabled, days) => (rotation.enabled, rotation.interval_days) = (enabled, Some(days)),
            Happens::Written(days) => {
                let interval = RotationInterval::from_days(days).unwrap();
                (rotation.enabled, rotation.interval_days) = (true, Some(days.into()));
                history.written(Step::UpdateInterval(interval), at);
            }
            Happens::MaybeWritten => history.maybe_written(),
            Happens::Gap => at += 30 * DAY,
        }
        at += HOUR;
        let state = Some(CloudState::Enabled);
        history.observe(Observation { rotation, state, at, read_at: at, gap_after: at + DAY });
    }
    history
}

/// The report of a run that has read the key.
fn report(history: &History) -> KeyReport {
    let last = history.last();
    KeyReport {
        created: history.created,
        rotation: last.map(|last| last.rotation),
        observed: last.map(|last| last.read_at),
        material_since: history.material().since,
        rotation_due: history.rotation_due(),
        overdue_from: history.overdue_from(2 * DAY),
        ..compliant(1)
    }
}

fn restored(past: &KeyPast) -> KeyPast {
    let state = KeyState::of(&report(&past.history));
    let memory: KeyMemory = serde_json::from_str(&serde_json::to_string(&KeyMemory::of(past)).unwrap()).unwrap();
    let last = past.history.last();
    memory.past(&state, last.map(|last| last.read_at), last.map(|last| last.gap_after))
}

proptest! {
    #![proptest_config(crate::properties::config())]

    #[test]
    fn the_memory_of_a_key_survives_a_restart(
        events in proptest::collection::vec(happens(), 0..20),
        repairs in 0..3_u32,
        is_refused in any::<bool>(),
    ) {
        let past = KeyPast {
            history: history(&events),
            repairs: (0..repairs).map(|hours| began() + hours * HOUR).collect(),
            refused: is_refused.then(|| (RotationBlocker::RotationUnsupported, began())),
            described: None,
            interval_due: RotationInterval::from_days(90).filter(|_| is_refused),
        };
        prop_assert_eq!(restored(&past), past);
    }
}

#[test]
fn a_usual_key_needs_little_memory() {
    let past =
        KeyPast { history: history(&[Happens::Nothing, Happens::Rotated, Happens::Nothing]), ..KeyPast::default() };
    let memory = serde_json::to_string(&KeyMemory::of(&past)).unwrap();
    let expected = r#"{"key_state":"enabled","undisturbed_since":"2026-01-01T02:00:00.000Z"}"#;
    assert_eq!(memory, expected);
}

#[test]
fn a_key_that_was_disabled_is_looked_at_again_after_a_restart() {
    let past = KeyPast { history: history(&[Happens::Nothing]), ..KeyPast::default() };
    let mut state = KeyState::of(&report(&past.history));
    for (reason, expected) in [
        ("key_disabled", Some(RotationBlocker::Disabled)),
        ("pending_deletion", Some(RotationBlocker::PendingDeletion)),
        ("imported_material", None),
        ("rotation_unproven", None),
    ] {
        state.reasons = vec![reason.to_owned()];
        assert_eq!(KeyMemory::default().past(&state, None, None).described, expected, "{reason}");
    }
}
