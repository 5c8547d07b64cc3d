//! Runs on keys with a readable setting.

use kms_simulator::{Dialect, Fault, Hold, Key, KeyState, Operation, OperationSet, Rule};
use rustix::process::Signal;

use super::cloud::{Cloud, off, rotating, setup, unlisted};
use super::site::{Policy, Site};
use super::{KEY, PROJECT, eventually, key_id};

#[test]
fn a_key_that_is_off_is_enabled_and_set_to_the_policys_interval() {
    let cloud = Cloud::of([off()]);
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!(cloud.rotation(KEY), (true, 90));
    assert_eq!(cloud.asked(Operation::EnableRotation), 1);
    assert_eq!(cloud.sent(KEY), [90]);
}

#[test]
fn a_key_that_is_off_is_only_enabled_if_the_policy_has_the_default_interval() {
    let cloud = Cloud::of([off()]);
    let applied = Site::new(&Policy::at(cloud.url()).key(KEY, 365)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!(cloud.rotation(KEY), (true, 365));
    assert_eq!(cloud.write_requests(), 1);
}

#[test]
fn a_key_with_another_interval_gets_the_policys_without_enabling() {
    let cloud = Cloud::of([rotating(365)]);
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!(cloud.rotation(KEY), (true, 90));
    assert_eq!((cloud.write_requests(), cloud.sent(KEY)), (1, vec![90]));
}

#[test]
fn a_key_that_is_off_with_the_right_interval_gets_it_again_after_enabling() {
    let mut key = rotating(90);
    key.rotation.enabled = false;
    let cloud = Cloud::of([key]);
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!(cloud.rotation(KEY), (true, 90));
}

#[test]
fn a_key_on_policy_costs_one_request_plus_list_and_token() {
    let keys: Vec<_> = (0..7).map(key_id).collect();
    let cloud = Cloud::of(keys.iter().map(|id| Key::new(id).rotating(90)));
    let applied = Site::new(&Policy::of_keys(cloud.url(), keys).password(None)).apply();
    assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 7));
    assert_eq!(cloud.requests(Operation::ReadStatus), 7);
    assert_eq!(cloud.requests(Operation::Authenticate), 1);
    assert_eq!(cloud.requests(Operation::ListKeys), 1);
    assert_eq!(cloud.all_requests(), 9);
}

#[test]
fn second_run_makes_no_write() {
    let keys = [Key::new(key_id(0)), Key::new(key_id(1)).rotating(365), Key::new(key_id(2)).rotating(90)];
    let cloud = Cloud::of(keys);
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..3).map(key_id)));
    assert_eq!(site.apply().code, Some(0));
    assert_eq!(cloud.write_requests(), 3);
    cloud.forget_requests();
    assert_eq!(site.apply().code, Some(0));
    assert_eq!((cloud.write_requests(), cloud.all_requests()), (0, 4));
}

#[test]
fn reapply_always_sends_the_interval_once_in_every_run() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::at(cloud.url()).always(KEY, 90));
    for runs in 1..=3 {
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
        assert_eq!(cloud.sent(KEY), vec![90; runs]);
    }
    assert_eq!(cloud.asked(Operation::EnableRotation), 0);
}

#[test]
fn reapply_always_does_not_send_twice_in_a_run_that_had_to_enable() {
    let cloud = Cloud::of([off()]);
    let applied = Site::new(&Policy::at(cloud.url()).always(KEY, 90)).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!(cloud.sent(KEY), [90]);
}

#[test]
fn keys_that_can_never_rotate_are_exempt_with_their_reason_and_never_written() {
    type Make = fn(Key) -> Key;
    let kinds: [(Make, &str); 7] = [
        (|key| key.default_of("evs"), "exempt: default_key"),
        (Key::imported, "exempt: imported_material"),
        (|key| key.spec("RSA_2048"), "exempt: unsupported_key_type"),
        (|key| key.spec("EC_P256"), "exempt: unsupported_key_type"),
        (|key| key.spec("HMAC_256"), "exempt: unsupported_key_type"),
        (|key| key.keystore("6b5a"), "exempt: custom_keystore"),
        (Key::replica, "exempt: replica_key"),
    ];
    // Not documented: the status call refuses such keys, or returns that rotation is off.
    for refused in [false, true] {
        let keys = kinds.iter().enumerate().map(|(at, (make, _))| make(Key::new(key_id(at))));
        let cloud = Cloud::start(setup(keys).behave(|behaviour| behaviour.status_refused_where_unrotatable = refused));
        let applied = Site::new(&Policy::of_keys(cloud.url(), (0..kinds.len()).map(key_id))).apply();
        for (at, (_, expected)) in kinds.iter().enumerate() {
            assert_eq!(applied.key(&key_id(at)), *expected, "status refused: {refused}");
        }
        assert_eq!((applied.code, cloud.write_requests()), (Some(0), 0));
    }
}

