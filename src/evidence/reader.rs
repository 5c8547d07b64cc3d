//! Reads the records of a log, in order, also while it is written. It verifies nothing: see [`verify`](super::verify).

use std::io;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;

use super::folder::{self, Segment};
use super::line;
use super::record::Record;

/// A record with its number and time.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number in the log, counted from 0.
    pub seq: u64,
    /// When it was written.
    pub at: SystemTime,
    pub record: Record,
}

/// Calls `visit` with each record of the log in this folder, from the first segment that is kept. Records of types that
/// this version does not know are left out, and so is what follows the last complete record of a segment.
///
/// # Errors
///
/// A segment cannot be read.
pub fn read(folder: &Path, mut visit: impl FnMut(Entry)) -> io::Result<()> {
    folder::segments(folder)?.iter().try_for_each(|segment| read_segment(segment, &mut visit))
}

/// The same with one segment.
///
/// # Errors
///
/// It cannot be read.
pub fn read_segment(segment: &Segment, visit: &mut impl FnMut(Entry)) -> io::Result<()> {
    read_lines(&segment.read()?, segment.first, visit);
    Ok(())
}

/// The same with the records of a segment whose line contains this text. All others are passed over quickly.
///
/// # Errors
///
/// The segment cannot be read.
pub fn read_lines_with(segment: &Segment, text: &str, visit: &mut impl FnMut(Entry)) -> io::Result<()> {
    let content = segment.read()?;
    let content = String::from_utf8_lossy(&content);
    for (seq, line) in (segment.first..).zip(content.split('\n')) {
        if !line.contains(text) {
            continue;
        }
        let Some(head) = line::head(line.as_bytes(), seq) else { continue };
        if let (Some(at), Some(record)) = (parse_time(head.at), Record::parse(head.kind, line.as_bytes())) {
            visit(Entry { seq, at, record });
        }
    }
    Ok(())
}

/// The same with the content of a segment.
pub(super) fn read_lines(content: &[u8], first: u64, visit: &mut impl FnMut(Entry)) {
    for (seq, (text, is_complete)) in (first..).zip(line::lines(content)) {
        let Some(head) = line::head(text, seq).filter(|_| is_complete) else { return };
        if let (Some(at), Some(record)) = (parse_time(head.at), Record::parse(head.kind, text)) {
            visit(Entry { seq, at, record });
        }
    }
}

/// A time of a record.
#[must_use]
pub fn parse_time(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}
