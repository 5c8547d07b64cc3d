//! IAM: tokens by password, by agency and by an identity provider's token, scoped to a project, an account or nothing;
//! temporary keys; the list of projects (`docs/kms-api.md` 5.1 and 5.4).
//!
//! `POST /v3/auth/tokens` supports the methods `password` and `assume_role`; the latter is in `agency`.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::access::{Permissions, Scope};
use super::agency::auth;
use super::answer::Answer;
use super::kms::is_json;
use super::operation::Operation;
use super::signature::decode;
use super::world::{Request, World};

/// Upper limit of lifetimes, so that every date can be written.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 86_400);

impl World {
    pub(super) fn iam(
        &mut self,
        operation: Operation,
        request: &Request<'_>,
        body: Option<&Map<String, Value>>,
        request_id: &str,
    ) -> Result<Answer, Answer> {
        if operation == Operation::ListProjects {
            return self.list_projects(request, request_id);
        }
        if !is_json(request.headers) {
            return Err(bad_request("The Content-Type must be application/json."));
        }
        if operation == Operation::AssumeWithOidc {
            return self.assume_with_oidc(body);
        }
        let auth = auth(body)?;
        match operation {
            Operation::AgencyToken => self.agency_token(request, auth, request_id),
            Operation::TemporaryKeys => self.temporary_keys(request, auth, request_id),
            Operation::IdToken => self.id_token(request, auth),
            _ => self.log_in(request, auth),
        }
    }

    /// A token for a user name, its domain and its password.
    fn log_in(&mut self, request: &Request<'_>, auth: &Value) -> Result<Answer, Answer> {
        let identity = &auth["identity"];
        let methods = identity["methods"].as_array().ok_or_else(|| bad_request("The methods are missing."))?;
        if !matches!(methods.as_slice(), [method] if method == "password") {
            return Err(unsupported_method());
        }
        let user = &identity["password"]["user"];
        let named = match user["id"].as_str() {
            Some(id) => Some(self.user_by_id(id).unwrap_or_default()),
            None if user["domain"].is_null() => None,
            None => {
                let domain_name = self.domain_name(&user["domain"]).unwrap_or_default();
                user["name"].as_str().map(|name| (name.to_owned(), domain_name))
            }
        };
        let (Some((user_name, domain_name)), Some(password)) = (named, user["password"].as_str()) else {
            return Err(bad_request("The user's id, or name and domain, or the password is missing."));
        };
        let (user_name, domain_name) = (user_name.as_str(), domain_name.as_str());
        self.check_password(user_name, domain_name, password)?;
        self.permit(Operation::Authenticate)?;
        let permissions = Permissions::OwnAccount(Some(domain_name.into()));
        let scope = self.scope(&auth["scope"], &permissions, Some(domain_name))?;
        Ok(self.token_answer(request, "password", user_name, domain_name, scope, permissions))
    }

    /// A token for the token of an identity provider (`docs/kms-api.md` 5.4).
    fn id_token(&mut self, request: &Request<'_>, auth: &Value) -> Result<Answer, Answer> {
        let provider_id = request.headers.get("x-idp-id").and_then(|id| id.to_str().ok());
        let provider_id = provider_id.ok_or_else(|| bad_request("The header X-Idp-Id is missing."))?;
        let sent = auth["id_token"]["id"].as_str().ok_or_else(|| bad_request("The id_token is missing."))?;
        let accepted = self.id_tokens.get(provider_id);
        let accepted = accepted.ok_or_else(|| not_found("Could not find the identity provider."))?;
        if accepted != sent {
            self.authentication_failures += 1;
            return Err(unauthorized("The ID token is invalid or has expired."));
        }
        self.permit(Operation::IdToken)?;
        let permissions = Permissions::OwnAccount(None);
        let scope = self.scope(&auth["scope"], &permissions, None)?;
        Ok(self.token_answer(request, "mapped", "FederationUser", provider_id, scope, permissions))
    }

    /// Issues a token and returns it in an answer.
    pub(super) fn token_answer(
        &mut self,
        request: &Request<'_>,
        method: &str,
        user_name: &str,
        domain_name: &str,
        scope: Scope,
        permissions: Permissions,
    ) -> Answer {
        let issued = self.now();
        let expires = issued + self.behaviour.token_lifetime.min(MAX_LIFETIME);
        let with_catalog = request.query.is_none_or(|query| !query.split('&').any(|part| part == "nocatalog=true"));
        let mut about = json!({
            "expires_at": iso(expires),
            "issued_at": iso(issued),
            "methods": [method],
            "roles": [{"id": "0", "name": "te_admin"}],
            "user": {"id": "user", "name": user_name, "domain": self.domain(domain_name)},
        });
        match &scope {
            Scope::Nothing => {}
            Scope::Domain(domain_name) => about["domain"] = self.domain(domain_name),
            Scope::Project(id) => {
                if let Some(project) = self.projects.get(&**id) {
                    let domain = self.domain(&project.domain_name);
                    about["project"] = json!({"id": id, "name": project.name, "domain": domain});
                }
            }
        }
        if with_catalog {
            let endpoint = |kind: &str, path: &str| {
                let url = format!("{}{path}", self.url);
                json!({"type": kind, "name": kind, "id": kind, "endpoints": [{
                    "id": kind, "interface": "public", "region": "*", "region_id": "*", "url": url,
                }]})
            };
            about["catalog"] = json!([endpoint("kms", ""), endpoint("identity", "/v3")]);
        }
        let mut answer = Answer::value(201, &json!({"token": about}));
        answer.subject_token = Some(self.issue_token(scope, permissions, expires));
        answer
    }

