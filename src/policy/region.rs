//! The regions of the clouds with a KMS that this version knows (`docs/kms-api.md` 6).
//!
//! An unknown region is only a warning, because clouds open new ones. With `kms_endpoint` there is no warning: the
//! cloud may be a private one.

use crate::rotation::project::Cloud;
use crate::yaml::decode::Decoder;
use crate::yaml::nearest::nearest;
use crate::yaml::source::Span;
use crate::yaml::wording::{or_list, quoted};

const HUAWEI_CLOUD: &[&str] = &[
    "ae-ad-1",
    "af-north-1",
    "af-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "cn-east-2",
    "cn-east-3",
    "cn-east-4",
    "cn-east-5",
    "cn-north-1",
    "cn-north-2",
    "cn-north-4",
    "cn-north-9",
    "cn-north-11",
    "cn-north-12",
    "cn-south-1",
    "cn-south-2",
    "cn-south-4",
    "cn-southwest-2",
    "cn-southwest-3",
    "eu-west-101",
    "la-north-2",
    "la-south-2",
    "me-east-1",
    "my-kualalumpur-1",
    "na-mexico-1",
    "ru-moscow-1",
    "sa-brazil-1",
    "tr-west-1",
];
const OPEN_TELEKOM_CLOUD: &[&str] = &["eu-de", "eu-nl", "eu-ch2"];
const FLEXIBLE_ENGINE: &[&str] = &["eu-west-0"];

/// The most regions that a message lists.
const FEW: usize = 4;

fn known(cloud: Cloud) -> &'static [&'static str] {
    match cloud {
        Cloud::HuaweiCloud => HUAWEI_CLOUD,
        Cloud::OpenTelekomCloud => OPEN_TELEKOM_CLOUD,
        Cloud::FlexibleEngine => FLEXIBLE_ENGINE,
    }
}

/// Whether the cloud documents a region of this name.
pub(crate) fn is_known_region(cloud: Cloud, region: &str) -> bool {
    known(cloud).contains(&region)
}

impl Decoder<'_> {
    /// Warns of an unknown region. Called only if the policy sets no KMS endpoint.
    pub(super) fn warn_of_unknown_region(&mut self, cloud: Cloud, region: &str, span: Span) {
        let regions = known(cloud);
        if regions.contains(&region) {
            return;
        }
        let expected = match regions.len() {
            0..=FEW => or_list(regions),
            _ => "one such as `cn-north-4` or `eu-west-101`".to_owned(),
        };
        let help = Cloud::ALL
            .into_iter()
            .find(|other| known(*other).contains(&region))
            .map(|other| format!("it is a region of `{}`", other.as_str()))
            .or_else(|| nearest(region, regions.iter().copied()).map(|near| format!("did you mean `{near}`?")));
        let message =
            format!("unknown {} region {}, expected {expected}, or `kms_endpoint`", cloud.as_str(), quoted(region));
        let finding = self.warning(span, message);
        if let Some(help) = help {
            finding.help(help);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::yaml::Problems;
    use crate::yaml::source::Source;

    fn warnings(cloud: Cloud, region: &str) -> String {
        let source = Source::new(region);
        let mut decoder = Decoder::new(&source, &|_| None, SystemTime::UNIX_EPOCH);
        decoder.warn_of_unknown_region(cloud, region, Span::new(0, region.len()));
        Problems::new("p", &source, decoder.findings).to_string()
    }

    #[test]
    fn a_region_of_the_cloud_has_no_warning() {
        for (cloud, region) in [
            (Cloud::HuaweiCloud, "eu-west-101"),
            (Cloud::HuaweiCloud, "ap-southeast-5"),
            (Cloud::OpenTelekomCloud, "eu-ch2"),
            (Cloud::FlexibleEngine, "eu-west-0"),
        ] {
            assert_eq!(warnings(cloud, region), "");
        }
    }

    #[test]
    fn the_warning_of_an_unknown_region_names_the_nearest_one() {
        assert_eq!(
            warnings(Cloud::HuaweiCloud, "cn-nroth-4"),
            "p:1:1: warning: unknown huawei-cloud region `cn-nroth-4`, expected one such as `cn-north-4` or \
             `eu-west-101`, or `kms_endpoint`; did you mean `cn-north-4`?"
        );
        assert_eq!(
            warnings(Cloud::OpenTelekomCloud, "eu-west-0"),
            "p:1:1: warning: unknown open-telekom-cloud region `eu-west-0`, expected `eu-de`, `eu-nl` or `eu-ch2`, or \
             `kms_endpoint`; it is a region of `flexible-engine`"
        );
        assert_eq!(
            warnings(Cloud::FlexibleEngine, "moon-1"),
            "p:1:1: warning: unknown flexible-engine region `moon-1`, expected `eu-west-0`, or `kms_endpoint`"
        );
    }

    #[test]
    fn no_region_is_in_the_table_twice() {
        let mut all: Vec<_> = Cloud::ALL.into_iter().flat_map(known).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((count, all.len()), (36, 36));
    }
}
