//! One project of a policy: where it is, and what its parts are. How to log in is for
//! [`credentials`](super::credentials) to read, and its keys for [`entry`](super::entry).

use std::sync::Arc;

use super::calendar::Zone;
use super::credentials::{ASSUME_AGENCY, CREDENTIALS, Login, PROXY};
use super::endpoint::{Service, is_host_label};
use super::entry::ENTRY;
use super::types::Project;
use crate::rotation::key::{KeyId, RotationInterval};
use crate::rotation::project::{Cloud, Coverage, Mode};
use crate::rotation::rule::Selector;
use crate::yaml::decode::{Decoder, Field, given};
use crate::yaml::schema::{Form, Kind, Known, Schema, Text};
use crate::yaml::source::Span;

pub(super) const PROJECT: Schema = Schema::of(
    "every project",
    &[
        Known::required("name", Kind::Text(&NAME), "unique, the `project` label of every metric"),
        Known::required("cloud", Kind::Choice(|| Cloud::ALL.map(Cloud::as_str).into()), "the cloud it is in"),
        Known::required(
            "region",
            Kind::Form(&REGION),
            "one that is not known here is a warning without `kms_endpoint`",
        ),
        Known::optional(
            "project_id",
            Kind::Form(&PROJECT_ID),
            "without it the project is the one that `password` or the environment names, or else the one named like the region",
        ),
        Known::optional(
            "kms_endpoint",
            Kind::Address(Service::Cloud.example()),
            "where KMS answers, if not where the cloud has it",
        ),
        Known::optional(
            "iam_endpoint",
            Kind::Address(Service::Cloud.example()),
            "where IAM answers, if not where the cloud has it",
        ),
        Known::optional("ca_file", Kind::Path, "certificates to trust beside the system's"),
        Known::default(
            "mode",
            Kind::Choice(|| Mode::ALL.map(Mode::as_str).into()),
            "\"enforce\"",
            "`monitor` looks and never writes; where the file has a mode, that is the default",
        ),
        Known::required("credentials", Kind::Mapping(&CREDENTIALS), "how to log in"),
        Known::optional("assume_agency", Kind::Mapping(&ASSUME_AGENCY), "as in `credentials`"),
        Known::optional("proxy", Kind::Mapping(&PROXY), "as in `credentials`"),
        Known::default(
            "coverage",
            Kind::Choice(|| Coverage::ALL.map(Coverage::as_str).into()),
            "\"reported\"",
            "`required` makes failures of rotatable keys that no entry speaks of",
        ),
        Known::required(
            "keys",
            Kind::List(&ENTRY),
            "which keys, and what is asked of them; the most specific entry decides: `key_id`, then `alias`, then the \
             selector with more conditions, then the earlier one",
        ),
    ],
);

/// Names become metric labels and log fields.
const NAME: Text = Text { what: "a name for metrics and reports", longest: 128 };
/// It becomes a part of a host name.
const REGION: Form = Form {
    what: "a region such as eu-de: lower-case letters, digits and hyphens",
    pattern: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    digits: false,
};
const PROJECT_ID: Form = Form {
    what: "the 32 hexadecimal digits, in lower case, of the project's id in the cloud",
    pattern: "^[0-9a-f]{32}$",
    digits: true,
};

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
    /// The same of names of keys.
    pub(super) aliases: Vec<(Box<str>, Span)>,
    /// The same of selectors.
    pub(super) selectors: Vec<Selected>,
    /// The intervals that every run sends, and where that is asked for.
    pub(super) always: Vec<(RotationInterval, Span)>,
    /// The whole, where all of it was right.
    pub(super) project: Option<Project>,
}

/// A selector, and what another one with the same conditions needs to know.
pub(super) struct Selected {
    pub(super) selector: Selector,
    pub(super) span: Span,
    /// Its entry holds for a while only.
    pub(super) ends: bool,
}

impl Decoder<'_> {
    /// One item of `projects`. `zone` is the one in which days end.
    /// `file_mode` is the mode of the whole file, where it has one.
    pub(super) fn project(&mut self, item: Field<'_>, zone: &Zone, file_mode: Option<(Mode, Span)>) -> Option<Draft> {
        let fields = self.fields(item, &PROJECT)?;
        let name = fields.get("name").and_then(|field| {
            let name = self.name(field, &NAME)?;
            Some((Arc::from(name), field.span()))
        });
        let cloud = fields.get("cloud").and_then(|field| self.choice(field, &Cloud::ALL, Cloud::as_str));
        let region = fields.get("region").and_then(|field| self.region(field));
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
            Some(field) => self.project_mode(field, file_mode),
            None => Some(file_mode.map(|(mode, _)| mode).unwrap_or_default()),
        };
        let coverage = match fields.get("coverage") {
            Some(field) => self.choice(field, &Coverage::ALL, Coverage::as_str),
            None => Some(Coverage::default()),
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
            aliases: Vec::new(),
            selectors: Vec::new(),
            always: Vec::new(),
            name,
            project: None,
        };
        let keys = fields.get("keys").and_then(|field| self.entries(field, zone, &mut draft));
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
                credentials_at: self.source.position(at.start),
                assume_agency,
                proxy,
                coverage: coverage?,
                keys: keys?,
            })
        })();
        Some(draft)
    }

    /// The mode of a project that says it. Whoever reads `monitor` at the top of a file shall be able to rely on it.
    fn project_mode(&mut self, field: Field<'_>, file_mode: Option<(Mode, Span)>) -> Option<Mode> {
        let mode = self.choice(field, &Mode::ALL, Mode::as_str)?;
        match file_mode {
            Some((Mode::Monitor, at)) if mode == Mode::Enforce => {
                let message = "`enforce` in a file that is `monitor` as a whole, expected no `mode` here";
                self.error(field.span(), message).related("the mode of the whole file", at);
                None
            }
            _ => Some(mode),
        }
    }

    fn region(&mut self, field: Field<'_>) -> Option<Arc<str>> {
        let region = self.text(field, REGION.what)?;
        if is_host_label(region) && !region.bytes().any(|byte| byte.is_ascii_uppercase()) {
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

/// Whether it is the id of a project in the cloud.
#[must_use]
pub fn is_project_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::SystemTime;

    use super::*;
    use crate::policy;

    /// The first project of a policy that has `fields` beside what every project needs.
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
    fn a_relative_path_is_left_as_it_is() {
        let project = project("0123456789abcdef0123456789abcdef", "ca_file: certs/ca.pem");
        assert_eq!(project.ca_file, Some(PathBuf::from("certs/ca.pem")));
    }
}
