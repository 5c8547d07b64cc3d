//! One project of a policy: where it is, how to log in, and the keys that are asked for.

use std::path::PathBuf;
use std::sync::Arc;

use super::decode::{Decoder, Field, Schema, listed};
use super::endpoint::{self, is_host_label};
use super::source::Span;
use super::types::{Credentials, Entry, Project};
use crate::rotation::key::{DesiredRotation, KeyId, Reapply, RotationInterval};
use crate::rotation::project::{Cloud, Mode};

const PROJECT: Schema = Schema {
    place: "every project",
    fields: &[
        "name",
        "cloud",
        "region",
        "project_id",
        "kms_endpoint",
        "iam_endpoint",
        "ca_file",
        "mode",
        "credentials",
        "keys",
    ],
    later: &["coverage", "proxy", "assume_agency"],
};

const CREDENTIALS: Schema = Schema {
    place: "`credentials`",
    fields: CREDENTIAL_KINDS,
    later: &["access_key", "ecs_agency", "id_token", "environment", "assume_agency", "proxy"],
};
const CREDENTIAL_KINDS: &[&str] = &["token_file", "password"];
/// Of [`CREDENTIALS`]' later fields those that stand beside a kind and are none.
const BESIDE_CREDENTIALS: &[&str] = &["assume_agency", "proxy"];

const PASSWORD: Schema =
    Schema { place: "`password`", fields: &["user_name", "domain_name", "password_file", "project_name"], later: &[] };

const ENTRY: Schema = Schema {
    place: "every entry of `keys`",
    fields: &["key_id", "rotation_interval", "reapply"],
    later: &["alias", "select", "max_rotation_interval", "exempt"],
};
/// What names keys, and what asks something of them, instead of the fields that this version reads.
const OTHER_NAMES: &[&str] = &["alias", "select"];
const OTHER_WISHES: &[&str] = &["max_rotation_interval", "exempt"];

const REAPPLY: [Reapply; 2] = [Reapply::OnDrift, Reapply::Always];

fn reapply_name(reapply: Reapply) -> &'static str {
    match reapply {
        Reapply::OnDrift => "on_drift",
        Reapply::Always => "always",
    }
}

/// Names become metric labels and log fields.
const LONGEST_NAME: usize = 128;
/// The services' own limits are below it.
const LONGEST_IDENTITY: usize = 256;

/// What was right about a project, so that it can be held against others even where something else is wrong.
pub(super) struct Draft {
    pub(super) name: Option<(Arc<str>, Span)>,
    /// What tells one account's project in one region from all others.
    pub(super) account: Option<(Cloud, Arc<str>, String)>,
    /// Its KMS is on this machine.
    pub(super) loopback: bool,
    /// Every well-formed key id, and where it is.
    pub(super) key_ids: Vec<(KeyId, Span)>,
    /// The intervals that every run sends, and where that is asked for.
    pub(super) always: Vec<(RotationInterval, Span)>,
    /// The whole, where all of it was right.
    pub(super) project: Option<Project>,
}

