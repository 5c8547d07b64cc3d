//! The formats: the same bytes each time, a simulation named first, and values that stay what they are.

use std::io::{self, Write};

use kms_rotationd::audit::model::Report;
use kms_rotationd::audit::{Request, cbom, csv, html, json, make, ocsf, oscal};
use serde_json::Value;

use super::audit_log::{EvidenceLog, id};
use super::story::story;
use super::{report, request};

type Format = fn(&Report, &mut dyn Write) -> io::Result<()>;

const FORMATS: [(&str, Format); 5] = [
    ("html", html::write),
    ("json", json::write),
    ("ocsf", ocsf::write),
    ("oscal", oscal::write),
    ("cbom", cbom::write),
];

fn text(format: Format, report: &Report) -> String {
    let mut out = Vec::new();
    format(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn all() -> impl Iterator<Item = (&'static str, Format)> {
    FORMATS.into_iter().chain(csv::FILES)
}

#[test]
fn the_same_log_and_parameters_give_the_same_bytes() {
    let log = story(8, false);
    let (one, other) = (report(log.path()), report(log.path()));
    for (name, format) in all() {
        assert_eq!(text(format, &one), text(format, &other), "{name}");
    }
}

#[test]
fn a_simulation_is_named_first_in_every_format() {
    let log = story(8, true);
    let (simulated, real) = (report(log.path()), report(story(8, false).path()));
    assert!(simulated.simulated && !real.simulated);
    for (name, format) in all() {
        let (simulated, real) = (text(format, &simulated), text(format, &real));
        match name {
            "json" => {
                assert!(simulated.starts_with("{\"simulated\":true,"), "{}", &simulated[..80]);
                assert!(real.starts_with("{\"simulated\":false,"));
            }
            "html" => {
                let body = simulated.split("<body>").nth(1).unwrap();
                assert!(body.trim_start().starts_with("<p class=\"simulated\""), "{}", &body[..200]);
                assert!(simulated.contains("<title>SIMULATED: "));
                assert!(!real.contains("<p class=\"simulated\"") && !real.contains("SIMULATED"));
            }
            "ocsf" => {
                let events = simulated.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                assert!(events.into_iter().all(|event| event["message"].as_str().unwrap().starts_with("SIMULATED: ")));
                assert!(!real.contains("SIMULATED"));
            }
            "oscal" | "cbom" => assert!(simulated.contains("\"SIMULATED: ") && !real.contains("SIMULATED")),
            table => {
                let lines: Vec<_> = simulated.lines().skip(1).collect();
                assert!(!lines.is_empty(), "{table}");
                assert!(lines.iter().all(|line| line.starts_with("SIMULATED,")), "{table}: {}", lines[0]);
                assert!(real.lines().skip(1).all(|line| line.starts_with(',')), "{table}");
            }
        }
    }
}

#[test]
fn the_tables_have_a_line_for_each_key_rotation_departure_and_gap() {
    let report = report(story(16, false).path());
    let observer = &report.observers[0];
    let expected = [
        ("keys.csv", observer.keys.len()),
        ("rotations.csv", observer.keys.iter().map(|key| key.rotations.len()).sum()),
        ("departures.csv", observer.keys.iter().map(|key| key.departures.len()).sum()),
        ("gaps.csv", observer.gaps.len()),
    ];
    for ((name, table), (same, lines)) in csv::FILES.into_iter().zip(expected) {
        let text = text(table, &report);
        assert_eq!((name, text.matches("\r\n").count()), (same, lines + 1));
        let columns = text.lines().next().unwrap().matches(',').count();
        // No value of this log has a comma outside of quotes.
        let outside = |line: &str| line.split('"').step_by(2).map(|part| part.matches(',').count()).sum::<usize>();
        assert!(lines > 0 && text.lines().all(|line| outside(line) == columns), "{name}");
    }
}

#[test]
fn a_name_from_outside_is_neither_markup_nor_a_formula() {
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &["payments"]);
    let state = log.on_policy("=cmd|'/c calc'!A1<script>alert(1)</script>\u{202e}", 10);
    log.appear("payments", &id(0), state);
    log.run();
    log.off_policy("payments", &id(0));
    log.run();
    let report = report(log.close().path());
    let page = text(html::write, &report);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\u{fffd}") && !page.contains("<script>alert"));
    for (_, table) in &csv::FILES[..3] {
        let text = text(*table, &report);
        assert!(!text.contains(",=") && !text.contains("\"=") && !text.contains('\u{202e}'), "{text}");
    }
    for format in [oscal::write, cbom::write] {
        assert!(!text(format, &report).contains('\u{202e}'));
    }
}

#[test]
fn an_entry_without_a_key_is_no_asset() {
    let mut log = EvidenceLog::begin("2026-01-01T06:00:00Z", false, &["payments"]);
    log.unlisted("payments", "entry@7");
    log.run();
    let report = report(log.close().path());
    for (name, format) in FORMATS {
        assert_eq!(text(format, &report).contains("entry@7"), name != "cbom", "{name}");
    }
}

#[test]
fn the_page_loads_nothing_and_has_every_part() {
    let page = text(html::write, &report(story(8, false).path()));
    for outside in ["src=", "@import", "url(http", "<link rel=\"stylesheet", "fetch("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let parts = [
        "1. Policy in force",
        "2. Population and coverage",
        "3. Verdicts",
        "4. Rotations",
        "5. Departures and repairs",
        "6. Outages and gaps",
        "7. Sample",
        "8. How to verify this report",
        "9. Management's assertion",
    ];
    let places: Vec<_> = parts.iter().map(|part| page.find(&format!("<h2>{part}</h2>")).expect(part)).collect();
    assert!(places.is_sorted());
    assert!(page.contains(
        "It shows that nothing older than the newest checkpoint kept elsewhere was changed or removed. What this machine \
         writes after that, and whether it told the truth in the first place, rests on the machine."
    ));
}

#[test]
fn every_part_of_the_story_is_in_the_report() {
    let report = report(story(8, false).path());
    let verdicts: Vec<_> = report.observers[0]
        .keys
        .iter()
        .map(|key| {
            (key.alias.as_deref().unwrap(), key.verdict.as_str(), key.off_policy.first().map(|it| it.cause.as_str()))
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            ("reports", "not_applicable", None),
            ("partners", "not_shown", None),
            ("sessions", "not_shown", None),
            ("ledger", "met", None),
            ("cards", "not_met", Some("found_and_repaired")),
            ("payouts", "not_met", Some("off_policy")),
            ("invoices", "not_met", Some("material_too_old")),
            ("archive", "met", None),
        ]
    );
    assert_eq!(report.observers[0].policies.len(), 2);
    assert_eq!(report.observers[0].policies[0].to, report.observers[0].policies[1].from);
}

#[test]
fn a_sample_depends_on_its_seed_and_has_only_keys_that_must_rotate() {
    let log = story(80, false);
    let drawn = |sample, seed| {
        let report = make(&Request { sample, seed, ..request(&[log.path()]) }).unwrap();
        let observer = &report.observers[0];
        observer.sample.iter().map(|at| observer.keys[*at].key_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(drawn(10, 7), drawn(10, 7));
    assert_ne!(drawn(10, 7), drawn(10, 8));
    assert_eq!(drawn(10, 7).len(), 10);
    assert_eq!(drawn(1000, 7).len(), 70, "ten of eighty cannot rotate");
    // Computed with Python's hashlib, by the rule in the report.
    let mut expected: Vec<_> = [79, 19, 30, 60, 2].map(id).to_vec();
    let mut five = drawn(5, 7);
    expected.sort();
    five.sort();
    assert_eq!(five, expected);
}
