//! `environment: {}`: the credentials that the official clients would find, in their documented order
//! (`docs/kms-api.md` 5.5).
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
//! The project is the policy's where it gives `project_id`. Otherwise it is the one that goes with the credentials: of
//! the same file, or of the variables of the same client, or else of another client's, which some of them read as well.
//! Only where nothing names one it is the region's own.
//!
//! `AWS_*` is left to AWS, though one of the clients reads it. Nothing here holds a secret of a file: it is read when
//! somebody logs in.

mod files;
mod variables;

use std::path::PathBuf;
use std::time::Duration;

use crate::kms::auth::{
    AccessKeyFiles, AccessKeyIdSource, Agency, Credentials, IdToken, Login, Named, OidcAgency, Password, PodIdentity,
    ProjectScope, SecretLocation, Unreadable,
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
    /// Where it was found, for people.
    pub source: String,
    /// Which project it is in the cloud.
    pub scope: ProjectScope,
    /// What says so, for people.
    pub scope_origin: String,
    /// What the environment names as well, and the policy's `project_id` overrides.
    pub overridden: Option<NamedProject>,
}

/// A project of the cloud, as a variable or a file names it.
#[derive(Debug)]
pub struct NamedProject {
    /// By its name or its id.
    pub project: Named,
    /// What names it, for people.
    pub origin: String,
}

/// A way to log in, and what came with it.
struct Way {
    login: Login,
    /// Where it was found.
    source: String,
    /// The project that is named beside it.
    project: Option<NamedProject>,
    /// The agency that is named beside it.
    agency: Option<Agency>,
}

impl From<(Login, String)> for Way {
    fn from((login, source): (Login, String)) -> Self {
        Self { login, source, project: None, agency: None }
    }
}

/// The variables that name a project: by its id, and by its name.
type ProjectVariables = [Names; 2];
/// Those of each client.
const HUAWEI_SDK: ProjectVariables = [&["HUAWEICLOUD_SDK_PROJECT_ID"], &[]];
const HUAWEI_TERRAFORM: ProjectVariables = [&["HW_PROJECT_ID"], &["HW_PROJECT_NAME"]];
const OPEN_STACK: ProjectVariables = [&["OS_PROJECT_ID", "OS_TENANT_ID"], &["OS_PROJECT_NAME", "OS_TENANT_NAME"]];
/// The project that an agency opens.
const DELEGATED: ProjectVariables = [&[], &["OS_DELEGATED_PROJECT"]];

/// The first credentials that the environment has for a project.
///
/// # Errors
///
/// A file that the environment names is not there or not what it should be, or half of something is given; the text
/// says which.
pub fn find(variables: Variables, project: &Project) -> Result<Found, Unreadable> {
    let environment = Environment(variables);
    let (way, own) = match environment.huawei_sdk(project)? {
        // The SDKs know nothing of the variables for agencies.
        Some(way) => (way, Some(HUAWEI_SDK)),
        None => environment.way_with_agency(project)?,
    };
    let source = match &way.agency {
        Some(agency) => format!("{}, acting for {agency}", way.source),
        None => way.source,
    };
    let delegated = way.agency.as_ref().and_then(|_| environment.named_project(DELEGATED));
    let named = delegated.or(way.project).or_else(|| {
        let all = own.into_iter().chain([HUAWEI_SDK, HUAWEI_TERRAFORM, OPEN_STACK]);
        all.into_iter().find_map(|variables| environment.named_project(variables))
    });
    let credentials = Credentials { login: way.login, agency: way.agency };
    let (scope, scope_origin, overridden) = scope(project, named)?;
    Ok(Found { credentials, source, scope, scope_origin, overridden })
}

