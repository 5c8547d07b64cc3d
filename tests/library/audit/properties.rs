//! Properties of the report of any log: shares, days, the order of projects, readings off policy.

use std::path::Path;
use std::time::{Duration, SystemTime};

use kms_rotationd::audit::model::{Key, Report, Shown, Verdict};
use kms_rotationd::audit::time::Day;
use kms_rotationd::audit::{Request, make};
use kms_rotationd::evidence::record::{Cause, Event, KeyState, WritePhase};
use kms_rotationd::rotation::decide::Status;
use proptest::prelude::*;

use super::audit_log::{DAY, EvidenceLog, id, text, time};
use super::{report, report_over, request};
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
    /// The cloud has rotated it twice since the last reading.
    RotateTwice(usize),
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
        1 => key().prop_map(Happening::RotateTwice),
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

/// Of a policy of 90 days with a grace of two.
const MOST_DAYS: u64 = 92;

/// A log, and when a run has read which key while it was off policy or its material too old.
struct Written {
    folder: tempfile::TempDir,
    departures: Vec<(usize, SystemTime)>,
}

impl Written {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The report over this many days after a first one; `None` if the log has no record of them.
    fn report_over(&self, first: i64, length: i64) -> Option<Report> {
        report_over(self.path(), &day(first).to_string(), &day(first + length).to_string()).ok()
    }
}

/// Writes what happens; keys are in the first or the second of these projects.
fn write(happenings: &[Happening], order: [&str; 2]) -> Written {
    let mut departures = Vec::new();
    let mut is_unreadable = [false; 2];
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &order);
    log.signs_runs = false;
    let project = |key: usize| PROJECTS[key % 2];
    for name in order {
        for key in (0..KEYS).filter(|key| project(*key) == name) {
            let state = log.on_policy(&format!("key {key}"), 28 + 20 * key as u64);
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
                let is_read = |key: &usize| !is_unreadable[key % 2];
                let is_off = |key: &usize| is_off_policy(log.state(project(*key), &id(*key)), log.now);
                departures.extend((0..KEYS).filter(is_read).filter(is_off).map(|key| (key, log.now)));
            }
            Happening::OffPolicy(key) => log.off_policy(project(key), &id(key)),
            Happening::Repair(key) => log.back_on_policy(project(key), &id(key)),
            Happening::DriftAndRepair(key) => log.drift_and_repair(project(key), &id(key)),
            Happening::Rotate(key) => log.rotate(project(key), &id(key), 0),
            Happening::RotateTwice(key) => {
                let now = Some(text(log.now));
                log.change(project(key), &id(key), Event::Rotated, Some(Cause::Cloud), |key| {
                    (key.rotations, key.material_since) = (key.rotations.map(|number| number + 2), now.clone());
                    key.last_rotation_at = now;
                });
            }
            Happening::Unknown(key) => log.unknown(project(key), &id(key)),
            Happening::Known(key) => log.known(project(key), &id(key)),
            Happening::Exempt(key) => log.exempt(project(key), &id(key), "2026-12-31"),
            Happening::Unreadable(at) => {
                is_unreadable[at] = true;
                log.unreadable(PROJECTS[at]);
            }
            Happening::Readable(at) => {
                is_unreadable[at] = false;
                log.readable(PROJECTS[at]);
            }
            Happening::Fail(key) => log.write(project(key), &id(key), WritePhase::Failed),
            Happening::Segment => log.begin_segment(),
        }
    }
    log.run();
    Written { folder: log.close(), departures }
}

fn is_off_policy(key: &KeyState, now: SystemTime) -> bool {
    let since = time(key.material_since.as_deref().unwrap());
    let is_old = now.duration_since(since).unwrap() > Duration::from_secs(MOST_DAYS * DAY);
    key.status == "non_compliant" || key.status == "compliant" && key.policy_interval_days.is_some() && is_old
}

/// Everything of a report that does not depend on the bytes of the log.
fn content(report: &Report) -> String {
    let observer = &report.observers[0];
    format!("{:?} {:?} {:?} {:?} {:?}", observer.keys, observer.projects, observer.gaps, observer.sample, report.totals)
}

/// The day of the period with this number.
fn day(at: i64) -> Day {
    jiff::civil::date(2026, 1, 1).checked_add(jiff::Span::new().days(at)).unwrap().to_string().parse().unwrap()
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
        let Some(found) = log.report_over(first, length) else { return Ok(()) };
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
        (first, length) in (0_i64..20, 0_i64..20),
    ) {
        let log = write(&happenings, PROJECTS);
        let whole = report(log.path());
        let Some(part) = log.report_over(first, length) else { return Ok(()) };
        for (whole, part) in whole.observers[0].keys.iter().zip(&part.observers[0].keys) {
            let was_read = part.timeline.iter().any(|piece| piece.shown != Shown::Status(Status::Unknown));
            if whole.verdict == Verdict::Met && was_read {
                prop_assert!(matches!(part.verdict, Verdict::Met | Verdict::NotApplicable), "{:?}", part);
            }
            if part.verdict == Verdict::NotMet {
                prop_assert_eq!(whole.verdict, Verdict::NotMet, "{:?}", part);
            }
        }
    }

    #[test]
    fn a_key_that_a_run_has_read_off_policy_is_not_met(
        happenings in proptest::collection::vec(happening(), 0..40),
        (first, length) in (-1_i64..20, 0_i64..20),
    ) {
        let log = write(&happenings, PROJECTS);
        let Some(found) = log.report_over(first, length) else { return Ok(()) };
        // A reading at the first moment has no time in the period, if it is followed by a gap.
        let is_within = |at: SystemTime| found.period.begins_at < at.into() && found.period.ends_at > at.into();
        for (key, _) in log.departures.iter().filter(|(_, at)| is_within(*at)) {
            let key = found.observers[0].keys.iter().find(|found| *found.key_id == id(*key)).unwrap();
            prop_assert_eq!(key.verdict, Verdict::NotMet, "{:?}", key);
        }
    }
}
