//! Decodes how to log in to a project: the credentials, the agency to assume, and the proxy.
//!
//! The policy contains paths of secret files and never a secret. A field that would contain a secret is an error that
//! names the field for the path; its value is shown neither in the message nor in the drawing below it.

use std::time::Duration;

use super::endpoint::Service;
use super::types::{AccessKeyId, AgencyDomain, AssumeAgency, Credentials, Proxy};
use crate::yaml::decode::{Decoder, Field, Fields, optional};
use crate::yaml::schema::{FieldKind, FieldSchema, Form, Schema, Secret, Text};
use crate::yaml::source::Span;
use crate::yaml::tree::Value;
use crate::yaml::wording::or_list;

pub(super) const CREDENTIALS: Schema = Schema {
    secrets: &[
        Secret::of("token", "token_file"),
        Secret { name: "secret_access_key", meant: "access_key", file: "secret_access_key_file" },
    ],
    one_of: &[KINDS],
    ..Schema::of(
        "`credentials`",
        &[
            FieldSchema::optional("token_file", FieldKind::Path, "an IAM token that another process renews"),
            FieldSchema::optional(
                "password",
                FieldKind::Mapping(&PASSWORD),
                "an IAM user; its tokens are renewed before they expire",
            ),
            FieldSchema::optional(
                "access_key",
                FieldKind::Mapping(&ACCESS_KEY),
                "an access key, which signs each request",
            ),
            FieldSchema::optional("ecs_agency", FieldKind::Mapping(&ECS_AGENCY), "the agency of this virtual machine"),
            FieldSchema::optional("id_token", FieldKind::Mapping(&ID_TOKEN), "workload identity"),
            FieldSchema::optional(
                "environment",
                FieldKind::Mapping(&ENVIRONMENT),
                "the environment variables of the official clients",
            ),
            FieldSchema::optional(
                "assume_agency",
                FieldKind::Mapping(&ASSUME_AGENCY),
                "acts for another account; requires `password`, `access_key` or `ecs_agency`",
            ),
            FieldSchema::optional("proxy", FieldKind::Mapping(&PROXY), "proxy to the cloud (default: `HTTPS_PROXY`)"),
        ],
    )
};
/// The fields of [`CREDENTIALS`] that log in.
const KINDS: &[&str] = &["token_file", "password", "access_key", "ecs_agency", "id_token", "environment"];
/// The [`KINDS`] that can assume an agency.
const AGENTS: &[&str] = &["password", "access_key", "ecs_agency"];

const PASSWORD: Schema = Schema {
    secrets: &[Secret::of("password", "password_file")],
    ..Schema::of(
        "`password`",
        &[
            FieldSchema::required("user_name", FieldKind::Text(&USER), "the user that logs in"),
            FieldSchema::required("domain_name", FieldKind::Text(&DOMAIN), "also called domain"),
            FieldSchema::required("password_file", FieldKind::Path, "contains the password"),
            FieldSchema::optional(
                "project_name",
                FieldKind::Text(&PROJECT_NAME),
                "requests the token for this project, instead of `project_id`",
            ),
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
            FieldSchema::optional("access_key_id", FieldKind::Form(&ACCESS_KEY_ID), "or set `access_key_id_file`"),
            FieldSchema::optional("access_key_id_file", FieldKind::Path, "contains the access key id"),
            FieldSchema::required("secret_access_key_file", FieldKind::Path, "contains the secret access key"),
            FieldSchema::optional(
                "security_token_file",
                FieldKind::Path,
                "contains the security token of a temporary access key",
            ),
        ],
    )
};
const ECS_AGENCY: Schema = Schema::of(
    "`ecs_agency`",
    &[FieldSchema::optional(
        "metadata_endpoint",
        FieldKind::Address(Service::Metadata.example()),
        "metadata service (default: its usual address)",
    )],
);
const ID_TOKEN: Schema = Schema {
    secrets: &[Secret::of("token", "token_file"), Secret::of("id_token", "token_file")],
    ..Schema::of(
        "`id_token`",
        &[
            FieldSchema::required("provider_id", FieldKind::Form(&PROVIDER_ID), "issuer of the token"),
            FieldSchema::required("token_file", FieldKind::Path, "contains the token of the provider"),
        ],
    )
};
const ENVIRONMENT: Schema = Schema::of("`environment`", &[]);
pub(super) const ASSUME_AGENCY: Schema = Schema {
    one_of: &[&["domain_name", "domain_id"]],
    ..Schema::of(
        "`assume_agency`",
        &[
            FieldSchema::optional("domain_name", FieldKind::Text(&DELEGATING), "or set `domain_id`"),
            FieldSchema::optional("domain_id", FieldKind::Form(&DOMAIN_ID), "or set `domain_name`"),
            FieldSchema::required("agency_name", FieldKind::Text(&AGENCY), "the agency to assume"),
            FieldSchema::optional("duration", FieldKind::Duration(&AGENCY_DURATION), "lifetime of its temporary keys"),
        ],
    )
};
pub(super) const PROXY: Schema = Schema {
    secrets: &[Secret::of("password", "password_file")],
    together: &[["user_name", "password_file"]],
    ..Schema::of(
        "`proxy`",
        &[
            FieldSchema::required("url", FieldKind::Address(Service::Proxy.example()), "without a user name"),
            FieldSchema::optional("user_name", FieldKind::Text(&PROXY_USER), "the login at the proxy"),
            FieldSchema::optional("password_file", FieldKind::Path, "contains the password"),
        ],
    )
};

