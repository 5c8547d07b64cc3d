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
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::folder::{self, CHECKPOINT, CHECKPOINTS, IDENTITY, Identity, LOCK, SIGNING_KEY, SUCCESSOR};
use super::key::{KeyError, SigningKey};
use super::line;
use super::note::{Checkpoint, NoteError};
use super::reader::parse_time;
use super::record::{GapRecord, PreviousSegment, PruneRecord, RecordType, SegmentRecord, TornTail};
use super::tree::{Frontier, Hash, leaf_hash};

/// A segment ends when it is larger, not counting the records that it opens with.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Records wait in memory up to this size while they cannot be written.
const PENDING_BYTES: usize = 1 << 20;
/// Records are written, and not yet synced, when they are this large together.
const FLUSH_BYTES: usize = 64 << 10;
/// Only the user of the program may read its files.
const PRIVATE: u32 = 0o600;

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The name in the origin of a new log: `[a-z0-9.-]{1,64}`.
    pub name: String,
    /// The end of the origin of a new log, `[a-z0-9]+`; random if it is not set.
    pub origin_suffix: Option<String>,
    /// The private key in PEM, if it is kept elsewhere.
    pub signing_key: Option<Zeroizing<String>>,
    /// Whether the log is of a simulated cloud, which its origin says.
    pub simulated: bool,
    /// Whether records are synced to the disk. Only a rehearsal in fast-forward does without.
    pub sync: bool,
    /// A text, and what records have instead: the address of a simulated cloud, which is another one each time.
    pub replaced: Option<(String, String)>,
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

impl SegmentRecord {
    /// The tree that it states, if that is one of `first` records.
    pub(super) fn tree(&self, first: u64) -> Option<Frontier> {
        let tree = Frontier::from_hashes(self.tree_size, self.frontier.clone()).ok()?;
        (tree.size() == first && tree.root() == self.root).then_some(tree)
    }
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
    /// When records could not be written for the first time since the last success.
    failing_since: Option<SystemTime>,
    /// Since when records are given up.
    gap: Option<GapRecord>,
    /// The size of the newest checkpoint.
    signed: Option<u64>,
    sync: bool,
    replaced: Option<(String, String)>,
}

/// The last segment.
#[derive(Debug)]
struct OpenSegment {
    first: u64,
    file: File,
    path: PathBuf,
    /// The length and the hash of what is synced.
    synced: Content,
    /// The same of what is written.
    written: Content,
    /// The length after its opening records.
    opening: u64,
    /// Whether all of its opening records are there.
    is_opened: bool,
    /// When its first record was written.
    began: SystemTime,
    /// The segment before it, for its first record.
    previous: Option<PreviousSegment>,
}

/// The length and the hash of the beginning of a file.
#[derive(Clone, Debug, Default)]
struct Content {
    length: u64,
    hash: Sha256,
}

impl Content {
    fn of(text: &[u8]) -> Self {
        let mut content = Self::default();
        content.add(text);
        content
    }

