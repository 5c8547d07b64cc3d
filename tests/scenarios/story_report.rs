//! The audit report of a rehearsal in fast-forward has exactly what its story says, sentence by sentence.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kms_rotationd::evidence::reader::parse_time;
use serde_json::Value;

use super::program::{Program, binary};
use super::story::{sentences, story_site};

/// The time between two runs, which finds things that much later.
const STEP: Duration = Duration::from_secs(4 * 3_600);

/// The report of a rehearsal, as JSON.
struct Reported(Value);

/// A sentence of the story.
struct Sentence<'s> {
    from: SystemTime,
    to: Option<SystemTime>,
    key_id: Option<&'s str>,
    text: &'s str,
}

impl<'s> Sentence<'s> {
    /// Reads `from A UTC to B UTC: text` or `A UTC: text`.
    fn parse(sentence: &'s str) -> Self {
        let (times, text) = sentence.split_once(" UTC: ").unwrap();
        let time = |text: &str| parse_time(&format!("{}:00Z", text.trim().replace(' ', "T"))).unwrap();
        let (from, to) = match times.strip_prefix("from ").and_then(|times| times.split_once(" UTC to ")) {
            Some((from, to)) => (time(from), Some(time(to))),
            None => (time(times), None),
        };
        Self { from, to, key_id: text.split(['(', ')']).nth(1).filter(|id| id.len() == 36), text }
    }

