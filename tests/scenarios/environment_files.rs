//! `environment: {}` with files of the official clients: found at the same paths, and read at each login.

use kms_simulator::{Hold, Operation, ProjectSetup, Setup};

use super::access_keys::{ACCESS, SECRET, keyed, temporary_key};
use super::cloud::{Cloud, from_the_eleventh_on, many, off, setup};
use super::environment::{assert_found, cloud, no_source, shared_config, site, source};
use super::site::Policy;
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER, eventually, key_id};

#[test]
fn the_sdks_profile_file_is_a_source_by_default_path_or_variable() {
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
fn clouds_yaml_is_a_source_together_with_secure_yaml() {
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
fn numbers_and_booleans_in_files_are_read_as_text() {
    const NUMBERED: &str = "00000000001000080327";
    for password in ["12345678", "0x5A", "1e400", "12e4567", "true", "1_000", "2027-03-31"] {
        let project = ProjectSetup::new(PROJECT, "0001").domain(NUMBERED).key(off());
        let cloud = Cloud::start(Setup::new().project(project).login("007", NUMBERED, password));
        let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").without_id();
        for (clouds, secure) in [
            (format!("username: 007, domain_name: {NUMBERED}, password: {password}, project_name: 0001"), ""),
            (format!("username: 007, domain_name: {NUMBERED}, project_name: 0001"), password),
        ] {
            let site = site(&cloud, &[("OS_CLOUD", "1")]);
            site.write("policy.yaml", &policy.text());
            let neighbour = "  2: {auth: {username: x, domain_name: y, password: 12e4567}}\n";
            site.write("clouds.yaml", &format!("clouds:\n{neighbour}  1: {{auth: {{{clouds}}}}}\n"));
            if !secure.is_empty() {
                site.write("secure.yaml", &format!("clouds:\n{neighbour}  1: {{auth: {{password: {secure}}}}}\n"));
            }
            let applied = site.apply();
            assert_eq!(applied.key(KEY), "compliant", "{password}: {applied:#?}");
        }
    }
    let secret = "12345678901234567890123456789012";
    let cloud = Cloud::start(setup([off()]).access_key("20240102030405060708090", secret));
    let site = site(&cloud, &[("HW_SHARED_CONFIG_FILE", "hcloud.json"), ("HW_PROFILE", "7")]);
    let profile =
        format!(r#""accessKeyId": 20240102030405060708090, "secretAccessKey": {secret}, "securityToken": null"#);
    site.write("hcloud.json", &format!(r#"{{"profiles": [{{"name": 7, {profile}}}]}}"#));
    assert_eq!(site.apply().key(KEY), "compliant");
}

#[test]
fn a_numeric_field_takes_precedence_over_the_next_one() {
    let cloud = cloud();
    let site = site(&cloud, &[("OS_CLOUD", "otc")]);
    let auth = format!("username: {USER}, user_domain_name: 0123, domain_name: {ACCOUNT}, password: {PASSWORD}");
    site.write("clouds.yaml", &format!("clouds: {{otc: {{auth: {{{auth}}}}}}}"));
    assert_eq!(site.apply().key(KEY), "unknown: authentication_failed");
    assert_eq!(cloud.all_requests(), 1, "the account is 0123, and has no such user");
}

#[test]
fn secrets_of_a_cloud_are_found_where_openstacksdk_looks_for_them() {
    let cloud = cloud();
    let clouds = format!("clouds: {{otc: {{auth: {{username: {USER}, user_domain_name: {ACCOUNT}}}}}}}");
    let secure = format!("clouds: {{otc: {{auth: {{password: {PASSWORD}}}}}}}");
    for (public, private, named) in [
        (".config/openstack/clouds.yaml", "secure.yaml", None),
        ("clouds.yaml", ".config/openstack/secure.json", None),
        ("clouds.json", "elsewhere/mine", Some("elsewhere/mine")),
        ("xdg/openstack/clouds.yml", ".config/openstack/secure.yaml", None),
    ] {
        let mut site = site(&cloud, &[("OS_CLOUD", "otc")]);
        site.set("XDG_CONFIG_HOME", "xdg");
        for folder in [".config/openstack", "xdg/openstack", "elsewhere"] {
            std::fs::create_dir_all(site.path(folder)).unwrap();
        }
        site.write(public, &clouds);
        site.write(private, &secure);
        if let Some(named) = named {
            site.set("OS_CLIENT_SECURE_FILE", named);
            // The file is not read.
            site.write("secure.yaml", "clouds: [");
        }
        let applied = site.apply();
        assert_eq!(applied.key(KEY), "compliant", "{private}: {applied:#?}");
    }
    let site = site(&cloud, &[("OS_CLOUD", "otc"), ("OS_CLIENT_SECURE_FILE", "missing.yaml")]);
    site.write("clouds.yaml", &clouds);
    site.write("secure.yaml", &secure);
    assert_eq!(no_source(&site), "cannot read missing.yaml: No such file or directory (os error 2)");
}

#[test]
fn a_cloud_inherits_from_its_profile_in_clouds_public_yaml() {
    let cloud = cloud();
    let public = format!("public-clouds: {{ours: {{auth: {{user_domain_name: {ACCOUNT}, username: of-nobody}}}}}}");
    let auth = format!("auth: {{username: {USER}, password: {PASSWORD}}}");
    for field in ["profile", "cloud"] {
        for folder in ["", ".config/openstack/"] {
            let site = site(&cloud, &[("OS_CLOUD", "otc")]);
            std::fs::create_dir_all(site.path(folder)).unwrap();
            site.write("clouds.yaml", &format!("clouds: {{otc: {{{field}: ours, {auth}}}}}"));
            site.write(&format!("{folder}clouds-public.yaml"), &public);
            let applied = site.apply();
            assert_eq!(applied.key(KEY), "compliant", "{field} in {folder}: {applied:#?}");
        }
    }
    let site = site(&cloud, &[("OS_CLOUD", "otc")]);
    site.write("clouds.yaml", &format!("clouds: {{otc: {{profile: theirs, {auth}}}}}"));
    site.write("clouds-public.yaml", &public);
    let why = no_source(&site);
    assert!(why.contains("; its profile theirs was looked for in clouds-public.yaml in ., /"), "{why}");
    site.write("clouds-public.yaml", "public-clouds: [");
    assert_eq!(no_source(&site), "./clouds-public.yaml is not valid YAML");
    // The built-in profiles of openstacksdk are not needed.
    std::fs::remove_file(site.path("clouds-public.yaml")).unwrap();
    let auth = format!("auth: {{username: {USER}, user_domain_name: {ACCOUNT}, password: {PASSWORD}}}");
    site.write("clouds.yaml", &format!("clouds: {{otc: {{profile: otc, {auth}}}}}"));
    assert_eq!(site.apply().key(KEY), "compliant");
}

#[test]
fn a_byte_order_mark_is_ignored() {
    let cloud = cloud();
    for (variables, file, text) in [
        (&[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "profile")], "profile", "[basic]\nak = AK\nsk = SK\n"),
        (&[("OS_CLOUD", "otc")], "clouds.yaml", "clouds: {otc: {auth: {ak: AK, sk: SK}}}"),
        (
            &[("HW_SHARED_CONFIG_FILE", "hcloud.json")],
            "hcloud.json",
            r#"{"profiles": [{"name": "default", "accessKeyId": "AK", "secretAccessKey": "SK"}]}"#,
        ),
    ] {
        let site = site(&cloud, variables);
        site.write(file, &format!("\u{feff}{}", text.replace("AK", ACCESS).replace("SK", SECRET)));
        assert_eq!(site.apply().key(KEY), "compliant", "{file}");
    }
}

#[test]
fn unusable_files_of_the_environment_are_named() {
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
    let homeless = [("HW_PROFILE", "theirs"), ("HOME", "")];
    assert_eq!(files("", "", &homeless), "HW_PROFILE is set, but not HW_SHARED_CONFIG_FILE or HOME");
    assert_eq!(files("config.json", "current: mine", &config), "config.json is not valid JSON");
    assert_eq!(files("config.json", &shared_config(""), &config), "config.json has no profile theirs");
    let half = |fields: &str| format!(r#"{{"profiles": [{{"name": "theirs", {fields}}}]}}"#);
    assert_eq!(
        files("config.json", &half(r#""accessKeyId": "A""#), &config),
        "profile theirs of config.json has no accessKeyId and secretAccessKey"
    );
    assert_eq!(
        files("config.json", &half(r#""accessKeyId": "A", "secretAccessKey": "S", "agencyName": "r""#), &config),
        "profile theirs of config.json has no agencyDomainName or agencyDomainId for its agencyName"
    );
    assert_eq!(
        files("config.json", r#"{"current": "", "profiles": null}"#, &config[..1]),
        "config.json has no current profile; set HW_PROFILE"
    );
    let clouds = [("OS_CLOUD", "otc")];
    assert!(files("", "", &clouds).contains("OS_CLOUD is set, but there is no clouds.yaml in "));
    assert!(files("clouds.yaml", "clouds: {other: {}}", &clouds).contains("has no cloud otc"));
    assert!(files("clouds.yaml", "clouds: [", &clouds).contains("is not valid YAML"));
    let half = format!("clouds: {{otc: {{auth: {{username: {USER}}}}}}}");
    assert!(
        files("clouds.yaml", &half, &clouds)
            .contains("has no token, no access key, and no user with password and domain")
    );
}

#[test]
fn a_changed_profile_is_used_in_the_next_run() {
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
fn the_shared_configuration_is_a_source_by_default_path_or_variable() {
    let cloud = cloud();
    let at_home = site(&cloud, &[]);
    std::fs::create_dir(at_home.path(".hcloud")).unwrap();
    at_home.write(".hcloud/config.json", &shared_config(""));
    let shown = at_home.path(".hcloud/config.json");
    assert_eq!(source(&at_home), format!("the current profile of {}", shown.display()));
    assert_eq!(at_home.apply().key(KEY), "compliant");
    // The file that KooCLI leaves when the last profile is deleted.
    for empty in [r#"{"current": "", "profiles": []}"#, r#"{"current": "", "profiles": null}"#] {
        at_home.write(".hcloud/config.json", empty);
        assert!(source(&at_home).contains("metadata service"), "{empty}");
    }
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
fn a_file_created_later_is_used_in_the_next_run() {
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

#[test]
fn a_file_that_once_cannot_be_read_fails_no_login() {
    let cloud = cloud();
    let site = site(&cloud, &[("OS_CLOUD", "otc")]);
    let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").every_second();
    site.write("policy.yaml", &policy.text());
    let auth = format!("username: {USER}, user_domain_name: {ACCOUNT}, password: {PASSWORD}, project_name: eu-de");
    let write = || site.write("clouds.yaml", &format!("clouds: {{otc: {{auth: {{{auth}}}}}}}"));
    write();
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "compliant");
    site.write("clouds.yaml", "clouds: {otc: {au");
    eventually("it is no use", || daemon.status().key(KEY) == "unknown: authentication_failed");
    write();
    eventually("it is good again", || daemon.status().key(KEY) == "compliant");
    assert_eq!(cloud.requests(Operation::Authenticate), 1);
}