/// Which project is meant, what says so, and what else is named.
fn scope(
    project: &Project,
    named: Option<NamedProject>,
) -> Result<(ProjectScope, String, Option<NamedProject>), String> {
    let name = project.region.to_string();
    if project.project_id.is_some() {
        let scope = ProjectScope { id: project.project_id.clone(), name };
        return Ok((scope, "project_id of the policy".to_owned(), named));
    }
    let Some(NamedProject { project, origin }) = named else {
        let origin = "the region, since neither the policy nor the environment names one";
        return Ok((ProjectScope { id: None, name }, origin.to_owned(), None));
    };
    let scope = match project {
        // It becomes a part of addresses.
        Named::Id(id) if !policy::is_project_id(&id) => {
            return Err(format!("{origin} is not a project's id, expected 32 hexadecimal digits in lower case"));
        }
        Named::Id(id) => ProjectScope { id: Some(id), name },
        Named::Name(name) => ProjectScope { id: None, name },
    };
    Ok((scope, origin, None))
}

impl Environment {
    /// The first way to log in after those of the SDKs, with the agency on top of it, and the variables for the project
    /// that go with it.
    fn way_with_agency(&self, project: &Project) -> Result<(Way, Option<ProjectVariables>), Unreadable> {
        let (mut way, own) = self.way(project)?;
        way.agency = self.agency()?.or(way.agency);
        Ok((way, own))
    }

    fn way(&self, project: &Project) -> Result<(Way, Option<ProjectVariables>), Unreadable> {
        if let Some(way) = self.huawei_terraform()? {
            return Ok((way, Some(HUAWEI_TERRAFORM)));
        }
        if let Some(way) = self.open_stack(project)? {
            return Ok((way, Some(OPEN_STACK)));
        }
        if let Some(way) = self.shared_config()? {
            return Ok((way, Some(HUAWEI_TERRAFORM)));
        }
        if let Some(way) = self.pod()? {
            return Ok((way, None));
        }
        let source = "the machine's metadata service, since no variable says anything else".to_owned();
        Ok(((Login::EcsAgency { metadata_endpoint: None }, source).into(), None))
    }

    fn named_project(&self, [ids, names]: ProjectVariables) -> Option<NamedProject> {
        let by_id = self.first(ids).map(|(origin, id)| (origin, Named::Id(id)));
        let found = by_id.or_else(|| self.first(names).map(|(origin, name)| (origin, Named::Name(name))));
        found.map(|(origin, project)| NamedProject { project, origin: origin.to_owned() })
    }

    fn huawei_sdk(&self, project: &Project) -> Result<Option<Way>, Unreadable> {
        if let Some(way) = self.oidc_agency(project)? {
            return Ok(Some(way));
        }
        let provider = self.together([&["HUAWEICLOUD_SDK_IDP_ID"], &["HUAWEICLOUD_SDK_ID_TOKEN_FILE"]], [])?;
        if let Some(([(id, provider_id), (file, path)], [])) = provider {
            let login = Login::IdToken(IdToken { provider_id, token: SecretLocation::File(path.into()) });
            return Ok(Some((login, format!("{id} and {file}")).into()));
        }
        let names: [Names; 3] = [&["HUAWEICLOUD_SDK_AK"], &["HUAWEICLOUD_SDK_SK"], &["HUAWEICLOUD_SDK_SECURITY_TOKEN"]];
        if let Some(way) = self.access_key(names)? {
            return Ok(Some(way));
        }
        let Some(part) = Part::profile(self) else { return Ok(None) };
        let fields = part.fields()?;
        let login = part.login(&fields).ok_or_else(|| format!("{} has no ak and sk", part.shown()))?;
        Ok(Some(Way { login, source: part.shown(), project: part.project(&fields), agency: None }))
    }

