//! Settings for what the documents leave open (`docs/kms-api.md` 1.6 and 9), and for limits and lifetimes.

use std::time::Duration;

use super::operation::OperationSet;

/// The largest limit known to be accepted (`docs/kms-api.md` 1.4), and Huawei Cloud's default in a newer document.
pub(super) const LARGEST_PAGE: u64 = 2000;

/// The JSON types of a cloud's answers; documents and recordings disagree (`docs/kms-api.md` 1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Huawei Cloud's documents: flag as boolean, numbers as numbers, time in milliseconds as text. `Content-Type` is
    /// optional.
    #[default]
    Huawei,
    /// Open Telekom Cloud's tables: flag and count as text. `Content-Type` is mandatory; `list-keys` ignores
    /// `key_spec`, and its details lack the rotation flag.
    OpenTelekomCloud,
    /// Everything as text, and time in seconds, as the descriptions in the tables have it.
    AllText,
}

/// `last_rotation_time` of a key that never rotated; not documented (`docs/kms-api.md` 1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NeverRotated {
    /// The field is left out.
    #[default]
    Absent,
    /// `""`
    Empty,
    /// `null`
    Null,
    /// `0`
    Zero,
}

/// The body of a successful write (`docs/kms-api.md` 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuccessBody {
    /// None.
    Empty,
    /// `{}`
    Object,
}

/// The component that refuses an invalid token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRefusal {
    /// The KMS: 403 with `KMS.0301` (missing), `KMS.0302` (invalid) or `KMS.0303` (expired).
    #[default]
    Kms,
    /// The gateway before it: 401 with `APIGW.0301`, or `APIGW.0307` for an expired or revoked one.
    Gateway,
}

/// How an instance's metadata service treats tokens, its version 2 (`docs/kms-api.md` 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataTokens {
    /// Issued on request, and not required.
    #[default]
    Optional,
    /// Required: 401 without one.
    Required,
    /// Not supported: a request for one is answered with this status, such as 404, 405 or 503.
    Absent(u16),
}

/// What `total` and `total_count` count; not documented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Total {
    /// All keys that match.
    #[default]
    Found,
    /// The keys on the page.
    Page,
}

impl Total {
    pub(super) fn of(self, found: usize, page: usize) -> usize {
        match self {
            Self::Found => found,
            Self::Page => page,
        }
    }
}

/// The size of the largest page, and how a larger limit is treated; not documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargestPage {
    /// A larger limit is refused: `KMS.1601`, or `KMS.0308` in a search by tags.
    Refusing(u64),
    /// A larger limit returns the largest page.
    Capping(u64),
}

impl Default for LargestPage {
    fn default() -> Self {
        Self::Refusing(LARGEST_PAGE)
    }
}

/// How a search by tags describes a key; the sources disagree (`docs/kms-api.md` 1.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResourceDetail {
    /// `resource_detail` is an object, as in the tables; its numbers are plain in Open Telekom Cloud's example.
    #[default]
    Object,
    /// `resource_detail` is an array of one object with plain numbers, as in Huawei Cloud's Chinese example.
    Array,
    /// `key_details` instead, and no `resource_id`, as in the only recording.
    Recorded,
}

/// Settings for what the documents leave open, and for limits and lifetimes; the defaults are as documented, where a
/// document exists. A running simulator can be changed through `Handle::behave`.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Behaviour {
    /// The types of the answers, for projects without a dialect.
    pub dialect: Dialect,
    /// `last_rotation_time` of a key that never rotated.
    pub never_rotated: NeverRotated,
    /// The largest page of a listing or search, if smaller than 2000 and 1000.
    pub largest_page: LargestPage,
    /// What the total of a listing or search counts.
    pub total: Total,
    /// How a search by tags describes a key.
    pub resource_detail: ResourceDetail,
    /// The body of a successful write. `None`: the body in the documents of the dialect.
    pub success_body: Option<SuccessBody>,
    /// The component that refuses invalid tokens.
    pub token_refusal: TokenRefusal,
    /// Whether this region's KMS has rotation; if not, `KMS.0319`.
    pub rotation_offered: bool,
    /// Time from the moment at which a key is due until the cloud rotates it. Documented are at most 24 hours, for an
    /// overdue key that is enabled again (`docs/kms-api.md` 2.1).
    pub rotation_delay: Duration,
    /// Whether the cloud rotates keys that are due; if not, it forgets all of them.
    pub rotates: bool,
    /// Of the keys that are added, the cloud forgets to rotate each one at a multiple of this number, and has done so
    /// since before the last rotation.
    pub forgets_every: Option<usize>,
    /// Whether `get-key-rotation-status` refuses keys that cannot rotate, with the code of the writes, instead of
    /// returning that rotation is off; not documented (`docs/kms-api.md` 2.2).
    pub status_refused_where_unrotatable: bool,
    /// Operations that do not exist here: 404, `APIGW.0101` at KMS and IAM.
    pub unknown: OperationSet,
    /// Operations that the user has no permission for: 403, `KMS.0307` at KMS and `IAM.0003` at IAM.
    pub forbidden: OperationSet,
    /// Number of status reads after a write that still return the old setting.
    pub visibility_lag: u32,
    /// Lifetime of a token.
    pub token_lifetime: Duration,
    /// Number of consecutive failed logins that lock the user.
    pub user_lock_after: u32,
    /// Number of consecutive authentication failures that lock all access to KMS for five minutes. Off by default:
    /// documented for access keys only.
    pub access_lock_after: Option<u32>,
    /// Number of consecutive refused authentications that lock an access key for five minutes.
    pub access_key_lock_after: u32,
    /// Lifetime of temporary keys. `None`: the requested one, and a day for the keys of an instance.
    pub temporary_key_lifetime: Option<Duration>,
    /// How the metadata service treats tokens.
    pub metadata_tokens: MetadataTokens,
    /// Whether an agency is attached to the instance. If not, its metadata service has no keys.
    pub instance_agency: bool,
    /// Offset of the header `Date` from the cloud's clock, in seconds; it affects nothing else.
    pub date_offset_seconds: i64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            never_rotated: NeverRotated::default(),
            largest_page: LargestPage::default(),
            total: Total::default(),
            resource_detail: ResourceDetail::default(),
            success_body: None,
            token_refusal: TokenRefusal::default(),
            rotation_offered: true,
            rotation_delay: Duration::from_secs(2 * 3600),
            rotates: true,
            forgets_every: None,
            status_refused_where_unrotatable: false,
            unknown: OperationSet::NONE,
            forbidden: OperationSet::NONE,
            visibility_lag: 0,
            // `docs/kms-api.md` 5.1
            token_lifetime: Duration::from_secs(24 * 3600),
            user_lock_after: 5,
            access_lock_after: None,
            // `docs/kms-api.md` 3.2
            access_key_lock_after: 5,
            temporary_key_lifetime: None,
            metadata_tokens: MetadataTokens::default(),
            instance_agency: true,
            date_offset_seconds: 0,
        }
    }
}
