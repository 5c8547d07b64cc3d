//! Signing requests with an access key: `SDK-HMAC-SHA256` (`docs/kms-api.md` 5.2).
//!
//! A pure function of request, keys and time, so that tests compare it with the documented vectors byte for byte. It
//! signs exactly the headers that it is given. A header that a proxy may rewrite (`user-agent`, `accept-encoding`,
//! `connection`) must not be among them.

use std::fmt::{Display, Write};
use std::time::SystemTime;

use crate::support::hex::hex;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};

/// The algorithm of the signatures.
const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// What is percent-encoded: all but letters, digits and `-._~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The percent-encoded path of the request.
    pub path: &'a str,
    /// The query of the request, without the question mark; empty where there is none.
    pub query: &'a str,
    /// Names, in any case, and values of the headers to sign. `Host` must be among them, with its port where that is
    /// not the scheme's own, and `X-Sdk-Date` as [`sdk_date`] writes it.
    pub headers: &'a [(&'a str, &'a str)],
    /// The exact bytes of the body.
    pub body: &'a [u8],
}

/// The value of `X-Sdk-Date`: UTC to the second. The gateway refuses one that is 15 minutes off.
#[must_use]
pub fn sdk_date(now: SystemTime) -> String {
    let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The value of `Authorization` for a request that is sent with this `X-Sdk-Date`.
#[must_use]
pub fn authorization(request: &Signable<'_>, access_key_id: &str, secret_access_key: &str, sdk_date: &str) -> String {
    let (canonical, signed_headers) = canonical_request(request);
    let to_sign = format!("{ALGORITHM}\n{sdk_date}\n{}", hex(&Sha256::digest(canonical)));
    let signature = hex(&keyed_hash(secret_access_key.as_bytes(), to_sign.as_bytes()));
    format!("{ALGORITHM} Access={access_key_id}, SignedHeaders={signed_headers}, Signature={signature}")
}

/// The canonical request and the names of its signed headers.
fn canonical_request(request: &Signable<'_>) -> (String, String) {
    // A proxy may drop a name with an underscore, so the gateway does not expect it to be signed.
    let mut headers: Vec<(String, &str)> = request
        .headers
        .iter()
        .filter(|(name, _)| !name.contains('_'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let mut canonical = format!("{}\n{}\n{}\n", request.method, path(request.path), query(request.query));
    for (name, value) in &headers {
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let _ = write!(canonical, "\n{names}\n{}", hex(&Sha256::digest(request.body)));
    (canonical, names)
}

/// Each segment encoded anew, and a slash at the end, which only the signed text has.
fn path(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(|segment| encode(&decode(segment)).to_string()).collect();
    let mut canonical = segments.join("/");
    if !canonical.ends_with('/') {
        canonical.push('/');
    }
    canonical
}

/// Pairs sorted by name and then value, both encoded anew; a name alone has an empty value. A plus is a space.
fn query(query: &str) -> String {
    let query = query.replace('+', " ");
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<_> = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// The bytes behind percent-encoded text. A percent sign without two hexadecimal digits is a percent sign.
fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

/// Percent-encodes all but the unreserved characters, in capitals.
pub(super) fn encode(bytes: &[u8]) -> impl Display {
    percent_encode(bytes, RESERVED)
}

fn keyed_hash(key: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length.
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |hash| hash.chain_update(text).finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    fn text(value: &Value) -> &str {
        value.as_str().unwrap()
    }

    #[test]
    fn the_vectors_of_the_official_signer_hold_byte_for_byte() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/golden/signing-vectors.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 3);
        for vector in vectors {
            let headers = vector["headers"].as_object().unwrap();
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
            let target = text(&vector["request_target"]);
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let body = text(&vector["body"]).as_bytes();
            let request = Signable { method: text(&vector["method"]), path, query, headers: &headers, body };
            assert_eq!(canonical_request(&request).0, text(&vector["canonical_request"]), "{}", vector["id"]);
            let signed = authorization(
                &request,
                text(&file["access_key"]),
                text(&file["secret_key"]),
                text(&file["x_sdk_date"]),
            );
            assert_eq!(signed, text(&vector["authorization"]), "{}", vector["id"]);
        }
    }

    #[test]
    fn the_date_is_utc_to_the_second() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_704_164_645_900);
        assert_eq!(sdk_date(now), "20240102T030405Z");
    }

    #[test]
    fn the_path_ends_in_a_slash_and_is_encoded_anew() {
        assert_eq!(path("/v1.0/p/kms"), "/v1.0/p/kms/");
        assert_eq!(path("/a%2fb/%7E/ü/"), "/a%2Fb/~/%C3%BC/");
        assert_eq!(path(""), "/");
        assert_eq!(path("/100%"), "/100%25/");
    }

    #[test]
    fn the_query_is_sorted_by_name_and_then_value() {
        assert_eq!(query("b=2&a=z&a=b&c"), "a=b&a=z&b=2&c=");
        assert_eq!(query("name=eu-de_team&x=%20+"), "name=eu-de_team&x=%20%20");
        assert_eq!(query(""), "");
    }

    #[test]
    fn header_names_are_lowered_values_trimmed_and_underscores_left_out() {
        let headers = [("X-B", "  two "), ("Host", "h:8443"), ("x_skip", "no"), ("x-a", "one")];
        let request = Signable { method: "GET", path: "/", query: "", headers: &headers, body: b"" };
        let (canonical, names) = canonical_request(&request);
        assert_eq!(names, "host;x-a;x-b");
        assert!(canonical.contains("\nhost:h:8443\nx-a:one\nx-b:two\n\nhost;x-a;x-b\n"), "{canonical}");
    }
}
