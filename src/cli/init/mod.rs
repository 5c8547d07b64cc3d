//! `init`: reads an account and prints a policy for it, in monitor mode and with comments. Never writes to the cloud.
//!
//! `account` reads the keys of a project, and `terraform` what code asks for; `code_match` finds the keys of the code
//! among those of the account. `groups` and `proposal` decide which entries the policy has, as pure functions, and
//! `text` writes it. Nothing is printed if an account cannot be read, or if the policy would not pass `check`.

mod account;
mod code_match;
mod groups;
mod proposal;
mod terraform;
mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use tracing::warn;

use super::arguments::LogOptions;
use super::init_arguments::InitOptions;
use super::output_file::OutputFile;
use super::progress_line::ProgressLine;
use super::{Exit, fail, file_limit, print, print_refusal, variable};
use crate::connect::{ClientCache, Connector, environment};
use crate::daemon::{Signals, warn_of_exposed_secrets};
use crate::kms::{Kms, KmsClient};
use crate::policy::{self, PolicyHead, PolicyRefused};
use crate::reconcile::{NotConnected, RunProgress, Target};
use crate::rotation::project::Cloud;
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::printable::excerpt;
use crate::support::write_gate::WriteGate;
use crate::yaml::Problems;
use crate::yaml::write::scalar;
use account::Account;
use code_match::{PolicyProject, match_keys};
use proposal::{Bounds, Proposal, propose};
use terraform::CodeKey;

/// The most keys that a comment names.
const NAMED: usize = 5;
/// The longest part of a name in a comment.
const LONGEST_NAME: usize = 60;
/// More than the states of large companies, in bytes.
const LARGEST_STATE: u64 = 256 * 1024 * 1024;

/// Some of these names, and how many there are more.
fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<_> = names.by_ref().take(NAMED).map(|name| excerpt(name, LONGEST_NAME)).collect();
    let shown = shown.join(", ");
    match names.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Prints a policy, or writes it to a file.
pub(super) async fn init(options: &InitOptions, log: &LogOptions, progress_line: Option<&ProgressLine>) -> Exit {
    if let Some(exit) = refuse_same_file(options) {
        return exit;
    }
    let code = match options.from_terraform.as_deref().map(read_code).transpose() {
        Ok(code) => code,
        Err(why) => return fail(Exit::Invalid, &why),
    };
    let mut head = match head(options, code.as_deref(), log) {
        Ok(head) => head,
        Err(exit) => return exit,
    };
    let reads_account = options.cloud.is_some() || options.policy.is_some();
    let accounts = if reads_account {
        match read_accounts(options, &mut head, progress_line).await {
            Ok(accounts) => accounts,
            Err(exit) => return exit,
        }
    } else {
        head.policy.projects.iter().map(|_| Account::default()).collect()
    };
    let text = policy_text(options, &head, &accounts, code.as_deref());
    if let Err(exit) = check(&text) {
        return exit;
    }
    print_policy(options, &text, &accounts)
}

/// Refuses to replace the policy that is read: its comments and entries would be lost.
fn refuse_same_file(InitOptions { policy, output_file, .. }: &InitOptions) -> Option<Exit> {
    let (policy, output) = (policy.as_deref()?.canonicalize().ok()?, output_file.as_deref()?.canonicalize().ok()?);
    let message =
        "--output-file would replace the file of --policy, and its comments and entries would be lost; name another";
    (policy == output).then(|| fail(Exit::Invalid, &message))
}

/// The keys in the output of `terraform show -json`.
fn read_code(file: &Path) -> Result<Vec<CodeKey>, String> {
    let is_standard_input = file == Path::new("-");
    let name = if is_standard_input { "standard input".to_owned() } else { file.display().to_string() };
    let mut json = Vec::new();
    let read = if is_standard_input {
        std::io::stdin().lock().take(LARGEST_STATE + 1).read_to_end(&mut json)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LARGEST_STATE + 1).read_to_end(&mut json))
    };
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    if json.len() as u64 > LARGEST_STATE {
        return Err(format!("{name} is larger than {} MiB", LARGEST_STATE / 1024 / 1024));
    }
    terraform::read(&json).map_err(|why| format!("{name}: {why}"))
}

