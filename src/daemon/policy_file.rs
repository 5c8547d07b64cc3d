//! Reads the policy file, and detects when its content changes.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::warn;

use crate::policy::types::{Policy, Project};
use crate::policy::{self, Accepted, PolicyRefused, UnreadableFile};
use crate::support::clock::Clock;
use crate::support::file_stamp::LastRead;
use crate::support::hex::hex;
use crate::support::shortage;

/// A file that is missing for longer is not being replaced. That is an error: a restart would find no policy.
const LONGEST_ABSENCE: Duration = Duration::from_secs(5 * 60);

/// The policy file, and its content when it was last read.
pub struct PolicyFile {
    path: PathBuf,
    environment: fn(&str) -> Option<String>,
    clock: Clock,
    last_read: Option<LastRead>,
    /// The text of the last valid policy, if it is recorded.
    text: Option<Arc<str>>,
    keeps_text: bool,
    /// The SHA-256 of the last valid policy, in hexadecimal digits.
    digest: String,
    /// When the file was first found missing.
    gone_since: Option<Instant>,
}

/// A valid policy, and what is kept of its file.
struct Decoded {
    accepted: Accepted,
    text: Option<Arc<str>>,
    digest: String,
}

impl Decoded {
    fn of(
        content: Vec<u8>,
        name: &str,
        environment: fn(&str) -> Option<String>,
        now: SystemTime,
        keeps_text: bool,
    ) -> Result<Self, PolicyRefused> {
        let accepted = policy::read(&content, name, environment, now).map_err(PolicyRefused::Invalid)?;
        let digest = hex(&Sha256::digest(&content));
        // Only UTF-8 is valid.
        let text =
            String::from_utf8(content).ok().filter(|_| keeps_text || accepted.0.evidence.is_some()).map(Into::into);
        Ok(Self { accepted, text, digest })
    }
}

impl PolicyFile {
    /// The file at this path; reads nothing yet. The policy may use variables of this environment, and its dates are
    /// compared with this clock.
    #[must_use]
    pub fn new(path: PathBuf, environment: fn(&str) -> Option<String>, clock: Clock) -> Self {
        Self {
            path,
            environment,
            clock,
            last_read: None,
            text: None,
            keeps_text: false,
            digest: String::new(),
            gone_since: None,
        }
    }

    /// The same, which keeps the text of every valid policy. Otherwise only that of a policy with an evidence log is
    /// kept.
    #[must_use]
    pub fn keeping_text(self) -> Self {
        Self { keeps_text: true, ..self }
    }

    /// The text of the last valid policy, if it is kept.
    #[must_use]
    pub fn text(&self) -> Option<Arc<str>> {
        self.text.clone()
    }

    /// The SHA-256 of the last valid policy, in hexadecimal digits, as in the evidence log; empty before the first one.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, changed or not, and logs its warnings. A pipe or standard input is read, and waited for, only the
    /// first time, when nothing else runs yet; later it is refused.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a valid policy.
    pub fn read(&mut self) -> Result<Policy, PolicyRefused> {
        let content = self.content()?;
        let decoded = Decoded::of(content, &self.name(), self.environment, self.clock.now(), self.keeps_text);
        self.keep(decoded)
    }

    /// The same, without occupying this thread: decoding the entries of 100 000 keys takes a second.
    ///
    /// # Errors
    ///
    /// As of [`read`](Self::read).
    pub(super) async fn read_on_another_thread(&mut self) -> Result<Policy, PolicyRefused> {
        let content = self.content()?;
        let (name, environment, now, keeps_text) = (self.name(), self.environment, self.clock.now(), self.keeps_text);
        let decode = move || Decoded::of(content, &name, environment, now, keeps_text);
        // It ends with an error only if it panicked, or if the process ends.
        match tokio::task::spawn_blocking(decode).await {
            Ok(decoded) => self.keep(decoded),
            Err(_) => self.read(),
        }
    }

    /// The file's name in problems.
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn content(&mut self) -> Result<Vec<u8>, UnreadableFile> {
        let is_spent_stream = self.last_read.is_some() && self.is_stream();
        let (last_read, content) = LastRead::of(&self.path, |path| {
            if is_spent_stream { Err(UnreadableFile::NotRegular(path.to_owned())) } else { policy::read_file(path) }
        });
        self.last_read = Some(last_read);
        content
    }

    /// Keeps what is kept of a valid policy, and logs its warnings.
    fn keep(&mut self, decoded: Result<Decoded, PolicyRefused>) -> Result<Policy, PolicyRefused> {
        let Decoded { accepted: (policy, warnings), text, digest } = decoded?;
        (self.text, self.digest) = (text, digest);
        for warning in warnings.render_plain().lines() {
            warn!(problem = warning, "policy warning");
        }
        Ok(policy)
    }

