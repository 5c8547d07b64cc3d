//! Draws the source below a problem, as a compiler does.
//!
//! The renderer gets only the lines of the problem: a hundred problems in a megabyte cost a hundred lines. No other
//! file uses the drawing crate.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::problem::{Problem, Severity};
use super::source::{Position, Span};

/// A policy can be one line (JSON is YAML): a line of more bytes than `LONG` is cut to this many characters before and
/// after the position.
const LONG: usize = 300;
const BEFORE: usize = 60;
const AFTER: usize = 100;

/// Two positions closer than this are drawn as one piece, with the lines between them.
const NEAR_LINES: u32 = 4;
const NEAR_BYTES: u32 = 1000;

/// A line of the text, or the part of it around a span, and the range to mark.
struct Excerpt {
    from: usize,
    to: usize,
    mark: Range<usize>,
}

/// The lines of the problem with its positions marked, without a line break at the end.
pub(crate) fn draw(text: &str, problem: &Problem, span: Span, colour: bool) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_level(level);
    let first = (span, problem.position, AnnotationKind::Primary, None);
    match &problem.related {
        None => group = group.element(marked(text, &[first])),
        Some(related) => {
            let label = format!("{} here", related.what);
            let second = (related.span, related.position, AnnotationKind::Context, Some(label));
            let ordered = if related.position < problem.position { [second, first] } else { [first, second] };
            let near = related.position.line.abs_diff(problem.position.line) < NEAR_LINES
                && related.span.start.abs_diff(span.start) < NEAR_BYTES;
            if near {
                group = group.element(marked(text, &ordered));
            } else {
                group = group.elements(ordered.map(|mark| marked(text, &[mark])));
            }
        }
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    // The renderer leaves trailing spaces.
    let drawn = renderer.render(&[group]);
    drawn.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

type Mark = (Span, Position, AnnotationKind, Option<String>);

/// The lines of the marks. The marks are in the order of the text.
fn marked<'t>(text: &'t str, marks: &[Mark]) -> Snippet<'t, Annotation<'t>> {
    let excerpts = || marks.iter().map(|(span, ..)| excerpt(text, *span));
    let from = excerpts().map(|excerpt| excerpt.from).min().unwrap_or_default();
    let to = excerpts().map(|excerpt| excerpt.to).max().unwrap_or_default();
    let line = marks.first().map_or(1, |(_, position, ..)| position.line as usize);
    let annotations = marks.iter().zip(excerpts()).map(|((_, _, kind, label), Excerpt { mark, .. })| {
        kind.span(mark.start - from..mark.end - from).label(label.clone())
    });
    Snippet::source(&text[from..to]).line_start(line).annotations(annotations)
}

/// The first line of the span, and the part of the span in that line.
fn excerpt(text: &str, span: Span) -> Excerpt {
    let span = span.within(text);
    let from = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let to = text[span.start..].find(['\n', '\r']).map_or(text.len(), |at| span.start + at);
    let (from, to) = match to - from {
        0..=LONG => (from, to),
        _ => (nth_before(text, from, span.start, BEFORE), nth_after(text, span.start, to, AFTER)),
    };
    // The span of a block mapping is empty: mark its first key.
    let word = text[span.start..to].find([':', ' ']).map_or(to, |length| span.start + length);
    let end = if span.is_empty() { word.max(nth_after(text, span.start, to, 1)) } else { span.end.min(to) };
    Excerpt { from, to, mark: span.start..end }
}

fn nth_before(text: &str, from: usize, at: usize, nth: usize) -> usize {
    text[from..at].char_indices().rev().nth(nth).map_or(from, |(offset, _)| from + offset)
}

fn nth_after(text: &str, at: usize, to: usize, nth: usize) -> usize {
    text[at..to].char_indices().nth(nth).map_or(to, |(offset, _)| at + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, span: Span) -> (&str, &str) {
        let Excerpt { from, to, mark } = excerpt(text, span);
        (&text[from..to], &text[mark])
    }

    #[test]
    fn a_long_line_is_cut_around_the_position() {
        let text = format!("a\n{}X{}\nb", "ö".repeat(1000), "ü".repeat(1000));
        let (line, mark) = of(&text, Span::new(2 + 2000, 2 + 2001));
        assert_eq!(mark, "X");
        assert_eq!(line.chars().count(), BEFORE + 1 + AFTER);
    }

    #[test]
    fn a_span_over_several_lines_is_marked_in_its_first_line() {
        assert_eq!(of("a: b\r\n  c\n", Span::new(3, 9)), ("a: b", "b"));
    }

    #[test]
    fn an_empty_span_marks_the_word_at_its_position() {
        assert_eq!(of("  - name: a\n", Span::new(4, 4)), ("  - name: a", "name"));
        assert_eq!(of("{ }", Span::new(1, 1)), ("{ }", " "));
    }

    #[test]
    fn the_end_of_the_text_and_an_empty_text_can_be_marked() {
        assert_eq!(of("a:\n", Span::new(3, 3)), ("", ""));
        assert_eq!(of("", Span::new(0, 0)), ("", ""));
    }
}
