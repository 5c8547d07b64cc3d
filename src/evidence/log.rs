//! The writer of a log: appends records, makes them durable, signs checkpoints, and continues after a crash.
//!
//! Nothing is anchored before it is durable: records are written and synced first, then the checkpoint that states
//! them. So after a crash the log has at least as many records as its newest checkpoint.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::folder::{self, CHECKPOINT, CHECKPOINTS, IDENTITY, Identity, LOCK, SIGNING_KEY, SUCCESSOR};
use super::key::{KeyError, SigningKey};
use super::line;
use super::note::{Checkpoint, NoteError};
use super::tree::{Frontier, Hash, leaf_hash};

/// A segment ends when it is larger, not counting the records that it opens with.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Records wait in memory up to this size while they cannot be written.
const PENDING_BYTES: usize = 1 << 20;
/// Only the user of the program may read its files.
const PRIVATE: u32 = 0o600;

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The name in the origin of a new log: `[a-z0-9.-]{1,64}`.
    pub name: String,
    /// The private key in PEM, if it is kept elsewhere.
    pub signing_key: Option<Zeroizing<String>>,
    /// Whether the log is of a simulated cloud, which its origin says.
    pub simulated: bool,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process writes it.
    #[error("another process writes the evidence log in {}", .0.display())]
    Locked(PathBuf),
    /// A file or folder of it.
    #[error("cannot use {} of the evidence log", .path.display())]
    File {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// The signing key.
    #[error("cannot use the signing key of the evidence log")]
    Key(#[from] KeyError),
    /// A simulated log is not continued by a real run, nor the other way round.
    #[error("the evidence log in {} is {}; use another directory", .folder.display(), if *.simulated { "of a simulated cloud" } else { "not of a simulated cloud" })]
    OtherKind { folder: PathBuf, simulated: bool },
}

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none: it is new.
    New,
    /// It goes on where it ended.
    Continued,
    /// It goes on after its last complete record; what followed that was cut off.
    Recovered(TornTail),
    /// It does not have what its checkpoint states, or its key is another one. It was left as it is, for this reason,
    /// and a new log was begun in a sub-folder.
    Left(String),
}

/// What a crash has left of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TornTail {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in base64.
    pub sha256: Hash,
}

/// The first record of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// The segment before it; `None` for the first one.
    pub previous: Option<PreviousSegment>,
    /// The number of records before this one.
    pub tree_size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// The frontier of their tree, from which it is continued without them.
    pub frontier: Vec<Hash>,
}

/// A closed segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSegment {
    /// Its name while it was written.
    pub file: String,
    /// The SHA-256 of its content, not compressed, in base64.
    pub sha256: Hash,
}

impl SegmentRecord {
    /// The tree that it states, if that is one of `first` records.
    pub(super) fn tree(&self, first: u64) -> Option<Frontier> {
        let tree = Frontier::from_hashes(self.tree_size, self.frontier.clone()).ok()?;
        (tree.size() == first && tree.root() == self.root).then_some(tree)
    }
}

/// The type of [`SegmentRecord`].
const SEGMENT: &str = "segment";
const RECOVERED: &str = "recovered";
const GAP: &str = "gap";

/// Records that were given up, since they could not be written.
#[derive(Clone, Debug, Serialize)]
struct Gap {
    from: String,
    to: String,
    records: u64,
    why: String,
}

/// A line of `checkpoints.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SignedAt {
    pub(super) at: String,
    pub(super) note: String,
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    identity: Identity,
    key: SigningKey,
    _lock: Lock,
    segment: OpenSegment,
    /// The tree of all records, written or waiting.
    tree: Frontier,
    /// The tree of the records on the disk.
    durable: Frontier,
    /// Records that wait to be written.
    pending: Vec<u8>,
    gap: Option<Gap>,
    /// The size of the newest checkpoint.
    signed: Option<u64>,
}

/// The last segment.
#[derive(Debug)]
struct OpenSegment {
    first: u64,
    file: File,
    path: PathBuf,
    /// The bytes that are written and synced.
    length: u64,
    /// The length after its opening records.
    opening: u64,
    hash: Sha256,
}

