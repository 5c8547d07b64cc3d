//! Calls that a cassette answers: which recorded answer belongs to a call, and what the call does to the key.
//!
//! A recorded refusal changes nothing. A recorded success changes the key as far as its effect is known: an interval is
//! set even if the documents refuse it, and enabling an enabled key, or disabling one without rotation, changes
//! nothing. What was not recorded is answered by the documents (`answer_for_key` and `list_keys`).

use serde_json::Value;

use super::listing::list_keys;
use super::parameters::{self, Body};
use super::{PerKey, answer_for_key};
use crate::answer::Answer;
use crate::behaviour::{Behaviour, Dialect};
use crate::cassette::{Cassette, Situation};
use crate::fault::BadListing;
use crate::key::Key;
use crate::keys::Keys;
use crate::operation::{Operation, OperationSet};

/// Characters of a `sequence` without hyphens.
const SHORT_SEQUENCE: usize = 32;

/// Checks the optional `sequence`.
pub(super) fn check_sequence(cassette: &Cassette, body: &Body) -> Result<(), Answer> {
    let is_short = body.get("sequence").and_then(Value::as_str).is_some_and(|text| text.len() == SHORT_SEQUENCE);
    let recorded = cassette.find(Operation::ReadStatus, &[Situation::ShortSequence]).filter(|_| is_short);
    match recorded {
        None => parameters::check_sequence(body),
        Some(recorded) if recorded.is_success() => Ok(()),
        Some(recorded) => Err(recorded.answer()),
    }
}

/// `list-keys`
pub(super) fn list(
    cassette: &Cassette,
    keys: &mut Keys,
    body: &Body,
    dialect: Dialect,
    behaviour: &Behaviour,
    bad: Option<BadListing>,
) -> Result<Answer, Answer> {
    let situation = if body.contains_key("limit") { Situation::LimitOf2000 } else { Situation::WithoutLimit };
    let Some(recorded) = cassette.find(Operation::ListKeys, &[situation]) else {
        return list_keys(keys, body, dialect, behaviour, bad);
    };
    if !recorded.is_success() {
        return Err(recorded.answer());
    }
    let mut body = body.clone();
    if let Some(page_size) = recorded.page_size {
        let limit = parameters::number(&body, "limit", "KMS.1601")?.unwrap_or(page_size);
        body.insert("limit".to_owned(), limit.min(page_size).into());
    }
    // The dialect with the most fields.
    let answer = list_keys(keys, &body, Dialect::Huawei, behaviour, bad)?;
    Ok(recorded.with_values(&values(&answer)))
}

/// A call for the key whose id is in the body.
pub(super) fn for_key(cassette: &Cassette, keys: &mut Keys, body: &Body, call: &PerKey<'_>) -> Result<Answer, Answer> {
    let key_id = parameters::key_id(body)?;
    let interval = body.get("rotation_interval").and_then(Value::as_u64);
    let before = keys.get_mut(key_id, &call.job).map(|stored| stored.key.clone());
    let situations = before.as_ref().map_or(&[][..], |key| situations(key, call.operation, interval));
    let Some(recorded) = cassette.find(call.operation, situations) else { return answer_for_key(keys, body, call) };
    if !recorded.is_success() {
        return Err(recorded.answer());
    }
    let documented = answer_for_key(keys, body, &PerKey { dialect: Dialect::Huawei, ..*call });
    if !OperationSet::WRITES.contains(call.operation) {
        let mut values = values(&documented?);
        if let Some(Value::Object(status)) = Some(&mut values).filter(|_| call.operation == Operation::ReadStatus) {
            status.entry("rotation_interval").or_insert(0.into());
        }
        return Ok(recorded.with_values(&values));
    }
    let days = interval.and_then(|days| u32::try_from(days).ok());
    let interval_days = match (call.operation, &before, documented) {
        (Operation::EnableRotation, Some(Key { rotation, .. }), Ok(_)) => {
            let is_kept = cassette.enabling_keeps_interval && rotation.interval_days > 0;
            if is_kept { Some(rotation.interval_days) } else { cassette.interval_after_enabling }
        }
        (Operation::UpdateInterval, _, Err(_)) => days,
        _ => None,
    };
    if let Some((interval_days, stored)) = interval_days.zip(keys.get_mut(key_id, &call.job)) {
        stored.key.rotation.interval_days = interval_days;
        stored.key.period_start = Some(call.job.now);
    }
    Ok(recorded.answer())
}

/// The body of an answer.
fn values(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The situations of a call, the one that fits best first; none if the documents decide.
fn situations(key: &Key, operation: Operation, interval: Option<u64>) -> &'static [Situation] {
    use Situation::{
        AsymmetricKey, DefaultKey, NeverOn, Off, OffWithInterval, On, SameInterval, TooLong, TooShort, UsableKey,
    };
    let (enabled, days) = (key.rotation.enabled, key.rotation.interval_days);
    match operation {
        Operation::DescribeKey => &[UsableKey],
        Operation::ReadStatus if key.default => &[DefaultKey],
        Operation::ReadStatus if !matches!(&*key.spec, "AES_256" | "SM4") => &[AsymmetricKey],
        _ if key.unrotatable().is_some() => &[],
        Operation::ReadStatus if enabled => &[On, Off, NeverOn],
        Operation::ReadStatus if days == 0 => &[NeverOn, Off, On],
        Operation::ReadStatus => &[Off, NeverOn, On],
        _ if key.refusal().is_some() => &[],
        Operation::EnableRotation | Operation::DisableRotation if enabled => &[On],
        Operation::EnableRotation if days == 0 => &[Off, OffWithInterval],
        Operation::EnableRotation => &[OffWithInterval, Off],
        Operation::DisableRotation => &[Off],
        Operation::UpdateInterval => match interval {
            None => &[],
            Some(..30) => &[TooShort],
            Some(366..) => &[TooLong],
            Some(_) if !enabled => &[Off],
            Some(new) if new == u64::from(days) => &[SameInterval, On],
            Some(_) => &[On, SameInterval],
        },
        _ => &[],
    }
}
