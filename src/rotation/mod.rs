//! The core: what a key's rotation should be, what it is, and what follows from the two.
//!
//! Nothing here talks to the cloud, reads a clock or writes a log. `policy` says what is desired, in [`rule`]s, and `kms`
//! what there is and what is observed of it. [`cover()`] finds the rule for each key, [`decide()`] holds the key against
//! it, and a [`report`] keeps what came of it for everyone who renders it.

pub mod cover;
pub mod decide;
pub mod key;
pub mod observed;
pub mod project;
pub mod reason;
pub mod report;
pub mod rule;

pub use cover::cover;
pub use decide::{Reason, Reasons, Status, Step, Steps, Verdict, decide};
pub use key::{DesiredRotation, KeyId, Reading, Rotation, RotationInterval};
pub use observed::ObservedKey;
pub use report::{KeyReport, ProjectReport, Report};
