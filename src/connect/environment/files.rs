//! Credentials in files of the official clients: the SDKs' profile file, the Terraform provider's shared
//! configuration, and `clouds.yaml` with `secure.yaml` and `clouds-public.yaml` (`docs/kms-api.md` 5.5).
//!
//! A [`Section`] returns where a secret is, not the secret: the file is read again at each login. What was read is
//! wiped, except the copies inside the YAML parser. Numbers and booleans are taken as the text in the file, since
//! passwords and account names may look like them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::variables::without_line_breaks;
use super::{Environment, EnvironmentError, NamedProject};
use crate::kms::auth::{
    AccessKeyFiles, AccessKeyIdSource, IdToken, Login, Named, Password, SecretLocation, Unreadable, WipedJson,
};
use crate::support::small_file;
use crate::yaml;

/// A section, profile or cloud of a file.
#[derive(Clone, Debug)]
pub(super) struct Section {
    file: PathBuf,
    format: FileFormat,
}

/// The format of the file, and the name of the section.
#[derive(Clone, Debug)]
enum FileFormat {
    /// Sections of `name = value`; always the section `[basic]`.
    Profile,
    /// JSON with a list of profiles: this one, or the file's current one.
    SharedConfig(Option<String>),
    /// YAML with a mapping of clouds: this one.
    Clouds(CloudsEntry),
}

/// One cloud of `clouds.yaml`.
#[derive(Clone, Debug)]
struct CloudsEntry {
    name: String,
    /// The policy's region, for which the cloud may have other values.
    region: String,
    /// The file with its secrets, if a variable names it.
    secure: Option<PathBuf>,
    /// The folders that are searched for related files.
    folders: Vec<PathBuf>,
}

/// The shared configuration, without copies of its content.
#[derive(Deserialize)]
struct SharedConfig<'c> {
    #[serde(borrow)]
    current: Option<&'c RawValue>,
    #[serde(borrow)]
    profiles: Option<Vec<HashMap<String, &'c RawValue>>>,
}

/// The names of an access key's fields in each of the files.
const ACCESS_KEY: [&[&str]; 3] = [
    &["ak", "accessKeyId", "access_key", "access_key_id"],
    &["sk", "secretAccessKey", "secret_key", "secret_access_key"],
    &["security_token", "securityToken"],
];

/// The fields of a section, by name; some are secrets, so all are wiped.
pub(super) type Fields = HashMap<String, Zeroizing<String>>;

/// The first of these fields that is not empty: its name and its value.
fn first<'f>(fields: &'f Fields, names: &[&'static str]) -> Option<(&'static str, &'f str)> {
    names.iter().find_map(|name| {
        let value = without_line_breaks(fields.get(*name)?);
        (!value.is_empty()).then_some((*name, value))
    })
}

impl Section {
    /// The profile file of the SDKs, at its named or its default path.
    pub(super) fn profile(environment: &Environment) -> Option<Self> {
        let file = named_or_at_home(environment.value(&["HUAWEICLOUD_SDK_CREDENTIALS_FILE"]), || {
            environment.home(".huaweicloud/credentials")
        })?;
        Some(Self { file, format: FileFormat::Profile })
    }

    /// The shared configuration of the Terraform provider and of `KooCLI`. If a profile is named, a missing file is an
    /// error.
    pub(super) fn shared_config(environment: &Environment) -> Result<Option<Self>, EnvironmentError> {
        let profile = environment.value(&["HW_PROFILE"]);
        let own = environment.home(".hcloud/config.json");
        let named = environment.value(&["HW_SHARED_CONFIG_FILE"]).map(PathBuf::from);
        let found = match (named, own) {
            (Some(named), _) => Some(named),
            (None, Some(own)) if profile.is_some() => Some(own),
            (None, None) if profile.is_some() => {
                let missing = vec!["HW_SHARED_CONFIG_FILE or HOME".to_owned()];
                return Err(EnvironmentError::Incomplete { set: vec!["HW_PROFILE"], missing });
            }
            // KooCLI writes its file before the first profile, with an empty name of the current one.
            (None, Some(own)) if own.exists() && !has_no_current_profile(&own)? => Some(own),
            _ => None,
        };
        Ok(found.map(|file| Self { file, format: FileFormat::SharedConfig(profile) }))
    }

