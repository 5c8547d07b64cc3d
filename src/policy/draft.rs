//! The valid parts of a project, for comparison with other projects even if the project has an error.

use std::sync::Arc;

use super::types::Project;
use crate::rotation::key::{KeyId, RotationInterval};
use crate::rotation::project::Cloud;
use crate::rotation::rule::Selector;
use crate::yaml::source::Span;

/// The valid parts of a project, with their spans.
pub(super) struct Draft {
    pub(super) name: Option<(Arc<str>, Span)>,
    /// The cloud, region and project, as far as the policy contains them.
    pub(super) identity: Option<(Cloud, Arc<str>, ProjectIdentity)>,
    /// Whether its KMS is on this machine.
    pub(super) loopback: bool,
    pub(super) key_ids: Vec<(KeyId, Span)>,
    pub(super) aliases: Vec<(Box<str>, Span)>,
    pub(super) selectors: Vec<DraftSelector>,
    /// The intervals with `reapply: always`.
    pub(super) always: Vec<(RotationInterval, Span)>,
    /// The project, if all of it is valid.
    pub(super) project: Option<Project>,
}

/// What identifies a project in its cloud and region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ProjectIdentity {
    Id(String),
    /// Projects of different accounts can have the same name, but not keys with the same id.
    Name(String),
}

impl ProjectIdentity {
    /// The field or the kind of name, for messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Id(_) => "project_id",
            Self::Name(_) => "project name",
        }
    }
}

/// A selector and its entry.
pub(super) struct DraftSelector {
    pub(super) selector: Selector,
    pub(super) span: Span,
    /// Whether its entry is an exemption with an end.
    pub(super) ends: bool,
}
