//! A cassette of `probe`: a cloud that replays it is the recorded one, for another probe and for the daemon.

use kms_simulator::{Cassette, Dialect, Key, LargestPage, NeverRotated, Setup, SuccessBody};
use serde_json::{Value, json};

use super::cloud::{Cloud, many, off, setup};
use super::probe::{policy, probe, rows};
use super::program::{Finished, Program};
use super::site::{Policy, Site};
use super::{KEY, PROJECT, key_id};

/// A probe with a recording: how it ended, and the cassette.
#[track_caller]
fn record(setup: Setup) -> (Finished, String) {
    let cloud = Cloud::start(setup);
    let site = Site::new(&policy(&cloud));
    let done = probe(&site, &["--record", "cassette.json"]);
    assert_eq!((done.code, cloud.rotation(KEY).0), (Some(0), false), "{done:#?}");
    let cassette = std::fs::read_to_string(site.path("cassette.json")).unwrap();
    (done, cassette)
}

fn account() -> Setup {
    let more = [Key::new(key_id(20)).default_of("evs"), Key::new(key_id(21)).spec("EC_P256")];
    setup(many(4).into_iter().chain([off()]).chain(more))
}

fn replaying(cassette: &str) -> Setup {
    account().cassette(Cassette::read(cassette.as_bytes()).unwrap())
}

#[test]
fn a_cloud_that_replays_a_cassette_answers_a_probe_like_the_recorded_one() {
    for dialect in [Dialect::Huawei, Dialect::OpenTelekomCloud, Dialect::AllText] {
        for (never, body, refuses, page) in [
            (NeverRotated::Null, SuccessBody::Object, true, LargestPage::Capping(5)),
            (NeverRotated::Zero, SuccessBody::Empty, false, LargestPage::Refusing(100)),
            (NeverRotated::Empty, SuccessBody::Object, false, LargestPage::default()),
            (NeverRotated::Absent, SuccessBody::Empty, true, LargestPage::default()),
        ] {
            let (first, recorded) = record(account().behave(|behaviour| {
                behaviour.dialect = dialect;
                behaviour.never_rotated = never;
                behaviour.success_body = Some(body);
                behaviour.status_refused_where_unrotatable = refuses;
                behaviour.largest_page = page;
            }));
            let (second, again) = record(replaying(&recorded));
            assert_eq!(again, recorded, "{dialect:?} {never:?}");
            for mark in ["as documented", "DIFFERS", "not documented"] {
                assert_eq!(rows(&second, mark), rows(&first, mark));
            }
            let questions = |done: &Finished| done.stdout.split_once("\nThe open questions").unwrap().1.to_owned();
            assert_eq!(questions(&second), questions(&first));
        }
    }
}

/// The recorded calls of this name and situation.
fn calls<'c>(cassette: &'c mut Value, path: &str, situation: &str) -> Vec<&'c mut Value> {
    let calls = cassette["calls"].as_array_mut().unwrap().iter_mut();
    let found: Vec<_> = calls.filter(|call| call["call"] == path && call["situation"] == situation).collect();
    assert!(!found.is_empty(), "{path}, {situation}");
    found
}

/// A cloud that no document describes.
fn unusual() -> String {
    let mut cassette: Value = serde_json::from_str(&record(account()).1).unwrap();
    for (path, situation) in [
        ("enable-key-rotation", "rotation on"),
        ("disable-key-rotation", "rotation off"),
        ("update-key-rotation-interval", "rotation off"),
        ("update-key-rotation-interval", "interval too short"),
    ] {
        for call in calls(&mut cassette, path, situation) {
            call["status"] = 200.into();
            call["body"] = json!({});
        }
    }
    for call in calls(&mut cassette, "get-key-rotation-status", "rotation on") {
        call["body"]["next_rotation_time"] = 1_700_000_000_u64.into();
    }
    for call in calls(&mut cassette, "update-key-rotation-interval", "interval too long") {
        call["body"]["error"]["error_code"] = "KMS.3002".into();
    }
    cassette["interval_after_enabling"] = 180.into();
    cassette["enabling_keeps_interval"] = true.into();
    cassette.to_string()
}