    /// One cloud of `clouds.yaml`, with its values for `region`.
    pub(super) fn cloud(environment: &Environment, name: String, region: &str) -> Result<Self, EnvironmentError> {
        let named = environment.value(&["OS_CLIENT_CONFIG_FILE"]).map(PathBuf::from);
        let secure = environment.value(&["OS_CLIENT_SECURE_FILE"]).map(PathBuf::from);
        let folders = [
            Some(".".into()),
            environment.value(&["XDG_CONFIG_HOME"]).map(|home| Path::new(&home).join("openstack")),
            environment.home(".config/openstack"),
            Some("/etc/xdg/openstack".into()),
            Some("/etc/openstack".into()),
        ];
        let folders: Vec<PathBuf> = folders.into_iter().flatten().collect();
        let missing = || EnvironmentError::NoCloudsFile { folders: listed(&folders) };
        let file = named.or_else(|| one_of(&folders, "clouds")).ok_or_else(missing)?;
        Ok(Self { file, format: FileFormat::Clouds(CloudsEntry { name, region: region.to_owned(), secure, folders }) })
    }

    /// Reads the section's fields.
    pub(super) fn fields(&self) -> Result<Fields, EnvironmentError> {
        match &self.format {
            FileFormat::Profile => Ok(basic_section(&read(&self.file)?)),
            FileFormat::SharedConfig(profile) => self.shared_profile(profile.as_deref()),
            FileFormat::Clouds(cloud) => self.cloud_fields(cloud),
        }
    }

    fn shared_profile(&self, profile: Option<&str>) -> Result<Fields, EnvironmentError> {
        let missing = |missing| EnvironmentError::Missing { location: self.file.display().to_string(), missing };
        let text = read(&self.file)?;
        let config = shared_config(&self.file, &text)?;
        let current = config.current.and_then(scalar);
        let name = profile.or(current.as_ref().map(|name| name.as_str())).unwrap_or("default");
        if name.is_empty() {
            return Err(missing("current profile; set HW_PROFILE".to_owned()));
        }
        let named = |profile: &HashMap<_, _>| profile.get("name").copied().and_then(scalar).is_some_and(|n| *n == name);
        let found = config.profiles.into_iter().flatten().find(named);
        let fields = found.ok_or_else(|| missing(format!("profile {name}")))?.into_iter();
        Ok(fields.filter_map(|(name, value)| Some((name, scalar(value)?))).collect())
    }

    /// The fields of a cloud, merged in the order of `openstacksdk`: its public profile, then `clouds.yaml`, then
    /// `secure.yaml`, and last their values for the region.
    fn cloud_fields(&self, cloud: &CloudsEntry) -> Result<Fields, EnvironmentError> {
        let CloudsEntry { name, region, folders, .. } = cloud;
        let clouds = yaml(&self.file)?;
        let secure = match self.secure_file(cloud) {
            Some(path) => yaml(&path)?,
            None => WipedJson::from(Value::Null),
        };
        let own = [&clouds["clouds"][name], &secure["clouds"][name]];
        if own.iter().all(|layer| layer.is_null()) {
            let location = self.file.display().to_string();
            return Err(EnvironmentError::Missing {
                location,
                missing: format!("cloud {name}, the value of OS_CLOUD"),
            });
        }
        // `cloud` is its older name.
        let profile =
            ["profile", "cloud"].iter().find_map(|field| own.iter().rev().find_map(|layer| layer[field].as_str()));
        let public = match profile.and_then(|_| one_of(folders, "clouds-public")) {
            Some(path) => yaml(&path)?,
            None => WipedJson::from(Value::Null),
        };
        let layers = [&public["public-clouds"][profile.unwrap_or_default()], own[0], own[1]];
        let regions = layers.iter().rev().find_map(|layer| layer["regions"].as_array()).into_iter().flatten();
        let of_region = regions.filter(|entry| entry["name"] == **region).map(|entry| &entry["values"]);
        let (mut fields, mut auth) = (Fields::new(), Fields::new());
        for layer in layers.into_iter().chain(of_region) {
            put_texts(&mut fields, layer);
            put_texts(&mut auth, &layer["auth"]);
        }
        for (name, value) in auth {
            // openstacksdk prefers the project beside `auth` to the one in it.
            if !(is_of_project(&name) && fields.contains_key(&name)) {
                fields.insert(name, value);
            }
        }
        Ok(fields)
    }

