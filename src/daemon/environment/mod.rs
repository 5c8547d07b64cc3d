//! `environment: {}`: the credentials that the official clients would find, in their documented order (API sheet,
//! section 5.5).
//!
//! First what belongs to Huawei Cloud's own SDKs (`HUAWEICLOUD_OIDC_*`, `HUAWEICLOUD_SDK_*`, then their profile file),
//! then its Terraform provider's (`HW_*`), then those of `OpenStack` and Open Telekom Cloud (`OS_CLOUD` with its
//! `clouds.yaml`, then `OS_*`), then the Terraform provider's shared configuration, which comes after all variables
//! there. Last is what a machine has by itself: a pod's identity, or the metadata service.
//!
//! The SDKs ask the metadata service before they look at `HC_CONTAINER_*`. Here these variables keep it from being asked:
//! a cluster sets them for one pod, so they are somebody's decision, as every other variable is, while the metadata
//! service answers whoever asks with the node's agency, which is of all pods on it and not this one's. And where the
//! network keeps pods from it, as it should, each login would wait for it in vain, and who logs in would hang on
//! whether a packet was dropped.
//!
//! `AWS_*` is left to AWS, though one of the clients reads it. Nothing here holds a secret of a file: it is read when
//! somebody logs in.

mod files;
mod variables;

use std::path::PathBuf;
use std::time::Duration;

use crate::kms::auth::{
    AccessKeyFiles, Agency, Credentials, IdToken, KeyName, Login, Named, OidcAgency, Password, PodIdentity,
    SecretSource, Unreadable,
};
use crate::kms::endpoint::default_sts;
use crate::policy;
use crate::policy::types::Project;

use files::Part;
pub use variables::Variables;
use variables::{Environment, Given, Names};

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// How to log in.
    pub credentials: Credentials,
    /// What the project is called in the account that delegates it, where that was said.
    pub project_name: Option<String>,
    /// Where it was found, for people.
    pub source: String,
}

/// A way to log in, and where it was found.
type Way = (Login, String);

/// The first credentials that the environment has for a project.
///
/// # Errors
///
/// A file that the environment names is not there or not what it should be, or half of something is given; the text
/// says which.
pub fn find(variables: Variables, project: &Project) -> Result<Found, Unreadable> {
    let environment = Environment(variables);
    // The SDKs know nothing of the variables for agencies.
    if let Some((login, source)) = environment.huawei_sdk(project)? {
        return Ok(Found { credentials: login.into(), project_name: None, source });
    }
    if let Some(way) = environment.huawei_terraform()? {
        return environment.for_agency(way, None);
    }
    if let Some(way) = environment.open_stack()? {
        return environment.for_agency(way, None);
    }
    if let Some((way, agency)) = environment.shared_config()? {
        return environment.for_agency(way, agency);
    }
    if let Some(way) = environment.pod()? {
        return environment.for_agency(way, None);
    }
    let source = "the machine's metadata service, since no variable says anything else".to_owned();
    environment.for_agency((Login::EcsAgency { metadata_endpoint: None }, source), None)
}

impl Environment {
    fn huawei_sdk(&self, project: &Project) -> Result<Option<Way>, Unreadable> {
        if let Some(way) = self.oidc_agency(project)? {
            return Ok(Some(way));
        }
        let provider = self.together([&["HUAWEICLOUD_SDK_IDP_ID"], &["HUAWEICLOUD_SDK_ID_TOKEN_FILE"]], [])?;
        if let Some(([(id, provider_id), (file, path)], [])) = provider {
            let login = Login::IdToken(IdToken { provider_id, token: SecretSource::File(path.into()) });
            return Ok(Some((login, format!("{id} and {file}"))));
        }
        let names: [Names; 3] = [&["HUAWEICLOUD_SDK_AK"], &["HUAWEICLOUD_SDK_SK"], &["HUAWEICLOUD_SDK_SECURITY_TOKEN"]];
        if let Some(way) = self.access_key(names)? {
            return Ok(Some(way));
        }
        let Some(part) = Part::profile(self) else { return Ok(None) };
        let login = part.login(&part.fields()?).ok_or_else(|| format!("{} has no ak and sk", part.shown()))?;
        Ok(Some((login, part.shown())))
    }

