//! `generate`: what packages install beside the program, made from the definitions that it reads its arguments with.
//!
//! By the program itself and not when it is built: no build script and no second program, and whoever has only the
//! binary has them too.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::arguments::Arguments;
use super::{Exit, complain, print};

/// The completions of a shell, to standard output.
pub(super) fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(Exit::Well, |out| out.write_all(&script))
}

/// A page of the manual for the program and for each command, into a folder.
pub(super) fn man(folder: &Path) -> Exit {
    let pages = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Arguments::command(), folder)
    };
    match pages() {
        Ok(()) => Exit::Well,
        Err(error) => complain(Exit::Failed, &format_args!("cannot write the manual to {}: {error}", folder.display())),
    }
}
