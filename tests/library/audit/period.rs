//! Which time a report covers, and which logs.

use std::fs;

use kms_rotationd::audit::model::{StretchCause, Verdict};
use kms_rotationd::audit::{ReportError, Request, make};
use kms_rotationd::evidence::folder::ReadError;

use super::audit_log::{EvidenceLog, id};
use super::{only, report, report_over, request};

const P: &str = "payments";

/// Forty days from 2026-01-10 on, of one key.
fn forty_days() -> EvidenceLog {
    let mut log = EvidenceLog::begin("2026-01-10T06:00:00Z", false, &[P, "orders"]);
    let state = log.on_policy("pay", 10);
    log.appear(P, &id(0), state);
    log.run();
    log.run_for(40);
    log
}

#[test]
fn days_are_inclusive_and_in_utc_and_the_end_is_cut_at_the_newest_record() {
    let log = forty_days().close();
    let whole = report(log.path());
    assert_eq!(
        (whole.period.from.to_string(), whole.period.to.to_string()),
        ("2026-01-10".into(), "2026-02-19".into())
    );
    assert_eq!((whole.period.cut, whole.as_of.to_string()), (None, "2026-02-19T06:00:00.000Z".into()));
    let part = report_over(log.path(), "2026-01-12", "2026-01-13").unwrap();
    assert_eq!(part.period.begins_at.to_string(), "2026-01-12T00:00:00.000Z");
    assert_eq!(part.period.ends_at.to_string(), "2026-01-14T00:00:00.000Z");
    let key = only(&part);
    assert_eq!((key.from, key.to, key.days), (part.period.begins_at, part.period.ends_at, 2));
    assert!(!key.appeared, "it was there before");
    let cut = report_over(log.path(), "2026-02-01", "2026-06-30").unwrap();
    assert_eq!(
        (cut.period.to.to_string(), cut.period.cut.unwrap().to_string()),
        ("2026-02-19".into(), "2026-06-30".into())
    );
    assert_eq!(only(&cut).verdict, Verdict::Met);
}

#[test]
fn days_before_the_log_are_not_shown() {
    let log = forty_days().close();
    let report = report_over(log.path(), "2026-01-01", "2026-01-31").unwrap();
    let key = only(&report);
    assert_eq!((key.verdict, key.days, key.days_not_looked), (Verdict::NotShown, 31, 9));
    assert_eq!(key.not_shown.iter().map(|it| it.cause).collect::<Vec<_>>(), [StretchCause::BeforeLog]);
    // Less than a day is within the gap rule.
    let report = report_over(log.path(), "2026-01-10", "2026-01-31").unwrap();
    assert_eq!((only(&report).verdict, only(&report).days_not_looked), (Verdict::Met, 0));
    // A key that was created after the log began needs nothing before.
    let mut log = forty_days();
    let mut state = log.on_policy("new", 0);
    state.created_at = state.material_since.clone();
    log.appear(P, &id(1), state);
    log.run();
    let report = report_over(log.close().path(), "2026-01-01", "2026-03-31").unwrap();
    assert_eq!(report.observers[0].keys[1].verdict, Verdict::Met);
}

#[test]
fn a_pruned_log_shows_what_is_kept() {
    let mut log = forty_days();
    log.begin_segment();
    log.run_for(10);
    log.wait(1);
    log.begin_segment();
    log.run_for(10);
    log.prune();
    let log = log.close();
    let whole = report(log.path());
    assert_eq!(whole.period.from.to_string(), "2026-03-01");
    assert_eq!(only(&whole).verdict, Verdict::Met);
    let longer = report_over(log.path(), "2026-02-01", "2026-03-31").unwrap();
    assert_eq!(only(&longer).verdict, Verdict::NotShown);
    assert!(longer.verified, "{:?}", longer.observers[0].logs);
}

#[test]
fn a_key_that_a_complete_list_lacks_is_gone() {
    let mut log = forty_days();
    let state = log.on_policy("other", 1);
    log.appear(P, &id(1), state.clone());
    log.run();
    // Its end was among records that were lost.
    log.vanish(P, &id(1));
    let mut copy = forty_days();
    copy.appear(P, &id(1), state);
    copy.run();
    copy.wait(1);
    copy.forget(P, &id(1));
    copy.begin_segment();
    copy.run_for(1);
    let report = report(copy.close().path());
    assert!(report.observers[0].keys[1].vanished);
    assert!(!report.observers[0].keys[0].vanished);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let log = forty_days().close();
    let refused = |request: Request| make(&request).unwrap_err().to_string();
    let days = |from: &str, to: &str| report_over(log.path(), from, to).unwrap_err().to_string();
    assert_eq!(days("2026-02-01", "2026-01-31"), "--to 2026-01-31 is before --from 2026-02-01");
    assert_eq!(
        days("2025-01-01", "2025-12-31"),
        "no record of these days: the evidence is of 2026-01-10 to 2026-02-19"
    );
    assert_eq!(days("2027-01-01", "2027-12-31"), days("2025-01-01", "2025-12-31"));
    let unknown = Request { projects: vec!["paymnts".to_owned()], ..request(&[log.path()]) };
    assert_eq!(refused(unknown), "no log has a project `paymnts`; there are: orders, payments");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(make(&request(&[empty.path()])), Err(ReportError::Log(ReadError::NoLog(_)))));
    assert!(matches!(make(&request(&[log.path(), log.path()])), Err(ReportError::Twice(_))));
    let one = Request { projects: vec!["orders".to_owned()], ..request(&[log.path()]) };
    assert_eq!(make(&one).unwrap().observers[0].keys.len(), 0);
}

