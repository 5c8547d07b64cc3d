//! A user and a password, for which IAM issues a token scoped to the project (`docs/kms-api.md` 5.1).

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::body::{Identity, Scope, ScopedProject};
use super::iam::{IamExchange, ProjectScope, RequestAuth, Token};
use super::named::Named;
use crate::kms::error::Error;
use crate::kms::secret::SecretLocation;

/// An IAM user.
#[derive(Clone, Debug, PartialEq)]
pub struct Password {
    pub user: Named,
    /// The account that the user belongs to; a user's id needs none.
    pub domain: Option<Named>,
    /// The password, read anew at each login.
    pub password: SecretLocation,
    /// Scope the token by this project name, within the account, instead of by the project's id.
    pub project_name: Option<String>,
}

impl Password {
    /// A token for the project. A wrong password is final: IAM locks the user after a few.
    pub(super) async fn token(
        &self,
        iam: &IamExchange<'_>,
        password: &SecretString,
        project: Option<&ProjectScope>,
    ) -> Result<Token, Error> {
        let by_name = |name| ScopedProject::Name { name, domain: self.domain.as_ref() };
        let scope = match (&self.project_name, project) {
            (None, Some(ProjectScope { id: Some(id), .. })) => Some(ScopedProject::Id { id }),
            (Some(name), _) | (None, Some(ProjectScope { id: None, name })) => Some(by_name(name)),
            (None, None) => None,
        };
        self.login(iam, password, scope.map(Scope::Project)).await
    }

    /// A token for the user's own account, with which agencies of other accounts are assumed.
    pub(super) async fn account_token(&self, iam: &IamExchange<'_>, password: &SecretString) -> Result<Token, Error> {
        self.login(iam, password, self.domain.as_ref().map(Scope::Domain)).await
    }

    async fn login(
        &self,
        iam: &IamExchange<'_>,
        password: &SecretString,
        scope: Option<Scope<'_>>,
    ) -> Result<Token, Error> {
        // The id of a user needs no account.
        let domain = self.domain.as_ref().filter(|_| matches!(self.user, Named::Name(_)));
        let user = User { named: &self.user, password: password.expose_secret(), domain };
        let identity = Identity { method: "password", by: ByPassword { user } };
        iam.token(RequestAuth::None, identity, scope, Some(password)).await
    }
}

#[derive(Serialize)]
struct ByPassword<'a> {
    user: User<'a>,
}

#[derive(Serialize)]
struct User<'a> {
    #[serde(flatten)]
    named: &'a Named,
    password: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a Named>,
}
