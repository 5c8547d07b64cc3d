//! The secret that the cloud accepted last, and the projects that it accepted it for.

use std::collections::HashSet;
use std::sync::Arc;

/// A salted hash of a secret. It shows whether the secret has changed, and cannot be used to log in.
pub(super) type Fingerprint = [u8; 32];

/// The secret that was accepted last, and its projects.
#[derive(Default)]
pub(super) struct AcceptedSecret(Option<(Fingerprint, HashSet<Arc<str>>)>);

impl AcceptedSecret {
    /// The secret was accepted for the project.
    pub(super) fn accept(&mut self, project: &Arc<str>, secret: &Fingerprint) {
        match &mut self.0 {
            Some((accepted, projects)) if accepted == secret => {
                projects.insert(Arc::clone(project));
            }
            other => *other = Some((*secret, HashSet::from([Arc::clone(project)]))),
        }
    }

    /// The secret was refused for the project. If it was accepted for it before, it may be wrong for every project now.
    pub(super) fn refuse(&mut self, project: &str, secret: &Fingerprint) {
        if self.has_accepted(project, secret) {
            self.0 = None;
        }
    }

    /// Whether the secret was accepted for the project, and not refused since.
    pub(super) fn has_accepted(&self, project: &str, secret: &Fingerprint) -> bool {
        self.0.as_ref().is_some_and(|(accepted, projects)| accepted == secret && projects.contains(project))
    }

    /// Whether the secret was accepted for any project.
    pub(super) fn is_accepted(&self, secret: &Fingerprint) -> bool {
        self.0.as_ref().is_some_and(|(accepted, _)| accepted == secret)
    }
}
