//! The command line: what can be asked, and with which exit code it ends.
//!
//! The only place that reads the environment and writes to standard output.

mod arguments;
mod examples;
mod generate;
mod healthcheck;
mod leadership;
mod once;
mod progress_line;
mod rehearsal;
mod serve;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use arguments::{Arguments, Command, Generated, LogOptions, OutputFormat};
use serve::Front;

use progress_line::Screen;

use crate::connect::environment::{self, Found, NamedProject};
use crate::daemon::{PolicyFile, warn_of_exposed_secrets};
use crate::kms::auth::Named;
use crate::logging::{self, LastLines, LogQueue};
use crate::policy::types::{Credentials, Policy};
use crate::policy::{self, Refused};
use crate::support::clock::Clock;
use crate::support::error_chain::Chain;
use crate::support::printable::printable;
use crate::yaml::{NamedFile, Place, Problems, Severity};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All well; for `plan`: nothing to change.
    Well = 0,
    /// A key failed, is unknown or still off policy, or the program could not go on.
    Failed = 1,
    /// A usage error or an invalid policy.
    Invalid = 2,
    /// `plan` found changes to make, and could read everything.
    Changes = 3,
}

/// Does what the arguments say.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // To standard output for help and version, to standard error for a mistake. If neither takes it, the exit
            // code is all there is.
            let _ = error.print();
            return if error.use_stderr() { Exit::Invalid } else { Exit::Well };
        }
    };
    let passed = serve::passed();
    let screen = Screen::default();
    let _last_lines = match start_logging(&arguments, &screen) {
        Ok(last_lines) => last_lines,
        Err(error) => return complain(Exit::Invalid, &error),
    };
    forbid_core_files();
    raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, &format_args!("cannot start: {error}")),
    };
    let Arguments { log, command } = arguments;
    let screen = shows_progress(&log).then_some(&screen);
    let exit = match command {
        Command::Check { policy, output } => check(&policy.file, output.format),
        Command::Schema => print(Exit::Well, |out| {
            serde_json::to_writer_pretty(&mut *out, &policy::json_schema())?;
            writeln!(out)
        }),
        Command::Apply { policy, report, allow_many } => {
            runtime.block_on(once::apply(&policy.file, &report, allow_many, &log, screen))
        }
        Command::Plan { policy, report } => runtime.block_on(once::plan(&policy.file, &report, &log, screen)),
        Command::Run { policy, listen, web, lease } => {
            let front = Front { listen: listen.address, passed, web_config: web.web_config };
            runtime.block_on(serve::run(policy.file, front, lease, &log))
        }
        Command::Rehearse { policy, listen, web, faults } => {
            let front = Front { listen: listen.address, passed, web_config: web.web_config };
            runtime.block_on(serve::rehearse(policy.file, front, faults, &log))
        }
        Command::Healthcheck { options } => runtime.block_on(healthcheck::healthcheck(options)),
        Command::Generate { what: Generated::Completions { shell } } => generate::completions(shell),
        Command::Generate { what: Generated::Man { folder } } => generate::man(&folder),
    };
    // A look-up of a name that hangs is not waited for.
    runtime.shutdown_background();
    exit
}

/// Whatever the machine allows: in a core file stands what is kept of secrets.
fn forbid_core_files() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "cannot forbid core files, and secrets would stand in one");
    }
}

/// As many connections as the machine allows: the usual soft limit of 1024 is for programs that use `select`.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// How many files and connections the process may have open.
fn file_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A command waits until somebody takes its log; the daemon does not.
fn start_logging(
    Arguments { log, command }: &Arguments,
    screen: &Screen,
) -> Result<Option<LastLines>, logging::LoggingError> {
    let colour = wants_colour(io::stderr().is_terminal());
    let is_daemon = matches!(command, Command::Run { .. } | Command::Rehearse { .. });
    if is_daemon && let Ok((queue, last_lines)) = LogQueue::to(io::stderr()) {
        logging::init(log.log_format, &log.log_level, colour, move || queue.clone())?;
        return Ok(Some(last_lines));
    }
    let screen = screen.clone();
    logging::init(log.log_format, &log.log_level, colour, move || screen.log())?;
    Ok(None)
}

/// Progress is for people at a terminal that can erase a line.
fn shows_progress(log: &LogOptions) -> bool {
    log.log_format == logging::Format::Text && io::stderr().is_terminal() && !is_dumb()
}