impl Decoder<'_> {
    /// One item of `projects`.
    pub(super) fn project(&mut self, item: Field<'_>) -> Option<Draft> {
        let fields = self.fields(item, &PROJECT)?;
        let name = self.require(&fields, "name", &[]).and_then(|field| {
            let name = self.name(field, "a name for metrics and reports", LONGEST_NAME)?;
            Some((Arc::from(name), field.span()))
        });
        let cloud =
            self.require(&fields, "cloud", &[]).and_then(|field| self.choice(field, &Cloud::ALL, Cloud::as_str));
        let region = self.require(&fields, "region", &[]).and_then(|field| self.region(field));
        let project_id = self.require(&fields, "project_id", &[]).and_then(|field| self.project_id(field));
        let kms_endpoint = fields.get("kms_endpoint").map(|field| self.endpoint(field));
        let iam_endpoint = fields.get("iam_endpoint").map(|field| self.endpoint(field));
        let ca_file = fields.get("ca_file").map(|field| self.file_path(field));
        let mode = match fields.get("mode") {
            Some(field) => self.choice(field, &Mode::ALL, Mode::as_str),
            None => Some(Mode::default()),
        };
        let credentials = self.require(&fields, "credentials", &[]).and_then(|field| self.credentials(field));
        let mut draft = Draft {
            account: (|| Some((cloud?, region.clone()?, project_id.clone()?)))(),
            loopback: matches!(kms_endpoint, Some(Some((_, true)))),
            key_ids: Vec::new(),
            always: Vec::new(),
            name,
            project: None,
        };
        let keys = self.require(&fields, "keys", &[]).and_then(|field| self.entries(field, &mut draft));
        if mode == Some(Mode::Monitor) {
            // Nothing is ever sent.
            draft.always.clear();
        }
        draft.project = (|| {
            Some(Project {
                name: draft.name.as_ref().map(|(name, _)| Arc::clone(name))?,
                cloud: cloud?,
                region: region?,
                project_id: project_id?,
                kms_endpoint: given(kms_endpoint)?.map(|(address, _)| address),
                iam_endpoint: given(iam_endpoint)?.map(|(address, _)| address),
                ca_file: given(ca_file)?,
                mode: mode?,
                credentials: credentials?,
                keys: keys?,
            })
        })();
        Some(draft)
    }

    fn region(&mut self, field: Field<'_>) -> Option<Arc<str>> {
        const EXPECTED: &str = "a region such as eu-de: lower-case letters, digits and hyphens";
        let region = self.text(field, EXPECTED)?;
        // It becomes a part of a host name.
        if is_host_label(region) && !region.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Some(Arc::from(region));
        }
        self.mismatch(field, EXPECTED);
        None
    }

    fn project_id(&mut self, field: Field<'_>) -> Option<String> {
        const EXPECTED: &str = "the 32 hexadecimal digits, in lower case, of the project's id in the cloud";
        let id = self.verbatim(field, EXPECTED)?;
        if id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Some(id);
        }
        self.mismatch(field, EXPECTED);
        None
    }

    fn endpoint(&mut self, field: Field<'_>) -> Option<(String, bool)> {
        let text = self.text(field, "an address such as https://kms.example.com")?;
        if endpoint::has_user_info(text) {
            // Said without repeating it.
            let message = format!("`{}` has a user name or password in it, expected an address alone", field.name);
            self.error(field.span(), message);
            return None;
        }
        match endpoint::parse(text) {
            Ok(endpoint) => Some((endpoint.address.to_owned(), endpoint.loopback)),
            Err(expected) => {
                self.mismatch(field, expected);
                None
            }
        }
    }

    fn credentials(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.fields(field, &CREDENTIALS)?;
        let now = CREDENTIAL_KINDS.iter().filter_map(|kind| fields.get(kind)).map(|field| (field.name, field.key));
        let later = fields.later.iter().copied().filter(|(name, _)| !BESIDE_CREDENTIALS.contains(name));
        let mut kinds: Vec<_> = now.chain(later).collect();
        kinds.sort_by_key(|(_, span)| *span);
        if let Some(((_, first), others)) = kinds.split_first() {
            for (other, span) in others {
                let message = format!("`{other}` is another kind of credentials, expected exactly one");
                self.error(*span, message).related("the first given", *first);
            }
        } else if fields.is_clear() {
            let message = format!("no credentials, expected exactly one of {}", listed(CREDENTIAL_KINDS));
            self.error(field.span(), message);
        }
        let token = fields.get("token_file").map(|field| self.file_path(field).map(Credentials::TokenFile));
        let password = fields.get("password").map(|field| self.password(field));
        token.or(password).flatten()
    }

    fn password(&mut self, field: Field<'_>) -> Option<Credentials> {
        let fields = self.fields(field, &PASSWORD)?;
        let mut identity = |name: &'static str, expected: &str| {
            let field = self.require(&fields, name, &[])?;
            self.name(field, expected, LONGEST_IDENTITY).map(str::to_owned)
        };
        let user_name = identity("user_name", "the name of an IAM user");
        let domain_name = identity("domain_name", "the name of the account that the user belongs to");
        let password_file: Option<PathBuf> =
            self.require(&fields, "password_file", &[]).and_then(|field| self.file_path(field));
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

    fn entries(&mut self, field: Field<'_>, draft: &mut Draft) -> Option<Vec<Entry>> {
        let items = self.items(field, "key");
        let mut entries = Vec::with_capacity(items.len());
        draft.key_ids.reserve_exact(items.len());
        for item in items {
            entries.extend(self.entry(Field { name: "an entry of `keys`", key: item.span, node: item }, draft));
        }
        (!entries.is_empty() && entries.len() == items.len()).then_some(entries)
    }

    fn entry(&mut self, item: Field<'_>, draft: &mut Draft) -> Option<Entry> {
        let fields = self.fields(item, &ENTRY)?;
        let key_id = self.require(&fields, "key_id", OTHER_NAMES).and_then(|field| {
            let key_id = self.key_id(field)?;
            draft.key_ids.push((key_id, field.span()));
            Some(key_id)
        });
        let interval = self.require(&fields, "rotation_interval", OTHER_WISHES).and_then(|field| self.interval(field));
        let reapply = match fields.get("reapply") {
            Some(field) => {
                let reapply = self.choice(field, &REAPPLY, reapply_name);
                if let (Some(Reapply::Always), Some(interval)) = (reapply, interval) {
                    draft.always.push((interval, field.span()));
                }
                reapply
            }
            None => Some(Reapply::default()),
        };
        Some(Entry {
            key_id: key_id?,
            line: self.source.line(fields.span().start),
            desired: DesiredRotation { interval: interval?, reapply: reapply? },
        })
    }

    fn key_id(&mut self, field: Field<'_>) -> Option<KeyId> {
        const EXPECTED: &str = "a key id: 36 characters 0-9 and a-z in groups of 8-4-4-4-12";
        let text = self.text(field, EXPECTED)?;
        if let Ok(key_id) = text.parse() {
            return Some(key_id);
        }
        let lower = text.to_ascii_lowercase();
        let meant = lower.parse::<KeyId>().ok().or_else(|| grouped(&lower).and_then(|text| text.parse().ok()));
        let finding = self.mismatch(field, EXPECTED);
        if let Some(meant) = meant {
            finding.help(format!("did you mean `{meant}`?"));
        }
        None
    }

    fn interval(&mut self, field: Field<'_>) -> Option<RotationInterval> {
        const DAYS: std::ops::RangeInclusive<u64> =
            RotationInterval::MIN_DAYS as u64..=RotationInterval::MAX_DAYS as u64;
        let days = self.integer(field, &DAYS, "a whole number of days from 30 to 365")?;
        RotationInterval::from_days(u16::try_from(days).ok()?)
    }
}

