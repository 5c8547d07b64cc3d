//! Authentication and authorization: who sent a request, and whether the sender may do what it requests.
//!
//! [`admit`] checks every KMS call, and [`caller`] the IAM calls that need an authenticated caller. Failures are
//! counted here, and lock an access key or all access if they repeat.

use super::answer::{ACCESS_LOCKED, Answer};
use super::behaviour::TokenRefusal;
use super::credentials::identity::{Permissions, Scope};
use super::operation::Operation;
use super::request::Request;
use super::world::World;

/// Checks that the request's token or signature is valid for this project and this call.
pub(super) fn admit(
    world: &mut World,
    request: &Request<'_>,
    project_id: &str,
    operation: Operation,
    request_id: &str,
) -> Result<(), Answer> {
    let now = world.now();
    if world.access_lock.is_active(now) {
        count_failure(world, request);
        return Err(Answer::gateway(401, "APIGW.0301", ACCESS_LOCKED, request_id));
    }
    let allowed = if request.is_signed() {
        let permissions = signed_by(world, request, request_id)?;
        let stated = request.headers.get("x-project-id");
        may_access(world, &permissions, project_id) && stated.is_none_or(|stated| stated == project_id)
    } else {
        let allowed = world.tokens.find(sent_token(request), now).map(|token| match &token.scope {
            Scope::Project(scoped) => **scoped == *project_id && world.projects.contains_key(project_id),
            Scope::Domain(_) | Scope::Nothing => false,
        });
        allowed.map_err(|bad| {
            authentication_failed(world, request);
            match world.behaviour.token_refusal {
                TokenRefusal::Kms => bad.refused_by_kms(),
                TokenRefusal::Gateway => bad.refused_by_gateway(request_id),
            }
        })?
    };
    if !allowed {
        let text = "The project ID in the URL does not match that in the token.";
        return Err(Answer::kms(403, "KMS.0321", text));
    }
    world.access_lock.succeeded();
    if world.behaviour.forbidden.contains(operation) {
        return Err(Answer::kms(403, "KMS.0307", "You have no permission to perform this operation."));
    }
    Ok(())
}

/// The permissions of an IAM call's sender. An unscoped token counts only if `unscoped` is set.
pub(super) fn caller(
    world: &mut World,
    request: &Request<'_>,
    unscoped: bool,
    operation: Operation,
    request_id: &str,
) -> Result<Permissions, Answer> {
    let permissions = if request.is_signed() {
        signed_by(world, request, request_id)?
    } else {
        let found = world.tokens.find(sent_token(request), world.now());
        let found = found.map(|token| (token.permissions.clone(), token.scope == Scope::Nothing));
        match found {
            Ok((_, true)) if !unscoped => return Err(forbidden_by_iam()),
            Ok((permissions, _)) => permissions,
            Err(bad) => {
                authentication_failed(world, request);
                return Err(bad.refused_by_iam());
            }
        }
    };
    permit(world, operation)?;
    Ok(permissions)
}

/// Refuses an operation that [`Behaviour::forbidden`](super::behaviour::Behaviour::forbidden) contains.
pub(super) fn permit(world: &World, operation: Operation) -> Result<(), Answer> {
    if world.behaviour.forbidden.contains(operation) { Err(forbidden_by_iam()) } else { Ok(()) }
}

/// The permissions of a token from the body of a request.
pub(super) fn holder(world: &mut World, request: &Request<'_>, token: &str) -> Result<Permissions, Answer> {
    let found = world.tokens.find(Some(token), world.now()).map(|token| token.permissions.clone());
    found.map_err(|bad| {
        authentication_failed(world, request);
        bad.refused_by_iam()
    })
}

fn sent_token<'a>(request: &Request<'a>) -> Option<&'a str> {
    request.headers.get("x-auth-token").and_then(|token| token.to_str().ok())
}

/// The permissions of the key that signed a request.
fn signed_by(world: &mut World, request: &Request<'_>, request_id: &str) -> Result<Permissions, Answer> {
    let now = world.now();
    world.access_keys.signed_by(request, now).map_err(|refusal| {
        authentication_failed(world, request);
        Answer::gateway(401, "APIGW.0301", &refusal.text(), request_id)
    })
}

/// Whether the project exists and the permissions include it.
pub(super) fn may_access(world: &World, permissions: &Permissions, project_id: &str) -> bool {
    let reached = match permissions {
        Permissions::OwnAccount(domain_name) => {
            let mut delegating = world.agencies.iter().filter(|agency| agency.delegates(project_id));
            delegating.all(|agency| domain_name.as_deref() == Some(&*agency.domain_name))
        }
        Permissions::Agency { project_ids, .. } => project_ids.iter().any(|id| id == project_id),
        Permissions::Project(id) => **id == *project_id,
    };
    reached && world.projects.contains_key(project_id)
}

/// Counts a failure for the sender of the request; repeated failures cause a lockout.
pub(super) fn authentication_failed(world: &mut World, request: &Request<'_>) {
    count_failure(world, request);
    if let Some(limit) = world.behaviour.access_lock_after {
        let now = world.now();
        world.access_lock.failed(limit, now);
    }
}

fn count_failure(world: &mut World, request: &Request<'_>) {
    world.authentication_failures += 1;
    let (now, limit) = (world.now(), world.behaviour.access_key_lock_after);
    world.access_keys.count_refusal(request, limit, now);
}

fn forbidden_by_iam() -> Answer {
    Answer::iam_code(403, "IAM.0003", "You are not authorized to perform the requested action.")
}
