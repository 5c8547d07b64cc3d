//! `defaults` of the policy: what projects take from it.

use std::path::PathBuf;
use std::time::Duration;

use kms_rotationd::policy::types::{AgencyDomain, Credentials, Project};
use kms_rotationd::rotation::project::{Cloud, Coverage, Mode, Proof};

use super::policy::read;

/// The projects of a policy with these defaults; each has these fields.
fn projects_with(defaults: &str, projects: &[&str]) -> Vec<Project> {
    let project = |(at, fields): (usize, &&str)| {
        format!(
            "  - name: p{at}\n    project_id: 0123456789abcdef0123456789abcde{at}\n    keys: [{{select: {{}}, \
             rotation_interval: 30}}]\n{fields}\n"
        )
    };
    let projects: String = projects.iter().enumerate().map(project).collect();
    match read(format!("{defaults}\nprojects:\n{projects}").as_bytes()) {
        Ok((policy, warnings)) if warnings.is_empty() => policy.projects,
        Ok((_, problems)) | Err(problems) => panic!("{problems}"),
    }
}

#[test]
fn a_project_takes_from_the_defaults_what_it_leaves_out() {
    let common =
        "cloud: huawei-cloud, region: eu-west-101, ca_file: /ca, coverage: required, proof: required, grace: 1d";
    let shared = format!("defaults: {{{common}, credentials: {{token_file: /t}}}}");
    let [all, none] = &projects_with(
        &shared,
        &[
            "",
            "    cloud: open-telekom-cloud\n    region: eu-de\n    ca_file: /own\n    coverage: reported\n    \
             proof: reported\n    grace: 0s\n    credentials: {token_file: /own}",
        ],
    )[..] else {
        panic!("two projects")
    };
    let written_out = format!("    {}\n    credentials: {{token_file: /t}}", common.replace(", ", "\n    "));
    let alone = &projects_with("defaults: {}", &[&written_out])[0];
    assert_eq!((all.credentials_at.line, alone.credentials_at.line), (1, 12));
    assert_eq!(*all, Project { credentials_at: all.credentials_at, ..alone.clone() });
    assert_eq!(
        (none.cloud, &*none.region, none.ca_file.as_deref()),
        (Cloud::OpenTelekomCloud, "eu-de", Some("/own".as_ref()))
    );
    assert_eq!(
        (none.coverage, none.proof.proof, none.proof.grace),
        (Coverage::Reported, Proof::Reported, Duration::ZERO)
    );
    assert_eq!(none.credentials, Credentials::TokenFile("/own".into()));
}

#[test]
fn an_agency_goes_with_its_credentials_and_a_proxy_beside_them_with_every_project() {
    let agency = |name: &str| format!("assume_agency: {{domain_name: {name}, agency_name: rotation}}");
    let proxy = |port: u16| format!("proxy: {{url: 'http://10.0.0.1:{port}'}}");
    let (own_agency, own_proxy) = (format!("    {}", agency("own")), format!("    {}", proxy(1)));
    let own_login = "    credentials: {ecs_agency: {}}";
    let found = |defaults: &str| -> Vec<(Option<String>, Option<u16>)> {
        let projects = projects_with(defaults, &["", &own_agency, &own_proxy, own_login]);
        let agency = |project: &Project| match project.assume_agency.as_ref()?.domain.clone() {
            AgencyDomain::Name(name) | AgencyDomain::Id(name) => Some(name),
        };
        let port = |project: &Project| project.proxy.as_ref()?.url.rsplit_once(':')?.1.parse().ok();
        projects.iter().map(|project| (agency(project), port(project))).collect()
    };
    let cloud = "defaults:\n  cloud: huawei-cloud\n  region: eu-west-101\n";
    let (default, own) = (|| Some("default".to_owned()), || Some("own".to_owned()));
    let inside = format!("{cloud}  credentials: {{ecs_agency: {{}}, {}, {}}}", agency("default"), proxy(2));
    assert_eq!(found(&inside), [(default(), Some(2)), (own(), Some(2)), (default(), Some(1)), (None, None)]);
    let beside = format!("{cloud}  credentials: {{ecs_agency: {{}}}}\n  {}\n  {}", agency("default"), proxy(2));
    assert_eq!(found(&beside), [(default(), Some(2)), (own(), Some(2)), (default(), Some(1)), (None, Some(2))]);
}

#[test]
fn the_mode_of_a_project_goes_before_that_of_the_defaults_and_that_before_the_files() {
    let modes = |head: &str| -> Vec<Mode> {
        let defaults = format!("{head}, cloud: huawei-cloud, region: eu-west-101, credentials: {{token_file: /t}}}}");
        let projects = projects_with(&defaults, &["", "    mode: monitor", "    mode: enforce"]);
        projects.iter().map(|project| project.mode).collect()
    };
    assert_eq!(modes("defaults: {mode: monitor"), [Mode::Monitor, Mode::Monitor, Mode::Enforce]);
    assert_eq!(modes("mode: enforce\ndefaults: {mode: monitor"), [Mode::Monitor, Mode::Monitor, Mode::Enforce]);
    assert_eq!(modes("mode: enforce\ndefaults: {grace: 2d"), [Mode::Enforce, Mode::Monitor, Mode::Enforce]);
}

#[test]
fn a_file_of_the_defaults_is_named_once_and_only_if_a_project_uses_it() {
    let files = |own: &str| {
        let text = format!(
            "defaults: {{cloud: huawei-cloud, region: eu-west-101, credentials: {{token_file: /t}}}}\nprojects:\n  - \
             {{name: a, project_id: 0123456789abcdef0123456789abcdef, {own} keys: [{{select: {{}}, rotation_interval: \
             90}}]}}\n  - {{name: b, project_id: 0123456789abcdef0123456789abcde0, {own} keys: [{{select: {{}}, \
             rotation_interval: 90}}]}}\n"
        );
        let (policy, _) = read(text.as_bytes()).unwrap();
        policy.files.into_iter().map(|file| (file.path, file.position.line)).collect::<Vec<_>>()
    };
    assert_eq!(files(""), [(PathBuf::from("/t"), 1)]);
    assert_eq!(files("credentials: {ecs_agency: {}},"), []);
}
