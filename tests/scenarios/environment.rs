//! `environment: {}`: what the official clients would find is found, in their order, and never shown.

use kms_rotationd::simulator::Operation;

use super::access_keys::{ACCESS, SECRET, keyed, temporary_key};
use super::cloud::{Cloud, off};
use super::program::Program;
use super::secrets::JWT;
use super::site::{Policy, Site};
use super::{ACCOUNT, KEY, PASSWORD, TOKEN, USER, eventually};

fn cloud() -> Cloud {
    Cloud::start(keyed([off()]).identity_provider("cluster", JWT))
}

/// A folder, which is its own home, with these variables.
fn site(cloud: &Cloud, variables: &[(&str, &str)]) -> Site {
    let mut site = Site::new(&Policy::of_one_key(cloud.url()).with("{environment: {}}"));
    let home = site.folder().to_str().unwrap().to_owned();
    site.set("HOME", &home);
    for (name, value) in variables {
        site.set(name, value);
    }
    site.write("jwt", JWT);
    site
}

/// What `check` says of the source, which has no secret in it.
#[track_caller]
fn source(site: &Site) -> String {
    let checked = Program::start(site.command(&["check", "--policy", "policy.yaml"])).finish();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for secret in [SECRET, PASSWORD, TOKEN, JWT] {
        assert!(!format!("{checked:?}").contains(secret), "{checked:?}");
    }
    let line = checked.stdout.lines().find_map(|line| line.strip_prefix("payments: environment: "));
    line.unwrap_or_else(|| panic!("no source in {checked:?}")).to_owned()
}

/// With these variables the key comes to its policy, and `check` names the source.
#[track_caller]
fn assert_found(variables: &[(&str, &str)], expected: &str) -> Cloud {
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
    let mut variables = vec![("OS_USERNAME", USER), ("OS_PASSWORD", PASSWORD), ("OS_USER_DOMAIN_NAME", ACCOUNT)];
    let steps: [(&[(&str, &str)], &str); 8] = [
        (&[], "OS_USERNAME and OS_PASSWORD"),
        (&[("OS_AK", ACCESS), ("OS_SK", SECRET)], "OS_AK and OS_SK"),
        (&[("OS_TOKEN", TOKEN)], "OS_TOKEN"),
        (
            &[("HW_USER_NAME", USER), ("HW_USER_PASSWORD", PASSWORD), ("HW_DOMAIN_NAME", ACCOUNT)],
            "HW_USER_NAME and HW_USER_PASSWORD",
        ),
        (&[("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET)], "HW_ACCESS_KEY and HW_SECRET_KEY"),
        (&[("HW_AUTH_TOKEN", TOKEN)], "HW_AUTH_TOKEN"),
        (
            &[("HUAWEICLOUD_SDK_AK", ACCESS), ("HUAWEICLOUD_SDK_SK", SECRET)],
            "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
        ),
        (
            &[("HUAWEICLOUD_SDK_IDP_ID", "cluster"), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "jwt")],
            "HUAWEICLOUD_SDK_IDP_ID and HUAWEICLOUD_SDK_ID_TOKEN_FILE",
        ),
    ];
    for (more, expected) in steps {
        variables.extend(more);
        assert_eq!(source(&site(&cloud(), &variables)), expected);
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
        ("HW_USER_NAME", "HW_USER_PASSWORD"),
        ("HW_USER_PASSWORD", "HW_USER_NAME"),
        ("OS_AK", "OS_SECRET_KEY or OS_ACCESS_KEY_SECRET or OS_SK"),
        ("OS_SK", "OS_ACCESS_KEY or OS_ACCESS_KEY_ID or OS_AK"),
        ("OS_USERNAME", "OS_PASSWORD"),
        ("OS_PASSWORD", "OS_USERNAME"),
    ] {
        let cloud = cloud();
        let site = site(&cloud, &[(given, SECRET)]);
        let expected = format!("{given} is set, but not {missing}");
        assert_eq!(source(&site), expected);
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
        source(&site)
    };
    let profile = [("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "profile")];
    assert!(files("", "", &profile).starts_with("cannot read profile: "));
    assert_eq!(files("profile", "[basic]\nak = A\n", &profile), "profile has no ak and sk in its section [basic]");
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
