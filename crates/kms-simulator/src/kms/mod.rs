//! KMS: validates a call, carries it out on a key, and answers in the dialect of the project's cloud.
//!
//! As in `docs/kms-api.md` 1 and 2. The caller is already authenticated (`access`); faults are injected elsewhere.

mod details;
mod listing;
mod page;
mod parameters;
mod played;
mod status;
mod tags;

use serde_json::json;

use self::details::Details;
use self::listing::list_keys;
use self::parameters::{Body, check_sequence, interval_days, key_id, key_not_found};
use self::status::{Past, status};
use self::tags::query;
use crate::answer::Answer;
use crate::behaviour::{Dialect, SuccessBody};
use crate::fault::{BadRotation, WrongAnswer};
use crate::job::Job;
use crate::key::{Key, Refusal};
use crate::keys::Keys;
use crate::operation::Operation;
use crate::request::Request;
use crate::world::World;

/// Every call of KMS but the two that [`read_tags`] answers.
pub(crate) fn answer(
    world: &mut World,
    operation: Operation,
    project_id: &str,
    request: &Request<'_>,
    body: Option<&Body>,
    wrong: Option<WrongAnswer>,
) -> Result<Answer, Answer> {
    let now = world.now();
    let Some(project) = world.projects.get_mut(project_id) else { return Err(key_not_found()) };
    let behaviour = &world.behaviour;
    let dialect = project.dialect.unwrap_or(behaviour.dialect);
    if dialect == Dialect::OpenTelekomCloud && !request.is_json() {
        return Err(Answer::kms(400, "KMS.0214", "The request format is incorrect."));
    }
    let body = body.ok_or_else(|| Answer::kms(400, "KMS.0202", "The request is not a valid JSON message."))?;
    let (keys, cassette) = (&mut project.keys, world.cassette.as_deref());
    match cassette {
        None => check_sequence(body)?,
        Some(cassette) => played::check_sequence(cassette, body)?,
    }
    let bad_listing = wrong.and_then(WrongAnswer::listing);
    let per_key = || {
        let bad_rotation = wrong.and_then(WrongAnswer::rotation);
        PerKey { operation, dialect, job: Job { behaviour, now }, bad_rotation }
    };
    match (operation, cassette) {
        (Operation::ListKeys, None) => list_keys(keys, body, dialect, behaviour, bad_listing),
        (Operation::ListKeys, Some(cassette)) => played::list(cassette, keys, body, dialect, behaviour, bad_listing),
        (Operation::QueryByTag, _) => query(keys, body, dialect, behaviour, bad_listing),
        (_, None) => answer_for_key(keys, body, &per_key()),
        (_, Some(cassette)) => played::for_key(cassette, keys, body, &per_key()),
    }
}

/// `GET {key_id}/tags`, or without a key id `GET tags`.
pub(crate) fn read_tags(world: &World, project_id: &str, key_id: Option<&str>) -> Result<Answer, Answer> {
    let project = world.projects.get(project_id).ok_or_else(key_not_found)?;
    tags::read(&project.keys, key_id, project.dialect.unwrap_or(world.behaviour.dialect))
}

/// A call for one key.
#[derive(Clone, Copy)]
struct PerKey<'a> {
    operation: Operation,
    dialect: Dialect,
    job: Job<'a>,
    bad_rotation: Option<BadRotation>,
}

/// A call for the key whose id is in the body.
fn answer_for_key(keys: &mut Keys, body: &Body, call: &PerKey<'_>) -> Result<Answer, Answer> {
    let PerKey { operation, dialect, ref job, bad_rotation } = *call;
    let Job { behaviour, now } = *job;
    let key_id = key_id(body)?;
    let interval_days = match operation {
        Operation::UpdateInterval => Some(interval_days(body)?),
        _ => None,
    };
    if !behaviour.rotation_offered && operation != Operation::DescribeKey {
        return Err(refused(Refusal("KMS.0319", "The current KMS version does not support key rotation.")));
    }
    let stored = keys.get_mut(key_id, job).ok_or_else(key_not_found)?;
    let lag = behaviour.visibility_lag;
    match (operation, interval_days) {
        (Operation::EnableRotation, _) => stored.write(lag, |key| key.enable_rotation(now)),
        (Operation::DisableRotation, _) => stored.write(lag, Key::disable_rotation),
        (_, Some(days)) => stored.write(lag, |key| key.update_interval(days, now)),
        (Operation::DescribeKey, _) => {
            let details = json!({"key_info": Details::of(stored, dialect)});
            return Ok(Answer::value(200, &details));
        }
        _ => {
            if let Some(refusal) = stored.key.unrotatable().filter(|_| behaviour.status_refused_where_unrotatable) {
                return Err(refused(refusal));
            }
            let setting = stored.read();
            let past = Past::of(&stored.key, dialect, bad_rotation, now);
            return Ok(Answer::json(200, status(setting, &past, dialect, behaviour.never_rotated)));
        }
    }
    .map_err(refused)?;
    let documented = if dialect == Dialect::OpenTelekomCloud { SuccessBody::Object } else { SuccessBody::Empty };
    Ok(match behaviour.success_body.unwrap_or(documented) {
        SuccessBody::Empty => Answer::json(200, ""),
        SuccessBody::Object => Answer::json(200, "{}"),
    })
}

fn refused(Refusal(code, text): Refusal) -> Answer {
    Answer::kms(400, code, text)
}
