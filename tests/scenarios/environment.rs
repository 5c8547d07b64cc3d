//! `environment: {}`: what the official clients would find is found, in their order, and never shown.

use std::time::Duration;

use kms_rotationd::simulator::{Fault, Operation, Rule};
use serde_json::Value;

use super::access_keys::{ACCESS, SECRET, keyed, temporary_key};
use super::cloud::{Cloud, many, off};
use super::program::Program;
use super::secrets::JWT;
use super::site::{Policy, Site};
use super::workload::{AGENCY_URN, POD, POD_TOKEN, PROVIDER_URN, STS};
use super::{ACCOUNT, KEY, PASSWORD, TOKEN, USER, eventually, key_id};

/// Everybody whom an environment of these tests may name, and one key.
pub(super) fn cloud() -> Cloud {
    let setup = keyed([off()]).identity_provider("cluster", JWT);
    Cloud::start(setup.oidc_agency(PROVIDER_URN, AGENCY_URN, JWT).pod_identity(POD_TOKEN))
}

/// A folder, which is its own home, with these variables.
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

/// A shared configuration of two profiles, of which the current one has these further fields.
pub(super) fn shared_config(more: &str) -> String {
    format!(
        r#"{{"current": "mine", "profiles": [
            {{"name": "default", "accessKeyId": "AKOFNOBODY", "secretAccessKey": "none"}},
            {{"name": "mine", "accessKeyId": "{ACCESS}", "secretAccessKey": "{SECRET}", "securityToken": ""{more}}}
        ]}}"#
    )
}

/// What `check` says in text and in JSON, which has no secret in it, and how it ends.
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

/// The source that `check` names.
#[track_caller]
pub(super) fn source(site: &Site) -> String {
    let (code, text, json) = check(site);
    assert_eq!(code, Some(0), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("payments: environment: "));
    let source = line.unwrap_or_else(|| panic!("no source in {text}")).to_owned();
    let [note] = &json[..] else { panic!("one note, not {json:?}") };
    assert_eq!(note["severity"], "note");
    assert_eq!(note["message"], format!("project `payments` logs in by its environment: {source}"));
    source
}

/// Why `check` finds none.
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

/// With these variables the key comes to its policy, and `check` names the source.
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
fn a_security_token_of_the_environment_goes_with_its_key() {
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
fn the_sdks_profile_file_is_a_source_at_home_or_where_it_is_named() {
    let key = format!("# a comment\n[global]\nak = x\nsk = y\n\n[basic]\nak = {ACCESS}\nsk={SECRET}\n");
    let vouched = "[basic]\nidp_id = cluster\nid_token_file = jwt\n".to_owned();
    for text in [key, vouched] {
        let cloud = cloud();
        let at_home = site(&cloud, &[]);
        std::fs::create_dir(at_home.path(".huaweicloud")).unwrap();
        at_home.write(".huaweicloud/credentials", &text);
        let shown = at_home.path(".huaweicloud/credentials");
        assert_eq!(source(&at_home), format!("section [basic] of {}", shown.display()));
        assert_eq!(at_home.apply().key(KEY), "compliant");
        let named = site(&cloud, &[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "profile")]);
        named.write("profile", &text);
        assert_eq!(source(&named), "section [basic] of profile");
        assert_eq!(named.apply().key(KEY), "compliant");
    }
}

#[test]
fn clouds_yaml_is_a_source_with_what_secure_yaml_adds() {
    let password = format!("auth: {{username: {USER}, user_domain_name: {ACCOUNT}, project_name: eu-de}}");
    for (public, private) in [
        (password, format!("auth: {{password: {PASSWORD}}}")),
        (format!("auth: {{ak: {ACCESS}}}"), format!("auth: {{sk: {SECRET}}}")),
        (format!("auth: {{access_key: {ACCESS}}}"), format!("auth: {{secret_key: {SECRET}}}")),
        ("region_name: eu-de".to_owned(), format!("auth: {{token: {TOKEN}}}")),
    ] {
        let cloud = cloud();
        for folder in ["", ".config/openstack/", "elsewhere/"] {
            let mut variables = vec![("OS_CLOUD", "otc")];
            if folder == "elsewhere/" {
                variables.push(("OS_CLIENT_CONFIG_FILE", "elsewhere/clouds.yaml"));
            }
            let site = site(&cloud, &variables);
            std::fs::create_dir_all(site.path(folder)).unwrap();
            site.write(&format!("{folder}clouds.yaml"), &format!("clouds:\n  otc:\n    {public}\n  other: {{}}\n"));
            site.write(&format!("{folder}secure.yaml"), &format!("clouds:\n  otc:\n    {private}\n"));
            let shown = source(&site);
            assert!(shown.starts_with("cloud otc of ") && shown.ends_with("clouds.yaml"), "{shown}");
            let applied = site.apply();
            assert_eq!(applied.key(KEY), "compliant", "{public} in {folder}: {applied:#?}");
        }
    }
}

