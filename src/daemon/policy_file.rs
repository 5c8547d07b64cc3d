//! The policy file while it changes: reads it, and detects that its content is another than before.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::Instant;
use tracing::warn;

use crate::policy::types::{Policy, Project};
use crate::policy::{self, Refused, UnreadableFile};
use crate::support::clock::Clock;
use crate::support::file_stamp::LastRead;
use crate::support::shortage;

/// A file that is missing for longer is not being replaced: a restart would find no policy, which has to be reported.
const LONGEST_ABSENCE: Duration = Duration::from_secs(5 * 60);

/// The policy file, and its content when it was last read.
pub struct PolicyFile {
    path: PathBuf,
    environment: fn(&str) -> Option<String>,
    clock: Clock,
    last_read: Option<LastRead>,
    /// When the file was first found missing.
    gone_since: Option<Instant>,
}

impl PolicyFile {
    /// The file at this path; reads nothing yet. The policy may use variables of this environment, and exemptions in it
    /// end by this clock.
    #[must_use]
    pub fn new(path: PathBuf, environment: fn(&str) -> Option<String>, clock: Clock) -> Self {
        Self { path, environment, clock, last_read: None, gone_since: None }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, whether it has changed or not, and logs the warnings. A pipe is read once, at the start, and
    /// refused from then on.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a valid policy.
    pub fn read(&mut self) -> Result<Policy, Refused> {
        let is_spent_stream = self.last_read.is_some() && self.is_stream();
        let (last_read, content) = LastRead::of(&self.path, |path| {
            if is_spent_stream { Err(UnreadableFile::NotRegular(path.to_owned())) } else { policy::read_file(path) }
        });
        self.last_read = Some(last_read);
        let file = self.path.display().to_string();
        let (policy, warnings) =
            policy::read(&content?, &file, self.environment, self.clock.now()).map_err(Refused::Invalid)?;
        for warning in warnings.render_plain().lines() {
            warn!(problem = warning, "policy warning");
        }
        Ok(policy)
    }

    /// Whether the content, or the error that keeps it from being read, is another than when it was last read. The file
    /// is read only if its stamp differs. A file that is missing for a short time has not changed, since an editor may
    /// be about to save it; nor has a pipe.
    pub fn has_changed(&mut self) -> bool {
        if matches!(std::fs::metadata(&self.path), Err(error) if error.kind() == ErrorKind::NotFound) {
            if self.gone_since.get_or_insert_with(Instant::now).elapsed() < LONGEST_ABSENCE {
                return false;
            }
        } else {
            self.gone_since = None;
        }
        if self.is_stream() {
            return false;
        }
        if self.last_read.as_ref().is_some_and(|last_read| last_read.is_current(&self.path)) {
            return false;
        }
        let (now, content) = LastRead::of(&self.path, policy::read_file);
        // A shortage on this machine is no change of the file.
        if matches!(&content, Err(UnreadableFile::Io(_, error)) if shortage::of(error).is_some()) {
            return false;
        }
        let is_same = self.last_read.as_ref().is_some_and(|last_read| last_read.is_same(&now));
        if is_same {
            self.last_read = Some(now);
        }
        !is_same
    }

    /// Makes the next [`has_changed`](Self::has_changed) read the file, whatever its stamp.
    pub fn distrust_stamp(&mut self) {
        if let Some(last_read) = &mut self.last_read {
            last_read.distrust_stamp();
        }
    }

    /// Whether it is a pipe or the like, which can be read only once.
    fn is_stream(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
    }
}

/// Warns of secret files that are world-readable.
pub fn warn_of_exposed_secrets(policy: &Policy) {
    let files: BTreeSet<&Path> = policy.projects.iter().flat_map(Project::secret_files).collect();
    for file in files {
        if std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
            warn!(file = %file.display(), "everybody on this machine may read this secret; take the right away: chmod o-r");
        }
    }
}

/// Waits for changes of the policy file.
///
/// It watches the directory and not the file, since a mounted `ConfigMap` is changed by swapping a symlink beside the
/// file, which a watch on the file detects only the first time.
pub struct DirectoryWatch {
    events: Option<EventStream<[u8; 1024]>>,
    file_name: Vec<u8>,
}

impl DirectoryWatch {
    /// Watches the directory of `path`. If that fails, it logs a warning, and only the loop's poll detects changes.
    #[must_use]
    pub fn beside(path: &Path) -> Self {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let watch = || {
            let inotify = Inotify::init()?;
            // Not `CREATE`: a file that was just created is still empty.
            inotify.watches().add(directory, WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO)?;
            inotify.into_event_stream([0; 1024])
        };
        let events: std::io::Result<_> = watch();
        if let Err(error) = &events {
            warn!(directory = %directory.display(), error = %error, "cannot watch the policy; it is looked at regularly");
        }
        let file_name = path.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
        Self { events: events.ok(), file_name }
    }

    /// Waits until the file, or a link of a `ConfigMap` on the way to it, was written or replaced.
    pub async fn stirs(&mut self) {
        while let Some(events) = &mut self.events {
            match events.next().await {
                Some(Ok(event)) => {
                    let name = event.name.unwrap_or_default();
                    let name = name.as_encoded_bytes();
                    if name == self.file_name || name.starts_with(b"..") {
                        return;
                    }
                }
                Some(Err(error)) => {
                    warn!(error = %error, "lost the watch on the policy; it is looked at regularly");
                    self.events = None;
                }
                None => self.events = None,
            }
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use futures_util::FutureExt;

    use super::*;

    /// The watch wakes after each of these changes. A change that it misses leaves the test hanging.
    async fn assert_stirs(watch: &mut DirectoryWatch, changes: &[&dyn Fn()]) {
        // Earlier changes do not count.
        tokio::task::yield_now().await;
        while watch.stirs().now_or_never().is_some() {}
        for change in changes {
            change();
            watch.stirs().await;
            while watch.stirs().now_or_never().is_some() {}
        }
    }

    #[tokio::test]
    async fn a_file_that_is_written_over_or_renamed_over_is_heard_of_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        fs::write(&path, "a").unwrap();
        let write = || fs::write(&path, "b").unwrap();
        let rename = || {
            let new = folder.path().join("policy.yaml.new");
            fs::write(&new, "c").unwrap();
            fs::rename(new, &path).unwrap();
        };
        assert_stirs(&mut DirectoryWatch::beside(&path), &[&write, &write, &rename, &rename, &write]).await;
    }

    #[tokio::test]
    async fn a_mounted_config_map_that_is_swapped_is_heard_of_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // As the kubelet does it: policy.yaml -> ..data/policy.yaml, ..data -> a folder of this version.
        let swap = |version: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("policy.yaml"), version).unwrap();
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        swap("..first");
        symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
        let mut watch = DirectoryWatch::beside(&at("policy.yaml"));
        assert_stirs(&mut watch, &[&|| swap("..second"), &|| swap("..third"), &|| swap("..fourth")]).await;
    }

    #[tokio::test]
    async fn other_files_stir_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        let mut watch = DirectoryWatch::beside(&path);
        fs::write(folder.path().join("another-file"), "x").unwrap();
        fs::write(&path, "a").unwrap();
        watch.stirs().await;
        assert!(watch.stirs().now_or_never().is_none(), "one event for one file");
    }
}
