//! An exhaustive check of the real run over a bounded model: every found state × policy × every sequence of faults × a
//! kill or a stop after every call × the next runs, in the same process or after a restart. `docs/checked.md` describes
//! the model and what it assumes.
//!
//! By default the bound is small enough for every test run. This is the full one:
//!
//! ```sh
//! MODEL_DEPTH=4 cargo test --locked --test library model:: -- --nocapture
//! ```

mod cloud;
mod counterexamples;
mod explore;
mod fault;
mod key;
mod log;
mod process;
mod rules;
mod writes;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kms_rotationd::reconcile::Intent;
use kms_rotationd::rotation::key::{Bound as IntervalBound, DesiredRotation, Reapply, RotationInterval};
use kms_rotationd::rotation::project::Mode;

use explore::{Bound, Root, Visited, explore};
use key::{Key, Kind};
use process::Setting;
use tokio::runtime::Runtime;

/// The policies of the model.
fn policies() -> [DesiredRotation; 5] {
    let exactly = |days| DesiredRotation::exactly(RotationInterval::from_days(days).unwrap());
    let at_most = DesiredRotation { bound: IntervalBound::Longest, ..exactly(90) };
    let always = |desired| DesiredRotation { reapply: Reapply::Always, ..desired };
    [exactly(90), exactly(365), at_most, always(exactly(90)), always(at_most)]
}

/// The keys as they are found.
fn found() -> Vec<Key> {
    let usual = [None, Some(60), Some(90), Some(180), Some(365)].map(|on| Key::new(Kind::Usual, on));
    let not_offered = [None, Some(60), Some(365)].map(|on| Key::new(Kind::NotOffered, on));
    let others = [
        (Kind::Disabled, None),
        (Kind::Disabled, Some(90)),
        (Kind::Disabled, Some(365)),
        (Kind::PendingDeletion, None),
        (Kind::Imported, None),
        (Kind::Imported, Some(90)),
        (Kind::Unsupported, None),
        (Kind::ReadRefused, None),
    ];
    let others = others.map(|(kind, on)| Key::new(kind, on));
    usual.into_iter().chain(not_offered).chain(others).collect()
}

fn setting(desired: DesiredRotation) -> Setting {
    Setting { desired, intent: Intent::Apply, mode: Mode::Enforce, most_changes: None }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// How much may happen on the way from a found state: faults, of which three are the most, and one kill or stop.
fn bound(default: usize) -> Bound {
    let wanted = std::env::var_os("MODEL_DEPTH").map(|depth| depth.to_str().unwrap().parse().unwrap());
    let all: usize = wanted.map_or(default, |wanted: usize| wanted.max(default));
    Bound { faults: all.min(3), interruptions: 1, all }
}

/// Searches from every root, and prints how much was visited. `least` is what the default bound visits at least: a
/// model that shrinks by mistake would find nothing.
#[expect(clippy::print_stdout, reason = "the size of the search is its result; shown with --nocapture")]
fn check(name: &str, roots: &[Root], bound: Bound, least: Visited) {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(vec![None; roots.len()]));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let runtime = runtime();
                while let Some(root) = roots.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = explore(&runtime, root, bound);
                    let at = roots.iter().position(|other| std::ptr::eq(other, root)).unwrap();
                    results.lock().unwrap()[at] = Some(result);
                }
            });
        }
    });
    let mut visited = Visited::default();
    for result in results.into_inner().unwrap().into_iter().flatten() {
        match result {
            Ok(of_root) => visited.add(of_root),
            Err(why) => panic!("{name}: {why}"),
        }
    }
    let Visited { states, schedules, runs } = visited;
    println!("{name}: visited {states} states in {schedules} schedules ({runs} runs), {bound:?}");
    let has_shrunk = states < least.states || schedules < least.schedules || runs < least.runs;
    assert!(!has_shrunk, "{name}: the model has shrunk to {visited:?}");
}

fn one_key(policies: &[DesiredRotation], keys: &[Key]) -> Vec<Root> {
    let roots = policies.iter().flat_map(|desired| {
        let setting = setting(*desired);
        keys.iter().map(move |key| Root { setting, keys: vec![*key] })
    });
    roots.collect()
}

#[test]
fn one_key_is_never_left_worse_or_called_on_policy_or_written_without_need() {
    let roots = one_key(&policies(), &found());
    check("one key", &roots, bound(1), Visited { states: 3_700, schedules: 12_200, runs: 26_500 });
}

/// The repairs of one key, deeper by default.
#[test]
fn one_key_that_is_repaired_survives_two_faults() {
    let [exactly, _, at_most, ..] = policies();
    let keys = [Key::new(Kind::Usual, None), Key::new(Kind::Usual, Some(365)), Key::new(Kind::NotOffered, None)];
    let roots = one_key(&[exactly, at_most], &keys);
    check("one key, deeper", &roots, bound(2), Visited { states: 1_800, schedules: 16_000, runs: 28_000 });
}

#[test]
fn two_keys_share_a_limit_of_one_change() {
    let usual = |on| Key::new(Kind::Usual, on);
    let not_offered = |on| Key::new(Kind::NotOffered, on);
    let pairs = [
        [usual(None), usual(None)],
        [usual(None), usual(Some(365))],
        [usual(Some(365)), usual(None)],
        [usual(Some(90)), usual(None)],
        [Key::new(Kind::Disabled, None), usual(None)],
        [Key::new(Kind::Disabled, Some(365)), usual(None)],
        [not_offered(None), not_offered(None)],
        [not_offered(Some(365)), not_offered(None)],
    ];
    let [exactly, _, at_most, always, _] = policies();
    let roots: Vec<_> = [exactly, at_most, always]
        .into_iter()
        .flat_map(|desired| {
            let setting = Setting { most_changes: Some(1), ..setting(desired) };
            pairs.map(|keys| Root { setting, keys: keys.to_vec() })
        })
        .collect();
    check("two keys", &roots, bound(1), Visited { states: 3_600, schedules: 13_800, runs: 37_000 });
}

#[test]
fn plans_and_projects_in_monitor_mode_write_nothing() {
    let kinds = [(Intent::Plan, Mode::Enforce), (Intent::Apply, Mode::Monitor)];
    let roots: Vec<_> = kinds
        .into_iter()
        .flat_map(|(intent, mode)| {
            let of_policy = move |desired| {
                let setting = Setting { intent, mode, ..setting(desired) };
                found().into_iter().map(move |key| Root { setting, keys: vec![key] })
            };
            let [exactly, _, at_most, always, _] = policies();
            [exactly, at_most, always].into_iter().flat_map(of_policy)
        })
        .collect();
    check("plan and monitor", &roots, bound(1), Visited { states: 2_200, schedules: 9_000, runs: 17_500 });
}
