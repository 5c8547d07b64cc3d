//! Commands and options, with the texts of `--help`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::evidence_arguments::EvidenceCommand;
use super::examples;
use super::init_arguments::InitOptions;
use super::probe_arguments::ProbeOptions;
use super::simulation_arguments::{RehearseOptions, Simulation, simulations};
use crate::audit::time::Day;
use crate::logging::Format;
use crate::rotation::key_name::KeyName;
use crate::support::version::with_revision;
use crate::web::{ListenAddress, Probe, Scheme};

const LISTEN: &str = "127.0.0.1:9847";
const LISTEN_VARIABLE: &str = "KMS_ROTATIOND_LISTEN";
/// The sample of a report.
pub(super) const SAMPLE: usize = 25;
/// Of a rehearsal, and of the sample of a report.
pub(super) const SEED: u64 = 1;

/// Makes the keys of a cloud's Key Management Service follow a rotation policy, and reports on each key.
#[derive(Debug, Parser)]
#[command(version = with_revision(), max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = examples::ALL)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) log: LogOptions,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon: apply the policy on its schedule, and serve metrics and a status page
    #[command(after_help = examples::RUN)]
    Run {
        #[command(flatten)]
        policy: PolicyOption,
        #[command(flatten)]
        listen: ListenOption,
        #[command(flatten)]
        web: WebOption,
        #[command(flatten)]
        lease: LeaseOptions,
    },
    /// Apply the policy once, print the report and exit
    #[command(after_help = examples::APPLY)]
    Apply {
        #[command(flatten)]
        policy: PolicyOption,
        #[command(flatten)]
        report: ReportOptions,
        #[arg(long, help = "Ignore max_changes_per_run for this run, for example for the first policy of an account")]
        allow_many: bool,
    },
    /// Read every key and print what a run would change; never writes
    #[command(after_help = examples::PLAN)]
    Plan {
        #[command(flatten)]
        policy: PolicyOption,
        #[command(flatten)]
        report: ReportOptions,
    },
    /// Validate the policy file, without network access
    #[command(after_help = examples::CHECK)]
    Check {
        #[command(flatten)]
        policy: PolicyOption,
        #[command(flatten)]
        output: OutputOption,
        /// Exit with 2 if there is any warning
        #[arg(long)]
        strict: bool,
    },
    /// Read an account and print a policy for it, in monitor mode and with comments; never writes to the cloud
    #[command(after_help = examples::INIT)]
    Init {
        #[command(flatten)]
        options: InitOptions,
    },
    /// Print the JSON Schema of the policy file, for editors and programs
    #[command(after_help = examples::SCHEMA)]
    Schema,
    /// Run the daemon against a built-in simulated cloud with the policy's keys; needs no account and no network
    #[command(after_help = examples::REHEARSE)]
    Rehearse {
        #[command(flatten)]
        policy: PolicyOption,
        #[command(flatten)]
        listen: ListenOption,
        #[command(flatten)]
        web: WebOption,
        #[command(flatten)]
        options: RehearseOptions,
    },
    /// Try what the real API answers on one throw-away key, restore it, and record the answers; disables its rotation
    #[command(after_help = examples::PROBE)]
    Probe {
        #[command(flatten)]
        options: ProbeOptions,
    },
    /// Verify the evidence log, print checkpoints and proofs, and collect it for an auditor; needs no network
    #[command(after_help = examples::EVIDENCE)]
    Evidence {
        #[command(subcommand)]
        what: EvidenceCommand,
    },
    /// Report from the evidence log whether each key was on policy over a period, for auditors; needs no network
    #[command(after_help = examples::REPORT)]
    Report {
        #[command(flatten)]
        options: AuditOptions,
    },
    /// Check that the running daemon is alive, for containers without curl
    #[command(after_help = examples::HEALTHCHECK)]
    Healthcheck {
        #[command(flatten)]
        options: HealthOptions,
    },
    /// Print shell completions, or write the manual pages
    #[command(after_help = examples::GENERATE)]
    Generate {
        #[command(subcommand)]
        what: Generated,
    },
}

/// After the options of the command, and before `--help`.
const LAST: usize = 900;

