//! The verdict over one key, for each rule.

use std::time::Duration;

use kms_rotationd::audit::model::{DepartureKind, GapKind, Key, Report, StretchCause as Cause, Verdict};
use kms_rotationd::evidence::record::{Cause as By, Event, WritePhase};

use super::audit_log::{DAY, EvidenceLog, HOUR, text};
use super::{only, report, report_over};

const P: &str = "payments";
const K: &str = "00000000-0000-4000-8000-000000000000";

/// A log of one key on policy, whose material is ten days old.
fn log() -> EvidenceLog {
    log_with(10)
}

fn log_with(age_days: u64) -> EvidenceLog {
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &[P]);
    let state = log.on_policy("pay", age_days);
    log.appear(P, K, state);
    log.run();
    log
}

fn is_all(share: f64) -> bool {
    (share - 1.0).abs() < 1e-9
}

/// The verdict and the causes.
fn judged(report: &Report) -> (Verdict, Vec<Cause>, Vec<Cause>) {
    let Key { verdict, off_policy, not_shown, .. } = only(report);
    let causes = |stretches: &[kms_rotationd::audit::model::Stretch]| stretches.iter().map(|it| it.cause).collect();
    (*verdict, causes(off_policy), causes(not_shown))
}

#[test]
fn a_key_that_was_on_policy_and_rotated_in_time_is_met() {
    let mut log = log();
    log.run_for(80);
    log.rotate(P, K, 1);
    log.run();
    log.run_for(20);
    let report = report(log.close().path());
    assert_eq!(judged(&report), (Verdict::Met, vec![], vec![]));
    let key = only(&report);
    assert_eq!(key.rotations.len(), 1);
    let rotation = key.rotations[0];
    assert_eq!((rotation.age_seconds, rotation.in_time), (Some((90 * DAY - HOUR).cast_signed()), Some(true)));
    assert_eq!(rotation.allowed_seconds, Some((92 * DAY).cast_signed()));
    assert_eq!((key.oldest_material_days, key.days_not_looked), (Some(89), 0));
    assert!(is_all(key.shares.compliant));
    assert!(report.verified);
}

#[test]
fn material_is_too_old_after_interval_and_grace_until_it_is_rotated() {
    let mut log = log();
    log.run_for(84);
    log.rotate(P, K, 1);
    log.run();
    log.run_for(1);
    let report = report(log.close().path());
    let (verdict, off, not_shown) = judged(&report);
    assert_eq!((verdict, off, not_shown), (Verdict::NotMet, vec![Cause::MaterialTooOld], vec![]));
    let key = only(&report);
    // The material was 92 days old on the 82nd day, and was replaced an hour before the 84th was over.
    let [old] = key.off_policy[..] else { panic!() };
    assert_eq!(
        (old.from.to_string(), old.to.to_string()),
        ("2026-03-24T06:00:00.000Z".into(), "2026-03-26T05:00:00.000Z".into())
    );
    assert_eq!(key.rotations[0].in_time, Some(false));
    assert!(is_all(key.shares.compliant), "with `proof: reported` it is on policy all the same");
}

#[test]
fn a_rotation_right_before_the_grace_ends_is_in_time_even_if_it_is_seen_later() {
    let mut log = log();
    log.run_for(82);
    log.wait(12);
    // 13 hours ago it was one hour to the end of the grace.
    log.rotate(P, K, 13);
    log.run();
    let report = report(log.close().path());
    assert_eq!(judged(&report), (Verdict::Met, vec![], vec![]));
}

#[test]
fn material_that_is_too_old_at_the_end_of_the_period_is_found() {
    let mut log = log_with(91);
    log.run_for(2);
    let report = report(log.close().path());
    assert_eq!(judged(&report), (Verdict::NotMet, vec![Cause::MaterialTooOld], vec![]));
    assert_eq!(only(&report).oldest_material_days, Some(93));
}

