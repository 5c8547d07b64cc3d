//! How to log in to a project: the one kind of credentials, the agency on top of it, the proxy on the way.
//!
//! Reads where secrets are and never a secret: a field that would hold one is a problem that names the field for its
//! file, and its value shows neither in the message nor in the drawing beneath it.

use std::time::Duration;

use super::decode::{Decoder, Field, Fields, Schema, Secret, listed};
use super::endpoint::Service;
use super::project::given;
use super::source::Span;
use super::tree::Value;
use super::types::{AccessKeyId, AgencyDomain, AssumeAgency, Credentials, Proxy};

const CREDENTIALS: Schema = Schema {
    secrets: &[
        Secret::of("token", "token_file"),
        Secret { name: "secret_access_key", meant: "access_key", file: "secret_access_key_file" },
    ],
    ..Schema::of(
        "`credentials`",
        &["token_file", "password", "access_key", "ecs_agency", "id_token", "environment", "assume_agency", "proxy"],
    )
};
/// Of [`CREDENTIALS`] those that log in.
const KINDS: &[&str] = &["token_file", "password", "access_key", "ecs_agency", "id_token", "environment"];
/// Of [`KINDS`] those that may act for an agency.
const AGENTS: &[&str] = &["password", "access_key", "ecs_agency"];

const PASSWORD: Schema = Schema {
    secrets: &[Secret::of("password", "password_file")],
    ..Schema::of("`password`", &["user_name", "domain_name", "password_file", "project_name"])
};
const ACCESS_KEY: Schema = Schema {
    secrets: &[
        Secret::of("secret_access_key", "secret_access_key_file"),
        Secret::of("security_token", "security_token_file"),
    ],
    ..Schema::of(
        "`access_key`",
        &["access_key_id", "access_key_id_file", "secret_access_key_file", "security_token_file"],
    )
};
const ECS_AGENCY: Schema = Schema::of("`ecs_agency`", &["metadata_endpoint"]);
const ID_TOKEN: Schema = Schema {
    secrets: &[Secret::of("token", "token_file"), Secret::of("id_token", "token_file")],
    ..Schema::of("`id_token`", &["provider_id", "token_file"])
};
const ENVIRONMENT: Schema = Schema::of("`environment`", &[]);
const ASSUME_AGENCY: Schema = Schema::of("`assume_agency`", &["domain_name", "domain_id", "agency_name", "duration"]);
const PROXY: Schema = Schema {
    secrets: &[Secret::of("password", "password_file")],
    ..Schema::of("`proxy`", &["url", "user_name", "password_file"])
};

/// The services' own limits are below it.
const LONGEST_IDENTITY: usize = 256;
/// Twenty characters are usual.
const LONGEST_ID: usize = 128;
/// What IAM lets temporary keys of an agency hold.
const AGENCY_DURATION: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(15 * 60)..=Duration::from_secs(24 * 3600);

/// All that a project says of logging in.
pub(super) struct Login {
    pub(super) credentials: Credentials,
    /// Where they are given.
    pub(super) at: Span,
    pub(super) assume_agency: Option<AssumeAgency>,
    pub(super) proxy: Option<Proxy>,
}