impl Log {
    /// Opens the log in a folder, or begins one.
    ///
    /// # Errors
    ///
    /// The folder cannot be used, or another process writes it. A log that is damaged is no error: see
    /// [`Opened::Left`].
    pub fn open(folder: &Path, options: &LogOptions, now: SystemTime) -> Result<(Self, Opened), LogError> {
        let at = |path: PathBuf| move |error| LogError::File { path, error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder.to_owned()))?;
        let lock = lock(folder)?;
        let mut active = folder.to_owned();
        while let Some(successor) = folder::successor(&active).map_err(at(active.clone()))? {
            active = successor;
        }
        let identity = match folder::identity(&active) {
            Ok(Some(identity)) => identity,
            Ok(None) if has_records(&active).map_err(at(active.clone()))? => {
                return Self::leave(&active, lock, options, None, format!("{IDENTITY} is missing"), now);
            }
            Ok(None) => return Ok((Self::begin(active, lock, options, None, now)?, Opened::New)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Self::leave(&active, lock, options, None, format!("{IDENTITY} is damaged: {error}"), now);
            }
            Err(error) => return Err(LogError::File { path: active.join(IDENTITY), error }),
        };
        if is_simulated(&identity.origin) != options.simulated {
            return Err(LogError::OtherKind { folder: active, simulated: !options.simulated });
        }
        match Self::resume(&active, &identity, options) {
            Ok(resumed) => {
                let opened = resumed.torn.clone().map_or(Opened::Continued, Opened::Recovered);
                Ok((Self::go_on(active, lock, identity, resumed, now), opened))
            }
            Err(Damage(why)) => Self::leave(&active, lock, options, Some(identity.origin), why, now),
        }
    }

    /// Begins a new log in a sub-folder, and leaves the one in the folder as it is.
    fn leave(
        folder: &Path,
        lock: Lock,
        options: &LogOptions,
        continues: Option<String>,
        why: String,
        now: SystemTime,
    ) -> Result<(Self, Opened), LogError> {
        let sub_folder = folder.join(format!("{SUCCESSOR}{}", random()));
        let made = fs::DirBuilder::new().mode(0o700).create(&sub_folder);
        made.map_err(|error| LogError::File { path: sub_folder.clone(), error })?;
        Ok((Self::begin(sub_folder, lock, options, continues, now)?, Opened::Left(why)))
    }

    fn begin(
        folder: PathBuf,
        lock: Lock,
        options: &LogOptions,
        continues: Option<String>,
        now: SystemTime,
    ) -> Result<Self, LogError> {
        let at = |path: PathBuf| move |error| LogError::File { path, error };
        let simulated = if options.simulated { "simulated/" } else { "" };
        let origin = format!("kms-rotationd/{simulated}{}/{}", options.name, random());
        let pem = if let Some(pem) = &options.signing_key {
            pem.clone()
        } else {
            let pem = SigningKey::generate_pem()?;
            folder::replace(&folder, SIGNING_KEY, PRIVATE, pem.as_bytes()).map_err(at(folder.join(SIGNING_KEY)))?;
            pem
        };
        let key = SigningKey::from_pem(&origin, &pem)?;
        let (version, created_at) = (folder::VERSION, line::time(now));
        let identity = Identity { version, origin, created_at, public_key: key.verifying_key().to_string(), continues };
        let segment = OpenSegment::create(&folder, 0).map_err(at(folder.clone()))?;
        // The log exists from here on.
        let text = serde_json::to_vec_pretty(&identity).unwrap_or_default();
        folder::replace(&folder, IDENTITY, 0o644, &text).map_err(at(folder.join(IDENTITY)))?;
        let empty = Resumed { key, segment, tree: Frontier::new(), torn: None, signed: None };
        Ok(Self::go_on(folder, lock, identity, empty, now))
    }

    /// The log after what is on the disk.
    fn go_on(folder: PathBuf, lock: Lock, identity: Identity, resumed: Resumed, now: SystemTime) -> Self {
        let Resumed { key, segment, tree, torn, signed } = resumed;
        let durable = tree.clone();
        let (pending, gap) = (Vec::new(), None);
        let mut log = Self { folder, identity, key, _lock: lock, segment, tree, durable, pending, gap, signed };
        if log.size() == 0 {
            log.append_opening(now, None);
        }
        if let Some(torn) = torn {
            log.append(now, RECOVERED, &torn);
        }
        log
    }

    /// Reads the last segment, from the frontier that it opens with, and compares it with the newest checkpoint.
    fn resume(folder: &Path, identity: &Identity, options: &LogOptions) -> Result<Resumed, Damage> {
        let damage = |what: &'static str| move |error: io::Error| Damage(format!("{what} cannot be read: {error}"));
        let pem = match &options.signing_key {
            Some(pem) => pem.clone(),
            None => fs::read_to_string(folder.join(SIGNING_KEY)).map(Zeroizing::new).map_err(damage("its key"))?,
        };
        let key = SigningKey::from_pem(&identity.origin, &pem).map_err(|error| Damage(error.to_string()))?;
        if key.verifying_key().to_string() != identity.public_key {
            return Err(Damage("the signing key is another one".to_owned()));
        }
        let checkpoint = match fs::read_to_string(folder.join(CHECKPOINT)) {
            Ok(note) => Some(Checkpoint::parse(&note, key.verifying_key())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(damage("its checkpoint")(error)),
        };
        let mut segments = folder::segments(folder).map_err(damage("its folder"))?;
        let signed = checkpoint.as_ref().map_or(0, |known| known.size);
        let mut last = segments.pop().ok_or_else(|| Damage("it has no segment".to_owned()))?;
        let mut content = last.read().map_err(damage("its last segment"))?;
        // The program was killed before the first record of a new segment was durable.
        let mut unopened = Vec::new();
        while last.first >= signed
            && opening(&content, last.first).is_none()
            && segments.last().is_some_and(|previous| !previous.is_compressed)
            && let Some(previous) = segments.pop()
        {
            fs::remove_file(&last.path).map_err(damage("its last segment"))?;
            unopened.append(&mut content);
            last = previous;
            content = last.read().map_err(damage("its last segment"))?;
        }
        if last.is_compressed {
            return Err(Damage("its last segment is missing".to_owned()));
        }
        // The newest checkpoint may be older than the last segment.
        let mut replay = Replay { tree: Frontier::new(), signed, root: None };
        let from = segments.iter().rposition(|segment| segment.first <= signed).filter(|_| last.first > signed);
        for segment in from.map_or(&[][..], |from| &segments[from..]) {
            let content = segment.read().map_err(damage("a segment"))?;
            if replay.segment(&content, segment.first)?.valid < content.len() {
                return Err(Damage(format!("the segment {} is incomplete", segment.first)));
            }
        }
        let Replayed { valid, opening } = replay.segment(&content, last.first)?;
        let Replay { tree, root, .. } = replay;
        if let Some(known) = &checkpoint
            && root != Some(known.root)
        {
            let found = tree.size();
            return Err(Damage(match root {
                None => format!("it has {found} records, and its checkpoint states {signed}"),
                Some(_) => format!("its first {signed} records are not those of its checkpoint"),
            }));
        }
        let (whole, tail) = content.split_at(valid);
        let tail = &[tail, &unopened].concat();
        let torn = TornTail { bytes: tail.len() as u64, sha256: Hash(Sha256::digest(tail).into()) };
        let torn = (!tail.is_empty()).then_some(torn);
        let segment = OpenSegment::reopen(&last, whole, opening).map_err(damage("its last segment"))?;
        Ok(Resumed { key, segment, tree, torn, signed: checkpoint.map(|known| known.size) })
    }

    /// Where the log is: its folder, or a sub-folder of it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the log is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The number of records, written or waiting.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Appends a record, which waits in memory until [`Log::commit`].
    pub fn append(&mut self, at: SystemTime, kind: &str, fields: &impl Serialize) {
        if self.pending.is_empty()
            && let Some(gap) = &self.gap
        {
            let gap = Gap { to: line::time(at), ..gap.clone() };
            self.push(at, GAP, &gap);
        }
        self.push(at, kind, fields);
    }

    fn push(&mut self, at: SystemTime, kind: &str, fields: &impl Serialize) {
        // Records have no maps with keys other than text, so that this never fails.
        let Ok(text) = line::encode(self.tree.size(), at, kind, fields) else { return };
        self.tree.append(leaf_hash(&text));
        self.pending.extend_from_slice(&text);
        self.pending.push(b'\n');
    }

    /// Appends the first record of a segment.
    fn append_opening(&mut self, at: SystemTime, previous: Option<PreviousSegment>) {
        let (tree_size, root, frontier) = (self.tree.size(), self.tree.root(), self.tree.hashes().to_vec());
        self.append(at, SEGMENT, &SegmentRecord { previous, tree_size, root, frontier });
    }

    /// Writes the records that wait, and syncs them.
    ///
    /// # Errors
    ///
    /// They could not be written. They still wait, up to a mebibyte; then they are given up, and the next success
    /// records a gap.
    pub fn commit(&mut self, now: SystemTime) -> io::Result<()> {
        match self.segment.write(&self.pending) {
            Ok(()) => {
                if !self.pending.is_empty() {
                    self.gap = None;
                }
                self.pending.clear();
                self.durable = self.tree.clone();
                Ok(())
            }
            Err(error) => {
                if self.gap.is_some() || self.pending.len() > PENDING_BYTES {
                    self.give_up(now, &error);
                }
                Err(error)
            }
        }
    }

    /// Forgets the records that wait.
    fn give_up(&mut self, now: SystemTime, error: &io::Error) {
        let given_up = self.tree.size() - self.durable.size();
        let (from, records) = match self.gap.take() {
            // The record of the gap itself is one of them.
            Some(gap) => (gap.from, gap.records + given_up - 1),
            None => (line::time(now), given_up),
        };
        self.gap = Some(Gap { from, to: line::time(now), records, why: error.to_string() });
        self.tree = self.durable.clone();
        self.pending.clear();
    }

    /// Signs what is written, if it is not signed yet. Returns the newest checkpoint.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub fn checkpoint(&mut self, now: SystemTime) -> io::Result<Checkpoint> {
        let (origin, size, root) = (self.identity.origin.clone(), self.durable.size(), self.durable.root());
        let checkpoint = Checkpoint { origin, size, root };
        if self.signed == Some(size) {
            return Ok(checkpoint);
        }
        let note = checkpoint.sign(&self.key).map_err(io::Error::other)?;
        folder::replace(&self.folder, CHECKPOINT, 0o644, note.as_bytes())?;
        self.signed = Some(size);
        let mut line = serde_json::to_vec(&SignedAt { at: line::time(now), note })?;
        line.push(b'\n');
        let mut all = OpenOptions::new().create(true).append(true).mode(0o644).open(self.folder.join(CHECKPOINTS))?;
        all.write_all(&line)?;
        Ok(checkpoint)
    }

    /// Whether the segment is full, so that [`Log::begin_segment`] is due.
    #[must_use]
    pub fn is_segment_full(&self) -> bool {
        self.segment.length.saturating_sub(self.segment.opening) > SEGMENT_BYTES
    }

    /// Closes the segment and begins the next one. The caller appends the records that it opens with, and then calls
    /// [`Log::opened_segment`]. All records must be written.
    ///
    /// # Errors
    ///
    /// The new file could not be made, and the old one goes on.
    pub fn begin_segment(&mut self, now: SystemTime) -> io::Result<()> {
        self.commit(now)?;
        let next = OpenSegment::create(&self.folder, self.tree.size())?;
        let closed = std::mem::replace(&mut self.segment, next);
        let sha256 = Hash(closed.hash.finalize().into());
        self.append_opening(now, Some(PreviousSegment { file: folder::segment_name(closed.first), sha256 }));
        self.commit(now)?;
        compress(&self.folder, &closed.path)
    }

    /// The records that a segment opens with are written: what follows counts for its size.
    pub fn opened_segment(&mut self) {
        self.segment.opening = self.segment.length;
    }
}