/// Longer than the services allow.
const LONGEST_NAME: usize = 256;
const USER: Text = name_text("the name of an IAM user");
const DOMAIN: Text = name_text("the name of the user's account");
const PROJECT_NAME: Text = name_text("the project's name in the cloud");
const DELEGATING: Text = name_text("the name of the account that delegates");
const AGENCY: Text = name_text("the name of an agency in that account");
const PROXY_USER: Text = name_text("the name of a proxy user");
/// Usual are 20 to 64.
const LONGEST_ID: usize = 128;
const ACCESS_KEY_ID: Form = id("the id of an access key, 1 to 128 ASCII characters without spaces");
const PROVIDER_ID: Form = id("the name of an identity provider in IAM, 1 to 128 ASCII characters without spaces");
const DOMAIN_ID: Form = id("the id of the account that delegates, 1 to 128 ASCII characters without spaces");
/// The lifetimes that IAM allows for temporary keys of an agency.
const AGENCY_DURATION: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(15 * 60)..=Duration::from_secs(24 * 3600);

const fn name_text(what: &'static str) -> Text {
    Text { what, longest: LONGEST_NAME }
}

/// An id of the cloud, which can look like a number.
const fn id(what: &'static str) -> Form {
    Form { what, pattern: "^[!-~]{1,128}$", numeric: true }
}

/// How to log in to a project.
pub(super) struct Login {
    pub(super) credentials: Credentials,
    /// The span of their field.
    pub(super) at: Span,
    pub(super) assume_agency: Option<AssumeAgency>,
    pub(super) proxy: Option<Proxy>,
}

