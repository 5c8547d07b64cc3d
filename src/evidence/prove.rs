//! The newest checkpoint of a log, and the proof that one record is in its tree.
//!
//! Both read the folder of a log that may be written meanwhile, and change and lock nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::{self, CHECKPOINT, Identity, ReadError};
use super::inclusion::InclusionProver;
use super::key::VerifyingKey;
use super::line;
use super::log::opening;
use super::note::{Checkpoint, NoteError};
use super::proof::Proof;
use super::tree::leaf_hash;
use super::verify;

/// Why there is no checkpoint or proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// There is no log, or it cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The program signs a checkpoint after each run.
    #[error("the log in {} has no checkpoint yet; the daemon signs one after each run", .0.display())]
    NoCheckpoint(PathBuf),
    /// The key in `log.json`.
    #[error("the log in {} has no usable public key: {why}", .folder.display())]
    Key { folder: PathBuf, why: String },
    /// The checkpoint is damaged or of another log.
    #[error("the checkpoint of the log in {} cannot be used", .folder.display())]
    Checkpoint {
        folder: PathBuf,
        #[source]
        error: NoteError,
    },
    /// The record is not there.
    #[error("the log in {} has no record number {seq}: its newest checkpoint covers numbers 0 to {last}", .folder.display())]
    NotInLog { folder: PathBuf, seq: u64, last: u64 },
    /// The record is there and not signed.
    #[error(
        "record number {seq} is not signed yet: the newest checkpoint covers numbers 0 to {last}; the daemon signs the next one after its run"
    )]
    NotSigned { seq: u64, last: u64 },
    /// The segment of the record was moved or pruned.
    #[error("record number {seq} is not in {}: its segment was moved or pruned, and the first record here is number {first}", .folder.display())]
    Pruned { folder: PathBuf, seq: u64, first: u64 },
    /// The records are not those of the checkpoint.
    #[error("the records in {} are not those of their checkpoint; `evidence verify` shows what is wrong", .0.display())]
    Inconsistent(PathBuf),
}

/// The newest signed note of the log that is written now: the one in the folder, or the last one that continues it.
///
/// # Errors
///
/// There is none, or it is damaged.
pub fn newest_note(folder: &Path) -> Result<String, ProveError> {
    signed(&folder::newest(folder)?).map(|(note, _, _)| note)
}

/// The proof that the record with this number is in the tree of the newest checkpoint of the log in this folder. Logs in
/// sub-folders are other ones.
///
/// It holds one segment in memory at a time, and reads those from the record's on.
///
/// # Errors
///
/// The record is not there or not signed, or the log is not as its checkpoint states.
pub fn prove(folder: &Path, seq: u64) -> Result<Proof, ProveError> {
    folder::expect_log(folder)?;
    let (note, checkpoint, key) = signed(folder)?;
    let inconsistent = || ProveError::Inconsistent(folder.to_owned());
    let segments = folder::segments(folder).map_err(ReadError::at(folder))?;
    let first = segments.first().ok_or_else(inconsistent)?.first;
    if seq < first {
        return Err(ProveError::Pruned { folder: folder.to_owned(), seq, first });
    }
    if seq >= checkpoint.size {
        let last = checkpoint.size.saturating_sub(1);
        let is_there = segments.last().is_some_and(|last| has_record(last, seq));
        return Err(if is_there {
            ProveError::NotSigned { seq, last }
        } else {
            ProveError::NotInLog { folder: folder.to_owned(), seq, last }
        });
    }
    let from = segments.partition_point(|segment| segment.first <= seq).saturating_sub(1);
    let mut prover = None;
    let (mut next, mut line) = (0, None);
    for segment in segments[from..].iter().take_while(|segment| segment.first < checkpoint.size) {
        let content = segment.read().map_err(ReadError::at(&segment.path))?;
        if prover.is_none() {
            let before = opening(&content, segment.first).and_then(|record| record.tree(segment.first));
            let before = before.ok_or_else(inconsistent)?;
            next = before.size();
            prover = Some(InclusionProver::new(seq, checkpoint.size, &before).map_err(|_| inconsistent())?);
        }
        let Some(prover) = &mut prover else { return Err(inconsistent()) };
        for (text, _) in line::lines(&content) {
            prover.append(leaf_hash(text));
            if next == seq {
                line = Some(text.to_owned());
            }
            next += 1;
        }
    }
    let (Some(prover), Some(line)) = (prover, line) else { return Err(inconsistent()) };
    let hashes = prover.finish().map_err(|_| inconsistent())?;
    let proof = Proof { index: seq, hashes, extra: Vec::new(), note };
    proof.verify(&line, &key).map_err(|_| inconsistent())?;
    Ok(proof)
}

/// Whether the segment has the record. A segment that cannot be read has none.
fn has_record(segment: &folder::Segment, seq: u64) -> bool {
    let Some(before) = seq.checked_sub(segment.first).and_then(|before| usize::try_from(before).ok()) else {
        return false;
    };
    let content = segment.read().unwrap_or_default();
    line::lines(&content).nth(before).is_some_and(|(text, is_complete)| is_complete && line::head(text, seq).is_some())
}

/// The newest note in a folder, and the key that has signed it.
fn signed(folder: &Path) -> Result<(String, Checkpoint, VerifyingKey), ProveError> {
    let identity = identity(folder)?;
    let key = verify::key(&identity).map_err(|why| ProveError::Key { folder: folder.to_owned(), why })?;
    let path = folder.join(CHECKPOINT);
    let note = match fs::read(&path) {
        Ok(note) => String::from_utf8_lossy(&note).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ProveError::NoCheckpoint(folder.to_owned()));
        }
        Err(error) => return Err(ReadError::at(path)(error).into()),
    };
    let checkpoint =
        Checkpoint::parse(&note, &key).map_err(|error| ProveError::Checkpoint { folder: folder.to_owned(), error })?;
    Ok((note, checkpoint, key))
}

fn identity(folder: &Path) -> Result<Identity, ProveError> {
    match folder::identity(folder) {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(ProveError::Key { folder: folder.to_owned(), why: "log.json is missing".to_owned() }),
        Err(error) => Err(ReadError::at(folder.join(folder::IDENTITY))(error).into()),
    }
}
