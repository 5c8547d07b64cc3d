//! What the log records of keys, from run to run.

use std::sync::Arc;
use std::time::Duration;

use kms_rotationd::evidence::changes::{Change, Recorded};
use kms_rotationd::evidence::record::{Cause, Event, KeyRecord, KeyState, SnapshotRecord};
use kms_rotationd::rotation::assignment::Subject;
use kms_rotationd::rotation::decide::{Reason, Reasons, Status};
use kms_rotationd::rotation::key::Rotation;
use kms_rotationd::rotation::key_name::KeyName;
use kms_rotationd::rotation::project::Mode;
use kms_rotationd::rotation::report::{KeyReport, ProjectReport, Report};

use crate::output::sample::{at, changed, compliant, off, project, report};

/// A run that found these keys.
fn run(keys: Vec<KeyReport>) -> Arc<Report> {
    report(vec![project("payments", Mode::Enforce, keys)])
}

/// The changes since the run before.
fn changes(recorded: &mut Recorded, run: &Arc<Report>) -> Vec<Change> {
    let mut changes = Vec::new();
    recorded.update(run, |change| changes.push(change));
    changes
}

/// A run, and the changes since the runs before it.
fn after(before: &[Arc<Report>], last: &Arc<Report>) -> Vec<KeyRecord> {
    let mut recorded = Recorded::default();
    for run in before {
        recorded.update(run, |_| ());
    }
    let mut keys = Vec::new();
    recorded.update(last, |change| match change {
        Change::Key(key) => keys.push(*key),
        other => panic!("{other:?}"),
    });
    keys
}

fn events(records: &[KeyRecord]) -> Vec<(Event, Option<Cause>)> {
    records.iter().map(|record| (record.event, record.by)).collect()
}

fn with_setting(key: KeyReport, enabled: bool, days: u32) -> KeyReport {
    let rotation = key.rotation.map(|rotation| Rotation { enabled, interval_days: Some(days), ..rotation });
    KeyReport { rotation, ..key }
}

#[test]
fn the_first_run_has_every_key_and_a_run_without_changes_has_none() {
    let keys = || (0..20).map(compliant).collect::<Vec<_>>();
    let first = after(&[], &run(keys()));
    assert_eq!(events(&first), vec![(Event::Appeared, None); 20]);
    assert!(first.iter().all(|record| record.before.is_none() && record.after.is_some()));
    assert_eq!(after(&[run(keys())], &run(keys())), []);
    let later = KeyReport { observed: Some(at(1)), ..compliant(1) };
    assert_eq!(after(&[run(vec![compliant(1)])], &run(vec![later])), [], "that it was read again is no change");
    // What a later process continues with is no change of the status, and recorded all the same.
    let watched = KeyReport { overdue_from: Some(at(1)), ..compliant(1) };
    assert_eq!(events(&after(&[run(vec![compliant(1)])], &run(vec![watched]))), [(Event::Status, None)]);
}

#[test]
fn a_rotation_has_the_age_of_the_material_that_it_replaced() {
    let old = compliant(50);
    let day = Duration::from_secs(86_400);
    let since = old.material_since.unwrap() + 40 * day;
    let rotation = old.rotation.map(|rotation| Rotation { last_rotated: Some(since), ..rotation });
    let new = KeyReport { rotation, material_since: Some(since), new_rotations: 1, ..compliant(50) };
    let [rotated] = after(&[run(vec![old])], &run(vec![new])).try_into().unwrap();
    assert_eq!((rotated.event, rotated.by), (Event::Rotated, Some(Cause::Cloud)));
    assert_eq!(rotated.material_age_seconds, Some(40 * 86_400));
}