/// A field that need not be given and must be right where it is.
#[expect(clippy::option_option, reason = "the outer one says whether the policy can be used")]
fn given<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

/// The id that a UUID without hyphens stands for.
fn grouped(bare: &str) -> Option<String> {
    let hex = bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_alphanumeric());
    hex.then(|| [&bare[..8], &bare[8..12], &bare[12..16], &bare[16..20], &bare[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    /// The first project of a policy that has `fields` beside what every project needs.
    fn project(project_id: &str, fields: &str) -> Project {
        let text = format!(
            "projects:\n  - name: p\n    cloud: huawei-cloud\n    region: eu-west-101\n    project_id: {project_id}\n    \
             credentials: {{token_file: /t}}\n    {fields}\n    keys:\n      - key_id: \
             0d0466b0-e727-4d9c-b35d-f84bb474a37f\n        rotation_interval: 90\n"
        );
        match policy::read(text.as_bytes(), "p", |_| None) {
            Ok((policy, _)) => policy.projects.into_iter().next().unwrap(),
            Err(problems) => panic!("{problems}"),
        }
    }

    #[test]
    fn a_project_id_that_looks_like_a_number_is_taken_as_written() {
        for id in [
            "00000000000000000000000000000000",
            "12345678901234567890123456789012",
            "1234567890123456789012345678e100",
            "'01234567890123456789012345678901'",
        ] {
            assert_eq!(project(id, "").project_id, id.trim_matches('\''));
        }
    }

    #[test]
    fn an_endpoint_is_kept_without_its_last_slash() {
        let project = project("0123456789abcdef0123456789abcdef", "kms_endpoint: http://127.0.0.1:9000/");
        assert_eq!(project.kms_endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!((project.iam_endpoint, project.ca_file, project.mode), (None, None, Mode::Enforce));
    }

    #[test]
    fn a_relative_path_is_left_as_it_is() {
        let project = project("0123456789abcdef0123456789abcdef", "ca_file: certs/ca.pem");
        assert_eq!(project.ca_file, Some(PathBuf::from("certs/ca.pem")));
    }

    #[test]
    fn only_32_characters_without_hyphens_are_grouped() {
        assert_eq!(
            grouped("0d0466b0e7274d9cb35df84bb474a37f").as_deref(),
            Some("0d0466b0-e727-4d9c-b35d-f84bb474a37f")
        );
        assert_eq!(grouped("0d0466b0e7274d9cb35df84bb474a37é"), None);
        assert_eq!(grouped(""), None);
    }
}
