//! The status of a key, and the reasons for it. Both are closed sets, and part of the public interface.

use std::fmt;

/// The status of a key under its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The cloud reports that rotation is on and that the interval is on policy.
    Compliant,
    /// The cloud reports otherwise, or the key is in a state in which it does not rotate.
    NonCompliant,
    /// The setting could not be read.
    Unknown,
    /// The key cannot be rotated, or the policy exempts it.
    Exempt,
    /// The key can be rotated, and no policy entry matches it.
    Uncovered,
}

impl Status {
    /// Every status, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Compliant, Self::NonCompliant, Self::Unknown, Self::Exempt, Self::Uncovered];

    /// The status with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// The name in metrics and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compliant => "compliant",
            Self::NonCompliant => "non_compliant",
            Self::Unknown => "unknown",
            Self::Exempt => "exempt",
            Self::Uncovered => "uncovered",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Why a key has its status. A closed set: the names are part of the public interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name,)+ }

        impl Reason {
            /// Every reason, the most important first.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason with this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }

            /// The name in metrics and reports.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    /// The credentials of the project were refused.
    AuthenticationFailed = "authentication_failed",
    /// The login service did not answer, or failed; it has refused nothing.
    LoginUnavailable = "login_unavailable",
    /// The key does not exist in the project.
    NotFound = "not_found",
    /// The key is disabled, so its rotation cannot be changed.
    KeyDisabled = "key_disabled",
    /// The key is scheduled for deletion.
    PendingDeletion = "pending_deletion",
    /// Rotation is off.
    RotationDisabled = "rotation_disabled",
    /// The interval differs from the policy's.
    IntervalMismatch = "interval_mismatch",
    /// The interval is above the longest that the policy accepts.
    IntervalTooLong = "interval_too_long",
    /// The cloud has not rotated the key although it was due.
    RotationOverdue = "rotation_overdue",
    /// The key material is older than the policy allows.
    MaterialTooOld = "material_too_old",
    /// The cloud does not offer the rotation setting, so nothing proves it.
    StatusUnreadable = "status_unreadable",
    /// Reading the rotation setting failed.
    ReadFailed = "read_failed",
    /// A write failed for good.
    WriteFailed = "write_failed",
    /// The user lacks the permission.
    AccessDenied = "access_denied",
    /// The cloud kept answering 429.
    Throttled = "throttled",
    /// A write is not confirmed by a reading.
    NotVerified = "not_verified",
    /// The age of the key material is unknown, or readings contradict each other.
    RotationUnproven = "rotation_unproven",
    /// A default key, made by a cloud service.
    DefaultKey = "default_key",
    /// The key material was imported.
    ImportedMaterial = "imported_material",
    /// An asymmetric or HMAC key.
    UnsupportedKeyType = "unsupported_key_type",
    /// The key lives in a custom keystore.
    CustomKeystore = "custom_keystore",
    /// A replica of a multi-region key.
    ReplicaKey = "replica_key",
    /// The KMS of this region does not support rotation.
    RotationUnsupported = "rotation_unsupported",
    /// The policy exempts the key.
    Exempted = "exempted",
    /// The exemption of the key ends soon.
    ExemptionEndsSoon = "exemption_ends_soon",
    /// Several keys have the alias of the entry.
    AmbiguousEntry = "ambiguous_entry",
    /// Postponed: the limit of changes per run was reached.
    ChangeLimit = "change_limit",
    /// Something keeps changing the key back.
    Flapping = "flapping",
    /// No policy entry matches the key.
    Uncovered = "uncovered",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of reasons.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Reasons(u32);

impl Reasons {
    /// No reason.
    pub const NONE: Self = Self(0);

    /// Adds a reason.
    #[must_use]
    pub fn with(self, reason: Reason) -> Self {
        Self(self.0 | 1 << reason as u8)
    }

    /// Whether the reason is in the set.
    #[must_use]
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & 1 << reason as u8 != 0
    }

    /// Whether there is no reason.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a number, one bit for each reason.
    #[must_use]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The reasons, the most important first.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.iter().copied().filter(move |reason| self.contains(*reason))
    }
}

impl From<Reason> for Reasons {
    fn from(reason: Reason) -> Self {
        Self::NONE.with(reason)
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, reason) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            f.write_str(reason.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
