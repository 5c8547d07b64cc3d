//! `SDK-HMAC-SHA256` as the gateway checks it: the canonical request and its signature (`docs/kms-api.md` 5.2).
//!
//! A pure function of request and secret; `access_key` has the keys and the clock. If the documents leave a choice, the
//! check is the strict one: a client that passes it also passes the others.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

use super::world::Request;

const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// Replaces the body's hash if the body is not signed.
const UNSIGNED_PAYLOAD: &[u8] = b"UNSIGNED-PAYLOAD";

/// The parts of the header `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a> {
    pub(super) access: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

/// Why there is no canonical request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CanonicalError {
    /// `SignedHeaders` is not sorted, has upper case, or has a name with `_`.
    Names,
    /// `SignedHeaders` lacks `x-sdk-date`.
    DateNotSigned,
    /// A header of `SignedHeaders` is missing or repeated.
    Header(Box<str>),
    /// `X-Sdk-Content-Sha256` is not the hash of the body.
    BodyHash,
}

impl<'a> Authorization<'a> {
    /// `None` if the header is absent, malformed, or has another scheme.
    pub(super) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let fields = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let mut fields = fields.split(',').map(str::trim);
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=').filter(|it| !it.is_empty());
        let (access, signed_headers, signature) = (field("Access")?, field("SignedHeaders")?, field("Signature")?);
        fields.next().is_none().then_some(Self { access, signed_headers, signature })
    }

    /// Whether the request was signed with this secret.
    pub(super) fn matches(&self, secret: &str, request: &Request<'_>) -> Result<bool, CanonicalError> {
        let date = header(request.headers, "x-sdk-date")?;
        let canonical = canonical_request(request, self.signed_headers)?;
        Ok(sign(secret, date, &canonical) == self.signature)
    }
}

/// The signature over a canonical request.
fn sign(secret: &str, date: &[u8], canonical_request: &[u8]) -> String {
    let mut text = format!("{ALGORITHM}\n").into_bytes();
    text.extend_from_slice(date);
    text.push(b'\n');
    text.extend_from_slice(hex(&Sha256::digest(canonical_request)).as_bytes());
    // An HMAC accepts keys of every length.
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mac| mac.chain_update(&text).finalize());
    mac.map(|mac| hex(&mac.into_bytes())).unwrap_or_default()
}

fn canonical_request(request: &Request<'_>, signed_headers: &str) -> Result<Vec<u8>, CanonicalError> {
    let names: Vec<_> = signed_headers.split(';').collect();
    let in_order = names.windows(2).all(|pair| pair[0] < pair[1]);
    let signable = |name: &&str| !name.is_empty() && !name.contains('_') && !name.contains(char::is_uppercase);
    if !in_order || !names.iter().all(signable) {
        return Err(CanonicalError::Names);
    }
    if !names.contains(&"x-sdk-date") {
        return Err(CanonicalError::DateNotSigned);
    }
    let body_hash = body_hash(request)?;
    let (uri, query) = (canonical_uri(request.path), canonical_query(request.query.unwrap_or_default()));
    let mut canonical = format!("{}\n{uri}\n{query}\n", request.method).into_bytes();
    for name in names {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(b':');
        canonical.extend_from_slice(header(request.headers, name)?);
        canonical.push(b'\n');
    }
    canonical.push(b'\n');
    canonical.extend_from_slice(signed_headers.as_bytes());
    canonical.push(b'\n');
    canonical.extend_from_slice(&body_hash);
    Ok(canonical)
}

/// The trimmed value of a header that occurs once.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a [u8], CanonicalError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes().trim_ascii()),
        _ => Err(CanonicalError::Header(name.into())),
    }
}

/// The hash of the body, or the value of `X-Sdk-Content-Sha256`, which must be correct.
fn body_hash<'a>(request: &Request<'a>) -> Result<Cow<'a, [u8]>, CanonicalError> {
    let hash = hex(&Sha256::digest(request.body.unwrap_or_default())).into_bytes();
    let stated = request.headers.get("x-sdk-content-sha256").map(|stated| stated.as_bytes().trim_ascii());
    match stated {
        None => Ok(hash.into()),
        Some(stated) if stated == UNSIGNED_PAYLOAD || stated == hash => Ok(stated.into()),
        Some(_) => Err(CanonicalError::BodyHash),
    }
}

fn canonical_uri(path: &str) -> String {
    let path = decode(path, false);
    let segments: Vec<_> = path.split(|byte| *byte == b'/').map(encode).collect();
    let mut uri = segments.join("/");
    if !uri.ends_with('/') {
        uri.push('/');
    }
    uri
}

