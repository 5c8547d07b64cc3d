//! Documents that are written in pieces from an immutable snapshot.
//!
//! A document over 10 000 keys is megabytes long. It is made row by row while it is sent, so that each reader costs the
//! memory of one piece, however slow it is. Metrics, JSON and the page implement [`Document`]; the server sends them,
//! and the commands print them.

use std::io;

use crate::rotation::report::{KeyReport, ProjectReport, Report};

/// The size at which a piece is sent: so large that system calls do not matter, and so small that it occupies the
/// runtime's only thread for less than a millisecond.
const PIECE: usize = 64 * 1024;
/// The most parts of a piece: if a filter leaves out most rows, a piece is sent before it is full.
pub(crate) const PARTS: usize = 1024;
/// Room for the row that fills a piece, so that a piece is allocated once.
const LAST_ROW: usize = 4 * 1024;

/// A text that is made in small parts.
pub(crate) trait Document: Send {
    /// Appends the next part, a row or less; `false` when nothing was left. A part may be empty.
    fn next_part(&mut self, piece: &mut Vec<u8>) -> bool;
}

/// The next piece of a document, which may be empty; none at the end.
pub(crate) fn next_piece(document: &mut (dyn Document + '_)) -> Option<Vec<u8>> {
    let mut piece = Vec::with_capacity(PIECE + LAST_ROW);
    for _ in 0..PARTS {
        if piece.len() >= PIECE {
            break;
        }
        if !document.next_part(&mut piece) {
            return (!piece.is_empty()).then_some(piece);
        }
    }
    Some(piece)
}

/// Writes a whole document.
pub(super) fn write_to(mut document: impl Document, out: &mut dyn io::Write) -> io::Result<()> {
    while let Some(piece) = next_piece(&mut document) {
        out.write_all(&piece)?;
    }
    Ok(())
}

/// A position in the keys of a report, to go on from later.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeyCursor {
    project: usize,
    key: usize,
}

impl KeyCursor {
    /// The next key with its project.
    pub(crate) fn next<'r>(&mut self, report: &'r Report) -> Option<(&'r ProjectReport, &'r KeyReport)> {
        while let Some(project) = report.projects.get(self.project) {
            if let Some(key) = project.keys.get(self.key) {
                self.key += 1;
                return Some((project, key));
            }
            self.project += 1;
            self.key = 0;
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// This number of rows of 1000 bytes, each followed by an empty part.
    pub(crate) struct Rows(pub(crate) usize, pub(crate) bool);

    impl Document for Rows {
        fn next_part(&mut self, piece: &mut Vec<u8>) -> bool {
            if self.0 == 0 {
                return false;
            }
            self.1 = !self.1;
            if self.1 {
                piece.extend([b'x'; 1000]);
            } else {
                self.0 -= 1;
            }
            true
        }
    }

    /// Rows of which only the last one is shown.
    pub(crate) struct Filtered(pub(crate) usize);

    impl Document for Filtered {
        fn next_part(&mut self, piece: &mut Vec<u8>) -> bool {
            let Some(left) = self.0.checked_sub(1) else { return false };
            self.0 = left;
            if left == 0 {
                piece.push(b'x');
            }
            true
        }
    }

    #[test]
    fn a_long_document_comes_in_pieces_of_bounded_size() {
        let mut rows = Rows(1000, false);
        let mut total = 0;
        while let Some(piece) = next_piece(&mut rows) {
            assert!(piece.len() <= PIECE + LAST_ROW);
            assert_eq!(piece.capacity(), PIECE + LAST_ROW, "a piece is allocated once");
            total += piece.len();
        }
        assert_eq!(total, 1_000_000);
    }

    #[test]
    fn rows_that_a_filter_leaves_out_do_not_make_a_piece_endless() {
        let mut out = Vec::new();
        write_to(Filtered(10 * PARTS), &mut out).unwrap();
        assert_eq!(out, b"x");
    }
}
