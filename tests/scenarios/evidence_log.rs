//! Evidence logs, written with the library, for the commands that read them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kms_rotationd::evidence::log::{Log, LogOptions};
use kms_rotationd::evidence::record::RecordType;
use serde::Serialize;
use tempfile::TempDir;

/// A record with a text.
#[derive(Serialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

impl RecordType for Note {
    const NAME: &'static str = "note";
}

/// So many seconds after 2026-11-18 11:06:40 UTC.
pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000 + seconds)
}

pub(crate) const DAY: u64 = 86_400;

pub(crate) fn open(folder: &Path, simulated: bool, seconds: u64) -> Log {
    let options = LogOptions {
        name: "payments".to_owned(),
        origin_suffix: None,
        signing_key: None,
        simulated,
        sync: true,
        replaced: None,
    };
    Log::open(folder, &options, at(seconds)).unwrap().0
}

/// Begins a segment, and compresses the one before it.
pub(crate) fn begin_segment(log: &mut Log, seconds: u64) {
    log.begin_segment(at(seconds), 0, |_| ()).unwrap();
    log.compress_closed().unwrap();
}

/// Appends a record at this second and makes it durable, without a checkpoint.
pub(crate) fn record(log: &mut Log, text: &str, seconds: u64) {
    log.append(at(seconds), &Note { text: text.to_owned() });
    log.commit(at(seconds)).unwrap();
}

/// Appends a record and signs a checkpoint.
pub(crate) fn signed(log: &mut Log, text: &str, seconds: u64) {
    record(log, text, seconds);
    log.checkpoint(at(seconds)).unwrap();
}

/// A closed log with records of the seconds 1 and 2, each with a checkpoint: three records with the first one.
pub(crate) fn written() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut log = open(folder.path(), false, 0);
    signed(&mut log, "one", 1);
    signed(&mut log, "two", 2);
    folder
}

/// The same log goes on with a record and a checkpoint.
pub(crate) fn continued(folder: &Path, text: &str, seconds: u64) {
    signed(&mut open(folder, false, seconds), text, seconds);
}

/// A closed log with a segment a day, and a record and a checkpoint in each.
pub(crate) fn of_days(days: u64) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut log = open(folder.path(), false, 0);
    for day in 0..days {
        if day > 0 {
            begin_segment(&mut log, day * DAY);
        }
        signed(&mut log, &format!("day {day}"), day * DAY + 1);
    }
    folder
}

pub(crate) fn copy_of(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

pub(crate) fn first_segment(folder: &Path) -> PathBuf {
    folder.join("00000000000000000000.jsonl")
}

/// The newest checkpoint of a log, in a file elsewhere.
pub(crate) struct Kept(TempDir);

impl Kept {
    pub(crate) fn of(folder: &Path) -> Self {
        let kept = TempDir::new().unwrap();
        fs::copy(folder.join("checkpoint"), kept.path().join("note")).unwrap();
        Self(kept)
    }

    pub(crate) fn text(text: &str) -> Self {
        let kept = TempDir::new().unwrap();
        fs::write(kept.path().join("note"), text).unwrap();
        Self(kept)
    }

    pub(crate) fn file(&self) -> String {
        self.0.path().join("note").to_str().unwrap().to_owned()
    }
}

/// A folder that is read-only. [`ReadOnly::assert_unchanged`] finds every trace that a reader leaves.
pub(crate) struct ReadOnly<'a> {
    folder: &'a Path,
    before: BTreeMap<PathBuf, (u64, u64, i64, i64)>,
}

impl<'a> ReadOnly<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        fs::set_permissions(folder, PermissionsExt::from_mode(0o500)).unwrap();
        Self { folder, before: traces(folder) }
    }

    pub(crate) fn assert_unchanged(&self) {
        assert_eq!(traces(self.folder), self.before);
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        let _ = fs::set_permissions(self.folder, PermissionsExt::from_mode(0o700));
    }
}

/// Inode, size and time of the last change of each file, and of the folder itself.
fn traces(folder: &Path) -> BTreeMap<PathBuf, (u64, u64, i64, i64)> {
    let mut traces = BTreeMap::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        traces.insert(path, (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
    }
    traces
}
