//! `environment: {}`: the project is the policy's or that of the environment, and never silently another one.

use kms_simulator::{Operation, ProjectSetup};

use super::access_keys::{ACCESS, SECRET, keyed};
use super::cloud::{Cloud, off};
use super::environment::{no_source, noted, shared_config, site};
use super::rehearsal::rehearse;
use super::secrets::JWT;
use super::site::{Policy, Site};
use super::workload::{AGENCY_URN, POD, POD_TOKEN, PROVIDER_URN, STS};
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, USER};

type Variables<'v> = &'v [(&'v str, &'v str)];

/// The selected project, and its token.
const NAMED: &str = "fedcba9876543210fedcba9876543210";
const NAME: &str = "eu-de_payments";
const ITS_TOKEN: &str = "tOkEn-of-the-named-project";

const SDK_KEY: Variables<'_> = &[("HUAWEICLOUD_SDK_AK", ACCESS), ("HUAWEICLOUD_SDK_SK", SECRET)];
const SDK_PROVIDER: Variables<'_> = &[("HUAWEICLOUD_SDK_IDP_ID", "cluster"), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "jwt")];
const SDK_PROFILE: Variables<'_> = &[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "profile")];
const HW_KEY: Variables<'_> = &[("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET)];
const HW_PASSWORD: Variables<'_> =
    &[("HW_USER_NAME", USER), ("HW_USER_PASSWORD", PASSWORD), ("HW_DOMAIN_NAME", ACCOUNT)];
const HW_TOKEN: Variables<'_> = &[("HW_AUTH_TOKEN", ITS_TOKEN)];
const HW_PROFILE: Variables<'_> = &[("HW_SHARED_CONFIG_FILE", "hcloud.json")];
const OS_KEY: Variables<'_> = &[("OS_ACCESS_KEY", ACCESS), ("OS_SECRET_KEY", SECRET)];
const OS_PASSWORD: Variables<'_> =
    &[("OS_USERNAME", USER), ("OS_PASSWORD", PASSWORD), ("OS_USER_DOMAIN_NAME", ACCOUNT)];
const OS_TOKEN: Variables<'_> = &[("OS_TOKEN", ITS_TOKEN)];
const OS_CLOUD: Variables<'_> = &[("OS_CLOUD", "otc")];

/// A cloud with a project of the region's name and another one, each with a key of the same id.
fn cloud() -> Cloud {
    let named = ProjectSetup::new(NAMED, NAME).domain(ACCOUNT).key(off()).token(ITS_TOKEN);
    let setup = keyed([off()]).project(named).identity_provider("cluster", JWT);
    Cloud::start(setup.oidc_agency(PROVIDER_URN, AGENCY_URN, JWT).pod_identity(POD_TOKEN))
}

/// A folder whose policy has no `project_id`.
fn without_id(cloud: &Cloud, variables: Variables<'_>) -> Site {
    let site = site(cloud, variables);
    site.write("policy.yaml", &Policy::of_one_key(cloud.url()).with("{environment: {}}").without_id().text());
    site
}

