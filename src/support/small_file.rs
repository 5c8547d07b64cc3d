//! Reads small files that others write: secrets, certificates, configuration.
//!
//! The daemon reads them on its one thread, so no file may block it or fill the memory, such as a pipe without a writer
//! or an endless device. The bytes are wiped after use.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// In bytes; enough for hundreds of certificates.
const MAX_SIZE: u64 = 1024 * 1024;

/// The bytes of the file.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // With this flag, opening a pipe does not wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // Allocated once: what a growing vector leaves behind is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len().min(MAX_SIZE) as usize + 1));
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "the file is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// The text in the file.
pub(crate) fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut bytes = read(path)?;
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(io::Error::new(ErrorKind::InvalidData, "it is not text in UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn only_a_small_regular_file_is_read_and_a_pipe_is_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let refused = |path: &Path| read(path).unwrap_err().to_string();
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        for other in [&*path, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(refused(other), "it is not a regular file");
        }
        fs::remove_file(&path).unwrap();
        assert!(refused(&path).starts_with("No such file"));
        fs::File::create(&path).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert_eq!(refused(&path), "the file is larger than 1 MiB");
        fs::File::create(&path).unwrap().set_len(MAX_SIZE).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, MAX_SIZE);
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path).unwrap_err().to_string(), "it is not text in UTF-8");
        fs::write(&path, "text").unwrap();
        assert_eq!(*read_text(&path).unwrap(), "text");
    }
}