#[derive(Args, Debug)]
pub(super) struct LogOptions {
    /// Log format
    #[arg(long, global = true, display_order = LAST, value_name = "FORMAT", default_value = "text", value_parser = log_formats())]
    pub(super) log_format: Format,
    #[arg(
        long,
        global = true,
        display_order = LAST,
        value_name = "LEVEL",
        help = "Log level: off, error, warn, info, debug or trace; or a list such as info,kms_rotationd::kms=debug \
                (default: info; with a simulated cloud each retry is shown too)"
    )]
    pub(super) log_level: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct PolicyOption {
    /// Policy file; - is standard input
    #[arg(
        id = "policy",
        long = "policy",
        value_name = "FILE",
        env = "KMS_ROTATIOND_POLICY",
        default_value = "/etc/kms-rotationd/policy.yaml"
    )]
    pub(super) file: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct ListenOption {
    #[arg(
        id = "listen",
        long = "listen",
        value_name = "ADDR:PORT",
        env = LISTEN_VARIABLE,
        default_value = LISTEN,
        help = "Address of /metrics, /healthz, /readyz, /api/v1/status and /; :PORT listens on all addresses; ignored \
                when systemd passes a socket"
    )]
    pub(super) address: ListenAddress,
}

#[derive(Args, Debug)]
pub(super) struct WebOption {
    #[arg(
        long = "web-config",
        value_name = "FILE",
        env = "KMS_ROTATIOND_WEB_CONFIG",
        help = "Web configuration file with TLS and logins, in the format of the Prometheus exporters"
    )]
    pub(super) web_config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct HealthOptions {
    /// Address of the daemon, as in its --listen
    #[arg(long, value_name = "ADDR:PORT", env = LISTEN_VARIABLE, default_value = LISTEN)]
    pub(super) listen: ListenAddress,
    #[arg(
        long,
        value_name = "URL",
        value_parser = |url: &str| Probe::address(url),
        help = "URL of the daemon, such as https://127.0.0.1:9847 (default: --listen, with or without TLS)"
    )]
    pub(super) url: Option<(Scheme, String, u16)>,
    /// Check that the first run has finished, and not only that the daemon is alive
    #[arg(long)]
    pub(super) ready: bool,
    /// CA certificate (PEM) to verify the daemon
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Client certificate (PEM), if the daemon requires one
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub(super) cert_file: Option<PathBuf>,
    /// Private key of --cert-file
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Generated {
    /// Print the completions of a shell
    Completions {
        /// Shell to complete for
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Write a manual page for the program and for each command into a folder
    Man {
        /// Folder to write to; created if it does not exist
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(super) struct LeaseOptions {
    /// Only the replica that holds this Kubernetes Lease writes; the others only read
    #[arg(long, value_name = "NAMESPACE/NAME", env = "KMS_ROTATIOND_LEASE", value_parser = lease_name)]
    pub(super) lease: Option<LeaseName>,
    #[arg(
        help = "Lease duration in seconds; at least three times request_timeout",
        id = "lease_duration",
        long = "lease-duration",
        value_name = "SECONDS",
        env = "KMS_ROTATIOND_LEASE_DURATION",
        default_value_t = 30,
        value_parser = clap::value_parser!(u16).range(3..=3600)
    )]
    pub(super) duration: u16,
}

/// The namespace and the name of a lease.
#[derive(Clone, Debug)]
pub(super) struct LeaseName {
    pub(super) namespace: String,
    pub(super) name: String,
}

fn lease_name(text: &str) -> Result<LeaseName, &'static str> {
    let is_name = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        !name.is_empty() && name.bytes().all(fits)
    };
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => {
            Ok(LeaseName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("expected NAMESPACE/NAME, each of lower-case letters, digits, - and ."),
    }
}

#[derive(Args, Debug)]
pub(super) struct OutputOption {
    /// Output format
    #[arg(id = "output", long = "output", value_name = "FORMAT", default_value = "text")]
    pub(super) format: OutputFormat,
}

