//! The policy file as something that changes: reading it, and noticing when its content has become another.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use tracing::warn;

use crate::policy::{self, Policy, Refused};

/// The policy file and what its content was when it was last read.
pub struct PolicyFile {
    path: PathBuf,
    environment: fn(&str) -> Option<String>,
    last_read: Option<u64>,
}

impl PolicyFile {
    /// The file at this path, whose policy may name variables of this environment. It was read a moment ago, when the
    /// program began.
    #[must_use]
    pub fn new(path: PathBuf, environment: fn(&str) -> Option<String>) -> Self {
        let mut file = Self { path, environment, last_read: None };
        file.last_read = file.fingerprint();
        file
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, whether it has changed or not.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no valid policy.
    pub fn read(&mut self) -> Result<Policy, Refused> {
        self.last_read = self.fingerprint();
        let (policy, warnings) = policy::load(&self.path, self.environment)?;
        for warning in warnings.render_plain().lines() {
            warn!(problem = warning, "policy warning");
        }
        Ok(policy)
    }

    /// Whether the content is another than when it was last read. A file that is gone has not changed: it may be on
    /// its way back, as between the two halves of an editor's save.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let now = self.fingerprint();
        now.is_some() && now != self.last_read
    }

    fn fingerprint(&self) -> Option<u64> {
        let content = std::fs::read(&self.path).ok()?;
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// Tells when something happened in the policy file's directory.
///
/// The directory is watched and not the file, since a mounted `ConfigMap` is changed by swapping a symlink beside it,
/// which a watch on the file sees only the first time.
pub struct DirectoryWatch(Option<EventStream<[u8; 1024]>>);

impl DirectoryWatch {
    /// Watches the directory that holds `path`. Where that cannot be done, the loop's regular look at the file is all
    /// there is, and a warning says so.
    #[must_use]
    pub fn beside(path: &Path) -> Self {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let watch = || {
            let inotify = Inotify::init()?;
            // Not `CREATE`: a file that was just created is still empty.
            inotify.watches().add(directory, WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO)?;
            inotify.into_event_stream([0; 1024])
        };
        let watch: std::io::Result<_> = watch();
        if let Err(error) = &watch {
            warn!(directory = %directory.display(), error = %error, "cannot watch the policy; it is looked at regularly");
        }
        Self(watch.ok())
    }

    /// Waits for the next event.
    pub async fn stirs(&mut self) {
        match &mut self.0 {
            Some(events) => {
                if events.next().await.is_none() {
                    self.0 = None;
                }
            }
            None => std::future::pending().await,
        }
    }
}
