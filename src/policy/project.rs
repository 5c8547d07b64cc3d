//! Decodes one project of a policy. [`credentials`](super::credentials) decodes its login, [`entry`](super::entry) its
//! keys.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::{ASSUME_AGENCY, CREDENTIALS, Login, PROXY};
use super::defaults::{Inherited, Settings};
use super::draft::{Draft, ProjectIdentity};
use super::endpoint::{Service, is_host_label};
use super::entry::ENTRY;
use super::head::KEYS;
use super::types::Project;
use crate::rotation::project::{Cloud, Coverage, Mode, Proof, ProofRule};
use crate::yaml::decode::{Decoder, Field, optional};
use crate::yaml::schema::{FieldKind, FieldSchema, Form, Schema, Text};

pub(super) const PROJECT: Schema = Schema::of(
    "every project",
    &[
        FieldSchema::required("name", FieldKind::Text(&NAME), "unique; the `project` label of every metric"),
        CLOUD,
        REGION_OF_CLOUD,
        FieldSchema::optional(
            "project_id",
            FieldKind::Form(&PROJECT_ID),
            "default: the project that `password` or the environment names, else the one named like the region",
        ),
        FieldSchema::optional(
            "kms_endpoint",
            FieldKind::Address(Service::Cloud.example()),
            "KMS endpoint (default: the cloud's own)",
        ),
        FieldSchema::optional(
            "iam_endpoint",
            FieldKind::Address(Service::Cloud.example()),
            "IAM endpoint (default: the cloud's own)",
        ),
        CA_FILE,
        MODE,
        LOGIN,
        AGENCY,
        PROXY_OF_LOGIN,
        COVERAGE,
        PROOF,
        GRACE_PERIOD,
        FieldSchema::required(
            KEYS,
            FieldKind::List(&ENTRY),
            "the keys and their requirements; the most specific entry applies: `key_id`, then `alias`, then the \
             selector with more conditions, then the earlier one",
        ),
    ],
);

// The fields that `defaults` can set too.
pub(super) const CLOUD: FieldSchema = FieldSchema::required_or_inherited(
    "cloud",
    FieldKind::Choice(|| Cloud::ALL.map(Cloud::as_str).into()),
    "the cloud of the project",
);
pub(super) const REGION_OF_CLOUD: FieldSchema = FieldSchema::required_or_inherited(
    "region",
    FieldKind::Form(&REGION),
    "an unknown region is a warning, unless `kms_endpoint` is set",
);
pub(super) const CA_FILE: FieldSchema =
    FieldSchema::optional("ca_file", FieldKind::Path, "CA certificates (PEM) to trust in addition to the system's");
pub(super) const MODE: FieldSchema = FieldSchema::default(
    "mode",
    FieldKind::Choice(|| Mode::ALL.map(Mode::as_str).into()),
    "\"enforce\"",
    "`monitor` reads and never writes; if the file sets `mode`, that is the default",
);
pub(super) const LOGIN: FieldSchema =
    FieldSchema::required_or_inherited("credentials", FieldKind::Mapping(&CREDENTIALS), "how to log in");
pub(super) const AGENCY: FieldSchema =
    FieldSchema::optional("assume_agency", FieldKind::Mapping(&ASSUME_AGENCY), "as in `credentials`");
pub(super) const PROXY_OF_LOGIN: FieldSchema =
    FieldSchema::optional("proxy", FieldKind::Mapping(&PROXY), "as in `credentials`");
pub(super) const COVERAGE: FieldSchema = FieldSchema::default(
    "coverage",
    FieldKind::Choice(|| Coverage::ALL.map(Coverage::as_str).into()),
    "\"reported\"",
    "`required` counts rotatable keys that no entry matches as failures",
);
pub(super) const PROOF: FieldSchema = FieldSchema::default(
    "proof",
    FieldKind::Choice(|| Proof::ALL.map(Proof::as_str).into()),
    "\"reported\"",
    "`required` counts keys whose material is older than the policy allows as off policy",
);
pub(super) const GRACE_PERIOD: FieldSchema = FieldSchema::default(
    "grace",
    FieldKind::Duration(&GRACE),
    "\"2d\"",
    "time after the interval before material is too old, or a rotation overdue",
);

/// Names become metric labels and log fields.
const NAME: Text = Text { what: "a name for metrics and reports", longest: 128 };
pub(super) const GRACE: RangeInclusive<Duration> = Duration::ZERO..=ProofRule::MAX_GRACE;
/// It becomes part of a host name.
const REGION: Form = Form {
    what: "a region such as eu-de: lower-case letters, digits and hyphens",
    pattern: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    numeric: false,
};
const PROJECT_ID: Form =
    Form { what: "a project id: 32 hexadecimal digits in lower case", pattern: "^[0-9a-f]{32}$", numeric: true };

