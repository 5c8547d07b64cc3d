//! The story is the same for the same seed, has only the parts that fit, and these do not overlap.

use std::collections::BTreeSet;

use super::*;
use crate::policy;

const STORY: &str = include_str!("../../../config/policy.story.yaml");
const MINIMAL: &str = include_str!("../../../config/policy.minimal.yaml");
const SEEDS: Range<u64> = 0..25;

/// One of the exemptions of the policy for the story ends within 400 days from now.
fn start() -> SystemTime {
    "2025-10-25T11:47:00Z".parse::<Timestamp>().unwrap().into()
}

fn policy(text: &str) -> Policy {
    policy::read(text.as_bytes(), "policy.yaml", |_| None, start()).unwrap_or_else(|problems| panic!("{problems}")).0
}

fn story(text: &str, days: u32, seed: u64) -> Story {
    Story::new(&policy(text), start(), DAY * days, seed)
}

/// The kinds of its parts, and whether they last.
fn parts(story: &Story) -> BTreeSet<String> {
    story.events.iter().map(|event| format!("{:?} {}", event.kind, event.to.is_some())).collect()
}

#[test]
fn the_same_seed_gives_the_same_story_and_another_one_gives_another() {
    let (first, second, other) = (story(STORY, 400, 7), story(STORY, 400, 7), story(STORY, 400, 8));
    assert_eq!(first.events, second.events);
    assert_eq!(format!("{:?}", first.actions()), format!("{:?}", second.actions()));
    assert_ne!(first.events, other.events);
    let key = |story: &Story| story.events.iter().find_map(|event| event.key.clone()).unwrap().key_id;
    assert_ne!(key(&first), key(&other), "ids differ too");
}

#[test]
fn four_hundred_days_have_every_part() {
    for seed in SEEDS {
        let expected = [
            "SwitchedOff true",
            "SwitchedOff false",
            "Outage true",
            "MissedRotation true",
            "NewKey false",
            "ExemptionEnds false",
            "DaemonDown true",
        ];
        assert_eq!(parts(&story(STORY, 400, seed)), expected.map(str::to_owned).into(), "seed {seed}");
    }
}

#[test]
fn a_hundred_and_twenty_days_have_a_repair_an_outage_and_an_overdue_key() {
    for seed in SEEDS {
        let parts = parts(&story(STORY, 120, seed));
        for part in ["SwitchedOff false", "SwitchedOff true", "Outage true", "MissedRotation true", "DaemonDown true"] {
            assert!(parts.contains(part), "seed {seed}: {parts:?}");
        }
    }
}

#[test]
fn parts_are_apart_and_within_the_span() {
    for (days, seed) in
        [3, 10, 30, 60, 120, 400, 3_660].into_iter().flat_map(|days| SEEDS.map(move |seed| (days, seed)))
    {
        let Story { events, .. } = story(STORY, days, seed);
        let end = start() + DAY * days;
        for event in &events {
            let Range { start: from, end: to } = event.time();
            assert!(start() < from && to < end, "{days} days, seed {seed}: {event}");
        }
        let distance = (2 * DAY).min(DAY * days / 30);
        let others: Vec<_> = events.iter().filter(|event| event.kind != EventKind::ExemptionEnds).collect();
        for pair in others.windows(2) {
            let apart = pair[1].from.duration_since(pair[0].time().end).unwrap();
            assert!(apart >= distance, "{days} days, seed {seed}: {} and {}", pair[0], pair[1]);
        }
        let keys: BTreeSet<_> = events.iter().filter_map(|event| event.key.as_ref()).map(|key| key.key_id).collect();
        assert_eq!(keys.len(), events.iter().filter(|event| event.key.is_some()).count(), "a key has one part");
    }
}

#[test]
fn a_short_span_has_only_the_parts_that_fit() {
    let all = |days| SEEDS.flat_map(|seed| parts(&story(STORY, days, seed))).collect::<BTreeSet<_>>();
    assert_eq!(all(0), BTreeSet::new());
    let short = ["NewKey false", "Outage true", "SwitchedOff false", "SwitchedOff true"].map(str::to_owned);
    assert_eq!(all(12), short.into());
    assert!(!all(30).contains("DaemonDown true") && !all(30).contains("MissedRotation true"));
}

#[test]
fn what_the_policy_does_not_allow_is_left_out() {
    let expect = |text: &str, expected: &[&str]| {
        let found: BTreeSet<_> = SEEDS.flat_map(|seed| parts(&story(text, 400, seed))).collect();
        assert_eq!(found, expected.iter().map(|part| (*part).to_owned()).collect());
    };
    // One key, which can have one part.
    expect(MINIMAL, &["DaemonDown true", "MissedRotation true", "Outage true"]);
    let always = MINIMAL.replace("rotation_interval: 90", "rotation_interval: 90\n        reapply: always");
    expect(&always, &["DaemonDown true", "Outage true", "SwitchedOff false"]);
    let monitored = STORY.replace("    proof: required\n", "    mode: monitor\n").replace("2026-06-30", "2025-06-30");
    expect(&monitored, &["DaemonDown true", "MissedRotation true", "NewKey false", "Outage true", "SwitchedOff true"]);
}

#[test]
fn a_run_is_made_during_the_outage_and_none_during_the_absence() {
    for (cron, seed) in ["0 6 * * *", "30 4 * * 1"].into_iter().flat_map(|cron| SEEDS.map(move |seed| (cron, seed))) {
        let policy = policy(&STORY.replace("*/30 * * * *", cron));
        let story = Story::new(&policy, start(), 400 * DAY, seed);
        let of = |kind| story.events.iter().find(|event: &&Event| event.kind == kind).map(Event::time);
        let outage = of(EventKind::Outage).unwrap_or_else(|| panic!("{cron}, seed {seed}"));
        let run = policy.schedule.calendar.next_after(outage.start.try_into().unwrap()).unwrap();
        assert!(outage.contains(&run.into()), "{cron}, seed {seed}: {outage:?}");
        assert_eq!(story.absences(), [of(EventKind::DaemonDown).unwrap()]);
    }
}

#[test]
fn the_daemon_is_not_interrupted_while_a_rotation_is_missed() {
    for seed in SEEDS {
        let policy = policy(STORY);
        let story = Story::new(&policy, start(), 400 * DAY, seed);
        let of = |kind| story.events.iter().find(|event: &&Event| event.kind == kind).map(Event::time).unwrap();
        let (missed, down) = (of(EventKind::MissedRotation), of(EventKind::DaemonDown));
        // The key rotates every 30 days, and the daemon has to see all of them.
        assert!(down.end <= missed.start - 30 * DAY || down.start >= missed.end, "seed {seed}: {missed:?} {down:?}");
        assert!(missed.end.duration_since(missed.start).unwrap() >= 12 * DAY, "seed {seed}: {missed:?}");
    }
}

#[test]
fn an_event_is_a_sentence() {
    let sentences: Vec<_> = story(STORY, 400, 1).events.iter().map(ToString::to_string).collect();
    let sentences = sentences.join("\n");
    for part in [
        "the cloud misses the rotation of key ",
        " in project payments, and makes up for it at the end",
        "the daemon is down, and no run checks the keys",
        "someone has switched off the rotation of key ledger-",
        " in project ledger; in mode monitor the daemon only reports it",
        "the cloud is down: it answers every request with 502 or 504, and no key can be read",
        " in project payments; the next run switches it on again",
        "in project payments is created with rotation off; the next run switches it on",
        "2026-07-01 00:00 UTC: the exemption of key archive-2026 (",
    ] {
        assert!(sentences.contains(part), "{part} is not in\n{sentences}");
    }
}
