//! The policy file: projects, their keys, and the requirement of each key.
//!
//! [`load`] reads the file and [`read`] its bytes; both return the whole [`Policy`] or every [problem](Problems).
//! [`types`] has the result, [`calendar`] computes when runs are due. This module opens no connection and none of the
//! files that a policy names.
//!
//! [`yaml`] decodes files by tables of fields. The tables of the policy are in `document`, `defaults`, `evidence`,
//! `project`, `credentials`, `entry` and `selector`; `conflict` compares projects. `head` reads a policy without its
//! entries. [`json_schema`] renders the same tables for editors.

pub mod calendar;
mod conflict;
mod credentials;
mod defaults;
mod document;
mod draft;
mod endpoint;
mod entry;
mod evidence;
pub mod file;
mod head;
mod json_schema;
mod project;
mod region;
mod selector;
pub mod types;

use std::path::Path;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

pub use calendar::Calendar;
pub(crate) use endpoint::{check_credential_uri, cloud_address};
pub(crate) use file::is_standard_input;
pub use file::{UnreadableFile, read_file};
pub(crate) use head::{PolicyHead, load_head, read_head};
pub use json_schema::json_schema;
pub(crate) use project::{is_project_id, is_region};
pub(crate) use region::is_known_region;
pub use types::Policy;

use crate::yaml::{self, Problems, UnreadableFileProblem};

/// A policy, and the warnings about it.
pub type Accepted = (Policy, Problems);

/// Why a policy was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyRefused {
    /// The file could not be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// The file is not a valid policy.
    #[error("{0}")]
    Invalid(Problems),
}

/// A list like that of [`Problems`]. A file that cannot be read is one problem without line and column.
impl Serialize for PolicyRefused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Invalid(problems) => problems.serialize(serializer),
            Self::Unreadable(error) => [UnreadableFileProblem::new(error.path(), error)].serialize(serializer),
        }
    }
}

/// Reads the policy file at `path`, or standard input if that is `-`. `environment` returns the variables for its paths, `now` is the time for exemptions
/// that have ended.
///
/// # Errors
///
/// The file cannot be read, or is not a valid policy.
pub fn load(
    path: &Path,
    environment: impl Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<Accepted, PolicyRefused> {
    let bytes = read_file(path)?;
    read(&bytes, &path.display().to_string(), environment, now).map_err(PolicyRefused::Invalid)
}

/// Reads a policy from the bytes of a file; `file` is its name in problems.
///
/// # Errors
///
/// The bytes are not a valid policy: all problems, warnings included.
pub fn read(
    bytes: &[u8],
    file: &str,
    environment: impl Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<Accepted, Problems> {
    yaml::read(bytes, file, &environment, now, "a policy with `projects`", document::policy)
}