    /// STS v5, with the defaults of the one client that has it (API sheet, section 5.4).
    fn oidc_agency(&self, project: &Project) -> Result<Option<Way>, Unreadable> {
        const TOKEN: Names = &["HUAWEICLOUD_OIDC_ID_TOKEN", "HUAWEICLOUD_OIDC_TOKEN_FILE"];
        let found = self.together([&["HUAWEICLOUD_OIDC_PROVIDER_URN"], &["HUAWEICLOUD_OIDC_AGENCY_URN"], TOKEN], [])?;
        let Some(([(_, provider_urn), (agency, agency_urn), (name, token)], [])) = found else { return Ok(None) };
        let endpoint = match self.first(&["HUAWEICLOUD_SDK_STS_ENDPOINT"]) {
            Some((name, given)) => {
                policy::cloud_address(&given).map(str::to_owned).map_err(|expected| format!("{name} is not {expected}"))
            }
            None => default_sts(project.cloud, &project.region).map(str::to_owned).ok_or_else(|| {
                format!(
                    "{agency} is set, but not HUAWEICLOUD_SDK_STS_ENDPOINT, and no STS of {} in {} is known here",
                    project.cloud.as_str(),
                    project.region
                )
            }),
        }?;
        let ids = self.value(&["HUAWEICLOUD_OIDC_POLICY_IDS"]).unwrap_or_default();
        let login = Login::OidcAgency(OidcAgency {
            endpoint,
            provider_urn,
            agency_urn,
            token: secret_or_file(name, token),
            session_name: self
                .value(&["HUAWEICLOUD_OIDC_SESSION_NAME"])
                .unwrap_or_else(|| "oidc-sts-session".to_owned()),
            duration_seconds: self.seconds(&["HUAWEICLOUD_OIDC_DURATION_SECONDS"])?.unwrap_or(3600),
            policy: self.value(&["HUAWEICLOUD_OIDC_POLICY"]),
            policy_ids: ids.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        });
        Ok(Some((login, format!("{agency} and {name}"))))
    }

    fn huawei_terraform(&self) -> Result<Option<Way>, Unreadable> {
        if let Some(way) = self.token(&["HW_AUTH_TOKEN"]) {
            return Ok(Some(way));
        }
        if let Some(way) = self.access_key([&["HW_ACCESS_KEY"], &["HW_SECRET_KEY"], &["HW_SECURITY_TOKEN"]])? {
            return Ok(Some(way));
        }
        if let Some(way) = self.password(
            &["HW_USER_NAME", "HW_USER_ID"],
            &["HW_USER_PASSWORD"],
            &["HW_DOMAIN_NAME", "HW_DOMAIN_ID"],
            &["HW_PROJECT_NAME"],
        )? {
            return Ok(Some(way));
        }
        // Behind what the sheet orders, since it does not say where they come.
        let token: Names = &["HW_ASSUME_ROLE_ID_TOKEN", "HW_ASSUME_ROLE_ID_TOKEN_FILE"];
        let provider = self.together([&["HW_ASSUME_ROLE_IDP_ID"], token], [])?;
        Ok(provider.map(|([(id, provider_id), (name, token)], [])| {
            (Login::IdToken(IdToken { provider_id, token: secret_or_file(name, token) }), format!("{id} and {name}"))
        }))
    }

    fn open_stack(&self) -> Result<Option<Way>, Unreadable> {
        if let Some((_, cloud)) = self.first(&["OS_CLOUD"]) {
            let part = Part::cloud(self, cloud)?;
            let login = part.login(&part.fields()?).ok_or_else(|| {
                format!("{} has neither a token, an access key nor user, password and domain", part.shown())
            })?;
            return Ok(Some((login, part.shown())));
        }
        if let Some(way) = self.token(&["OS_TOKEN", "OS_TOKEN_ID", "OS_AUTH_TOKEN"]) {
            return Ok(Some(way));
        }
        let way = self.access_key([
            &["OS_ACCESS_KEY", "OS_ACCESS_KEY_ID", "OS_AK"],
            &["OS_SECRET_KEY", "OS_ACCESS_KEY_SECRET", "OS_SK"],
            &["OS_SECURITY_TOKEN"],
        ])?;
        if way.is_some() {
            return Ok(way);
        }
        self.password(
            &["OS_USERNAME", "OS_USER_ID", "OS_USERID"],
            &["OS_PASSWORD"],
            &[
                "OS_USER_DOMAIN_NAME",
                "OS_DOMAIN_NAME",
                "OS_PROJECT_DOMAIN_NAME",
                "OS_USER_DOMAIN_ID",
                "OS_DOMAIN_ID",
                "OS_PROJECT_DOMAIN_ID",
            ],
            &["OS_PROJECT_NAME", "OS_TENANT_NAME"],
        )
    }

    /// The shared configuration, and the agency that it names.
    fn shared_config(&self) -> Result<Option<(Way, Option<Agency>)>, Unreadable> {
        let Some(part) = Part::shared_config(self) else { return Ok(None) };
        let fields = part.fields()?;
        let shown = part.shown();
        let login = part.login(&fields).ok_or_else(|| format!("{shown} has no accessKeyId and secretAccessKey"))?;
        let field = |name: &str| fields.get(name).filter(|value| !value.is_empty()).map(|value| value.to_string());
        let account = field("agencyDomainId").map(Named::Id).or_else(|| field("agencyDomainName").map(Named::Name));
        let agency = match (field("agencyName"), account) {
            (None, _) => None,
            (Some(name), Some(account)) => Some(Agency { account, name, duration: None }),
            (Some(_), None) => {
                return Err(
                    format!("{shown} has an agencyName, but neither agencyDomainName nor agencyDomainId").into()
                );
            }
        };
        Ok(Some(((login, shown), agency)))
    }

