//! `environment: {}`: finds the same credentials as the official clients, in their order, and never shows them.

use kms_simulator::{Operation, Setup};
use serde_json::Value;

use super::access_keys::{ACCESS, SECRET, keyed, temporary_key};
use super::cloud::{Cloud, off};
use super::program::Program;
use super::secrets::JWT;
use super::site::{Policy, Site};
use super::workload::{AGENCY_URN, POD, POD_TOKEN, PROVIDER_URN, STS};
use super::{ACCOUNT, KEY, PASSWORD, TOKEN, USER};

/// All users and agencies of these tests, and one key.
pub(super) fn everybody() -> Setup {
    let setup = keyed([off()]).identity_provider("cluster", JWT);
    setup.oidc_agency(PROVIDER_URN, AGENCY_URN, JWT).pod_identity(POD_TOKEN)
}

/// The same as a cloud.
pub(super) fn cloud() -> Cloud {
    Cloud::start(everybody())
}

/// A folder, which is also the home folder, with these variables.
pub(super) fn site(cloud: &Cloud, variables: &[(&str, &str)]) -> Site {
    let mut site = Site::new(&Policy::of_one_key(cloud.url()).with("{environment: {}}"));
    let home = site.folder().to_str().unwrap().to_owned();
    site.set("HOME", &home);
    for (name, value) in variables {
        site.set(name, &value.replace("{url}", cloud.url()));
    }
    site.write("jwt", JWT);
    site.write("pod-token", POD_TOKEN);
    site.write("profile", &format!("[basic]\nak = {ACCESS}\nsk = {SECRET}\n"));
    site.write("hcloud.json", &shared_config(""));
    site
}

/// A shared configuration of two profiles; the current one has these additional fields.
pub(super) fn shared_config(more: &str) -> String {
    format!(
        r#"{{"current": "mine", "profiles": [
            {{"name": "default", "accessKeyId": "AKOFNOBODY", "secretAccessKey": "none"}},
            {{"name": "mine", "accessKeyId": "{ACCESS}", "secretAccessKey": "{SECRET}", "securityToken": ""{more}}}
        ]}}"#
    )
}

/// The text and JSON of `check`, without secrets, and the exit code.
#[track_caller]
fn check(site: &Site) -> (Option<i32>, String, Vec<Value>) {
    let checked = Program::start(site.command(&["check", "--policy", "policy.yaml"])).finish();
    let json = site.once("check");
    assert_eq!(checked.code, json.code);
    for secret in [SECRET, PASSWORD, TOKEN, JWT, POD_TOKEN] {
        assert!(!format!("{checked:?}{json:?}").contains(secret), "{checked:?} {json:?}");
    }
    (checked.code, checked.stdout, serde_json::from_str(&json.stdout).unwrap())
}

/// The source in the output of `check`.
#[track_caller]
pub(super) fn source(site: &Site) -> String {
    let (source, _, warnings) = noted(site);
    assert_eq!(warnings, [""; 0]);
    source
}