#[test]
fn the_grace_that_held_at_the_time_counts() {
    let mut log = log_with(91);
    log.run_for(2);
    log.project(P, 30);
    log.run_for(5);
    let report = report(log.close().path());
    let [old] = only(&report).off_policy[..] else { panic!() };
    assert_eq!(
        (old.from.to_string(), old.to.to_string()),
        ("2026-01-02T06:00:00.000Z".into(), "2026-01-03T06:00:00.000Z".into())
    );
}

#[test]
fn a_key_off_policy_is_not_met_with_its_stretch_and_its_repair() {
    let mut log = log();
    log.run_for(5);
    log.wait(12);
    log.off_policy(P, K);
    log.run();
    log.wait(6);
    log.back_on_policy(P, K);
    log.run();
    log.run_for(5);
    let report = report(log.close().path());
    assert_eq!(judged(&report), (Verdict::NotMet, vec![Cause::OffPolicy], vec![]));
    let key = only(&report);
    let [off] = key.off_policy[..] else { panic!() };
    assert_eq!(off.to.since(off.from), 6 * HOUR.cast_signed() * 1_000);
    assert_eq!(off.reasons.to_string(), "interval_mismatch");
    let [drift, repaired] = &key.departures[..] else { panic!("{:?}", key.departures) };
    assert_eq!((drift.kind, drift.by), (DepartureKind::Drift, Some(By::Other)));
    assert_eq!((drift.before.unwrap().interval_days, drift.after.unwrap().interval_days), (Some(90), Some(365)));
    assert_eq!((repaired.kind, repaired.by), (DepartureKind::Repaired, Some(By::Us)));
    assert_eq!(repaired.request_ids, ["req-0d1f2e".into()]);
    assert!((key.shares.non_compliant - 0.25 / 10.75).abs() < 1e-9, "{:?}", key.shares);
}

#[test]
fn a_departure_that_the_same_run_repairs_is_not_met_and_takes_no_time() {
    let mut log = log();
    log.run_for(1);
    log.wait(12);
    log.drift_and_repair(P, K);
    log.run();
    let report = report(log.close().path());
    assert_eq!(judged(&report), (Verdict::NotMet, vec![Cause::FoundAndRepaired], vec![]));
    let key = only(&report);
    assert_eq!(key.off_policy[0].reasons.to_string(), "rotation_disabled");
    assert_eq!(key.off_policy[0].seen_after.unwrap().to_string(), "2026-01-02T06:00:00.000Z");
    assert!(is_all(key.shares.compliant));
    assert_eq!(key.departures.len(), 2);
}

#[test]
fn a_change_of_another_user_within_the_policy_is_no_departure_from_it() {
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &[P]);
    let mut state = log.on_policy("pay", 10);
    (state.policy_interval_days, state.policy_max_interval_days) = (None, Some(90));
    log.appear(P, K, state);
    log.run();
    log.wait(12);
    log.change(P, K, Event::Drift, Some(By::Other), |key| key.interval_days = Some(60));
    log.run();
    let report = report(log.close().path());
    assert_eq!(judged(&report), (Verdict::Met, vec![], vec![]));
    assert_eq!(only(&report).departures.len(), 1);
}

#[test]
fn a_gap_longer_than_the_rule_is_not_shown_and_a_shorter_one_is_met() {
    for (hours, verdict) in [(35, Verdict::Met), (37, Verdict::NotShown)] {
        let mut log = log();
        log.run_for(2);
        log.wait(hours);
        log.run();
        let report = report(log.close().path());
        assert_eq!(judged(&report).0, verdict, "{hours}");
        let gaps: Vec<_> = report.observers[0].gaps.iter().map(|gap| gap.kind).collect();
        assert_eq!(gaps.is_empty(), verdict == Verdict::Met);
    }
    let mut log = log();
    log.run_for(2);
    log.wait(5 * 24);
    log.run();
    let report = report(log.close().path());
    let key = only(&report);
    assert_eq!(judged(&report), (Verdict::NotShown, vec![], vec![Cause::NotLooked]));
    assert_eq!(key.days_not_looked, 4);
    assert!((key.shares.not_looked - 5.0 / 7.0).abs() < 1e-4, "{:?}", key.shares);
}

