//! The core: the rotation that a key should have, the one that it has, and the decision between the two.
//!
//! Nothing here calls the cloud, reads a clock or writes a log. `policy` provides the [`rule`]s, and `kms` the keys and
//! their settings. [`assign_rules()`] finds the rule for each key, a key's [`material`] shows whether the cloud rotates
//! it, [`decide()`] compares the key with its rule, and a [`report`] has the results of a run, for all that render them.

pub mod assignment;
pub mod decide;
pub mod key;
pub mod key_name;
pub mod material;
pub mod observed;
pub mod past;
pub mod progress;
pub mod project;
pub mod reason;
pub mod remedies;
pub mod report;
pub mod rule;

pub use assignment::assign_rules;
pub use decide::{Reason, Reasons, Status, Step, Steps, Verdict, decide};
pub use key::{DesiredRotation, KeyId, Reading, Rotation, RotationInterval};
pub use observed::ObservedKey;
pub use report::{KeyReport, ProjectReport, Report};