#[test]
fn the_report_of_a_changed_log_is_made_and_says_what_is_wrong() {
    let log = forty_days().close();
    let file = log.path().join("00000000000000000000.jsonl");
    let changed = fs::read_to_string(&file).unwrap().replacen("\"alias\":\"pay\"", "\"alias\":\"gay\"", 1);
    fs::write(&file, changed).unwrap();
    let report = report(log.path());
    assert!(!report.verified);
    assert!(report.observers[0].logs[0].problems[0].starts_with("REWRITTEN"), "{:?}", report.observers[0].logs);
    assert_eq!(only(&report).alias.as_deref(), Some("gay"));
}

#[test]
fn a_log_that_continues_another_one_belongs_to_the_same_observer() {
    let mut log = forty_days();
    let state = log.on_policy("gone", 1);
    log.appear(P, &id(1), state);
    log.run();
    // The checkpoint is of a log that is not there: the next process leaves it, and begins a new one.
    let mut log = log.reopen_damaged();
    log.wait(12);
    let state = log.on_policy("pay", 50);
    log.appear(P, &id(0), state);
    log.run();
    log.run_for(5);
    let report = report(log.close().path());
    let [observer] = &report.observers[..] else { panic!() };
    assert_eq!(observer.logs.len(), 2);
    assert_eq!(observer.logs[1].continues.as_deref(), Some(&*observer.logs[0].origin));
    assert!(!report.verified, "the first one is damaged");
    assert!(observer.keys[1].vanished && !observer.keys[0].vanished, "the new log lists every key");
    assert_eq!(observer.keys[0].to, report.period.ends_at);
}

#[test]
fn of_two_observers_one_that_has_looked_is_enough() {
    let down = |first: bool| {
        let mut log = EvidenceLog::begin("2026-01-10T06:00:00Z", false, &[P]);
        let state = log.on_policy("pay", 10);
        log.appear(P, &id(0), state);
        log.run();
        if first {
            log.wait(5 * 24);
            log.run();
            log.run_for(20);
        } else {
            log.run_for(20);
            log.wait(5 * 24);
            log.run();
        }
        log.close()
    };
    let (one, other) = (down(true), down(false));
    let both = make(&request(&[one.path(), other.path()])).unwrap();
    let verdicts: Vec<_> = both.observers.iter().map(|observer| observer.keys[0].verdict).collect();
    assert_eq!(verdicts, [Verdict::NotShown, Verdict::NotShown]);
    assert_eq!(both.combined[0].verdict, Verdict::Met);
    assert_eq!((both.totals.met, both.totals.not_shown), (1, 0));
    let same = down(true);
    let both = make(&request(&[one.path(), same.path()])).unwrap();
    assert_eq!(both.combined[0].verdict, Verdict::NotShown, "both were down at the same time");
    // What one has found, the other does not undo.
    let mut log = EvidenceLog::begin("2026-01-10T06:00:00Z", false, &[P]);
    let state = log.on_policy("pay", 10);
    log.appear(P, &id(0), state);
    log.run();
    log.off_policy(P, &id(0));
    log.run_for(25);
    let off = log.close();
    let both = make(&request(&[other.path(), off.path()])).unwrap();
    assert_eq!(both.combined[0].verdict, Verdict::NotMet);
    // What one could not list, the other has listed.
    let mut log = EvidenceLog::begin("2026-01-10T06:00:00Z", false, &[P]);
    log.unlisted(P, "entry@7");
    log.run_for(25);
    let unlisted = log.close();
    let both = make(&request(&[unlisted.path(), off.path()])).unwrap();
    assert_eq!(both.observers[0].keys[0].verdict, Verdict::NotShown);
    assert_eq!(both.combined.iter().map(|key| &*key.key_id).collect::<Vec<_>>(), [id(0)]);
    // What none could list remains, under the name that it has in each log.
    let mut log = EvidenceLog::begin("2026-01-10T06:00:00Z", false, &[P]);
    log.unlisted(P, "entry@8");
    log.run_for(25);
    let other = log.close();
    let both = make(&request(&[unlisted.path(), other.path()])).unwrap();
    assert_eq!(both.combined.iter().map(|key| &*key.key_id).collect::<Vec<_>>(), ["entry@7", "entry@8"]);
}