#[test]
fn a_key_that_was_off_policy_before_a_gap_is_not_met() {
    let mut log = log();
    log.wait(12);
    log.off_policy(P, K);
    log.run();
    log.wait(100);
    log.back_on_policy(P, K);
    log.run();
    let report = report(log.close().path());
    assert_eq!(judged(&report).0, Verdict::NotMet, "it wins over not shown");
    assert_eq!(judged(&report).2, [Cause::NotLooked]);
}

#[test]
fn an_outage_longer_than_the_gap_rule_is_not_shown() {
    for (days, verdict) in [(1, Verdict::Met), (3, Verdict::NotShown)] {
        let mut log = log();
        log.wait(12);
        log.unreadable(P);
        log.run();
        log.run_for(days);
        log.wait(6);
        log.readable(P);
        log.run();
        log.run_for(1);
        let report = report(log.close().path());
        let key = only(&report);
        assert_eq!(key.verdict, verdict, "{days}: {key:?}");
        assert!(key.shares.unknown > 0.3, "an unreadable key is never counted as on policy: {:?}", key.shares);
        let [gap] = &report.observers[0].gaps[..] else { panic!() };
        assert_eq!((gap.kind, gap.counts, gap.project.as_deref()), (GapKind::Unreadable, days == 3, Some(P)));
        assert_eq!(key.state.status.as_str(), "compliant", "it is as it was recorded last");
    }
}

#[test]
fn a_key_that_cannot_be_read_at_all_is_not_shown() {
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &[P]);
    let mut state = log.on_policy("pay", 10);
    (state.status, state.reasons) = ("unknown".to_owned(), vec!["status_unreadable".to_owned()]);
    log.appear(P, K, state);
    log.run();
    let report = report(log.close().path());
    assert_eq!(judged(&report), (Verdict::NotShown, vec![], vec![Cause::Unreadable]));
    assert!(is_all(only(&report).shares.unknown));
}

#[test]
fn material_of_unknown_age_and_contradictory_readings_are_not_shown() {
    for (since, cause) in [(None, Cause::MaterialUnknown), (Some("2025-12-20T00:00:00.000Z"), Cause::Contradictory)] {
        let mut log = log();
        log.wait(12);
        log.change(P, K, Event::Status, None, |key| {
            key.material_since = since.map(str::to_owned);
            key.reasons = vec!["rotation_unproven".to_owned()];
        });
        log.run();
        log.run_for(1);
        let report = report(log.close().path());
        assert_eq!(judged(&report), (Verdict::NotShown, vec![], vec![cause]));
    }
}

#[test]
fn several_rotations_since_the_last_reading_are_not_shown_if_the_first_may_have_been_late() {
    // The material was 10 days old, and may have 92: the last reading before the rotations was in time, or was not.
    for (days, off, not_shown) in
        [(81, vec![], vec![Cause::RotationsMissed]), (83, vec![Cause::MaterialTooOld], vec![Cause::RotationsMissed])]
    {
        let mut log = log();
        log.run_for(days);
        log.wait(34);
        let rotated = Some(text(log.now - Duration::from_secs(HOUR)));
        log.change(P, K, Event::Rotated, Some(By::Cloud), |key| {
            (key.rotations, key.material_since, key.last_rotation_at) = (Some(6), rotated.clone(), rotated);
        });
        log.run();
        let report = report(log.close().path());
        let verdict = if off.is_empty() { Verdict::NotShown } else { Verdict::NotMet };
        assert_eq!(judged(&report), (verdict, off, not_shown), "{days}");
        let key = only(&report);
        assert_eq!(key.rotations[0].count, 2);
        assert_eq!(key.oldest_material_days, Some(10 + days.cast_signed()), "as it was read last");
        for stretch in &key.off_policy {
            assert_eq!(stretch.to.to_string(), "2026-03-25T06:00:00.000Z", "as it was read last");
        }
    }
}

