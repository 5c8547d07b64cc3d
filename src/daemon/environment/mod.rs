//! `environment: {}`: the credentials that the official clients would find, in their documented order (API sheet,
//! section 5.5).
//!
//! First what belongs to Huawei Cloud's own SDKs (`HUAWEICLOUD_SDK_*`, then their profile file), then its Terraform
//! provider's (`HW_*`), then those of `OpenStack` and Open Telekom Cloud (`OS_CLOUD` with its `clouds.yaml`, then `OS_*`), last
//! the machine's metadata service. `AWS_*` is left to AWS, though one of the clients reads it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kms::auth::{AccessKeyFiles, IdToken, KeyName, Login, Password, SecretSource};
use crate::policy;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// How to log in.
    pub login: Login,
    /// Where it was found, for people.
    pub source: String,
}

/// Variables of the environment, by name.
pub type Variables = fn(&str) -> Option<String>;

/// The first credentials that the environment has.
///
/// # Errors
///
/// A file that the environment names is not there or not what it should be, or half of something is given; the text
/// says which.
pub fn find(variables: Variables) -> Result<Found, String> {
    let environment = Environment(variables);
    if let Some(found) = environment.huawei_sdk()? {
        return Ok(found);
    }
    if let Some(found) = environment.huawei_terraform()? {
        return Ok(found);
    }
    if let Some(found) = environment.open_stack()? {
        return Ok(found);
    }
    let login = Login::EcsAgency { metadata_endpoint: None };
    Ok(Found { login, source: "the machine's metadata service, since no variable says anything else".to_owned() })
}

struct Environment(Variables);

impl Environment {
    fn huawei_sdk(&self) -> Result<Option<Found>, String> {
        let provider = self.pair("HUAWEICLOUD_SDK_IDP_ID", "HUAWEICLOUD_SDK_ID_TOKEN_FILE")?;
        if let Some((provider_id, file)) = provider {
            let token = SecretSource::File(PathBuf::from(file));
            let source = "HUAWEICLOUD_SDK_IDP_ID and HUAWEICLOUD_SDK_ID_TOKEN_FILE".to_owned();
            return Ok(Some(Found { login: Login::IdToken(IdToken { provider_id, token }), source }));
        }
        let names = ["HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN"];
        match self.access_key(&names.map(|name| vec![name]))? {
            Some(found) => Ok(Some(found)),
            None => self.profile(),
        }
    }

