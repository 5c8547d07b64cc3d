//! Metrics as one gzip member: the series of keys are compressed once a report, the other metrics at each scrape.
//!
//! Prometheus always requests gzip, and compressing the series of 10 000 keys takes a large part of a second. An
//! [`Archive`] keeps them as raw deflate blocks that end on a byte boundary (a sync flush). A scrape adds the gzip
//! header and the freshly compressed other metrics before them, and an empty final block and the combined checksum
//! after them (RFC 1951 3.2.3, RFC 1952 2.3).

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use crate::views::document::{Document, next_piece};

/// Magic, method deflate, no flags, no time, fastest algorithm, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
/// A block with fixed codes that is final and holds only its end.
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];
/// Compressed bytes are kept in chunks of this size: nothing is copied as they grow, and all readers share them.
const CHUNK: usize = 64 * 1024;

/// A document as deflate blocks, none of them final.
pub(crate) struct Archive {
    chunks: Vec<Bytes>,
    crc: Crc,
}

impl Archive {
    /// Compresses a document, and yields the thread after each piece.
    ///
    /// # Errors
    /// None is known: the sink accepts every write.
    pub(crate) async fn of(mut document: impl Document) -> io::Result<Self> {
        let mut crc = Crc::new();
        let mut encoder = DeflateEncoder::new(Chunks::default(), Compression::fast());
        while let Some(piece) = next_piece(&mut document) {
            crc.update(&piece);
            encoder.write_all(&piece)?;
            tokio::task::yield_now().await;
        }
        encoder.flush()?;
        // Before the encoder is dropped, which writes a final block.
        let chunks = std::mem::take(encoder.get_mut()).into_chunks();
        Ok(Self { chunks, crc })
    }

    /// One gzip member that holds `live` and then the archive's text.
    ///
    /// # Errors
    /// None is known, as above.
    pub(crate) fn preceded_by(archive: Option<&Self>, live: &[u8]) -> io::Result<Vec<Bytes>> {
        let mut crc = Crc::new();
        crc.update(live);
        let mut encoder = DeflateEncoder::new(HEADER.to_vec(), Compression::fast());
        encoder.write_all(live)?;
        encoder.flush()?;
        let mut chunks = vec![Bytes::from(std::mem::take(encoder.get_mut()))];
        if let Some(archive) = archive {
            crc.combine(&archive.crc);
            chunks.extend(archive.chunks.iter().cloned());
        }
        let trailer = [&FINAL_BLOCK[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat();
        chunks.push(trailer.into());
        Ok(chunks)
    }
}

/// A sink that stores the bytes in chunks.
#[derive(Default)]
struct Chunks {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Chunks {
    fn into_chunks(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.open.shrink_to_fit();
            self.full.push(self.open.into());
        }
        self.full
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.capacity() == 0 {
            self.open.reserve_exact(CHUNK);
        }
        let taken = bytes.len().min(CHUNK - self.open.len());
        self.open.extend_from_slice(&bytes[..taken]);
        if self.open.len() == CHUNK {
            self.full.push(std::mem::take(&mut self.open).into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Command;

    use flate2::read::GzDecoder;

    use super::*;

    /// This number of lines that do not compress well.
    struct Lines(u64);

    impl Document for Lines {
        fn next_part(&mut self, piece: &mut Vec<u8>) -> bool {
            let Some(left) = self.0.checked_sub(1) else { return false };
            self.0 = left;
            let scattered = left.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            piece.extend(format!("series {scattered:016x}{:016x}\n", scattered.rotate_left(7)).bytes());
            true
        }
    }

    fn text(lines: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut lines = Lines(lines);
        while lines.next_part(&mut out) {}
        out
    }

    fn decoded(member: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        GzDecoder::new(member).read_to_end(&mut text).unwrap();
        text
    }

    #[tokio::test]
    async fn live_and_archived_text_are_one_valid_member() {
        for lines in [0, 1, 20_000] {
            let archive = Archive::of(Lines(lines)).await.unwrap();
            for live in [&b""[..], b"kms_rotation_build_info 1\n"] {
                let member = Archive::preceded_by(Some(&archive), live).unwrap().concat();
                let wanted = [live, &text(lines)].concat();
                assert!(decoded(&member) == wanted, "{lines} lines after {live:?}");
            }
        }
    }

    #[tokio::test]
    async fn one_archive_serves_many_scrapes_without_being_copied() {
        let archive = Archive::of(Lines(20_000)).await.unwrap();
        assert!(archive.chunks.len() > 2 && archive.chunks.iter().all(|chunk| chunk.len() <= CHUNK));
        let first = Archive::preceded_by(Some(&archive), b"a").unwrap();
        let second = Archive::preceded_by(Some(&archive), b"b").unwrap();
        assert_eq!(first[1].as_ptr(), second[1].as_ptr());
    }

    #[test]
    fn without_a_report_there_is_only_live_text() {
        assert_eq!(decoded(&Archive::preceded_by(None, b"up 1\n").unwrap().concat()), b"up 1\n");
    }

    #[tokio::test]
    async fn the_gzip_program_reads_the_member_too() {
        let archive = Archive::of(Lines(5_000)).await.unwrap();
        let member = Archive::preceded_by(Some(&archive), b"live\n").unwrap().concat();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&member).unwrap();
        let gzip = Command::new("gzip").arg("-dc").stdin(file.reopen().unwrap()).output().unwrap();
        assert!(gzip.status.success() && gzip.stderr.is_empty(), "{}", String::from_utf8_lossy(&gzip.stderr));
        assert!(gzip.stdout == [&b"live\n"[..], &text(5_000)].concat());
    }
}
