//! The bodies of logins, written straight into memory that is wiped, so that a secret in them has no other copy.

use std::io;

use secrecy::SecretString;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::named::Named;

/// The body of a request for credentials.
#[derive(Serialize)]
pub(super) struct CredentialRequest<T> {
    pub(super) auth: T,
}

/// The login, and the scope of the token.
#[derive(Serialize)]
pub(super) struct Auth<'a, T> {
    pub(super) identity: Identity<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<Scope<'a>>,
}

/// The login by one method. The field with its parameters has the method's name.
pub(super) struct Identity<T> {
    pub(super) method: &'static str,
    pub(super) by: T,
}

impl<T: Serialize> Serialize for Identity<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("methods", &[self.method])?;
        map.serialize_entry(self.method, &self.by)?;
        map.end()
    }
}

/// The scope of a token.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope<'a> {
    Project(ScopedProject<'a>),
    Domain(&'a Named),
}

/// A project, by its id or by its name in an account.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ScopedProject<'a> {
    Id {
        id: &'a str,
    },
    Name {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        domain: Option<&'a Named>,
    },
}

/// The JSON of a body. It is written twice, the first time to count: text that grows would leave copies that are not
/// wiped.
pub(super) fn json(body: &impl Serialize) -> SecretString {
    let mut length = Length(0);
    // Neither counting nor writing to memory can fail, and all keys are texts.
    let _ = serde_json::to_writer(&mut length, body);
    let mut text = Zeroizing::new(Vec::with_capacity(length.0));
    let _ = serde_json::to_writer(&mut *text, body);
    SecretString::from(String::from_utf8(std::mem::take(&mut *text)).unwrap_or_default())
}

/// Counts the bytes.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    /// As in `docs/kms-api.md` 5.1.
    #[test]
    fn identity_and_scope_have_the_form_that_iam_documents() {
        let account = Named::Name("a\"b".to_owned());
        let project = ScopedProject::Name { name: "eu-de", domain: Some(&account) };
        let identity = || Identity { method: "password", by: Named::Id("u".to_owned()) };
        let auth = Auth { identity: identity(), scope: Some(Scope::Project(project)) };
        assert_eq!(
            json(&CredentialRequest { auth }).expose_secret(),
            r#"{"auth":{"identity":{"methods":["password"],"password":{"id":"u"}},"#.to_owned()
                + r#""scope":{"project":{"name":"eu-de","domain":{"name":"a\"b"}}}}}"#
        );
        let scope = Scope::Project(ScopedProject::Id { id: "p" });
        assert_eq!(json(&scope).expose_secret(), r#"{"project":{"id":"p"}}"#);
        assert_eq!(json(&Scope::Domain(&account)).expose_secret(), r#"{"domain":{"name":"a\"b"}}"#);
        let auth = Auth { identity: identity(), scope: None };
        assert_eq!(json(&auth).expose_secret(), r#"{"identity":{"methods":["password"],"password":{"id":"u"}}}"#);
    }
}
