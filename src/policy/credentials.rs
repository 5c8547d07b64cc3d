//! How to log in to a project: the one kind of credentials, the agency on top of it, the proxy on the way.
//!
//! Reads where secrets are and never a secret: a field that would hold one is a problem that names the field for its
//! file, and its value shows neither in the message nor in the drawing beneath it.

use std::time::Duration;

use super::endpoint::Service;
use super::types::{AccessKeyId, AgencyDomain, AssumeAgency, Credentials, Proxy};
use crate::yaml::decode::given;
use crate::yaml::decode::{Decoder, Field, Fields, listed};
use crate::yaml::schema::{Form, Kind, Known, Schema, Secret, Text};
use crate::yaml::source::Span;
use crate::yaml::tree::Value;

pub(super) const CREDENTIALS: Schema = Schema {
    secrets: &[
        Secret::of("token", "token_file"),
        Secret { name: "secret_access_key", meant: "access_key", file: "secret_access_key_file" },
    ],
    one_of: &[KINDS],
    ..Schema::of(
        "`credentials`",
        &[
            Known::optional("token_file", Kind::Path, "an IAM token that something else keeps fresh"),
            Known::optional("password", Kind::Mapping(&PASSWORD), "an IAM user; tokens are fetched and renewed"),
            Known::optional("access_key", Kind::Mapping(&ACCESS_KEY), "signs each request"),
            Known::optional("ecs_agency", Kind::Mapping(&ECS_AGENCY), "the agency of this virtual machine"),
            Known::optional("id_token", Kind::Mapping(&ID_TOKEN), "workload identity"),
            Known::optional("environment", Kind::Mapping(&ENVIRONMENT), "the variables of the official clients"),
            Known::optional(
                "assume_agency",
                Kind::Mapping(&ASSUME_AGENCY),
                "acts for another account, on top of `password`, `access_key` or `ecs_agency`",
            ),
            Known::optional("proxy", Kind::Mapping(&PROXY), "the way to the cloud; otherwise the environment says"),
        ],
    )
};
/// Of [`CREDENTIALS`] those that log in.
const KINDS: &[&str] = &["token_file", "password", "access_key", "ecs_agency", "id_token", "environment"];
/// Of [`KINDS`] those that may act for an agency.
const AGENTS: &[&str] = &["password", "access_key", "ecs_agency"];

const PASSWORD: Schema = Schema {
    secrets: &[Secret::of("password", "password_file")],
    ..Schema::of(
        "`password`",
        &[
            Known::required("user_name", Kind::Text(&USER), "who logs in"),
            Known::required("domain_name", Kind::Text(&DOMAIN), "whose user it is"),
            Known::required("password_file", Kind::Path, "holds the password"),
            Known::optional("project_name", Kind::Text(&PROJECT_NAME), "scopes the token in the place of an id"),
        ],
    )
};
const ACCESS_KEY: Schema = Schema {
    secrets: &[
        Secret::of("secret_access_key", "secret_access_key_file"),
        Secret::of("security_token", "security_token_file"),
    ],
    one_of: &[&["access_key_id", "access_key_id_file"]],
    ..Schema::of(
        "`access_key`",
        &[
            Known::optional("access_key_id", Kind::Form(&ACCESS_KEY_ID), "or `access_key_id_file`"),
            Known::optional("access_key_id_file", Kind::Path, "holds the id of the access key"),
            Known::required("secret_access_key_file", Kind::Path, "holds its secret"),
            Known::optional("security_token_file", Kind::Path, "holds the security token of a temporary key"),
        ],
    )
};
const ECS_AGENCY: Schema = Schema::of(
    "`ecs_agency`",
    &[Known::optional(
        "metadata_endpoint",
        Kind::Address(Service::Metadata.example()),
        "the metadata service, if not at the usual address",
    )],
);
const ID_TOKEN: Schema = Schema {
    secrets: &[Secret::of("token", "token_file"), Secret::of("id_token", "token_file")],
    ..Schema::of(
        "`id_token`",
        &[
            Known::required("provider_id", Kind::Form(&PROVIDER_ID), "who has issued the token"),
            Known::required("token_file", Kind::Path, "holds the provider's token"),
        ],
    )
};
const ENVIRONMENT: Schema = Schema::of("`environment`", &[]);
pub(super) const ASSUME_AGENCY: Schema = Schema {
    one_of: &[&["domain_name", "domain_id"]],
    ..Schema::of(
        "`assume_agency`",
        &[
            Known::optional("domain_name", Kind::Text(&DELEGATING), "or `domain_id`"),
            Known::optional("domain_id", Kind::Form(&DOMAIN_ID), "or `domain_name`"),
            Known::required("agency_name", Kind::Text(&AGENCY), "whom to act as"),
            Known::optional("duration", Kind::Span(&AGENCY_DURATION), "how long its temporary keys shall hold"),
        ],
    )
};
pub(super) const PROXY: Schema = Schema {
    secrets: &[Secret::of("password", "password_file")],
    together: &[["user_name", "password_file"]],
    ..Schema::of(
        "`proxy`",
        &[
            Known::required("url", Kind::Address(Service::Proxy.example()), "where it is, without a user"),
            Known::optional("user_name", Kind::Text(&PROXY_USER), "whom it lets through"),
            Known::optional("password_file", Kind::Path, "holds that user's password"),
        ],
    )
};