impl Decoder<'_> {
    /// One item of `projects`.
    pub(super) fn project(&mut self, item: Field<'_>, inherited: Inherited<'_, '_>) -> Option<Draft> {
        let Inherited { zone, mode: file_mode, defaults } = inherited;
        let fields = self.fields_or_inherited(item, &PROJECT, defaults)?;
        let get = |name: &str| fields.get(name).or_else(|| defaults?.get(name));
        let name = fields.get("name").and_then(|field| {
            let name = self.name(field, &NAME)?;
            Some((Arc::from(name), field.span()))
        });
        let Settings { cloud, region, mode, coverage, proof, grace } = self.settings(get, file_mode);
        let project_id = fields.get("project_id").map(|field| self.project_id(field));
        let kms_endpoint = fields.get("kms_endpoint").map(|field| self.address(field, Service::Cloud));
        let iam_endpoint = fields.get("iam_endpoint").map(|field| self.address(field, Service::Cloud));
        if let Some(((cloud, region), field)) = cloud.zip(region.as_deref()).zip(get("region"))
            && kms_endpoint.is_none()
            && !fields.excuses("kms_endpoint")
        {
            self.warn_of_unknown_region(cloud, region, field.span());
        }
        let ca_file = get("ca_file").map(|field| self.file_path(field));
        let login = self.login(&fields, defaults, "the project");
        let identity = match &project_id {
            Some(id) => id.clone().map(ProjectIdentity::Id),
            None if fields.excuses("project_id") => None,
            None => login
                .as_ref()
                .zip(region.as_deref())
                .map(|(login, region)| ProjectIdentity::Name(login.credentials.project_name(region).to_owned())),
        };
        let mut draft = Draft {
            identity: (|| Some((cloud?, region.clone()?, identity?)))(),
            loopback: matches!(&kms_endpoint, Some(Some(endpoint)) if endpoint.loopback),
            key_ids: Vec::new(),
            aliases: Vec::new(),
            selectors: Vec::new(),
            always: Vec::new(),
            name,
            project: None,
        };
        let keys = match fields.get(KEYS) {
            _ if self.ignored == Some(KEYS) => Some(Vec::new()),
            field => field.and_then(|field| self.entries(field, zone, &mut draft)),
        };
        if mode == Some(Mode::Monitor) {
            // Nothing is sent.
            draft.always.clear();
        }
        draft.project = (|| {
            let Login { credentials, at, assume_agency, proxy } = login?;
            Some(Project {
                name: draft.name.as_ref().map(|(name, _)| Arc::clone(name))?,
                cloud: cloud?,
                region: region?,
                project_id: optional(project_id)?,
                kms_endpoint: optional(kms_endpoint)?.map(|endpoint| endpoint.address.to_owned()),
                iam_endpoint: optional(iam_endpoint)?.map(|endpoint| endpoint.address.to_owned()),
                ca_file: optional(ca_file)?,
                mode: mode?,
                credentials,
                credentials_at: self.source.position(at.start),
                assume_agency,
                proxy,
                coverage: coverage?,
                proof: ProofRule { proof: proof?, grace: grace? },
                keys: keys?,
            })
        })();
        Some(draft)
    }

    pub(super) fn region(&mut self, field: Field<'_>) -> Option<Arc<str>> {
        let region = self.text(field, REGION.what)?;
        if is_region(region) {
            return Some(Arc::from(region));
        }
        self.mismatch(field, REGION.what);
        None
    }

    fn project_id(&mut self, field: Field<'_>) -> Option<String> {
        let id = self.verbatim(field, PROJECT_ID.what)?;
        if is_project_id(&id) {
            return Some(id);
        }
        self.mismatch(field, PROJECT_ID.what);
        None
    }
}

/// Whether the text can be a region.
#[must_use]
pub(crate) fn is_region(text: &str) -> bool {
    is_host_label(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Whether the text is a valid project id of the cloud.
#[must_use]
pub(crate) fn is_project_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::SystemTime;

    use super::*;
    use crate::policy;

    /// The first project of a policy with these fields in addition to the required ones.
    fn project(project_id: &str, fields: &str) -> Project {
        let text = format!(
            "projects:\n  - name: p\n    cloud: huawei-cloud\n    region: eu-west-101\n    project_id: {project_id}\n    \
             credentials: {{token_file: /t}}\n    {fields}\n    keys:\n      - key_id: \
             0d0466b0-e727-4d9c-b35d-f84bb474a37f\n        rotation_interval: 90\n"
        );
        match policy::read(text.as_bytes(), "p", |_| None, SystemTime::UNIX_EPOCH) {
            Ok((policy, _)) => policy.projects.into_iter().next().unwrap(),
            Err(problems) => panic!("{problems}"),
        }
    }

    #[test]
    fn a_project_id_that_looks_like_a_number_is_used_as_written() {
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
    fn a_project_without_an_id_is_identified_by_a_name() {
        let text = "projects:\n  - {name: p, cloud: huawei-cloud, region: cn-north-4, credentials: CREDENTIALS, keys: \
                    [{key_id: 0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 90}]}\n";
        for (credentials, name) in [
            ("{token_file: /t}", "cn-north-4"),
            ("{password: {user_name: a, domain_name: b, password_file: /c}}", "cn-north-4"),
            ("{password: {user_name: a, domain_name: b, password_file: /c, project_name: d}}", "d"),
        ] {
            let text = text.replace("CREDENTIALS", credentials);
            let (policy, _) = policy::read(text.as_bytes(), "p", |_| None, SystemTime::UNIX_EPOCH).unwrap();
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
    fn a_relative_path_stays_relative() {
        let project = project("0123456789abcdef0123456789abcdef", "ca_file: certs/ca.pem");
        assert_eq!(project.ca_file, Some(PathBuf::from("certs/ca.pem")));
    }
}
