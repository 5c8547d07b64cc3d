//! The signature compared with a second, different implementation of the same section of the documents.

#![expect(clippy::format_collect, reason = "short and clear")]

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use kms_rotationd::kms::auth::signing::{Signable, authorization};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const UNRESERVED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";

/// Encodes text that is not encoded yet.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match char::from(byte) {
        c if UNRESERVED.contains(c) => c.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The header, computed from the separate parts of a request: nothing has to be parsed.
fn second_opinion(
    method: &str,
    segments: &[String],
    query: &[(String, String)],
    headers: &BTreeMap<String, String>,
    body: &str,
    (access, secret, date): (&str, &str, &str),
) -> String {
    let path: String = segments.iter().map(|segment| format!("{}/", encoded(segment))).collect();
    let mut query = query.to_vec();
    query.sort();
    let query: Vec<String> = query.iter().map(|(k, v)| format!("{}={}", encoded(k), encoded(v))).collect();
    let lowered: BTreeMap<String, &str> =
        headers.iter().map(|(name, value)| (name.to_lowercase(), value.trim())).collect();
    let names: Vec<&str> = lowered.keys().map(String::as_str).collect();
    let lines: Vec<String> = lowered.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    let canonical = [
        method.to_owned(),
        format!("/{path}"),
        query.join("&"),
        lines.join("\n"),
        String::new(),
        names.join(";"),
        hexadecimal(&Sha256::digest(body)),
    ]
    .join("\n");
    let to_sign = format!("SDK-HMAC-SHA256\n{date}\n{}", hexadecimal(&Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(to_sign.as_bytes());
    let signature = hexadecimal(&mac.finalize().into_bytes());
    format!("SDK-HMAC-SHA256 Access={access}, SignedHeaders={}, Signature={signature}", names.join(";"))
}

proptest! {
    #![proptest_config(super::properties::config())]

    #[test]
    fn two_implementations_agree(
        method in prop_oneof![Just("GET"), Just("POST"), Just("PUT")],
        segments in prop::collection::vec("[a-zA-Z0-9 ._~%üß/?&=+-]{1,12}", 1..5),
        query in prop::collection::vec(("[a-z ü%&=+]{1,6}", "[a-zA-Z0-9 ü%&=+/]{0,8}"), 0..5),
        mut headers in prop::collection::btree_map("X-[A-Za-z]{1,10}", "[ a-zA-Z0-9+/=;:,]{0,20}", 0..4),
        body in "\\PC{0,60}",
        secret in "[a-zA-Z0-9]{1,80}",
    ) {
        // Names that differ only in their case are one header.
        let mut seen = std::collections::BTreeSet::new();
        headers.retain(|name, _| seen.insert(name.to_lowercase()));
        headers.insert("Host".to_owned(), "kms.example.com:8443".to_owned());
        headers.insert("X-Sdk-Date".to_owned(), "20240102T030405Z".to_owned());
        headers.retain(|name, _| name != "x-sdk-date" && name != "X-sdk-date");

        let path: String = segments.iter().map(|segment| format!("/{}", encoded(segment))).collect();
        let target: Vec<String> = query.iter().map(|(k, v)| format!("{}={}", encoded(k), encoded(v))).collect();
        let target = target.join("&");
        let listed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = Signable { method, path: &path, query: &target, headers: &listed, body: body.as_bytes() };
        let date = "20240102T030405Z";
        let ours = authorization(&request, "AK", &secret, date);
        prop_assert_eq!(ours, second_opinion(method, &segments, &query, &headers, &body, ("AK", &secret, date)));
    }

    #[test]
    fn a_changed_request_has_another_signature(body in "[a-z]{1,20}", other in "[a-z]{1,20}") {
        prop_assume!(body != other);
        let sign = |path: &str, host: &str, body: &str| {
            let headers = [("host", host), ("x-sdk-date", "20240102T030405Z")];
            let request = Signable { method: "POST", path, query: "", headers: &headers, body: body.as_bytes() };
            authorization(&request, "AK", "SK", "20240102T030405Z")
        };
        let signed = sign("/v1.0/p/kms", "h", &body);
        prop_assert_ne!(&signed, &sign("/v1.0/p/kms", "h", &other));
        prop_assert_ne!(&signed, &sign("/v1.0/q/kms", "h", &body));
        prop_assert_ne!(&signed, &sign("/v1.0/p/kms", "h:8443", &body));
    }
}
