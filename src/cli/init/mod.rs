//! `init`: reads an account and prints a policy for it, in monitor mode and with comments. Never writes to the cloud.
//!
//! `heads` makes the policy that the entries are added to. `account` reads the keys of a project, and `terraform` what
//! code asks for; `code_match` finds the keys of the code among those of the account. `groups` and `proposal` decide
//! which entries the policy has, as pure functions, and `text` writes it. Nothing is printed if an account cannot be
//! read, or if the policy would not pass `check`.

mod account;
mod code_match;
mod groups;
mod heads;
mod proposal;
mod terraform;
mod text;

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use tracing::warn;

use super::arguments::LogOptions;
use super::init_arguments::InitOptions;
use super::output_file::{OutputFile, refuse_existing};
use super::progress_line::ProgressLine;
use super::{Exit, fail, file_limit, print, variable};
use crate::connect::{ClientCache, Connector, environment};
use crate::daemon::Signals;
use crate::kms::KmsClient;
use crate::policy::{self, PolicyHead};
use crate::reconcile::{NotConnected, Target};
use crate::rotation::progress::RunProgress;
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::printable::excerpt;
use crate::support::write_gate::WriteGate;
use crate::views::wording;
use crate::yaml::Problems;
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
    // It may be a policy with comments and entries that would be lost.
    if let Some(exit) = refuse_existing(options.output_file.as_deref(), "init replaces no policy") {
        return exit;
    }
    let code = match options.from_terraform.as_deref().map(read_code).transpose() {
        Ok(code) => code,
        Err(why) => return fail(Exit::Invalid, &why),
    };
    let mut head = match heads::head(options, code.as_deref(), log) {
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
            Err(mut why) => {
                let project = &target.project.name;
                if options.cloud.is_some()
                    && let Ok(found) = environment::find(variable, &target.project)
                {
                    let _ = write!(why, "; credentials of the environment: {}", found.source);
                }
                failed = Some(fail(Exit::Failed, &format_args!("cannot read the account of project {project}: {why}")));
            }
        }
    }
    if let (Some(cloud), [target]) = (options.cloud, &targets[..]) {
        head.projects = vec![heads::found_project(options, cloud, target)];
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
        notes.push(format!("In the code, but not matched to exactly one key of these projects: {keys}."));
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
        // The warnings are those of the head, and were logged before the accounts were read.
        Ok(_) => Ok(()),
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
        let keys = wording::count(keys, "key", "keys");
        writeln!(out, "{file}: proposed for {keys}, in monitor mode; next: kms-rotationd plan --policy {file}")
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
}
