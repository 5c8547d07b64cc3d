//! One project of a policy: where it is, and the keys that are asked for. How to log in is for
//! [`credentials`](super::credentials) to read.

use std::sync::Arc;

use super::credentials::Login;
use super::decode::{Decoder, Field, Schema};
use super::endpoint::{Service, is_host_label};
use super::source::Span;
use super::types::Project;
use crate::rotation::key::{Bound, DesiredRotation, KeyId, Reapply, RotationInterval};
use crate::rotation::project::{Cloud, Coverage, Mode};
use crate::rotation::rule::{Asks, Names, Rule};

const PROJECT: Schema = Schema {
    later: &["coverage"],
    ..Schema::of(
        "every project",
        &[
            "name",
            "cloud",
            "region",
            "project_id",
            "kms_endpoint",
            "iam_endpoint",
            "ca_file",
            "mode",
            "credentials",
            "assume_agency",
            "proxy",
            "keys",
        ],
    )
};

const ENTRY: Schema = Schema {
    later: &["alias", "select", "max_rotation_interval", "exempt"],
    ..Schema::of("every entry of `keys`", &["key_id", "rotation_interval", "reapply"])
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

/// What a project is told by in its cloud and region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    Id(String),
    /// Another account may have a project of the same name, but none with a key of the same id.
    Name(String),
}

impl Identity {
    /// The word for it.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Id(_) => "project_id",
            Self::Name(_) => "project name",
        }
    }
}

/// What was right about a project, so that it can be held against others even where something else is wrong.
pub(super) struct Draft {
    pub(super) name: Option<(Arc<str>, Span)>,
    /// What tells the project from all others, as far as the policy knows.
    pub(super) identity: Option<(Cloud, Arc<str>, Identity)>,
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
        let project_id = fields.get("project_id").map(|field| self.project_id(field));
        let kms_endpoint = fields.get("kms_endpoint").map(|field| self.address(field, Service::Cloud));
        let iam_endpoint = fields.get("iam_endpoint").map(|field| self.address(field, Service::Cloud));
        if let Some(((cloud, region), field)) = cloud.zip(region.as_deref()).zip(fields.get("region"))
            && kms_endpoint.is_none()
            && !fields.excuses("kms_endpoint")
        {
            self.look_up_region(cloud, region, field.span());
        }
        let ca_file = fields.get("ca_file").map(|field| self.file_path(field));
        let mode = match fields.get("mode") {
            Some(field) => self.choice(field, &Mode::ALL, Mode::as_str),
            None => Some(Mode::default()),
        };
        let login = self.login(&fields);
        let identity = match &project_id {
            Some(id) => id.clone().map(Identity::Id),
            None if fields.excuses("project_id") => None,
            None => login
                .as_ref()
                .zip(region.as_deref())
                .map(|(login, region)| Identity::Name(login.credentials.project_name(region).to_owned())),
        };
        let mut draft = Draft {
            identity: (|| Some((cloud?, region.clone()?, identity?)))(),
            loopback: matches!(&kms_endpoint, Some(Some(endpoint)) if endpoint.loopback),
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
            let Login { credentials, at, assume_agency, proxy } = login?;
            Some(Project {
                name: draft.name.as_ref().map(|(name, _)| Arc::clone(name))?,
                cloud: cloud?,
                region: region?,
                project_id: given(project_id)?,
                kms_endpoint: given(kms_endpoint)?.map(|endpoint| endpoint.address.to_owned()),
                iam_endpoint: given(iam_endpoint)?.map(|endpoint| endpoint.address.to_owned()),
                ca_file: given(ca_file)?,
                mode: mode?,
                credentials,
                credentials_at: self.source.place(at.start),
                assume_agency,
                proxy,
                coverage: Coverage::default(),
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

    fn entries(&mut self, field: Field<'_>, draft: &mut Draft) -> Option<Vec<Rule>> {
        let items = self.items(field, "key");
        let mut entries = Vec::with_capacity(items.len());
        draft.key_ids.reserve_exact(items.len());
        for item in items {
            entries.extend(self.entry(Field { name: "an entry of `keys`", key: item.span, node: item }, draft));
        }
        (!entries.is_empty() && entries.len() == items.len()).then_some(entries)
    }

    fn entry(&mut self, item: Field<'_>, draft: &mut Draft) -> Option<Rule> {
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
        let desired = DesiredRotation { interval: interval?, bound: Bound::Exact, reapply: reapply? };
        Some(Rule {
            names: Names::Key(key_id?),
            asks: Asks::Rotation(desired),
            line: self.source.line(fields.span().start),
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
pub(super) fn given<T>(field: Option<Option<T>>) -> Option<Option<T>> {
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
    use std::path::PathBuf;

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
            assert_eq!(project(id, "").project_id.as_deref(), Some(id.trim_matches('\'')));
        }
    }

    #[test]
    fn a_project_without_an_id_goes_by_a_name() {
        let text = "projects:\n  - {name: p, cloud: huawei-cloud, region: cn-north-4, credentials: CREDENTIALS, keys: \
                    [{key_id: 0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 90}]}\n";
        for (credentials, name) in [
            ("{token_file: /t}", "cn-north-4"),
            ("{password: {user_name: a, domain_name: b, password_file: /c}}", "cn-north-4"),
            ("{password: {user_name: a, domain_name: b, password_file: /c, project_name: d}}", "d"),
        ] {
            let text = text.replace("CREDENTIALS", credentials);
            let (policy, _) = policy::read(text.as_bytes(), "p", |_| None).unwrap();
            let project = &policy.projects[0];
            assert_eq!(project.project_id, None);
            assert_eq!(project.credentials.project_name(&project.region), name);
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
