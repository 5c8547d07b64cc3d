//! The body of a response: a document that is made while it is sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::slots::LargeAnswer;
use crate::views::document::{Document, next_piece};

/// Bytes that are ready, then a document.
pub(super) struct Content {
    ready: VecDeque<Bytes>,
    document: Option<Box<dyn Document>>,
    /// The thread was given up before the next piece.
    yielded: bool,
    _permit: Option<LargeAnswer>,
}

impl Content {
    /// Bytes that are ready.
    pub(super) fn ready(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Self { ready: chunks.into_iter().collect(), document: None, yielded: false, _permit: None }
    }

    /// A document, made while it is sent.
    pub(super) fn document(document: impl Document + 'static) -> Self {
        Self { document: Some(Box::new(document)), ..Self::ready([]) }
    }

    /// This body, which holds the permit until all of it is handed over.
    pub(super) fn holding(self, permit: LargeAnswer) -> Self {
        Self { _permit: Some(permit), ..self }
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
        // A fast reader would keep the connection's task busy to the document's end, on the thread that also
        // reconciles: other tasks run before each piece.
        if !std::mem::replace(&mut self.yielded, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        // hyper drops empty frames.
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
    use crate::views::document::PARTS;
    use crate::views::document::tests::{Filtered, Rows};

    #[tokio::test]
    async fn a_body_is_the_head_and_then_the_document() {
        let body = Content::document(Rows(100, false)).preceded_by(b"head".to_vec());
        assert_eq!((body.size_hint().lower(), body.size_hint().exact()), (4, None));
        let whole = body.collect().await.unwrap().to_bytes();
        assert_eq!(whole.len(), 100_004);
        assert!(whole.starts_with(b"headxxx"));
    }

    #[tokio::test]
    async fn a_body_that_is_ready_has_an_exact_length() {
        let body = Content::ready([Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
    }

    /// The number of pieces of a body, and how often it gives up the thread.
    async fn pieces_and_yields(mut body: Content) -> (usize, usize) {
        let mut yields = 0;
        let mut pieces = 0;
        std::future::poll_fn(|context| {
            loop {
                match Pin::new(&mut body).poll_frame(context) {
                    Poll::Pending => {
                        yields += 1;
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(_)) => pieces += 1,
                    Poll::Ready(None) => return Poll::Ready((pieces, yields)),
                }
            }
        })
        .await
    }

    #[tokio::test]
    async fn the_thread_is_given_up_before_each_piece() {
        assert_eq!(pieces_and_yields(Content::document(Rows(200, false))).await, (4, 5));
    }

    #[tokio::test]
    async fn the_thread_is_given_up_when_a_filter_leaves_out_most_rows() {
        assert_eq!(pieces_and_yields(Content::document(Filtered(10 * PARTS))).await, (10, 11));
    }
}