    fn add(&mut self, text: &[u8]) {
        self.length += text.len() as u64;
        self.hash.update(text);
    }
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
        let active = folder::active(folder).map_err(at(folder.to_owned()))?;
        let identity = match folder::identity(&active) {
            Ok(Some(identity)) => identity,
            Ok(None) if folder::has_records(&active).map_err(at(active.clone()))? => {
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
                Ok((Self::go_on(active, lock, identity, resumed, options, now), opened))
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
        let suffix = options.origin_suffix.clone().unwrap_or_else(random);
        let origin = format!("kms-rotationd/{simulated}{}/{suffix}", options.name);
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
        let segment = OpenSegment::create(&folder, 0, now).map_err(at(folder.clone()))?;
        // The log exists from here on.
        let text = serde_json::to_vec_pretty(&identity).unwrap_or_default();
        folder::replace(&folder, IDENTITY, 0o644, &text).map_err(at(folder.join(IDENTITY)))?;
        let empty = Resumed { key, segment, tree: Frontier::new(), torn: None, signed: None };
        Ok(Self::go_on(folder, lock, identity, empty, options, now))
    }

    /// The log after what is on the disk.
    fn go_on(
        folder: PathBuf,
        lock: Lock,
        identity: Identity,
        resumed: Resumed,
        options: &LogOptions,
        now: SystemTime,
    ) -> Self {
        let Resumed { key, segment, tree, torn, signed } = resumed;
        let durable = tree.clone();
        let (pending, failing_since, gap) = (Vec::new(), None, None);
        let mut log = Self {
            folder,
            identity,
            key,
            _lock: lock,
            segment,
            tree,
            durable,
            pending,
            failing_since,
            gap,
            signed,
            sync: options.sync,
            replaced: options.replaced.clone(),
        };
        if log.size() == 0 {
            log.push_opening(now, 0);
        }
        if let Some(torn) = torn {
            log.append(now, &torn);
        }
        // Left by a crash, or by a disk that was full; the next segment tries again.
        let _ = log.compress_closed();
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
        let Replayed { valid, opening, began } = replay.segment(&content, last.first)?;
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
        let mut segment = OpenSegment::reopen(&last, whole).map_err(damage("its last segment"))?;
        (segment.opening, segment.is_opened) = (opening.unwrap_or(0), opening.is_some());
        segment.began = began.unwrap_or(segment.began);
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

    /// The number of records on the disk.
    #[must_use]
    pub fn durable_size(&self) -> u64 {
        self.durable.size()
    }

    /// Appends a record, which is durable after [`Log::commit`].
    pub fn append(&mut self, at: SystemTime, record: &impl RecordType) {
        if let Some(gap) = &mut self.gap {
            gap.records += 1;
            return;
        }
        self.push(at, record);
        // A disk that is full is not tried again with each record.
        if self.pending.len() >= FLUSH_BYTES && self.failing_since.is_none() {
            match self.segment.write(&self.pending) {
                Ok(()) => self.pending.clear(),
                Err(_) => self.failing_since = Some(at),
            }
        } else if self.pending.len() > PENDING_BYTES {
            self.give_up(at, "the records that waited for the disk took more than 1 MiB");
        }
    }

    fn push<T: RecordType>(&mut self, at: SystemTime, record: &T) {
        // Records have no maps with keys other than text, so that this never fails.
        let Ok(mut text) = line::encode(self.tree.size(), at, T::NAME, record) else { return };
        if let (Some((from, to)), Ok(line)) = (&self.replaced, std::str::from_utf8(&text))
            && line.contains(from)
        {
            text = line.replace(from, to).into_bytes();
        }
        self.tree.append(leaf_hash(&text));
        self.pending.extend_from_slice(&text);
        self.pending.push(b'\n');
    }

    /// Appends the first record of the segment.
    fn push_opening(&mut self, at: SystemTime, opening: u64) {
        let (tree_size, root, frontier) = (self.tree.size(), self.tree.root(), self.tree.hashes().to_vec());
        let previous = self.segment.previous.clone();
        self.push(at, &SegmentRecord { previous, tree_size, root, frontier, opening });
    }

    /// Writes the records that wait, and syncs them.
    ///
    /// # Errors
    ///
    /// They could not be written. They still wait, up to a mebibyte; then they are given up, and the next success
    /// records a gap.
    pub fn commit(&mut self, now: SystemTime) -> io::Result<()> {
        if let Some(gap) = &self.gap {
            let gap = GapRecord { to: line::time(now), ..gap.clone() };
            // The first record of the segment was given up too.
            if self.segment.synced.length == 0 {
                self.push_opening(now, 0);
            }
            self.push(now, &gap);
        }
        let written = self.segment.write(&self.pending);
        let is_written = written.is_ok();
        if is_written {
            self.pending.clear();
        }
        match written.and_then(|()| self.segment.sync(self.sync)) {
            Ok(()) => {
                (self.gap, self.failing_since) = (None, None);
                self.durable = self.tree.clone();
                Ok(())
            }
            Err(error) => {
                self.failing_since.get_or_insert(now);
                // After a failed sync, the content of the disk is unknown.
                if is_written || self.gap.is_some() || self.pending.len() > PENDING_BYTES {
                    self.give_up(now, &error.to_string());
                }
                Err(error)
            }
        }
    }

    /// Forgets the records that are not durable.
    fn give_up(&mut self, now: SystemTime, why: &str) {
        self.segment.forget_unsynced();
        self.gap = Some(match self.gap.take() {
            Some(gap) => GapRecord { why: why.to_owned(), ..gap },
            None => GapRecord {
                from: line::time(*self.failing_since.get_or_insert(now)),
                to: line::time(now),
                records: self.tree.size() - self.durable.size(),
                why: why.to_owned(),
            },
        });
        self.tree = self.durable.clone();
        self.pending.clear();
    }

    /// Whether records are given up, so that the log does not have what a later process must know. A segment is begun
    /// after the next success.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// Whether the file of the segment was deleted or replaced: the log must be opened again.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.segment.is_in_place().is_err()
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
        if self.sync {
            folder::replace(&self.folder, CHECKPOINT, 0o644, note.as_bytes())?;
        } else {
            folder::overwrite(&self.folder.join(CHECKPOINT), 0o644, note.as_bytes())?;
        }
        self.signed = Some(size);
        let mut line = serde_json::to_vec(&SignedAt { at: line::time(now), note })?;
        line.push(b'\n');
        let mut all = OpenOptions::new().create(true).append(true).mode(0o644).open(self.folder.join(CHECKPOINTS))?;
        all.write_all(&line)?;
        Ok(checkpoint)
    }

    /// Whether a new segment is due: this one is full, is of another quarter, or lacks some of its opening records.
    #[must_use]
    pub fn is_segment_due(&self, now: SystemTime) -> bool {
        let OpenSegment { written, opening, is_opened, began, .. } = &self.segment;
        written.length.saturating_sub(*opening) > SEGMENT_BYTES || !is_opened || quarter(*began) < quarter(now)
    }

    /// Closes the segment and begins the next one with a number of opening records, which `append_all` appends.
    ///
    /// # Errors
    ///
    /// The new file could not be made, and the old one goes on; or not all is written, and a later commit writes it.
    pub fn begin_segment(
        &mut self,
        now: SystemTime,
        opening: u64,
        append_all: impl FnOnce(&mut Self),
    ) -> io::Result<()> {
        self.commit(now)?;
        let next = OpenSegment::create(&self.folder, self.tree.size(), now)?;
        let closed = std::mem::replace(&mut self.segment, next);
        let sha256 = Hash(closed.synced.hash.finalize().into());
        self.segment.previous = Some(PreviousSegment { file: folder::segment_name(closed.first), sha256 });
        self.push_opening(now, opening);
        append_all(self);
        self.segment.opening = self.segment.written.length + self.pending.len() as u64;
        self.commit(now)
    }

    /// Compresses every segment but the last one.
    ///
    /// # Errors
    ///
    /// A segment cannot be read, or the compressed one cannot be written.
    pub fn compress_closed(&self) -> io::Result<()> {
        let segments = folder::segments(&self.folder)?;
        let closed = segments.iter().filter(|segment| segment.first < self.segment.first && !segment.is_compressed);
        closed.into_iter().try_for_each(|segment| compress(&self.folder, &segment.path, self.sync))
    }

    /// Removes the segments whose records are all older than this time, and records that. Returns their number.
    ///
    /// # Errors
    ///
    /// One could not be read or removed.
    pub fn prune(&mut self, before: SystemTime, now: SystemTime) -> io::Result<usize> {
        let segments = folder::segments(&self.folder)?;
        let mut old = 0;
        // The records of a segment are older than the first one of the next.
        while let Some(next) = segments.get(old + 1) {
            match next.began()? {
                Some(began) if began < before => old += 1,
                _ => break,
            }
        }
        let Some(first) = segments.get(old).map(|segment| segment.first).filter(|_| old > 0) else { return Ok(0) };
        let files = segments[..old].iter().map(|segment| folder::segment_name(segment.first)).collect();
        self.append(now, &PruneRecord { first, files });
        self.commit(now)?;
        for segment in &segments[..old] {
            fs::remove_file(&segment.path)?;
        }
        self.forget_checkpoints(first)?;
        folder::sync_folder(&self.folder)?;
        Ok(old)
    }

    /// Removes the checkpoints of fewer records than this from `checkpoints.jsonl`.
    fn forget_checkpoints(&self, first: u64) -> io::Result<()> {
        let all = fs::read(self.folder.join(CHECKPOINTS))?;
        let size = |note: &str| Checkpoint::parse_unverified(note).map(|checkpoint| checkpoint.size);
        let is_kept = |text: &&[u8]| {
            serde_json::from_slice(text).is_ok_and(|SignedAt { note, .. }| size(&note).is_ok_and(|size| size >= first))
        };
        folder::replace_with(&self.folder, CHECKPOINTS, 0o644, self.sync, |file| {
            let kept = all.split_inclusive(|byte| *byte == b'\n').filter(is_kept);
            kept.into_iter().try_for_each(|line| file.write_all(line))
        })
    }
}

/// The quarter of a year, counted from the year 0.
fn quarter(at: SystemTime) -> i32 {
    let date = Timestamp::try_from(at).unwrap_or_default().to_zoned(TimeZone::UTC).date();
    i32::from(date.year()) * 4 + i32::from(date.month() - 1) / 3
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
    /// The length of the records that it opens with, if all of them are there.
    opening: Option<u64>,
    /// When its first record was written.
    began: Option<SystemTime>,
}

impl Replay {
    /// Replays a segment, up to its first line that is no record.
    fn segment(&mut self, content: &[u8], first: u64) -> Result<Replayed, Damage> {
        let broken = || Damage(format!("the segment {first} does not begin with a record of the tree before it"));
        let mut opening_records = 1;
        match opening(content, first) {
            Some(record) => {
                opening_records += record.opening;
                let follows = |tree: &Frontier| self.tree == Frontier::new() || self.tree == *tree;
                self.tree = record.tree(first).filter(follows).ok_or_else(broken)?;
            }
            // A log that was begun, and killed before its first record was durable.
            None if first == 0 && self.signed == 0 => {}
            None => return Err(broken()),
        }
        self.look();
        let (mut valid, mut opening, mut began) = (0, None, None);
        for (text, is_complete) in line::lines(content) {
            let Some(head) = line::head(text, self.tree.size()).filter(|_| is_complete) else { break };
            began = began.or_else(|| parse_time(head.at));
            self.tree.append(leaf_hash(text));
            self.look();
            valid += text.len() + 1;
            if self.tree.size() - first == opening_records {
                opening = Some(valid as u64);
            }
        }
        Ok(Replayed { valid, opening, began })
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
    if head.kind == SegmentRecord::NAME { serde_json::from_slice(text).ok() } else { None }
}

impl OpenSegment {
    /// A new segment. One of the same name without a synced record may be left by a crash.
    fn create(folder: &Path, first: u64, began: SystemTime) -> io::Result<Self> {
        let path = folder.join(folder::segment_name(first));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE).open(&path)?;
        folder::sync_folder(folder)?;
        let (synced, written) = (Content::default(), Content::default());
        Ok(Self { first, file, path, synced, written, opening: 0, is_opened: true, began, previous: None })
    }

