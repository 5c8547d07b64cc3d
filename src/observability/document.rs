//! Documents that are written in pieces from an immutable snapshot, and the HTTP body that sends them.
//!
//! A document over 10 000 keys is megabytes long. It is made row by row while it is sent, so that a reader costs one
//! piece of memory, however slow it is. Metrics, JSON and the page implement [`Document`]; the routes send them, and
//! the commands print them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::places::LargeAnswer;
use crate::rotation::report::{KeyReport, ProjectReport, Report};

/// The size at which a piece is sent: large enough that system calls do not matter, small enough that making one takes
/// the runtime's only thread well under a millisecond.
const PIECE: usize = 64 * 1024;
/// The parts that a piece has at most: where a filter leaves out most rows, one is sent before it is full.
const PARTS: usize = 1024;
/// Room for the row that makes a piece full, so that a piece is allocated once.
const LAST_ROW: usize = 4 * 1024;

/// A text that is made in small parts.
pub(super) trait Document: Send {
    /// Appends the next part, a row or less; `false` when nothing was left. A part may be empty.
    fn next_part(&mut self, piece: &mut Vec<u8>) -> bool;
}

/// The next piece of a document, which may be empty, or nothing at its end.
pub(super) fn next_piece(document: &mut (dyn Document + '_)) -> Option<Vec<u8>> {
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

/// A walk over the keys of a report that can be left and taken up again.
#[derive(Clone, Copy, Default)]
pub(super) struct KeyCursor {
    project: usize,
    key: usize,
}

impl KeyCursor {
    /// The next key with its project.
    pub(super) fn next<'r>(&mut self, report: &'r Report) -> Option<(&'r ProjectReport, &'r KeyReport)> {
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

/// The body of an answer: bytes that are ready, then a document.
pub(super) struct Content {
    ready: VecDeque<Bytes>,
    document: Option<Box<dyn Document>>,
    rested: bool,
    _permission: Option<LargeAnswer>,
}

impl Content {
    /// Bytes that are ready.
    pub(super) fn ready(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Self { ready: chunks.into_iter().collect(), document: None, rested: false, _permission: None }
    }

    /// A document, made while it is sent.
    pub(super) fn document(document: impl Document + 'static) -> Self {
        Self { document: Some(Box::new(document)), ..Self::ready([]) }
    }

    /// This body, with the permission for it until all of it is handed over.
    pub(super) fn holding(self, permission: LargeAnswer) -> Self {
        Self { _permission: Some(permission), ..self }
    }

    /// This body with `bytes` before it.
    pub(super) fn preceded_by(mut self, bytes: Vec<u8>) -> Self {
        self.ready.push_front(bytes.into());
        self
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(chunk) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.document.is_none() {
            return Poll::Ready(None);
        }
        // A reader that is fast enough would keep the connection's task busy to the document's end, and the thread is
        // the one that reconciles: everybody else gets a turn before each piece.
        if !std::mem::replace(&mut self.rested, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.rested = false;
        // hyper leaves out empty frames.
        let piece = self.document.as_deref_mut().and_then(next_piece);
        if piece.is_none() {
            self.document = None;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.document.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let ready = self.ready.iter().map(|chunk| chunk.len() as u64).sum();
        if self.document.is_none() {
            return SizeHint::with_exact(ready);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(ready);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// So many rows of 1000 bytes, an empty part after each.
    struct Rows(usize, bool);

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

    #[tokio::test]
    async fn a_body_is_the_head_and_then_the_document() {
        let body = Content::document(Rows(100, false)).preceded_by(b"head".to_vec());
        assert_eq!((body.size_hint().lower(), body.size_hint().exact()), (4, None));
        let whole = body.collect().await.unwrap().to_bytes();
        assert_eq!(whole.len(), 100_004);
        assert!(whole.starts_with(b"headxxx"));
    }

    #[tokio::test]
    async fn a_body_that_is_ready_tells_its_length() {
        let body = Content::ready([Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
    }

    /// How many pieces a body has, and how often it gives up the thread for them.
    async fn pieces_and_rests(mut body: Content) -> (usize, usize) {
        let mut rests = 0;
        let mut pieces = 0;
        std::future::poll_fn(|context| {
            loop {
                match Pin::new(&mut body).poll_frame(context) {
                    Poll::Pending => {
                        rests += 1;
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(_)) => pieces += 1,
                    Poll::Ready(None) => return Poll::Ready((pieces, rests)),
                }
            }
        })
        .await
    }

    #[tokio::test]
    async fn the_thread_is_given_up_before_each_piece() {
        assert_eq!(pieces_and_rests(Content::document(Rows(200, false))).await, (4, 5));
    }

    #[tokio::test]
    async fn the_thread_is_given_up_where_a_filter_leaves_out_most_rows() {
        /// Rows of which only the last one is shown.
        struct Filtered(usize);

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
        assert_eq!(pieces_and_rests(Content::document(Filtered(10 * PARTS))).await, (10, 11));
        let mut out = Vec::new();
        write_to(Filtered(10 * PARTS), &mut out).unwrap();
        assert_eq!(out, b"x");
    }
}
