//! Access keys: permanent ones from files, temporary ones from IAM and the metadata service.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::lifetime::{Lifetime, lifetime};
use super::signing::{Signable, authorization, sdk_date};
use super::wiped_json::WipedJson;
use crate::kms::error::Error;
use crate::kms::secret::SecretLocation;
use crate::kms::transport::{HeaderText, Request};

/// The locations of a permanent access key.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessKeyFiles {
    /// The key's id.
    pub id: AccessKeyIdSource,
    pub secret: SecretLocation,
    /// The security token of a temporary one.
    pub security_token: Option<SecretLocation>,
}

/// The id of an access key: not secret, but often kept beside the secret.
#[derive(Clone, Debug, PartialEq)]
pub enum AccessKeyIdSource {
    /// The id itself.
    Known(String),
    In(SecretLocation),
}

impl fmt::Display for AccessKeyIdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(id) => f.write_str(id),
            Self::In(source) => write!(f, "{source}"),
        }
    }
}

impl AccessKeyFiles {
    /// Reads the key.
    pub(super) fn read(&self) -> Result<AccessKey, Error> {
        let id = match &self.id {
            AccessKeyIdSource::Known(id) => id.clone(),
            AccessKeyIdSource::In(source) => source.read_word("access key id")?.expose_secret().to_owned(),
        };
        let security_token = self.security_token.as_ref().map(|source| source.read_word("security token"));
        let secret = self.secret.read_word("secret access key")?;
        Ok(AccessKey { id, secret, security_token: security_token.transpose()? })
    }
}

/// An access key.
#[derive(Clone)]
pub(super) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: SecretString,
    pub(super) security_token: Option<SecretString>,
}

impl AccessKey {
    /// Signs the request at this time, for a project where it is about one. It signs the request's own headers
    /// and those of the signature, but none that a proxy may rewrite.
    pub(super) fn sign(&self, request: &mut Request, project_id: Option<&str>, now: SystemTime) -> Option<()> {
        let date = sdk_date(now);
        request.headers.push(("host", HeaderText::text(&request.authority())?));
        request.headers.push(("x-sdk-date", HeaderText::text(&date)?));
        if let Some(project_id) = project_id {
            request.headers.push(("x-project-id", HeaderText::text(project_id)?));
        }
        if let Some(token) = &self.security_token {
            request.headers.push(("x-security-token", HeaderText::secret(token.clone())?));
        }
        let headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let signable = Signable {
            method: request.method.as_str(),
            path: request.url.path(),
            query: request.url.query().unwrap_or_default(),
            headers: &headers,
            body: request.body.expose_secret().as_bytes(),
        };
        let signature = authorization(&signable, &self.id, self.secret.expose_secret(), &date);
        request.headers.push(("authorization", HeaderText::secret(SecretString::from(signature))?));
        Some(())
    }

    /// The parts by which it differs from other keys.
    pub(super) fn parts(&self) -> [&str; 3] {
        let security_token = self.security_token.as_ref().map(ExposeSecret::expose_secret);
        [&self.id, self.secret.expose_secret(), security_token.unwrap_or_default()]
    }

    /// A temporary key from any of the cloud's services (`docs/kms-api.md` 5.4): wrapped or bare, with names in three
    /// styles. `answered` is the `Date` of the answer, by the cloud's clock. `None` if the body has no key.
    pub(super) fn parse(
        body: &[u8],
        answered: Option<SystemTime>,
        now: SystemTime,
    ) -> Option<(Self, Option<Lifetime>)> {
        let answer = WipedJson::from(serde_json::from_slice::<Value>(body).ok()?);
        let credential = ["credential", "credentials"].iter().find_map(|name| answer.get(name)).unwrap_or(&*answer);
        let text = |names: [&str; 3]| names.iter().find_map(|name| credential.get(name)?.as_str());
        let id = text(["access", "accessKeyId", "access_key_id"])?.to_owned();
        let secret = SecretString::from(text(["secret", "secretAccessKey", "secret_access_key"])?);
        let security_token = text(["securitytoken", "securityToken", "security_token"]).map(SecretString::from);
        let end = text(["expires_at", "expiration", "expiresAt"]).and_then(|end| end.parse::<Timestamp>().ok());
        let lifetime = end.and_then(|end| lifetime(end.into(), answered, now));
        Some((Self { id, secret, security_token }, lifetime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_keys_are_read_in_every_shape() {
        for body in [
            r#"{"credential":{"access":"A","secret":"S","securitytoken":"T","expires_at":"2020-01-08T02:56:19.587000Z"}}"#,
            r#"{"credentials":{"access_key_id":"A","secret_access_key":"S","security_token":"T","expiration":"2020-01-08T02:56:19Z"}}"#,
            r#"{"accessKeyId":"A","secretAccessKey":"S","securityToken":"T"}"#,
        ] {
            let (key, _) = AccessKey::parse(body.as_bytes(), None, SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!((key.id.as_str(), key.secret.expose_secret()), ("A", "S"), "{body}");
            assert_eq!(key.security_token.unwrap().expose_secret(), "T", "{body}");
        }
        assert!(AccessKey::parse(b"{}", None, SystemTime::UNIX_EPOCH).is_none());
    }
}
