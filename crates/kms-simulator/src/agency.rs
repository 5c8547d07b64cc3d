//! Agencies: an account lets others act in some of its projects, by a token or by temporary keys.
//!
//! Who is trusted with an agency is not simulated: whoever is let in may assume it, unless
//! [`Behaviour::forbidden`](super::Behaviour::forbidden) says that nobody may.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::access::{Reach, Scope};
use super::answer::Answer;
use super::iam::{bad_request, not_found, unsupported_method};
use super::operation::Operation;
use super::world::{Request, World};

/// What temporary keys live for where nothing is asked for, and what may be asked for, in seconds.
const DEFAULT_DURATION: u64 = 900;
const LONGEST_DURATION: u64 = 86_400;

/// What an account delegates.
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

    fn reach(&self) -> Reach {
        Reach::Agency { domain_name: self.domain_name.as_str().into(), project_ids: self.project_ids.clone() }
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
        // The documents know a token here and nothing else; one that opens nothing carries no rights.
        if request.is_signed() {
            return Err(unsupported_method());
        }
        self.caller(request, false, Operation::AgencyToken, request_id)?;
        let agency = self.agency(&auth["identity"]["assume_role"])?;
        let (reach, domain_name) = (agency.reach(), agency.domain_name.clone());
        let name = format!("{domain_name}/{}", agency.name);
        let scope = self.scope(&auth["scope"], &reach, Some(&domain_name))?;
        if scope == Scope::Nothing {
            return Err(bad_request("The scope is missing."));
        }
        Ok(self.token_answer(request, "assume_role", &name, &domain_name, scope, reach))
    }

    /// Temporary keys: an agency's, for a signature or a token, or those of a token's holder.
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
        let reach = match method {
            "assume_role" => {
                self.caller(request, false, Operation::TemporaryKeys, request_id)?;
                self.agency(&identity["assume_role"])?.reach()
            }
            "token" => match identity["token"]["id"].as_str() {
                Some(token) => {
                    let reach = self.holder(request, token)?;
                    self.permit(Operation::TemporaryKeys)?;
                    reach
                }
                None => self.caller(request, true, Operation::TemporaryKeys, request_id)?,
            },
            _ => return Err(unsupported_method()),
        };
        let seconds = match &identity[method]["duration_seconds"] {
            Value::Null => Some(DEFAULT_DURATION),
            seconds => seconds.as_u64(),
        };
        let Some(seconds @ DEFAULT_DURATION..=LONGEST_DURATION) = seconds else {
            return Err(bad_request("The duration_seconds must be an integer from 900 to 86400."));
        };
        Ok(Answer::value(201, &self.issue_temporary_key(reach, Duration::from_secs(seconds))))
    }

    /// The agency that is to be assumed: by its name, and the name or the id of its account.
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

    /// The id of an account: as an agency states it, or made up from its name.
    pub(super) fn domain_id(&self, domain_name: &str) -> String {
        let agency = self.agencies.iter().find(|agency| agency.domain_name == domain_name);
        agency.map_or_else(|| made_up_id(domain_name), |agency| agency.domain_id.clone())
    }

    /// A user by the id that goes with name and account.
    pub(super) fn user_by_id(&self, id: &str) -> Option<(String, String)> {
        let mut users = self.users.iter().map(|user| &user.login);
        let found = users.find(|login| user_id(&login.user_name, &login.domain_name) == id)?;
        Some((found.user_name.clone(), found.domain_name.clone()))
    }

    /// An account by what is said of it: its name, or its id.
    pub(super) fn domain_name(&self, domain: &Value) -> Option<String> {
        let by_id = |id: &str| {
            let accounts = self.projects.values().map(|project| project.domain_name.as_str());
            let accounts = accounts.chain(self.users.iter().map(|user| user.login.domain_name.as_str()));
            let mut accounts = accounts.chain(self.agencies.iter().map(|agency| agency.domain_name.as_str()));
            accounts.find(|name| self.domain_id(name) == id).map(ToOwned::to_owned)
        };
        domain["name"].as_str().map(ToOwned::to_owned).or_else(|| domain["id"].as_str().and_then(by_id))
    }

    /// As tokens and lists name an account.
    pub(super) fn domain(&self, domain_name: &str) -> Value {
        json!({"id": self.domain_id(domain_name), "name": domain_name})
    }
}

/// The id of a user.
pub(super) fn user_id(user_name: &str, domain_name: &str) -> String {
    made_up_id(&format!("{user_name}@{domain_name}"))
}

/// 32 hexadecimal digits that go with a name.
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
