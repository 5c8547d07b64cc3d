//! What holds for every log: shares, days, and the order of projects.

use kms_rotationd::audit::model::{Key, Report, Shown, Verdict};
use kms_rotationd::audit::{Request, make};
use kms_rotationd::evidence::record::WritePhase;
use kms_rotationd::rotation::decide::Status;
use proptest::prelude::*;

use super::audit_log::{EvidenceLog, id};
use super::{report, request};
use crate::properties::config;

/// What happens to a key, or to all.
#[derive(Clone, Debug)]
enum Happening {
    Wait(u64),
    Run,
    OffPolicy(usize),
    Repair(usize),
    DriftAndRepair(usize),
    Rotate(usize),
    Unknown(usize),
    Known(usize),
    Exempt(usize),
    Unreadable(usize),
    Readable(usize),
    Fail(usize),
    Segment,
}

const KEYS: usize = 4;

fn happening() -> impl Strategy<Value = Happening> {
    let key = || 0..KEYS;
    prop_oneof![
        3 => (1_u64..60).prop_map(Happening::Wait),
        6 => Just(Happening::Run),
        1 => key().prop_map(Happening::OffPolicy),
        1 => key().prop_map(Happening::Repair),
        1 => key().prop_map(Happening::DriftAndRepair),
        1 => key().prop_map(Happening::Rotate),
        1 => key().prop_map(Happening::Unknown),
        1 => key().prop_map(Happening::Known),
        1 => key().prop_map(Happening::Exempt),
        1 => key().prop_map(Happening::Fail),
        1 => (0_usize..2).prop_map(Happening::Unreadable),
        1 => (0_usize..2).prop_map(Happening::Readable),
        1 => Just(Happening::Segment),
    ]
}

const PROJECTS: [&str; 2] = ["payments", "orders"];

/// Writes what happens; keys are in the first or the second of these projects.
fn write(happenings: &[Happening], order: [&str; 2]) -> tempfile::TempDir {
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &order);
    log.signs_runs = false;
    let project = |key: usize| PROJECTS[key % 2];
    for name in order {
        for key in (0..KEYS).filter(|key| project(*key) == name) {
            let state = log.on_policy(&format!("key {key}"), 20 * key as u64);
            log.appear(name, &id(key), state);
        }
    }
    log.run();
    for happening in happenings {
        match *happening {
            Happening::Wait(hours) => log.wait(hours),
            Happening::Run => {
                log.wait(12);
                log.run();
            }
            Happening::OffPolicy(key) => log.off_policy(project(key), &id(key)),
            Happening::Repair(key) => log.back_on_policy(project(key), &id(key)),
            Happening::DriftAndRepair(key) => log.drift_and_repair(project(key), &id(key)),
            Happening::Rotate(key) => log.rotate(project(key), &id(key), 0),
            Happening::Unknown(key) => log.unknown(project(key), &id(key)),
            Happening::Known(key) => log.known(project(key), &id(key)),
            Happening::Exempt(key) => log.exempt(project(key), &id(key), "2026-12-31"),
            Happening::Unreadable(at) => log.unreadable(PROJECTS[at]),
            Happening::Readable(at) => log.readable(PROJECTS[at]),
            Happening::Fail(key) => log.write(project(key), &id(key), WritePhase::Failed),
            Happening::Segment => log.begin_segment(),
        }
    }
    log.run();
    log.close()
}

/// Everything of a report that does not depend on the bytes of the log.
fn content(report: &Report) -> String {
    let observer = &report.observers[0];
    format!("{:?} {:?} {:?} {:?} {:?}", observer.keys, observer.projects, observer.gaps, observer.sample, report.totals)
}

fn sum(Key { shares, .. }: &Key) -> f64 {
    let [a, b, c] = [shares.compliant, shares.non_compliant, shares.unknown];
    a + b + c + shares.exempt + shares.uncovered + shares.not_looked
}

proptest! {
    // Each case writes and verifies a log.
    #![proptest_config(ProptestConfig { cases: config().cases / 10, ..config() })]

    #[test]
    fn shares_sum_to_one_and_nothing_is_outside_the_days(
        happenings in proptest::collection::vec(happening(), 0..40),
        (first, length) in (-3_i64..20, 0_i64..20),
    ) {
        let log = write(&happenings, PROJECTS);
        let day = |at: i64| {
            jiff::civil::date(2026, 1, 1).checked_add(jiff::Span::new().days(at)).unwrap().to_string().parse().unwrap()
        };
        let wanted = Request { from: Some(day(first)), to: Some(day(first + length)), ..request(&[log.path()]) };
        let Ok(found) = make(&wanted) else { return Ok(()) };
        let (from, to) = (day(first).start(), day(first + length).end());
        prop_assert!(from <= found.period.begins_at && found.period.ends_at <= to);
        let observer = &found.observers[0];
        for key in &observer.keys {
            prop_assert!((sum(key) - 1.0).abs() < 1e-9, "{:?}", key.shares);
            let inside = |at| found.period.begins_at <= at && at <= found.period.ends_at;
            let mut times = vec![key.from, key.to];
            times.extend(key.timeline.iter().flat_map(|piece| [piece.from, piece.to]));
            times.extend(key.off_policy.iter().chain(&key.not_shown).flat_map(|stretch| [stretch.from, stretch.to]));
            times.extend(key.rotations.iter().map(|rotation| rotation.recorded_at));
            times.extend(key.departures.iter().map(|departure| departure.at));
            prop_assert!(times.into_iter().all(inside), "{key:?}");
            prop_assert!(key.timeline.windows(2).all(|pair| pair[0].to <= pair[1].from), "{:?}", key.timeline);
            prop_assert!(key.days_not_looked <= key.days && key.days <= observer.days);
        }
        for gap in &observer.gaps {
            prop_assert!(from <= gap.from && gap.to <= to);
        }
    }

    #[test]
    fn the_order_of_projects_changes_nothing(happenings in proptest::collection::vec(happening(), 0..30)) {
        let (one, other) = (write(&happenings, PROJECTS), write(&happenings, ["orders", "payments"]));
        prop_assert_eq!(content(&report(one.path())), content(&report(other.path())));
        let of = |projects: [&str; 2]| {
            let projects = projects.map(str::to_owned).to_vec();
            make(&Request { projects, ..request(&[one.path()]) }).unwrap()
        };
        let (one, other) = (of(PROJECTS), of(["orders", "payments"]));
        prop_assert_eq!(content(&one), content(&other));
        prop_assert_eq!(one.parameters, other.parameters);
    }

    /// A day that is judged in a longer period is judged the same way: nothing of a part is worse than of the whole.
    #[test]
    fn a_key_that_is_met_over_the_whole_log_is_met_over_each_part(
        happenings in proptest::collection::vec(happening(), 0..40),
        from in 0_i64..20,
    ) {
        let log = write(&happenings, PROJECTS);
        let whole = report(log.path());
        let day = jiff::civil::date(2026, 1, 1).checked_add(jiff::Span::new().days(from)).unwrap();
        let Ok(part) = make(&Request { from: day.to_string().parse().ok(), ..request(&[log.path()]) }) else {
            return Ok(());
        };
        for (whole, part) in whole.observers[0].keys.iter().zip(&part.observers[0].keys) {
            let was_read = part.timeline.iter().any(|piece| piece.shown != Shown::Status(Status::Unknown));
            if whole.verdict == Verdict::Met && was_read {
                prop_assert!(matches!(part.verdict, Verdict::Met | Verdict::NotApplicable), "{:?}", part);
            }
        }
    }
}
