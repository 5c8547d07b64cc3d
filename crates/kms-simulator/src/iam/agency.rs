//! Agencies: an account delegates some of its projects, by a token or by temporary keys (`docs/kms-api.md` 5.1).
//!
//! Trust is not simulated: every authenticated caller may assume an agency, unless
//! [`Behaviour::forbidden`](crate::behaviour::Behaviour::forbidden) contains the operation.

use std::time::Duration;

use serde_json::Value;

use super::refusal::{bad_request, not_found, unsupported_method};
use super::token::{scope, token_answer};
use crate::access;
use crate::answer::Answer;
use crate::credentials::identity::{Agency, Scope};
use crate::issue;
use crate::operation::Operation;
use crate::request::Request;
use crate::world::World;

/// Default (and shortest) and longest lifetime of temporary keys, in seconds (`docs/kms-api.md` 5.1).
const DEFAULT_DURATION: u64 = 900;
const MAX_DURATION: u64 = 86_400;

/// A token of an agency, for a user's token.
pub(super) fn agency_token(
    world: &mut World,
    request: &Request<'_>,
    auth: &Value,
    request_id: &str,
) -> Result<Answer, Answer> {
    // Documented with a token only, and an unscoped token has no roles.
    if request.is_signed() {
        return Err(unsupported_method());
    }
    access::caller(world, request, false, Operation::AgencyToken, request_id)?;
    let agency = agency(world, &auth["identity"]["assume_role"])?;
    let (permissions, domain_name) = (agency.permissions(), agency.domain_name.clone());
    let name = format!("{domain_name}/{}", agency.name);
    let scope = scope(world, &auth["scope"], &permissions, Some(&domain_name))?;
    if scope == Scope::Nothing {
        return Err(bad_request("The scope is missing."));
    }
    Ok(token_answer(world, request, "assume_role", &name, &domain_name, scope, permissions))
}

/// Temporary keys: of an agency, for a signature or a token; or of a token's owner.
pub(super) fn temporary_keys(
    world: &mut World,
    request: &Request<'_>,
    auth: &Value,
    request_id: &str,
) -> Result<Answer, Answer> {
    let identity = &auth["identity"];
    let method = match identity["methods"].as_array().map(Vec::as_slice) {
        Some([Value::String(method)]) => method.as_str(),
        _ => return Err(bad_request("The methods are missing.")),
    };
    let permissions = match method {
        "assume_role" => {
            access::caller(world, request, false, Operation::TemporaryKeys, request_id)?;
            agency(world, &identity["assume_role"])?.permissions()
        }
        "token" => match identity["token"]["id"].as_str() {
            Some(token) => {
                let permissions = access::holder(world, request, token)?;
                access::permit(world, Operation::TemporaryKeys)?;
                permissions
            }
            None => access::caller(world, request, true, Operation::TemporaryKeys, request_id)?,
        },
        _ => return Err(unsupported_method()),
    };
    let seconds = match &identity[method]["duration_seconds"] {
        Value::Null => Some(DEFAULT_DURATION),
        seconds => seconds.as_u64(),
    };
    let Some(seconds @ DEFAULT_DURATION..=MAX_DURATION) = seconds else {
        return Err(bad_request("The duration_seconds must be an integer from 900 to 86400."));
    };
    let key = issue::temporary_key(world, permissions, Duration::from_secs(seconds));
    Ok(Answer::value(201, &issue::credential(&key)))
}

/// The agency to assume: by its name, and the name or the id of its account.
fn agency<'a>(world: &'a World, assume: &Value) -> Result<&'a Agency, Answer> {
    let (domain_name, domain_id) = (assume["domain_name"].as_str(), assume["domain_id"].as_str());
    let name = assume["agency_name"].as_str();
    let (Some(name), true) = (name, domain_name.is_some() || domain_id.is_some()) else {
        return Err(bad_request("The agency_name, and the domain_name or domain_id, are missing."));
    };
    let mut agencies = world.agencies.iter();
    let found = agencies.find(|agency| {
        agency.name == name
            && domain_name.is_none_or(|name| agency.domain_name == name)
            && domain_id.is_none_or(|id| agency.domain_id == id)
    });
    found.ok_or_else(|| not_found("Could not find the agency."))
}
