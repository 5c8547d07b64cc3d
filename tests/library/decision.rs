//! Properties of the decision, for every desired and observed state.

use kms_rotationd::rotation::decide::{Reason, Status, Step, decide_setting};
use kms_rotationd::rotation::key::{
    Bound, CallFailure, DesiredRotation, Reading, Reapply, Rotation, RotationBlocker, RotationInterval,
};
use kms_rotationd::rotation::material::Material;
use kms_rotationd::rotation::observed::{Enabling, Hold, ObservedKey, WrittenBefore};
use proptest::option;
use proptest::prelude::*;

fn interval() -> impl Strategy<Value = RotationInterval> {
    prop_oneof![Just(30), Just(90), Just(365), 30..=365u16].prop_map(|days| RotationInterval::from_days(days).unwrap())
}

fn desired() -> impl Strategy<Value = DesiredRotation> {
    let reapply = prop_oneof![Just(Reapply::OnDrift), Just(Reapply::Always)];
    let bound = prop_oneof![3 => Just(Bound::Exact), 1 => Just(Bound::Longest)];
    (interval(), bound, reapply).prop_map(|(interval, bound, reapply)| DesiredRotation { interval, bound, reapply })
}

fn rotation() -> impl Strategy<Value = Rotation> {
    let days = prop_oneof![Just(30), Just(90), Just(365), any::<u32>()];
    (any::<bool>(), option::of(days)).prop_map(|(enabled, interval_days)| Rotation {
        enabled,
        interval_days,
        last_rotated: None,
        rotations: None,
    })
}

fn reading() -> impl Strategy<Value = Reading> {
    let failure = prop_oneof![
        Just(CallFailure::NotFound),
        Just(CallFailure::AccessDenied),
        Just(CallFailure::Throttled),
        Just(CallFailure::Authentication),
        Just(CallFailure::LoginUnavailable),
        Just(CallFailure::Other),
    ];
    prop_oneof![
        6 => rotation().prop_map(Reading::Rotation),
        1 => Just(Reading::NotOffered),
        1 => failure.prop_map(Reading::Failed),
    ]
}

fn blocker() -> impl Strategy<Value = RotationBlocker> {
    prop_oneof![
        Just(RotationBlocker::DefaultKey),
        Just(RotationBlocker::ImportedMaterial),
        Just(RotationBlocker::UnsupportedKeyType),
        Just(RotationBlocker::CustomKeystore),
        Just(RotationBlocker::ReplicaKey),
        Just(RotationBlocker::RotationUnsupported),
        Just(RotationBlocker::Disabled),
        Just(RotationBlocker::PendingDeletion),
    ]
}

fn write_failure() -> impl Strategy<Value = CallFailure> {
    prop_oneof![
        Just(CallFailure::NotFound),
        Just(CallFailure::AccessDenied),
        Just(CallFailure::Throttled),
        Just(CallFailure::Authentication),
        Just(CallFailure::LoginUnavailable),
        Just(CallFailure::Unproven),
        Just(CallFailure::Other),
    ]
}

prop_compose! {
    fn observed()(
        reading in reading(),
        blocker in option::weighted(0.2, blocker()),
        enabling in prop_oneof![Just(Enabling::NotSent), Just(Enabling::Accepted), Just(Enabling::AlreadyOn)],
        interval_sent in any::<bool>(),
        written_before in prop_oneof![
            Just(WrittenBefore::Nothing),
            Just(WrittenBefore::IntervalDue),
            interval().prop_map(WrittenBefore::Interval),
        ],
        failure in option::weighted(0.2, write_failure()),
        hold in option::weighted(0.2, prop_oneof![Just(Hold::ChangeLimit), Just(Hold::Flapping)]),
    ) -> ObservedKey {
        ObservedKey { reading, blocker, enabling, interval_sent, written_before, failure, hold, material: Material::default() }
    }
}

fn on_policy(desired: DesiredRotation, observed: &ObservedKey) -> bool {
    let longest = u32::from(desired.interval.days());
    let shortest = if desired.bound == Bound::Longest { 30 } else { longest };
    matches!(observed.reading, Reading::Rotation(Rotation { enabled: true, interval_days: Some(days), .. })
        if (shortest..=longest).contains(&days))
}