/// The policy without entries: the file of `--policy`, or one with the projects that the options or the code name.
fn head(options: &InitOptions, code: Option<&[CodeKey]>, log: &LogOptions) -> Result<PolicyHead, Exit> {
    if let Some(file) = &options.policy {
        let now = Clock::system().now();
        let (head, warnings) =
            policy::load_head(file, variable, now).map_err(|refused| print_refusal(&refused, log))?;
        log_warnings(&warnings);
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
        .map(|(head, _)| head)
        .map_err(|problems| print_refusal(&PolicyRefused::Invalid(problems), log))
}

/// A project with the credentials of the environment, as an item of the list `projects`.
fn environment_project(name: &str, cloud: Cloud, region: &str, project_id: Option<&str>) -> String {
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

/// Reads the account of each project. Prints an error for each that cannot be read.
async fn read_accounts(
    options: &InitOptions,
    head: &mut PolicyHead,
    progress_line: Option<&ProgressLine>,
) -> Result<Vec<Account>, Exit> {
    let signals = Signals::listen_unless_ignored()
        .map_err(|error| fail(Exit::Failed, &format_args!("cannot install signal handlers: {error}")))?;
    // Nothing is written; should that ever change by mistake, the gate refuses it.
    let (block, gate) = WriteGate::default().blockable();
    block.set(true);
    let mut connector = Connector {
        clock: Clock::system(),
        stop: signals.stop.clone(),
        gate,
        observer: Box::new(|_| Arc::new(())),
        environment: variable,
        endpoint_override: None,
        cache: ClientCache::for_descriptors(file_limit()),
    };
    let targets = connector.connect(&head.policy);
    let progress = RunProgress::default();
    let scope = match &targets[..] {
        [target] => target.project.name.to_string(),
        targets => format!("{} projects", targets.len()),
    };
    let accounts = {
        let mut reading = std::pin::pin!(join_all(targets.iter().map(|target| read_account(target, &progress))));
        let mut shown = std::pin::pin!(async {
            match progress_line {
                Some(progress_line) => progress_line.follow(&scope, &progress).await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            biased;
            () = signals.exit_now.cancelled() => return Err(Exit::Failed),
            never = &mut shown => match never {},
            accounts = &mut reading => accounts,
        }
    };
    let mut read = Vec::with_capacity(accounts.len());
    let mut failed = None;
    for (account, target) in accounts.into_iter().zip(&targets) {
        match account {
            Ok(account) => read.push(account),
            Err(why) => {
                let project = &target.project.name;
                failed = Some(fail(Exit::Failed, &format_args!("cannot read the account of project {project}: {why}")));
            }
        }
    }
    if let (Some(cloud), [target]) = (options.cloud, &targets[..]) {
        head.projects = vec![found_project(options, cloud, target)];
    }
    failed.map_or(Ok(read), Err)
}

async fn read_account(target: &Target<KmsClient>, progress: &RunProgress) -> Result<Account, String> {
    match &target.kms {
        Ok(kms) => {
            Account::read(kms, target.concurrency, progress).await.map_err(|error| ErrorChain(&error).to_string())
        }
        Err(NotConnected::Credentials(why) | NotConnected::Unreachable(why)) => Err(why.clone()),
    }
}

/// The project of `--cloud` with the id and the name that the login has shown.
fn found_project(options: &InitOptions, cloud: Cloud, target: &Target<KmsClient>) -> String {
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

/// The whole policy.
fn policy_text(options: &InitOptions, head: &PolicyHead, accounts: &[Account], code: Option<&[CodeKey]>) -> String {
    let projects = head.policy.projects.iter().zip(accounts);
    let projects: Vec<_> = projects
        .map(|(project, account)| PolicyProject { cloud: project.cloud, region: &project.region, account })
        .collect();
    let code: Vec<_> = code.unwrap_or_default().iter().map(|key| with_region(options, key)).collect();
    let (matched, others) = match_keys(&code, &projects);
    let bounds = Bounds { ceiling: options.max_interval, max_changes_per_run: head.policy.guards.max_changes_per_run };
    let proposals: Vec<Proposal> =
        accounts.iter().zip(&matched).map(|(account, code)| propose(account, code, bounds)).collect();
    let mut notes = Vec::new();
    if !others.is_empty() {
        let keys = names(others.iter().map(String::as_str));
        notes.push(format!("In the code, but not found as exactly one key of these projects: {keys}."));
    }
    text::policy(head, &proposals, &notes)
}

/// The key with the region of the options if it reports none.
fn with_region(options: &InitOptions, key: &CodeKey) -> CodeKey {
    CodeKey { region: key.region.clone().or_else(|| options.region.clone()), ..key.clone() }
}

/// The policy must pass `check`: otherwise it is not printed.
fn check(text: &str) -> Result<(), Exit> {
    match policy::read(text.as_bytes(), "the proposed policy", variable, Clock::system().now()) {
        Ok((_, warnings)) => {
            log_warnings(&warnings);
            Ok(())
        }
        Err(problems) => {
            let message = "the proposed policy is not valid; this is a mistake in kms-rotationd, please report it";
            Err(fail(Exit::Failed, &format_args!("{message}:\n{}", problems.render_plain())))
        }
    }
}

fn log_warnings(warnings: &Problems) {
    for warning in warnings.render_plain().lines() {
        warn!(problem = warning, "policy warning");
    }
}

fn print_policy(options: &InitOptions, text: &str, accounts: &[Account]) -> Exit {
    let Some(file) = options.output_file.as_deref().filter(|file| *file != Path::new("-")) else {
        return print(Exit::Success, |out| out.write_all(text.as_bytes()));
    };
    if let Err(error) = OutputFile::new(file).write(|out| out.write_all(text.as_bytes())) {
        return fail(Exit::Failed, &format_args!("cannot write {}: {error}", file.display()));
    }
    let keys: usize = accounts.iter().map(|account| account.keys.len()).sum();
    print(Exit::Success, |out| {
        let file = file.display();
        writeln!(out, "{file}: proposed for {keys} keys, in monitor mode; next: kms-rotationd plan --policy {file}")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::account::{AccountKey, Today};
    use super::*;
    use crate::rotation::key::{KeyDescription, ListedKey, RotationBlocker, RotationInterval, Tag};

    pub(in super::super) fn days(days: u16) -> RotationInterval {
        RotationInterval::from_days(days).unwrap()
    }

    /// A key with an id of its own.
    pub(in super::super) fn key(name: &str, tags: &[(&str, &str)], today: Today) -> AccountKey {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let blocker = match today {
            Today::Blocked(blocker) => Some(blocker),
            _ => None::<RotationBlocker>,
        };
        let tags = tags.iter().map(|(key, value)| Tag { key: (*key).into(), value: (*value).into() });
        let listed = ListedKey {
            key_id: format!("{number:08x}-e727-4d9c-b35d-f84bb474a37f").parse().unwrap(),
            description: KeyDescription { alias: Some(name.into()), blocker, ..KeyDescription::default() },
            key_spec: None,
            enterprise_project_id: None,
            tags: tags.collect(),
        };
        AccountKey { listed, today }
    }

    pub(in super::super) fn account(keys: Vec<AccountKey>) -> Account {
        Account { keys, is_read: true, doubts: Vec::new() }
    }

    #[test]
    fn a_comment_names_a_few_keys() {
        assert_eq!(names(["a"]), "a");
        assert_eq!(names(["a", "b\u{7}", "c", "d", "e"]), "a, b\u{fffd}, c, d, e");
        assert_eq!(names(["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }

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
