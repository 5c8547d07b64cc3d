//! Tokens for a password, and for the token of an identity provider (`docs/kms-api.md` 5.1 and 5.4).

use serde_json::Value;

use super::refusal::{bad_request, not_found, unauthorized, unsupported_method};
use super::token::{named_account, scope, token_answer};
use crate::access;
use crate::answer::Answer;
use crate::credentials::identity::{Permissions, user_id};
use crate::operation::Operation;
use crate::request::Request;
use crate::world::World;

/// A token for a user name, its domain and its password.
pub(super) fn log_in(world: &mut World, request: &Request<'_>, auth: &Value) -> Result<Answer, Answer> {
    let identity = &auth["identity"];
    let methods = identity["methods"].as_array().ok_or_else(|| bad_request("The methods are missing."))?;
    if !matches!(methods.as_slice(), [method] if method == "password") {
        return Err(unsupported_method());
    }
    let user = &identity["password"]["user"];
    let named = match user["id"].as_str() {
        Some(id) => Some(user_by_id(world, id).unwrap_or_default()),
        None if user["domain"].is_null() => None,
        None => {
            let domain_name = named_account(world, &user["domain"]).unwrap_or_default();
            user["name"].as_str().map(|name| (name.to_owned(), domain_name))
        }
    };
    let (Some((user_name, domain_name)), Some(password)) = (named, user["password"].as_str()) else {
        return Err(bad_request("The user's id, or name and domain, or the password is missing."));
    };
    let (user_name, domain_name) = (user_name.as_str(), domain_name.as_str());
    check_password(world, user_name, domain_name, password)?;
    access::permit(world, Operation::Authenticate)?;
    let permissions = Permissions::OwnAccount(Some(domain_name.into()));
    let scope = scope(world, &auth["scope"], &permissions, Some(domain_name))?;
    Ok(token_answer(world, request, "password", user_name, domain_name, scope, permissions))
}

/// A token for the token of an identity provider (`docs/kms-api.md` 5.4).
pub(super) fn id_token(world: &mut World, request: &Request<'_>, auth: &Value) -> Result<Answer, Answer> {
    let provider_id = request.headers.get("x-idp-id").and_then(|id| id.to_str().ok());
    let provider_id = provider_id.ok_or_else(|| bad_request("The header X-Idp-Id is missing."))?;
    let sent = auth["id_token"]["id"].as_str().ok_or_else(|| bad_request("The id_token is missing."))?;
    let accepted = world.id_tokens.get(provider_id);
    let accepted = accepted.ok_or_else(|| not_found("Could not find the identity provider."))?;
    if accepted != sent {
        world.authentication_failures += 1;
        return Err(unauthorized("The ID token is invalid or has expired."));
    }
    access::permit(world, Operation::IdToken)?;
    let permissions = Permissions::OwnAccount(None);
    let scope = scope(world, &auth["scope"], &permissions, None)?;
    Ok(token_answer(world, request, "mapped", "FederationUser", provider_id, scope, permissions))
}

/// Wrong passwords are counted, and lock the user.
fn check_password(world: &mut World, user_name: &str, domain_name: &str, password: &str) -> Result<(), Answer> {
    let now = world.now();
    let limit = world.behaviour.user_lock_after;
    let wrong = || unauthorized("The username or password is wrong.");
    let known =
        world.users.iter_mut().find(|user| user.login.user_name == user_name && user.login.domain_name == domain_name);
    let outcome = match known {
        Some(user) if user.lock.is_active(now) => {
            Err(Answer::iam_code(401, "IAM.0061", "The account is locked. Please try again later."))
        }
        Some(user) if user.login.password == password => {
            user.lock.succeeded();
            Ok(())
        }
        Some(user) => {
            user.lock.failed(limit, now);
            Err(wrong())
        }
        None => Err(wrong()),
    };
    world.authentication_failures += u64::from(outcome.is_err());
    outcome
}

/// Name and account of the user with this id.
fn user_by_id(world: &World, id: &str) -> Option<(String, String)> {
    let mut users = world.users.iter().map(|user| &user.login);
    let found = users.find(|login| user_id(&login.user_name, &login.domain_name) == id)?;
    Some((found.user_name.clone(), found.domain_name.clone()))
}
