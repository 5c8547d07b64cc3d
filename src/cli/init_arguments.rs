//! The options of `init`, with the texts of `--help`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};

use crate::policy::{is_project_id, is_region};
use crate::rotation::key::RotationInterval;
use crate::rotation::project::Cloud;

#[derive(Args, Debug)]
#[command(group(
    ArgGroup::new("source").args(["cloud", "policy_file", "from_terraform"]).required(true).multiple(true)
))]
pub(super) struct InitOptions {
    #[arg(
        long,
        value_name = "CLOUD",
        value_parser = clouds(),
        requires = "region",
        conflicts_with = "policy_file",
        help = "Read the account on this cloud, with the credentials of the environment, as with `environment: {}`"
    )]
    pub(super) cloud: Option<Cloud>,
    #[arg(
        long,
        value_name = "REGION",
        value_parser = region,
        conflicts_with = "policy_file",
        help = "Region of the account; without --cloud, of the Terraform keys that report none"
    )]
    pub(super) region: Option<String>,
    /// Project of the account (default: the one that the environment names, else the one named like the region)
    #[arg(long, value_name = "ID", value_parser = project_id, conflicts_with = "policy_file")]
    pub(super) project_id: Option<String>,
    #[arg(
        id = "policy_file",
        long = "policy",
        value_name = "FILE",
        help = "Read the accounts of the projects in this policy file, which need no `keys`; all other fields are kept"
    )]
    pub(super) policy: Option<PathBuf>,
    #[arg(
        long,
        value_name = "FILE",
        help = "Output of `terraform show -json`, of a state or a plan, or - for standard input: its keys get the \
                intervals that the code asks for. Without --cloud and --policy no account is read"
    )]
    pub(super) from_terraform: Option<PathBuf>,
    #[arg(
        long,
        value_name = "DAYS",
        default_value = "365",
        value_parser = interval,
        help = "Longest interval of all other keys, 30 to 365 days"
    )]
    pub(super) max_interval: RotationInterval,
    /// File to write (default: standard output)
    #[arg(long, value_name = "FILE")]
    pub(super) output_file: Option<PathBuf>,
}

fn clouds() -> impl TypedValueParser<Value = Cloud> {
    PossibleValuesParser::new(Cloud::ALL.map(Cloud::as_str))
        .map(|name| Cloud::ALL.into_iter().find(|cloud| cloud.as_str() == name).unwrap_or(Cloud::HuaweiCloud))
}

fn region(text: &str) -> Result<String, &'static str> {
    let expected = "expected a region such as eu-de: lower-case letters, digits and hyphens";
    if is_region(text) { Ok(text.to_owned()) } else { Err(expected) }
}

fn project_id(text: &str) -> Result<String, &'static str> {
    let expected = "expected a project id: 32 hexadecimal digits in lower case";
    if is_project_id(text) { Ok(text.to_owned()) } else { Err(expected) }
}

fn interval(text: &str) -> Result<RotationInterval, &'static str> {
    text.parse().ok().and_then(RotationInterval::from_days).ok_or("expected a whole number of days from 30 to 365")
}