/// A KMS without faults, as far as one key's rotation goes.
fn carry_out(step: Step, key: &mut ObservedKey, cloud: &mut Rotation) {
    match step {
        Step::EnableRotation if cloud.enabled => key.enable_found_on(),
        Step::EnableRotation => {
            (cloud.enabled, cloud.interval_days) = (true, Some(365));
            key.enable_accepted();
        }
        Step::UpdateInterval(_) if !cloud.enabled => key.interval_found_off(),
        Step::UpdateInterval(interval) => {
            cloud.interval_days = Some(u32::from(interval.days()));
            key.interval_accepted();
        }
    }
}

proptest! {
    #![proptest_config(super::properties::config())]

    #[test]
    fn only_a_proven_setting_is_compliant(desired in desired(), observed in observed()) {
        let verdict = decide_setting(desired, &observed);
        if verdict.status == Status::Compliant {
            prop_assert!(on_policy(desired, &observed));
            // A key on policy has a reason only if a write was made nevertheless, and failed.
            prop_assert_eq!(verdict.reasons.is_empty(), observed.failure.is_none());
        } else {
            prop_assert!(!verdict.reasons.is_empty(), "{verdict:?}");
        }
    }

    #[test]
    fn a_compliant_key_is_not_written_unless_the_policy_reapplies(interval in interval(), mut observed in observed()) {
        let rotation = Rotation {
            enabled: true,
            interval_days: Some(u32::from(interval.days())),
            last_rotated: None,
            rotations: None,
        };
        observed.reading = Reading::Rotation(rotation);
        let verdict = decide_setting(DesiredRotation::exactly(interval), &observed);
        prop_assert!(verdict.steps.is_empty());
    }

    #[test]
    fn no_step_has_an_interval_other_than_the_policys(desired in desired(), observed in observed()) {
        for step in decide_setting(desired, &observed).steps.iter() {
            let own = observed.interval_days().filter(|_| on_policy(desired, &observed));
            let is_right = match step {
                Step::EnableRotation => true,
                Step::UpdateInterval(sent) => sent == desired.interval || own == Some(u32::from(sent.days())),
            };
            prop_assert!(is_right, "{step}");
        }
    }

    #[test]
    fn an_accepted_write_is_not_sent_again_in_the_run(desired in desired(), observed in observed()) {
        let steps = decide_setting(desired, &observed).steps;
        if observed.enabling != Enabling::NotSent {
            prop_assert!(!steps.iter().any(|step| step == Step::EnableRotation));
        }
        // Enabling sets the default interval, so the policy's is sent afterwards even if it was sent before.
        if observed.interval_sent && observed.enabling != Enabling::NotSent {
            prop_assert!(steps.is_empty());
        }
    }

    #[test]
    fn a_blocked_failed_or_unread_key_is_not_written(desired in desired(), observed in observed()) {
        let steps = decide_setting(desired, &observed).steps;
        let blocked = observed.blocker.is_some() && !on_policy(desired, &observed);
        let held = observed.hold.is_some() && !on_policy(desired, &observed);
        if blocked || held || observed.failure.is_some() || matches!(observed.reading, Reading::Failed(_)) {
            prop_assert!(steps.is_empty());
        }
    }

    #[test]
    fn an_unread_key_is_unknown_unless_a_blocker_is_known(desired in desired(), observed in observed()) {
        let verdict = decide_setting(desired, &observed);
        if !matches!(observed.reading, Reading::Rotation(_)) && observed.blocker.is_none() {
            prop_assert_eq!(verdict.status, Status::Unknown);
        }
    }

    #[test]
    fn the_steps_lead_to_the_policy_or_stop_with_a_reason(
        desired in desired(),
        mut cloud in rotation(),
        set_before in any::<bool>(),
        readable in any::<bool>(),
    ) {
        let reading = |cloud: Rotation| if readable { Reading::Rotation(cloud) } else { Reading::NotOffered };
        let mut key = ObservedKey::new(reading(cloud));
        if set_before {
            key.written_before = WrittenBefore::Interval(desired.interval);
        }
        let mut writes = 0;
        let last = loop {
            let verdict = decide_setting(desired, &key);
            let Some(step) = verdict.steps.first() else { break verdict };
            writes += 1;
            prop_assert!(writes <= 3, "does not end");
            carry_out(step, &mut key, &mut cloud);
            key.reading = reading(cloud);
        };
        if readable && cloud.interval_days.is_some() {
            prop_assert_eq!(last.status, Status::Compliant);
            prop_assert!(cloud.interval_days.is_some_and(|days| desired.accepts(days)));
        } else {
            prop_assert!(cloud.enabled);
            prop_assert!(readable || last.reasons.contains(Reason::StatusUnreadable));
        }
    }
}