/// A log that was read and can go on.
struct Resumed {
    key: SigningKey,
    segment: OpenSegment,
    tree: Frontier,
    torn: Option<TornTail>,
    signed: Option<u64>,
}

/// Why a log cannot go on.
struct Damage(String);

impl From<NoteError> for Damage {
    fn from(error: NoteError) -> Self {
        Self(error.to_string())
    }
}

/// The records of some segments, one after the other, and the tree that follows from them.
struct Replay {
    tree: Frontier,
    /// The size of the newest checkpoint; 0 without one.
    signed: u64,
    /// The root at that size, once it is reached.
    root: Option<Hash>,
}

/// A segment that was replayed.
struct Replayed {
    /// The length of its valid records.
    valid: usize,
    /// The length of the records that it opens with.
    opening: u64,
}

impl Replay {
    /// Replays a segment, up to its first line that is no record.
    fn segment(&mut self, content: &[u8], first: u64) -> Result<Replayed, Damage> {
        let broken = || Damage(format!("the segment {first} does not begin with a record of the tree before it"));
        match opening(content, first) {
            Some(record) => {
                let follows = |tree: &Frontier| self.tree == Frontier::new() || self.tree == *tree;
                self.tree = record.tree(first).filter(follows).ok_or_else(broken)?;
            }
            // A log that was begun, and killed before its first record was durable.
            None if first == 0 && self.signed == 0 => {}
            None => return Err(broken()),
        }
        self.look();
        let (mut valid, mut opening) = (0, None);
        for (text, is_complete) in line::lines(content) {
            let Some(head) = line::head(text, self.tree.size()).filter(|_| is_complete) else { break };
            if opening.is_none() && !matches!(head.kind, SEGMENT | "policy" | "snapshot") {
                opening = Some(valid as u64);
            }
            self.tree.append(leaf_hash(text));
            self.look();
            valid += text.len() + 1;
        }
        Ok(Replayed { valid, opening: opening.unwrap_or(valid as u64) })
    }

