//! The text of a file, and the positions in it.
//!
//! A finding has a span, in bytes. Its position, a line and a column, is computed only when it is shown.

use std::ops::Range;

use serde::Serialize;

/// A line and a column of a file, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A range of bytes of the text. Half the size of a `Range<usize>`, because every node of the tree has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let narrow = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end.max(start)) }
    }

    /// The byte range, limited to `text` and rounded down to character boundaries.
    pub(crate) fn within(self, text: &str) -> Range<usize> {
        let floor = |offset: u32| {
            let mut offset = (offset as usize).min(text.len());
            while !text.is_char_boundary(offset) {
                offset -= 1;
            }
            offset
        };
        floor(self.start)..floor(self.end)
    }
}

/// The text with an index of its lines.
pub(crate) struct Source<'t> {
    pub(crate) text: &'t str,
    line_starts: Vec<u32>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let breaks = text.bytes().filter(|byte| *byte == b'\n').count();
        let mut line_starts = Vec::with_capacity(breaks + 1);
        line_starts.push(0);
        line_starts.extend(text.match_indices('\n').map(|(at, _)| Span::new(at + 1, 0).start));
        Self { text, line_starts }
    }

    /// The text of the span.
    pub(crate) fn slice(&self, span: Span) -> &'t str {
        &self.text[span.within(self.text)]
    }

    /// The line of the byte, counted from 1.
    pub(crate) fn line(&self, offset: u32) -> u32 {
        Span::new(self.line_starts.partition_point(|start| *start <= offset), 0).start
    }

    /// The position of the byte.
    pub(crate) fn position(&self, offset: u32) -> Position {
        let line = self.line(offset);
        let start = self.line_starts.get(line as usize - 1).copied().unwrap_or_default();
        let before = self.slice(Span { start, end: offset.max(start) });
        Position { line, column: Span::new(before.chars().count() + 1, 0).start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        let source = Source::new("a: 1\nü: x # ß\n\nlast");
        let position = |offset| {
            let Position { line, column } = source.position(offset);
            (line, column)
        };
        assert_eq!(position(0), (1, 1));
        assert_eq!(position(4), (1, 5), "a line break belongs to the line it ends");
        assert_eq!(position(5), (2, 1));
        assert_eq!(position(9), (2, 4), "ü has two bytes and one column");
        assert_eq!(position(16), (3, 1));
        assert_eq!(position(17), (4, 1));
        assert_eq!(position(21), (4, 5), "the end of the text");
    }

    #[test]
    fn a_span_outside_the_text_is_moved_inside() {
        let source = Source::new("aü");
        assert_eq!(source.slice(Span::new(1, 2)), "", "the middle of a character");
        assert_eq!(source.slice(Span::new(1, 99)), "ü");
        assert_eq!(source.slice(Span::new(99, 99)), "");
        assert_eq!(source.position(99), Position { line: 1, column: 3 });
        assert_eq!(Source::new("").position(0), Position { line: 1, column: 1 });
    }
}
