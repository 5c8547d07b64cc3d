//! The files of the official clients that hold credentials: the SDKs' profile file, the Terraform provider's shared
//! configuration, and `clouds.yaml` with its `secure.yaml` (API sheet, section 5.5).
//!
//! What a [`Part`] gives is no secret but where the secret is: the file is read again whenever somebody logs in. What
//! was read is wiped; the copies that the YAML parser makes on its way are out of reach.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use super::Environment;
use crate::kms::auth::{
    AccessKeyFiles, IdToken, KeyName, Login, Named, Password, SecretSource, SecretTree, Unreadable,
};
use crate::policy;
use crate::small_file;

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
    Clouds(String),
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
        let value = fields.get(*name).filter(|value| !value.is_empty())?;
        Some((*name, value.as_str()))
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
    pub(super) fn shared_config(environment: &Environment) -> Option<Self> {
        let profile = environment.value(&["HW_PROFILE"]);
        let own = environment.home(".hcloud/config.json");
        let named = environment.value(&["HW_SHARED_CONFIG_FILE"]);
        let file = match (&profile, own) {
            (Some(_), Some(own)) => named.map_or(own, PathBuf::from),
            (_, own) => named_or_at_home(named, || own)?,
        };
        Some(Self { file, form: Form::Shared(profile) })
    }

    /// One cloud of `clouds.yaml`.
    pub(super) fn cloud(environment: &Environment, cloud: String) -> Result<Self, String> {
        let named = environment.value(&["OS_CLIENT_CONFIG_FILE"]).map(PathBuf::from);
        let folders = [Some(".".into()), environment.home(".config/openstack"), Some("/etc/openstack".into())];
        let mut found = folders.into_iter().flatten().filter_map(|folder| one_of(&folder, "clouds"));
        let missing = "OS_CLOUD is set, and there is no clouds.yaml here, in ~/.config/openstack or in /etc/openstack";
        let file = named.or_else(|| found.next()).ok_or(missing)?;
        Ok(Self { file, form: Form::Clouds(cloud) })
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
        let config = serde_json::from_str::<Value>(&read(&self.file)?)
            .map(SecretTree::from)
            .map_err(|_| format!("{shown} is not valid JSON"))?;
        let name = profile.or_else(|| config["current"].as_str()).unwrap_or("default");
        let mut profiles = config["profiles"].as_array().into_iter().flatten();
        let mut fields = Fields::new();
        let found = profiles.find(|profile| profile["name"] == name);
        put_texts(&mut fields, found.ok_or_else(|| format!("{shown} has no profile {name}"))?);
        Ok(fields)
    }

    fn cloud_fields(&self, cloud: &str) -> Result<Fields, Unreadable> {
        let shown = self.file.display();
        let parsed = |path: &Path| {
            let tree = policy::foreign_yaml(&read(path)?).map(SecretTree::from);
            tree.ok_or_else(|| Unreadable::from(format!("{} is not valid YAML", path.display())))
        };
        let clouds = parsed(&self.file)?;
        if clouds["clouds"][cloud].is_null() {
            return Err(format!("{shown} has no cloud {cloud}, which OS_CLOUD names").into());
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let secure = one_of(folder, "secure").map_or(Ok(SecretTree::from(Value::Null)), |path| parsed(&path))?;
        let mut fields = Fields::new();
        // The last word is with what is meant for secrets, and in each file with `auth`.
        for file in [&clouds, &secure] {
            let cloud = &file["clouds"][cloud];
            put_texts(&mut fields, cloud);
            put_texts(&mut fields, &cloud["auth"]);
        }
        Ok(fields)
    }

    /// Which part of which file, for people.
    pub(super) fn shown(&self) -> String {
        let file = self.file.display();
        match &self.form {
            Form::Profile => format!("section [basic] of {file}"),
            Form::Shared(Some(profile)) => format!("profile {profile} of {file}"),
            Form::Shared(None) => format!("the current profile of {file}"),
            Form::Clouds(cloud) => format!("cloud {cloud} of {file}"),
        }
    }

    /// How the part logs in; nothing where its fields are of no kind.
    pub(super) fn login(&self, fields: &Fields) -> Option<Login> {
        let field = |names| first(fields, names).map(|(_, value)| value.to_owned());
        if let (Some(provider_id), Some(file)) = (field(&["idp_id"]), field(&["id_token_file"])) {
            return Some(Login::IdToken(IdToken { provider_id, token: SecretSource::File(file.into()) }));
        }
        if let Some(token) = self.entry(fields, &["token"]) {
            return Some(Login::Token(token));
        }
        let [id, secret, security_token] = ACCESS_KEY.map(|names| self.entry(fields, names));
        if let (Some(id), Some(secret)) = (id, secret) {
            return Some(Login::AccessKey(AccessKeyFiles { id: KeyName::In(id), secret, security_token }));
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
            project_name: field(&["project_name", "tenant_name"]),
        }))
    }

    /// The field that has one of these names, to be read when it is needed; nothing where it is not there now.
    fn entry(&self, fields: &Fields, names: &'static [&'static str]) -> Option<SecretSource> {
        let (name, _) = first(fields, names)?;
        let part = self.clone();
        let read = move || {
            let fields = part.fields()?;
            let found = first(&fields, names).map(|(_, value)| value.to_owned());
            found.ok_or_else(|| Unreadable::from(format!("{} has no {name}", part.shown())))
        };
        Some(SecretSource::entry(&format!("{name} in {}", self.shown()), read))
    }
}

fn named_or_at_home(named: Option<String>, at_home: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    named.map(PathBuf::from).or_else(|| at_home().filter(|path| path.exists()))
}

/// The file of this name in one of the three forms that the clients know.
fn one_of(folder: &Path, name: &str) -> Option<PathBuf> {
    ["yaml", "yml", "json"].map(|form| folder.join(format!("{name}.{form}"))).into_iter().find(|path| path.exists())
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

/// Adds the fields of a mapping that are texts.
fn put_texts(fields: &mut Fields, mapping: &Value) {
    let texts = mapping.as_object().into_iter().flatten();
    fields.extend(texts.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned().into()))));
}

fn read(path: &Path) -> Result<Zeroizing<String>, Unreadable> {
    small_file::read_text(path).map_err(|error| Unreadable::file(path, &error))
}