/// Sorted before encoding: after it, the order differs beyond ASCII.
fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name, true), decode(value, true)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// Decodes percent signs; one without two digits after it is kept.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(digit(*high).unwrap_or_default() << 4 | digit(*low).unwrap_or_default());
                rest = after;
            }
            (b'+', _) if plus_is_space => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    decoded
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Bytes as hexadecimal digits in lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The time of `X-Sdk-Date`: UTC, only in the form `YYYYMMDDTHHMMSSZ`.
pub(super) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    const FORM: &str = "%Y%m%dT%H%M%SZ";
    let text = headers.get("x-sdk-date")?.to_str().ok()?.trim();
    let time =
        jiff::civil::DateTime::strptime(FORM, text).ok().filter(|time| time.strftime(FORM).to_string() == text)?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Method;
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    const ACCESS: &str = "EXAMPLEAK0123456789A";
    const SECRET: &str = "ExampleSecretKey0123456789abcdefghijKLMN";
    const HOST: (&str, &str) = ("host", "kms.eu-west-101.myhuaweicloud.eu");
    const DATE: (&str, &str) = ("x-sdk-date", "20240102T030405Z");
    const PROJECT: (&str, &str) = ("x-project-id", "0123456789abcdef0123456789abcdef");
    const JSON: (&str, &str) = ("content-type", "application/json;charset=UTF-8");
    const TOKEN: (&str, &str) = ("x-security-token", "ggpjbi1ub3J0aC00TOKENexample+/==");
    const BASE: &str = "/v1.0/0123456789abcdef0123456789abcdef/kms";

    struct Sent {
        method: Method,
        path: String,
        query: Option<&'static str>,
        headers: HeaderMap,
        body: &'static str,
    }

    impl Sent {
        fn new(method: Method, path: &str, headers: &[(&'static str, &str)], body: &'static str) -> Self {
            let header = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
            let headers = headers.iter().map(header).collect();
            Self { method, path: path.to_owned(), query: None, headers, body }
        }

        fn request(&self) -> Request<'_> {
            let Self { method, path, query, headers, body } = self;
            Request { method, path, query: *query, headers, body: Some(body.as_bytes()) }
        }

        fn canonical(&self, signed_headers: &str) -> Result<String, CanonicalError> {
            canonical_request(&self.request(), signed_headers).map(|canonical| String::from_utf8(canonical).unwrap())
        }
    }

    /// The test vectors of the official signer.
    #[test]
    fn signatures_are_those_of_the_official_signer() {
        for (sent, signed_headers, hash, signature) in [
            (
                Sent::new(
                    Method::POST,
                    &format!("{BASE}/enable-key-rotation"),
                    &[HOST, DATE, JSON, PROJECT],
                    r#"{"key_id":"0d0466b0-e727-4d9c-b35d-f84bb474a37f"}"#,
                ),
                "content-type;host;x-project-id;x-sdk-date",
                "52e4a323375ad97ec46e64e27ff44ba206cef446657b2ed6a1e39ff30648ea29",
                "7403ae5175e907d6b4d2079b305a42230d1b6f224839e0a921750da8700fa301",
            ),
            (
                Sent::new(
                    Method::POST,
                    &format!("{BASE}/update-key-rotation-interval"),
                    &[HOST, DATE, JSON, PROJECT, TOKEN],
                    concat!(
                        r#"{"key_id":"0d0466b0-e727-4d9c-b35d-f84bb474a37f","rotation_interval":30,"#,
                        r#""sequence":"919c82d4-8046-4722-9094-35c3c6524cff"}"#
                    ),
                ),
                "content-type;host;x-project-id;x-sdk-date;x-security-token",
                "52c69d7bccf4cd3eca950b5d95c797460a1b789228780fa7161f4237bef94740",
                "c97e5a875ce9d656e05cbb5320a6e3d9c469a0c9bf8821d9c6457dc43f59e954",
            ),
            (
                Sent::new(Method::GET, &format!("{BASE}/user-quotas"), &[HOST, DATE, PROJECT], ""),
                "host;x-project-id;x-sdk-date",
                "01131c365dca82add0ff36899c1baf04c0bbcb24802178c3ae04ad8b10c4678a",
                "d8f04716ac210c1a419526343b7fc62875fe432b0a56b5e5ecc821c3aa9add22",
            ),
        ] {
            let canonical = sent.canonical(signed_headers).unwrap();
            assert_eq!(hex(&Sha256::digest(&canonical)), hash, "{canonical}");
            let mut signed = sent;
            let text =
                format!("SDK-HMAC-SHA256 Access={ACCESS}, SignedHeaders={signed_headers}, Signature={signature}");
            signed.headers.insert(AUTHORIZATION, HeaderValue::from_str(&text).unwrap());
            let authorization = Authorization::of(&signed.headers).unwrap();
            assert_eq!(authorization.access, ACCESS);
            assert_eq!(authorization.matches(SECRET, &signed.request()), Ok(true));
            assert_eq!(authorization.matches("another", &signed.request()), Ok(false));
        }
    }

    #[test]
    fn a_changed_request_has_another_canonical_form() {
        let sent = |path: &str, date: &str, body| {
            Sent::new(Method::POST, path, &[HOST, ("x-sdk-date", date), JSON], body)
                .canonical("content-type;host;x-sdk-date")
                .unwrap()
        };
        let first = sent("/a", DATE.1, "{}");
        for other in [sent("/b", DATE.1, "{}"), sent("/a", "20240102T030406Z", "{}"), sent("/a", DATE.1, "{ }")] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn paths_are_decoded_encoded_again_and_end_in_a_slash() {
        for (path, canonical) in [
            ("/", "/"),
            ("/v3/projects", "/v3/projects/"),
            ("/a/", "/a/"),
            ("/a%20b/c+d", "/a%20b/c%2Bd/"),
            ("/%7euser/%e2%82%ac", "/~user/%E2%82%AC/"),
            ("/a:b@c=d", "/a%3Ab%40c%3Dd/"),
            ("/100%", "/100%25/"),
            ("/%zz%4", "/%25zz%254/"),
        ] {
            assert_eq!(canonical_uri(path), canonical);
        }
    }

    #[test]
    fn queries_are_sorted_by_name_then_value_and_encoded() {
        for (query, canonical) in [
            ("", ""),
            ("name=eu-de", "name=eu-de"),
            ("nocatalog", "nocatalog="),
            ("b=2&a=9&b=10&A=", "A=&a=9&b=10&b=2"),
            ("name=eu-de_a%20b&x=c+d%2B", "name=eu-de_a%20b&x=c%20d%2B"),
            ("k=a=b/c", "k=a%3Db%2Fc"),
            ("%c3%a9=1&z=2", "z=2&%C3%A9=1"),
        ] {
            assert_eq!(canonical_query(query), canonical);
        }
    }

    #[test]
    fn headers_are_trimmed_and_must_occur_once() {
        let mut sent = Sent::new(Method::GET, "/", &[HOST, DATE, ("x-project-id", " \t p \t")], "");
        let names = "host;x-project-id;x-sdk-date";
        assert!(sent.canonical(names).unwrap().contains("\nx-project-id:p\nx-sdk-date:20240102T030405Z\n\nhost;"));
        sent.headers.append("host", HeaderValue::from_static("another"));
        assert_eq!(sent.canonical(names), Err(CanonicalError::Header("host".into())));
        assert_eq!(sent.canonical("x-absent;x-sdk-date"), Err(CanonicalError::Header("x-absent".into())));
        assert_eq!(sent.canonical("x-project-id"), Err(CanonicalError::DateNotSigned));
        for names in ["", "X-Sdk-Date", "x-sdk-date;x-project-id", "x-sdk-date;x-sdk-date", "a_b;x-sdk-date"] {
            assert_eq!(sent.canonical(names), Err(CanonicalError::Names), "{names}");
        }
    }

    #[test]
    fn a_wrong_hash_of_the_body_is_refused() {
        let hash = |stated: &str| {
            let sent = Sent::new(Method::POST, "/", &[DATE, ("x-sdk-content-sha256", stated)], "äöü");
            sent.canonical("x-sdk-date").map(|canonical| canonical.rsplit_once('\n').unwrap().1.to_owned())
        };
        let right = hex(&Sha256::digest("äöü"));
        assert_eq!(hash(&right), Ok(right.clone()));
        assert_eq!(hash("UNSIGNED-PAYLOAD"), Ok("UNSIGNED-PAYLOAD".to_owned()));
        assert_eq!(hash(&hex(&Sha256::digest("aou"))), Err(CanonicalError::BodyHash));
    }

    #[test]
    fn only_the_documented_header_is_accepted() {
        let parsed = |text: &str| {
            let headers = [(AUTHORIZATION, text.parse().unwrap())].into_iter().collect::<HeaderMap>();
            Authorization::of(&headers).map(|found| (found.access.to_owned(), found.signed_headers.to_owned()))
        };
        let whole = "SDK-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date, Signature=ab";
        assert_eq!(parsed(whole), Some(("A".to_owned(), "host;x-sdk-date".to_owned())));
        for other in [
            "Basic abc",
            "SDK-HMAC-SHA256",
            "SDK-HMAC-SHA256 Access=A, SignedHeaders=host",
            "SDK-HMAC-SHA256 Access=, SignedHeaders=host, Signature=ab",
            "SDK-HMAC-SHA256 SignedHeaders=host, Access=A, Signature=ab",
            "SDK-HMAC-SHA256 Access=A, SignedHeaders=host, Signature=ab, More=1",
            "V11-HMAC-SHA256 Credential=A/20240102/r/s, SignedHeaders=host, Signature=ab",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn dates_have_one_form() {
        let at =
            |text: &str| date(&[(HeaderName::from_static("x-sdk-date"), text.parse().unwrap())].into_iter().collect());
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_164_645);
        assert_eq!(at("20240102T030405Z"), Some(expected));
        for other in ["", "20240102", "20240102T030405", "2024-01-02T03:04:05Z", "20240132T030405Z", "2024012T030405Z"]
        {
            assert_eq!(at(other), None, "{other}");
        }
        assert_eq!(date(&HeaderMap::new()), None);
    }
}
