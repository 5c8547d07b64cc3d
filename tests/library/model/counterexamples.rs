//! What deeper searches than the default one have found, replayed in each run of the tests.

use kms_rotationd::rotation::key::DesiredRotation;

use super::explore::{Root, Then, replay};
use super::fault::{Decision, Fault, Interruption, Plan};
use super::key::{Key, Kind};
use super::process::Setting;
use super::{policies, runtime, setting};

fn fails(call: usize, fault: Fault) -> Decision {
    Decision { call, fault: Some(fault), interruption: None }
}

fn stops(call: usize) -> Decision {
    Decision { call, fault: None, interruption: Some(Interruption::Stop) }
}

#[track_caller]
fn assert_mended(setting: Setting, keys: &[Key], runs: &[(Plan, Then)]) {
    let root = Root { setting, keys: keys.to_vec() };
    if let Err(why) = replay(&runtime(), &root, runs) {
        panic!("{why}");
    }
}

/// Enabling that has an unclear end where the reading was answered without the setting.
fn unclear_enabling() -> Plan {
    vec![fails(0, Fault::NotOffered), fails(1, Fault::NotApplied)]
}

#[test]
fn an_interval_is_not_sent_at_the_stop_to_a_key_that_is_off_or_refuses_it() {
    let [days_90, days_365, ..] = policies();
    let assert_mended = |desired: DesiredRotation, kind, on, then, stops_at| {
        let runs = [(unclear_enabling(), then), (vec![stops(stops_at)], Then::NewProcess)];
        assert_mended(setting(desired), &[Key::new(kind, on)], &runs);
    };
    assert_mended(days_90, Kind::Disabled, None, Then::SameProcess, 1);
    assert_mended(days_90, Kind::Disabled, Some(365), Then::SameProcess, 1);
    assert_mended(days_365, Kind::Imported, Some(90), Then::NewProcess, 0);
}

#[test]
fn an_interval_is_sent_once_at_the_stop() {
    let [days_90, ..] = policies();
    let stop = Decision { interruption: Some(Interruption::Stop), ..fails(1, Fault::NotApplied) };
    let runs = [(vec![stop], Then::NewProcess)];
    assert_mended(setting(days_90), &[Key::new(Kind::NotOffered, None)], &runs);
}

#[test]
fn an_interval_that_could_not_be_sent_at_the_stop_is_sent_by_the_next_process() {
    let [_, _, at_most_90, ..] = policies();
    let stop = Decision { interruption: Some(Interruption::Stop), ..fails(0, Fault::Login) };
    let runs = [(vec![fails(1, Fault::ServerErrorApplied)], Then::SameProcess), (vec![stop], Then::NewProcess)];
    assert_mended(setting(at_most_90), &[Key::new(Kind::NotOffered, None)], &runs);
}

#[test]
fn an_unclear_enabling_counts_as_a_change() {
    let [_, _, at_most_90, ..] = policies();
    let setting = Setting { most_changes: Some(1), ..setting(at_most_90) };
    let keys = [Some(365), Some(365)].map(|on| Key::new(Kind::NotOffered, on));
    let unclear = vec![fails(3, Fault::NotApplied), fails(6, Fault::NotApplied)];
    let failed = vec![fails(3, Fault::NotApplied), fails(5, Fault::ServerErrorApplied), fails(6, Fault::NotApplied)];
    for plan in [unclear, failed] {
        let runs = [(vec![], Then::SameProcess), (vec![], Then::SameProcess), (plan, Then::SameProcess)];
        assert_mended(setting, &keys, &runs);
    }
}
