//! The words for text that is not YAML.
//!
//! The parser speaks the language of the YAML specification; whoever edits a policy does not. The common slips are
//! said anew, with what to do about them, and the rest is passed on.

use serde_saphyr::{Error, Location};

use super::problem::{Finding, quoted};
use super::source::{Source, Span};
use super::tree::{self, DEEPEST};

const QUOTE_IT: &str = "a value that begins like this needs quotes";

/// A fault of the syntax as a finding with its position.
pub(crate) fn explain(source: &Source<'_>, error: &Error) -> Finding {
    let error = error.without_snippet();
    let mut span = error.location().map_or(Span::new(0, 0), |location| position(source, location));
    let text = error.to_string();
    // The crate ends its messages with the position.
    let text = text.split(" at line ").next().unwrap_or_default();
    let (message, help) = match innermost(error) {
        Error::MultipleDocuments { .. } => {
            ("a second YAML document begins, expected one".to_owned(), "remove the `---` line before it")
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            ("aliases repeat too much of the file, expected less".to_owned(), "write the values out")
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            ("the alias repeats what it stands in, expected an anchor elsewhere".to_owned(), "")
        }
        Error::UnknownAnchor { .. } => {
            ("an alias without an anchor, expected `&name` somewhere before `*name`".to_owned(), QUOTE_IT)
        }
        Error::UnsupportedTag { tag, .. } => {
            (format!("the tag {} means nothing here, expected plain YAML", quoted(tag)), "remove it")
        }
        Error::Budget { breach, .. } => match breach {
            serde_saphyr::budget::BudgetBreach::Depth { .. } => too_deep(),
            _ => ("more values than any policy has, expected fewer".to_owned(), ""),
        },
        Error::InvalidScalar { .. } | Error::TaggedScalarCannotDeserializeIntoString { .. } => {
            ("a value that is not what its tag says, expected one without a tag".to_owned(), "")
        }
        _ if text.contains("recursion limit") => too_deep(),
        _ if ["unclosed quote", "indentation in multiline quoted", "document indicator"]
            .iter()
            .any(|m| text.contains(m)) =>
        {
            span = opening_quote(source.text, span);
            ("a quoted text is not closed, expected the same quote at its end".to_owned(), "")
        }
        _ if text.contains("tab") => {
            span = nearest_tab(source.text, span);
            ("a tab, expected spaces: YAML allows no tab in the indentation".to_owned(), "")
        }
        _ => worded(text),
    };
    let mut finding = Finding::error(span, message);
    if !help.is_empty() {
        finding.help(help);
    }
    finding
}

fn innermost(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    error
}

fn too_deep() -> (String, &'static str) {
    (format!("nested more than {DEEPEST} levels deep, expected a policy"), "")
}

/// The slips of the hand. Which words the parser has for them is pinned by the golden files.
fn worded(text: &str) -> (String, &'static str) {
    let says = |part: &str| text.contains(part);
    let (message, help) = if says("-quoted scalar") {
        ("text after the closing quote, expected the end of the line", "put the whole value inside the quotes")
    } else if says("escape") || says("surrogate") || says("hexadecimal") {
        ("an unknown escape in a double-quoted text", "in single quotes a backslash stands for itself")
    } else if says("expected '-'") || says("block mapping") || says("invalid indentation") {
        ("wrong indentation, expected this line to align with the list or the mapping that it belongs to", "")
    } else if says("mapping values are not allowed") {
        ("a colon where no value can begin, expected one `key: value` in a line", "check the indentation, or quote it")
    } else if says("simple key") {
        ("a line without a colon, expected `key: value`", "")
    } else if says("misplaced bracket") || says("mismatched bracket") {
        ("a closing bracket without its opening one, expected them in pairs", QUOTE_IT)
    } else if says("flow") || says("bracket") || says("':'") {
        ("a `[` or `{` is not closed or lacks a comma, expected `,` or its closing bracket", "")
    } else {
        let reserved = text.strip_prefix("unexpected character: `").and_then(|rest| rest.strip_suffix('\''));
        return match reserved.and_then(|c| c.chars().next()) {
            // The crate escapes what cannot be printed.
            Some('\\') => ("a control character, expected text without it".to_owned(), ""),
            Some(c) => (format!("no value can begin with {}, expected other text", quoted(&c.to_string())), QUOTE_IT),
            None => (format!("not valid YAML: {text}"), ""),
        };
    };
    (message.to_owned(), help)
}

/// The scanner counts characters where the parser has bytes.
fn position(source: &Source<'_>, location: Location) -> Span {
    tree::span(location).unwrap_or_else(|| {
        let nth = usize::try_from(location.span().offset()).unwrap_or(usize::MAX);
        let at = source.text.char_indices().nth(nth).map_or(source.text.len(), |(at, _)| at);
        Span::new(at, at)
    })
}

/// The quote that opened the text in which the scanner lost its way: the last one before that position that stands where
/// a value can begin.
fn opening_quote(text: &str, span: Span) -> Span {
    let before = &text[..span.within(text).start];
    let opens = |at: &usize| before[..*at].chars().next_back().is_none_or(|c| c.is_whitespace() || "[{,".contains(c));
    let quote = before.rmatch_indices(['"', '\'']).map(|(at, _)| at).find(opens);
    quote.map_or(span, |at| Span::new(at, at + 1))
}

/// The scanner stops before or behind the tab that it objects to.
fn nearest_tab(text: &str, span: Span) -> Span {
    let at = span.within(text).start;
    let tab = if text[..at].ends_with('\t') { Some(at - 1) } else { text[at..].find('\t').map(|offset| at + offset) };
    tab.map_or(span, |tab| Span::new(tab, tab + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::problem::Problems;

    fn fault(text: &str) -> String {
        let source = Source::new(text);
        Problems::new("p", &source, vec![tree::parse(&source).unwrap_err()]).to_string()
    }

    #[test]
    fn the_place_counts_characters_of_several_bytes_once() {
        assert_eq!(
            fault("ü: ß\nä: ö: x\n"),
            "p:2:5: a colon where no value can begin, expected one `key: value` in a line; check the indentation, or quote it"
        );
    }

    #[test]
    fn the_place_of_a_tab_is_the_tab() {
        for text in ["a:\n\tb: 1\n", "a: b\n\tc\n", "a:\n  b: 1\n \tc: 2\n"] {
            let source = Source::new(text);
            let at = source.position(u32::try_from(text.find('\t').unwrap()).unwrap());
            let expected = format!("p:{}:{}: a tab, expected spaces", at.line, at.column);
            assert!(fault(text).starts_with(&expected), "{text:?}: {}", fault(text));
        }
    }

    #[test]
    fn a_billion_laughs_are_refused() {
        assert!(fault(&tree::tests::a_billion_laughs()).contains("aliases repeat too much"));
    }

    #[test]
    fn nesting_without_end_is_refused() {
        for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
            assert!(fault(&text).contains("nested more than 32 levels deep"), "{}", fault(&text));
        }
    }

    #[test]
    fn an_alias_cannot_stand_in_its_own_anchor() {
        assert!(
            fault("a: &a [*a]\n").contains("p:1:8: the alias repeats what it stands in"),
            "{}",
            fault("a: &a [*a]\n")
        );
    }
}
