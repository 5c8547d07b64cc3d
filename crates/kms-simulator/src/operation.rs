//! The calls of the API, and sets of them for settings and faults.

/// A call of the simulated APIs (`docs/kms-api.md` 1.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `enable-key-rotation`
    EnableRotation,
    /// `disable-key-rotation`
    DisableRotation,
    /// `update-key-rotation-interval`
    UpdateInterval,
    /// `get-key-rotation-status`
    ReadStatus,
    /// `describe-key`
    DescribeKey,
    /// `list-keys`
    ListKeys,
    /// `resource_instances/action`
    QueryByTag,
    /// `GET {key_id}/tags`
    KeyTags,
    /// `GET tags`
    ProjectTags,
    /// `POST /v3/auth/tokens` by every method but `assume_role`
    Authenticate,
    /// `POST /v3/auth/tokens` by the method `assume_role`
    AgencyToken,
    /// `POST /v3.0/OS-CREDENTIAL/securitytokens`
    TemporaryKeys,
    /// `POST /v3.0/OS-AUTH/id-token/tokens`
    IdToken,
    /// `GET /v3/projects`
    ListProjects,
    /// `POST /v5/agencies/assume-with-oidc` of STS
    AssumeWithOidc,
    /// `PUT /meta-data/latest/api/token` of the metadata service
    MetadataToken,
    /// `GET /openstack/latest/securitykey` of the metadata service
    InstanceKeys,
    /// `POST` to the credentials URL of a pod
    PodKeys,
    /// Every other request.
    Other,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 19] = [
        Self::EnableRotation,
        Self::DisableRotation,
        Self::UpdateInterval,
        Self::ReadStatus,
        Self::DescribeKey,
        Self::ListKeys,
        Self::QueryByTag,
        Self::KeyTags,
        Self::ProjectTags,
        Self::Authenticate,
        Self::AgencyToken,
        Self::TemporaryKeys,
        Self::IdToken,
        Self::ListProjects,
        Self::AssumeWithOidc,
        Self::MetadataToken,
        Self::InstanceKeys,
        Self::PodKeys,
        Self::Other,
    ];

    /// A unique name: the end of the call's path, or another word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnableRotation => "enable-key-rotation",
            Self::DisableRotation => "disable-key-rotation",
            Self::UpdateInterval => "update-key-rotation-interval",
            Self::ReadStatus => "get-key-rotation-status",
            Self::DescribeKey => "describe-key",
            Self::ListKeys => "list-keys",
            Self::QueryByTag => "resource_instances/action",
            Self::KeyTags => "key_id/tags",
            Self::ProjectTags => "tags",
            Self::Authenticate => "tokens",
            Self::AgencyToken => "assume_role",
            Self::TemporaryKeys => "securitytokens",
            Self::IdToken => "id-token",
            Self::ListProjects => "projects",
            Self::AssumeWithOidc => "assume-with-oidc",
            Self::MetadataToken => "metadata-token",
            Self::InstanceKeys => "securitykey",
            Self::PodKeys => "pod-credentials",
            Self::Other => "other",
        }
    }

    /// The KMS call with this end of the path, and the key id in the path.
    pub(super) fn of_kms(end: &str) -> Option<(Self, Option<&str>)> {
        if let Some((key_id, "tags")) = end.split_once('/') {
            return Some((Self::KeyTags, Some(key_id)));
        }
        let mut calls = Self::ALL.into_iter().filter(|operation| OperationSet::KMS.contains(*operation));
        calls.find(|operation| operation.as_str() == end).map(|operation| (operation, None))
    }
}

/// A set of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationSet(u32);

impl OperationSet {
    /// No operation.
    pub const NONE: Self = Self(0);
    /// The calls of KMS.
    pub const KMS: Self = Self(Self::READS.0 | Self::WRITES.0);
    /// The calls of KMS that change a key.
    pub const WRITES: Self =
        Self::of(&[Operation::EnableRotation, Operation::DisableRotation, Operation::UpdateInterval]);
    /// The calls of KMS that change nothing.
    pub const READS: Self = Self::of(&[
        Operation::ReadStatus,
        Operation::DescribeKey,
        Operation::ListKeys,
        Operation::QueryByTag,
        Operation::KeyTags,
        Operation::ProjectTags,
    ]);
    /// The calls of IAM and STS.
    pub const IAM: Self = Self::of(&[
        Operation::Authenticate,
        Operation::AgencyToken,
        Operation::TemporaryKeys,
        Operation::IdToken,
        Operation::ListProjects,
        Operation::AssumeWithOidc,
    ]);
    /// The calls of an instance's metadata service, and of a node's agent for its pods.
    pub const METADATA: Self = Self::of(&[Operation::MetadataToken, Operation::InstanceKeys, Operation::PodKeys]);
    /// The calls of KMS, IAM and STS; not those of the metadata service and the agent.
    pub const ALL: Self = Self(Self::KMS.0 | Self::IAM.0);

    /// The set of these operations.
    #[must_use]
    pub const fn of(operations: &[Operation]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < operations.len() {
            bits |= 1 << operations[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Whether the operation is in the set.
    #[must_use]
    pub const fn contains(self, operation: Operation) -> bool {
        self.0 & 1 << operation as u8 != 0
    }
}

impl From<Operation> for OperationSet {
    fn from(operation: Operation) -> Self {
        Self::of(&[operation])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_the_calls_of_kms_only() {
        for operation in Operation::ALL {
            let expected = OperationSet::KMS.contains(operation).then_some(operation);
            assert_eq!(Operation::of_kms(operation.as_str()).map(|(found, _)| found), expected);
        }
        assert_eq!(Operation::of_kms("0d04/tags"), Some((Operation::KeyTags, Some("0d04"))));
        assert_eq!(Operation::of_kms("0d04/tags/"), None);
        assert_eq!(Operation::of_kms("rotate-on-demand"), None);
    }

    #[test]
    fn every_call_of_kms_is_a_read_or_a_write() {
        for operation in Operation::ALL {
            let either = OperationSet::READS.contains(operation) ^ OperationSet::WRITES.contains(operation);
            assert_eq!(either, OperationSet::KMS.contains(operation));
        }
        assert!(!OperationSet::KMS.contains(Operation::Authenticate));
        assert!(!OperationSet::ALL.contains(Operation::Other));
    }

    #[test]
    fn every_operation_has_one_service_and_a_unique_name() {
        for operation in Operation::ALL {
            let sets = [OperationSet::KMS, OperationSet::IAM, OperationSet::METADATA];
            let servers = sets.into_iter().filter(|set| set.contains(operation)).count();
            assert_eq!(servers, usize::from(operation != Operation::Other), "{operation:?}");
            let named = Operation::ALL.into_iter().filter(|other| other.as_str() == operation.as_str()).count();
            assert_eq!(named, 1, "{operation:?}");
        }
    }
}
