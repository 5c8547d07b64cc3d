//! Named sets of faults for `rehearse --faults NAME`.
//!
//! Rates are moderate: with every preset, a client that retries correctly repairs every setting within a few runs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::behaviour::{Behaviour, MetadataTokens};
use super::fault::{Fault, Garbage};
use super::operation::OperationSet;
use super::rule::Rule;

/// A named set of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Errors of KMS and gateways.
    Flaky,
    /// Request limits.
    Throttled,
    /// Latency, and answers that never come.
    Slow,
    /// Connections that break.
    Lossy,
    /// Unusable answers.
    Garbage,
    /// Credentials that expire early or are refused.
    Auth,
    /// All of the above, at lower rates.
    All,
    /// Keys that the cloud forgets to rotate.
    Forgetful,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 8] =
        [Self::Flaky, Self::Throttled, Self::Slow, Self::Lossy, Self::Garbage, Self::Auth, Self::All, Self::Forgetful];

    /// The name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flaky => "flaky",
            Self::Throttled => "throttled",
            Self::Slow => "slow",
            Self::Lossy => "lossy",
            Self::Garbage => "garbage",
            Self::Auth => "auth",
            Self::All => "all",
            Self::Forgetful => "forgetful",
        }
    }

    /// One line for `--help`.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Flaky => "10 % of KMS calls answer 500, 502 or 504, the gateways' with HTML pages",
            Self::Throttled => "15 % of KMS calls answer 429, with and without Retry-After",
            Self::Slow => "answers take 50 to 400 ms; 2 % never come or come byte by byte",
            Self::Lossy => {
                "10 % of KMS calls lose their connection: before or after they take effect, or in mid-answer"
            }
            Self::Garbage => "5 % of KMS calls answer 200 with an unusable body",
            Self::Auth => {
                "tokens and temporary keys live for 20 seconds, 2 % of KMS calls answer 401, 10 % of metadata calls 503"
            }
            Self::All => "the faults of flaky, throttled, slow, lossy, garbage and auth, at lower rates",
            Self::Forgetful => {
                "the cloud forgets to rotate every third key: its last rotation is missing, and no other one follows"
            }
        }
    }

    /// The rules, in order.
    pub(super) fn rules(self) -> Vec<Rule> {
        match self {
            Self::Flaky => vec![flaky(0.10)],
            Self::Throttled => vec![throttled(0.15)],
            Self::Slow => {
                let latency = Fault::delay_between(Duration::from_millis(50), Duration::from_millis(400));
                vec![Rule::always(latency).on(OperationSet::ALL), slow(0.02)]
            }
            Self::Lossy => vec![lossy(0.10)],
            Self::Garbage => vec![garbage(0.05)],
            Self::Auth => vec![refusing(0.02), absent_metadata(0.10)],
            Self::All => {
                let latency = Fault::delay_between(Duration::from_millis(5), Duration::from_millis(50));
                vec![
                    Rule::always(latency).on(OperationSet::ALL),
                    flaky(0.04),
                    throttled(0.03),
                    slow(0.005),
                    lossy(0.03),
                    garbage(0.01),
                    refusing(0.01),
                    absent_metadata(0.05),
                ]
            }
            Self::Forgetful => Vec::new(),
        }
    }

    /// Changes the cloud's behaviour, in addition to the faults.
    pub(super) fn apply_to(self, behaviour: &mut Behaviour) {
        if matches!(self, Self::Auth | Self::All) {
            let lifetime = Duration::from_secs(20);
            behaviour.token_lifetime = lifetime;
            behaviour.temporary_key_lifetime = Some(lifetime);
            // Without a token the client gets 401.
            behaviour.metadata_tokens = MetadataTokens::Required;
        }
        if self == Self::Forgetful {
            behaviour.forgets_every = Some(3);
        }
    }
}

fn flaky(share: f64) -> Rule {
    // A 502 or 504 can come before or after the backend did its work.
    let lost = [502, 504].map(|status| Fault::html(status).after_applying());
    let before = [Fault::kms(500, "KMS.0100"), Fault::html(502), Fault::html(504)];
    Rule::rate(share, before.into_iter().chain(lost))
}

fn throttled(share: f64) -> Rule {
    Rule::rate(share, [Fault::throttled(), Fault::throttled().retry_after("1"), Fault::throttled().retry_after("2")])
}

fn slow(share: f64) -> Rule {
    let drip = Fault::drip(Duration::from_secs(2));
    Rule::rate(share, [Fault::hang(), Fault::hang().after_applying(), drip])
}

fn lossy(share: f64) -> Rule {
    let cut = [Fault::cut_off(), Fault::cut_off_by_reset()];
    Rule::rate(share, [Fault::reset(), Fault::reset().after_applying()].into_iter().chain(cut))
}

fn garbage(share: f64) -> Rule {
    Rule::rate(share, Garbage::ALL.map(Fault::garbage))
}

fn refusing(share: f64) -> Rule {
    Rule::rate(share, [Fault::unauthorized(), Fault::gateway(401, "APIGW.0307")])
}

fn absent_metadata(share: f64) -> Rule {
    Rule::rate(share, [Fault::html(503)]).on(OperationSet::METADATA)
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is not the name of a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPreset;

impl fmt::Display for UnknownPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such preset of faults: expected one of ")?;
        for (at, preset) in Preset::ALL.into_iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{preset}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownPreset {}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text).ok_or(UnknownPreset)
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::Operation;
    use super::super::rule::FaultRules;
    use super::*;

    #[test]
    fn every_preset_has_a_unique_name_and_one_line_of_help() {
        for preset in Preset::ALL {
            assert_eq!(preset.as_str().parse(), Ok(preset));
            assert!(!preset.description().contains('\n'));
        }
        let error = "flakey".parse::<Preset>().unwrap_err().to_string();
        assert_eq!(
            error,
            "no such preset of faults: expected one of flaky, throttled, slow, lossy, garbage, auth, all, forgetful"
        );
    }

    #[test]
    fn presets_have_their_rate_and_spare_iam() {
        let shares = [0.10, 0.15, 0.02, 0.10, 0.05, 0.02, 0.12, 0.0];
        for (preset, share) in Preset::ALL.into_iter().zip(shares) {
            let mut rules = FaultRules::new(preset.rules(), 5);
            let calls = 20_000;
            for _ in 0..calls {
                let _ = rules.decide(Operation::ReadStatus, None);
            }
            let injected = f64::from(u32::try_from(rules.faults_injected()).unwrap()) / f64::from(calls);
            assert!((injected - share).abs() < 0.01, "{preset}: {injected}");
            let before = rules.faults_injected();
            for _ in 0..1000 {
                let _ = rules.decide(Operation::Authenticate, None);
            }
            assert_eq!(rules.faults_injected(), before, "{preset}");
        }
    }

    #[test]
    fn presets_shorten_the_lifetime_of_every_kind_of_credential() {
        for (preset, share) in [(Preset::Auth, 0.10), (Preset::All, 0.05)] {
            let mut behaviour = Behaviour::default();
            preset.apply_to(&mut behaviour);
            assert_eq!(Some(behaviour.token_lifetime), behaviour.temporary_key_lifetime);
            assert_eq!(behaviour.metadata_tokens, MetadataTokens::Required);
            let mut rules = FaultRules::new(preset.rules(), 5);
            let calls = 20_000;
            let injected = (0..calls).filter(|_| rules.decide(Operation::InstanceKeys, None).fault().is_some()).count();
            let injected = f64::from(u32::try_from(injected).unwrap()) / f64::from(calls);
            assert!((injected - share).abs() < 0.01, "{preset}: {injected}");
        }
    }
}
