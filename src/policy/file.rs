//! The policy file on disk, or standard input.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest policy file accepted, in bytes: twenty times the size for 10 000 keys.
pub(crate) const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// The path that stands for standard input. A file of this name is `./-`.
const STANDARD_INPUT: &str = "-";

/// The policy file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableFile {
    /// The file could not be opened or read.
    #[error("cannot read {}", Named(.0))]
    Io(PathBuf, #[source] io::Error),
    /// The path is a directory.
    #[error("{} is a directory", Named(.0))]
    Directory(PathBuf),
    /// The file is a pipe or the like, or standard input, and was read before: reading it again would block.
    #[error("{} is not a regular file, so it cannot be read again; use a regular file", Named(.0))]
    NotRegular(PathBuf),
    /// The file is larger than 16 MiB.
    #[error("{} is larger than {} MiB", Named(.0), LARGEST_FILE / 1024 / 1024)]
    TooLarge(PathBuf),
}

impl UnreadableFile {
    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Io(path, _) | Self::Directory(path) | Self::NotRegular(path) | Self::TooLarge(path) => path,
        }
    }
}

/// The file in words.
struct Named<'p>(&'p Path);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_standard_input(self.0) {
            f.write_str("the policy on standard input")
        } else {
            write!(f, "policy file {}", self.0.display())
        }
    }
}

/// Whether the path is `-`.
#[must_use]
pub(crate) fn is_standard_input(path: &Path) -> bool {
    path == Path::new(STANDARD_INPUT)
}

/// Reads the bytes of the policy file; `-` is standard input, which can be read only once.
///
/// # Errors
///
/// The file does not exist, is not readable, is a directory, or is too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>, UnreadableFile> {
    let failed = |error| UnreadableFile::Io(path.to_owned(), error);
    if is_standard_input(path) {
        return read_limited(io::stdin().lock(), Vec::new(), path);
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(UnreadableFile::Directory(path.to_owned()));
    }
    let bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LARGEST_FILE)).unwrap_or_default());
    read_limited(file, bytes, path)
}

/// Reads to the end, within the limit: a pipe has no length, and a file can grow after it was looked up.
fn read_limited(file: impl Read, mut bytes: Vec<u8>, path: &Path) -> Result<Vec<u8>, UnreadableFile> {
    let read = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|error| UnreadableFile::Io(path.to_owned(), error))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(UnreadableFile::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_a_policy_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.yaml");
        let missing = read_file(&path).unwrap_err();
        assert_eq!(missing.to_string(), format!("cannot read policy file {}", path.display()));
        assert!(matches!(missing, UnreadableFile::Io(_, error) if error.kind() == io::ErrorKind::NotFound));
        assert!(matches!(read_file(directory.path()), Err(UnreadableFile::Directory(_))));
        assert!(matches!(read_file(Path::new("/dev/zero")), Err(UnreadableFile::TooLarge(_))));
        File::create(&path).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        assert!(matches!(read_file(&path), Err(UnreadableFile::TooLarge(_))));
        File::create(&path).unwrap().set_len(LARGEST_FILE).unwrap();
        assert_eq!(read_file(&path).map(|bytes| bytes.len() as u64).unwrap(), LARGEST_FILE);
    }
}
