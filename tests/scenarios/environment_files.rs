//! `environment: {}` by files of the official clients: found where those look for them, and read at each login.

use kms_rotationd::simulator::{Hold, Operation};

use super::access_keys::{ACCESS, SECRET, keyed, temporary_key};
use super::cloud::{Cloud, from_the_eleventh_on, many};
use super::environment::{assert_found, cloud, no_source, shared_config, site, source};
use super::site::Policy;
use super::{ACCOUNT, KEY, PASSWORD, TOKEN, USER, eventually, key_id};

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
fn an_empty_field_does_not_hide_the_next_one() {
    let cloud = cloud();
    let clouds = |auth: &str| {
        let site = site(&cloud, &[("OS_CLOUD", "otc")]);
        site.write("clouds.yaml", &format!("clouds: {{otc: {{auth: {{{auth}}}}}}}"));
        site
    };
    let user = format!("username: {USER}, user_domain_name: '', domain_name: {ACCOUNT}");
    let site = clouds(&format!("{user}, password: {PASSWORD}, project_name: '', tenant_name: eu-de"));
    assert_eq!(site.apply().key(KEY), "compliant");
    let refused = clouds(&format!("ak: '', access_key: {ACCESS}, sk: '', secret_key: not-it")).apply();
    let error = refused.report().error();
    assert!(error.contains("access_key in cloud otc") && error.contains("secret_key in cloud otc"), "{error}");
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
    assert_eq!(files("config.json", "current: mine", &config), "config.json is not valid JSON");
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
    assert!(files("clouds.yaml", "clouds: [", &clouds).contains("is not valid YAML"));
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
        let hold = Hold::new();
        let cloud = Cloud::start(keyed(many(40)).fault(from_the_eleventh_on(&hold)));
        let site = site(&cloud, variables);
        let policy = Policy::of_keys(cloud.url(), (0..40).map(key_id)).with("{environment: {}}");
        site.write("policy.yaml", &policy.text());
        site.write(file, &text.replace("AK", ACCESS).replace("SK", SECRET));
        let daemon = site.run();
        cloud.await_requests(Operation::ReadStatus, 11);
        cloud.set_access_key("KEYOFTODAY", "a-new-secret");
        site.write(file, &text.replace("AK", "KEYOFTODAY").replace("SK", "a-new-secret"));
        cloud.revoke_access_key(ACCESS);
        hold.release();
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
