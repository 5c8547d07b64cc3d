//! The files of a log in its folder.
//!
//! | file | content |
//! |---|---|
//! | `log.json` | the log's [`Identity`] |
//! | `00000000000000000000.jsonl` | a segment, named by the number of its first record; closed ones are `.jsonl.gz` |
//! | `checkpoint` | the newest checkpoint, a signed note |
//! | `checkpoints.jsonl` | each checkpoint with its time |
//! | `signing-key`, `lock` | the private key, unless it is kept elsewhere; the lock of the writer |
//! | `after-…` | the log that continues this one, if this one could not be continued |

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::line;
use super::reader::parse_time;

pub(super) const IDENTITY: &str = "log.json";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const CHECKPOINTS: &str = "checkpoints.jsonl";
pub(super) const SIGNING_KEY: &str = "signing-key";
pub(super) const LOCK: &str = "lock";
/// The beginning of the names of sub-folders with a log that continues this one.
pub(super) const SUCCESSOR: &str = "after-";

/// What a log is: the content of `log.json`, which never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The version of the format.
    pub version: u32,
    /// The name of the log, unlike that of every other one.
    pub origin: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The public key, as a vkey of c2sp.org/signed-note.
    pub public_key: String,
    /// The origin of the log that this one continues, since it could not be continued itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
}

/// The version of the format of this program.
pub(super) const VERSION: u32 = 1;

/// One file with records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first record.
    pub first: u64,
    pub path: PathBuf,
    /// Whether it is closed and compressed.
    pub is_compressed: bool,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("{} has no evidence log; expected a folder with log.json and segments such as {}", .0.display(), segment_name(0))]
    NoLog(PathBuf),
    /// A file or folder of it.
    #[error("cannot read {} of the evidence log", .path.display())]
    File {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
}

impl ReadError {
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { path: path.into(), error }
    }
}

impl Segment {
    /// The content, decompressed.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not compressed as its name says.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let (mut file, is_compressed) = self.open()?;
        if is_compressed {
            MultiGzDecoder::new(file).read_to_end(&mut content)?;
        } else {
            file.read_to_end(&mut content)?;
        }
        Ok(content)
    }

    /// When its first record was written; `None` if it has none.
    ///
    /// # Errors
    ///
    /// As of [`Segment::read`].
    pub(super) fn began(&self) -> io::Result<Option<SystemTime>> {
        let (file, is_compressed) = self.open()?;
        let mut first = Vec::new();
        if is_compressed {
            BufReader::new(MultiGzDecoder::new(file)).read_until(b'\n', &mut first)?;
        } else {
            BufReader::new(file).read_until(b'\n', &mut first)?;
        }
        let head = line::head(first.trim_ascii_end(), self.first);
        Ok(head.and_then(|head| parse_time(head.at)))
    }

    /// The file, and whether it is compressed: the writer may have closed and compressed the segment since it was
    /// listed.
    pub(super) fn open(&self) -> io::Result<(File, bool)> {
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_compressed => {
                Ok((File::open(self.path.with_extension("jsonl.gz"))?, true))
            }
            opened => Ok((opened?, self.is_compressed)),
        }
    }
}

/// The name of a segment that is not closed.
pub(super) fn segment_name(first: u64) -> String {
    format!("{first:020}.jsonl")
}

/// The segments in a folder, in order. A closed segment that is still there in both forms counts once, uncompressed:
/// the program was killed while it compressed it.
///
/// # Errors
///
/// The folder cannot be read.
pub fn segments(folder: &Path) -> io::Result<Vec<Segment>> {
    // While a segment gets its other name, a list may lack both.
    let mut segments = list_segments(folder)?;
    loop {
        let again = list_segments(folder)?;
        if again == segments {
            return Ok(segments);
        }
        segments = again;
    }
}

fn list_segments(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
        let (number, is_compressed) = match (name.strip_suffix(".jsonl"), name.strip_suffix(".jsonl.gz")) {
            (Some(number), _) => (number, false),
            (None, Some(number)) => (number, true),
            (None, None) => continue,
        };
        if number.len() == 20
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(first) = number.parse()
        {
            segments.push(Segment { first, path, is_compressed });
        }
    }
    segments.sort_by_key(|segment| (segment.first, segment.is_compressed));
    segments.dedup_by_key(|segment| segment.first);
    Ok(segments)
}