/// The services' own limits are below it.
const LONGEST_IDENTITY: usize = 256;
const USER: Text = identity("the name of an IAM user");
const DOMAIN: Text = identity("the name of the account that the user belongs to");
const PROJECT_NAME: Text = identity("the project's name in the cloud");
const DELEGATING: Text = identity("the name of the account that delegates");
const AGENCY: Text = identity("the name of an agency in that account");
const PROXY_USER: Text = identity("the name of a user of the proxy");
/// Twenty characters are usual.
const LONGEST_ID: usize = 128;
const ACCESS_KEY_ID: Form = id("the id of an access key, 1 to 128 ASCII characters without blanks");
const PROVIDER_ID: Form = id("the name of an identity provider in IAM, 1 to 128 ASCII characters without blanks");
const DOMAIN_ID: Form = id("the id of the account that delegates, 1 to 128 ASCII characters without blanks");
/// What IAM lets temporary keys of an agency hold.
const AGENCY_DURATION: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(15 * 60)..=Duration::from_secs(24 * 3600);

/// The name of somebody.
const fn identity(what: &'static str) -> Text {
    Text { what, longest: LONGEST_IDENTITY }
}

/// An id that the cloud gave, which may look like a number.
const fn id(what: &'static str) -> Form {
    Form { what, pattern: "^[!-~]{1,128}$", digits: true }
}

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
        let fields = project.get("credentials").and_then(|field| self.fields(field, &CREDENTIALS));
        let (credentials, kind) = fields.as_ref().map_or((None, None), |fields| self.credentials(fields));
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
    fn credentials(&mut self, fields: &Fields<'_>) -> (Option<Credentials>, Option<(&'static str, Span)>) {
        let mut kinds: Vec<_> = KINDS.iter().filter_map(|kind| fields.get(kind)).collect();
        kinds.sort_by_key(|kind| kind.key);
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
        let user_name = self.identity(&fields, "user_name", &USER);
        let domain_name = self.identity(&fields, "domain_name", &DOMAIN);
        let password_file = fields.get("password_file").and_then(|field| self.file_path(field));
        let project_name = fields.get("project_name").map(|field| self.name(field, &PROJECT_NAME).map(str::to_owned));
        Some(Credentials::Password {
            user_name: user_name?,
            domain_name: domain_name?,
            password_file: password_file?,
            project_name: given(project_name)?,
        })
    }

    fn access_key(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.fields(field, &ACCESS_KEY)?;
        let value = fields.get("access_key_id").map(|field| self.access_key_id(field).map(AccessKeyId::Value));
        let file = fields.get("access_key_id_file").map(|field| self.file_path(field).map(AccessKeyId::File));
        let secret = fields.get("secret_access_key_file").and_then(|field| self.file_path(field));
        let token = fields.get("security_token_file").map(|field| self.file_path(field));
        Some(Credentials::AccessKey {
            access_key_id: value.or(file)??,
            secret_access_key_file: secret?,
            security_token_file: given(token)?,
        })
    }

    fn access_key_id(&mut self, field: Field<'_>) -> Option<String> {
        let id = self.verbatim(field, ACCESS_KEY_ID.what)?;
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
        let provider_id = fields.get("provider_id").and_then(|field| self.id(field, &PROVIDER_ID));
        let token_file = fields.get("token_file").and_then(|field| self.file_path(field));
        Some(Credentials::IdToken { provider_id: provider_id?, token_file: token_file? })
    }

    fn assume_agency(&mut self, field: Field<'_>) -> Option<AssumeAgency> {
        let fields = self.fields(field, &ASSUME_AGENCY)?;
        let name = fields.get("domain_name").map(|field| {
            let name = self.name(field, &DELEGATING)?;
            Some(AgencyDomain::Name(name.to_owned()))
        });
        let id = fields.get("domain_id").map(|field| self.id(field, &DOMAIN_ID).map(AgencyDomain::Id));
        let agency_name = self.identity(&fields, "agency_name", &AGENCY);
        let duration = fields.get("duration").map(|field| self.duration(field, &AGENCY_DURATION));
        Some(AssumeAgency { domain: name.or(id)??, agency_name: agency_name?, duration: given(duration)? })
    }

    fn proxy(&mut self, field: Field<'_>) -> Option<Proxy> {
        let fields = self.fields(field, &PROXY)?;
        let url = fields.get("url").and_then(|field| self.address(field, Service::Proxy));
        let (user, file) = (fields.get("user_name"), fields.get("password_file"));
        let user_name = user.map(|field| self.proxy_user(field));
        let password_file = file.map(|field| self.file_path(field));
        let (user_name, password_file) = (given(user_name)?, given(password_file)?);
        Some(Proxy { url: url?.address.to_owned(), user_name, password_file })
    }

    fn proxy_user(&mut self, field: Field<'_>) -> Option<String> {
        // The first colon ends the name in what is sent to the proxy (RFC 7617), and a password may come after it.
        if field.node.text().is_some_and(|text| text.contains(':')) {
            let message = "`user_name` has a colon in it, expected the name of a user of the proxy without one";
            self.error(field.span(), message).conceal(field.node.span);
            return None;
        }
        self.name(field, &PROXY_USER).map(str::to_owned)
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
    fn identity(&mut self, fields: &Fields<'_>, name: &str, text: &Text) -> Option<String> {
        self.name(fields.get(name)?, text).map(str::to_owned)
    }

    /// An id that the cloud gave, which may look like a number.
    fn id(&mut self, field: Field<'_>, form: &Form) -> Option<String> {
        let id = self.verbatim(field, form.what)?;
        if is_id(&id) {
            return Some(id);
        }
        self.mismatch(field, form.what);
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
        assert!(KINDS.iter().all(|kind| CREDENTIALS.names().any(|name| name == *kind)));
        assert!(AGENTS.iter().all(|agent| KINDS.contains(agent)));
    }
}