/// Colour only on a terminal that has it, and not where `NO_COLOR` asks for none.
fn wants_colour(is_terminal: bool) -> bool {
    is_terminal && !is_dumb() && variable("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A terminal that shows what it gets, escape sequences too.
fn is_dumb() -> bool {
    variable("TERM").is_some_and(|terminal| terminal == "dumb")
}

#[expect(clippy::disallowed_methods, reason = "the one place through which the environment reaches the code")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn check(file: &Path, format: OutputFormat) -> Exit {
    let (accepted, mut problems) = match policy::load(file, variable, Clock::system().now()) {
        Ok((policy, warnings)) => (Some(policy), warnings),
        Err(Refused::Invalid(problems)) => (None, problems),
        Err(refused) => {
            let exit = complain(Exit::Invalid, &Chain(&refused));
            return match format {
                OutputFormat::Text => exit,
                OutputFormat::Json => print(exit, |out| {
                    serde_json::to_writer_pretty(&mut *out, &refused)?;
                    writeln!(out)
                }),
            };
        }
    };
    accepted.iter().for_each(warn_of_exposed_secrets);
    if let Some(policy) = &accepted {
        look_for_files(policy, &mut problems);
    }
    let sources = accepted.iter().flat_map(|policy| sources(policy, &mut problems)).collect::<Vec<_>>();
    let accepted = accepted.filter(|_| problems.count(Severity::Error) == 0);
    let exit = if accepted.is_some() { Exit::Well } else { Exit::Invalid };
    print(exit, |out| match format {
        OutputFormat::Json => {
            for Source { project, place, found, cloud_project } in sources {
                let message = format!("project `{project}` logs in by its environment: {found}");
                problems.add(Severity::Note, place, &message);
                let message = format!("project `{project}` works on the cloud's project {cloud_project}");
                problems.add(Severity::Note, place, &message);
            }
            serde_json::to_writer_pretty(&mut *out, &problems)?;
            writeln!(out)
        }
        OutputFormat::Text => {
            out.write_all(render(&problems, io::stdout().is_terminal()).as_bytes())?;
            for Source { project, found, cloud_project, .. } in sources {
                writeln!(out, "{project}: environment: {found}")?;
                writeln!(out, "{project}: project: {}", printable(&cloud_project))?;
            }
            match accepted {
                Some(policy) => writeln!(out, "{}", summary(file, &policy)),
                None => Ok(()),
            }
        }
    })
}

/// Warns of files that the policy names and that are not on this machine, which need not be the daemon's. Each is told
/// once, however many projects name it, and by its field: what stands there may be the secret itself.
fn look_for_files(policy: &Policy, problems: &mut Problems) {
    let mut known = BTreeSet::new();
    for NamedFile { field, place, path } in policy.files.iter().filter(|file| known.insert(&file.path)) {
        let wrong = match std::fs::metadata(path) {
            Ok(file) if file.is_file() => continue,
            Ok(_) => "is not a regular file",
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                if path.is_relative() {
                    "does not exist, seen from this folder"
                } else {
                    "does not exist on this machine"
                }
            }
            // Another user may be allowed to look.
            Err(_) => continue,
        };
        problems.add(Severity::Warning, *place, &format!("the file that `{field}` names {wrong}"));
    }
}

/// Where a project that logs in by the environment finds how.
struct Source {
    project: Arc<str>,
    /// Where the policy asks for it.
    place: Place,
    found: String,
    /// Which project it is in the cloud, and what says so.
    cloud_project: String,
}

/// What the environment has for the projects that ask for it. Where it has half of something, that is a problem, and
/// where it means another project than the policy, that is worth a warning.
fn sources(policy: &Policy, problems: &mut Problems) -> Vec<Source> {
    let asking = policy.projects.iter().filter(|project| project.credentials == Credentials::Environment);
    asking
        .filter_map(|project| {
            let (name, place) = (Arc::clone(&project.name), project.credentials_at);
            match environment::find(variable, project) {
                Ok(found) => {
                    let (cloud_project, warning) = cloud_project(&found);
                    if let Some(warning) = warning {
                        problems.add(Severity::Warning, place, &format!("project `{name}` has {warning}"));
                    }
                    Some(Source { project: name, place, found: found.source, cloud_project })
                }
                Err(why) => {
                    problems.add(
                        Severity::Error,
                        place,
                        &format!("project `{name}` has no credentials: {}", Chain(&why)),
                    );
                    None
                }
            }
        })
        .collect()
}

/// Which project of the cloud is meant and what says so; and a warning where the environment means another one. Whether
/// a name means another one than an id only the cloud knows.
fn cloud_project(Found { scope, scope_origin, overridden, .. }: &Found) -> (String, Option<String>) {
    let project = scope.id.as_ref().unwrap_or(&scope.name);
    let shown = format!("{project}, from {scope_origin}");
    match overridden {
        Some(NamedProject { project: Named::Id(id), origin }) if id != project => {
            (shown, Some(format!("project_id {project}, so that {origin}, which is {id}, is not used")))
        }
        Some(NamedProject { project: Named::Name(name), origin }) => {
            (format!("{shown}; {origin}, which is {name}, is not used"), None)
        }
        _ => (shown, None),
    }
}

fn render(problems: &Problems, is_terminal: bool) -> String {
    if is_terminal { problems.render_snippets(wants_colour(true)) } else { problems.render_plain() }
}

fn summary(file: &Path, policy: &Policy) -> String {
    let entries: usize = policy.projects.iter().map(|project| project.keys.len()).sum();
    let entries = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    let projects = match policy.projects.len() {
        1 => "1 project".to_owned(),
        count => format!("{count} projects"),
    };
    let schedule = policy.schedule.calendar.describe();
    format!("{}: valid, {entries} in {projects}; {schedule}", file.display())
}

/// The policy; or the exit code after its problems were shown.
fn load(file: &mut PolicyFile, log: &LogOptions) -> Result<Policy, Exit> {
    file.read().map_err(|refused| refuse(&refused, log))
}

/// Shows why there is no policy, as log lines where a machine reads those.
fn refuse(refused: &Refused, log: &LogOptions) -> Exit {
    if log.log_format == logging::Format::Json {
        for problem in Chain(refused).to_string().lines() {
            tracing::error!(problem, "policy refused");
        }
        return Exit::Invalid;
    }
    match refused {
        Refused::Invalid(problems) => {
            let text = render(problems, io::stderr().is_terminal());
            let _ = io::stderr().lock().write_all(text.as_bytes());
            Exit::Invalid
        }
        Refused::Unreadable(error) => complain(Exit::Invalid, &Chain(error)),
    }
}

/// Writes a result to standard output. A reader that has gone away, as behind `head`, is no failure.
fn print(exit: Exit, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Exit {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(Exit::Failed, &format_args!("cannot write to standard output: {error}"))
        }
        _ => exit,
    }
}

/// Says on standard error why the program ends, where there is no log for it.
fn complain(exit: Exit, why: &dyn std::fmt::Display) -> Exit {
    let _ = writeln!(io::stderr(), "kms-rotationd: {why}");
    exit
}
