//! `generate`: completions and manual pages, made from the definitions of the arguments.
//!
//! The program makes them itself, without a build script, so that they are available with the binary alone.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::arguments::Arguments;
use super::{Exit, fail, print};

/// Prints the completions of a shell.
pub(super) fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(Exit::Success, |out| out.write_all(&script))
}

/// Writes a manual page for the program and for each command into a folder.
pub(super) fn man(folder: &Path) -> Exit {
    let pages = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Arguments::command(), folder)
    };
    match pages() {
        Ok(()) => Exit::Success,
        Err(error) => fail(Exit::Failed, &format_args!("cannot write the manual to {}: {error}", folder.display())),
    }
}
