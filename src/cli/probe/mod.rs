//! `probe`: tries what the real API answers on one throw-away key, restores it, and records the answers.
//!
//! The one command that disables rotation, on the key that the user names and confirms. `script` has the calls,
//! `conversation` makes them, and `compare` compares the answers with docs/kms-api.md; `restore` gives the key its
//! setting back, whatever happened. `questions` answers what the document leaves open, `text` prints, and `cassette`
//! records what `sanitise` lets through.

mod cassette;
mod compare;
mod conversation;
mod exchange;
mod questions;
mod restore;
mod sanitise;
mod script;
mod text;

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::arguments::LogOptions;
use super::output_file::{OutputFile, refuse_existing};
use super::probe_arguments::ProbeOptions;
use super::{Exit, fail, file_limit, load, print, variable};
use crate::connect::{ClientCache, Connector};
use crate::daemon::{PolicyFile, Signals, warn_of_exposed_secrets};
use crate::kms::{Kms, KmsClient, RunStart};
use crate::policy::types::{Credentials, Project};
use crate::reconcile::NotConnected;
use crate::rotation::assignment::{Listing, assign_rules};
use crate::rotation::decide::blocked;
use crate::rotation::key::{KeyId, ListedKey, Rotation};
use crate::rotation::key_name::KeyName;
use crate::rotation::project::Mode;
use crate::rotation::rule::{Matcher, Requirement};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::printable::printable;
use crate::support::write_gate::WriteGate;
use crate::views::wording;
use crate::yaml::nearest::nearest;
use cassette::Cassette;
use conversation::{Conversation, Stop};
use questions::Source;
use script::Survey;

/// Probes the key.
pub(super) async fn probe(options: &ProbeOptions, log: &LogOptions) -> Exit {
    if !options.yes && !io::stdin().is_terminal() {
        let message = "probe changes a key and asks for a confirmation, and standard input is no terminal: add --yes \
                       to confirm";
        return fail(Exit::Invalid, &message);
    }
    if let Some(exit) = refuse_existing(options.record.as_deref(), "probe replaces no recording") {
        return exit;
    }
    // Otherwise it would be missed only after the script.
    let folder = options.record.as_deref().and_then(Path::parent).filter(|folder| *folder != Path::new(""));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return fail(Exit::Invalid, &format_args!("there is no folder {} for the recording", folder.display()));
    }
    let mut policy = match load(&mut PolicyFile::new(options.policy.file.clone(), variable, Clock::system()), log) {
        Ok(policy) => policy,
        Err(exit) => return exit,
    };
    let names: Vec<_> = policy.projects.iter().map(|project| Arc::clone(&project.name)).collect();
    policy.projects.retain(|project| *project.name == *options.project);
    let Some(project) = policy.projects.first().cloned() else {
        return fail(Exit::Invalid, &no_project(&options.project, &names));
    };
    warn_of_exposed_secrets(&policy);
    let signals = match Signals::listen_unless_ignored() {
        Ok(signals) => signals,
        Err(error) => return fail(Exit::Failed, &format_args!("cannot install signal handlers: {error}")),
    };
    let mut connector = Connector {
        clock: Clock::system(),
        // A signal ends the script and not the calls that restore the key.
        stop: CancellationToken::new(),
        gate: WriteGate::default(),
        observer: Box::new(|_| Arc::new(())),
        environment: variable,
        endpoint_override: None,
        cache: ClientCache::for_descriptors(file_limit()),
    };
    let kms = match connector.connect(&policy).pop().map(|target| target.kms) {
        Some(Ok(kms)) => kms,
        Some(Err(NotConnected::Credentials(why) | NotConnected::Unreachable(why))) => return fail(Exit::Failed, &why),
        None => return Exit::Failed,
    };
    kms.begin_run(RunStart::default());
    let conversation = Conversation {
        kms: &kms,
        retry: policy.retry,
        stop: signals.stop.clone(),
        exchanges: Vec::new(),
        has_written: false,
        last_read: None,
    };
    let mut probe = Probe { options, project: &project, conversation, found: None };
    let ended = {
        let mut running = std::pin::pin!(probe.run());
        tokio::select! {
            biased;
            () = signals.exit_now.cancelled() => None,
            exit = &mut running => Some(exit),
        }
    };
    match ended {
        Some(exit) => exit,
        None => probe.abandoned(),
    }
}

