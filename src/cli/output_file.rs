//! The file of `--output-file`: it has the whole result, or is as it was before. `-` is standard output.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Exit, fail};

/// Whether the path stands for standard output.
pub(super) fn is_standard_output(path: &Path) -> bool {
    path == Path::new("-")
}

/// Refuses to replace a file, which may be of value; `why` is the command's rule.
pub(super) fn refuse_existing(file: Option<&Path>, why: &str) -> Option<Exit> {
    let file = file.filter(|file| file.is_file())?;
    let message = format!("{} exists, and {why}: name another file, or remove it", file.display());
    Some(fail(Exit::Invalid, &message))
}

/// A file that is written under another name and then renamed.
pub(super) struct OutputFile {
    path: PathBuf,
    temporary: PathBuf,
}

impl OutputFile {
    pub(super) fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self { path: path.to_owned(), temporary: path.with_file_name(format!(".{name}.new")) }
    }

    /// Writes the file, and replaces one of this name. Only the user may read it, as the records of a log.
    ///
    /// # Errors
    ///
    /// `write` failed, or the file cannot be written.
    pub(super) fn write(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        if is_standard_output(&self.path) {
            let mut out = BufWriter::new(io::stdout().lock());
            return write(&mut out).and_then(|()| out.flush());
        }
        let is_device = fs::metadata(&self.path).is_ok_and(|file| !file.is_file() && !file.is_dir());
        if is_device {
            let mut out = BufWriter::new(OpenOptions::new().write(true).open(&self.path)?);
            return write(&mut out).and_then(|()| out.flush());
        }
        let written = self.write_temporary(write).and_then(|()| fs::rename(&self.temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&self.temporary);
        }
        written
    }

    fn write_temporary(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&self.temporary)?;
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = OutputFile::new(&path);
        file.write(|out| out.write_all(b"first")).unwrap();
        let failed = file.write(|out| {
            out.write_all(b"second")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        file.write(|out| out.write_all(b"third")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert!(OutputFile::new(folder.path()).write(|_| Ok(())).is_err(), "a folder is not replaced");
    }
}