    /// The file with a cloud's secrets: the named one, else the first in the folders of `openstacksdk`, else the one
    /// beside a `clouds.yaml` in another folder.
    fn secure_file(&self, cloud: &CloudsEntry) -> Option<PathBuf> {
        let beside = || one_of(&[self.file.parent()?.to_owned()], "secure");
        cloud.secure.clone().or_else(|| one_of(&cloud.folders, "secure")).or_else(beside)
    }

    /// The section and its file, for people.
    pub(super) fn origin(&self) -> String {
        let file = self.file.display();
        match &self.format {
            FileFormat::Profile => format!("section [basic] of {file}"),
            FileFormat::SharedConfig(Some(profile)) => format!("profile {profile} of {file}"),
            FileFormat::SharedConfig(None) => format!("the current profile of {file}"),
            FileFormat::Clouds(cloud) => format!("cloud {} of {file}", cloud.name),
        }
    }

    /// The error that the section lacks these fields.
    pub(super) fn missing(&self, fields: &str) -> EnvironmentError {
        EnvironmentError::Missing { location: self.origin(), missing: fields.to_owned() }
    }

    /// The error that the fields of a cloud are not enough to log in. Names its profile: one that no file contains is
    /// built into `openstacksdk`, with addresses only, or is misspelt.
    pub(super) fn incomplete_cloud(&self, fields: &Fields) -> EnvironmentError {
        let logins = "token, no access key, and no user with password and domain";
        match (&self.format, first(fields, &["profile", "cloud"])) {
            (FileFormat::Clouds(CloudsEntry { folders, .. }), Some((_, profile))) => self.missing(&format!(
                "{logins}; its profile {profile} was looked for in clouds-public.yaml in {}",
                listed(folders)
            )),
            _ => self.missing(logins),
        }
    }

    /// The project that the section names.
    pub(super) fn project(&self, fields: &Fields) -> Option<NamedProject> {
        let ids = first(fields, &["project_id", "tenant_id", "projectId"]);
        let names = || first(fields, &["project_name", "tenant_name"]);
        let (id, (name, value)) = ids.map(|found| (true, found)).or_else(|| Some((false, names()?)))?;
        let project = if id { Named::Id(value.to_owned()) } else { Named::Name(value.to_owned()) };
        Some(NamedProject { project, origin: format!("{name} in {}", self.origin()) })
    }