#[test]
fn the_machine_itself_is_the_last_source() {
    assert!(source(&site(&cloud(), &[])).contains("metadata service"));
    // Empty is not set.
    let empty = [("HUAWEICLOUD_SDK_AK", ""), ("HW_AUTH_TOKEN", ""), ("OS_CLOUD", ""), ("OS_TOKEN", "")];
    assert!(source(&site(&cloud(), &empty)).contains("metadata service"));
}

#[test]
fn the_order_is_the_documented_one() {
    let mut variables = Vec::new();
    let steps: [(&[(&str, &str)], &str); 15] = [
        (&[], "the machine's metadata service, since no variable says anything else"),
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

#[test]
fn half_of_something_is_named_and_nothing_else_is_tried() {
    for (given, missing) in [
        ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),
        ("HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_AK"),
        ("HUAWEICLOUD_SDK_IDP_ID", "HUAWEICLOUD_SDK_ID_TOKEN_FILE"),
        ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "HUAWEICLOUD_SDK_IDP_ID"),
        ("HW_ACCESS_KEY", "HW_SECRET_KEY"),
        ("HW_SECRET_KEY", "HW_ACCESS_KEY"),
        ("HW_USER_NAME", "HW_USER_PASSWORD, nor HW_DOMAIN_NAME"),
        ("HW_USER_PASSWORD", "HW_USER_NAME, nor HW_DOMAIN_NAME"),
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
        ("OS_USERNAME", "OS_PASSWORD, nor OS_USER_DOMAIN_NAME or OS_DOMAIN_NAME or OS_PROJECT_DOMAIN_NAME"),
        ("OS_PASSWORD", "OS_USERNAME, nor OS_USER_DOMAIN_NAME or OS_DOMAIN_NAME or OS_PROJECT_DOMAIN_NAME"),
    ] {
        let cloud = cloud();
        let site = site(&cloud, &[(given, SECRET)]);
        let expected = format!("{given} is set, but not {missing}");
        assert_eq!(no_source(&site), expected);
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: authentication_failed"), "{expected}");
        assert_eq!(applied.report().error(), expected);
        assert_eq!(cloud.all_requests(), 0, "{expected}");
    }
}

