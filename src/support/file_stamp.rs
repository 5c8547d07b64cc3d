//! Detects that a file is not the one that was read, for code that polls it.
//!
//! A poll compares the file's stamp first and reads the file only if the stamp differs. A stamp is trusted only if the
//! file had been left alone for a while before it was read: within the granularity of a file system's times, two writes
//! can leave one stamp. A file that could not be read is always read again. On a network file system a change is seen
//! when the system's attribute cache expires.

use std::fmt::Display;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Longer than the coarsest times of file systems: FAT has steps of two seconds, Linux's clock for files of 10 ms.
const UNDISTURBED_FOR: Duration = Duration::from_secs(3);

/// A file as it was when it was read.
#[derive(Debug)]
pub(crate) struct LastRead {
    /// None if it proves nothing.
    stamp: Option<Stamp>,
    /// A hash of the content, or of the error.
    content: u64,
}

/// What changes whenever a file is written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since 1970.
    content_changed: (i64, i64),
    /// The same, of any change to the file; no program can set it.
    anything_changed: (i64, i64),
}

impl LastRead {
    /// Reads the file, and returns what to compare it with later.
    pub(crate) fn of<C: AsRef<[u8]>, E: Display>(
        path: &Path,
        read: impl FnOnce(&Path) -> Result<C, E>,
    ) -> (Self, Result<C, E>) {
        // The system's own clock, since it also sets the times of files.
        Self::at(SystemTime::now(), path, read)
    }

    fn at<C: AsRef<[u8]>, E: Display>(
        now: SystemTime,
        path: &Path,
        read: impl FnOnce(&Path) -> Result<C, E>,
    ) -> (Self, Result<C, E>) {
        // Before the file is read, so that a change between the two is seen by the next poll.
        let stamp = Stamp::of(path).filter(|stamp| stamp.undisturbed(now));
        let content = read(path);
        let mut hasher = DefaultHasher::new();
        match &content {
            Ok(content) => (true, content.as_ref()).hash(&mut hasher),
            Err(error) => (false, error.to_string()).hash(&mut hasher),
        }
        (Self { stamp: stamp.filter(|_| content.is_ok()), content: hasher.finish() }, content)
    }

    /// The file need not be read: its stamp proves that it is the same.
    pub(crate) fn is_current(&self, path: &Path) -> bool {
        self.stamp.is_some() && self.stamp == Stamp::of(path)
    }

    /// Both times the content was the same, or the error.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.content == other.content
    }

    /// Makes the next poll read the file.
    pub(crate) fn distrust_stamp(&mut self) {
        self.stamp = None;
    }
}

impl Stamp {
    /// The stamp of the file at the end of all symbolic links.
    fn of(path: &Path) -> Option<Self> {
        let stamp = |file: Metadata| Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            content_changed: (file.mtime(), file.mtime_nsec()),
            anything_changed: (file.ctime(), file.ctime_nsec()),
        };
        std::fs::metadata(path).ok().map(stamp)
    }

    /// The last change was long enough ago that a later one has another time. False if the last change is in the future.
    fn undisturbed(&self, now: SystemTime) -> bool {
        let (seconds, _) = self.content_changed.max(self.anything_changed);
        let changed = u64::try_from(seconds).ok().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        // A second more for the nanoseconds.
        let undisturbed = |changed: SystemTime| now.duration_since(changed + Duration::from_secs(1));
        changed.is_some_and(|changed| undisturbed(changed).is_ok_and(|age| age >= UNDISTURBED_FOR))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;
    use crate::support::small_file;

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    fn undisturbed(path: &Path) -> LastRead {
        LastRead::at(later(), path, |path| fs::read(path)).0
    }

    #[test]
    fn a_file_that_was_left_alone_is_not_read_again_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let last = undisturbed(&path);
        assert!(last.is_current(&path));
        fs::write(&path, "two").unwrap();
        assert!(!last.is_current(&path) && !last.is_same(&undisturbed(&path)));
        // A file in its place with the same content, as an editor leaves it.
        let last = undisturbed(&path);
        fs::write(folder.path().join("new"), "two").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(!last.is_current(&path) && last.is_same(&undisturbed(&path)));
    }

    #[test]
    fn a_stamp_of_a_moment_ago_or_of_the_future_proves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        assert!(!LastRead::of(&path, |path| fs::read(path)).0.is_current(&path));
        let before = SystemTime::now() - Duration::from_secs(3600);
        assert!(!LastRead::at(before, &path, |path| fs::read(path)).0.is_current(&path));
        let mut last = undisturbed(&path);
        last.distrust_stamp();
        assert!(!last.is_current(&path));
    }

    #[test]
    fn a_link_that_is_swapped_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("one"), "1").unwrap();
        fs::write(at("two"), "2").unwrap();
        symlink("one", at("link")).unwrap();
        let last = undisturbed(&at("link"));
        assert!(last.is_current(&at("link")));
        symlink("two", at("new")).unwrap();
        fs::rename(at("new"), at("link")).unwrap();
        assert!(!last.is_current(&at("link")));
    }

    #[test]
    fn what_cannot_be_read_is_read_again_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let missing = undisturbed(&path);
        assert!(!missing.is_current(&path) && missing.is_same(&undisturbed(&path)));
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let pipe = LastRead::at(later(), &path, small_file::read).0;
        assert!(!pipe.is_current(&path) && !pipe.is_same(&missing));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "one").unwrap();
        let refused = || Err::<Vec<u8>, _>(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(!LastRead::at(later(), &path, |_| refused()).0.is_current(&path));
        // It is gone and comes back.
        let last = undisturbed(&path);
        fs::remove_file(&path).unwrap();
        assert!(!last.is_current(&path));
        fs::write(&path, "one").unwrap();
        assert!(!last.is_current(&path) && last.is_same(&undisturbed(&path)));
    }
}
