//! Verification of a log: whether its records are complete and unchanged, as far as checkpoints and anchors show.
//!
//! It reads the folder of a log that may be written meanwhile, and changes and locks nothing. [`super::conclusion`] puts
//! the result into words.

use std::path::{Path, PathBuf};
use std::{io, thread};

use sha2::{Digest, Sha256};

use super::anchor::Anchor;
use super::folder::{self, CHECKPOINT, IDENTITY, Identity, ReadError, Segment};
use super::key::VerifyingKey;
use super::line;
use super::log::{is_simulated, opening};
use super::marks::{Mark, Marks, optional};
use super::note::Checkpoint;
use super::problem::{Problem, Stated};
use super::tree::{Frontier, Hash, leaf_hash};

/// What was found of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    pub folder: PathBuf,
    /// Nothing if `log.json` is missing or damaged, and with it the checkpoint.
    pub origin: Option<String>,
    /// The origin of the log that this one continues.
    pub continues: Option<String>,
    /// Whether it is the log of a simulated cloud.
    pub simulated: bool,
    /// The number of its first record that is kept here; older segments were moved or pruned.
    pub first: u64,
    /// The number of its records.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// The newest checkpoint in the folder.
    pub signed: Option<Checkpoint>,
    /// When it was signed, if `checkpoints.jsonl` has it.
    pub signed_at: Option<String>,
    /// The bytes after the last record: a write that was cut, or is under way.
    pub incomplete: u64,
    /// The anchors of this log that it agrees with, by size.
    pub anchored: Vec<Anchored>,
    /// The anchors of this log that cover none of the records that are here, and cannot be checked.
    pub too_old: Vec<Checkpoint>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// An anchor that the log agrees with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchored {
    pub checkpoint: Checkpoint,
    /// The time of the last record that it covers; nothing if that record is not here.
    pub until: Option<String>,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.problems.is_empty()
    }

    /// The records that no checkpoint in the folder states yet.
    #[must_use]
    pub fn unsigned(&self) -> u64 {
        self.size - self.signed.as_ref().map_or(0, |signed| signed.size.min(self.size))
    }
}

/// Verifies the log in a folder and those in its sub-folders that continue it.
///
/// # Errors
///
/// The folder has no log, or a file of it cannot be read.
pub fn verify(folder: &Path, anchors: &[Anchor]) -> Result<Vec<Verification>, ReadError> {
    folder::expect_log(folder)?;
    folder::with_successors(folder)?.iter().map(|folder| verify_settled(folder, anchors)).collect()
}

/// Verifies one log again if its segments changed while it was read: the checkpoint may state records of a segment that
/// was not on the list yet, and a segment on the list may have been pruned.
fn verify_settled(folder: &Path, anchors: &[Anchor]) -> Result<Verification, ReadError> {
    let list = || folder::segments(folder).map_err(ReadError::at(folder));
    let mut before = list()?;
    loop {
        let found = verify_one(folder, &before, anchors);
        let after = list()?;
        if found.as_ref().is_ok_and(Verification::is_consistent) || before == after {
            return found;
        }
        before = after;
    }
}