/// `check` reports this as the source of the project, and a run uses only that project.
#[track_caller]
fn assert_named(cloud: &Cloud, site: &Site, expected: &str) {
    assert_eq!(noted(site).1, expected);
    let applied = site.apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{expected}: {applied:#?}");
    assert_eq!(
        (cloud.intervals_sent(NAMED, KEY).len(), cloud.intervals_sent(PROJECT, KEY).len()),
        (1, 0),
        "{expected}"
    );
}

#[test]
fn a_variable_selects_the_project() {
    for (login, variable) in [
        (STS, "HUAWEICLOUD_SDK_PROJECT_ID"),
        (SDK_PROVIDER, "HUAWEICLOUD_SDK_PROJECT_ID"),
        (SDK_KEY, "HUAWEICLOUD_SDK_PROJECT_ID"),
        (SDK_PROFILE, "HUAWEICLOUD_SDK_PROJECT_ID"),
        (HW_KEY, "HW_PROJECT_ID"),
        (HW_KEY, "HW_PROJECT_NAME"),
        (HW_PASSWORD, "HW_PROJECT_ID"),
        (HW_PASSWORD, "HW_PROJECT_NAME"),
        (HW_TOKEN, "HW_PROJECT_ID"),
        (HW_TOKEN, "HW_PROJECT_NAME"),
        (HW_PROFILE, "HW_PROJECT_NAME"),
        (OS_KEY, "OS_PROJECT_ID"),
        (OS_KEY, "OS_TENANT_ID"),
        (OS_KEY, "OS_PROJECT_NAME"),
        (OS_KEY, "OS_TENANT_NAME"),
        (OS_PASSWORD, "OS_PROJECT_ID"),
        (OS_PASSWORD, "OS_TENANT_ID"),
        (OS_PASSWORD, "OS_PROJECT_NAME"),
        (OS_PASSWORD, "OS_TENANT_NAME"),
        (OS_TOKEN, "OS_PROJECT_ID"),
        (OS_TOKEN, "OS_PROJECT_NAME"),
        // A variable of another client, if the client of the credentials has none.
        (SDK_KEY, "OS_PROJECT_NAME"),
        (HW_KEY, "OS_PROJECT_NAME"),
        (OS_KEY, "HW_PROJECT_NAME"),
        (OS_KEY, "HUAWEICLOUD_SDK_PROJECT_ID"),
        (POD, "HW_PROJECT_NAME"),
    ] {
        let cloud = cloud();
        let value = if variable.ends_with("ID") { NAMED } else { NAME };
        let site = without_id(&cloud, &[login, &[(variable, &format!("{value}\n"))]].concat());
        assert_named(&cloud, &site, &format!("{value}, from {variable}"));
    }
}

#[test]
fn a_file_selects_the_project() {
    let cloud = cloud();
    let named = |cloud: &Cloud, login, file: &str, text: &str, expected: &str| {
        cloud.forget_requests();
        cloud.set_key(NAMED, off());
        let site = without_id(cloud, login);
        site.write(file, text);
        assert_named(cloud, &site, expected);
    };
    let profile = format!("[basic]\nak = {ACCESS}\nsk = {SECRET}\nproject_id = {NAMED}\n");
    let shown = format!("{NAMED}, from project_id in section [basic] of profile");
    named(&cloud, SDK_PROFILE, "profile", &profile, &shown);
    let shared = shared_config(&format!(r#", "projectId": "{NAMED}""#));
    let shown = format!("{NAMED}, from projectId in the current profile of hcloud.json");
    named(&cloud, HW_PROFILE, "hcloud.json", &shared, &shown);
    let key = format!("ak: {ACCESS}, sk: {SECRET}");
    let password = format!("username: {USER}, user_domain_name: {ACCOUNT}, password: {PASSWORD}");
    for login in [&key, &password] {
        for (field, text) in [
            ("project_name", format!("{{auth: {{{login}, project_name: {NAME}}}}}")),
            ("project_name", format!("{{auth: {{{login}, project-name: {NAME}}}}}")),
            ("tenant_name", format!("{{auth: {{{login}, tenant_name: {NAME}}}}}")),
            ("project_id", format!("{{auth: {{{login}, project_id: {NAMED}}}}}")),
            ("tenant_id", format!("{{auth: {{{login}, tenant_id: {NAMED}}}}}")),
            // Outside of `auth`, which openstacksdk prefers, and with the id before the name.
            ("project_name", format!("{{project_name: {NAME}, auth: {{{login}, project_name: eu-de}}}}")),
            ("project_id", format!("{{project_id: {NAMED}, auth: {{{login}, project_name: eu-de}}}}")),
            // From the policy's region.
            (
                "project_name",
                format!(
                    "{{auth: {{{login}, project_name: eu-nl}}, regions: [eu-ch2, {{name: eu-nl, values: {{auth: \
                     {{project_name: eu-nl}}}}}}, {{name: eu-de, values: {{auth: {{project_name: {NAME}}}}}}}]}}"
                ),
            ),
        ] {
            let value = if field.ends_with("id") { NAMED } else { NAME };
            let clouds = format!("clouds:\n  other: {{auth: {{{login}, project_name: eu-de}}}}\n  otc: {text}\n");
            let shown = format!("{value}, from {field} in cloud otc of ./clouds.yaml");
            named(&cloud, OS_CLOUD, "clouds.yaml", &clouds, &shown);
        }
    }
}

#[test]
fn a_setting_of_the_same_client_takes_precedence_over_another_clients_variable() {
    let cloud = cloud();
    let others = [("HW_PROJECT_NAME", "eu-de"), ("HUAWEICLOUD_SDK_PROJECT_ID", PROJECT)];
    let site = without_id(&cloud, &[OS_KEY, &[("OS_PROJECT_NAME", NAME)], &others].concat());
    assert_named(&cloud, &site, &format!("{NAME}, from OS_PROJECT_NAME"));
    let cloud = self::cloud();
    let site = without_id(&cloud, &[OS_CLOUD, &[("OS_PROJECT_NAME", "eu-de")], &others].concat());
    let auth = format!("{{ak: {ACCESS}, sk: {SECRET}, project_name: {NAME}}}");
    site.write("clouds.yaml", &format!("clouds: {{otc: {{auth: {auth}}}}}"));
    assert_named(&cloud, &site, &format!("{NAME}, from project_name in cloud otc of ./clouds.yaml"));
}

#[test]
fn the_policys_project_id_takes_precedence_over_the_environment() {
    for login in [OS_KEY, OS_PASSWORD, HW_PASSWORD] {
        for (variable, value) in [("OS_PROJECT_NAME", "eu-de"), ("OS_PROJECT_ID", PROJECT), ("OS_PROJECT_ID", NAMED)] {
            let cloud = cloud();
            let site = site(&cloud, &[login, &[(variable, value)]].concat());
            let policy = Policy { project_id: NAMED, ..Policy::of_one_key(cloud.url()).with("{environment: {}}") };
            site.write("policy.yaml", &policy.text());
            let (_, project, warnings) = noted(&site);
            let expected = format!("{NAMED}, from project_id of the policy");
            let (unused, warning) = match value {
                "eu-de" => ("; OS_PROJECT_NAME (eu-de) is ignored".to_owned(), None),
                NAMED => (String::new(), None),
                _ => {
                    let unused = format!("OS_PROJECT_ID ({PROJECT}) is ignored");
                    (String::new(), Some(format!("project `payments` has project_id {NAMED}; {unused}")))
                }
            };
            assert_eq!((project, warnings), (expected.clone() + &unused, Vec::from_iter(warning)));
            let applied = site.apply();
            assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{variable}: {applied:#?}");
            let sent = [NAMED, PROJECT].map(|project| cloud.intervals_sent(project, KEY).len());
            assert_eq!((sent, cloud.requests(Operation::ListProjects)), ([1, 0], 0));
        }
    }
}

#[test]
fn the_region_is_the_default_for_the_project() {
    let cloud = cloud();
    let site = without_id(&cloud, OS_KEY);
    assert_eq!(noted(&site).1, "eu-de, from the region (neither the policy nor the environment names a project)");
    assert_eq!(site.apply().key(KEY), "compliant");
    assert_eq!([NAMED, PROJECT].map(|project| cloud.intervals_sent(project, KEY).len()), [0, 1]);
}

#[test]
fn a_wrong_project_of_the_environment_is_not_replaced_by_another_one() {
    for login in [OS_KEY, OS_PASSWORD] {
        let cloud = cloud();
        let site = without_id(&cloud, &[login, &[("OS_PROJECT_NAME", "eu-de_paiments")]].concat());
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: authentication_failed"));
        assert_eq!((cloud.write_requests(), cloud.requests(Operation::ListKeys)), (0, 0));
        let site = without_id(&cloud, &[login, &[("OS_PROJECT_ID", "../eu-de")]].concat());
        let why = "OS_PROJECT_ID is not a project id, expected 32 hexadecimal digits in lower case";
        assert_eq!(no_source(&site), why);
        assert_eq!(site.apply().report().error(), format!("cannot use the credentials: {why}"));
    }
}

#[test]
fn a_rehearsal_ignores_the_project_of_the_environment() {
    for (variable, value) in [("OS_PROJECT_NAME", NAME), ("OS_PROJECT_ID", NAMED)] {
        let mut site = Site::new(&Policy::of_one_key("https://kms.invalid").with("{environment: {}}").without_id());
        for (name, value) in [OS_KEY, &[(variable, value)]].concat() {
            site.set(name, value);
        }
        let daemon = rehearse(&site, &[]);
        daemon.await_runs(1);
        assert_eq!(daemon.status().key_status(KEY), "compliant", "{variable}");
    }
}
