//! Where a cloud's KMS and IAM answer (`docs/kms-api.md` 6).

use crate::rotation::project::Cloud;

/// The metadata service of every virtual machine (`docs/kms-api.md` 5.3).
pub(super) const METADATA_ENDPOINT: &str = "http://169.254.169.254";

/// The addresses of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The base of every KMS call, without a slash at its end.
    pub kms: String,
    /// The base of every IAM call, without a slash at its end.
    pub iam: String,
}

impl Endpoints {
    /// The cloud's own addresses for a region.
    #[must_use]
    pub fn of(cloud: Cloud, region: &str) -> Self {
        match cloud {
            Cloud::HuaweiCloud => {
                let top = if is_european_site(region) { "eu" } else { "com" };
                Self {
                    kms: format!("https://kms.{region}.myhuaweicloud.{top}"),
                    iam: format!("https://iam.{region}.myhuaweicloud.{top}"),
                }
            }
            // The Swiss region has another domain, and another name for IAM.
            Cloud::OpenTelekomCloud if region == "eu-ch2" => Self {
                kms: "https://kms.eu-ch2.sc.otc.t-systems.com".to_owned(),
                iam: "https://iam-pub.eu-ch2.sc.otc.t-systems.com".to_owned(),
            },
            Cloud::OpenTelekomCloud => Self {
                kms: format!("https://kms.{region}.otc.t-systems.com"),
                iam: format!("https://iam.{region}.otc.t-systems.com"),
            },
            Cloud::FlexibleEngine => Self {
                kms: format!("https://kms.{region}.prod-cloud-ocb.orange-business.com"),
                iam: format!("https://iam.{region}.prod-cloud-ocb.orange-business.com"),
            },
        }
    }
}

/// The default STS endpoint of the official client (`docs/kms-api.md` 5.4); `None` if it does not belong to the
/// project's cloud.
///
/// It does not depend on the policy's region: the official client uses this one host, and no document lists the regions
/// that have an STS. A workload's token is never sent there for Huawei Cloud's European site, Open Telekom Cloud and
/// Flexible Engine, since their accounts do not exist there. For them the endpoint must be configured.
#[must_use]
pub fn default_sts(cloud: Cloud, region: &str) -> Option<&'static str> {
    let knows_the_account = cloud == Cloud::HuaweiCloud && !is_european_site(region);
    knows_the_account.then_some("https://sts.cn-north-4.myhuaweicloud.com")
}

/// The European site of Huawei Cloud has another top-level domain.
fn is_european_site(region: &str) -> bool {
    region.starts_with("eu-west-1")
}

/// Whether the region's API is documented without any rotation call: there, a missing status call is no sign of a wrong
/// address.
#[must_use]
pub fn may_lack_rotation(cloud: Cloud, region: &str) -> bool {
    cloud == Cloud::OpenTelekomCloud && region == "eu-ch2"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_workloads_token_is_sent_to_another_cloud() {
        let documented = Some("https://sts.cn-north-4.myhuaweicloud.com");
        assert_eq!(default_sts(Cloud::HuaweiCloud, "cn-north-4"), documented);
        assert_eq!(default_sts(Cloud::HuaweiCloud, "ap-southeast-1"), documented);
        for (cloud, region) in [
            (Cloud::HuaweiCloud, "eu-west-101"),
            (Cloud::OpenTelekomCloud, "eu-de"),
            (Cloud::FlexibleEngine, "eu-west-0"),
        ] {
            assert_eq!(default_sts(cloud, region), None, "{region}");
        }
    }

    #[test]
    fn the_addresses_are_the_documented_ones() {
        let kms = |cloud, region| Endpoints::of(cloud, region).kms;
        assert_eq!(kms(Cloud::HuaweiCloud, "ap-southeast-1"), "https://kms.ap-southeast-1.myhuaweicloud.com");
        assert_eq!(kms(Cloud::HuaweiCloud, "eu-west-101"), "https://kms.eu-west-101.myhuaweicloud.eu");
        assert_eq!(kms(Cloud::OpenTelekomCloud, "eu-de"), "https://kms.eu-de.otc.t-systems.com");
        assert_eq!(kms(Cloud::OpenTelekomCloud, "eu-ch2"), "https://kms.eu-ch2.sc.otc.t-systems.com");
        assert_eq!(kms(Cloud::FlexibleEngine, "eu-west-0"), "https://kms.eu-west-0.prod-cloud-ocb.orange-business.com");
    }
}