    /// CCE's pod identity (API sheet, section 5.4).
    fn pod(&self) -> Result<Option<Way>, Unreadable> {
        const URI: Names = &["HC_CONTAINER_CREDENTIALS_FULL_URI"];
        let Some(([(name, uri), (file, path)], [])) =
            self.together([URI, &["HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"]], [])?
        else {
            return Ok(None);
        };
        // The token goes there as it is, so it goes as far as the keys of a metadata service come. Not repeated: it may
        // hold more than an address.
        policy::neighbour_address(&uri).map_err(|expected| format!("{name} is not {expected}"))?;
        let login = Login::Pod(PodIdentity { uri, token: SecretSource::File(path.into()) });
        Ok(Some((login, format!("{name} and {file}"))))
    }

    fn token(&self, names: Names) -> Option<Way> {
        let (name, token) = self.first(names)?;
        Some((Login::Token(SecretSource::in_memory(token, name)), name.to_owned()))
    }

    fn access_key(&self, [id, secret, token]: [Names; 3]) -> Result<Option<Way>, Unreadable> {
        let Some(([(id_name, id), (name, secret)], [])) = self.together([id, secret], [])? else { return Ok(None) };
        let security_token = self.first(token).map(|(name, token)| SecretSource::in_memory(token, name));
        let secret = SecretSource::in_memory(secret, name);
        let login = Login::AccessKey(AccessKeyFiles { id: KeyName::Known(id), secret, security_token });
        Ok(Some((login, format!("{id_name} and {name}"))))
    }

    /// A user's name says who it is within an account, an id by itself.
    fn password(&self, user: Names, password: Names, domain: Names, project: Names) -> Result<Option<Way>, Unreadable> {
        let by_id = matches!(self.first(user).map(named), Some(Named::Id(_)));
        let found = if by_id {
            self.together([user, password], [])?.map(|(found, [])| (found, self.first(domain)))
        } else {
            self.together([user, password], [domain])?.map(|(found, [domain])| (found, Some(domain)))
        };
        let Some(([user, (name, password)], domain)) = found else { return Ok(None) };
        let source = format!("{} and {name}", user.0);
        let login = Login::Password(Password {
            user: named(user),
            domain: domain.map(named),
            password: SecretSource::in_memory(password, name),
            project_name: self.value(project),
        });
        Ok(Some((login, source)))
    }

    /// The way with the agency of the variables on top of it, or else the `other` one.
    fn for_agency(&self, (login, source): Way, other: Option<Agency>) -> Result<Found, Unreadable> {
        let agency = match self.assumed_role()? {
            None => self.open_stack_agency()?,
            found => found,
        };
        let agency = agency.or(other);
        let source = match &agency {
            Some(agency) => format!("{source}, acting for {agency}"),
            None => source,
        };
        let project_name = agency.as_ref().and_then(|_| self.value(&["OS_DELEGATED_PROJECT"]));
        Ok(Found { credentials: Credentials { login, agency }, project_name, source })
    }

    /// What the Terraform provider's block `assume_role` is without a block. It assumes an agency by its account's id
    /// at STS; IAM knows both, by one documented call (API sheet, section 5.1).
    fn assumed_role(&self) -> Result<Option<Agency>, Unreadable> {
        const ACCOUNT: Names = &["HW_ASSUME_ROLE_DOMAIN_ID", "HW_ASSUME_ROLE_DOMAIN_NAME"];
        let found = self.together([&["HW_ASSUME_ROLE_AGENCY_NAME"], ACCOUNT], [])?;
        let Some(([(_, name), (by, account)], [])) = found else { return Ok(None) };
        let duration = self.seconds(&["HW_ASSUME_ROLE_DURATION"])?.map(Duration::from_secs);
        Ok(Some(Agency { account: named((by, account)), name, duration }))
    }

    fn open_stack_agency(&self) -> Result<Option<Agency>, Unreadable> {
        let found = self.together([&["OS_AGENCY_NAME"], &["OS_AGENCY_DOMAIN_NAME"]], [])?;
        Ok(found.map(|([(_, name), (_, account)], [])| Agency { account: Named::Name(account), name, duration: None }))
    }
}

/// Somebody by name or by id, as the variable has it.
fn named((name, value): Given) -> Named {
    if name.ends_with("ID") { Named::Id(value) } else { Named::Name(value) }
}

/// A secret that stands in the variable, or in the file that it names.
fn secret_or_file(name: &'static str, value: String) -> SecretSource {
    if name.ends_with("_FILE") {
        SecretSource::File(PathBuf::from(value))
    } else {
        SecretSource::in_memory(value, name)
    }
}
