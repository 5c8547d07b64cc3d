//! Verification of a log: whether its records are complete and unchanged, as far as checkpoints and anchors show.
//!
//! It reads the folder of a log that may be written meanwhile, and changes and locks nothing.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use sha2::{Digest, Sha256};

use super::anchor::Anchor;
use super::folder::{self, CHECKPOINT, CHECKPOINTS, Identity};
use super::key::VerifyingKey;
use super::line;
use super::log::{SignedAt, is_simulated, opening};
use super::note::Checkpoint;
use super::tree::{Frontier, Hash, leaf_hash};

/// What was found of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    pub folder: PathBuf,
    pub identity: Identity,
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
    /// The bytes after the last record: a write that was cut, or is under way.
    pub incomplete: u64,
    /// The anchors of this log that were compared with it.
    pub anchored: Vec<Checkpoint>,
    /// The anchors of this log that are older than its first record here.
    pub too_old: Vec<Checkpoint>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is shorter than a checkpoint or anchor.
    Truncated { size: u64, found: u64 },
    /// Records differ from those that a checkpoint or anchor states. They were right at `unchanged`, if at any size.
    Rewritten { size: u64, unchanged: Option<u64> },
    /// The log's key has signed two roots of the same size.
    Forked { size: u64 },
    /// A line that a checkpoint states is no record.
    NotARecord { record: u64 },
    /// A segment does not follow the one before it.
    Segment { first: u64, why: &'static str },
    /// A checkpoint or anchor that the log's key has not signed.
    NotSigned { what: String },
    /// The public key in `log.json` cannot be read.
    Key(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { size, found } => {
                write!(f, "TRUNCATED: the log has {found} records, and a checkpoint or anchor states {size}")
            }
            Self::Rewritten { size, unchanged: Some(unchanged) } => {
                write!(f, "REWRITTEN: records between number {unchanged} and number {size} differ from what was signed")
            }
            Self::Rewritten { size, unchanged: None } => {
                write!(f, "REWRITTEN: records before number {size} differ from what was signed")
            }
            Self::Forked { size } => write!(f, "FORKED: the log's key has signed two different logs of {size} records"),
            Self::NotARecord { record } => write!(f, "REWRITTEN: the line of record {record} is no record"),
            Self::Segment { first, why } => write!(f, "REWRITTEN: the segment with the first record {first} {why}"),
            Self::NotSigned { what } => write!(f, "{what} is not signed by the log's key"),
            Self::Key(error) => write!(f, "the public key of the log cannot be used: {error}"),
        }
    }
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

/// A root that the log must have at a size.
struct Mark {
    checkpoint: Checkpoint,
    /// The log's key has signed it.
    is_signed: bool,
    is_anchor: bool,
}

/// The marks of a log, and the notes that its key has not signed.
struct Marks {
    key: Option<VerifyingKey>,
    all: Vec<Mark>,
    problems: Vec<Problem>,
}

impl Marks {
    fn add_note(&mut self, note: &str, what: &str, is_anchor: bool) -> Option<Checkpoint> {
        let checkpoint = self.key.as_ref().and_then(|key| Checkpoint::parse(note, key).ok());
        match &checkpoint {
            Some(known) => self.all.push(Mark { checkpoint: known.clone(), is_signed: true, is_anchor }),
            // Without the key nothing can be said of any note.
            None if self.key.is_none() => {}
            None => self.problems.push(Problem::NotSigned { what: what.to_owned() }),
        }
        checkpoint
    }
}

/// Verifies the log in a folder and those in its sub-folders that continue it.
///
/// # Errors
///
/// The folder has no log, or a file of it cannot be read.
pub fn verify(folder: &Path, anchors: &[Anchor]) -> io::Result<Vec<Verification>> {
    let mut found = Vec::new();
    let mut next = Some(folder.to_owned());
    while let Some(folder) = next {
        found.push(verify_one(&folder, anchors)?);
        next = folder::successor(&folder)?;
    }
    Ok(found)
}

