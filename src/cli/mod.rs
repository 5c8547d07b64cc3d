//! The command line: commands, options, exit codes.
//!
//! Only this part writes to standard output and reads the environment, except what systemd sets for the supervisor.

mod arguments;
mod check;
mod evidence;
mod evidence_arguments;
mod examples;
mod generate;
mod healthcheck;
mod init;
mod init_arguments;
mod leadership;
mod once;
mod output_file;
mod population;
mod probe;
mod probe_arguments;
mod progress_line;
mod recording;
mod rehearsal;
mod report;
mod serve;
mod simulation_arguments;
mod story;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use arguments::{Arguments, Command, Generated, LogOptions};
use progress_line::ProgressLine;
use serve::ListenOptions;

use crate::daemon::PolicyFile;
use crate::kms::RETRY_TARGET;
use crate::logging::{self, FlushOnDrop, LogQueue};
use crate::policy::{self, Policy, PolicyRefused};
use crate::support::error_chain::ErrorChain;
use crate::yaml::Problems;

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success; for `plan`: nothing to change.
    Success = 0,
    /// A key failed, is unknown or still off policy, a log of evidence is inconsistent, or the program cannot continue.
    Failed = 1,
    /// A usage error or an invalid policy.
    Invalid = 2,
    /// Nothing failed, and something remains: `plan` found changes to make, and could read every key; `evidence verify`
    /// found a consistent log, and no anchor to compare it with.
    Unfinished = 3,
    /// `report` was made of an evidence log that does not verify.
    Unverified = 4,
}

/// Runs the command of these arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output, errors to standard error. Only the exit code remains if that
            // fails.
            let _ = error.print();
            return if error.use_stderr() { Exit::Invalid } else { Exit::Success };
        }
    };
    let systemd_sockets = serve::systemd_sockets();
    let progress_line = ProgressLine::default();
    let _flush_on_drop = match start_logging(&arguments, &progress_line) {
        Ok(flush_on_drop) => flush_on_drop,
        Err(error) => return fail(Exit::Invalid, &error),
    };
    disable_core_dumps();
    raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Failed, &format_args!("cannot start the runtime: {error}")),
    };
    let Arguments { log, command } = arguments;
    let progress_line = shows_progress(&log).then_some(&progress_line);
    let exit = match command {
        Command::Check { policy, output, strict } => check::check(&policy.file, output.format, strict),
        Command::Init { options } => runtime.block_on(init::init(&options, &log, progress_line)),
        Command::Schema => print(Exit::Success, |out| {
            serde_json::to_writer_pretty(&mut *out, &policy::json_schema())?;
            writeln!(out)
        }),
        Command::Apply { policy, report, allow_many } => {
            runtime.block_on(once::apply(&policy.file, &report, allow_many, &log, progress_line))
        }
        Command::Plan { policy, report } => runtime.block_on(once::plan(&policy.file, &report, &log, progress_line)),
        Command::Probe { options } => runtime.block_on(probe::probe(&options, &log)),
        Command::Run { policy, listen, web, lease } => {
            let options = ListenOptions { listen: listen.address, systemd_sockets, web_config: web.web_config };
            runtime.block_on(serve::run(policy.file, options, lease, &log))
        }
        Command::Rehearse { policy, listen, web, options } => {
            let listen = ListenOptions { listen: listen.address, systemd_sockets, web_config: web.web_config };
            runtime.block_on(serve::rehearse(policy.file, listen, options, &log))
        }
        Command::Evidence { what } => evidence::evidence(what),
        Command::Report { options } => report::report(&options),
        Command::Healthcheck { options } => runtime.block_on(healthcheck::healthcheck(options)),
        Command::Generate { what: Generated::Completions { shell } } => generate::completions(shell),
        Command::Generate { what: Generated::Man { folder } } => generate::man(&folder),
    };
    // Does not wait for a name look-up that hangs.
    runtime.shutdown_background();
    exit
}

/// A core dump could contain secrets.
fn disable_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "cannot disable core dumps; a dump could contain secrets");
    }
}

/// Raises the soft limit to the hard one: the usual soft limit of 1024 is for programs that use `select`.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// The limit of open files and connections.
fn file_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The log of the daemon goes through a queue; a command writes it directly.
fn start_logging(
    Arguments { log, command }: &Arguments,
    progress_line: &ProgressLine,
) -> Result<Option<FlushOnDrop>, logging::LoggingError> {
    let colour = wants_colour(io::stderr().is_terminal());
    let is_daemon = matches!(command, Command::Run { .. } | Command::Rehearse { .. });
    let shows_retries = match command {
        // A year in a minute has too many of them.
        Command::Rehearse { options, .. } => options.fast_forward.is_none(),
        Command::Plan { report, .. } | Command::Apply { report, .. } => report.simulated.is_some(),
        _ => false,
    };
    let default_level = || if shows_retries { format!("info,{RETRY_TARGET}=debug") } else { "info".to_owned() };
    let level = log.log_level.clone().unwrap_or_else(default_level);
    if is_daemon && let Ok((queue, flush_on_drop)) = LogQueue::start(io::stderr()) {
        logging::init(log.log_format, &level, colour, move || queue.clone())?;
        return Ok(Some(flush_on_drop));
    }
    let progress_line = progress_line.clone();
    logging::init(log.log_format, &level, colour, move || progress_line.log_writer())?;
    Ok(None)
}

/// Progress is shown on a terminal that can erase a line, with text logs.
fn shows_progress(log: &LogOptions) -> bool {
    log.log_format == logging::Format::Text && io::stderr().is_terminal() && !is_dumb()
}

/// Colour is used on a terminal that supports it, unless `NO_COLOR` is set.
fn wants_colour(is_terminal: bool) -> bool {
    is_terminal && !is_dumb() && variable("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A terminal that prints escape sequences as text.
fn is_dumb() -> bool {
    variable("TERM").is_some_and(|terminal| terminal == "dumb")
}

#[expect(clippy::disallowed_methods, reason = "the one place that calls it")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn render(problems: &Problems, is_terminal: bool) -> String {
    if is_terminal { problems.render_snippets(wants_colour(true)) } else { problems.render_plain() }
}

/// Loads the policy; or prints its problems and returns the exit code.
fn load(file: &mut PolicyFile, log: &LogOptions) -> Result<Policy, Exit> {
    file.read().map_err(|refused| print_refusal(&refused, log))
}

/// Prints why the policy is refused, as log lines if the log is JSON.
fn print_refusal(refused: &PolicyRefused, log: &LogOptions) -> Exit {
    if log.log_format == logging::Format::Json {
        for problem in ErrorChain(refused).to_string().lines() {
            tracing::error!(problem, "policy refused");
        }
        return Exit::Invalid;
    }
    match refused {
        PolicyRefused::Invalid(problems) => {
            let text = render(problems, io::stderr().is_terminal());
            let _ = io::stderr().lock().write_all(text.as_bytes());
            Exit::Invalid
        }
        PolicyRefused::Unreadable(error) => fail(Exit::Invalid, &ErrorChain(error)),
    }
}

/// Writes a result to standard output. A closed pipe, as with `head`, is not an error.
fn print(exit: Exit, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Exit {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(Exit::Failed, &format_args!("cannot write to standard output: {error}"))
        }
        _ => exit,
    }
}

/// Prints an error to standard error and returns the exit code.
fn fail(exit: Exit, error: &dyn std::fmt::Display) -> Exit {
    let _ = writeln!(io::stderr(), "kms-rotationd: {error}");
    exit
}
