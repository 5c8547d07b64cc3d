//! IAM and STS: tokens by password, by agency and by an identity provider's token, scoped to a project, an account or
//! nothing; temporary keys; the list of projects (`docs/kms-api.md` 5.1 and 5.4).
//!
//! `POST /v3/auth/tokens` supports the methods `password` (`login`) and `assume_role` (`agency`).

mod agency;
mod login;
mod refusal;
mod sts;
mod token;

use serde_json::{Map, Value, json};

use self::agency::{agency_token, temporary_keys};
use self::login::{id_token, log_in};
use self::refusal::bad_request;
use self::sts::assume_with_oidc;
use crate::access;
use crate::answer::Answer;
use crate::encoding::percent_decode;
use crate::operation::Operation;
use crate::request::Request;
use crate::world::World;

/// Every call of IAM and STS.
pub(crate) fn answer(
    world: &mut World,
    operation: Operation,
    request: &Request<'_>,
    body: Option<&Map<String, Value>>,
    request_id: &str,
) -> Result<Answer, Answer> {
    if operation == Operation::ListProjects {
        return list_projects(world, request, request_id);
    }
    if !request.is_json() {
        return Err(bad_request("The Content-Type must be application/json."));
    }
    if operation == Operation::AssumeWithOidc {
        return assume_with_oidc(world, body);
    }
    let auth = auth(body)?;
    match operation {
        Operation::AgencyToken => agency_token(world, request, auth, request_id),
        Operation::TemporaryKeys => temporary_keys(world, request, auth, request_id),
        Operation::IdToken => id_token(world, request, auth),
        _ => log_in(world, request, auth),
    }
}

/// The projects that the caller may use, filtered by name and account if the query has them.
fn list_projects(world: &mut World, request: &Request<'_>, request_id: &str) -> Result<Answer, Answer> {
    let permissions = access::caller(world, request, true, Operation::ListProjects, request_id)?;
    let parameter = |name: &str| {
        let mut pairs = request.query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(found, _)| *found == name).map(|(_, value)| percent_decode(value, true));
        value.map(|value| String::from_utf8_lossy(&value).into_owned())
    };
    let (name, domain_id) = (parameter("name"), parameter("domain_id"));
    let found = world.projects.iter().filter(|(id, project)| {
        access::may_access(world, &permissions, id)
            && name.as_ref().is_none_or(|name| project.name == *name)
            && domain_id.as_ref().is_none_or(|id| world.domain_id(&project.domain_name) == *id)
    });
    let mut found: Vec<_> = found.collect();
    found.sort_unstable_by_key(|(id, _)| *id);
    let projects = found.into_iter().map(|(id, project)| {
        let domain_id = world.domain_id(&project.domain_name);
        json!({
            "id": id,
            "name": project.name,
            "domain_id": domain_id,
            "parent_id": domain_id,
            "is_domain": false,
            "enabled": true,
            "description": "",
            "links": {"self": format!("{}/v3/projects/{id}", world.url)},
        })
    });
    let links = json!({"self": format!("{}/v3/projects", world.url), "previous": null, "next": null});
    Ok(Answer::value(200, &json!({"projects": projects.collect::<Vec<_>>(), "links": links})))
}

/// The part `auth` of a body.
fn auth(body: Option<&Map<String, Value>>) -> Result<&Value, Answer> {
    body.and_then(|body| body.get("auth")).ok_or_else(|| bad_request("The request body is invalid."))
}
