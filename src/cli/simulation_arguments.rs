//! The options of everything with a simulated cloud, with the texts of `--help`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::arguments::SEED;
use crate::support::duration::parse_duration;
use kms_simulator::Preset;

#[derive(Args, Debug)]
pub(super) struct RehearseOptions {
    /// Faults of the simulated cloud
    #[arg(long, value_name = "PRESET", value_parser = presets())]
    pub(super) faults: Option<Preset>,
    #[arg(
        long,
        value_name = "FILE",
        help = "Answers that `probe --record` has recorded: the simulated cloud answers in the same way"
    )]
    pub(super) cassette: Option<PathBuf>,
    /// Time between two runs, for example 10s (default: the policy's schedule)
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(super) every: Option<Duration>,
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = span,
        help = "Begin this long ago, for example 400d, and jump from run to run until the present. Meanwhile a story \
                happens, as far as the policy allows it: rotation is switched off, the cloud is down or misses a \
                rotation, a key appears, an exemption ends, the daemon is down. With --faults forgetful there is no story"
    )]
    pub(super) fast_forward: Option<Duration>,
    /// The same number gives the same keys, faults and story
    #[arg(long, value_name = "NUMBER", default_value_t = SEED)]
    pub(super) seed: u64,
    #[arg(
        long,
        value_name = "FOLDER",
        help = "Record the rehearsal in an evidence log in this folder, which must be missing or empty; the evidence log \
                of the policy is left alone"
    )]
    pub(super) evidence: Option<PathBuf>,
    /// Write the audit report on the whole span to this HTML file when the fast-forward has reached the present
    #[arg(long, value_name = "FILE", requires = "fast_forward", value_parser = no_stream)]
    pub(super) report: Option<PathBuf>,
    /// End after the first run, or when the fast-forward has reached the present, and open no port
    #[arg(long)]
    pub(super) once: bool,
}

/// The simulated cloud of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simulation {
    pub(super) faults: Option<Preset>,
}

impl Simulation {
    pub(super) const WITHOUT_FAULTS: &str = "none";
}

fn preset_values() -> impl Iterator<Item = PossibleValue> {
    Preset::ALL.into_iter().map(|preset| PossibleValue::new(preset.as_str()).help(preset.description()))
}

fn presets() -> impl TypedValueParser<Value = Preset> {
    PossibleValuesParser::new(preset_values()).try_map(|name| name.parse::<Preset>())
}

pub(super) fn simulations() -> impl TypedValueParser<Value = Simulation> {
    let none = PossibleValue::new(Simulation::WITHOUT_FAULTS).help("no faults, also if no preset is given");
    PossibleValuesParser::new(std::iter::once(none).chain(preset_values()))
        .map(|name| Simulation { faults: name.parse().ok() })
}

/// A file, since the command prints its own lines to standard output.
pub(super) fn no_stream(path: &str) -> Result<PathBuf, &'static str> {
    if path == "-" { Err("expected a file: standard output has the lines of the command") } else { Ok(path.into()) }
}

/// A span of time into the past, of at most ten years.
fn span(text: &str) -> Result<Duration, &'static str> {
    const MAX: Duration = Duration::from_secs(3_660 * 24 * 3600);
    let duration = parse_duration(text).and_then(|duration| Duration::try_from(duration).ok());
    duration.filter(|duration| *duration <= MAX).ok_or("expected a duration such as 36h, 100d or 400d, at most 3660d")
}

/// A time between two runs, from a second to a year.
fn interval(text: &str) -> Result<Duration, &'static str> {
    const ALLOWED: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600);
    let duration = parse_duration(text).and_then(|duration| Duration::try_from(duration).ok());
    duration
        .filter(|duration| ALLOWED.contains(duration))
        .ok_or("expected a duration such as 10s or 5m, from 1s to 366d")
}