#[test]
fn files_that_the_environment_names_are_told_by_name_when_they_are_no_use() {
    let files = |name: &str, text: &str, variables: &[(&str, &str)]| {
        let site = site(&cloud(), variables);
        if !name.is_empty() {
            site.write(name, text);
        }
        no_source(&site)
    };
    let profile = [("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "a-profile")];
    assert!(files("", "", &profile).starts_with("cannot read a-profile: "));
    assert_eq!(files("a-profile", "[basic]\nak = A\n", &profile), "section [basic] of a-profile has no ak and sk");
    let config = [("HW_SHARED_CONFIG_FILE", "config.json"), ("HW_PROFILE", "theirs")];
    assert!(files("", "", &config).starts_with("cannot read config.json: "));
    assert!(files("", "", &config[1..]).ends_with("/.hcloud/config.json: No such file or directory (os error 2)"));
    assert_eq!(files("config.json", "current: mine", &config), "config.json is no JSON file");
    assert_eq!(files("config.json", &shared_config(""), &config), "config.json has no profile theirs");
    let half = |fields: &str| format!(r#"{{"profiles": [{{"name": "theirs", {fields}}}]}}"#);
    assert_eq!(
        files("config.json", &half(r#""accessKeyId": "A""#), &config),
        "profile theirs of config.json has no accessKeyId and secretAccessKey"
    );
    assert_eq!(
        files("config.json", &half(r#""accessKeyId": "A", "secretAccessKey": "S", "agencyName": "r""#), &config),
        "profile theirs of config.json has an agencyName, but neither agencyDomainName nor agencyDomainId"
    );
    let clouds = [("OS_CLOUD", "otc")];
    assert!(files("", "", &clouds).contains("no clouds.yaml"));
    assert!(files("clouds.yaml", "clouds: {other: {}}", &clouds).contains("has no cloud otc"));
    assert!(files("clouds.yaml", "clouds: [", &clouds).contains("no YAML"));
    let half = format!("clouds: {{otc: {{auth: {{username: {USER}}}}}}}");
    assert!(files("clouds.yaml", &half, &clouds).contains("neither a token"));
}

#[test]
fn a_profile_that_changes_is_found_in_the_next_run() {
    let cloud = cloud();
    let site = site(&cloud, &[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "profile")]);
    let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").every_second();
    site.write("policy.yaml", &policy.text());
    site.write("profile", "[basic]\nak = AKOFNOBODY\nsk = none\n");
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "unknown: authentication_failed");
    site.write("profile", &format!("[basic]\nak = {ACCESS}\nsk = {SECRET}\n"));
    eventually("the new key is used", || daemon.status().key(KEY) == "compliant");
}

#[test]
fn the_shared_configuration_is_a_source_at_home_or_where_it_is_named() {
    let cloud = cloud();
    let at_home = site(&cloud, &[]);
    std::fs::create_dir(at_home.path(".hcloud")).unwrap();
    at_home.write(".hcloud/config.json", &shared_config(""));
    let shown = at_home.path(".hcloud/config.json");
    assert_eq!(source(&at_home), format!("the current profile of {}", shown.display()));
    assert_eq!(at_home.apply().key(KEY), "compliant");
    assert_found(&[("HW_SHARED_CONFIG_FILE", "hcloud.json"), ("HW_PROFILE", "mine")], "profile mine of hcloud.json");
    let temporary = temporary_key(&cloud);
    let with_token = site(&cloud, &[("HW_SHARED_CONFIG_FILE", "hcloud.json")]);
    let [access, secret, token] = &temporary;
    let fields = shared_config("").replace(ACCESS, access).replace(SECRET, secret);
    with_token
        .write("hcloud.json", &fields.replace(r#""securityToken": """#, &format!(r#""securityToken": "{token}""#)));
    cloud.forget_requests();
    assert_eq!(with_token.apply().key(KEY), "compliant");
    assert_eq!(cloud.access_keys_seen(), [&**access]);
}

#[test]
fn a_key_of_a_file_that_changes_is_read_again_in_mid_run() {
    for (variables, file, text) in [
        (&[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "profile")], "profile", "[basic]\nak = AK\nsk = SK\n"),
        (&[("OS_CLOUD", "otc")], "clouds.yaml", "clouds: {otc: {auth: {ak: AK, sk: SK}}}"),
        (
            &[("HW_SHARED_CONFIG_FILE", "hcloud.json")],
            "hcloud.json",
            r#"{"profiles": [{"name": "default", "accessKeyId": "AK", "secretAccessKey": "SK"}]}"#,
        ),
    ] {
        let latency = Rule::always(Fault::delay(Duration::from_millis(20)));
        let cloud = Cloud::start(keyed(many(40)).fault(latency));
        let site = site(&cloud, variables);
        let policy = Policy::of_keys(cloud.url(), (0..40).map(key_id)).with("{environment: {}}");
        site.write("policy.yaml", &policy.text());
        site.write(file, &text.replace("AK", ACCESS).replace("SK", SECRET));
        let daemon = site.run();
        cloud.await_requests(Operation::ReadStatus, 10);
        cloud.set_access_key("KEYOFTODAY", "a-new-secret");
        site.write(file, &text.replace("AK", "KEYOFTODAY").replace("SK", "a-new-secret"));
        cloud.revoke_access_key(ACCESS);
        daemon.await_runs(1);
        assert_eq!(daemon.status().count("compliant"), 40, "{file}");
        assert!(cloud.access_key_requests("KEYOFTODAY") > 0, "{file}");
    }
}

#[test]
fn a_file_that_is_not_there_yet_is_found_in_the_next_run() {
    let cloud = cloud();
    let site = site(&cloud, &[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "mounted-later")]);
    let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").every_second();
    site.write("policy.yaml", &policy.text());
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "unknown: authentication_failed");
    site.write(
        "mounted-later",
        &format!("[basic]\nidp_id = cluster\nid_token_file = {}\n", site.path("jwt").display()),
    );
    eventually("it is found", || daemon.status().key(KEY) == "compliant");
}