    /// The SDKs' profile file: `[basic]` with `ak`, `sk`, `security_token`, or `idp_id` and `id_token_file`.
    fn profile(&self) -> Result<Option<Found>, String> {
        let named = self.first(&["HUAWEICLOUD_SDK_CREDENTIALS_FILE"]).map(|(_, path)| PathBuf::from(path));
        let path = match (&named, self.home(".huaweicloud/credentials")) {
            (Some(path), _) => path.clone(),
            (None, Some(path)) if path.exists() => path,
            _ => return Ok(None),
        };
        let text = read(&path)?;
        let mut section = "";
        let mut fields = std::collections::HashMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.trim();
            } else if let Some((name, value)) = line.split_once('=').filter(|_| section == "basic") {
                fields.insert(name.trim(), value.trim());
            }
        }
        let shown = path.display();
        let source = format!("section [basic] of {shown}");
        if let (Some(provider_id), Some(file)) = (fields.get("idp_id"), fields.get("id_token_file")) {
            let token = SecretSource::File(PathBuf::from(file));
            let login = Login::IdToken(IdToken { provider_id: (*provider_id).to_owned(), token });
            return Ok(Some(Found { login, source }));
        }
        let (Some(id), Some(secret)) = (fields.get("ak"), fields.get("sk")) else {
            return Err(format!("{shown} has no ak and sk in its section [basic]"));
        };
        let login = Login::AccessKey(AccessKeyFiles {
            id: KeyName::Known((*id).to_owned()),
            secret: SecretSource::in_memory((*secret).to_owned(), &source),
            security_token: fields
                .get("security_token")
                .map(|token| SecretSource::in_memory((*token).to_owned(), &source)),
        });
        Ok(Some(Found { login, source }))
    }

    fn huawei_terraform(&self) -> Result<Option<Found>, String> {
        if let Some(found) = self.token(&["HW_AUTH_TOKEN"]) {
            return Ok(Some(found));
        }
        let names = ["HW_ACCESS_KEY", "HW_SECRET_KEY", "HW_SECURITY_TOKEN"];
        if let Some(found) = self.access_key(&names.map(|name| vec![name]))? {
            return Ok(Some(found));
        }
        self.password(&["HW_USER_NAME"], &["HW_USER_PASSWORD"], &["HW_DOMAIN_NAME"], &["HW_PROJECT_NAME"])
    }

    fn open_stack(&self) -> Result<Option<Found>, String> {
        if let Some((_, cloud)) = self.first(&["OS_CLOUD"]) {
            return self.clouds_yaml(&cloud).map(Some);
        }
        if let Some(found) = self.token(&["OS_TOKEN", "OS_TOKEN_ID", "OS_AUTH_TOKEN"]) {
            return Ok(Some(found));
        }
        let key = self.access_key(&[
            vec!["OS_ACCESS_KEY", "OS_ACCESS_KEY_ID", "OS_AK"],
            vec!["OS_SECRET_KEY", "OS_ACCESS_KEY_SECRET", "OS_SK"],
            vec!["OS_SECURITY_TOKEN"],
        ])?;
        if key.is_some() {
            return Ok(key);
        }
        let domain = ["OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME", "OS_PROJECT_DOMAIN_NAME"];
        self.password(&["OS_USERNAME"], &["OS_PASSWORD"], &domain, &["OS_PROJECT_NAME", "OS_TENANT_NAME"])
    }

    /// One cloud of `clouds.yaml`, with what `secure.yaml` beside it adds.
    fn clouds_yaml(&self, cloud: &str) -> Result<Found, String> {
        let path = self.clouds_file()?;
        let parsed = |path: &Path| {
            let text = read(path)?;
            policy::foreign_yaml(&text).ok_or_else(|| format!("{} is no YAML file", path.display()))
        };
        let clouds = parsed(&path)?;
        let secure = path.with_file_name("secure.yaml");
        let secure = if secure.exists() { parsed(&secure)? } else { Value::Null };
        let field = |name: &str| {
            let of = |file: &Value| {
                let cloud = &file["clouds"][cloud];
                cloud["auth"][name].as_str().or_else(|| cloud[name].as_str()).map(str::to_owned)
            };
            of(&secure).or_else(|| of(&clouds))
        };
        let first = |names: &[&str]| names.iter().find_map(|name| field(name));
        let shown = path.display();
        let source = format!("cloud {cloud} of {shown}");
        if clouds["clouds"][cloud].is_null() {
            return Err(format!("{shown} has no cloud {cloud}, which OS_CLOUD names"));
        }
        let secret = |text: String| SecretSource::in_memory(text, &source);
        let login = if let Some(token) = first(&["token"]) {
            Login::Token(secret(token))
        } else if let (Some(id), Some(key)) =
            (first(&["access_key", "access_key_id", "ak"]), first(&["secret_key", "secret_access_key", "sk"]))
        {
            let security_token = first(&["security_token"]).map(secret);
            Login::AccessKey(AccessKeyFiles { id: KeyName::Known(id), secret: secret(key), security_token })
        } else if let (Some(user_name), Some(password), Some(domain_name)) = (
            first(&["username"]),
            first(&["password"]),
            first(&["user_domain_name", "domain_name", "project_domain_name"]),
        ) {
            let project_name = first(&["project_name", "tenant_name"]);
            Login::Password(Password { user_name, domain_name, password: secret(password), project_name })
        } else {
            return Err(format!("{source} has neither a token, an access key nor user, password and domain"));
        };
        Ok(Found { login, source })
    }

    fn clouds_file(&self) -> Result<PathBuf, String> {
        if let Some((_, path)) = self.first(&["OS_CLIENT_CONFIG_FILE"]) {
            return Ok(PathBuf::from(path));
        }
        let folders = [Some(PathBuf::from(".")), self.home(".config/openstack"), Some(PathBuf::from("/etc/openstack"))];
        let names = ["clouds.yaml", "clouds.yml"];
        let candidates = folders.into_iter().flatten().flat_map(|folder| names.map(|name| folder.join(name)));
        let missing = "OS_CLOUD is set, and there is no clouds.yaml here, in ~/.config/openstack or in /etc/openstack";
        candidates.into_iter().find(|path| path.exists()).ok_or_else(|| missing.to_owned())
    }

    fn token(&self, names: &[&'static str]) -> Option<Found> {
        let (name, token) = self.first(names)?;
        let source = name.to_owned();
        Some(Found { login: Login::Token(SecretSource::in_memory(token, &source)), source })
    }

    fn access_key(&self, names: &[Vec<&'static str>; 3]) -> Result<Option<Found>, String> {
        let [id, secret, token] = names;
        let found = match (self.first(id), self.first(secret)) {
            (None, None) => return Ok(None),
            (Some(id), Some(secret)) => (id, secret),
            (Some((given, _)), None) => return Err(format!("{given} is set, but not {}", secret.join(" or "))),
            (None, Some((given, _))) => return Err(format!("{given} is set, but not {}", id.join(" or "))),
        };
        let ((id_name, id), (secret_name, secret)) = found;
        let security_token = self.first(token).map(|(name, token)| SecretSource::in_memory(token, name));
        let secret = SecretSource::in_memory(secret, secret_name);
        let login = Login::AccessKey(AccessKeyFiles { id: KeyName::Known(id), secret, security_token });
        Ok(Some(Found { login, source: format!("{id_name} and {secret_name}") }))
    }

    fn password(
        &self,
        user: &[&'static str],
        password: &[&'static str],
        domain: &[&'static str],
        project: &[&'static str],
    ) -> Result<Option<Found>, String> {
        let found = match (self.first(user), self.first(password)) {
            (None, None) => return Ok(None),
            (Some(user), Some(password)) => (user, password),
            (Some((given, _)), None) => return Err(format!("{given} is set, but not {}", password.join(" or "))),
            (None, Some((given, _))) => return Err(format!("{given} is set, but not {}", user.join(" or "))),
        };
        let ((user_variable, user_name), (name, password)) = found;
        let Some((_, domain_name)) = self.first(domain) else {
            return Err(format!("{user_variable} and {name} are set, but not {}", domain.join(" or ")));
        };
        let password = SecretSource::in_memory(password, name);
        let project_name = self.first(project).map(|(_, name)| name);
        let login = Login::Password(Password { user_name, domain_name, password, project_name });
        Ok(Some(Found { login, source: format!("{user_variable} and {name}") }))
    }

    /// Both variables, or neither.
    fn pair(&self, one: &'static str, other: &'static str) -> Result<Option<(String, String)>, String> {
        match (self.first(&[one]), self.first(&[other])) {
            (None, None) => Ok(None),
            (Some((_, one)), Some((_, other))) => Ok(Some((one, other))),
            (Some(_), None) => Err(format!("{one} is set, but not {other}")),
            (None, Some(_)) => Err(format!("{other} is set, but not {one}")),
        }
    }

    /// The first variable that is set to something.
    fn first(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| Some((*name, (self.0)(name).filter(|value| !value.is_empty())?)))
    }

    fn home(&self, path: &str) -> Option<PathBuf> {
        self.first(&["HOME"]).map(|(_, home)| Path::new(&home).join(path))
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
