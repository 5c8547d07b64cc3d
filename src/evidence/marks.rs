//! The roots that a log must have at some sizes: those of its own checkpoints, and those of anchors.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::{fs, io, thread};

use super::anchor::Anchor;
use super::folder::{CHECKPOINT, CHECKPOINTS, ReadError};
use super::key::VerifyingKey;
use super::line;
use super::log::SignedAt;
use super::note::Checkpoint;
use super::problem::{Problem, Stated};

/// A root that the log must have at a size.
pub(super) struct Mark {
    pub(super) checkpoint: Checkpoint,
    pub(super) at: Option<String>,
    /// The log's key has signed it.
    pub(super) is_signed: bool,
    pub(super) is_anchor: bool,
}

impl Mark {
    pub(super) fn stated(&self) -> Stated {
        Stated { size: self.checkpoint.size, at: self.at.clone(), is_anchor: self.is_anchor }
    }
}

/// The marks of a log, and the notes that its key has not signed.
pub(super) struct Marks {
    pub(super) key: Option<VerifyingKey>,
    pub(super) all: Vec<Mark>,
    pub(super) problems: Vec<Problem>,
}

impl Marks {
    fn add_note(&mut self, note: &str, what: &str, at: Option<String>, is_anchor: bool) {
        // Without the key, nothing is known of any note.
        let Some(key) = &self.key else { return };
        let found = mark(note, key, at, is_anchor).ok_or_else(|| Problem::NotSigned { what: what.to_owned() });
        self.add(found);
    }

    fn add(&mut self, found: Result<Mark, Problem>) {
        match found {
            Ok(mark) => self.all.push(mark),
            Err(problem) => self.problems.push(problem),
        }
    }

    /// The checkpoints in the folder.
    pub(super) fn add_own(&mut self, folder: &Path) -> Result<(), ReadError> {
        let newest = optional(&folder.join(CHECKPOINT))?;
        if let Some(note) = newest {
            self.add_note(&String::from_utf8_lossy(&note), "the checkpoint", None, false);
        }
        let Some(key) = self.key.clone() else { return Ok(()) };
        let all = optional(&folder.join(CHECKPOINTS))?.unwrap_or_default();
        let lines: Vec<_> = line::lines(&all).collect();
        // Signatures take most of the time: a log of two years has 36 000 of them.
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let found = thread::scope(|scope| {
            let parts = lines.chunks(lines.len().div_ceil(threads).max(1));
            let key = &key;
            let parts: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().filter_map(|line| signed(*line, key)).collect::<Vec<_>>()))
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect::<Vec<_>>()
        });
        for found in found {
            self.add(found);
        }
        Ok(())
    }

    /// The anchors of this log.
    pub(super) fn add_anchors(&mut self, anchors: &[Anchor], origin: &str) {
        for Anchor { checkpoint, note } in anchors.iter().filter(|anchor| anchor.checkpoint.origin == origin) {
            if let Some(note) = note {
                self.add_note(note, "an anchor", None, true);
            } else {
                let checkpoint = checkpoint.clone();
                self.all.push(Mark { checkpoint, at: None, is_signed: false, is_anchor: true });
            }
        }
    }

    /// Sorts them by size, those in the folder first, and removes the ones that occur twice.
    pub(super) fn sort(&mut self) {
        let times =
            self.all.iter().filter_map(|mark| Some(((mark.checkpoint.size, mark.checkpoint.root), mark.at.clone()?)));
        let times: BTreeMap<_, _> = times.collect();
        for mark in &mut self.all {
            mark.at = times.get(&(mark.checkpoint.size, mark.checkpoint.root)).cloned();
        }
        self.all.sort_by_key(|mark| (mark.checkpoint.size, mark.is_anchor, mark.checkpoint.root, !mark.is_signed));
        self.all.dedup_by(|one, other| one.checkpoint == other.checkpoint && one.is_anchor == other.is_anchor);
        self.problems.dedup();
    }

    pub(super) fn find_forks(&mut self) {
        for same_size in self.all.chunk_by(|one, other| one.checkpoint.size == other.checkpoint.size) {
            let mut signed = same_size.iter().filter(|mark| mark.is_signed);
            if let Some(one) = signed.next()
                && let Some(other) = signed.find(|other| other.checkpoint.root != one.checkpoint.root)
            {
                self.problems.push(Problem::Forked { one: one.stated(), other: other.stated() });
            }
        }
    }
}

/// The mark of a note; nothing if the log's key has not signed it.
fn mark(note: &str, key: &VerifyingKey, at: Option<String>, is_anchor: bool) -> Option<Mark> {
    let checkpoint = Checkpoint::parse(note, key).ok()?;
    Some(Mark { checkpoint, at, is_signed: true, is_anchor })
}

/// The mark of a line of `checkpoints.jsonl`. The file is not synced, so its last line may be missing or cut.
fn signed((text, is_complete): (&[u8], bool), key: &VerifyingKey) -> Option<Result<Mark, Problem>> {
    match serde_json::from_slice(text) {
        Ok(SignedAt { at, note }) => {
            let not_signed = || Problem::NotSigned { what: format!("the checkpoint of {at} in {CHECKPOINTS}") };
            Some(mark(&note, key, Some(at.clone()), false).ok_or_else(not_signed))
        }
        Err(_) if is_complete && !text.iter().all(|byte| *byte == 0) => {
            Some(Err(Problem::NotSigned { what: format!("a line of {CHECKPOINTS}") }))
        }
        Err(_) => None,
    }
}

/// The content of a file that need not exist.
pub(super) fn optional(path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::at(path)(error)),
    }
}
