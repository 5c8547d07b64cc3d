//! `environment: {}`: the credentials that the official clients would find, in their documented order
//! (`docs/kms-api.md` 5.5).
//!
//! First Huawei Cloud's SDKs (`HUAWEICLOUD_OIDC_*`, `HUAWEICLOUD_SDK_*`, then their profile file), then its Terraform
//! provider (`HW_*`), then `OpenStack` and Open Telekom Cloud (`OS_CLOUD` with its `clouds.yaml`, then `OS_*`), then
//! the Terraform provider's shared configuration, which that provider reads after its variables. Last are the machine's
//! own credentials: a pod's identity, or the metadata service.
//!
//! The SDKs call the metadata service before they read `HC_CONTAINER_*`. Here these variables come first: a cluster
//! sets them for one pod, while the metadata service returns the node's agency to every pod on it. And where the
//! network blocks the metadata service for pods, as it should, each login would wait for a timeout.
//!
//! The project is the policy's `project_id`, if set. Otherwise it comes with the credentials: from the same file, or
//! from the variables of the same client, or else from those of another client, which some clients read as well. The
//! default is the project of the region.
//!
//! `AWS_*` is not read, though one of the clients reads it. Secrets in files are read at each login and not kept.

mod files;
mod variables;

use std::path::PathBuf;
use std::time::Duration;

use crate::kms::auth::{
    AccessKeyFiles, AccessKeyIdSource, Agency, Credentials, IdToken, Login, Named, OidcAgency, Password, PodIdentity,
    ProjectScope, SecretLocation,
};
use crate::kms::endpoint::default_sts;
use crate::policy;
use crate::policy::types::Project;

use super::error::EnvironmentError;
use files::Section;
pub(crate) use variables::Variables;
use variables::{Environment, SetVariable, VariableNames};

/// Credentials of the environment.
#[derive(Debug)]
pub(crate) struct FoundCredentials {
    /// How to log in.
    pub credentials: Credentials,
    /// Where they were found, for people.
    pub source: String,
    /// The cloud's project.
    pub scope: ProjectScope,
    /// Where the project is named, for people.
    pub scope_origin: String,
    /// A project of the environment that the policy's `project_id` overrides.
    pub overridden: Option<NamedProject>,
}

/// A project of the cloud that a variable or a file names.
#[derive(Debug)]
pub(crate) struct NamedProject {
    /// By its name or its id.
    pub project: Named,
    /// The variable or the file, for people.
    pub origin: String,
}

/// A login, and its source.
struct LoginSource {
    login: Login,
    /// Where it was found.
    source: String,
    /// The project that its file names.
    project: Option<NamedProject>,
    /// The agency that its file names.
    agency: Option<Agency>,
}

impl From<(Login, String)> for LoginSource {
    fn from((login, source): (Login, String)) -> Self {
        Self { login, source, project: None, agency: None }
    }
}

/// The variables of one client that name a project: by id, and by name.
type ProjectVariables = [VariableNames; 2];
const HUAWEI_SDK: ProjectVariables = [&["HUAWEICLOUD_SDK_PROJECT_ID"], &[]];
const HUAWEI_TERRAFORM: ProjectVariables = [&["HW_PROJECT_ID"], &["HW_PROJECT_NAME"]];
const OPEN_STACK: ProjectVariables = [&["OS_PROJECT_ID", "OS_TENANT_ID"], &["OS_PROJECT_NAME", "OS_TENANT_NAME"]];
/// The project of an agency.
const DELEGATED: ProjectVariables = [&[], &["OS_DELEGATED_PROJECT"]];

/// The first credentials in the environment for a project.
///
/// # Errors
///
/// A login is incomplete, a value is invalid, or a file that the environment names cannot be used.
pub(crate) fn find(variables: Variables, project: &Project) -> Result<FoundCredentials, EnvironmentError> {
    let environment = Environment(variables);
    let (found, own) = match environment.huawei_sdk(project)? {
        // The SDKs do not read the variables for agencies.
        Some(found) => (found, Some(HUAWEI_SDK)),
        None => environment.login_with_agency(project)?,
    };
    let source = match &found.agency {
        Some(agency) => format!("{}, acting for {agency}", found.source),
        None => found.source,
    };
    let delegated = found.agency.as_ref().and_then(|_| environment.named_project(DELEGATED));
    let named = delegated.or(found.project).or_else(|| {
        let all = own.into_iter().chain([HUAWEI_SDK, HUAWEI_TERRAFORM, OPEN_STACK]);
        all.into_iter().find_map(|variables| environment.named_project(variables))
    });
    let credentials = Credentials { login: found.login, agency: found.agency };
    let (scope, scope_origin, overridden) = scope(project, named)?;
    Ok(FoundCredentials { credentials, source, scope, scope_origin, overridden })
}