fn no_project(name: &str, names: &[Arc<str>]) -> String {
    let mut text = format!("no project `{}` in the policy", printable(name));
    if let Some(near) = nearest(name, names.iter().map(|name| &**name)) {
        // Writing to a `String` does not fail.
        let _ = write!(text, "; did you mean `{}`?", printable(near));
    }
    text
}

/// A probe of one key.
struct Probe<'a> {
    options: &'a ProbeOptions,
    project: &'a Project,
    conversation: Conversation<'a>,
    /// The key and its setting before the first write.
    found: Option<(KeyId, Rotation)>,
}

impl Probe<'_> {
    async fn run(&mut self) -> Exit {
        let stop = self.conversation.stop.clone();
        let key_id = tokio::select! {
            key_id = find_key(self.conversation.kms, &self.options.key) => key_id,
            () = stop.cancelled() => return fail(Exit::Failed, &"stopped before anything was written"),
        };
        let key_id = match key_id {
            Ok(key_id) => key_id,
            Err(why) => return fail(Exit::Failed, &why),
        };
        let (project, cloud, region) =
            (printable(&self.project.name), self.project.cloud.as_str(), &self.project.region);
        print(Exit::Success, |out| {
            writeln!(out, "Key {key_id} of project {project}, {cloud} {region}\n\nReading, nothing is written:")
        });
        let ended = self.try_key(key_id).await;
        if let Err(Stop::NotConfirmed(why)) = &ended {
            return fail(Exit::Invalid, &format_args!("{why}; nothing was written"));
        }
        let restored = match self.found {
            Some((_, found)) if self.conversation.has_written => {
                restore::restore(&mut self.conversation, key_id, found).await
            }
            _ => Ok(()),
        };
        self.conclude(key_id, ended, restored)
    }

    /// Reads, asks for the confirmation, and makes the writes of the script.
    async fn try_key(&mut self, key_id: KeyId) -> Result<(), Stop> {
        let survey = script::survey(&mut self.conversation, key_id).await?;
        let found = suitable(&survey).map_err(|why| Stop::Failed(format!("this key cannot be probed: {why}")))?;
        let warnings = self.warnings(key_id, &survey, found);
        let shown = restore::known(Some(found));
        print(Exit::Success, |out| {
            writeln!(out, "\nFound: {shown}. This is what the key gets back at the end.")?;
            warnings.iter().try_for_each(|warning| writeln!(out, "Warning: {warning}"))
        });
        if !self.options.yes {
            let described = survey.description.as_ref().or(survey.listed.as_ref().map(|listed| &listed.description));
            let alias = described.and_then(|description| description.alias.as_deref());
            confirm(key_id, alias, &self.conversation.stop).await?;
        }
        print(Exit::Success, |out| writeln!(out, "\nWriting, to this key only:"));
        self.found = Some((key_id, found));
        script::run(&mut self.conversation, key_id, found).await
    }

    /// What the user should know before confirming.
    fn warnings(&self, key_id: KeyId, survey: &Survey, found: Rotation) -> Vec<String> {
        let mut warnings = Vec::new();
        if found.rotations.is_some_and(|rotations| rotations > 0) || found.last_rotated.is_some() {
            let times = found.rotations.map_or_else(String::new, |rotations| format!(" {rotations} times"));
            warnings.push(format!("this key has rotated{times}, so something probably uses it"));
        }
        if found.enabled {
            warnings.push("rotation is on, and its rotation period starts anew".to_owned());
        }
        if self.project.mode == Mode::Monitor {
            warnings.push("the project is in monitor mode, in which the daemon never writes; probe does".to_owned());
        } else if let Some(line) = self.line_of_entry(key_id, survey) {
            let file = self.options.policy.file.display();
            warnings.push(format!(
                "the entry at {file}:{line} applies to this key; a daemon that runs with it changes the key meanwhile"
            ));
        }
        warnings
    }

    /// The line of the entry by which a daemon would change the key.
    fn line_of_entry(&self, key_id: KeyId, survey: &Survey) -> Option<u32> {
        let listed = survey.listed.clone().unwrap_or_else(|| ListedKey {
            key_id,
            description: survey.description.clone().unwrap_or_default(),
            key_spec: None,
            enterprise_project_id: None,
            tags: Vec::new(),
        });
        let keys = [listed];
        let selectors = self.project.keys.iter().filter_map(|rule| match &rule.matcher {
            Matcher::Select(selector) => Some(selector),
            _ => None,
        });
        // Tags are not read: an entry that matches on them may apply.
        let tags: Vec<_> = selectors.flat_map(|selector| &selector.tags).map(|tag| tag.key.clone()).collect();
        let listing = Listing::Doubtful { keys: &keys, may_lack_keys: true, unsure_tags: &tags };
        let assignments = assign_rules(&self.project.keys, listing, SystemTime::now());
        let own = assignments.all.iter().find(|assignment| assignment.subject.key_id() == Some(key_id));
        let rule = own.and_then(|own| own.rule.or(own.unsure.map(|unsure| unsure.rule)))?;
        matches!(rule.requirement, Requirement::Rotation(_)).then_some(rule.line)
    }

    /// Prints how it ended, and writes the recording.
    fn conclude(&self, key_id: KeyId, ended: Result<(), Stop>, restored: Result<(), String>) -> Exit {
        let source = Source {
            exchanges: &self.conversation.exchanges,
            key_id,
            cloud: self.project.cloud,
            region: &self.project.region,
            looked_up_project: self.project.project_id.is_none()
                && self.project.credentials != Credentials::Environment,
        };
        let is_restored = restored.is_ok() && self.conversation.has_written;
        let printed = print(Exit::Success, |out| {
            text::totals(source.exchanges, out)?;
            if let Some((_, found)) = self.found.filter(|_| is_restored) {
                writeln!(out, "The key is restored: {}{}.", restore::known(Some(found)), self.leftover(found))?;
            }
            text::questions(&questions::questions(&source), out)
        });
        let mut exit = self.record(printed, &source);
        match ended {
            Ok(()) => {}
            Err(Stop::Signal) => exit = fail(Exit::Failed, &"stopped by a signal before the end of the script"),
            Err(Stop::Failed(why) | Stop::NotConfirmed(why)) => exit = fail(Exit::Failed, &why),
        }
        match (restored, self.found) {
            (Err(why), Some((_, found))) => self.not_restored(key_id, found, &why),
            _ => exit,
        }
    }

    /// What a key without rotation shows differently now.
    fn leftover(&self, found: Rotation) -> String {
        match self.conversation.last_read.and_then(|now| now.interval_days) {
            Some(now) if found.interval_days != Some(now) => format!("; it now shows an interval of {now} days"),
            _ => String::new(),
        }
    }

    /// Writes the recording, if there is to be one. `exit` is the exit code so far.
    fn record(&self, exit: Exit, source: &Source<'_>) -> Exit {
        let Some(file) = self.options.record.as_deref() else { return exit };
        let cassette = Cassette::of(source);
        let written = OutputFile::new(file).write(|out| {
            serde_json::to_writer_pretty(&mut *out, &cassette)?;
            writeln!(out)
        });
        if let Err(error) = written {
            return fail(Exit::Failed, &format_args!("cannot write {}: {error}", file.display()));
        }
        print(exit, |out| {
            let file = file.display();
            writeln!(out, "\n{file}: recorded, without data of the account; to replay it: rehearse --cassette {file}")
        })
    }

    /// The last lines if the key is not as it was.
    fn not_restored(&self, key_id: KeyId, found: Rotation, why: &str) -> Exit {
        let access = self.conversation.kms.access();
        let endpoint = access.endpoint.as_deref().unwrap_or_default();
        let project_id = access.project_id.as_deref().unwrap_or("PROJECT_ID");
        let root = format!("{}/v1.0/{project_id}/kms", endpoint.trim_end_matches('/'));
        let mut text = format!("THE KEY IS NOT RESTORED: {why}\n");
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "  key {key_id}");
        let _ = writeln!(text, "  it had:  {}", restore::known(Some(found)));
        let _ = writeln!(text, "  it has:  {}", restore::known(self.conversation.last_read));
        let _ = write!(text, "To restore it, run this with a token of the project in TOKEN:");
        for command in restore::commands(&root, key_id, found) {
            let _ = write!(text, "\n  {command}");
        }
        fail(Exit::Failed, &text)
    }

    /// A second signal has ended the probe at once.
    fn abandoned(&self) -> Exit {
        match self.found {
            Some((key_id, found)) if self.conversation.has_written => {
                self.not_restored(key_id, found, "stopped by a second signal")
            }
            _ => fail(Exit::Failed, &"stopped before anything was written"),
        }
    }
}

