//! The policy file: what its users want of which keys.
//!
//! [`load`] reads the file and [`read`] its bytes; both give the whole [`Policy`] or every [problem](Problems) that
//! keeps it from being one. [`types`] is what the rest of the program works with, [`calendar`] says when runs are due.
//! Nothing here touches the network or the files that a policy names.
//!
//! [`yaml`] keeps positions and collects problems by tables. Here are the tables (`document`, `project`,
//! `entry`, `credentials`), the meaning of what they let through, and `conflict`, which looks across projects.
//! [`json_schema`] shows the same tables to editors.

pub mod calendar;
mod conflict;
mod credentials;
mod document;
mod endpoint;
mod entry;
pub mod file;
mod json_schema;
mod project;
mod region;
mod selector;
pub mod types;

use std::path::Path;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

pub use calendar::Calendar;
pub use endpoint::{cloud_address, neighbour_address};
pub use file::{UnreadableFile, read_file};
pub use json_schema::json_schema;
pub use project::is_project_id;
pub use types::Policy;

use crate::yaml::problem::Unplaced;
use crate::yaml::{self, Problems};

/// A policy, and the warnings about it.
pub type Accepted = (Policy, Problems);

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file could not be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// The file is no valid policy, for these reasons.
    #[error("{0}")]
    Invalid(Problems),
}

/// A list of problems as [`Problems`] has it. A file that cannot be read is one problem, without line and column.
impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Invalid(problems) => problems.serialize(serializer),
            Self::Unreadable(error) => [Unplaced::new(error.path(), error)].serialize(serializer),
        }
    }
}

/// Reads the policy file at `path`. `environment` gives the variables that its paths may name, and `now` tells which of
/// its exemptions are over.
///
/// # Errors
///
/// The file cannot be read, or is no valid policy.
pub fn load(path: &Path, environment: impl Fn(&str) -> Option<String>, now: SystemTime) -> Result<Accepted, Refused> {
    let bytes = read_file(path)?;
    read(&bytes, &path.display().to_string(), environment, now).map_err(Refused::Invalid)
}

/// Reads a policy from the bytes of a file; `file` is what problems call it.
///
/// # Errors
///
/// The bytes are no valid policy: everything that is wrong with them, warnings among it.
pub fn read(
    bytes: &[u8],
    file: &str,
    environment: impl Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<Accepted, Problems> {
    yaml::read(bytes, file, &environment, now, "a policy with `projects`", document::policy)
}