    /// STS v5, with the defaults of the one client that has it (`docs/kms-api.md` 5.4).
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
        Ok(Some((login, format!("{agency} and {name}")).into()))
    }

    fn huawei_terraform(&self) -> Result<Option<Way>, Unreadable> {
        if let Some(way) = self.token(&["HW_AUTH_TOKEN"]) {
            return Ok(Some(way));
        }
        if let Some(way) = self.access_key([&["HW_ACCESS_KEY"], &["HW_SECRET_KEY"], &["HW_SECURITY_TOKEN"]])? {
            return Ok(Some(way));
        }
        if let Some(way) =
            self.password(&["HW_USER_NAME", "HW_USER_ID"], &["HW_USER_PASSWORD"], &["HW_DOMAIN_NAME", "HW_DOMAIN_ID"])?
        {
            return Ok(Some(way));
        }
        // Last of these variables, since no source gives their rank (`docs/kms-api.md` 5.5).
        let token: Names = &["HW_ASSUME_ROLE_ID_TOKEN", "HW_ASSUME_ROLE_ID_TOKEN_FILE"];
        let provider = self.together([&["HW_ASSUME_ROLE_IDP_ID"], token], [])?;
        Ok(provider.map(|([(id, provider_id), (name, token)], [])| {
            let login = Login::IdToken(IdToken { provider_id, token: secret_or_file(name, token) });
            (login, format!("{id} and {name}")).into()
        }))
    }

    fn open_stack(&self, project: &Project) -> Result<Option<Way>, Unreadable> {
        if let Some((_, cloud)) = self.first(&["OS_CLOUD"]) {
            let part = Part::cloud(self, cloud, &project.region)?;
            let fields = part.fields()?;
            let login = part.login(&fields).ok_or_else(|| part.incomplete(&fields))?;
            return Ok(Some(Way { login, source: part.shown(), project: part.project(&fields), agency: None }));
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
        )
    }

    /// The shared configuration, and the agency that it names.
    fn shared_config(&self) -> Result<Option<Way>, Unreadable> {
        let Some(part) = Part::shared_config(self)? else { return Ok(None) };
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
        Ok(Some(Way { login, source: shown, project: part.project(&fields), agency }))
    }

    /// CCE's pod identity (`docs/kms-api.md` 5.4).
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
        let login = Login::Pod(PodIdentity { uri, token: SecretLocation::File(path.into()) });
        Ok(Some((login, format!("{name} and {file}")).into()))
    }

    fn token(&self, names: Names) -> Option<Way> {
        let (name, token) = self.first(names)?;
        Some((Login::Token(SecretLocation::in_memory(token, name)), name.to_owned()).into())
    }

    fn access_key(&self, [id, secret, token]: [Names; 3]) -> Result<Option<Way>, Unreadable> {
        let Some(([(id_name, id), (name, secret)], [])) = self.together([id, secret], [])? else { return Ok(None) };
        let security_token = self.first(token).map(|(name, token)| SecretLocation::in_memory(token, name));
        let secret = SecretLocation::in_memory(secret, name);
        let id = AccessKeyIdSource::In(SecretLocation::in_memory(id, id_name));
        let login = Login::AccessKey(AccessKeyFiles { id, secret, security_token });
        Ok(Some((login, format!("{id_name} and {name}")).into()))
    }

    /// A user's name says who it is within an account, an id by itself.
    fn password(&self, user: Names, password: Names, domain: Names) -> Result<Option<Way>, Unreadable> {
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
            password: SecretLocation::in_memory(password, name),
            project_name: None,
        });
        Ok(Some((login, source).into()))
    }

    /// The agency that variables name.
    fn agency(&self) -> Result<Option<Agency>, Unreadable> {
        match self.assumed_role()? {
            None => self.open_stack_agency(),
            found => Ok(found),
        }
    }

    /// What the Terraform provider's block `assume_role` is without a block. It assumes an agency by its account's id
    /// at STS; IAM knows both, by one documented call (`docs/kms-api.md` 5.1).
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
fn secret_or_file(name: &'static str, value: String) -> SecretLocation {
    if name.ends_with("_FILE") {
        SecretLocation::File(PathBuf::from(value))
    } else {
        SecretLocation::in_memory(value, name)
    }
}