impl Decoder<'_> {
    /// What the fields of a project say of logging in.
    pub(super) fn login(&mut self, project: &Fields<'_>) -> Option<Login> {
        let field = self.require(project, "credentials");
        let fields = field.and_then(|field| self.fields(field, &CREDENTIALS));
        let (credentials, kind) = match field.zip(fields.as_ref()) {
            Some((field, fields)) => self.credentials(field, fields),
            None => (None, None),
        };
        let assume_agency = self.beside(project, fields.as_ref(), "assume_agency").map(|field| {
            if let Some((kind, span)) = kind.filter(|(kind, _)| !AGENTS.contains(kind)) {
                let message = format!("`assume_agency` is given with `{kind}`, expected it with {}", listed(AGENTS));
                self.error(field.key, message).related("credentials given", span);
            }
            self.assume_agency(field)
        });
        let proxy = self.beside(project, fields.as_ref(), "proxy").map(|field| self.proxy(field));
        let (_, at) = kind?;
        Some(Login { credentials: credentials?, at, assume_agency: given(assume_agency)?, proxy: given(proxy)? })
    }

    /// A field that may stand in the credentials or beside them in the project, and in one of these places only.
    fn beside<'n>(&mut self, project: &Fields<'n>, credentials: Option<&Fields<'n>>, name: &str) -> Option<Field<'n>> {
        let (outside, inside) = (project.get(name), credentials.and_then(|credentials| credentials.get(name)));
        if let Some((outside, inside)) = outside.zip(inside) {
            let (first, second) = if outside.key < inside.key { (outside, inside) } else { (inside, outside) };
            let message = format!("`{name}` is given both in `credentials` and beside them, expected in one place");
            self.error(second.key, message).related("the first given", first.key);
        }
        inside.or(outside)
    }

    /// The credentials, and of which kind they are.
    fn credentials(
        &mut self,
        field: Field<'_>,
        fields: &Fields<'_>,
    ) -> (Option<Credentials>, Option<(&'static str, Span)>) {
        let mut kinds: Vec<_> = KINDS.iter().filter_map(|kind| fields.get(kind)).collect();
        kinds.sort_by_key(|kind| kind.key);
        if let Some((first, others)) = kinds.split_first() {
            for other in others {
                let message = format!("`{}` is another kind of credentials, expected exactly one", other.name);
                self.error(other.key, message).related("the first given", first.key);
            }
        } else if !KINDS.iter().any(|kind| fields.excuses(kind)) {
            let message = format!("no credentials, expected exactly one of {}", listed(KINDS));
            self.error(field.span(), message);
        }
        let read: Vec<_> = kinds.iter().map(|kind| self.kind(*kind)).collect();
        (read.into_iter().next().flatten(), kinds.first().map(|kind| (kind.name, kind.key)))
    }

    fn kind(&mut self, field: Field<'_>) -> Option<Credentials> {
        match field.name {
            "token_file" => self.file_path(field).map(Credentials::TokenFile),
            "password" => self.password(field),
            "access_key" => self.access_key(field),
            "ecs_agency" => self.ecs_agency(field),
            "id_token" => self.id_token(field),
            _ => self.perhaps_empty(field, &ENVIRONMENT).map(|_| Credentials::Environment),
        }
    }

    fn password(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.fields(field, &PASSWORD)?;
        let user_name = self.identity(&fields, "user_name", "the name of an IAM user");
        let domain_name = self.identity(&fields, "domain_name", "the name of the account that the user belongs to");
        let password_file = self.require(&fields, "password_file").and_then(|field| self.file_path(field));
        let project_name = fields
            .get("project_name")
            .map(|field| self.name(field, "the project's name in the cloud", LONGEST_IDENTITY).map(str::to_owned));
        Some(Credentials::Password {
            user_name: user_name?,
            domain_name: domain_name?,
            password_file: password_file?,
            project_name: given(project_name)?,
        })
    }

    fn access_key(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.fields(field, &ACCESS_KEY)?;
        self.require_one_of(&fields, &["access_key_id", "access_key_id_file"]);
        let value = fields.get("access_key_id").map(|field| self.access_key_id(field).map(AccessKeyId::Value));
        let file = fields.get("access_key_id_file").map(|field| self.file_path(field).map(AccessKeyId::File));
        let secret = self.require(&fields, "secret_access_key_file").and_then(|field| self.file_path(field));
        let token = fields.get("security_token_file").map(|field| self.file_path(field));
        Some(Credentials::AccessKey {
            access_key_id: value.or(file)??,
            secret_access_key_file: secret?,
            security_token_file: given(token)?,
        })
    }

    fn access_key_id(&mut self, field: Field<'_>) -> Option<String> {
        let id = self.verbatim(field, "the id of an access key")?;
        if is_id(&id) {
            return Some(id);
        }
        // Not repeated: what is no id may be the secret in the wrong place.
        let message =
            "`access_key_id` is not the id of an access key, expected 1 to 128 ASCII characters without blanks";
        self.error(field.span(), message).conceal(field.node.span);
        None
    }

    fn ecs_agency(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.perhaps_empty(field, &ECS_AGENCY)?;
        let endpoint = fields.get("metadata_endpoint").map(|field| self.address(field, Service::Metadata));
        let metadata_endpoint = given(endpoint)?.map(|endpoint| endpoint.address.to_owned());
        Some(Credentials::EcsAgency { metadata_endpoint })
    }

    fn id_token(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.fields(field, &ID_TOKEN)?;
        let provider_id = self.require(&fields, "provider_id").and_then(|field| {
            self.id(field, "the name of an identity provider in IAM, 1 to 128 ASCII characters without blanks")
        });
        let token_file = self.require(&fields, "token_file").and_then(|field| self.file_path(field));
        Some(Credentials::IdToken { provider_id: provider_id?, token_file: token_file? })
    }

    fn assume_agency(&mut self, field: Field<'_>) -> Option<AssumeAgency> {
        let fields = self.fields(field, &ASSUME_AGENCY)?;
        self.require_one_of(&fields, &["domain_name", "domain_id"]);
        let name = fields.get("domain_name").map(|field| {
            let name = self.name(field, "the name of the account that delegates", LONGEST_IDENTITY)?;
            Some(AgencyDomain::Name(name.to_owned()))
        });
        let id = fields.get("domain_id").map(|field| {
            self.id(field, "the id of the account that delegates, 1 to 128 ASCII characters without blanks")
                .map(AgencyDomain::Id)
        });
        let agency_name = self.identity(&fields, "agency_name", "the name of an agency in that account");
        let duration = fields.get("duration").map(|field| self.duration(field, &AGENCY_DURATION));
        Some(AssumeAgency { domain: name.or(id)??, agency_name: agency_name?, duration: given(duration)? })
    }

    fn proxy(&mut self, field: Field<'_>) -> Option<Proxy> {
        let fields = self.fields(field, &PROXY)?;
        let url = self.require(&fields, "url").and_then(|field| self.address(field, Service::Proxy));
        let (user, file) = (fields.get("user_name"), fields.get("password_file"));
        for (one, other) in [(user, "password_file"), (file, "user_name")] {
            if let Some(one) = one.filter(|_| fields.get(other).is_none() && !fields.excuses(other)) {
                let message = format!("`{}` is given without `{other}`, expected both or neither", one.name);
                self.error(one.key, message);
            }
        }
        let user_name = user.map(|field| self.proxy_user(field));
        let password_file = file.map(|field| self.file_path(field));
        let (user_name, password_file) = (given(user_name)?, given(password_file)?);
        Some(Proxy { url: url?.address.to_owned(), user_name, password_file })
    }

    fn proxy_user(&mut self, field: Field<'_>) -> Option<String> {
        // The first colon ends the name in what is sent to the proxy (RFC 7617), and a password may come after it.
        const EXPECTED: &str = "the name of a user of the proxy";
        if field.node.text().is_some_and(|text| text.contains(':')) {
            let message = "`user_name` has a colon in it, expected the name of a user of the proxy without one";
            self.error(field.span(), message).conceal(field.node.span);
            return None;
        }
        self.name(field, EXPECTED, LONGEST_IDENTITY).map(str::to_owned)
    }

    /// A mapping that may have no fields, but must be one.
    fn perhaps_empty<'n>(&mut self, field: Field<'n>, schema: &'static Schema) -> Option<Fields<'n>> {
        if let Value::Null | Value::Bool(_) = field.node.value {
            let help = format!("write `{}: {{}}`", field.name);
            self.mismatch(field, "a mapping, even if an empty one").help(help);
            return None;
        }
        self.fields(field, schema)
    }

    /// The required name of somebody.
    fn identity(&mut self, fields: &Fields<'_>, name: &'static str, expected: &str) -> Option<String> {
        let field = self.require(fields, name)?;
        self.name(field, expected, LONGEST_IDENTITY).map(str::to_owned)
    }

    /// An id that the cloud gave, which may look like a number.
    fn id(&mut self, field: Field<'_>, expected: &str) -> Option<String> {
        let id = self.verbatim(field, expected)?;
        if is_id(&id) {
            return Some(id);
        }
        self.mismatch(field, expected);
        None
    }
}

/// Whether it can be an id: it goes into headers as it is.
fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_be_sent_in_a_header() {
        for id in ["A", "0123456789abcdef0123456789abcdef", "my-idp_1.2~", &"a".repeat(128)] {
            assert!(is_id(id), "{id}");
        }
        for text in ["", " ", "a b", "a\t", "a\n", "\u{7f}", "ü", &"a".repeat(129)] {
            assert!(!is_id(text), "{text:?}");
        }
    }

    #[test]
    fn every_kind_is_a_field_and_every_agent_a_kind() {
        assert!(KINDS.iter().all(|kind| CREDENTIALS.fields.contains(kind)));
        assert!(AGENTS.iter().all(|agent| KINDS.contains(agent)));
    }
}
