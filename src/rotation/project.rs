//! The types of a project: its cloud, its mode, its coverage, and what it requires as proof of rotation.

use std::sync::Arc;
use std::time::Duration;

use super::key::DAY;
use super::reason::Status;

/// A cloud that speaks this KMS API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// Huawei Cloud, Chinese, international and European sites.
    HuaweiCloud,
    /// Open Telekom Cloud.
    OpenTelekomCloud,
    /// Flexible Engine.
    FlexibleEngine,
}

impl Cloud {
    /// Every cloud.
    pub const ALL: [Self; 3] = [Self::HuaweiCloud, Self::OpenTelekomCloud, Self::FlexibleEngine];

    /// The name in the policy and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HuaweiCloud => "huawei-cloud",
            Self::OpenTelekomCloud => "open-telekom-cloud",
            Self::FlexibleEngine => "flexible-engine",
        }
    }
}

/// Whether a project's keys may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Keys are brought to the policy.
    #[default]
    Enforce,
    /// Keys are only read.
    Monitor,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Monitor];

    /// The name in the policy and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
        }
    }
}

/// Whether uncovered keys are only reported or count as failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// They are reported.
    #[default]
    Reported,
    /// They count as failures.
    Required,
}

impl Coverage {
    /// Every coverage.
    pub const ALL: [Self; 2] = [Self::Reported, Self::Required];

    /// The name in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Required => "required",
        }
    }

    /// Whether a key with this status counts as a failure.
    #[must_use]
    pub(crate) fn is_problem(self, status: Status) -> bool {
        match status {
            Status::NonCompliant | Status::Unknown => true,
            Status::Uncovered => self == Self::Required,
            Status::Compliant | Status::Exempt => false,
        }
    }
}

/// Which keys have metrics of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PerKey {
    /// All keys.
    #[default]
    All,
    /// Keys with a reason, and keys that are neither on policy nor exempt.
    Problems,
    /// None: keys are only counted.
    None,
}

impl PerKey {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::All, Self::Problems, Self::None];

    /// The name in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Problems => "problems",
            Self::None => "none",
        }
    }
}

/// Whether material that is older than the policy allows is only reported or makes a key off policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// It is reported beside the key's status.
    #[default]
    Reported,
    /// It makes the key off policy.
    Required,
}

impl Proof {
    /// Every proof.
    pub const ALL: [Self; 2] = [Self::Reported, Self::Required];

    /// The name in the policy and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Required => "required",
        }
    }
}

/// How a project is reached in its cloud. Nothing is decided from it; it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudAccess {
    /// The URL of the KMS.
    pub endpoint: Option<Arc<str>>,
    /// The project's id in the cloud.
    pub project_id: Option<Arc<str>>,
    /// The user, access key or agency that logs in.
    pub principal: Option<Arc<str>>,
    /// How far the cloud's clock is ahead of this machine's, in seconds; negative if it is behind.
    pub clock_skew_seconds: Option<i64>,
}

/// How a project's keys must be proven to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofRule {
    pub proof: Proof,
    /// The time after the interval before material is too old, or a rotation overdue.
    pub grace: Duration,
}

impl ProofRule {
    /// The longest grace.
    pub(crate) const MAX_GRACE: Duration = Duration::from_secs(30 * DAY.as_secs());
}

impl Default for ProofRule {
    fn default() -> Self {
        Self { proof: Proof::default(), grace: 2 * DAY }
    }
}
