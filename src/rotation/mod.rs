//! The core: what a key's rotation should be, what it is, and what follows from the two.
//!
//! Nothing here talks to the cloud, reads a clock or writes a log. `policy` says what is desired, `kms` what is
//! observed, [`decide()`] joins them, and a [`report`] keeps what came of it for everyone who renders it.

pub mod decide;
pub mod key;
pub mod project;
pub mod report;

pub use decide::{Reason, Reasons, Status, Step, Steps, Verdict, decide};
pub use key::{DesiredRotation, KeyId, ObservedKey, Reading, Rotation, RotationInterval};
pub use report::{KeyReport, ProjectReport, Report};
