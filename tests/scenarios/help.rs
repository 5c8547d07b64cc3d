//! The examples in the help of commands.

use std::path::Path;
use std::process::Command;

use super::program::{Finished, Program, binary};
use super::site::Site;

/// The command below the line of a command's help that begins with this text.
pub(crate) fn example(command: &str, line: &str) -> String {
    let help = Program::start(binary(&[command, "--help"])).finish().stdout;
    let beneath = help.lines().skip_while(|at| !at.trim_start().starts_with(line)).skip(1);
    beneath.take_while(|at| at.starts_with("    ")).map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Runs a line of help in a shell that exits at the first failure.
pub(crate) fn in_a_shell(site: &Site, line: &str) -> Finished {
    let mut shell = Command::new("sh");
    let folder = Path::new(env!("CARGO_BIN_EXE_kms-rotationd")).parent().unwrap();
    let script = format!("PATH='{}':$PATH\n{line}\necho went on", folder.display());
    shell.args(["-ec", &script]).current_dir(site.folder());
    Program::start(shell).finish()
}