#[test]
fn material_that_no_later_reading_shows_is_not_called_too_old() {
    let mut log = log_with(91);
    log.wait(12);
    log.unreadable(P);
    log.run();
    log.run_for(10);
    let report = report(log.close().path());
    assert_eq!(judged(&report), (Verdict::NotShown, vec![], vec![Cause::Unreadable]));
}

#[test]
fn what_the_newest_run_reads_counts() {
    // An outage of less than a day ends with it.
    let mut log = log();
    log.wait(12);
    log.unreadable(P);
    log.run();
    log.wait(12);
    log.readable(P);
    log.run();
    let log = log.close();
    for from in ["2026-01-01", "2026-01-02"] {
        assert_eq!(judged(&report_over(log.path(), from, "2026-12-31").unwrap()).0, Verdict::Met, "{from}");
    }
    // In the outage the material became too old, as the newest run shows.
    let mut log = log_with(91);
    log.wait(12);
    log.unreadable(P);
    log.run();
    log.wait(24);
    log.readable(P);
    log.run();
    assert_eq!(judged(&report(log.close().path())), (Verdict::NotMet, vec![Cause::MaterialTooOld], vec![]));
    // It is the only reason, also if the newest run calls the key off policy because of it.
    let mut log = log_with(91);
    log.run_for(1);
    log.wait(12);
    log.change(P, K, Event::Status, None, |key| {
        (key.status, key.reasons) = ("non_compliant".to_owned(), vec!["material_too_old".to_owned()]);
    });
    log.run();
    assert_eq!(judged(&report(log.close().path())), (Verdict::NotMet, vec![Cause::MaterialTooOld], vec![]));
}

#[test]
fn exempt_uncovered_and_unrotatable_keys_are_not_applicable_with_the_reason() {
    for (status, reason, days) in
        [("exempt", "exempted", None), ("uncovered", "uncovered", None), ("exempt", "imported_material", Some(90))]
    {
        let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &[P]);
        let mut state = log.on_policy("pay", 500);
        (state.status, state.reasons) = (status.to_owned(), vec![reason.to_owned()]);
        state.policy_interval_days = days;
        log.appear(P, K, state);
        log.run();
        log.wait(100);
        log.run();
        let report = report(log.close().path());
        assert_eq!(judged(&report), (Verdict::NotApplicable, vec![], vec![]), "{reason}");
        assert_eq!(only(&report).not_applicable.as_ref().unwrap().reasons.to_string(), reason);
    }
    let mut log = log();
    log.wait(12);
    log.exempt(P, K, "2026-09-30");
    log.run();
    let report = report(log.close().path());
    let key = only(&report);
    assert_eq!(key.verdict, Verdict::Met, "it was on policy while it had to be");
    let free = key.not_applicable.as_ref().unwrap();
    assert_eq!(free.until.as_deref(), Some("2026-09-30"));
    assert_eq!(key.departures[0].kind, DepartureKind::Exempted);
}

#[test]
fn a_key_that_came_or_went_is_judged_for_the_time_it_was_there() {
    let mut log = log();
    log.run_for(2);
    log.wait(12);
    let state = log.on_policy("new", 0);
    log.appear(P, "new", state);
    log.vanish(P, K);
    log.run();
    log.run_for(2);
    let report = report(log.close().path());
    let [old, new] = &report.observers[0].keys[..] else { panic!() };
    assert!(old.vanished && !old.appeared && new.appeared && !new.vanished);
    assert_eq!((old.verdict, new.verdict), (Verdict::Met, Verdict::Met));
    assert_eq!(old.to, new.from);
    assert!(is_all(old.shares.compliant) && is_all(new.shares.compliant));
    let project = &report.observers[0].projects[0];
    assert_eq!((project.keys, project.appeared, project.vanished), (2, 1, 1));
}