/// Reads `log.json`; `None` if there is none.
///
/// # Errors
///
/// It cannot be read, or is not a log's.
pub fn identity(folder: &Path) -> io::Result<Option<Identity>> {
    let text = match fs::read(folder.join(IDENTITY)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The sub-folders of the logs that continue the one in this folder, by the time when they were begun. There is one at
/// most, unless a log was damaged twice. Links are not followed, since they could lead back.
///
/// # Errors
///
/// The folder cannot be read.
pub fn successors(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(SUCCESSOR.as_bytes())
            && entry.file_type()?.is_dir()
            && has_log(&path)?
        {
            let begun = identity(&path).ok().flatten().map(|identity| identity.created_at);
            found.push((begun, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The folder of a log, and those of the logs that continue it.
///
/// # Errors
///
/// A folder cannot be read.
pub fn with_successors(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let (mut found, mut next) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = next.pop() {
        next.extend(successors(&folder).map_err(ReadError::at(&folder))?.into_iter().rev());
        found.push(folder);
    }
    Ok(found)
}

/// The log that continues the one in this folder, if any; of several the one that was begun last.
///
/// # Errors
///
/// The folder cannot be read.
pub fn successor(folder: &Path) -> io::Result<Option<PathBuf>> {
    let has_identity = |path: &PathBuf| matches!(identity(path), Ok(Some(_)));
    Ok(successors(folder)?.into_iter().rev().find(has_identity))
}

/// The folder of the log that is written now: this one, or that of the last log that continues it.
///
/// # Errors
///
/// A folder cannot be read.
pub(super) fn active(folder: &Path) -> io::Result<PathBuf> {
    let mut active = folder.to_owned();
    while let Some(next) = successor(&active)? {
        active = next;
    }
    Ok(active)
}

/// The same of a folder that must have a log.
///
/// # Errors
///
/// The folder cannot be read, or has no log.
pub fn newest(folder: &Path) -> Result<PathBuf, ReadError> {
    expect_log(folder)?;
    active(folder).map_err(ReadError::at(folder))
}

/// Returns an error if the folder has neither the identity of a log nor records, nor a log that continues it.
pub(crate) fn expect_log(folder: &Path) -> Result<(), ReadError> {
    match has_log(folder).and_then(|has_log| Ok(has_log || !successors(folder)?.is_empty())) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ReadError::NoLog(folder.to_owned())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(ReadError::NoLog(folder.to_owned()))
        }
        Err(error) => Err(ReadError::at(folder)(error)),
    }
}

/// Whether the folder has the identity of a log, or records without it.
fn has_log(folder: &Path) -> io::Result<bool> {
    Ok(folder.join(IDENTITY).exists() || has_records(folder)?)
}

/// Whether the folder has segments with content.
pub(super) fn has_records(folder: &Path) -> io::Result<bool> {
    Ok(segments(folder)?.iter().any(|segment| fs::metadata(&segment.path).is_ok_and(|file| file.len() > 0)))
}

/// Writes a file so that a crash leaves the old content or the new one: into a temporary file, which is synced and then
/// renamed. The folder is synced as well.
pub(super) fn replace(folder: &Path, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    replace_with(folder, name, mode, true, |file| file.write_all(content))
}

/// Writes a file in its place. A rename makes some file systems write the content to the disk.
pub(super) fn overwrite(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)
}

/// The same as [`replace`] with a content that `write` writes. Without `sync`, only a crash of the program leaves one of
/// the two.
pub(super) fn replace_with(
    folder: &Path,
    name: &str,
    mode: u32,
    sync: bool,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    write(&mut file)?;
    if sync {
        file.sync_all()?;
    }
    fs::rename(&temporary, folder.join(name))?;
    if sync { sync_folder(folder) } else { Ok(()) }
}

/// Makes names in the folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