    fn is(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

fn time(value: &Value) -> SystemTime {
    parse_time(value.as_str().unwrap_or_else(|| panic!("no time: {value}"))).unwrap()
}

/// Whether the first run after this time was at the other one.
fn is_next_run(run: SystemTime, after: SystemTime) -> bool {
    run.duration_since(after).is_ok_and(|later| later <= STEP)
}

impl Reported {
    fn observer(&self) -> &Value {
        &self.0["observers"][0]
    }

    fn keys(&self) -> &[Value] {
        self.observer()["keys"].as_array().unwrap()
    }

    fn key(&self, key_id: &str) -> &Value {
        self.keys().iter().find(|key| key["key_id"] == key_id).unwrap_or_else(|| panic!("no key {key_id}"))
    }

    /// The departures of a kind, with their keys.
    fn departures(&self, kind: &str) -> Vec<(&str, &Value)> {
        let mut found = Vec::new();
        for key in self.keys() {
            let all = key["departures"].as_array().unwrap().iter().filter(|departure| departure["kind"] == kind);
            found.extend(all.map(|departure| (key["key_id"].as_str().unwrap(), departure)));
        }
        found
    }

    fn gaps(&self, kind: &str) -> Vec<&Value> {
        self.observer()["gaps"].as_array().unwrap().iter().filter(|gap| gap["kind"] == kind).collect()
    }
}

/// Takes the departure of this key at the first run after a time.
#[track_caller]
fn take<'r>(departures: &mut Vec<(&'r str, &'r Value)>, key_id: &str, after: SystemTime, sentence: &str) -> &'r Value {
    let at = departures.iter().position(|(key, it)| *key == key_id && is_next_run(time(&it["at"]), after));
    departures.remove(at.unwrap_or_else(|| panic!("{sentence}\nis not in {departures:#?}"))).1
}

#[test]
fn the_report_has_what_the_story_says_and_nothing_else() {
    let mut kinds = [0; 6];
    for seed in ["1", "5"] {
        let site = story_site(r#"{cron: "0 */4 * * *"}"#);
        let arguments = ["rehearse", "--policy", "story.yaml", "--fast-forward", "200d", "--once", "--seed", seed];
        let more = ["--evidence", "evidence", "--report", "report.html", "--log-level", "off"];
        let ended = Program::start(site.command(&[&arguments[..], &more].concat())).finish();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let html = fs::read_to_string(site.path("report.html")).unwrap();
        assert!(html.contains("SIMULATED") && ended.stdout.contains("SIMULATED: report.html: "), "{}", ended.stdout);
        let told = sentences(&ended);
        assert!(told.len() >= 5, "{told:?}");
        compare(&told, &report(&site.path("evidence")), &mut kinds);
    }
    assert!(kinds[..5].iter().all(|count| *count > 0), "each kind has happened: {kinds:?}");
}

fn report(folder: &Path) -> Reported {
    let folder = folder.to_str().unwrap();
    let made = Program::start(binary(&["report", "--evidence", folder, "--format", "json"])).finish();
    assert_eq!(made.code, Some(1), "{}", made.stderr);
    Reported(serde_json::from_str(&made.stdout).unwrap())
}

/// Finds each sentence in the report; what remains of the report is not in the story.
fn compare(told: &[&str], report: &Reported, kinds: &mut [u32; 6]) {
    let first_run = time(&report.observer()["first_record_at"]);
    let projects = report.observer()["projects"].as_array().unwrap().len();
    let mut drifts = report.departures("drift");
    let mut no_longer_exempt = report.departures("no_longer_exempt");
    let (mut unreadable, mut not_looked) = (report.gaps("unreadable"), report.gaps("not_looked"));
    let mut repaired = report.departures("repaired");
    let mut appeared: Vec<_> = report.keys().iter().filter(|key| key["appeared"] == true).collect();
    for sentence in told {
        let Sentence { from, to, key_id, .. } = Sentence::parse(sentence);
        let told = Sentence::parse(sentence);
        let key_id = key_id.unwrap_or_default();
        if told.is("the daemon is down") {
            kinds[0] += 1;
            let to = to.unwrap();
            let is_it = |gap: &&Value| is_next_run(from, time(&gap["from"])) && is_next_run(time(&gap["to"]), to);
            let at = not_looked.iter().position(is_it);
            not_looked.remove(at.unwrap_or_else(|| panic!("{sentence}\nis not in {not_looked:#?}")));
        } else if told.is("the cloud is down") {
            kinds[1] += 1;
            let to = to.unwrap();
            let before = unreadable.len();
            unreadable.retain(|gap| !(is_next_run(time(&gap["from"]), from) && is_next_run(time(&gap["to"]), to)));
            assert_eq!(before - unreadable.len(), projects, "{sentence}\nfor each project: {unreadable:#?}");
        } else if told.is("switches off the rotation") {
            kinds[2] += 1;
            let off = take(&mut drifts, key_id, from, sentence);
            assert_eq!((&off["by"], &off["after"]["enabled"]), (&"other".into(), &false.into()), "{sentence}");
            let on = take(&mut repaired, key_id, from, sentence);
            assert_eq!((&on["by"], &on["at"]), (&"us".into(), &off["at"]), "{sentence}");
            assert_eq!(on["request_ids"].as_array().unwrap().len(), 2, "switched on, and its interval set");
        } else if told.is("has switched off the rotation") {
            kinds[2] += 1;
            let off = take(&mut drifts, key_id, from, sentence);
            let on = take(&mut drifts, key_id, to.unwrap(), sentence);
            assert_eq!(
                (&off["after"]["enabled"], &on["after"]["enabled"]),
                (&false.into(), &true.into()),
                "{sentence}"
            );
            assert_eq!((&off["by"], &on["by"]), (&"other".into(), &"other".into()), "{sentence}");
        } else if told.is("is created with rotation off") {
            kinds[3] += 1;
            let at = appeared.iter().position(|key| key["key_id"] == key_id);
            let key = appeared.remove(at.unwrap_or_else(|| panic!("{sentence}\nis not in {appeared:#?}")));
            assert!(is_next_run(time(&key["from"]), from), "{sentence}: {key:#}");
            let is_written =
                key["departures"].as_array().unwrap().iter().any(|departure| departure["write"] == "applied");
            assert_eq!(is_written, told.is("the next run switches it on"), "{sentence}: {key:#}");
        } else if told.is("the cloud misses the rotation") {
            kinds[4] += 1;
            let key = report.key(key_id);
            let rotations = key["rotations"].as_array().unwrap();
            let late = rotations.iter().find(|rotation| is_next_run(time(&rotation["recorded_at"]), to.unwrap()));
            assert_eq!(late.unwrap_or_else(|| panic!("{sentence}: {key:#}"))["in_time"], false, "{sentence}");
            assert_eq!(key["verdict"], "not_met", "{sentence}");
        } else {
            assert!(told.is("the exemption of") && told.text.ends_with(" ends"), "an unknown sentence: {sentence}");
            kinds[5] += 1;
            take(&mut no_longer_exempt, key_id, from, sentence);
            // The policy requires rotation from then on, so the same run may have changed the key.
            repaired.retain(|(key, it)| *key != key_id || !is_next_run(time(&it["at"]), from));
        }
    }
    // The first run repairs what the simulated cloud begins with, and that is no part of the story.
    repaired.retain(|(_, departure)| time(&departure["at"]) > first_run);
    assert!(drifts.is_empty(), "not in the story: {drifts:#?}");
    assert!(repaired.is_empty(), "not in the story: {repaired:#?}");
    assert!(no_longer_exempt.is_empty(), "not in the story: {no_longer_exempt:#?}");
    assert!(unreadable.is_empty() && not_looked.is_empty(), "not in the story: {unreadable:#?} {not_looked:#?}");
    assert!(appeared.is_empty(), "not in the story: {appeared:#?}");
    assert!(report.keys().iter().all(|key| key["vanished"] == false));
}