fn verify_one(folder: &Path, anchors: &[Anchor]) -> io::Result<Verification> {
    let no_log = || io::Error::new(io::ErrorKind::NotFound, "the folder has no log.json");
    let identity = folder::identity(folder)?.ok_or_else(no_log)?;
    let key = match identity.public_key.parse::<VerifyingKey>() {
        Ok(key) if key.name() == identity.origin => Ok(key),
        Ok(_) => Err("it is named after another log".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let problems = key.as_ref().err().map(|why| Problem::Key(why.clone())).into_iter().collect();
    let mut marks = Marks { key: key.ok(), all: Vec::new(), problems };
    let newest = optional(fs::read_to_string(folder.join(CHECKPOINT)))?;
    let signed = newest.and_then(|note| marks.add_note(&note, "the checkpoint", false));
    // It is not synced, so its last line may be missing or cut.
    let all = optional(fs::read(folder.join(CHECKPOINTS)))?.unwrap_or_default();
    for (text, is_complete) in line::lines(&all) {
        match serde_json::from_slice::<SignedAt>(text) {
            Ok(SignedAt { at, note }) => {
                marks.add_note(&note, &format!("the checkpoint of {at}"), false);
            }
            Err(_) if is_complete && !text.iter().all(|byte| *byte == 0) => {
                marks.problems.push(Problem::NotSigned { what: "a line of checkpoints.jsonl".to_owned() });
            }
            Err(_) => {}
        }
    }
    let ours = anchors.iter().filter(|anchor| anchor.checkpoint.origin == identity.origin);
    for Anchor { checkpoint, note } in ours {
        match note {
            Some(note) => {
                marks.add_note(note, "an anchor", true);
            }
            None => marks.all.push(Mark { checkpoint: checkpoint.clone(), is_signed: false, is_anchor: true }),
        }
    }
    let Marks { all: mut marks, mut problems, .. } = marks;
    marks.sort_by_key(|mark| mark.checkpoint.size);
    for same_size in marks.chunk_by(|one, other| one.checkpoint.size == other.checkpoint.size) {
        let signed: Vec<_> = same_size.iter().filter(|mark| mark.is_signed).map(|mark| &mark.checkpoint).collect();
        if let [one, others @ ..] = &signed[..]
            && others.iter().any(|other| other.root != one.root)
        {
            problems.push(Problem::Forked { size: one.size });
        }
    }
    problems.dedup();
    let mut walk = Walk { tree: Frontier::new(), first: None, unchanged: None, marks: &marks, problems, incomplete: 0 };
    let until = marks.last().map_or(0, |mark| mark.checkpoint.size);
    let mut previous = None;
    for segment in folder::segments(folder)? {
        let content = segment.read()?;
        walk.segment(&content, segment.first, previous.as_ref(), until);
        previous = Some(Hash(Sha256::digest(&content).into()));
    }
    let Walk { tree, first, mut problems, incomplete, .. } = walk;
    let first = first.unwrap_or(0);
    if let Some(longest) = marks.last().filter(|mark| mark.checkpoint.size > tree.size()) {
        problems.push(Problem::Truncated { size: longest.checkpoint.size, found: tree.size() });
    }
    let anchors = marks.iter().filter(|mark| mark.is_anchor).map(|mark| mark.checkpoint.clone());
    let (too_old, anchored) = anchors.partition(|anchor| anchor.size < first);
    let (folder, simulated, size, root) = (folder.to_owned(), is_simulated(&identity.origin), tree.size(), tree.root());
    Ok(Verification { folder, identity, simulated, first, size, root, signed, incomplete, anchored, too_old, problems })
}

/// The way through the segments of a log.
struct Walk<'a> {
    tree: Frontier,
    /// The number of the first record, once there is one.
    first: Option<u64>,
    /// The last size at which the tree was the one of a mark.
    unchanged: Option<u64>,
    /// By size.
    marks: &'a [Mark],
    problems: Vec<Problem>,
    incomplete: u64,
}

impl Walk<'_> {
    /// Reads a segment. `previous` is the hash of the one before it, and `until` the number of records that must be
    /// there.
    fn segment(&mut self, content: &[u8], first: u64, previous: Option<&Hash>, until: u64) {
        let is_first_record = |(text, is_complete)| is_complete && line::head(text, first).is_some();
        // A segment that was begun right before a crash has no record yet.
        if !line::lines(content).next().is_some_and(is_first_record)
            && self.tree.size() >= until
            && self.first.is_some()
        {
            self.incomplete = content.len() as u64;
            return;
        }
        let mut wrong = |why| self.problems.push(Problem::Segment { first, why });
        match opening(content, first) {
            Some(record) => {
                match record.tree(first) {
                    None => wrong("begins with a record of another tree"),
                    Some(tree) if self.first.is_none() => self.tree = tree,
                    Some(tree) if tree != self.tree => wrong("does not follow the one before it"),
                    Some(_) => {}
                }
                if let (Some(stated), Some(found)) = (record.previous, previous)
                    && stated.sha256 != *found
                {
                    wrong("states another content of the one before it");
                }
            }
            None if until == 0 => {}
            None => wrong("does not begin with a record of the tree before it"),
        }
        self.first.get_or_insert(first);
        self.look();
        self.incomplete = 0;
        let mut valid = 0;
        for (text, is_complete) in line::lines(content) {
            if line::head(text, self.tree.size()).is_none() || !is_complete {
                if self.tree.size() < until {
                    self.problems.push(Problem::NotARecord { record: self.tree.size() });
                }
                self.incomplete = (content.len() - valid) as u64;
                return;
            }
            valid += text.len() + 1;
            self.tree.append(leaf_hash(text));
            self.look();
        }
    }

    /// Compares the tree with the marks of its size.
    fn look(&mut self) {
        let size = self.tree.size();
        let from = self.marks.partition_point(|mark| mark.checkpoint.size < size);
        let here: Vec<_> = self.marks[from..].iter().take_while(|mark| mark.checkpoint.size == size).collect();
        if here.is_empty() {
            return;
        }
        let root = self.tree.root();
        if here.iter().all(|mark| mark.checkpoint.root == root) {
            self.unchanged = Some(size);
        } else {
            self.problems.push(Problem::Rewritten { size, unchanged: self.unchanged });
        }
    }
}

/// The content of a file that need not exist.
fn optional<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
