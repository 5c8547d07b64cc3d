//! The commands below `evidence`, with the texts of `--help`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::arguments::OutputOption;
use super::examples;
use crate::evidence::pack::Day;

#[derive(Debug, Subcommand)]
pub(super) enum EvidenceCommand {
    /// Verify that the records of a log are complete and unchanged, as far as checkpoints and anchors show
    #[command(after_help = examples::EVIDENCE_VERIFY)]
    Verify {
        #[command(flatten)]
        logs: LogsArgument,
        #[arg(
            long = "anchor",
            value_name = "FILE",
            help = "What was kept elsewhere of a log: a checkpoint, log lines of the daemon, or the JSON of a Prometheus \
                    query; - is standard input"
        )]
        anchors: Vec<PathBuf>,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Print the newest signed checkpoint, to keep it elsewhere
    #[command(after_help = examples::EVIDENCE_CHECKPOINT)]
    Checkpoint {
        #[command(flatten)]
        log: LogArgument,
    },
    /// Print the proof that one record is in a log (c2sp.org/tlog-proof)
    #[command(after_help = examples::EVIDENCE_PROVE)]
    Prove {
        #[command(flatten)]
        log: LogArgument,
        /// Number of the record, as in its field seq
        #[arg(long, value_name = "N")]
        seq: u64,
        /// File to write the proof to; - is standard output (default: standard output)
        #[arg(long, value_name = "FILE")]
        output_file: Option<PathBuf>,
    },
    /// Collect logs for an auditor: one tar file with records, checkpoints, public key, guide and Python verifier
    #[command(after_help = examples::EVIDENCE_PACK)]
    Pack {
        #[command(flatten)]
        logs: LogsArgument,
        /// First UTC day whose records are wanted, such as 2026-01-01; whole segments are packed
        #[arg(long, value_name = "DAY", value_parser = day)]
        from: Option<Day>,
        /// Last UTC day whose records are wanted
        #[arg(long, value_name = "DAY", value_parser = day)]
        to: Option<Day>,
        /// File to write, or to replace; - is standard output
        #[arg(long, value_name = "FILE.tar")]
        output_file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(super) struct LogsArgument {
    /// Directories of logs
    #[arg(id = "DIR", required = true)]
    pub(super) folders: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct LogArgument {
    /// Directory of the log
    #[arg(id = "DIR")]
    pub(super) folder: PathBuf,
}

fn day(text: &str) -> Result<Day, String> {
    text.parse().map_err(|error: crate::evidence::pack::NotADay| error.to_string())
}