    fn look(&mut self) {
        if self.tree.size() == self.signed {
            self.root = Some(self.tree.root());
        }
    }
}

/// The first record of a segment, if it is complete.
pub(super) fn opening(content: &[u8], first: u64) -> Option<SegmentRecord> {
    let (text, is_complete) = line::lines(content).next()?;
    let head = line::head(text, first).filter(|_| is_complete)?;
    if head.kind == SEGMENT { serde_json::from_slice(text).ok() } else { None }
}

impl OpenSegment {
    /// A new segment. One of the same name without a synced record may be left by a crash.
    fn create(folder: &Path, first: u64) -> io::Result<Self> {
        let path = folder.join(folder::segment_name(first));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE).open(&path)?;
        folder::sync_folder(folder)?;
        Ok(Self { first, file, path, length: 0, opening: 0, hash: Sha256::new() })
    }

    /// A segment with this content, and nothing after it.
    fn reopen(segment: &folder::Segment, content: &[u8], opening: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(&segment.path)?;
        let length = content.len() as u64;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
            file.sync_all()?;
        }
        file.seek(SeekFrom::Start(length))?;
        let (first, path, hash) = (segment.first, segment.path.clone(), Sha256::new_with_prefix(content));
        Ok(Self { first, file, path, length, opening, hash })
    }

    /// Appends and syncs. After an error the file is as before, as far as the disk allows.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        // A file that was deleted or replaced takes records that no reader will find.
        let (ours, named) = (self.file.metadata()?, fs::metadata(&self.path)?);
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
            return Err(io::Error::other("the file of the segment was replaced"));
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        let written = self.file.write_all(text).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += text.len() as u64;
        self.hash.update(text);
        Ok(())
    }
}