#[test]
fn what_another_user_changed_and_what_this_program_repaired_are_two_records() {
    let was = compliant(1);
    // Found at 365 days, and set to 90 in the same run.
    let records = after(&[run(vec![was.clone()])], &run(vec![changed(1)]));
    assert_eq!(events(&records), [(Event::Drift, Some(Cause::Other)), (Event::Repaired, Some(Cause::Us))]);
    let days = |state: &Option<KeyState>| state.as_ref().and_then(|state| state.interval_days);
    let interval = |record: &KeyRecord| (days(&record.before), days(&record.after));
    assert_eq!(records.iter().map(interval).collect::<Vec<_>>(), [(Some(90), Some(365)), (Some(365), Some(90))]);
    // In monitor mode it stays.
    let drifted = KeyReport {
        status: Status::NonCompliant,
        reasons: Reason::IntervalMismatch.into(),
        ..with_setting(was.clone(), true, 60)
    };
    let records = after(&[run(vec![was.clone()])], &run(vec![drifted]));
    assert_eq!(events(&records), [(Event::Drift, Some(Cause::Other)), (Event::Status, None)]);
    // Off policy since the run before, so no other user has changed it meanwhile.
    let before = with_setting(
        KeyReport { status: Status::NonCompliant, reasons: Reason::IntervalMismatch.into(), ..was },
        true,
        365,
    );
    let records = after(&[run(vec![before])], &run(vec![changed(1)]));
    assert_eq!(events(&records), [(Event::Repaired, Some(Cause::Us)), (Event::Status, None)]);
}

#[test]
fn a_key_that_cannot_be_read_changes_its_status_and_nothing_else() {
    let unread = KeyReport { status: Status::Unknown, reasons: Reason::ReadFailed.into(), ..compliant(1) };
    assert_eq!(events(&after(&[run(vec![compliant(1)])], &run(vec![unread.clone()]))), [(Event::Status, None)]);
    assert_eq!(events(&after(&[run(vec![unread])], &run(vec![compliant(1)]))), [(Event::Status, None)]);
}

#[test]
fn a_project_of_which_no_key_can_be_read_has_one_record_and_then_goes_on_as_before() {
    let mut recorded = Recorded::default();
    let mut changes = |run: &Arc<Report>| changes(&mut recorded, run);
    let keys = || (0..20).map(compliant).collect::<Vec<_>>();
    let unread = |key: KeyReport| KeyReport {
        status: Status::Unknown,
        reasons: Reason::LoginUnavailable.into(),
        observed: None,
        ..key
    };
    let outage = || run(keys().into_iter().map(unread).collect());
    assert_eq!(changes(&run(keys())).len(), 20);
    let [Change::Unreadable(unreadable)] = &changes(&outage())[..] else { panic!("expected one record") };
    assert_eq!((&*unreadable.project, &unreadable.reasons[..]), ("payments", &["login_unavailable".to_owned()][..]));
    assert_eq!(changes(&outage()), []);
    // One key is different when they can be read again.
    let after = keys().into_iter().enumerate().map(|(at, key)| if at == 3 { with_setting(key, true, 60) } else { key });
    let [Change::Readable(_), Change::Key(drift)] = &changes(&run(after.collect()))[..] else { panic!("two records") };
    assert_eq!((drift.event, &*drift.key_id), (Event::Drift, keys()[3].subject.as_str()));
}

#[test]
fn keys_of_a_project_that_could_never_be_read_are_recorded() {
    let entry = || KeyReport {
        subject: Subject::Entry("entry@7".into()),
        status: Status::Unknown,
        reasons: Reason::AccessDenied.into(),
        observed: None,
        ..compliant(1)
    };
    let mut recorded = Recorded::default();
    let mut changes = |run: &Arc<Report>| changes(&mut recorded, run);
    let [Change::Unreadable(_), Change::Key(appeared)] = &changes(&run(vec![entry()]))[..] else { panic!("two") };
    assert_eq!((appeared.event, &*appeared.key_id), (Event::Appeared, "entry@7"));
    assert_eq!(changes(&run(vec![entry()])), []);
    // It is gone when a complete list shows the keys that it stood for.
    let [Change::Readable(_), Change::Key(appeared), Change::Key(gone)] = &changes(&run(vec![compliant(1)]))[..] else {
        panic!("three")
    };
    assert_eq!((appeared.event, gone.event, &*gone.key_id), (Event::Appeared, Event::Vanished, "entry@7"));
    // Of keys that are known already, an outage shows nothing new.
    assert_eq!(changes(&run(vec![entry()])).len(), 1);
}

#[test]
fn the_digest_depends_on_every_state_and_not_on_the_order() {
    let digest = |keys: Vec<KeyReport>| {
        let mut recorded = Recorded::default();
        recorded.update(&run(keys), |_| ());
        recorded.digest()
    };
    let both = digest(vec![compliant(1), off(2)]);
    assert_eq!(digest(vec![off(2), compliant(1)]), both);
    assert_ne!(digest(vec![compliant(1)]), both);
    assert_ne!(digest(vec![compliant(1), with_setting(off(2), false, 60)]), both);
}

