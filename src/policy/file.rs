//! The policy file on disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest policy file accepted, in bytes: twenty times the size for 10 000 keys.
pub(crate) const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// The policy file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableFile {
    /// The file could not be opened or read.
    #[error("read policy file {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// The path is a directory.
    #[error("policy file {} is a directory", .0.display())]
    Directory(PathBuf),
    /// The file is a pipe or the like and was read before: reading it again would block.
    #[error("policy file {} is not a regular file, so it cannot be read again; use a regular file", .0.display())]
    NotRegular(PathBuf),
    /// The file is larger than 16 MiB.
    #[error("policy file {} is larger than {} MiB", .0.display(), LARGEST_FILE / 1024 / 1024)]
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

/// Reads the bytes of the policy file.
///
/// # Errors
///
/// The file does not exist, is not readable, is a directory, or is too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>, UnreadableFile> {
    let failed = |error| UnreadableFile::Io(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(UnreadableFile::Directory(path.to_owned()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LARGEST_FILE)).unwrap_or_default());
    // A pipe has no length, and a file can grow after the check.
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
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
        assert_eq!(missing.to_string(), format!("read policy file {}", path.display()));
        assert!(matches!(missing, UnreadableFile::Io(_, error) if error.kind() == io::ErrorKind::NotFound));
        assert!(matches!(read_file(directory.path()), Err(UnreadableFile::Directory(_))));
        assert!(matches!(read_file(Path::new("/dev/zero")), Err(UnreadableFile::TooLarge(_))));
        File::create(&path).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        assert!(matches!(read_file(&path), Err(UnreadableFile::TooLarge(_))));
        File::create(&path).unwrap().set_len(LARGEST_FILE).unwrap();
        assert_eq!(read_file(&path).map(|bytes| bytes.len() as u64).unwrap(), LARGEST_FILE);
    }
}
