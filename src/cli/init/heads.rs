//! The policy that the entries are added to: the file of `--policy` without its entries, or a new one with the projects
//! that the options or the Terraform code name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::LONGEST_NAME;
use super::terraform::CodeKey;
use crate::cli::arguments::LogOptions;
use crate::cli::init_arguments::InitOptions;
use crate::cli::{Exit, fail, print_refusal, variable};
use crate::connect::environment;
use crate::daemon::warn_of_exposed_secrets;
use crate::kms::{Kms, KmsClient};
use crate::policy::{self, PolicyHead, PolicyRefused};
use crate::reconcile::Target;
use crate::rotation::project::Cloud;
use crate::support::clock::Clock;
use crate::support::printable::excerpt;
use crate::yaml::write::scalar;

/// The policy without entries: the file of `--policy`, or one with the projects that the options or the code name.
pub(super) fn head(options: &InitOptions, code: Option<&[CodeKey]>, log: &LogOptions) -> Result<PolicyHead, Exit> {
    if let Some(file) = &options.policy {
        let now = Clock::system().now();
        let (head, warnings) =
            policy::load_head(file, variable, now).map_err(|refused| print_refusal(&refused, log))?;
        super::log_warnings(&warnings);
        warn_of_exposed_secrets(&head.policy);
        return Ok(head);
    }
    let InitOptions { cloud, region, project_id, .. } = options;
    let projects = match cloud.zip(region.as_deref()) {
        Some((cloud, region)) => vec![environment_project(region, cloud, region, project_id.as_deref())],
        None => projects_of_code(options, code.unwrap_or_default()).map_err(|why| fail(Exit::Invalid, &why))?,
    };
    read_head(&projects, log)
}

/// The head of a policy with these projects.
fn read_head(projects: &[String], log: &LogOptions) -> Result<PolicyHead, Exit> {
    let text = format!("projects:\n{}", projects.concat());
    policy::read_head(text.as_bytes(), "policy", variable, Clock::system().now())
        .map(|(head, warnings)| {
            super::log_warnings(&warnings);
            head
        })
        .map_err(|problems| print_refusal(&PolicyRefused::Invalid(problems), log))
}

/// A project with the credentials of the environment, as an item of the list `projects`.
pub(super) fn environment_project(name: &str, cloud: Cloud, region: &str, project_id: Option<&str>) -> String {
    let (name, cloud) = (scalar(name), cloud.as_str());
    let mut text = format!("  - name: {name}\n    cloud: {cloud}\n    region: {}\n", scalar(region));
    if let Some(id) = project_id {
        let _ = writeln!(text, "    project_id: {}", scalar(id));
    }
    text.push_str("    credentials:\n      environment: {}\n");
    text
}

/// The projects of the keys in the code: one for each cloud and region.
fn projects_of_code(options: &InitOptions, code: &[CodeKey]) -> Result<Vec<String>, String> {
    let mut regions: BTreeMap<(&str, &str), Cloud> = BTreeMap::new();
    for key in code {
        let region = key.region.as_deref().or(options.region.as_deref());
        let region = region.ok_or_else(|| {
            format!(
                "{} reports no region: add --region REGION, or --cloud and --region to read the account",
                key.address
            )
        })?;
        if !policy::is_region(region) {
            return Err(format!("{} reports an invalid region: {:?}", key.address, excerpt(region, LONGEST_NAME)));
        }
        regions.insert((region, key.cloud.as_str()), key.cloud);
    }
    let found = regions.len();
    match (found, &options.project_id) {
        (0, _) => {
            return Err(
                "there is no KMS key in the Terraform output: add --cloud and --region, or --policy, to read the \
                        account instead"
                    .to_owned(),
            );
        }
        (2.., Some(_)) => {
            return Err(format!(
                "--project-id names one project, but the keys are in {found} clouds or regions: leave it out"
            ));
        }
        _ => {}
    }
    let is_unique = |region| regions.keys().filter(|(other, _)| *other == region).count() == 1;
    let projects = regions.iter().map(|((region, cloud_name), cloud)| {
        let name = if is_unique(*region) { (*region).to_owned() } else { format!("{cloud_name}-{region}") };
        environment_project(&name, *cloud, region, options.project_id.as_deref())
    });
    Ok(projects.collect())
}

/// The project of `--cloud` with the id and the name that the login has shown.
pub(super) fn found_project(options: &InitOptions, cloud: Cloud, target: &Target<KmsClient>) -> String {
    let project = &target.project;
    let found = environment::find(variable, project).ok();
    let name = found.map(|found| found.scope.name).filter(|name| is_name(name));
    let id = options.project_id.clone();
    let id = id.or_else(|| target.kms.as_ref().ok()?.access().project_id.map(|id| id.to_string()));
    let id = id.filter(|id| policy::is_project_id(id));
    environment_project(name.as_deref().unwrap_or(&project.region), cloud, &project.region, id.as_deref())
}

/// Whether the text can be the name of a project without a warning.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && excerpt(text, 128) == text
}

#[cfg(test)]
mod tests {
    use super::super::terraform;
    use super::*;

    fn options(arguments: &[&str]) -> InitOptions {
        use clap::Parser;
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            options: InitOptions,
        }
        Only::parse_from([&["init"], arguments].concat()).options
    }

    #[test]
    fn code_alone_has_a_project_for_each_cloud_and_region() {
        let key = |kind: &str, region: Option<&str>| {
            let values = serde_json::json!({"key_alias": "a", "region": region});
            let resource = serde_json::json!({"address": "k", "mode": "managed", "type": kind, "values": values});
            let module = serde_json::json!({"root_module": {"resources": [resource]}});
            let state = serde_json::json!({"format_version": "1.0", "values": module});
            terraform::read(state.to_string().as_bytes()).unwrap().remove(0)
        };
        let none = options(&["--from-terraform", "-"]);
        let (huawei, otc) = ("huaweicloud_kms_key", "opentelekomcloud_kms_key_v1");
        let keys = [key(huawei, Some("eu-west-101")), key(huawei, Some("cn-north-4")), key(otc, Some("cn-north-4"))];
        let projects = projects_of_code(&none, &keys).unwrap().concat();
        for name in ["huawei-cloud-cn-north-4", "open-telekom-cloud-cn-north-4", "eu-west-101"] {
            assert!(projects.contains(&format!("- name: {name}\n")), "{projects}");
        }
        assert!(projects_of_code(&none, &[key(otc, None)]).unwrap_err().contains("add --region"));
        assert!(projects_of_code(&none, &[]).unwrap_err().starts_with("there is no KMS key"));
        assert!(projects_of_code(&none, &[key(otc, Some("a b"))]).unwrap_err().contains("\"a b\""));
        let id = "0123456789abcdef0123456789abcdef";
        let one = options(&["--from-terraform", "-", "--region", "eu-de", "--project-id", id]);
        let projects = projects_of_code(&one, &[key(otc, None), key(otc, Some("eu-de"))]).unwrap().concat();
        assert!(projects.contains(&format!("    region: eu-de\n    project_id: {id}\n")), "{projects}");
        assert!(projects_of_code(&one, &keys).unwrap_err().starts_with("--project-id names one project"));
    }
}
