//! What of an answer goes into a cassette: its structure and types, and nothing of the account.
//!
//! By a list of what is kept, not of what is removed. A value is kept only if its field is known and the value is one
//! of the few that the API defines for it: a flag, a small number, an algorithm, an error code. Every other value is
//! replaced by a placeholder of the same JSON type; an empty one stays empty. A time becomes a fixed time of the same
//! unit. Names of fields and the words of messages are kept only if they are in a list of words ([`WORDS`]), which are
//! those of the API: an id, a name or a secret is not among them. Lists are cut to their first item, so that their
//! length does not show how many keys the account has.

use serde_json::{Map, Number, Value};

/// Stands for a text that is not kept.
const TEXT: &str = "text";
/// Stands for a word of a message that is not kept.
const WORD: &str = "*";
/// The longest message that is kept, in words.
const LONGEST_MESSAGE: usize = 60;
/// The time that replaces each recorded one, in seconds since 1970.
const TIME: &str = "1700000000";

/// Words in names of fields and in messages, in lower case.
const WORDS: &str = "\
    a access account action agency algorithm alias all allowed already an and api apig are arrears at authentication \
    authorization authorized back backend bad be been between body by call called cancel cannot change changed \
    charge cmk code contact content count created creation current custom customer date days default deleted \
    deletion denied description detail details disable disabled does domain due enable enabled encoded end \
    enterprise environment error exception exist exists expiration expire expired external failed field flag for \
    format found from frozen gateway has have header hmac http iam id imported in incorrect info information integer \
    internal interval invalid is it json key keys keystore kms last later length limit list main management marker \
    master match material materials max message method min minute missing more msg multi must name network new next \
    no not null number of off offset on one only operation or origin over parameter path pending period permission \
    permissions policy project published quota range ratelimit reached read realm reason region replica request \
    requests required resource resources retry rotate rotated rotation rotations rsa schedule scheduled second \
    sequence server service set should size spec start state status string support supported sys system tag tags the \
    this threshold throttling time times to token too total trace truncated try type unavailable unit unknown \
    unsupported update url usage used user valid value version was with without wrong you your";

/// Values that the API defines, by field (`docs/kms-api.md` 1.3).
const VALUES: &[(&str, &[&str])] = &[
    (
        "key_spec",
        &[
            "AES_256", "SM4", "RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "SM2", "HMAC_256", "HMAC_384",
            "HMAC_512",
        ],
    ),
    ("key_usage", &["ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC"]),
    ("origin", &["kms", "external"]),
    ("keystore_id", &["0"]),
    ("keystore_type", &["DEFAULT"]),
    ("multi_region_key_type", &["SINGLE", "PRIMARY", "REPLICA"]),
];
/// True or false, or 1 and 0, in any type.
const FLAGS: &[&str] = &["key_rotation_enabled", "default_key_flag", "truncated"];
/// Numbers up to 999. An account has more than one key, so `total` is not among them.
const NUMBERS: &[&str] =
    &["rotation_interval", "number_of_rotations", "key_state", "key_type", "pending_days", "state"];
const TIMES: &[&str] = &[
    "creation_date",
    "scheduled_deletion_date",
    "expiration_time",
    "last_rotation_time",
    "next_rotation_time",
    "create_time",
];
const CODES: &[&str] = &["error_code", "errorCode", "code"];
const MESSAGES: &[&str] = &["error_msg", "errorMsg", "message", "title"];
/// Names of fields that are not made of [`WORDS`] and underscores.
const NAMES: &[&str] = &["errorCode", "errorMsg"];

/// The body of an answer without anything of the account.
pub(super) fn body(body: &Value) -> Value {
    value("", body)
}

/// The value of a field; the name is empty for items of lists and for the whole.
fn value(name: &str, of: &Value) -> Value {
    match of {
        Value::Null | Value::Bool(_) => of.clone(),
        Value::Array(items) => Value::Array(items.iter().take(1).map(|item| value(name, item)).collect()),
        Value::Object(fields) => object(fields),
        Value::String(text) if text.is_empty() => of.clone(),
        Value::String(text) => Value::String(kept_text(name, text)),
        Value::Number(number) => Value::Number(kept_number(name, number)),
    }
}

