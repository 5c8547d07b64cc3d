//! The calls of the KMS: their paths, and the permission and the operation of each.

use super::observe::Operation;
use super::transport::Method;

/// A call of the KMS (`docs/kms-api.md` 1.1).
#[derive(Clone, Copy)]
pub(super) enum Route {
    ReadStatus,
    Enable,
    SetInterval,
    Describe,
    ListKeys,
    KeysByTag,
    Tags,
    /// Used by single calls only.
    Disable,
}

impl Route {
    pub(super) const ALL: [Self; 8] = [
        Self::ReadStatus,
        Self::Enable,
        Self::SetInterval,
        Self::Describe,
        Self::ListKeys,
        Self::KeysByTag,
        Self::Tags,
        Self::Disable,
    ];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::ReadStatus => "get-key-rotation-status",
            Self::Enable => "enable-key-rotation",
            Self::SetInterval => "update-key-rotation-interval",
            Self::Describe => "describe-key",
            Self::ListKeys => "list-keys",
            Self::KeysByTag => "resource_instances/action",
            Self::Tags => "tags",
            Self::Disable => "disable-key-rotation",
        }
    }

    pub(super) fn method(self) -> Method {
        match self {
            Self::Tags => Method::Get,
            _ => Method::Post,
        }
    }

    /// The permission that a user needs for it (`docs/kms-api.md` 7).
    pub(super) fn permission(self) -> &'static str {
        match self {
            Self::ReadStatus => "kms:cmk:getRotation",
            Self::Enable => "kms:cmk:enableRotation",
            Self::SetInterval => "kms:cmk:updateRotation",
            Self::Describe => "kms:cmk:get",
            Self::ListKeys => "kms:cmk:list",
            Self::KeysByTag => "kms:cmkTag:listInstance",
            Self::Tags => "kms:cmkTag:list",
            Self::Disable => "kms:cmk:disableRotation",
        }
    }

    /// The operation that it counts as.
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::ReadStatus => Operation::ReadStatus,
            Self::Enable => Operation::EnableRotation,
            // Metrics have no disabling: no run does it.
            Self::SetInterval | Self::Disable => Operation::UpdateInterval,
            Self::Describe => Operation::DescribeKey,
            Self::ListKeys | Self::KeysByTag | Self::Tags => Operation::ListKeys,
        }
    }
}
