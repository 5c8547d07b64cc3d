//! The options of `probe`, with the texts of `--help`.

use std::path::PathBuf;

use clap::Args;

use super::arguments::PolicyOption;
use super::simulation_arguments::no_stream;
use crate::rotation::key_name::KeyName;

#[derive(Args, Debug)]
pub(super) struct ProbeOptions {
    #[command(flatten)]
    pub(super) policy: PolicyOption,
    /// Project of the policy that has the key; its login, endpoints and proxy are used
    #[arg(long, value_name = "NAME")]
    pub(super) project: String,
    #[arg(
        long,
        value_name = "ID_OR_ALIAS",
        help = "A key that nothing depends on, made for this: its rotation is switched on and off, and then restored"
    )]
    pub(super) key: KeyName,
    /// Write the answers to this new file, without ids, names and other data of the account
    #[arg(long, value_name = "FILE", value_parser = no_stream)]
    pub(super) record: Option<PathBuf>,
    /// Do not ask for a confirmation; required without a terminal
    #[arg(long)]
    pub(super) yes: bool,
}