fn object(fields: &Map<String, Value>) -> Value {
    let mut unknown = 0;
    let fields = fields.iter().map(|(name, of)| {
        if is_known_name(name) {
            return (name.clone(), value(name, of));
        }
        unknown += 1;
        (format!("field_{unknown}"), value("", of))
    });
    Value::Object(fields.collect())
}

fn is_known_name(name: &str) -> bool {
    NAMES.contains(&name) || name.split('_').all(|word| !word.is_empty() && WORDS.split(' ').any(|known| known == word))
}

fn kept_text(name: &str, text: &str) -> String {
    let in_lower_case = text.to_ascii_lowercase();
    let is_flag = matches!(&*in_lower_case, "true" | "false" | "0" | "1");
    let is_small = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_value = VALUES.iter().any(|(field, values)| *field == name && values.contains(&text));
    if FLAGS.contains(&name) && is_flag || NUMBERS.contains(&name) && is_small || is_value {
        return text.to_owned();
    }
    if TIMES.contains(&name) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return time(text);
    }
    if CODES.contains(&name) && is_code(text) {
        return text.to_owned();
    }
    if MESSAGES.contains(&name) { message(text) } else { TEXT.to_owned() }
}

fn kept_number(name: &str, number: &Number) -> Number {
    let text = number.to_string();
    let is_kept = FLAGS.contains(&name) || NUMBERS.contains(&name) || CODES.contains(&name);
    if is_kept && number.as_u64().is_some_and(|number| number < 1000) || text == "0" {
        return number.clone();
    }
    let time = TIMES.contains(&name).then(|| time(&text).parse().ok()).flatten();
    time.unwrap_or_else(|| Number::from(1))
}

/// The fixed time with as many digits, which are those of its unit; `0` stays.
fn time(digits: &str) -> String {
    if digits.bytes().all(|byte| byte == b'0') {
        return "0".to_owned();
    }
    let zeros = "0".repeat(digits.len().clamp(TIME.len(), TIME.len() + 6) - TIME.len());
    format!("{TIME}{zeros}")
}

/// Whether it is a code of KMS, gateway or IAM, such as `KMS.2901`.
fn is_code(text: &str) -> bool {
    let Some((service, number)) = text.split_once('.') else { return false };
    matches!(service, "KMS" | "APIGW" | "APIG" | "IAM")
        && number.len() == 4
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The words of a message that are in the list, in lower case or capitalized, with names of fields and small numbers.
fn message(text: &str) -> String {
    let words = text.split_whitespace().take(LONGEST_MESSAGE).map(|word| {
        let bare = word.trim_end_matches(['.', ',', ':', ';']);
        let (first, rest) = bare.split_at(bare.chars().next().map_or(0, char::len_utf8));
        let is_small = bare.len() <= 3 && bare.bytes().all(|byte| byte.is_ascii_digit());
        let is_kept = is_known_name(&format!("{}{rest}", first.to_ascii_lowercase())) || is_small;
        if is_kept { word } else { WORD }
    });
    let words: Vec<_> = words.collect();
    words.join(" ")
}

/// A content type that the clouds send; `other` for each other one.
pub(super) fn content_type(text: &str) -> &'static str {
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    ["application/json", "text/html", "text/plain", "text/xml"]
        .into_iter()
        .find(|known| *known == kind)
        .unwrap_or("other")
}