#[test]
fn writes_that_failed_or_were_cut_off_are_listed() {
    let mut log = log();
    log.wait(12);
    log.write(P, K, WritePhase::Intent);
    log.write(P, K, WritePhase::Failed);
    log.run();
    log.wait(12);
    log.write(P, K, WritePhase::Intent);
    log.start(false);
    log.run();
    log.wait(12);
    log.write(P, K, WritePhase::Intent);
    log.write(P, K, WritePhase::Applied);
    log.run();
    let report = report(log.close().path());
    let writes: Vec<_> = only(&report).departures.iter().map(|it| (it.kind, it.write, it.error.as_deref())).collect();
    assert_eq!(
        writes,
        [
            (DepartureKind::Write, Some(WritePhase::Failed), Some("HTTP 403 KMS.0307")),
            (DepartureKind::Write, Some(WritePhase::Intent), None),
            (DepartureKind::Write, Some(WritePhase::Applied), None),
        ]
    );
    assert_eq!(report.observers[0].programs[0].starts, 2);
}

#[test]
fn lost_records_and_interrupted_runs_are_listed_and_show_nothing() {
    let mut log = log();
    log.wait(30);
    log.end_run("interrupted");
    log.wait(30);
    log.gap(log.now - Duration::from_secs(40 * HOUR), log.now);
    log.run();
    let report = report(log.close().path());
    let gaps: Vec<_> = report.observers[0].gaps.iter().map(|gap| (gap.kind, gap.counts)).collect();
    assert_eq!(gaps, [(GapKind::NotLooked, true), (GapKind::RecordsLost, true), (GapKind::Interrupted, false)]);
    assert_eq!(only(&report).verdict, Verdict::NotShown);
    assert_eq!(only(&report).not_shown[0].to.to_string(), text(log_end()).replace("06:00:00", "17:59:50"));
}

fn log_end() -> std::time::SystemTime {
    super::audit_log::time("2026-01-03T06:00:00Z")
}

#[test]
fn an_entry_stands_for_keys_that_cannot_be_listed() {
    let unlisted = |days| {
        let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &[P]);
        log.unlisted(P, "entry@7");
        log.run();
        log.run_for(days);
        log
    };
    // A time that the gap rule allows is forgotten as soon as the keys are listed.
    for (days, verdicts) in [(1, vec![Verdict::Met]), (3, vec![Verdict::Met, Verdict::NotShown])] {
        assert_eq!(
            judged(&report(unlisted(days).close().path())),
            (Verdict::NotShown, vec![], vec![Cause::Unreadable]),
            "{days}"
        );
        let mut log = unlisted(days);
        log.readable(P);
        let key = log.on_policy("pay", 10);
        log.appear(P, K, key);
        log.vanish(P, "entry@7");
        log.run();
        log.run_for(1);
        let listed = report(log.close().path());
        assert_eq!(listed.observers[0].keys.iter().map(|key| key.verdict).collect::<Vec<_>>(), verdicts, "{days}");
    }
}

#[test]
fn an_entry_whose_key_was_not_found_is_not_shown() {
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &[P]);
    let mut state = log.on_policy("nowhere", 0);
    (state.status, state.reasons) = ("unknown".to_owned(), vec!["not_found".to_owned()]);
    (state.material_since, state.created_at) = (None, None);
    log.appear(P, "alias/nowhere", state.clone());
    log.run();
    log.run_for(2);
    let found = report(log.close().path());
    assert_eq!(judged(&found), (Verdict::NotShown, vec![], vec![Cause::Unreadable]));
    assert_eq!(only(&found).not_shown[0].reasons.to_string(), "not_found");
    // It stood for no other key, also if it was there for less than a day.
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &[P]);
    log.appear(P, "alias/nowhere", state);
    log.run();
    log.wait(12);
    log.vanish(P, "alias/nowhere");
    log.run();
    assert_eq!(judged(&report(log.close().path())).0, Verdict::NotShown);
}