fn verify_one(folder: &Path, segments: &[Segment], anchors: &[Anchor]) -> Result<Verification, ReadError> {
    let mut problems = Vec::new();
    let identity = match folder::identity(folder) {
        Ok(Some(identity)) => Some(identity),
        Ok(None) => {
            problems.push(Problem::Identity(format!("{IDENTITY} is missing")));
            None
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            problems.push(Problem::Identity(format!("{IDENTITY} is damaged: {error}")));
            None
        }
        Err(error) => return Err(ReadError::at(folder.join(IDENTITY))(error)),
    };
    let key = identity.as_ref().and_then(|identity| match key(identity) {
        Ok(key) => Some(key),
        Err(why) => {
            problems.push(Problem::Identity(format!("the public key in {IDENTITY} cannot be used: {why}")));
            None
        }
    });
    let origin = match &identity {
        Some(identity) => Some(identity.origin.clone()),
        None => optional(&folder.join(CHECKPOINT))?
            .and_then(|note| Checkpoint::parse_unverified(&String::from_utf8_lossy(&note)).ok())
            .map(|checkpoint| checkpoint.origin),
    };
    let mut marks = Marks { key, all: Vec::new(), problems };
    marks.add_own(folder)?;
    marks.add_anchors(anchors, origin.as_deref().unwrap_or_default());
    marks.sort();
    marks.find_forks();
    let Marks { all: marks, problems, .. } = marks;
    let mut walk = Walk::new(&marks, problems);
    walk.read_all(segments)?;
    walk.find_missing();
    let Walk { tree, first, mut anchored, problems, incomplete, .. } = walk;
    let first = first.unwrap_or(0);
    // An anchor over nothing shows nothing.
    anchored.retain(|anchored| anchored.checkpoint.size >= first.max(1));
    let too_old = marks.iter().filter(|mark| mark.is_anchor && mark.checkpoint.size < first.max(1));
    let newest = marks.iter().rfind(|mark| !mark.is_anchor);
    Ok(Verification {
        folder: folder.to_owned(),
        simulated: origin.as_deref().is_some_and(is_simulated),
        origin,
        continues: identity.and_then(|identity| identity.continues),
        first,
        size: tree.size(),
        root: tree.root(),
        signed: newest.map(|mark| mark.checkpoint.clone()),
        signed_at: newest.and_then(|mark| mark.at.clone()),
        incomplete,
        anchored,
        too_old: too_old.map(|mark| mark.checkpoint.clone()).collect(),
        problems,
    })
}