/// A wait in seconds; `date` for each other form.
pub(super) fn retry_after(text: &str) -> String {
    let text = text.trim();
    let is_number = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.to_owned() } else { "date".to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_the_api_defines_are_kept_and_all_others_are_replaced() {
        let status = json!({
            "key_rotation_enabled": "true", "rotation_interval": 365, "last_rotation_time": "1501578672000",
            "number_of_rotations": "3", "key_materials": [{"material_id": "m-1", "state": 2}, {"material_id": "m-2"}],
        });
        let expected = json!({
            "key_rotation_enabled": "true", "rotation_interval": 365, "last_rotation_time": "1700000000000",
            "number_of_rotations": "3", "key_materials": [{"material_id": "text", "state": 2}],
        });
        assert_eq!(body(&status), expected);
        let details = json!({"key_info": {
            "key_id": "0d0466b0-e727-4d9c-b35d-f84bb474a37f", "key_alias": "pay", "key_spec": "AES_256", "origin": "kms",
            "keystore_id": "9a3", "creation_date": "1501578672", "expiration_time": "", "pending_days": null,
            "keystore_type": "hunter2", "payments-prod": 7, "total": 25, "next_marker": "10",
        }});
        let expected = json!({"key_info": {
            "key_id": "text", "key_alias": "text", "key_spec": "AES_256", "origin": "kms", "keystore_id": "text",
            "creation_date": "1700000000", "expiration_time": "", "pending_days": null, "keystore_type": "text",
            "field_1": 1, "total": 1, "next_marker": "text",
        }});
        assert_eq!(body(&details), expected);
    }

    #[test]
    fn a_message_keeps_the_words_of_the_api() {
        let error = |message: &str| json!({"error": {"error_code": "KMS.2901", "error_msg": message}});
        let plain = error("The rotation state of key is not disabled.");
        assert_eq!(body(&plain), plain);
        assert_eq!(body(&error("User alice has no permission.")), error("User * has no permission."));
        assert_eq!(body(&error("Key:pay-1")), error("*"));
        assert_eq!(body(&json!({"error_code": "alice"})), json!({"error_code": "text"}));
    }

    #[test]
    fn times_keep_their_unit() {
        for (time, fixed) in [
            (json!("1501578672"), json!("1700000000")),
            (json!(1_501_578_672_000_u64), json!(1_700_000_000_000_u64)),
            (json!("1501578672000000"), json!("1700000000000000")),
            (json!("0"), json!("0")),
            (json!(0), json!(0)),
            (json!(""), json!("")),
            (json!("yesterday"), json!("text")),
        ] {
            assert_eq!(body(&json!({"last_rotation_time": time})), json!({"last_rotation_time": fixed}));
        }
    }

    /// A text that is in no list: an id, a name, a token.
    const SECRET: &str = "Zq7-[a-zA-Z0-9+/=_.-]{6,30}";

    fn answers(secret: &str) -> impl Strategy<Value = Value> + use<> {
        let names: Vec<_> = [FLAGS, NUMBERS, TIMES, CODES, MESSAGES, NAMES].concat();
        let names = names.into_iter().chain(VALUES.iter().map(|(name, _)| *name)).chain(["error", "keys", "key_info"]);
        let name = prop::sample::select(names.map(ToOwned::to_owned).collect::<Vec<_>>());
        let name = prop_oneof![name, Just(secret.to_owned()), Just(format!("key_{secret}"))];
        let texts = vec![
            secret.to_owned(),
            format!("the key {secret} is not found"),
            format!("key:{secret}."),
            format!("{secret}{secret}"),
        ];
        let leaf = prop_oneof![prop::sample::select(texts).prop_map(Value::from), any::<u32>().prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name.clone(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_of_the_account_is_kept((secret, answer) in SECRET.prop_flat_map(|secret| {
            (Just(secret.clone()), answers(&secret))
        })) {
            let kept = body(&answer).to_string();
            prop_assert!(!kept.contains("Zq7"), "{secret} in {kept}");
        }

        #[test]
        fn a_body_without_anything_of_the_account_stays_as_it_is(answer in SECRET.prop_flat_map(|secret| answers(&secret))) {
            let once = body(&answer);
            prop_assert_eq!(&body(&once), &once);
        }
    }
}
