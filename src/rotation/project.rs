//! The vocabulary of a project: which cloud it is in, and whether its keys may be written.

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
    /// Keys are only looked at.
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

/// What is to be thought of keys that could rotate and that no entry of the policy speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// They are shown.
    #[default]
    Reported,
    /// They are failures.
    Required,
}

impl Coverage {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Reported, Self::Required];

    /// The name in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Required => "required",
        }
    }

    /// Whether a key with this status keeps its project from being well.
    #[must_use]
    pub fn is_problem(self, status: Status) -> bool {
        match status {
            Status::NonCompliant | Status::Unknown => true,
            Status::Uncovered => self == Self::Required,
            Status::Compliant | Status::Exempt => false,
        }
    }
}