#[test]
fn keys_of_a_region_without_rotation_are_exempt() {
    let cloud = Cloud::start(setup([off()]).behave(|behaviour| behaviour.rotation_offered = false));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "exempt: rotation_unsupported"));
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn a_refused_write_gives_the_reason_if_describe_key_failed() {
    let cloud = Cloud::start(
        setup([off().imported()])
            .behave(|b| b.forbidden = OperationSet::of(&[Operation::ListKeys, Operation::DescribeKey])),
    );
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "exempt: imported_material"));
    assert_eq!(cloud.write_requests(), 1);
}

#[test]
fn a_permanent_refusal_is_not_repeated_until_an_operator_acts() {
    // Neither list nor description of Open Telekom Cloud has keystores.
    let silent = setup([off().keystore("6b5a")]).behave(|b| b.dialect = Dialect::OpenTelekomCloud);
    let cloud = Cloud::start(silent);
    let site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
    let daemon = site.run();
    daemon.await_runs(3);
    assert_eq!(daemon.status().key(KEY), "exempt: custom_keystore");
    assert_eq!(cloud.write_requests(), 1);
    daemon.signal(Signal::HUP);
    eventually("asked again", || cloud.write_requests() == 2);
}

#[test]
fn a_disabled_key_is_off_policy_not_written_and_read_again_in_the_next_run() {
    let cloud = Cloud::of([off().state(KeyState::Disabled)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "non_compliant: key_disabled");
    assert_eq!(cloud.write_requests(), 0);
    cloud.change_key(PROJECT, KEY, |key| key.state = KeyState::Enabled);
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    assert_eq!(daemon.status().key(KEY), "compliant");
    assert_eq!(cloud.rotation(KEY), (true, 90));
}

#[test]
fn a_key_pending_deletion_is_off_policy_and_not_written() {
    let cloud = Cloud::of([off().state(KeyState::PendingDeletion)]);
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "non_compliant: pending_deletion"));
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn a_missing_key_is_unknown_and_not_written() {
    let cloud = Cloud::of([]);
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: not_found"));
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn one_bad_key_does_not_keep_the_others_from_their_policy() {
    let cloud = Cloud::of([Key::new(key_id(0)), Key::new(key_id(2)).state(KeyState::Disabled), Key::new(key_id(3))]);
    let applied = Site::new(&Policy::of_keys(cloud.url(), (0..4).map(key_id))).apply();
    assert_eq!(applied.code, Some(1));
    assert_eq!((cloud.rotation(&key_id(0)), cloud.rotation(&key_id(3))), ((true, 90), (true, 90)));
    assert_eq!(applied.report().count("compliant"), 2);
}

#[test]
fn writes_that_become_visible_late_are_not_repeated() {
    let cloud = Cloud::start(setup([off()]).behave(|behaviour| behaviour.visibility_lag = 2));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!((cloud.asked(Operation::EnableRotation), cloud.sent(KEY)), (1, vec![90]));
}

#[test]
fn a_write_that_never_becomes_visible_is_not_verified_after_some_reads() {
    let cloud = Cloud::start(setup([rotating(365)]).behave(|behaviour| behaviour.visibility_lag = u32::MAX));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "non_compliant: interval_mismatch, not_verified"));
    assert_eq!(cloud.sent(KEY), [90]);
    assert!(cloud.asked(Operation::ReadStatus) <= 10);
}

#[test]
fn an_interval_refused_because_rotation_is_off_starts_the_key_again() {
    let cloud = Cloud::start(
        setup([rotating(365)]).fault(Rule::next(1, Fault::kms(400, "KMS.0313")).on(Operation::UpdateInterval)),
    );
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    assert_eq!(cloud.sent(KEY), [90, 90]);
}

#[test]
fn a_key_switched_off_in_mid_run_is_enabled_again() {
    let cloud = Cloud::start(unlisted(rotating(365)));
    // The run describes the key before its first write.
    let hold = Hold::new();
    cloud.fault(Rule::next(1, Fault::held(&hold)).on(Operation::DescribeKey));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    cloud.await_requests(Operation::DescribeKey, 1);
    cloud.change_key(PROJECT, KEY, |key| key.rotation.enabled = false);
    hold.release();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "compliant");
    assert_eq!((cloud.rotation(KEY), cloud.asked(Operation::EnableRotation)), ((true, 90), 1));
    assert_eq!(cloud.sent(KEY), [90, 90], "the first was refused with KMS.0313");
}

#[test]
fn a_run_ends_although_a_key_is_switched_off_again_and_again() {
    let off_again = Rule::always(Fault::kms(400, "KMS.0313")).on(Operation::UpdateInterval);
    let cloud = Cloud::start(setup([off()]).fault(off_again));
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!(applied.code, Some(1));
    assert_eq!(applied.key(KEY), "non_compliant: interval_mismatch, write_failed");
    assert!(cloud.sent(KEY).len() <= 5, "{:?}", cloud.sent(KEY));
}

#[test]
fn a_key_that_drifts_between_runs_is_repaired() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.change_key(PROJECT, KEY, |key| key.rotation.interval_days = 180);
    eventually("the interval is the policy's again", || cloud.rotation(KEY) == (true, 90));
    cloud.change_key(PROJECT, KEY, |key| key.rotation.enabled = false);
    eventually("rotation is on again", || cloud.rotation(KEY) == (true, 90));
    cloud.assert_only_sent(90);
}
