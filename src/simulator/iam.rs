//! The IAM: `POST /v3/auth/tokens` by the password method, for a project or for none.
//!
//! The other methods of IAM (agency, keys, identity providers) are refused as unsupported.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::kms::is_json;
use super::world::{Request, World};

/// As good as for ever, and still a date that can be written.
const LONGEST_LIFETIME: Duration = Duration::from_secs(100 * 365 * 86_400);

impl World {
    /// A token for a user name, its domain and its password.
    pub(super) fn log_in(
        &mut self,
        request: &Request<'_>,
        body: Option<&Map<String, Value>>,
    ) -> Result<Answer, Answer> {
        if !is_json(request.headers) {
            return Err(bad_request("The Content-Type must be application/json."));
        }
        let auth = body.and_then(|body| body.get("auth")).ok_or_else(|| bad_request("The request body is invalid."))?;
        let identity = &auth["identity"];
        let methods = identity["methods"].as_array().ok_or_else(|| bad_request("The methods are missing."))?;
        if !matches!(methods.as_slice(), [method] if method == "password") {
            return Err(unauthorized("Attempted to authenticate with an unsupported method."));
        }
        let user = &identity["password"]["user"];
        let (Some(user_name), Some(domain_name), Some(password)) =
            (user["name"].as_str(), user["domain"]["name"].as_str(), user["password"].as_str())
        else {
            return Err(bad_request("The user's name, domain or password is missing."));
        };
        self.check_password(user_name, domain_name, password)?;
        let project_id = self.scope(&auth["scope"], domain_name)?;

        let issued = self.now();
        let expires = issued + self.behaviour.token_lifetime.min(LONGEST_LIFETIME);
        let token = self.issue_token(project_id.as_deref(), expires);
        let with_catalog = request.query.is_none_or(|query| !query.split('&').any(|part| part == "nocatalog=true"));
        let mut about = json!({
            "expires_at": iso(expires),
            "issued_at": iso(issued),
            "methods": ["password"],
            "roles": [{"id": "0", "name": "te_admin"}],
            "user": {"id": "user", "name": user_name, "domain": {"id": "domain", "name": domain_name}},
        });
        if let Some(project) = project_id.as_ref().and_then(|id| self.projects.get(id)) {
            about["project"] = json!({
                "id": project_id,
                "name": project.name,
                "domain": {"id": "domain", "name": project.domain_name},
            });
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
        let mut answer = Answer::json(201, json!({"token": about}).to_string());
        answer.subject_token = Some(token);
        Ok(answer)
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
            Some(user) if user.lock.holds(now) => {
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

    /// The id of the project that a token is asked for; nothing for a token that opens no project.
    fn scope(&self, scope: &Value, user_domain: &str) -> Result<Option<String>, Answer> {
        let project = &scope["project"];
        let found = match (project["id"].as_str(), project["name"].as_str()) {
            (None, None) if project.is_null() => return Ok(None),
            (Some(id), _) => self.projects.contains_key(id).then(|| id.to_owned()),
            (None, Some(name)) => {
                let domain = project["domain"]["name"].as_str().unwrap_or(user_domain);
                let named = |(_, project): &(&String, &super::world::Project)| {
                    project.name == name && project.domain_name == domain
                };
                self.projects.iter().find(named).map(|(id, _)| id.clone())
            }
            (None, None) => return Err(bad_request("The project's id or name is missing.")),
        };
        let missing = || Answer::iam_code(404, "IAM.0004", "Could not find the project.");
        found.map(Some).ok_or_else(missing)
    }
}

fn bad_request(text: &str) -> Answer {
    Answer::iam(400, "Bad Request", text)
}

fn unauthorized(text: &str) -> Answer {
    Answer::iam(401, "Unauthorized", text)
}

/// As IAM writes times: UTC with microseconds.
fn iso(time: SystemTime) -> String {
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