#[derive(Args, Debug)]
pub(super) struct ReportOptions {
    #[command(flatten)]
    pub(super) output: OutputOption,
    /// List every key, also those on policy or exempt; JSON always lists all
    #[arg(long)]
    pub(super) all: bool,
    #[arg(
        long,
        value_name = "ID_OR_ALIAS",
        help = "Only this key, in every project that has it; max_changes_per_run does not apply to it"
    )]
    pub(super) key: Option<KeyName>,
    #[arg(
        long,
        value_name = "PRESET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = Simulation::WITHOUT_FAULTS,
        value_parser = simulations(),
        help = "Use a simulated cloud with keys made from the policy, optionally with faults; needs no account and no network"
    )]
    pub(super) simulated: Option<Simulation>,
}

#[derive(Args, Debug)]
pub(super) struct AuditOptions {
    /// Directory of an evidence log; several show several replicas side by side
    #[arg(long, value_name = "DIR", required = true, num_args = 1..)]
    pub(super) evidence: Vec<PathBuf>,
    /// First day, in UTC, such as 2026-01-01 (default: the first record)
    #[arg(long, value_name = "DAY")]
    pub(super) from: Option<Day>,
    /// Last day, in UTC, inclusive (default: the newest record)
    #[arg(long, value_name = "DAY")]
    pub(super) to: Option<Day>,
    /// Only this project; may be repeated (default: all)
    #[arg(long = "project", value_name = "NAME")]
    pub(super) projects: Vec<String>,
    /// Format of the report
    #[arg(long, value_name = "FORMAT", default_value = "html")]
    pub(super) format: AuditFormat,
    /// File to write, - for standard output; for csv a folder (default: standard output)
    #[arg(long, value_name = "FILE")]
    pub(super) output_file: Option<PathBuf>,
    /// Number of keys in the sample
    #[arg(long, value_name = "KEYS", default_value_t = SAMPLE)]
    pub(super) sample: usize,
    /// Number that decides which keys are in the sample
    #[arg(long, value_name = "NUMBER", default_value_t = SEED)]
    pub(super) seed: u64,
    #[arg(
        long = "anchor",
        value_name = "FILE",
        help = "File with checkpoints that were kept elsewhere: a signed note, a piece of the journal, or the JSON of a \
                Prometheus query; - is standard input; may be repeated"
    )]
    pub(super) anchors: Vec<PathBuf>,
}

/// The format of a report from evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum AuditFormat {
    /// One file for a browser and for paper
    Html,
    /// One document with everything
    Json,
    /// A folder of tables for spreadsheets
    Csv,
    /// OCSF 1.5.0 Compliance Findings, one in a line
    Ocsf,
    /// OSCAL 1.1.3 assessment results
    Oscal,
    #[value(help = "CycloneDX 1.6 bill of cryptographic materials")]
    Cbom,
}

/// The format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OutputFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

fn log_formats() -> impl TypedValueParser<Value = Format> {
    let names = Format::ALL.map(Format::as_str);
    PossibleValuesParser::new(names)
        .map(|name| Format::ALL.into_iter().find(|format| format.as_str() == name).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_example_is_a_valid_command() {
        let all = [
            examples::ALL,
            examples::RUN,
            examples::APPLY,
            examples::PLAN,
            examples::CHECK,
            examples::INIT,
            examples::SCHEMA,
            examples::REHEARSE,
            examples::PROBE,
            examples::EVIDENCE,
            examples::EVIDENCE_VERIFY,
            examples::EVIDENCE_CHECKPOINT,
            examples::EVIDENCE_PROVE,
            examples::EVIDENCE_PACK,
            examples::REPORT,
            examples::HEALTHCHECK,
            examples::GENERATE,
        ];
        let mut found = 0;
        for line in all.iter().flat_map(|text| text.lines()).map(str::trim) {
            if line.starts_with("kms-rotationd ") {
                let command = line.split(['|', '>']).next().unwrap();
                let words = command.split_whitespace().map(|word| word.trim_matches('\''));
                if let Err(error) = Arguments::try_parse_from(words) {
                    panic!("{line}: {error}");
                }
                found += 1;
            }
        }
        assert!(found >= 15, "{found}");
    }
}
