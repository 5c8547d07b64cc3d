//! The tables of reasons in docs/monitoring.md have every reason of the program, with the program's words for it and
//! its remedy.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kms_rotationd::rotation::assignment::Subject;
use kms_rotationd::rotation::decide::{Reason, Reasons, Status, Steps};
use kms_rotationd::rotation::project::{Cloud, CloudAccess, Coverage, Mode, Proof};
use kms_rotationd::rotation::remedies::remedy;
use kms_rotationd::rotation::report::{KeyReport, ProjectReport, Report, Trigger};
use kms_rotationd::views::{Purpose, TextStyle, write_text};

use super::repository::{TO_UPDATE, change, text, updates};
use crate::KEY;

const DOCUMENT: &str = "docs/monitoring.md";
const ENTRY: &str = "alias/pay-cards";

/// The program's words for a reason of a key or of an entry, as `plan` prints them.
fn words(reason: Reason, subject: Subject) -> String {
    let name = subject.to_string();
    let key = KeyReport {
        subject,
        entry_line: None,
        alias: None,
        desired: None,
        exemption: None,
        status: Status::NonCompliant,
        reasons: Reasons::from(reason),
        created: None,
        rotation: None,
        observed: None,
        material_since: None,
        rotation_due: None,
        overdue_from: None,
        new_rotations: 0,
        planned: Steps::NONE,
        age_if_written: None,
        changes: Vec::new(),
        error: None,
    };
    let project = ProjectReport {
        name: Arc::from("payments"),
        cloud: Cloud::OpenTelekomCloud,
        region: Arc::from("eu-de"),
        mode: Mode::Enforce,
        coverage: Coverage::Reported,
        proof: Proof::Reported,
        grace: Duration::from_secs(2 * 86_400),
        access: CloudAccess::default(),
        listed: true,
        readable: true,
        failure: None,
        idle_entries: Vec::new(),
        keys: vec![key],
    };
    let report = Report {
        trigger: Trigger::Start,
        started: SystemTime::UNIX_EPOCH,
        ended: SystemTime::UNIX_EPOCH,
        took: Duration::ZERO,
        interrupted: false,
        standby: false,
        max_changes: 50,
        only: None,
        projects: vec![project],
    };
    let style = TextStyle {
        purpose: Purpose::Planned,
        policy_file: Path::new("p"),
        all: true,
        colour: false,
        simulated: false,
    };
    let mut printed = Vec::new();
    write_text(&report, style, &mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    printed.lines().find_map(|line| line.split_once(&name)).unwrap().1.trim().to_owned()
}

/// What the second column of a reason's row shows.
fn shown(reason: Reason) -> String {
    let of_key = words(reason, Subject::Key(KEY.parse().unwrap()));
    let of_entry = words(reason, Subject::Entry(ENTRY.into()));
    // An entry without a key has no more than these three.
    match reason {
        Reason::NotFound | Reason::ReadFailed | Reason::AccessDenied if of_entry != of_key => {
            format!("{of_key}; of an entry: {of_entry}")
        }
        _ => of_key,
    }
}

/// The rows of the section on reasons, by reason.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let section = text.split_once("\n## Reasons\n").unwrap().1.split("\n## ").next().unwrap();
    let mut rows = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        assert_eq!(cells.len(), 4, "{row}");
        let before = rows.insert(cells[0].trim_matches('`').to_owned(), cells);
        assert!(before.is_none(), "{row} is there twice");
    }
    rows
}

#[test]
fn every_reason_is_documented_with_its_wording_and_an_action() {
    let there: Vec<_> = rows(&text(DOCUMENT)).into_keys().collect();
    let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(there, names, "the tables in the section Reasons of {DOCUMENT} have these reasons, the program those");
    let wanted = |reason: Reason| [(1, shown(reason)), (3, remedy(reason).to_owned())];
    if updates() {
        change(DOCUMENT, |text| {
            let mut text = text.to_owned();
            for reason in Reason::ALL {
                let begin = text.find(&format!("\n| `{reason}` | ")).unwrap() + 1;
                let end = begin + text[begin..].find('\n').unwrap();
                let mut cells: Vec<_> = text[begin..end].trim_matches('|').split(" | ").map(str::to_owned).collect();
                for (at, cell) in wanted(*reason) {
                    cells[at] = cell;
                }
                let row = format!("| {} |", cells.iter().map(|cell| cell.trim()).collect::<Vec<_>>().join(" | "));
                text.replace_range(begin..end, &row);
            }
            text
        });
    }
    let rows = rows(&text(DOCUMENT));
    for reason in Reason::ALL {
        let cells = &rows[reason.as_str()];
        for (at, cell) in wanted(*reason) {
            assert_eq!(cells[at], cell, "{DOCUMENT}: the words for {reason}. {TO_UPDATE}");
        }
        assert!(cells[2].len() > 20, "{reason}: {cells:?}");
    }
}