    /// The login of the section; `None` if its fields are not enough for one.
    pub(super) fn login(&self, fields: &Fields) -> Option<Login> {
        let field = |names| first(fields, names).map(|(_, value)| value.to_owned());
        if let (Some(provider_id), Some(file)) = (field(&["idp_id"]), field(&["id_token_file"])) {
            return Some(Login::IdToken(IdToken { provider_id, token: SecretLocation::File(file.into()) }));
        }
        if let Some(token) = self.entry(fields, &["token"]) {
            return Some(Login::Token(token));
        }
        let [id, secret, security_token] = ACCESS_KEY.map(|names| self.entry(fields, names));
        if let (Some(id), Some(secret)) = (id, secret) {
            return Some(Login::AccessKey(AccessKeyFiles { id: AccessKeyIdSource::In(id), secret, security_token }));
        }
        let named = |name, id| field(name).map(Named::Name).or_else(|| field(id).map(Named::Id));
        let user = named(&["username"], &["user_id"])?;
        let domain = named(
            &["user_domain_name", "domain_name", "project_domain_name"],
            &["user_domain_id", "domain_id", "project_domain_id"],
        );
        if domain.is_none() && matches!(user, Named::Name(_)) {
            return None;
        }
        Some(Login::Password(Password {
            user,
            domain,
            password: self.entry(fields, &["password"])?,
            project_name: None,
        }))
    }

    /// The first of these fields that is set, as a secret that is read at each login.
    fn entry(&self, fields: &Fields, names: &'static [&'static str]) -> Option<SecretLocation> {
        let (name, _) = first(fields, names)?;
        let section = self.clone();
        let read = move || {
            let fields = section.fields()?;
            let found = first(&fields, names).map(|(_, value)| value.to_owned());
            found.ok_or_else(|| Unreadable::from(section.missing(name)))
        };
        Some(SecretLocation::entry(&format!("{name} in {}", self.origin()), read))
    }
}

fn named_or_at_home(named: Option<String>, at_home: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    named.map(PathBuf::from).or_else(|| at_home().filter(|path| path.exists()))
}

/// The first file of this name in the folders, with one of the three extensions that the clients support.
fn one_of(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let files = |folder: &PathBuf| ["yaml", "yml", "json"].map(|ending| folder.join(format!("{name}.{ending}")));
    folders.iter().flat_map(files).find(|path| path.exists())
}

fn listed(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn yaml(path: &Path) -> Result<WipedJson, EnvironmentError> {
    let tree = yaml::foreign_yaml(&read(path)?).map(WipedJson::from);
    tree.ok_or_else(|| EnvironmentError::Syntax { file: path.to_owned(), format: "YAML" })
}

fn shared_config<'c>(path: &Path, text: &'c str) -> Result<SharedConfig<'c>, EnvironmentError> {
    // The parser's error may repeat a secret.
    serde_json::from_str(text).map_err(|_| EnvironmentError::Syntax { file: path.to_owned(), format: "JSON" })
}

fn has_no_current_profile(path: &Path) -> Result<bool, EnvironmentError> {
    let text = read(path)?;
    let current = shared_config(path, &text)?.current.and_then(scalar);
    Ok(current.is_some_and(|name| name.is_empty()))
}

/// A text, or a number or a boolean as it is written.
fn scalar(value: &RawValue) -> Option<Zeroizing<String>> {
    match value.get() {
        "null" => None,
        text if text.starts_with(['{', '[']) => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok().map(Zeroizing::new),
        text => Some(text.to_owned().into()),
    }
}

/// Whether the field names a project.
fn is_of_project(name: &str) -> bool {
    matches!(name, "project_id" | "project_name" | "tenant_id" | "tenant_name")
}

fn basic_section(text: &str) -> Fields {
    let mut section = "";
    let mut fields = Fields::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim();
        } else if let Some((name, value)) = line.split_once('=').filter(|_| section == "basic") {
            fields.insert(name.trim().to_owned(), value.trim().to_owned().into());
        }
    }
    fields
}

/// Adds the fields of a mapping that are not empty; hyphens in their names become underscores.
fn put_texts(fields: &mut Fields, mapping: &Value) {
    for (name, value) in mapping.as_object().into_iter().flatten() {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            fields.insert(name.replace('-', "_"), text.to_owned().into());
        }
    }
}

/// The text of a file, without a byte order mark.
fn read(path: &Path) -> Result<Zeroizing<String>, EnvironmentError> {
    let text = small_file::read_text(path).map_err(|error| Unreadable::file(path, error))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned().into(),
        None => text,
    })
}