/// The id of the key.
async fn find_key(kms: &KmsClient, name: &KeyName) -> Result<KeyId, String> {
    let alias = match name {
        KeyName::Id(key_id) => return Ok(*key_id),
        KeyName::Alias(alias) => alias,
    };
    let list = kms.list_keys().await.map_err(|error| {
        format!("cannot list the keys to find this alias; name the key by its id: {}", ErrorChain(&error))
    })?;
    let named: Vec<_> = list.items.iter().filter(|key| key.alias() == Some(&**alias)).collect();
    let shown = printable(alias);
    match named[..] {
        [key] => Ok(key.key_id),
        [] => {
            let near = nearest(alias, list.items.iter().filter_map(ListedKey::alias));
            let near = near.map(|near| format!("; did you mean `{}`?", printable(near))).unwrap_or_default();
            Err(format!("no key `{shown}` in this project{near}"))
        }
        _ => {
            let ids: Vec<_> = named.iter().map(|key| key.key_id.as_str()).collect();
            Err(format!("several keys have the alias `{shown}`; name one of them by its id: {}", ids.join(", ")))
        }
    }
}

/// The setting of a key that can be probed and restored; or why it cannot.
fn suitable(survey: &Survey) -> Result<Rotation, String> {
    let description = survey.description.as_ref().or(survey.listed.as_ref().map(|listed| &listed.description));
    let Some(description) = description else {
        return Err("it can be neither described nor found in the list".to_owned());
    };
    if let Some(blocker) = description.blocker {
        return Err(wording::reason(blocked(blocker).1).to_owned());
    }
    let rotation = survey.rotation.ok_or("its rotation setting cannot be read, so it could not be restored")?;
    if rotation.enabled && rotation.interval().is_none() {
        return Err("rotation is on with an interval that cannot be set, so it could not be restored".to_owned());
    }
    Ok(rotation)
}

/// Asks for the key's id or alias.
async fn confirm(key_id: KeyId, alias: Option<&str>, stop: &CancellationToken) -> Result<(), Stop> {
    let what = match alias {
        Some(alias) => format!("its id or its alias {}", printable(alias)),
        None => "its id".to_owned(),
    };
    let _ = write!(io::stderr(), "\nThe rotation of this key will be switched on and off. To go on, type {what}: ");
    let typed = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let typed = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(Stop::Signal),
        typed = typed => typed,
    };
    match typed {
        Ok(Ok(line)) if line.trim() == key_id.as_str() || Some(line.trim()) == alias => Ok(()),
        Ok(Ok(_)) => Err(Stop::NotConfirmed("not confirmed".to_owned())),
        _ => Err(Stop::NotConfirmed("the confirmation cannot be read".to_owned())),
    }
}
