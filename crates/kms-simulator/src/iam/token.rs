//! The scope and the answer of a token, whatever it was requested with (`docs/kms-api.md` 5.1).

use serde_json::{Value, json};

use super::refusal::{bad_request, not_found};
use crate::access;
use crate::answer::Answer;
use crate::credentials::identity::{Permissions, Scope};
use crate::encoding::iso;
use crate::issue::{self, MAX_LIFETIME};
use crate::request::Request;
use crate::world::World;

/// Issues a token and returns it in an answer.
pub(super) fn token_answer(
    world: &mut World,
    request: &Request<'_>,
    method: &str,
    user_name: &str,
    domain_name: &str,
    scope: Scope,
    permissions: Permissions,
) -> Answer {
    let issued = world.now();
    let expires = issued + world.behaviour.token_lifetime.min(MAX_LIFETIME);
    let with_catalog = request.query.is_none_or(|query| !query.split('&').any(|part| part == "nocatalog=true"));
    let mut about = json!({
        "expires_at": iso(expires),
        "issued_at": iso(issued),
        "methods": [method],
        "roles": [{"id": "0", "name": "te_admin"}],
        "user": {"id": "user", "name": user_name, "domain": account(world, domain_name)},
    });
    match &scope {
        Scope::Nothing => {}
        Scope::Domain(domain_name) => about["domain"] = account(world, domain_name),
        Scope::Project(id) => {
            if let Some(project) = world.projects.get(&**id) {
                let domain = account(world, &project.domain_name);
                about["project"] = json!({"id": id, "name": project.name, "domain": domain});
            }
        }
    }
    if with_catalog {
        let endpoint = |kind: &str, path: &str| {
            let url = format!("{}{path}", world.url);
            json!({"type": kind, "name": kind, "id": kind, "endpoints": [{
                "id": kind, "interface": "public", "region": "*", "region_id": "*", "url": url,
            }]})
        };
        about["catalog"] = json!([endpoint("kms", ""), endpoint("identity", "/v3")]);
    }
    let mut answer = Answer::value(201, &json!({"token": about}));
    answer.subject_token = Some(issue::token(world, scope, permissions, expires));
    answer
}

/// The requested scope of a token, if the caller may use it.
pub(super) fn scope(
    world: &World,
    scope: &Value,
    permissions: &Permissions,
    own_domain: Option<&str>,
) -> Result<Scope, Answer> {
    let project = &scope["project"];
    let project_id = match (project["id"].as_str(), project["name"].as_str()) {
        (None, None) if project.is_null() => return domain_scope(world, &scope["domain"], own_domain),
        (None, None) => return Err(bad_request("The project's id or name is missing.")),
        (Some(id), _) => world.projects.contains_key(id).then(|| id.to_owned()),
        (None, Some(name)) => {
            let domain = named_account(world, &project["domain"]).or_else(|| own_domain.map(ToOwned::to_owned));
            let mut projects = world.projects.iter();
            let named = projects.find(|(_, project)| {
                project.name == name && domain.as_ref().is_none_or(|domain| project.domain_name == *domain)
            });
            named.map(|(id, _)| id.clone())
        }
    };
    let project_id = project_id.ok_or_else(|| not_found("Could not find the project."))?;
    if !access::may_access(world, permissions, &project_id) {
        return Err(Answer::iam(403, "Forbidden", "You have no right to access this project."));
    }
    Ok(Scope::Project(project_id.into()))
}

/// The scope of an account, or none.
fn domain_scope(world: &World, domain: &Value, own_domain: Option<&str>) -> Result<Scope, Answer> {
    if domain.is_null() {
        return Ok(Scope::Nothing);
    }
    match named_account(world, domain) {
        Some(name) if own_domain == Some(&name) => Ok(Scope::Domain(name.into())),
        Some(_) => Err(Answer::iam(403, "Forbidden", "You have no right to access this domain.")),
        None => Err(bad_request("The domain's id or name is missing.")),
    }
}

/// The name of an account, given by name or by id.
pub(super) fn named_account(world: &World, domain: &Value) -> Option<String> {
    let by_id = |id: &str| world.domain_name(id);
    domain["name"].as_str().map(ToOwned::to_owned).or_else(|| domain["id"].as_str().and_then(by_id))
}

/// An account as tokens contain it.
fn account(world: &World, domain_name: &str) -> Value {
    json!({"id": world.domain_id(domain_name), "name": domain_name})
}