    fn check_password(&mut self, user_name: &str, domain_name: &str, password: &str) -> Result<(), Answer> {
        let now = self.now();
        let limit = self.behaviour.user_lock_after;
        let wrong = || unauthorized("The username or password is wrong.");
        let known = self
            .users
            .iter_mut()
            .find(|user| user.login.user_name == user_name && user.login.domain_name == domain_name);
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
        self.authentication_failures += u64::from(outcome.is_err());
        outcome
    }

    /// The requested scope of a token, if the caller may use it.
    pub(super) fn scope(
        &self,
        scope: &Value,
        permissions: &Permissions,
        own_domain: Option<&str>,
    ) -> Result<Scope, Answer> {
        let project = &scope["project"];
        let project_id = match (project["id"].as_str(), project["name"].as_str()) {
            (None, None) if project.is_null() => return self.domain_scope(&scope["domain"], own_domain),
            (None, None) => return Err(bad_request("The project's id or name is missing.")),
            (Some(id), _) => self.projects.contains_key(id).then(|| id.to_owned()),
            (None, Some(name)) => {
                let domain = self.domain_name(&project["domain"]).or_else(|| own_domain.map(ToOwned::to_owned));
                let mut projects = self.projects.iter();
                let named = projects.find(|(_, project)| {
                    project.name == name && domain.as_ref().is_none_or(|domain| project.domain_name == *domain)
                });
                named.map(|(id, _)| id.clone())
            }
        };
        let project_id = project_id.ok_or_else(|| not_found("Could not find the project."))?;
        if !self.may_access(permissions, &project_id) {
            return Err(Answer::iam(403, "Forbidden", "You have no right to access this project."));
        }
        Ok(Scope::Project(project_id.into()))
    }

    fn domain_scope(&self, domain: &Value, own_domain: Option<&str>) -> Result<Scope, Answer> {
        if domain.is_null() {
            return Ok(Scope::Nothing);
        }
        match self.domain_name(domain) {
            Some(name) if own_domain == Some(&name) => Ok(Scope::Domain(name.into())),
            Some(_) => Err(Answer::iam(403, "Forbidden", "You have no right to access this domain.")),
            None => Err(bad_request("The domain's id or name is missing.")),
        }
    }

    /// The projects that the caller may use, filtered by name and account if the query has them.
    fn list_projects(&mut self, request: &Request<'_>, request_id: &str) -> Result<Answer, Answer> {
        let permissions = self.caller(request, true, Operation::ListProjects, request_id)?;
        let parameter = |name: &str| {
            let mut pairs = request.query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.find(|(found, _)| *found == name).map(|(_, value)| decode(value, true));
            value.map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        let (name, domain_id) = (parameter("name"), parameter("domain_id"));
        let found = self.projects.iter().filter(|(id, project)| {
            self.may_access(&permissions, id)
                && name.as_ref().is_none_or(|name| project.name == *name)
                && domain_id.as_ref().is_none_or(|id| self.domain_id(&project.domain_name) == *id)
        });
        let mut found: Vec<_> = found.collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        let projects = found.into_iter().map(|(id, project)| {
            let domain_id = self.domain_id(&project.domain_name);
            json!({
                "id": id,
                "name": project.name,
                "domain_id": domain_id,
                "parent_id": domain_id,
                "is_domain": false,
                "enabled": true,
                "description": "",
                "links": {"self": format!("{}/v3/projects/{id}", self.url)},
            })
        });
        let links = json!({"self": format!("{}/v3/projects", self.url), "previous": null, "next": null});
        Ok(Answer::value(200, &json!({"projects": projects.collect::<Vec<_>>(), "links": links})))
    }
}

pub(super) fn bad_request(text: &str) -> Answer {
    Answer::iam(400, "Bad Request", text)
}

fn unauthorized(text: &str) -> Answer {
    Answer::iam(401, "Unauthorized", text)
}

pub(super) fn unsupported_method() -> Answer {
    unauthorized("Attempted to authenticate with an unsupported method.")
}

pub(super) fn not_found(text: &str) -> Answer {
    Answer::iam_code(404, "IAM.0004", text)
}

/// A time as IAM writes it: UTC with microseconds (`docs/kms-api.md` 5.1).
pub(super) fn iso(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_iam_writes_them() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_578_128_722_701);
        assert_eq!(iso(time), "2020-01-04T09:05:22.701000Z");
    }
}
