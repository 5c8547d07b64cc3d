//! The files of the official clients that hold credentials: the SDKs' profile file, the Terraform provider's shared
//! configuration, and `clouds.yaml` with `secure.yaml` and `clouds-public.yaml` (`docs/kms-api.md` 5.5).
//!
//! What a [`Part`] gives is no secret but where the secret is: the file is read again whenever somebody logs in. What
//! was read is wiped; the copies that the YAML parser makes on its way are out of reach. A number or a boolean is the
//! text that was written, since passwords and names of accounts may look like one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::variables::without_line_breaks;
use super::{Environment, NamedProject};
use crate::kms::auth::{
    AccessKeyFiles, AccessKeyIdSource, IdToken, Login, Named, Password, SecretLocation, Unreadable, WipedJson,
};
use crate::support::small_file;
use crate::yaml;

/// One part of a file, such as a section.
#[derive(Clone, Debug)]
pub(super) struct Part {
    file: PathBuf,
    form: Form,
}

/// How the file is written, and which part of it is meant.
#[derive(Clone, Debug)]
enum Form {
    /// Sections of `name = value`; the section `[basic]`.
    Profile,
    /// JSON with a list of profiles: this one, or the one that it calls current.
    Shared(Option<String>),
    /// YAML with a mapping of clouds: this one.
    Clouds(Cloud),
}

/// One cloud of `clouds.yaml`.
#[derive(Clone, Debug)]
struct Cloud {
    name: String,
    /// The policy's region, of which the cloud may say more.
    region: String,
    /// The file with its secrets, where a variable names it.
    secure: Option<PathBuf>,
    /// Where the files that add to it are looked for.
    folders: Vec<PathBuf>,
}

/// The shared configuration, without copies of what is in it.
#[derive(Deserialize)]
struct SharedConfig<'c> {
    #[serde(borrow)]
    current: Option<&'c RawValue>,
    #[serde(borrow)]
    profiles: Option<Vec<HashMap<String, &'c RawValue>>>,
}

/// What an access key goes by in each of the files.
const ACCESS_KEY: [&[&str]; 3] = [
    &["ak", "accessKeyId", "access_key", "access_key_id"],
    &["sk", "secretAccessKey", "secret_key", "secret_access_key"],
    &["security_token", "securityToken"],
];

/// The fields of a part, by name; some are secrets, so all are wiped.
pub(super) type Fields = HashMap<String, Zeroizing<String>>;

/// The first of these fields that says something: its name and what it says.
fn first<'f>(fields: &'f Fields, names: &[&'static str]) -> Option<(&'static str, &'f str)> {
    names.iter().find_map(|name| {
        let value = without_line_breaks(fields.get(*name)?);
        (!value.is_empty()).then_some((*name, value))
    })
}

impl Part {
    /// The profile file of the SDKs, where it is named or where it is by default.
    pub(super) fn profile(environment: &Environment) -> Option<Self> {
        let file = named_or_at_home(environment.value(&["HUAWEICLOUD_SDK_CREDENTIALS_FILE"]), || {
            environment.home(".huaweicloud/credentials")
        })?;
        Some(Self { file, form: Form::Profile })
    }

    /// The shared configuration of the Terraform provider and of `KooCLI`. A profile that is named is looked for even
    /// where there is no file.
    pub(super) fn shared_config(environment: &Environment) -> Result<Option<Self>, Unreadable> {
        let profile = environment.value(&["HW_PROFILE"]);
        let own = environment.home(".hcloud/config.json");
        let named = environment.value(&["HW_SHARED_CONFIG_FILE"]).map(PathBuf::from);
        let found = match (named, own) {
            (Some(named), _) => Some(named),
            (None, Some(own)) if profile.is_some() => Some(own),
            (None, None) if profile.is_some() => {
                return Err("HW_PROFILE is set, but not HW_SHARED_CONFIG_FILE or HOME".to_owned().into());
            }
            // KooCLI writes its file, with a current profile that has no name, before there is any.
            (None, Some(own)) if own.exists() && !has_no_current_profile(&own)? => Some(own),
            _ => None,
        };
        Ok(found.map(|file| Self { file, form: Form::Shared(profile) }))
    }

    /// One cloud of `clouds.yaml`, as `region` has it.
    pub(super) fn cloud(environment: &Environment, name: String, region: &str) -> Result<Self, String> {
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
        let missing = || format!("OS_CLOUD is set, and there is no clouds.yaml in {}", listed(&folders));
        let file = named.or_else(|| one_of(&folders, "clouds")).ok_or_else(missing)?;
        Ok(Self { file, form: Form::Clouds(Cloud { name, region: region.to_owned(), secure, folders }) })
    }

    /// What it says now.
    pub(super) fn fields(&self) -> Result<Fields, Unreadable> {
        match &self.form {
            Form::Profile => Ok(basic_section(&read(&self.file)?)),
            Form::Shared(profile) => self.shared_profile(profile.as_deref()),
            Form::Clouds(cloud) => self.cloud_fields(cloud),
        }
    }

    fn shared_profile(&self, profile: Option<&str>) -> Result<Fields, Unreadable> {
        let shown = self.file.display();
        let text = read(&self.file)?;
        let config = shared_config(&self.file, &text)?;
        let current = config.current.and_then(scalar);
        let name = profile.or(current.as_ref().map(|name| name.as_str())).unwrap_or("default");
        if name.is_empty() {
            return Err(format!("{shown} has no current profile; name one in HW_PROFILE").into());
        }
        let named = |profile: &HashMap<_, _>| profile.get("name").copied().and_then(scalar).is_some_and(|n| *n == name);
        let found = config.profiles.into_iter().flatten().find(named);
        let fields = found.ok_or_else(|| format!("{shown} has no profile {name}"))?.into_iter();
        Ok(fields.filter_map(|(name, value)| Some((name, scalar(value)?))).collect())
    }