    /// Whether the content, or the error of reading it, differs from the last read. The file is read only if its stamp
    /// differs. A file that has been missing for a short time counts as unchanged: an editor may be replacing it. So
    /// do a pipe and standard input.
    pub(crate) fn has_changed(&mut self) -> bool {
        if self.is_stream() {
            return false;
        }
        if matches!(std::fs::metadata(&self.path), Err(error) if error.kind() == ErrorKind::NotFound) {
            if self.gone_since.get_or_insert_with(Instant::now).elapsed() < LONGEST_ABSENCE {
                return false;
            }
        } else {
            self.gone_since = None;
        }
        if self.last_read.as_ref().is_some_and(|last_read| last_read.is_current(&self.path)) {
            return false;
        }
        let (now, content) = LastRead::of(&self.path, policy::read_file);
        // A shortage on this machine is not a change of the file.
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
    pub(crate) fn distrust_stamp(&mut self) {
        if let Some(last_read) = &mut self.last_read {
            last_read.distrust_stamp();
        }
    }

    /// Whether it is standard input, a pipe or similar, which can be read only once.
    fn is_stream(&self) -> bool {
        let is_input = policy::is_standard_input(&self.path);
        is_input || std::fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
    }
}

/// Warns of world-readable secret files, and returns their number.
pub(crate) fn warn_of_exposed_secrets(policy: &Policy) -> usize {
    let files: BTreeSet<&Path> = policy.projects.iter().flat_map(Project::secret_files).collect();
    let is_exposed = |file: &&Path| std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o004 != 0);
    let exposed = files.into_iter().filter(is_exposed);
    exposed.inspect(|file| warn!(file = %file.display(), "secret file is world-readable; run: chmod o-r FILE")).count()
}

/// Notifies of possible changes of the policy file.
///
/// It watches the directory: a mounted `ConfigMap` is changed by replacing a symlink beside the file, which a watch on
/// the file would detect only once.
pub struct DirectoryWatch {
    events: Option<EventStream<[u8; 1024]>>,
    file_name: Vec<u8>,
}

impl DirectoryWatch {
    /// Watches the directory of `path`. If that fails, it logs a warning, and only the loop's regular check remains.
    #[must_use]
    pub(crate) fn beside(path: &Path) -> Self {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let watch = || {
            if policy::is_standard_input(path) {
                return Ok(None);
            }
            let inotify = Inotify::init()?;
            // Not `CREATE`: a new file is still empty.
            inotify.watches().add(directory, WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO)?;
            inotify.into_event_stream([0; 1024]).map(Some)
        };
        let events: std::io::Result<_> = watch();
        if let Err(error) = &events {
            let directory = directory.display();
            warn!(%directory, %error, "cannot watch the policy file; checking it regularly instead");
        }
        let file_name = path.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
        Self { events: events.ok().flatten(), file_name }
    }

    /// Waits until the file, or a symlink of a `ConfigMap`, was written or replaced.
    pub async fn changed(&mut self) {
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
                    warn!(error = %error, "lost the watch on the policy file; checking it regularly instead");
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

    /// Each change is notified. Otherwise the test hangs.
    async fn assert_notifies(watch: &mut DirectoryWatch, changes: &[&dyn Fn()]) {
        // Skips the notifications of earlier changes.
        tokio::task::yield_now().await;
        while watch.changed().now_or_never().is_some() {}
        for change in changes {
            change();
            watch.changed().await;
            while watch.changed().now_or_never().is_some() {}
        }
    }

    #[tokio::test]
    async fn every_overwrite_and_every_rename_of_the_file_is_notified() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        fs::write(&path, "a").unwrap();
        let write = || fs::write(&path, "b").unwrap();
        let rename = || {
            let new = folder.path().join("policy.yaml.new");
            fs::write(&new, "c").unwrap();
            fs::rename(new, &path).unwrap();
        };
        assert_notifies(&mut DirectoryWatch::beside(&path), &[&write, &write, &rename, &rename, &write]).await;
    }

    #[tokio::test]
    async fn every_update_of_a_mounted_config_map_is_notified() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // As the kubelet does: policy.yaml -> ..data/policy.yaml, ..data -> a folder of this version.
        let update = |version: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("policy.yaml"), version).unwrap();
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        update("..first");
        symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
        let mut watch = DirectoryWatch::beside(&at("policy.yaml"));
        assert_notifies(&mut watch, &[&|| update("..second"), &|| update("..third"), &|| update("..fourth")]).await;
    }

    #[tokio::test]
    async fn other_files_are_not_notified() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        let mut watch = DirectoryWatch::beside(&path);
        fs::write(folder.path().join("another-file"), "x").unwrap();
        fs::write(&path, "a").unwrap();
        watch.changed().await;
        assert!(watch.changed().now_or_never().is_none(), "one event for one file");
    }
}