/// The source in the output of `check`, the project, and the warnings.
#[track_caller]
pub(super) fn noted(site: &Site) -> (String, String, Vec<String>) {
    let (code, text, json) = check(site);
    assert_eq!(code, Some(0), "{text}");
    let line = |start: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no {start} in {text}")).to_owned()
    };
    let (source, project) = (line("payments: environment: "), line("payments: project: "));
    let messages = |severity: &str| {
        let of_it = json.iter().filter(|problem| problem["severity"] == severity);
        of_it.map(|problem| problem["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        messages("note"),
        [
            format!("project `payments` uses credentials of the environment: {source}"),
            format!("project `payments` uses the cloud's project {project}"),
        ]
    );
    let warnings = messages("warning");
    assert_eq!(json.len(), 2 + warnings.len(), "{json:?}");
    (source, project, warnings)
}

/// The error of `check` without a source.
#[track_caller]
pub(super) fn no_source(site: &Site) -> String {
    let (code, text, json) = check(site);
    assert_eq!(code, Some(2), "{text}");
    let [problem] = &json[..] else { panic!("one problem, not {json:?}") };
    let (place, why) = text.trim_end().split_once(": project `payments` has no credentials: ").unwrap();
    assert_eq!(problem["severity"], "error");
    assert_eq!(place, format!("policy.yaml:{}:{}", problem["line"], problem["column"]));
    assert_eq!(problem["message"], format!("project `payments` has no credentials: {why}"));
    let policy = std::fs::read_to_string(site.path("policy.yaml")).unwrap();
    let line = policy.lines().nth(usize::try_from(problem["line"].as_u64().unwrap()).unwrap() - 1).unwrap();
    assert!(line[usize::try_from(problem["column"].as_u64().unwrap()).unwrap() - 1..].starts_with("environment"));
    why.to_owned()
}

/// With these variables the key is set, and `check` names the source.
#[track_caller]
pub(super) fn assert_found(variables: &[(&str, &str)], expected: &str) -> Cloud {
    let cloud = cloud();
    let site = site(&cloud, variables);
    assert_eq!(source(&site), expected);
    let applied = site.apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{expected}: {applied:#?}");
    cloud
}

#[test]
fn the_sdks_variables_are_a_source() {
    let both = "HUAWEICLOUD_SDK_IDP_ID and HUAWEICLOUD_SDK_ID_TOKEN_FILE";
    let cloud = assert_found(&[("HUAWEICLOUD_SDK_IDP_ID", "cluster"), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "jwt")], both);
    assert_eq!(cloud.requests(Operation::IdToken), 1);
    let cloud = assert_found(
        &[("HUAWEICLOUD_SDK_AK", ACCESS), ("HUAWEICLOUD_SDK_SK", SECRET)],
        "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
    );
    assert_eq!(cloud.access_keys_seen(), [ACCESS]);
}

#[test]
fn terraforms_variables_are_a_source() {
    assert_found(&[("HW_AUTH_TOKEN", TOKEN)], "HW_AUTH_TOKEN");
    assert_found(&[("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET)], "HW_ACCESS_KEY and HW_SECRET_KEY");
    let password = [("HW_USER_NAME", USER), ("HW_USER_PASSWORD", PASSWORD), ("HW_DOMAIN_NAME", ACCOUNT)];
    assert_found(&password, "HW_USER_NAME and HW_USER_PASSWORD");
    assert_found(&[&password[..], &[("HW_PROJECT_NAME", "eu-de")]].concat(), "HW_USER_NAME and HW_USER_PASSWORD");
}

#[test]
fn openstacks_variables_are_a_source_under_each_of_their_names() {
    for name in ["OS_TOKEN", "OS_TOKEN_ID", "OS_AUTH_TOKEN"] {
        assert_found(&[(name, TOKEN)], name);
    }
    for (id, secret) in
        [("OS_ACCESS_KEY", "OS_SECRET_KEY"), ("OS_ACCESS_KEY_ID", "OS_ACCESS_KEY_SECRET"), ("OS_AK", "OS_SK")]
    {
        assert_found(&[(id, ACCESS), (secret, SECRET)], &format!("{id} and {secret}"));
    }
    for domain in ["OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME", "OS_PROJECT_DOMAIN_NAME"] {
        let variables = [("OS_USERNAME", USER), ("OS_PASSWORD", PASSWORD), (domain, ACCOUNT)];
        assert_found(&variables, "OS_USERNAME and OS_PASSWORD");
    }
}

#[test]
fn users_and_accounts_can_be_given_by_id() {
    for [user, password, domain] in [
        ["HW_USER_NAME", "HW_USER_PASSWORD", "HW_DOMAIN_ID"],
        ["HW_USER_ID", "HW_USER_PASSWORD", "HW_DOMAIN_NAME"],
        ["HW_USER_ID", "HW_USER_PASSWORD", ""],
        ["OS_USERNAME", "OS_PASSWORD", "OS_USER_DOMAIN_ID"],
        ["OS_USERNAME", "OS_PASSWORD", "OS_DOMAIN_ID"],
        ["OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_DOMAIN_ID"],
        ["OS_USER_ID", "OS_PASSWORD", ""],
        ["OS_USERID", "OS_PASSWORD", "OS_DOMAIN_NAME"],
    ] {
        let cloud = cloud();
        let (user_id, domain_id) = (cloud.user_id(USER, ACCOUNT).unwrap(), cloud.domain_id(ACCOUNT));
        let by = |name: &str, id: &str, text: &str| if name.ends_with("ID") { id.to_owned() } else { text.to_owned() };
        let (user_value, domain_value) = (by(user, &user_id, USER), by(domain, &domain_id, ACCOUNT));
        let mut site = site(&cloud, &[(user, &user_value), (password, PASSWORD)]);
        if !domain.is_empty() {
            site.set(domain, &domain_value);
        }
        for project in [None, Some(["HW_PROJECT_NAME", "OS_PROJECT_NAME"])] {
            for name in project.into_iter().flatten() {
                site.set(name, "eu-de");
            }
            assert_eq!(source(&site), format!("{user} and {password}"));
            let applied = site.apply();
            assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{user} {domain}: {applied:#?}");
        }
    }
    let cloud = cloud();
    let of_yaml = site(&cloud, &[("OS_CLOUD", "otc")]);
    let user_id = cloud.user_id(USER, ACCOUNT).unwrap();
    for user in
        [format!("user_id: {user_id}"), format!("username: {USER}, user_domain_id: {}", cloud.domain_id(ACCOUNT))]
    {
        of_yaml.write("clouds.yaml", &format!("clouds: {{otc: {{auth: {{{user}, password: {PASSWORD}}}}}}}"));
        assert_eq!(of_yaml.apply().key(KEY), "compliant", "{user}");
    }
}

#[test]
fn a_security_token_of_the_environment_is_sent_with_its_key() {
    for [id, secret, token] in [
        ["HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN"],
        ["HW_ACCESS_KEY", "HW_SECRET_KEY", "HW_SECURITY_TOKEN"],
        ["OS_ACCESS_KEY", "OS_SECRET_KEY", "OS_SECURITY_TOKEN"],
    ] {
        let cloud = cloud();
        let key = temporary_key(&cloud);
        let site = site(&cloud, &[(id, &key[0]), (secret, &key[1]), (token, &key[2])]);
        assert_eq!(site.apply().key(KEY), "compliant", "{id}");
        assert_eq!(cloud.access_keys_seen(), [&*key[0]]);
    }
}

#[test]
fn a_line_break_at_the_end_of_a_variable_is_not_sent() {
    for variables in [
        &[("OS_TOKEN", TOKEN)][..],
        &[("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET)],
        &[("OS_USERNAME", USER), ("OS_PASSWORD", PASSWORD), ("OS_USER_DOMAIN_NAME", ACCOUNT)],
    ] {
        for line_break in ["\n", "\r\n"] {
            let broken: Vec<_> =
                variables.iter().map(|(name, value)| (*name, format!("{value}{line_break}"))).collect();
            let broken: Vec<_> = broken.iter().map(|(name, value)| (*name, &**value)).collect();
            let cloud = cloud();
            let site = site(&cloud, &broken);
            assert_eq!(site.apply().key(KEY), "compliant", "{variables:?}");
        }
    }
    assert!(source(&site(&cloud(), &[("OS_TOKEN", "\n"), ("HW_SECRET_KEY", "\r\n")])).contains("metadata service"));
}

#[test]
fn a_variable_with_control_characters_is_named_and_not_sent() {
    let key = [("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET)];
    let password = [("OS_USERNAME", USER), ("OS_PASSWORD", PASSWORD), ("OS_USER_DOMAIN_NAME", ACCOUNT)];
    for (variables, name, stray) in [
        (&key[..], "HW_ACCESS_KEY", ("", " ")),
        (&key, "HW_ACCESS_KEY", ("\u{feff}", "")),
        (&key, "HW_SECRET_KEY", ("", " ")),
        (&key, "HW_SECRET_KEY", ("\u{feff}", "")),
        (&password, "OS_PASSWORD", ("\u{feff}", "")),
        (&password, "OS_PASSWORD", ("x\n", "")),
    ] {
        let cloud = cloud();
        let mut site = site(&cloud, variables);
        let (_, value) = variables.iter().find(|(found, _)| *found == name).unwrap();
        site.set(name, &format!("{}{value}{}", stray.0, stray.1));
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: authentication_failed"), "{name}");
        let error = applied.report().error();
        assert!(error.contains(name) && !error.contains(value), "{error}");
        assert_eq!(cloud.all_requests(), 0, "{name}");
    }
}

#[test]
fn the_metadata_service_is_the_last_source() {
    assert!(source(&site(&cloud(), &[])).contains("metadata service"));
    // An empty variable counts as not set.
    let empty = [("HUAWEICLOUD_SDK_AK", ""), ("HW_AUTH_TOKEN", ""), ("OS_CLOUD", ""), ("OS_TOKEN", "")];
    assert!(source(&site(&cloud(), &empty)).contains("metadata service"));
}

#[test]
fn the_order_is_the_documented_one() {
    let mut variables = Vec::new();
    let steps: [(&[(&str, &str)], &str); 15] = [
        (&[], "the machine's metadata service (no other credentials are set)"),
        (POD, "HC_CONTAINER_CREDENTIALS_FULL_URI and HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        (&[("HW_SHARED_CONFIG_FILE", "hcloud.json")], "the current profile of hcloud.json"),
        (
            &[("OS_USERNAME", USER), ("OS_PASSWORD", PASSWORD), ("OS_USER_DOMAIN_NAME", ACCOUNT)],
            "OS_USERNAME and OS_PASSWORD",
        ),
        (&[("OS_AK", ACCESS), ("OS_SK", SECRET)], "OS_AK and OS_SK"),
        (&[("OS_TOKEN", TOKEN)], "OS_TOKEN"),
        (&[("OS_CLOUD", "otc")], "cloud otc of ./clouds.yaml"),
        (
            &[("HW_ASSUME_ROLE_IDP_ID", "cluster"), ("HW_ASSUME_ROLE_ID_TOKEN_FILE", "jwt")],
            "HW_ASSUME_ROLE_IDP_ID and HW_ASSUME_ROLE_ID_TOKEN_FILE",
        ),
        (
            &[("HW_USER_NAME", USER), ("HW_USER_PASSWORD", PASSWORD), ("HW_DOMAIN_NAME", ACCOUNT)],
            "HW_USER_NAME and HW_USER_PASSWORD",
        ),
        (&[("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET)], "HW_ACCESS_KEY and HW_SECRET_KEY"),
        (&[("HW_AUTH_TOKEN", TOKEN)], "HW_AUTH_TOKEN"),
        (&[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "profile")], "section [basic] of profile"),
        (
            &[("HUAWEICLOUD_SDK_AK", ACCESS), ("HUAWEICLOUD_SDK_SK", SECRET)],
            "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
        ),
        (
            &[("HUAWEICLOUD_SDK_IDP_ID", "cluster"), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "jwt")],
            "HUAWEICLOUD_SDK_IDP_ID and HUAWEICLOUD_SDK_ID_TOKEN_FILE",
        ),
        (STS, "HUAWEICLOUD_OIDC_AGENCY_URN and HUAWEICLOUD_OIDC_TOKEN_FILE"),
    ];
    for (more, expected) in steps {
        variables.extend(more);
        let site = site(&cloud(), &variables);
        site.write("clouds.yaml", &format!("clouds: {{otc: {{auth: {{token: {TOKEN}}}}}}}"));
        assert_eq!(source(&site), expected);
    }
}

/// The missing variables, if only the user is set.
const OS_DOMAINS: &str = "OS_PASSWORD, nor OS_USER_DOMAIN_NAME or OS_DOMAIN_NAME or OS_PROJECT_DOMAIN_NAME or \
                          OS_USER_DOMAIN_ID or OS_DOMAIN_ID or OS_PROJECT_DOMAIN_ID";

#[test]
fn an_incomplete_source_is_named_and_no_other_is_tried() {
    for (given, missing) in [
        ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),
        ("HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_AK"),
        ("HUAWEICLOUD_SDK_IDP_ID", "HUAWEICLOUD_SDK_ID_TOKEN_FILE"),
        ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "HUAWEICLOUD_SDK_IDP_ID"),
        ("HW_ACCESS_KEY", "HW_SECRET_KEY"),
        ("HW_SECRET_KEY", "HW_ACCESS_KEY"),
        ("HW_USER_NAME", "HW_USER_PASSWORD, nor HW_DOMAIN_NAME or HW_DOMAIN_ID"),
        ("HW_USER_PASSWORD", "HW_USER_NAME or HW_USER_ID, nor HW_DOMAIN_NAME or HW_DOMAIN_ID"),
        ("HW_USER_ID", "HW_USER_PASSWORD"),
        ("HW_ASSUME_ROLE_IDP_ID", "HW_ASSUME_ROLE_ID_TOKEN or HW_ASSUME_ROLE_ID_TOKEN_FILE"),
        ("HW_ASSUME_ROLE_AGENCY_NAME", "HW_ASSUME_ROLE_DOMAIN_ID or HW_ASSUME_ROLE_DOMAIN_NAME"),
        ("HW_ASSUME_ROLE_DOMAIN_NAME", "HW_ASSUME_ROLE_AGENCY_NAME"),
        ("OS_AGENCY_NAME", "OS_AGENCY_DOMAIN_NAME"),
        ("OS_AGENCY_DOMAIN_NAME", "OS_AGENCY_NAME"),
        ("HC_CONTAINER_CREDENTIALS_FULL_URI", "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", "HC_CONTAINER_CREDENTIALS_FULL_URI"),
        ("HUAWEICLOUD_OIDC_ID_TOKEN", "HUAWEICLOUD_OIDC_PROVIDER_URN, nor HUAWEICLOUD_OIDC_AGENCY_URN"),
        (
            "HUAWEICLOUD_OIDC_AGENCY_URN",
            "HUAWEICLOUD_OIDC_PROVIDER_URN, nor HUAWEICLOUD_OIDC_ID_TOKEN or HUAWEICLOUD_OIDC_TOKEN_FILE",
        ),
        ("OS_AK", "OS_SECRET_KEY or OS_ACCESS_KEY_SECRET or OS_SK"),
        ("OS_SK", "OS_ACCESS_KEY or OS_ACCESS_KEY_ID or OS_AK"),
        ("OS_USERNAME", OS_DOMAINS),
        ("OS_USERID", "OS_PASSWORD"),
    ] {
        let cloud = cloud();
        let site = site(&cloud, &[(given, SECRET)]);
        let expected = format!("{given} is set, but not {missing}");
        assert_eq!(no_source(&site), expected);
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: authentication_failed"), "{expected}");
        assert_eq!(applied.report().error(), format!("cannot use the credentials: {expected}"));
        assert_eq!(cloud.all_requests(), 0, "{expected}");
    }
}
