//! Reports to render.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kms_rotationd::rotation::assignment::Subject;
use kms_rotationd::rotation::decide::{Reason, Reasons, Status, Step, Steps, decide_setting};
use kms_rotationd::rotation::key::{Bound, DesiredRotation, KeyId, Reading, Rotation, RotationInterval};
use kms_rotationd::rotation::observed::ObservedKey;
use kms_rotationd::rotation::project::{Cloud, CloudAccess, Coverage, Mode, Proof};
use kms_rotationd::rotation::report::{Change, KeyError, KeyReport, ProjectReport, Report, Trigger};
use kms_rotationd::rotation::rule::{Exemption, LastDay};

/// 2026-11-22T01:51:25.120Z
pub(crate) const ENDED: Duration = Duration::from_millis(1_795_312_285_120);

pub(crate) fn at(seconds_before_the_end: u64) -> SystemTime {
    UNIX_EPOCH + ENDED - Duration::from_secs(seconds_before_the_end)
}

pub(crate) fn days(days: u16) -> RotationInterval {
    RotationInterval::from_days(days).unwrap()
}

pub(crate) fn key_id(number: u64) -> KeyId {
    let scattered = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (high, low) = (scattered >> 32, scattered & 0xffff_ffff_ffff);
    format!("{high:08x}-{:04x}-4d9c-b35d-{low:012x}", number & 0xffff).parse().unwrap()
}

/// A key on policy.
pub(crate) fn compliant(number: u64) -> KeyReport {
    let last_rotated = Some(at(86_400 * (number % 90)));
    let rotation = Rotation { enabled: true, interval_days: Some(90), last_rotated, rotations: Some(1 + number % 12) };
    KeyReport {
        subject: Subject::Key(key_id(number)),
        entry_line: Some(12 + u32::try_from(number).unwrap()),
        alias: Some(format!("pay-{number:05}").into()),
        desired: Some(DesiredRotation::exactly(days(90))),
        exemption: None,
        status: Status::Compliant,
        reasons: decide_for(rotation).reasons,
        created: Some(at(86_400 * 2_000)),
        rotation: Some(rotation),
        observed: Some(at(3)),
        material_since: last_rotated,
        rotation_due: last_rotated.map(|last| last + Duration::from_secs(90 * 86_400)),
        overdue_from: last_rotated.map(|last| last + Duration::from_secs(92 * 86_400)),
        new_rotations: 0,
        planned: decide_for(rotation).steps,
        age_if_written: None,
        changes: Vec::new(),
        error: None,
    }
}

fn decide_for(rotation: Rotation) -> kms_rotationd::rotation::decide::Verdict {
    decide_setting(DesiredRotation::exactly(days(90)), &ObservedKey::new(Reading::Rotation(rotation)))
}

/// A key with rotation off, read and not written.
pub(crate) fn off(number: u64) -> KeyReport {
    let rotation = Rotation { enabled: false, interval_days: None, last_rotated: None, rotations: None };
    let verdict = decide_for(rotation);
    KeyReport {
        status: verdict.status,
        reasons: verdict.reasons,
        planned: verdict.steps,
        rotation: Some(rotation),
        material_since: Some(at(86_400 * 2_000)),
        rotation_due: None,
        overdue_from: None,
        ..compliant(number)
    }
}

/// A key whose interval was changed to the policy's.
pub(crate) fn changed(number: u64) -> KeyReport {
    let before = Rotation { enabled: true, interval_days: Some(365), last_rotated: None, rotations: Some(0) };
    let change = Change {
        step: Step::UpdateInterval(days(90)),
        before: Some(before),
        at: at(2),
        request_id: Some("9a4d-req".into()),
    };
    KeyReport { changes: vec![change], ..compliant(number) }
}

/// A key that could not be read in this run, with text in it that must be escaped everywhere.
pub(crate) fn unknown(number: u64) -> KeyReport {
    KeyReport {
        alias: Some("a<b>&\"c\\\n\u{1b}[31m'ü".into()),
        status: Status::Unknown,
        reasons: Reason::ReadFailed.into(),
        observed: Some(at(1_800)),
        planned: Steps::NONE,
        error: Some(KeyError::new("get-key-rotation-status: HTTP 502 <html>", None)),
        ..compliant(number)
    }
}

/// A key that cannot rotate, without a known name.
pub(crate) fn exempt(number: u64) -> KeyReport {
    KeyReport { alias: None, ..settled(number, Status::Exempt, Reason::DefaultKey.into()) }
}

/// A key with a result that needs no read.
fn settled(number: u64, status: Status, reasons: Reasons) -> KeyReport {
    KeyReport {
        status,
        reasons,
        rotation: None,
        observed: None,
        material_since: None,
        rotation_due: None,
        overdue_from: None,
        planned: Steps::NONE,
        ..compliant(number)
    }
}

/// A key that no entry matches.
pub(crate) fn uncovered(number: u64) -> KeyReport {
    KeyReport { entry_line: None, desired: None, ..settled(number, Status::Uncovered, Reason::Uncovered.into()) }
}

