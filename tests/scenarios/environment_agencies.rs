//! `environment: {}` with an agency from variables or the shared configuration.

use std::time::{SystemTime, UNIX_EPOCH};

use kms_simulator::{ProjectSetup, Setup};

use super::access_keys::{ACCESS, SECRET};
use super::cloud::{Cloud, off};
use super::environment::{no_source, shared_config, site, source};
use super::site::Policy;
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER};

/// A cloud in which another account has delegated the project to the agency `rotation`, and an own project with a
/// token.
fn delegating() -> Cloud {
    let delegated = ProjectSetup::new(PROJECT, "their-project").domain("DELEGATING").key(off());
    let own = ProjectSetup::new("fedcba9876543210fedcba9876543210", "eu-nl").domain(ACCOUNT).token(TOKEN);
    let setup = Setup::new().project(delegated).project(own).login(USER, ACCOUNT, PASSWORD);
    Cloud::start(setup.access_key(ACCESS, SECRET).agency("DELEGATING", "their-id", "rotation", [PROJECT]))
}

#[test]
fn an_agency_of_the_environment_is_assumed_with_the_credentials_found() {
    let ways: [&[(&str, &str)]; 5] = [
        &[("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET)],
        &[("HW_USER_NAME", USER), ("HW_USER_PASSWORD", PASSWORD), ("HW_DOMAIN_NAME", ACCOUNT)],
        &[("HW_AUTH_TOKEN", TOKEN)],
        &[("OS_AK", ACCESS), ("OS_SK", SECRET)],
        &[("HW_SHARED_CONFIG_FILE", "hcloud.json")],
    ];
    let agencies: [(&[(&str, &str)], &str); 3] = [
        (
            &[("HW_ASSUME_ROLE_AGENCY_NAME", "rotation"), ("HW_ASSUME_ROLE_DOMAIN_NAME", "DELEGATING")],
            "agency rotation of DELEGATING",
        ),
        (
            &[("HW_ASSUME_ROLE_AGENCY_NAME", "rotation"), ("HW_ASSUME_ROLE_DOMAIN_ID", "their-id")],
            "agency rotation of their-id",
        ),
        (&[("OS_AGENCY_NAME", "rotation"), ("OS_AGENCY_DOMAIN_NAME", "DELEGATING")], "agency rotation of DELEGATING"),
    ];
    for way in ways {
        let cloud = delegating();
        assert_ne!(site(&cloud, way).apply().key(KEY), "compliant", "{way:?} does not open it alone");
        for (agency, shown) in agencies {
            let site = site(&cloud, &[way, agency].concat());
            let found = source(&site);
            assert!(found.ends_with(&format!(", acting for {shown}")), "{found}");
            let applied = site.apply();
            assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{found}: {applied:#?}");
        }
    }
}

#[test]
fn an_agency_of_the_shared_configuration_is_assumed_unless_a_variable_names_another() {
    for account in [r#""agencyDomainName": "DELEGATING""#, r#""agencyDomainId": "their-id""#] {
        let cloud = delegating();
        let site = site(&cloud, &[("HW_SHARED_CONFIG_FILE", "hcloud.json")]);
        site.write("hcloud.json", &shared_config(&format!(r#", "agencyName": "rotation", {account}"#)));
        assert_eq!(site.apply().key(KEY), "compliant", "{account}");
    }
    let other = [("HW_ASSUME_ROLE_AGENCY_NAME", "retired"), ("HW_ASSUME_ROLE_DOMAIN_NAME", "DELEGATING")];
    let cloud = delegating();
    let site = site(&cloud, &[&[("HW_SHARED_CONFIG_FILE", "hcloud.json")], &other[..]].concat());
    site.write("hcloud.json", &shared_config(r#", "agencyName": "rotation", "agencyDomainId": "their-id""#));
    assert!(source(&site).ends_with("acting for agency retired of DELEGATING"));
    assert!(site.apply().report().error().contains("Could not find the agency"));
}

#[test]
fn a_projects_name_can_contain_url_delimiters() {
    let name = "their project & others=für alle + 100%";
    let delegated = ProjectSetup::new(PROJECT, name).domain("DELEGATING").key(off());
    let setup = Setup::new().project(delegated).login(USER, ACCOUNT, PASSWORD).access_key(ACCESS, SECRET);
    let cloud = Cloud::start(setup.agency("DELEGATING", "their-id", "rotation", [PROJECT]));
    let site = site(
        &cloud,
        &[
            ("HW_ACCESS_KEY", ACCESS),
            ("HW_SECRET_KEY", SECRET),
            ("HW_ASSUME_ROLE_AGENCY_NAME", "rotation"),
            ("HW_ASSUME_ROLE_DOMAIN_NAME", "DELEGATING"),
            ("OS_DELEGATED_PROJECT", name),
        ],
    );
    let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").without_id();
    site.write("policy.yaml", &policy.text());
    let applied = site.apply();
    assert_eq!(applied.key(KEY), "compliant", "{applied:#?}");
}

#[test]
fn a_duration_is_requested_and_a_delegated_project_is_found_by_name() {
    let cloud = delegating();
    let key = [("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET), ("HW_ASSUME_ROLE_DURATION", "1800")];
    let agency = [("HW_ASSUME_ROLE_AGENCY_NAME", "rotation"), ("HW_ASSUME_ROLE_DOMAIN_NAME", "DELEGATING")];
    let site_with = |more: &[(&str, &str)]| {
        let site = site(&cloud, &[&key[..], &agency, more].concat());
        let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").without_id();
        site.write("policy.yaml", &policy.text());
        site
    };
    let error = site_with(&[]).apply().report().error();
    assert!(error.contains("IAM lists no project eu-de"), "{error}");
    let site = site_with(&[("OS_DELEGATED_PROJECT", "their-project")]);
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "compliant");
    let expiry = daemon.metric("kms_rotation_credentials_expiry_timestamp_seconds{project=\"payments\"}").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((expiry - now - 1800.0).abs() < 60.0, "{expiry}");
    let cloud = delegating();
    let odd = self::site(&cloud, &[&key[..2], &agency, &[("HW_ASSUME_ROLE_DURATION", "1h")]].concat());
    assert_eq!(no_source(&odd), "HW_ASSUME_ROLE_DURATION is not a whole number of seconds");
}
