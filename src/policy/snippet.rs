//! The source beneath a problem, drawn as a compiler draws it.
//!
//! Only the lines that a problem speaks of are handed to the renderer, so that a hundred problems in a megabyte cost
//! a hundred lines. This file alone knows the drawing crate.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::problem::{Problem, Severity};
use super::source::{Place, Span};

/// A policy may be one line (JSON is YAML): so many characters before and after the place are shown of it.
const BEFORE: usize = 60;
const AFTER: usize = 100;

/// A line of the text, or the part of it around a span.
struct Excerpt<'t> {
    text: &'t str,
    mark: std::ops::Range<usize>,
}

/// The lines of the text that the problem speaks of, its places marked; no line break at the end.
pub(super) fn draw(text: &str, problem: &Problem, colour: bool) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_level(level);
    let first = marked(text, problem.span, problem.place, AnnotationKind::Primary, None);
    match &problem.related {
        None => group = group.element(first),
        Some(related) => {
            let label = format!("{} here", related.what);
            let second = marked(text, related.span, related.place, AnnotationKind::Context, Some(label));
            group = if related.place < problem.place {
                group.element(second).element(first)
            } else {
                group.element(first).element(second)
            };
        }
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

fn marked(
    text: &str,
    span: Span,
    place: Place,
    kind: AnnotationKind,
    label: Option<String>,
) -> Snippet<'_, Annotation<'_>> {
    let Excerpt { text, mark } = excerpt(text, span);
    Snippet::source(text).line_start(place.line as usize).annotation(kind.span(mark).label(label))
}

/// The line in which the span begins, and the part of the span that lies in it.
fn excerpt(text: &str, span: Span) -> Excerpt<'_> {
    let span = span.within(text);
    let from = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let to = text[span.start..].find(['\n', '\r']).map_or(text.len(), |at| span.start + at);
    let from = nth_before(text, from, span.start, BEFORE);
    let to = nth_after(text, span.start, to, AFTER);
    // A block mapping is a point before its first key: its first character stands for it.
    let end = span.end.max(nth_after(text, span.start, to, 1)).min(to);
    Excerpt { text: &text[from..to], mark: span.start - from..end - from }
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

    #[test]
    fn of_a_long_line_only_the_part_around_the_place_is_shown() {
        let text = format!("a\n{}X{}\nb", "ö".repeat(1000), "ü".repeat(1000));
        let Excerpt { text, mark } = excerpt(&text, Span::new(2 + 2000, 2 + 2001));
        assert_eq!(&text[mark], "X");
        assert_eq!(text.chars().count(), BEFORE + 1 + AFTER);
    }

    #[test]
    fn a_span_over_several_lines_is_marked_in_its_first() {
        let Excerpt { text, mark } = excerpt("a: b\r\n  c\n", Span::new(3, 9));
        assert_eq!((text, &text[mark]), ("a: b", "b"));
    }

    #[test]
    fn the_end_of_the_text_and_an_empty_text_can_be_marked() {
        let Excerpt { text, mark } = excerpt("a:\n", Span::new(3, 3));
        assert_eq!((text, mark), ("", 0..0));
        let Excerpt { text, mark } = excerpt("", Span::new(0, 0));
        assert_eq!((text, mark), ("", 0..0));
    }
}