#[test]
fn what_no_document_has_is_recorded_and_replayed() {
    let unusual = unusual();
    let (done, again) = record(replaying(&unusual));
    let (found, expected): (Value, Value) =
        (serde_json::from_str(&again).unwrap(), serde_json::from_str(&unusual).unwrap());
    assert_eq!(found["enabling_keeps_interval"], true);
    assert_eq!(found["interval_after_enabling"], 180);
    let answers = |cassette: &Value| {
        let calls = cassette["calls"].as_array().unwrap().iter();
        calls.map(|call| (call["call"].clone(), call["status"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(answers(&found), answers(&expected));
    let differs = rows(&done, "DIFFERS");
    for row in [
        "enable-key-rotation, rotation on",
        "update-key-rotation-interval 29 days, interval too short",
        "update-key-rotation-interval 366 days, interval too long",
        "update-key-rotation-interval 90 days, rotation off",
        "get-key-rotation-status, rotation on",
    ] {
        assert!(differs.contains(&row), "{row} in {differs:?}");
    }
    for text in [
        "    differs:     there is a field `next_rotation_time`, a number\n",
        "    differs:     it shows rotation on, 180 days, not rotation on, 365 days\n",
        "    differs:     the error code is KMS.3002, not KMS.3001\n",
        "    no, the interval stays; without one before it sets 180 days\n",
    ] {
        assert!(done.stdout.contains(text), "{text} in {}", done.stdout);
    }
}

#[test]
fn the_program_is_right_on_a_cloud_that_no_document_describes() {
    let cloud = Cloud::start(replaying(&unusual()));
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    assert_eq!(site.apply().code, Some(0));
    assert_eq!(cloud.rotation(KEY), (true, 90));
    let second = site.apply();
    assert_eq!((second.code, cloud.writes_applied(PROJECT, KEY)), (Some(0), 2), "{second:?}");
}

fn rehearse(site: &Site, more: &[&str]) -> Finished {
    let arguments = ["rehearse", "--policy", "policy.yaml", "--once", "--cassette", "cassette.json"];
    Program::start(site.command(&[&arguments, more].concat())).finish()
}

#[test]
fn a_rehearsal_is_in_a_cloud_that_answers_as_recorded() {
    let site = Site::new(&Policy::of_one_key("http://127.0.0.1:1"));
    let (_, recorded) = record(account());
    site.write("cassette.json", &recorded);
    let usual = rehearse(&site, &[]);
    assert_eq!(usual.code, Some(0), "{usual:?}");
    assert!(usual.stdout.contains("\n  answers as recorded on open-telekom-cloud eu-de: 22 calls\n"), "{usual:?}");
    assert!(usual.stdout.contains("The rehearsal ended: 1 of 1 key on policy"), "{usual:?}");
    // A cloud without the status call.
    let mut cassette: Value = serde_json::from_str(&recorded).unwrap();
    for situation in ["rotation on", "rotation off", "rotation never on"] {
        for call in calls(&mut cassette, "get-key-rotation-status", situation) {
            call["status"] = 404.into();
            call["body"] = json!({"error_code": "APIGW.0101", "error_msg": "The api does not exist"});
        }
    }
    site.write("cassette.json", &cassette.to_string());
    let unread = rehearse(&site, &["--fast-forward", "60d"]);
    assert_eq!(unread.code, Some(0), "{unread:?}");
    assert!(unread.stdout.contains("rotation setting cannot be read"), "{unread:?}");
}

#[test]
fn a_broken_or_newer_cassette_is_refused() {
    let site = Site::new(&Policy::of_one_key("http://127.0.0.1:1"));
    let missing = rehearse(&site, &[]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("cannot use the cassette cassette.json: No such file"), "{missing:?}");
    for (text, why) in [
        ("{", "it is not a cassette: EOF while parsing an object at line 1 column 1"),
        (r#"{"format": "kms-rotationd cassette", "version": 2}"#, "it has version 2, and this program reads version 1"),
        (r#"{"format": "kms-rotationd cassette", "version": 1}"#, "it is a broken cassette: missing field `cloud`"),
    ] {
        site.write("cassette.json", text);
        let refused = rehearse(&site, &[]);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""));
        let said = format!("kms-rotationd: cannot use the cassette cassette.json: {why}");
        assert!(refused.stderr.starts_with(&said), "{refused:?}");
    }
}
