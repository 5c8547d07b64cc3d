//! How a simulated cloud behaves where the documents leave a choice or are silent.

use std::time::Duration;

use super::listing::LargestPage;
use super::operation::OperationSet;
use super::tags::ResourceDetail;

/// The types in which a cloud answers; documents and recordings disagree on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Huawei Cloud's documents: flag as boolean, numbers as numbers, time in milliseconds as text. `Content-Type` may
    /// be left out.
    #[default]
    Huawei,
    /// Open Telekom Cloud's tables: flag and count as text. `Content-Type` is mandatory; `list-keys` knows no
    /// `key_spec`, and its details lack the rotation flag.
    OpenTelekomCloud,
    /// Everything as text, and time in seconds, as the text of the tables claims.
    AllText,
}

/// What `last_rotation_time` is for a key that never rotated. No document says.
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

/// The body of a write that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuccessBody {
    /// None.
    Empty,
    /// `{}`
    Object,
}

/// Who refuses a token that is not valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRefusal {
    /// The KMS: 403 with `KMS.0301` (missing), `KMS.0302` (invalid) or `KMS.0303` (expired).
    #[default]
    Kms,
    /// The gateway before it: 401 with `APIGW.0301`, or `APIGW.0307` for an expired or revoked one.
    Gateway,
}

/// What an instance's metadata service thinks of its token (its second version).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataTokens {
    /// Given on request, and not needed.
    #[default]
    Optional,
    /// Nothing is told without one: 401.
    Required,
    /// Not known: asking for one is answered with this status, such as 404, 405 or 503.
    Absent(u16),
}

/// What `total` and `total_count` count. No document says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Total {
    /// All keys that were found.
    #[default]
    Found,
    /// Those on the page.
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

/// How this cloud behaves where the documents leave a choice or are silent. May be changed while the simulator runs.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// The types of the answers, for projects that do not say otherwise.
    pub dialect: Dialect,
    /// `last_rotation_time` of a key that never rotated.
    pub never_rotated: NeverRotated,
    /// The largest page of a listing or search, where that is less than the documented 2000 and 1000.
    pub largest_page: LargestPage,
    /// What the total of a listing and of a search counts.
    pub total: Total,
    /// How a search by tags describes a key.
    pub resource_detail: ResourceDetail,
    /// The body of a write that succeeded; nothing means as the dialect's documents have it.
    pub success_body: Option<SuccessBody>,
    /// Who refuses tokens.
    pub token_refusal: TokenRefusal,
    /// Whether this region's KMS has rotation at all; without it, `KMS.0319`.
    pub rotation_offered: bool,
    /// Whether `get-key-rotation-status` refuses keys that cannot rotate with the code of the writes, instead of saying
    /// that rotation is off. No document says.
    pub status_refused_where_unrotatable: bool,
    /// Operations that this server does not know: 404, `APIGW.0101` at KMS and IAM.
    pub unknown: OperationSet,
    /// Operations that are refused to the user: 403, `KMS.0307` at the KMS and `IAM.0003` at IAM.
    pub forbidden: OperationSet,
    /// How many status reads after a write still show the setting before it.
    pub visibility_lag: u32,
    /// How long a token lives.
    pub token_lifetime: Duration,
    /// How many failed logins in a row lock the user.
    pub user_lock_after: u32,
    /// How many authentication failures in a row at the KMS lock all access to it for five minutes. Documented for
    /// access keys; off unless a test asks for it.
    pub access_lock_after: Option<u32>,
    /// How many refused authentications in a row lock an access key for five minutes.
    pub access_key_lock_after: u32,
    /// How long temporary keys live, whatever was asked for; nothing means as asked for, and a day for those of an
    /// instance.
    pub temporary_key_lifetime: Option<Duration>,
    /// What the metadata service thinks of its token.
    pub metadata_tokens: MetadataTokens,
    /// Whether an agency is attached to the instance: without one, its metadata service has no keys.
    pub instance_agency: bool,
    /// How far the `Date` of the answers is from the cloud's clock; nothing else goes by it.
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
            status_refused_where_unrotatable: false,
            unknown: OperationSet::NONE,
            forbidden: OperationSet::NONE,
            visibility_lag: 0,
            // As documented for IAM.
            token_lifetime: Duration::from_secs(24 * 3600),
            user_lock_after: 5,
            access_lock_after: None,
            // As documented.
            access_key_lock_after: 5,
            temporary_key_lifetime: None,
            metadata_tokens: MetadataTokens::default(),
            instance_agency: true,
            date_offset_seconds: 0,
        }
    }
}