/// The lock of a folder.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// A child process that was forked and has not yet executed its program has the file open too, and closing it here
    /// would not release the lock.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn lock(folder: &Path) -> Result<Lock, LogError> {
    let path = folder.join(LOCK);
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(&path);
    let file = open.map_err(|error| LogError::File { path: path.clone(), error })?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(LogError::File { path, error }),
    }
}

/// Compresses a closed segment, and removes it once that is durable.
fn compress(folder: &Path, path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    folder::replace_with(folder, &format!("{name}.gz"), PRIVATE, |file| {
        let mut encoder = GzEncoder::new(file, Compression::default());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish().map(drop)
    })?;
    fs::remove_file(path)?;
    folder::sync_folder(folder)
}

/// Whether the folder has segments with content.
fn has_records(folder: &Path) -> io::Result<bool> {
    let segments = folder::segments(folder)?;
    Ok(segments.iter().any(|segment| fs::metadata(&segment.path).is_ok_and(|file| file.len() > 0)))
}

/// Whether the origin is of a log of a simulated cloud.
pub(super) fn is_simulated(origin: &str) -> bool {
    origin.starts_with("kms-rotationd/simulated/")
}

/// 16 hexadecimal digits that no other log has.
fn random() -> String {
    let mut text = uuid::Uuid::new_v4().simple().to_string();
    text.truncate(16);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_released_even_while_another_process_has_its_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        // The same open file as a child process has it.
        let _inherited = held.0.try_clone().unwrap();
        assert!(matches!(lock(folder.path()), Err(LogError::Locked(_))));
        drop(held);
        assert!(lock(folder.path()).is_ok());
    }
}