impl Decoder<'_> {
    /// Decodes the credentials, agency and proxy of a project, or those of `defaults` itself. A project without
    /// credentials takes the default ones with their agency and proxy; its own agency or proxy replaces theirs. A project
    /// with credentials takes only a proxy that is set beside the default ones: an agency belongs to its login. `place`
    /// is the project in words.
    pub(super) fn login(&mut self, project: &Fields<'_>, defaults: Option<&Fields<'_>>, place: &str) -> Option<Login> {
        let own = project.get("credentials").and_then(|field| self.fields(field, &CREDENTIALS));
        let inherits = project.get("credentials").is_none();
        let lender = defaults.filter(|_| inherits);
        let lent = lender.and_then(|from| from.get("credentials")).and_then(|field| self.fields(field, &CREDENTIALS));
        let fields = own.as_ref().or(lent.as_ref());
        let (credentials, kind) = fields.map_or((None, None), |fields| self.credentials(fields));
        let of_project = |decoder: &mut Self, name| decoder.in_either(project, own.as_ref(), name, place);
        let of_defaults = |decoder: &mut Self, name| decoder.in_either(lender?, lent.as_ref(), name, "`defaults`");
        let agency = of_project(self, "assume_agency").or_else(|| of_defaults(self, "assume_agency"));
        let assume_agency = agency.map(|field| {
            if let Some((kind, span)) = kind.filter(|(kind, _)| !AGENTS.contains(kind)) {
                let message = format!("`assume_agency` does not work with `{kind}`, expected {}", or_list(AGENTS));
                self.error(field.key, message).related("credentials set", span);
            }
            self.assume_agency(field)
        });
        let proxy = of_project(self, "proxy").or_else(|| of_defaults(self, "proxy"));
        let proxy = proxy.or_else(|| defaults?.get("proxy")).map(|field| self.proxy(field));
        let (_, at) = kind?;
        Some(Login { credentials: credentials?, at, assume_agency: optional(assume_agency)?, proxy: optional(proxy)? })
    }

    /// A field that can be set in the credentials or beside them, but not in both.
    fn in_either<'n>(
        &mut self,
        outer: &Fields<'n>,
        credentials: Option<&Fields<'n>>,
        name: &str,
        place: &str,
    ) -> Option<Field<'n>> {
        let (outside, inside) = (outer.get(name), credentials.and_then(|credentials| credentials.get(name)));
        if let Some((outside, inside)) = outside.zip(inside) {
            let (first, second) = if outside.key < inside.key { (outside, inside) } else { (inside, outside) };
            let message = format!("`{name}` is set both in `credentials` and in {place}");
            self.error(second.key, message).related("first set", first.key).help("remove one of them");
        }
        inside.or(outside)
    }

    /// The credentials, their kind and its span.
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
            _ => self.mapping_or_empty(field, &ENVIRONMENT).map(|_| Credentials::Environment),
        }
    }

    fn password(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.fields(field, &PASSWORD)?;
        let user_name = self.required_name(&fields, "user_name", &USER);
        let domain_name = self.required_name(&fields, "domain_name", &DOMAIN);
        let password_file = fields.get("password_file").and_then(|field| self.file_path(field));
        let project_name = fields.get("project_name").map(|field| self.name(field, &PROJECT_NAME).map(str::to_owned));
        Some(Credentials::Password {
            user_name: user_name?,
            domain_name: domain_name?,
            password_file: password_file?,
            project_name: optional(project_name)?,
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
            security_token_file: optional(token)?,
        })
    }

    fn access_key_id(&mut self, field: Field<'_>) -> Option<String> {
        let id = self.verbatim(field, ACCESS_KEY_ID.what)?;
        if is_id(&id) {
            return Some(id);
        }
        // The value is not repeated: it may be the secret.
        let message = "`access_key_id` is not a valid access key id, expected 1 to 128 ASCII characters without spaces";
        self.error(field.span(), message).conceal(field.node.span);
        None
    }

    fn ecs_agency(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.mapping_or_empty(field, &ECS_AGENCY)?;
        let endpoint = fields.get("metadata_endpoint").map(|field| self.address(field, Service::Metadata));
        let metadata_endpoint = optional(endpoint)?.map(|endpoint| endpoint.address.to_owned());
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
        let agency_name = self.required_name(&fields, "agency_name", &AGENCY);
        let duration = fields.get("duration").map(|field| self.duration(field, &AGENCY_DURATION));
        Some(AssumeAgency { domain: name.or(id)??, agency_name: agency_name?, duration: optional(duration)? })
    }

    fn proxy(&mut self, field: Field<'_>) -> Option<Proxy> {
        let fields = self.fields(field, &PROXY)?;
        let url = fields.get("url").and_then(|field| self.address(field, Service::Proxy));
        let (user, file) = (fields.get("user_name"), fields.get("password_file"));
        let user_name = user.map(|field| self.proxy_user(field));
        let password_file = file.map(|field| self.file_path(field));
        let (user_name, password_file) = (optional(user_name)?, optional(password_file)?);
        Some(Proxy { url: url?.address.to_owned(), user_name, password_file })
    }

    fn proxy_user(&mut self, field: Field<'_>) -> Option<String> {
        // In a request to the proxy the first colon ends the name (RFC 7617); a password may follow it.
        if field.node.text().is_some_and(|text| text.contains(':')) {
            let message = "`user_name` contains a colon, expected the name of a proxy user without a colon";
            self.error(field.span(), message).conceal(field.node.span);
            return None;
        }
        self.name(field, &PROXY_USER).map(str::to_owned)
    }

    /// A mapping that can be empty, but not absent.
    fn mapping_or_empty<'n>(&mut self, field: Field<'n>, schema: &'static Schema) -> Option<Fields<'n>> {
        if let Value::Null | Value::Bool(_) = field.node.value {
            let help = format!("write `{}: {{}}`", field.name);
            self.mismatch(field, "a mapping, which can be empty").help(help);
            return None;
        }
        self.fields(field, schema)
    }

    fn required_name(&mut self, fields: &Fields<'_>, name: &str, text: &Text) -> Option<String> {
        self.name(fields.get(name)?, text).map(str::to_owned)
    }

    /// An id of the cloud, which can look like a number.
    fn id(&mut self, field: Field<'_>, form: &Form) -> Option<String> {
        let id = self.verbatim(field, form.what)?;
        if is_id(&id) {
            return Some(id);
        }
        self.mismatch(field, form.what);
        None
    }
}

/// Whether the text can be an id. Ids are sent unchanged in headers.
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