#[test]
fn a_new_exemption_is_named_and_a_new_day_of_it_is_not() {
    let exempt = |reasons| KeyReport { status: Status::Exempt, reasons, desired: None, ..compliant(1) };
    let records = after(&[run(vec![compliant(1)])], &run(vec![exempt(Reason::Exempted.into())]));
    assert_eq!(events(&records), [(Event::Exempted, None)]);
    let ending = exempt(Reasons::from(Reason::Exempted).with(Reason::ExemptionEndsSoon));
    let records = after(&[run(vec![exempt(Reason::Exempted.into())])], &run(vec![ending]));
    assert_eq!(events(&records), [(Event::Status, None)]);
}

#[test]
fn a_key_is_gone_only_if_a_complete_list_lacks_it() {
    let before = || run(vec![compliant(1), off(2)]);
    let [gone] = after(&[before()], &run(vec![compliant(1)])).try_into().unwrap();
    assert_eq!((gone.event, gone.after, gone.before.is_some()), (Event::Vanished, None, true));
    let doubtful =
        report(vec![ProjectReport { listed: false, ..project("payments", Mode::Enforce, vec![compliant(1)]) }]);
    assert_eq!(after(&[before()], &doubtful), []);
    let stopped = Arc::new(Report { interrupted: true, ..(*run(vec![compliant(1)])).clone() });
    assert_eq!(after(&[before()], &stopped), []);
    let without_project = report(vec![project("another", Mode::Enforce, Vec::new())]);
    assert_eq!(events(&after(&[before()], &without_project)), [(Event::Vanished, None); 2]);
    // It is known only once that it is gone, and appears again.
    let records = after(&[before(), run(vec![compliant(1)])], &before());
    assert_eq!(events(&records), [(Event::Appeared, None)]);
}

#[test]
fn a_run_with_one_key_changes_nothing_of_the_others() {
    let two = |first: KeyReport| {
        report(vec![
            project("payments", Mode::Enforce, vec![first, off(2)]),
            project("ledger", Mode::Enforce, vec![compliant(3)]),
        ])
    };
    let only = |key: KeyReport| {
        let only = key.subject.key_id().map(KeyName::Id);
        Arc::new(Report { only, ..(*run(vec![key])).clone() })
    };
    let repaired = after(&[two(compliant(1))], &only(changed(1)));
    assert_eq!(events(&repaired), [(Event::Drift, Some(Cause::Other)), (Event::Repaired, Some(Cause::Us))]);
    // The next run is compared with all that was known before.
    assert_eq!(after(&[two(compliant(1)), only(compliant(1))], &two(compliant(1))), []);
    let gone = after(&[two(compliant(1)), only(compliant(1))], &run(vec![compliant(1)]));
    assert_eq!(events(&gone), [(Event::Vanished, None); 2]);
    // That it cannot be read does not show that no key of the project can, and that it can does not end an outage.
    let unread = |number| {
        let reasons = Reason::LoginUnavailable.into();
        KeyReport { status: Status::Unknown, reasons, observed: None, ..compliant(number) }
    };
    assert_eq!(after(&[two(compliant(1))], &only(unread(1))), []);
    let mut recorded = Recorded::default();
    let mut changes = |run: &Arc<Report>| changes(&mut recorded, run);
    changes(&run(vec![compliant(1)]));
    assert!(matches!(changes(&run(vec![unread(1)]))[..], [Change::Unreadable(_)]));
    assert_eq!(changes(&only(compliant(1))), []);
    assert!(matches!(changes(&run(vec![compliant(1)]))[..], [Change::Readable(_)]));
}

#[test]
fn a_snapshot_has_every_key_in_full_in_a_stable_order() {
    let mut recorded = Recorded::default();
    let run = report(vec![
        project("b", Mode::Enforce, vec![compliant(3), compliant(1)]),
        project("a", Mode::Monitor, vec![off(2)]),
    ]);
    recorded.update(&run, |_| ());
    let snapshot: Vec<_> = recorded.snapshot().map(|(_, _, record)| record).collect();
    assert_eq!(snapshot.iter().map(|record| &*record.project).collect::<Vec<_>>(), ["a", "b", "b"]);
    let text = serde_json::to_string(&snapshot[0]).unwrap();
    assert!(
        text.contains("\"status\":\"non_compliant\",\"reasons\":[\"rotation_disabled\"],\"enabled\":false"),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<SnapshotRecord>(&text).unwrap(), snapshot[0]);
}