    /// What is said of a cloud, in the order of `openstacksdk`: its public profile, then `clouds.yaml`, then
    /// `secure.yaml`, and last what they say of the region.
    fn cloud_fields(&self, cloud: &Cloud) -> Result<Fields, Unreadable> {
        let Cloud { name, region, folders, .. } = cloud;
        let clouds = yaml(&self.file)?;
        let secure = match self.secure_file(cloud) {
            Some(path) => yaml(&path)?,
            None => WipedJson::from(Value::Null),
        };
        let own = [&clouds["clouds"][name], &secure["clouds"][name]];
        if own.iter().all(|said| said.is_null()) {
            return Err(format!("{} has no cloud {name}, which OS_CLOUD names", self.file.display()).into());
        }
        // `cloud` is its older name.
        let profile =
            ["profile", "cloud"].iter().find_map(|field| own.iter().rev().find_map(|said| said[field].as_str()));
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
            // Of the two, openstacksdk takes the project beside `auth`.
            if !(is_of_project(&name) && fields.contains_key(&name)) {
                fields.insert(name, value);
            }
        }
        Ok(fields)
    }

    /// The file with a cloud's secrets: the one that is named, else the first where `openstacksdk` looks, else the one
    /// beside a `clouds.yaml` that is elsewhere.
    fn secure_file(&self, cloud: &Cloud) -> Option<PathBuf> {
        let beside = || one_of(&[self.file.parent()?.to_owned()], "secure");
        cloud.secure.clone().or_else(|| one_of(&cloud.folders, "secure")).or_else(beside)
    }

    /// Which part of which file, for people.
    pub(super) fn shown(&self) -> String {
        let file = self.file.display();
        match &self.form {
            Form::Profile => format!("section [basic] of {file}"),
            Form::Shared(Some(profile)) => format!("profile {profile} of {file}"),
            Form::Shared(None) => format!("the current profile of {file}"),
            Form::Clouds(cloud) => format!("cloud {} of {file}", cloud.name),
        }
    }

    /// Why the fields of a cloud are not enough to log in. A profile that no file has is built into `openstacksdk`, with
    /// addresses only, or a mistake.
    pub(super) fn incomplete(&self, fields: &Fields) -> String {
        let why = format!("{} has neither a token, an access key nor user, password and domain", self.shown());
        match (&self.form, first(fields, &["profile", "cloud"])) {
            (Form::Clouds(Cloud { folders, .. }), Some((_, profile))) => {
                format!("{why}; its profile {profile} was looked for in clouds-public.yaml in {}", listed(folders))
            }
            _ => why,
        }
    }

    /// The project that the part names.
    pub(super) fn project(&self, fields: &Fields) -> Option<NamedProject> {
        let ids = first(fields, &["project_id", "tenant_id", "projectId"]);
        let names = || first(fields, &["project_name", "tenant_name"]);
        let (id, (name, value)) = ids.map(|found| (true, found)).or_else(|| Some((false, names()?)))?;
        let project = if id { Named::Id(value.to_owned()) } else { Named::Name(value.to_owned()) };
        Some(NamedProject { project, origin: format!("{name} in {}", self.shown()) })
    }

    /// How the part logs in; nothing where its fields are of no kind.
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

    /// The field that has one of these names, to be read when it is needed; nothing where it is not there now.
    fn entry(&self, fields: &Fields, names: &'static [&'static str]) -> Option<SecretLocation> {
        let (name, _) = first(fields, names)?;
        let part = self.clone();
        let read = move || {
            let fields = part.fields()?;
            let found = first(&fields, names).map(|(_, value)| value.to_owned());
            found.ok_or_else(|| Unreadable::from(format!("{} has no {name}", part.shown())))
        };
        Some(SecretLocation::entry(&format!("{name} in {}", self.shown()), read))
    }
}

fn named_or_at_home(named: Option<String>, at_home: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    named.map(PathBuf::from).or_else(|| at_home().filter(|path| path.exists()))
}

/// The first file of this name in the folders, in one of the three forms that the clients know.
fn one_of(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let forms = |folder: &PathBuf| ["yaml", "yml", "json"].map(|form| folder.join(format!("{name}.{form}")));
    folders.iter().flat_map(forms).find(|path| path.exists())
}

fn listed(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn yaml(path: &Path) -> Result<WipedJson, Unreadable> {
    let tree = yaml::foreign_yaml(&read(path)?).map(WipedJson::from);
    tree.ok_or_else(|| Unreadable::from(format!("{} is not valid YAML", path.display())))
}

fn shared_config<'c>(path: &Path, text: &'c str) -> Result<SharedConfig<'c>, String> {
    serde_json::from_str(text).map_err(|_| format!("{} is not valid JSON", path.display()))
}

fn has_no_current_profile(path: &Path) -> Result<bool, Unreadable> {
    let text = read(path)?;
    let current = shared_config(path, &text)?.current.and_then(scalar);
    Ok(current.is_some_and(|name| name.is_empty()))
}

/// A text, or a number or a boolean as it was written.
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

/// Adds the fields of a mapping that say something; in their names a hyphen is as good as an underscore.
fn put_texts(fields: &mut Fields, mapping: &Value) {
    for (name, value) in mapping.as_object().into_iter().flatten() {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            fields.insert(name.replace('-', "_"), text.to_owned().into());
        }
    }
}

/// The text of a file; a byte order mark is no part of its first line.
fn read(path: &Path) -> Result<Zeroizing<String>, Unreadable> {
    let text = small_file::read_text(path).map_err(|error| Unreadable::file(path, error))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned().into(),
        None => text,
    })
}
