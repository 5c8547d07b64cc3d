//! Agencies: an account delegates some of its projects, by a token or by temporary keys (`docs/kms-api.md` 5.1).
//!
//! Trust is not simulated: every authenticated caller may assume an agency, unless
//! [`Behaviour::forbidden`](super::Behaviour::forbidden) contains the operation.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::access::{Permissions, Scope};
use super::answer::Answer;
use super::iam::{bad_request, not_found, unsupported_method};
use super::operation::Operation;
use super::world::{Request, World};

/// Default (and shortest) and longest lifetime of temporary keys, in seconds (`docs/kms-api.md` 5.1).
const DEFAULT_DURATION: u64 = 900;
const MAX_DURATION: u64 = 86_400;

/// Projects that an account delegates.
#[derive(Clone)]
pub(super) struct Agency {
    /// The account that delegates.
    pub(super) domain_name: String,
    pub(super) domain_id: String,
    pub(super) name: String,
    pub(super) project_ids: Vec<String>,
}

impl Agency {
    pub(super) fn delegates(&self, project_id: &str) -> bool {
        self.project_ids.iter().any(|id| id == project_id)
    }

    fn permissions(&self) -> Permissions {
        Permissions::Agency { domain_name: self.domain_name.as_str().into(), project_ids: self.project_ids.clone() }
    }
}

impl World {
    /// A token of an agency, for a user's token.
    pub(super) fn agency_token(
        &mut self,
        request: &Request<'_>,
        auth: &Value,
        request_id: &str,
    ) -> Result<Answer, Answer> {
        // Documented with a token only, and an unscoped token has no roles.
        if request.is_signed() {
            return Err(unsupported_method());
        }
        self.caller(request, false, Operation::AgencyToken, request_id)?;
        let agency = self.agency(&auth["identity"]["assume_role"])?;
        let (permissions, domain_name) = (agency.permissions(), agency.domain_name.clone());
        let name = format!("{domain_name}/{}", agency.name);
        let scope = self.scope(&auth["scope"], &permissions, Some(&domain_name))?;
        if scope == Scope::Nothing {
            return Err(bad_request("The scope is missing."));
        }
        Ok(self.token_answer(request, "assume_role", &name, &domain_name, scope, permissions))
    }

    /// Temporary keys: of an agency, for a signature or a token; or of a token's owner.
    pub(super) fn temporary_keys(
        &mut self,
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
                self.caller(request, false, Operation::TemporaryKeys, request_id)?;
                self.agency(&identity["assume_role"])?.permissions()
            }
            "token" => match identity["token"]["id"].as_str() {
                Some(token) => {
                    let permissions = self.holder(request, token)?;
                    self.permit(Operation::TemporaryKeys)?;
                    permissions
                }
                None => self.caller(request, true, Operation::TemporaryKeys, request_id)?,
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
        Ok(Answer::value(201, &self.issue_temporary_key(permissions, Duration::from_secs(seconds))))
    }

    /// The agency to assume: by its name, and the name or the id of its account.
    fn agency(&self, assume: &Value) -> Result<&Agency, Answer> {
        let (domain_name, domain_id) = (assume["domain_name"].as_str(), assume["domain_id"].as_str());
        let name = assume["agency_name"].as_str();
        let (Some(name), true) = (name, domain_name.is_some() || domain_id.is_some()) else {
            return Err(bad_request("The agency_name, and the domain_name or domain_id, are missing."));
        };
        let mut agencies = self.agencies.iter();
        let found = agencies.find(|agency| {
            agency.name == name
                && domain_name.is_none_or(|name| agency.domain_name == name)
                && domain_id.is_none_or(|id| agency.domain_id == id)
        });
        found.ok_or_else(|| not_found("Could not find the agency."))
    }

    /// The id of an account: from its agency, or derived from its name.
    pub(super) fn domain_id(&self, domain_name: &str) -> String {
        let agency = self.agencies.iter().find(|agency| agency.domain_name == domain_name);
        agency.map_or_else(|| made_up_id(domain_name), |agency| agency.domain_id.clone())
    }

    /// Name and account of the user with this id.
    pub(super) fn user_by_id(&self, id: &str) -> Option<(String, String)> {
        let mut users = self.users.iter().map(|user| &user.login);
        let found = users.find(|login| user_id(&login.user_name, &login.domain_name) == id)?;
        Some((found.user_name.clone(), found.domain_name.clone()))
    }

    /// The name of an account, given by name or by id.
    pub(super) fn domain_name(&self, domain: &Value) -> Option<String> {
        let by_id = |id: &str| {
            let accounts = self.projects.values().map(|project| project.domain_name.as_str());
            let accounts = accounts.chain(self.users.iter().map(|user| user.login.domain_name.as_str()));
            let mut accounts = accounts.chain(self.agencies.iter().map(|agency| agency.domain_name.as_str()));
            accounts.find(|name| self.domain_id(name) == id).map(ToOwned::to_owned)
        };
        domain["name"].as_str().map(ToOwned::to_owned).or_else(|| domain["id"].as_str().and_then(by_id))
    }

    /// An account as tokens contain it.
    pub(super) fn domain(&self, domain_name: &str) -> Value {
        json!({"id": self.domain_id(domain_name), "name": domain_name})
    }
}

/// The id of a user.
pub(super) fn user_id(user_name: &str, domain_name: &str) -> String {
    made_up_id(&format!("{user_name}@{domain_name}"))
}

/// 32 hexadecimal digits, derived from a name.
fn made_up_id(name: &str) -> String {
    use sha2::{Digest, Sha256};
    let mut id = super::signature::hex(&Sha256::digest(name));
    id.truncate(32);
    id
}

/// The part `auth` of a body.
pub(super) fn auth(body: Option<&Map<String, Value>>) -> Result<&Value, Answer> {
    body.and_then(|body| body.get("auth")).ok_or_else(|| bad_request("The request body is invalid."))
}