/// The public key of a log.
pub(super) fn key(identity: &Identity) -> Result<VerifyingKey, String> {
    match identity.public_key.parse::<VerifyingKey>() {
        Ok(key) if key.name() == identity.origin => Ok(key),
        Ok(_) => Err("it is named after another log".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The way through the segments of a log.
struct Walk<'a> {
    /// By size.
    marks: &'a [Mark],
    /// The number of records that must be there.
    until: u64,
    tree: Frontier,
    /// The number of the first record, once there is one.
    first: Option<u64>,
    /// The time of the last record.
    at: Option<String>,
    /// The hash of the segment before.
    previous: Option<Hash>,
    /// The last mark that the tree agreed with, before any that it did not agree with.
    unchanged: Option<Stated>,
    is_rewritten: bool,
    /// What follows is not looked at: it cannot lead to any root that was stated.
    is_broken: bool,
    anchored: Vec<Anchored>,
    problems: Vec<Problem>,
    incomplete: u64,
}

impl<'a> Walk<'a> {
    fn new(marks: &'a [Mark], problems: Vec<Problem>) -> Self {
        Self {
            marks,
            until: marks.last().map_or(0, |mark| mark.checkpoint.size),
            tree: Frontier::new(),
            first: None,
            at: None,
            previous: None,
            unchanged: None,
            is_rewritten: false,
            is_broken: false,
            anchored: Vec::new(),
            problems,
            incomplete: 0,
        }
    }

    /// Reads the segments. The next one is read while one is walked through, and its hash is computed meanwhile.
    fn read_all(&mut self, segments: &[Segment]) -> Result<(), ReadError> {
        thread::scope(|scope| {
            let mut ahead = segments.first().map(|first| scope.spawn(|| first.read()));
            for (at, segment) in segments.iter().enumerate() {
                let read = ahead.take().and_then(|ahead| ahead.join().ok()).unwrap_or_else(|| segment.read());
                if self.is_broken {
                    break;
                }
                ahead = segments.get(at + 1).map(|next| scope.spawn(|| next.read()));
                self.read(segment, read)?;
            }
            Ok(())
        })
    }

    fn read(&mut self, segment: &Segment, read: io::Result<Vec<u8>>) -> Result<(), ReadError> {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match read {
            Ok(content) => {
                self.previous = thread::scope(|scope| {
                    let hash = scope.spawn(|| Hash(Sha256::digest(&content).into()));
                    self.segment(&content, segment.first);
                    hash.join().ok()
                });
                Ok(())
            }
            Err(error) if matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) => {
                self.broken(Problem::Segment { first: segment.first, why: "cannot be decompressed" });
                Ok(())
            }
            Err(error) => Err(ReadError::at(&segment.path)(error)),
        }
    }

    fn broken(&mut self, problem: Problem) {
        self.problems.push(problem);
        self.is_broken = true;
    }

    fn segment(&mut self, content: &[u8], first: u64) {
        let is_first_record = |(text, is_complete)| is_complete && line::head(text, first).is_some();
        // A segment that was begun right before a crash has no record yet.
        if !line::lines(content).next().is_some_and(is_first_record)
            && self.tree.size() >= self.until
            && self.first.is_some()
        {
            self.incomplete = content.len() as u64;
            return;
        }
        let wrong = |why| Problem::Segment { first, why };
        match opening(content, first) {
            Some(record) => {
                match record.tree(first) {
                    None => return self.broken(wrong("begins with a record of another tree")),
                    Some(tree) if self.first.is_none() => self.tree = tree,
                    Some(tree) if tree != self.tree => {
                        return self.broken(wrong("does not follow the one before it"));
                    }
                    Some(_) => {}
                }
                if let (Some(stated), Some(found)) = (record.previous, &self.previous)
                    && stated.sha256 != *found
                {
                    self.problems.push(wrong("states another content of the one before it"));
                }
            }
            None if self.until == 0 => {}
            // Only a part of the first record is there: the log is truncated.
            None if !content.contains(&b'\n') => {}
            None => return self.broken(wrong("does not begin with a record of the tree before it")),
        }
        if self.first.is_none() {
            self.first = Some(first);
            self.look();
        }
        self.incomplete = 0;
        let mut valid = 0;
        for (text, is_complete) in line::lines(content) {
            let Some(head) = line::head(text, self.tree.size()).filter(|_| is_complete) else {
                self.incomplete = (content.len() - valid) as u64;
                if self.tree.size() < self.until && is_complete {
                    self.broken(Problem::NotARecord { record: self.tree.size() });
                }
                return;
            };
            valid += text.len() + 1;
            let at = self.at.get_or_insert_default();
            at.clear();
            at.push_str(head.at);
            self.tree.append(leaf_hash(text));
            self.look();
        }
    }

    /// Compares the tree with the marks of its size.
    fn look(&mut self) {
        let size = self.tree.size();
        let from = self.marks.partition_point(|mark| mark.checkpoint.size < size);
        let here = self.marks[from..].iter().take_while(|mark| mark.checkpoint.size == size);
        if here.clone().next().is_none() {
            return;
        }
        let root = self.tree.root();
        let (right, wrong): (Vec<_>, Vec<_>) = here.partition(|mark| mark.checkpoint.root == root);
        let anchors = right.iter().filter(|mark| mark.is_anchor);
        self.anchored
            .extend(anchors.map(|mark| Anchored { checkpoint: mark.checkpoint.clone(), until: self.at.clone() }));
        // Of a rewritten log, every later checkpoint differs.
        if self.is_rewritten {
            return;
        }
        if let Some(wrong) = wrong.first() {
            let (stated, unchanged) = (wrong.stated(), self.unchanged.clone());
            self.problems.push(Problem::Rewritten { stated, unchanged });
            self.is_rewritten = true;
        } else {
            self.unchanged = right.last().map(|mark| mark.stated());
        }
    }

    /// Reports missing records at the end.
    fn find_missing(&mut self) {
        if let Some(longest) = self.marks.last().filter(|mark| mark.checkpoint.size > self.tree.size())
            && !self.is_broken
        {
            let (stated, found, until) = (longest.stated(), self.tree.size(), self.at.clone());
            self.problems.push(Problem::Truncated { stated, found, until });
        }
    }
}