/// The project, where it is named, and a named project that is not used.
fn scope(
    project: &Project,
    named: Option<NamedProject>,
) -> Result<(ProjectScope, String, Option<NamedProject>), EnvironmentError> {
    let name = project.region.to_string();
    if project.project_id.is_some() {
        let scope = ProjectScope { id: project.project_id.clone(), name };
        return Ok((scope, "project_id of the policy".to_owned(), named));
    }
    let Some(NamedProject { project, origin }) = named else {
        let origin = "the region (neither the policy nor the environment names a project)";
        return Ok((ProjectScope { id: None, name }, origin.to_owned(), None));
    };
    let scope = match project {
        // It becomes a part of URLs.
        Named::Id(id) if !policy::is_project_id(&id) => {
            let expected = "a project id, expected 32 hexadecimal digits in lower case";
            return Err(EnvironmentError::Invalid { name: origin, expected });
        }
        Named::Id(id) => ProjectScope { id: Some(id), name },
        Named::Name(name) => ProjectScope { id: None, name },
    };
    Ok((scope, origin, None))
}

impl Environment {
    /// The first login after those of the SDKs, with its agency, and the client's variables for the project.
    fn login_with_agency(
        &self,
        project: &Project,
    ) -> Result<(LoginSource, Option<ProjectVariables>), EnvironmentError> {
        let (mut found, own) = self.login(project)?;
        found.agency = self.agency()?.or(found.agency);
        Ok((found, own))
    }

    fn login(&self, project: &Project) -> Result<(LoginSource, Option<ProjectVariables>), EnvironmentError> {
        if let Some(found) = self.huawei_terraform()? {
            return Ok((found, Some(HUAWEI_TERRAFORM)));
        }
        if let Some(found) = self.open_stack(project)? {
            return Ok((found, Some(OPEN_STACK)));
        }
        if let Some(found) = self.shared_config()? {
            return Ok((found, Some(HUAWEI_TERRAFORM)));
        }
        if let Some(found) = self.pod()? {
            return Ok((found, None));
        }
        let source = "the machine's metadata service (no other credentials are set)".to_owned();
        Ok(((Login::EcsAgency { metadata_endpoint: None }, source).into(), None))
    }

    fn named_project(&self, [ids, names]: ProjectVariables) -> Option<NamedProject> {
        let by_id = self.first(ids).map(|(origin, id)| (origin, Named::Id(id)));
        let found = by_id.or_else(|| self.first(names).map(|(origin, name)| (origin, Named::Name(name))));
        found.map(|(origin, project)| NamedProject { project, origin: origin.to_owned() })
    }

    fn huawei_sdk(&self, project: &Project) -> Result<Option<LoginSource>, EnvironmentError> {
        if let Some(found) = self.oidc_agency(project)? {
            return Ok(Some(found));
        }
        let provider = self.group([&["HUAWEICLOUD_SDK_IDP_ID"], &["HUAWEICLOUD_SDK_ID_TOKEN_FILE"]], [])?;
        if let Some(([(id, provider_id), (file, path)], [])) = provider {
            let login = Login::IdToken(IdToken { provider_id, token: SecretLocation::File(path.into()) });
            return Ok(Some((login, format!("{id} and {file}")).into()));
        }
        let names: [VariableNames; 3] =
            [&["HUAWEICLOUD_SDK_AK"], &["HUAWEICLOUD_SDK_SK"], &["HUAWEICLOUD_SDK_SECURITY_TOKEN"]];
        if let Some(found) = self.access_key(names)? {
            return Ok(Some(found));
        }
        let Some(section) = Section::profile(self) else { return Ok(None) };
        let fields = section.fields()?;
        let login = section.login(&fields).ok_or_else(|| section.missing("ak and sk"))?;
        Ok(Some(LoginSource { login, source: section.origin(), project: section.project(&fields), agency: None }))
    }