    /// A segment with this content, and nothing after it.
    fn reopen(segment: &folder::Segment, content: &[u8]) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(&segment.path)?;
        let length = content.len() as u64;
        let metadata = file.metadata()?;
        if metadata.len() != length {
            file.set_len(length)?;
            file.sync_all()?;
        }
        file.seek(SeekFrom::Start(length))?;
        let synced = Content::of(content);
        let (first, path, began) = (segment.first, segment.path.clone(), metadata.modified()?);
        Ok(Self {
            first,
            file,
            path,
            written: synced.clone(),
            synced,
            opening: 0,
            is_opened: true,
            began,
            previous: None,
        })
    }

    /// A file that was deleted or replaced takes records that no reader will find.
    fn is_in_place(&self) -> io::Result<()> {
        let (ours, named) = (self.file.metadata()?, fs::metadata(&self.path)?);
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
            return Err(io::Error::other("the file of the segment was replaced"));
        }
        Ok(())
    }

    /// Appends. After an error the file is as before, as far as the disk allows.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.is_in_place()?;
        self.file.seek(SeekFrom::Start(self.written.length))?;
        if let Err(error) = self.file.write_all(text) {
            let _ = self.file.set_len(self.written.length);
            return Err(error);
        }
        self.written.add(text);
        Ok(())
    }

    /// Makes durable what is written.
    fn sync(&mut self, is_synced: bool) -> io::Result<()> {
        if is_synced {
            self.file.sync_data()?;
        }
        self.synced = self.written.clone();
        Ok(())
    }

    fn forget_unsynced(&mut self) {
        let _ = self.file.set_len(self.synced.length);
        self.written = self.synced.clone();
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
fn compress(folder: &Path, path: &Path, sync: bool) -> io::Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    folder::replace_with(folder, &format!("{name}.gz"), PRIVATE, sync, |file| {
        let mut encoder = GzEncoder::new(file, Compression::default());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish().map(drop)
    })?;
    fs::remove_file(path)?;
    if sync { folder::sync_folder(folder) } else { Ok(()) }
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
