//! A user and a password, for which IAM gives a token scoped to the project (API sheet, section 5.1).

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::iam::{Asker, Iam, ProjectScope, Token};
use super::{Error, Named, SecretSource};

/// An IAM user.
#[derive(Clone, Debug, PartialEq)]
pub struct Password {
    /// The user.
    pub user: Named,
    /// The account that the user belongs to; a user's id needs none.
    pub domain: Option<Named>,
    /// The password, read anew at each authentication.
    pub password: SecretSource,
    /// Scope the token by this project name, within the account, instead of by the project's id.
    pub project_name: Option<String>,
}

impl Password {
    /// A token for the project. A wrong password is final: IAM locks the user after a few.
    pub(super) async fn token(&self, iam: &Iam<'_>, project: &ProjectScope) -> Result<Token, Error> {
        let by_name = |name: &String| {
            let mut scope = json!({ "name": name });
            self.domain.iter().for_each(|domain| scope["domain"] = domain.json());
            scope
        };
        let scope = match (&self.project_name, &project.id) {
            (Some(name), _) => by_name(name),
            (None, Some(id)) => json!({ "id": id }),
            (None, None) => by_name(&project.name),
        };
        self.login(iam, Some(json!({ "project": scope }))).await
    }

    /// A token for the user's own account, with which agencies of others are assumed.
    pub(super) async fn account_token(&self, iam: &Iam<'_>) -> Result<Token, Error> {
        self.login(iam, self.domain.as_ref().map(|domain| json!({ "domain": domain.json() }))).await
    }

    async fn login(&self, iam: &Iam<'_>, scope: Option<Value>) -> Result<Token, Error> {
        let password = iam.secret(&self.password)?;
        let mut user = self.user.json();
        user["password"] = json!(password.expose_secret());
        if let (Named::Name(_), Some(domain)) = (&self.user, &self.domain) {
            user["domain"] = domain.json();
        }
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        iam.token(Asker::Nobody, identity, scope, Some(&password)).await
    }
}