/// A realistic mix of `keys` keys.
pub(crate) fn mixed(number: u64) -> KeyReport {
    match number % 40 {
        3 => off(number),
        11 => changed(number),
        17 => KeyReport { alias: Some(format!("ledger-{number}").into()), ..unknown(number) },
        29 => exempt(number),
        _ => compliant(number),
    }
}

pub(crate) fn project(name: &str, mode: Mode, keys: Vec<KeyReport>) -> ProjectReport {
    ProjectReport {
        name: name.into(),
        cloud: Cloud::OpenTelekomCloud,
        region: "eu-de".into(),
        mode,
        coverage: Coverage::Reported,
        proof: Proof::Reported,
        grace: Duration::from_secs(2 * 86_400),
        access: CloudAccess::default(),
        listed: true,
        readable: true,
        failure: None,
        idle_entries: Vec::new(),
        keys,
    }
}

pub(crate) fn report(projects: Vec<ProjectReport>) -> Arc<Report> {
    let ended = UNIX_EPOCH + ENDED;
    let started = ended - Duration::from_millis(3_250);
    Arc::new(Report {
        trigger: Trigger::Schedule,
        started,
        ended,
        took: Duration::from_millis(3_250),
        interrupted: false,
        standby: false,
        max_changes: 50,
        only: None,
        projects,
    })
}

/// One key of each kind in two projects.
pub(crate) fn one_of_each() -> Arc<Report> {
    let failed = ProjectReport {
        cloud: Cloud::HuaweiCloud,
        region: "eu-west-101".into(),
        failure: Some("the credentials were refused: IAM answered 401".into()),
        ..project("archive \"old\"", Mode::Monitor, vec![off(4)])
    };
    report(vec![project("payments-prod", Mode::Enforce, vec![compliant(0), changed(1), unknown(2), exempt(3)]), failed])
}

/// A project with selectors, and one key of each kind.
pub(crate) fn account() -> Arc<Report> {
    let at_most = DesiredRotation { bound: Bound::Longest, ..DesiredRotation::exactly(days(90)) };
    let set_to = |interval_days, key: KeyReport| {
        let rotation =
            key.rotation.map(|rotation| Rotation { enabled: true, interval_days: Some(interval_days), ..rotation });
        let desired = key.desired.unwrap_or(at_most);
        let verdict =
            rotation.map(|rotation| decide_setting(desired, &ObservedKey::new(Reading::Rotation(rotation)))).unwrap();
        KeyReport { rotation, status: verdict.status, reasons: verdict.reasons, planned: verdict.steps, ..key }
    };
    let selected = |key| KeyReport { entry_line: Some(17), desired: Some(at_most), ..key };
    let exempted = |number, until: Option<&str>, reasons| KeyReport {
        entry_line: Some(20),
        desired: None,
        exemption: Some(Box::new(Exemption {
            reason: "retired in March, <SEC-112>".into(),
            until: until.map(|date| LastDay { date: date.into(), ends: at(0) }),
        })),
        ..settled(number, Status::Exempt, reasons)
    };
    let held =
        |key: KeyReport| KeyReport { reasons: key.reasons.with(Reason::ChangeLimit), planned: Steps::NONE, ..key };
    let entry = |name: &str, line, alias: Option<&str>, reason: Reason| KeyReport {
        subject: Subject::Entry(name.into()),
        entry_line: Some(line),
        alias: alias.map(Into::into),
        ..settled(0, Status::Unknown, reason.into())
    };
    let mut keys = vec![
        compliant(0),
        off(1),
        set_to(60, selected(compliant(2))),
        set_to(365, selected(compliant(3))),
        held(selected(off(4))),
        settled(5, Status::NonCompliant, Reason::KeyDisabled.into()),
        unknown(6),
        exempt(7),
        exempted(8, Some("2027-03-31"), Reason::Exempted.into()),
        exempted(9, Some("2026-12-01"), Reasons::from(Reason::Exempted).with(Reason::ExemptionEndsSoon)),
        exempted(10, None, Reason::Exempted.into()),
        entry("alias/legacy-hsm", 22, Some("legacy-hsm"), Reason::NotFound),
        KeyReport { alias: Some("twice".into()), ..settled(11, Status::Unknown, Reason::AmbiguousEntry.into()) },
    ];
    keys.extend((12..35).map(uncovered));
    let account = ProjectReport { idle_entries: vec![25], ..project("account", Mode::Enforce, keys) };
    let unlisted = ProjectReport {
        coverage: Coverage::Required,
        listed: false,
        failure: Some("the project's keys cannot be listed: list-keys: HTTP 500".into()),
        ..project("closed", Mode::Monitor, vec![off(40), entry("entry@44", 44, None, Reason::ReadFailed)])
    };
    let required = ProjectReport {
        coverage: Coverage::Required,
        ..project("strict", Mode::Enforce, vec![changed(50), uncovered(51)])
    };
    report(vec![account, unlisted, required])
}

/// This number of keys in four projects.
pub(crate) fn many(keys: u64) -> Arc<Report> {
    let names = ["payments-prod", "payments-test", "archive", "data-platform"];
    let projects = names.iter().enumerate().map(|(at, name)| {
        let own = (0..keys).filter(|number| number % 4 == at as u64).map(mixed).collect();
        project(name, if at == 1 { Mode::Monitor } else { Mode::Enforce }, own)
    });
    report(projects.collect())
}
