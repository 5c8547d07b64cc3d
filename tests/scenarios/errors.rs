//! The cloud's errors in every shape, and a region without rotation.

use kms_simulator::{Fault, Operation, OperationSet, Rule};

use super::KEY;
use super::access_keys::{BY_VALUE, keyed, site};
use super::cloud::{Cloud, off};
use super::program::Program;
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};

/// An error in each of the four shapes, and in the older spelling of the last.
fn shapes(code: &str, text: &str) -> [String; 5] {
    [
        format!(r#"{{"error":{{"error_code":"{code}","error_msg":"{text}"}}}}"#),
        format!(r#"{{"error_code":"{code}","error_msg":"{text}","request_id":"0123456789abcdef"}}"#),
        format!(r#"{{"error":{{"code":"{code}","message":"{text}","title":"Some Title"}}}}"#),
        format!(r#"{{"error_code":"{code}","error_msg":"{text}","encoded_authorization_message":"AAAA"}}"#),
        format!(r#"{{"errorCode":"{code}","errorMsg":"{text}"}}"#),
    ]
}

#[test]
fn each_shape_of_an_error_gives_the_right_reason() {
    for (status, code, expected) in [
        ("404 Not Found", "KMS.0207", "unknown: not_found"),
        ("400 Bad Request", "KMS.0209", "non_compliant: key_disabled"),
        ("400 Bad Request", "KMS.0210", "non_compliant: pending_deletion"),
        ("400 Bad Request", "KMS.0211", "exempt: default_key"),
        ("400 Bad Request", "KMS.0312", "exempt: imported_material"),
        ("400 Bad Request", "KMS.0319", "exempt: rotation_unsupported"),
        ("400 Bad Request", "KMS.0324", "exempt: unsupported_key_type"),
        ("400 Bad Request", "KMS.0338", "exempt: custom_keystore"),
        ("400 Bad Request", "KMS.0106", "exempt: replica_key"),
        ("401 Unauthorized", "APIGW.0301", "unknown: authentication_failed"),
        ("403 Forbidden", "KMS.0303", "unknown: authentication_failed"),
        ("403 Forbidden", "KMS.0321", "unknown: access_denied"),
        ("400 Bad Request", "KMS.0201", "unknown: read_failed"),
        ("429 Too Many Requests", "APIGW.0308", "unknown: throttled"),
        ("500 Internal Server Error", "KMS.0100", "unknown: read_failed"),
    ] {
        for body in shapes(code, "what-the-cloud-says") {
            let shape = body.clone();
            let kms = StandIn::start(move |_| answer(status, "content-type: application/json\r\n", &body));
            let policy = Policy { max_elapsed: "50ms", ..Policy::of_one_key(&kms.url()) };
            let applied = Site::new(&policy).apply();
            assert_eq!(applied.key(KEY), expected, "{status} {shape}");
            if expected.starts_with("unknown") {
                assert!(applied.stdout.contains(code), "{shape}: {}", applied.stdout);
                assert!(applied.stdout.contains("what-the-cloud-says"), "{shape}: {}", applied.stdout);
            }
        }
    }
}

#[test]
fn iams_error_shapes_are_reported() {
    for (status, body) in [
        ("401 Unauthorized", r#"{"error":{"code":401,"message":"not-you","title":"Unauthorized"}}"#),
        ("429 Too Many Requests", r#"{"error_code":"IAM.0012","error_msg":"not-you"}"#),
        ("403 Forbidden", r#"{"errorCode":"IAM.0003","errorMsg":"not-you"}"#),
        ("401 Unauthorized", r#"{"error_code":"APIGW.0301","error_msg":"not-you","request_id":"1"}"#),
    ] {
        let iam = StandIn::start(move |_| answer(status, "", body));
        let policy = Policy { max_elapsed: "50ms", ..Policy::of_one_key(&iam.url()).password(None) };
        let applied = Site::new(&policy).apply();
        let reason = if status.starts_with("429") { "login_unavailable" } else { "authentication_failed" };
        assert_eq!(applied.key(KEY), format!("unknown: {reason}"), "{body}");
        assert!(applied.report().error().contains("not-you"), "{}", applied.report().error());
    }
}

/// A server that describes keys and has no rotation calls.
fn without_rotation() -> OperationSet {
    OperationSet::of(&[
        Operation::ReadStatus,
        Operation::EnableRotation,
        Operation::UpdateInterval,
        Operation::DisableRotation,
    ])
}

#[test]
fn characters_that_change_the_text_direction_are_never_shown() {
    let cloud = StandIn::start(|asked| match asked.call() {
        "list-keys" => {
            let key = format!(r#"{{"key_id":"{KEY}","key_alias":"a\u202eb","key_state":"2"}}"#);
            answer("200 OK", "", &format!(r#"{{"keys":["{KEY}"],"key_details":[{key}],"total":1}}"#))
        }
        _ => answer("400 Bad Request", "", r#"{"error_code":"KMS.0001","error_msg":"x\u2066y"}"#),
    });
    let site = Site::new(&Policy { name: r#""pay\u202ements""#, ..Policy::of_one_key(&cloud.url()) });
    let applied = Program::start(site.command(&["apply", "--policy", "policy.yaml"])).finish();
    let daemon = site.run();
    daemon.await_runs(1);
    let page = daemon.get("/").1;
    let log = daemon.stop().stderr;
    for text in [&applied.stdout, &applied.stderr, &page, &log] {
        assert!(!text.contains(['\u{202e}', '\u{2066}']), "{text:?}");
    }
    for text in [&applied.stdout, &page] {
        for shown in ["a\u{fffd}b", "x\u{fffd}y", "pay\u{fffd}ments"] {
            assert!(text.contains(shown), "{text}");
        }
    }
    assert!(log.contains("pay\\u202ements"), "{log}");
}

#[test]
fn a_swiss_server_without_rotation_exempts_its_keys() {
    for credentials in ["{token_file: token}", BY_VALUE] {
        let cloud = Cloud::start(keyed([off()]).behave(|cloud| cloud.unknown = without_rotation()));
        let policy = Policy { region: "eu-ch2", ..Policy::of_one_key(cloud.url()).with(credentials) };
        let applied = site(&policy).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "exempt: rotation_unsupported"), "{applied:#?}");
        assert_eq!(cloud.write_requests(), 0);
    }
}

#[test]
fn the_same_server_elsewhere_is_written_to_without_reading() {
    let cloud = Cloud::start(keyed([off()]).behave(|cloud| cloud.unknown = without_rotation()));
    let applied = site(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!(applied.code, Some(1), "{applied:#?}");
    assert!(applied.key(KEY).starts_with("unknown: "), "{}", applied.key(KEY));
    assert_eq!(cloud.asked(Operation::EnableRotation), 1);
}

#[test]
fn a_swiss_server_with_rotation_is_used() {
    let cloud = Cloud::start(keyed([off()]));
    let applied = site(&Policy { region: "eu-ch2", ..Policy::of_one_key(cloud.url()) }).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
}

#[test]
fn each_cloud_gets_the_same_requests() {
    for (cloud_name, region) in
        [("huawei-cloud", "ap-southeast-1"), ("open-telekom-cloud", "eu-nl"), ("flexible-engine", "eu-west-0")]
    {
        for credentials in ["{token_file: token}", BY_VALUE] {
            let busy = Rule::next(1, Fault::html(502)).on(Operation::ReadStatus);
            let cloud = Cloud::start(keyed([off()]).fault(busy));
            let policy = Policy { cloud: cloud_name, region, ..Policy::of_one_key(cloud.url()).with(credentials) };
            assert_eq!(site(&policy).apply().key(KEY), "compliant", "{cloud_name}");
        }
    }
}

#[test]
fn a_request_id_in_the_body_is_reported() {
    let body = r#"{"error_msg":"no","error_code":"APIGW.0302","request_id":"body-rid-9"}"#;
    let kms = StandIn::start(move |_| answer("403 Forbidden", "", body));
    let error = Site::new(&Policy::of_one_key(&kms.url())).apply().report().key_error(KEY);
    assert!(error.ends_with("(request body-rid-9)"), "{error}");
}