    /// STS v5, with the defaults of the one client that supports it (`docs/kms-api.md` 5.4).
    fn oidc_agency(&self, project: &Project) -> Result<Option<LoginSource>, EnvironmentError> {
        const TOKEN: VariableNames = &["HUAWEICLOUD_OIDC_ID_TOKEN", "HUAWEICLOUD_OIDC_TOKEN_FILE"];
        let found = self.group([&["HUAWEICLOUD_OIDC_PROVIDER_URN"], &["HUAWEICLOUD_OIDC_AGENCY_URN"], TOKEN], [])?;
        let Some(([(_, provider_urn), (agency, agency_urn), (name, token)], [])) = found else { return Ok(None) };
        let endpoint = match self.first(&["HUAWEICLOUD_SDK_STS_ENDPOINT"]) {
            Some((name, given)) => {
                let invalid = |expected| EnvironmentError::Invalid { name: name.to_owned(), expected };
                policy::cloud_address(&given).map(str::to_owned).map_err(invalid)
            }
            None => default_sts(project.cloud, &project.region).map(str::to_owned).ok_or_else(|| {
                let (cloud, region) = (project.cloud.as_str(), project.region.to_string());
                EnvironmentError::NoStsEndpoint { variable: agency, cloud, region }
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

    fn huawei_terraform(&self) -> Result<Option<LoginSource>, EnvironmentError> {
        if let Some(found) = self.token(&["HW_AUTH_TOKEN"]) {
            return Ok(Some(found));
        }
        if let Some(found) = self.access_key([&["HW_ACCESS_KEY"], &["HW_SECRET_KEY"], &["HW_SECURITY_TOKEN"]])? {
            return Ok(Some(found));
        }
        if let Some(found) =
            self.password(&["HW_USER_NAME", "HW_USER_ID"], &["HW_USER_PASSWORD"], &["HW_DOMAIN_NAME", "HW_DOMAIN_ID"])?
        {
            return Ok(Some(found));
        }
        // Last of these variables, since no document gives their order (`docs/kms-api.md` 5.5).
        let token: VariableNames = &["HW_ASSUME_ROLE_ID_TOKEN", "HW_ASSUME_ROLE_ID_TOKEN_FILE"];
        let provider = self.group([&["HW_ASSUME_ROLE_IDP_ID"], token], [])?;
        Ok(provider.map(|([(id, provider_id), (name, token)], [])| {
            let login = Login::IdToken(IdToken { provider_id, token: secret_or_file(name, token) });
            (login, format!("{id} and {name}")).into()
        }))
    }

    fn open_stack(&self, project: &Project) -> Result<Option<LoginSource>, EnvironmentError> {
        if let Some((_, cloud)) = self.first(&["OS_CLOUD"]) {
            let section = Section::cloud(self, cloud, &project.region)?;
            let fields = section.fields()?;
            let login = section.login(&fields).ok_or_else(|| section.incomplete_cloud(&fields))?;
            let (source, project) = (section.origin(), section.project(&fields));
            return Ok(Some(LoginSource { login, source, project, agency: None }));
        }
        if let Some(found) = self.token(&["OS_TOKEN", "OS_TOKEN_ID", "OS_AUTH_TOKEN"]) {
            return Ok(Some(found));
        }
        let found = self.access_key([
            &["OS_ACCESS_KEY", "OS_ACCESS_KEY_ID", "OS_AK"],
            &["OS_SECRET_KEY", "OS_ACCESS_KEY_SECRET", "OS_SK"],
            &["OS_SECURITY_TOKEN"],
        ])?;
        if found.is_some() {
            return Ok(found);
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
    fn shared_config(&self) -> Result<Option<LoginSource>, EnvironmentError> {
        let Some(section) = Section::shared_config(self)? else { return Ok(None) };
        let fields = section.fields()?;
        let login = section.login(&fields).ok_or_else(|| section.missing("accessKeyId and secretAccessKey"))?;
        let field = |name: &str| fields.get(name).filter(|value| !value.is_empty()).map(|value| value.to_string());
        let account = field("agencyDomainId").map(Named::Id).or_else(|| field("agencyDomainName").map(Named::Name));
        let agency = match (field("agencyName"), account) {
            (None, _) => None,
            (Some(name), Some(account)) => Some(Agency { account, name, duration: None }),
            (Some(_), None) => {
                return Err(section.missing("agencyDomainName or agencyDomainId for its agencyName"));
            }
        };
        Ok(Some(LoginSource { login, source: section.origin(), project: section.project(&fields), agency }))
    }

    /// CCE's pod identity (`docs/kms-api.md` 5.4).
    fn pod(&self) -> Result<Option<LoginSource>, EnvironmentError> {
        const URI: VariableNames = &["HC_CONTAINER_CREDENTIALS_FULL_URI"];
        let Some(([(name, uri), (file, path)], [])) =
            self.group([URI, &["HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"]], [])?
        else {
            return Ok(None);
        };
        // Over `http://` the token is sent only to hosts from which the keys of a metadata service are accepted too: the
        // local link and this machine.
        let invalid = |expected| EnvironmentError::Invalid { name: name.to_owned(), expected };
        policy::check_credential_uri(&uri).map_err(invalid)?;
        let login = Login::Pod(PodIdentity { uri, token: SecretLocation::File(path.into()) });
        Ok(Some((login, format!("{name} and {file}")).into()))
    }

    fn token(&self, names: VariableNames) -> Option<LoginSource> {
        let (name, token) = self.first(names)?;
        Some((Login::Token(SecretLocation::in_memory(token, name)), name.to_owned()).into())
    }

    fn access_key(&self, [id, secret, token]: [VariableNames; 3]) -> Result<Option<LoginSource>, EnvironmentError> {
        let Some(([(id_name, id), (name, secret)], [])) = self.group([id, secret], [])? else { return Ok(None) };
        let security_token = self.first(token).map(|(name, token)| SecretLocation::in_memory(token, name));
        let secret = SecretLocation::in_memory(secret, name);
        let id = AccessKeyIdSource::In(SecretLocation::in_memory(id, id_name));
        let login = Login::AccessKey(AccessKeyFiles { id, secret, security_token });
        Ok(Some((login, format!("{id_name} and {name}")).into()))
    }

    /// A user's name needs the account; an id is unique.
    fn password(
        &self,
        user: VariableNames,
        password: VariableNames,
        domain: VariableNames,
    ) -> Result<Option<LoginSource>, EnvironmentError> {
        let by_id = matches!(self.first(user).map(named), Some(Named::Id(_)));
        let found = if by_id {
            self.group([user, password], [])?.map(|(found, [])| (found, self.first(domain)))
        } else {
            self.group([user, password], [domain])?.map(|(found, [domain])| (found, Some(domain)))
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
    fn agency(&self) -> Result<Option<Agency>, EnvironmentError> {
        match self.assumed_role()? {
            None => self.open_stack_agency(),
            found => Ok(found),
        }
    }

    /// The Terraform provider's block `assume_role`, by variables. It calls STS with the id of the agency's account;
    /// the call of IAM that is used here accepts an id or a name (`docs/kms-api.md` 5.1).
    fn assumed_role(&self) -> Result<Option<Agency>, EnvironmentError> {
        const ACCOUNT: VariableNames = &["HW_ASSUME_ROLE_DOMAIN_ID", "HW_ASSUME_ROLE_DOMAIN_NAME"];
        let found = self.group([&["HW_ASSUME_ROLE_AGENCY_NAME"], ACCOUNT], [])?;
        let Some(([(_, name), (by, account)], [])) = found else { return Ok(None) };
        let duration = self.seconds(&["HW_ASSUME_ROLE_DURATION"])?.map(Duration::from_secs);
        Ok(Some(Agency { account: named((by, account)), name, duration }))
    }

    fn open_stack_agency(&self) -> Result<Option<Agency>, EnvironmentError> {
        let found = self.group([&["OS_AGENCY_NAME"], &["OS_AGENCY_DOMAIN_NAME"]], [])?;
        Ok(found.map(|([(_, name), (_, account)], [])| Agency { account: Named::Name(account), name, duration: None }))
    }
}

/// A name or an id, depending on the variable's name.
fn named((name, value): SetVariable) -> Named {
    if name.ends_with("ID") { Named::Id(value) } else { Named::Name(value) }
}

/// A secret in the variable, or in the file that the variable names.
fn secret_or_file(name: &'static str, value: String) -> SecretLocation {
    if name.ends_with("_FILE") {
        SecretLocation::File(PathBuf::from(value))
    } else {
        SecretLocation::in_memory(value, name)
    }
}
