//! The section `evidence`: where the evidence log is, and how it is kept.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::types::{Evidence, OnFailure};
use crate::rotation::key::SECONDS_PER_DAY;
use crate::yaml::decode::{Decoder, Field, optional};
use crate::yaml::schema::{FieldKind, FieldSchema, Form, Schema};
use crate::yaml::wording::quoted;

pub(super) const EVIDENCE: Schema = Schema::of(
    "`evidence`",
    &[
        FieldSchema::required("directory", FieldKind::Path, "the folder of the log, which only one process writes"),
        FieldSchema::optional(
            "name",
            FieldKind::Form(&NAME),
            "part of the origin of a new log; default: POD_NAME or the host's name",
        ),
        FieldSchema::optional(
            "signing_key_file",
            FieldKind::Path,
            "contains the private key that signs the log, as `openssl genpkey -algorithm ed25519` writes it; default: a \
             key is made in the folder",
        ),
        FieldSchema::optional(
            "retention",
            FieldKind::Duration(&RETENTION),
            "files whose records are all older are removed; default: keep all",
        ),
        FieldSchema::default(
            "on_failure",
            FieldKind::Choice(|| OnFailure::ALL.map(OnFailure::as_str).into()),
            "\"continue\"",
            "while nothing can be recorded, `stop` writes nothing to the cloud",
        ),
    ],
);

const NAME: Form =
    Form { what: "1 to 64 lower-case letters, digits, `.` and `-`", pattern: "^[a-z0-9.-]{1,64}$", numeric: false };
/// A shorter time would leave no complete quarter. The upper end is a hundred years.
const RETENTION: RangeInclusive<Duration> =
    Duration::from_secs(100 * SECONDS_PER_DAY)..=Duration::from_secs(36_525 * SECONDS_PER_DAY);

pub(super) fn evidence(decoder: &mut Decoder<'_>, field: Field<'_>) -> Option<Evidence> {
    let fields = decoder.fields(field, &EVIDENCE)?;
    let directory = fields.get("directory").and_then(|field| decoder.folder_path(field));
    let name = fields.get("name").map(|field| name(decoder, field));
    let signing_key_file = fields.get("signing_key_file").map(|field| decoder.file_path(field));
    let retention = fields.get("retention").map(|field| decoder.duration(field, &RETENTION));
    let on_failure = match fields.get("on_failure") {
        Some(field) => decoder.choice(field, &OnFailure::ALL, OnFailure::as_str),
        None => Some(OnFailure::default()),
    };
    Some(Evidence {
        directory: directory?,
        name: optional(name)?,
        signing_key_file: optional(signing_key_file)?,
        retention: optional(retention)?,
        on_failure: on_failure?,
    })
}

fn name(decoder: &mut Decoder<'_>, field: Field<'_>) -> Option<String> {
    let text = decoder.text(field, NAME.what)?;
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    if (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) {
        return Some(text.to_owned());
    }
    decoder.error(field.span(), format!("`name` is {}, expected {}", quoted(text), NAME.what));
    None
}
