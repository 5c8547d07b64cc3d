//! Explains errors of the YAML syntax.
//!
//! The parser uses the terms of the YAML specification, which users of a policy do not know. The common mistakes get a
//! message that says what to do; the other errors keep the parser's text. Errors are recognised by their type, never by
//! their text.

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::{DefaultMessageFormatter, Error, ExternalMessageSource, Location, MessageFormatter};

use super::problem::Finding;
use super::source::{Source, Span};
use super::tree::{self, MAX_DEPTH};
use super::wording::quoted;

const QUOTE_IT: &str = "if it is text, put the value in quotes";

/// What is wrong, and what to do; the latter can be empty.
type Explanation = (String, &'static str);

/// A syntax error as a finding with its position.
pub(crate) fn explain(source: &Source<'_>, error: &Error) -> Finding {
    let reported = error.location().map_or(Span::new(0, 0), |location| position(source, location));
    let error = innermost(error);
    let (message, help) = match parser_error(error) {
        Some(kind) => explain_kind(kind),
        None => explain_error(error),
    };
    let span = match parser_error(error) {
        Some(kind) if is_unclosed_quote(kind) => opening_quote(source.text, reported),
        Some(kind) if is_tab(kind) => nearest_tab(source.text, reported),
        _ => reported,
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

/// The kind of an error of the parser below the deserializer.
fn parser_error(error: &Error) -> Option<&ErrorKind> {
    match error {
        Error::ExternalMessage { source, .. } => match &**source {
            ExternalMessageSource::Parser(error) => Some(error.kind()),
            _ => None,
        },
        _ => None,
    }
}

fn explain_error(error: &Error) -> Explanation {
    let (message, help) = match error {
        Error::MultipleDocuments { .. } => {
            ("the file contains a second YAML document", "remove the `---` line before it")
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => ("aliases repeat too much of the file", "write the values out"),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            ("the alias is inside the value that it repeats", "write the value out")
        }
        Error::UnknownAnchor { .. } => ("alias without an anchor, expected `&name` before `*name`", QUOTE_IT),
        Error::UnsupportedTag { tag, .. } => return (format!("tag {} is not supported", quoted(tag)), "remove it"),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => return too_deep(),
        Error::Budget { .. } => ("the file contains too many values or too much text", ""),
        Error::InvalidScalar { .. } | Error::TaggedScalarCannotDeserializeIntoString { .. } => {
            ("the value does not match its tag", "remove the tag")
        }
        other => return (format!("invalid YAML: {}", DefaultMessageFormatter.format_message(other)), ""),
    };
    (message.to_owned(), help)
}

fn explain_kind(kind: &ErrorKind) -> Explanation {
    use ErrorKind as E;
    let (message, help) = match kind {
        E::RecursionLimitExceeded => return too_deep(),
        kind if is_unclosed_quote(kind) => ("quoted string without its closing quote", "add the closing quote"),
        kind if is_tab(kind) => ("tab in the indentation, expected spaces", ""),
        E::InvalidTrailingSingleQuotedScalar | E::InvalidTrailingDoubleQuotedScalar => {
            ("text after the closing quote", "put the whole value in the quotes")
        }
        E::UnknownQuotedScalarEscape
        | E::InvalidQuotedScalarHexEscape
        | E::InvalidLowSurrogateHexEscape
        | E::InvalidLowSurrogate
        | E::MissingLowSurrogate
        | E::UnpairedLowSurrogate
        | E::InvalidUnicodeEscape => {
            ("invalid escape in a double-quoted string", "use single quotes for a value with backslashes")
        }
        E::ExpectedBlockSequenceEntry
        | E::ExpectedBlockMappingKey
        | E::UnexpectedEofBlockMapping
        | E::InvalidIndentation
        | E::InvalidFlowScalarIndent => {
            ("wrong indentation", "align this line with the other lines of its list or mapping")
        }
        E::BlockSequenceEntryNotAllowed => {
            ("a list item is not allowed here, expected `- ` at the start of a line", "")
        }
        E::MappingValueNotAllowed | E::InvalidColonPlacement => (
            "a colon is not allowed here, expected one `key: value` per line",
            "check the indentation, or put the value in quotes",
        ),
        E::SimpleKeyExpected | E::InvalidSimpleKey => ("line without a colon, expected `key: value`", ""),
        E::MisplacedFlowCollectionEnd | E::MismatchedFlowCollectionEnd { .. } => {
            ("closing bracket without its opening bracket", QUOTE_IT)
        }
        E::UnclosedFlowCollection { .. }
        | E::UnexpectedEofFlowSequence
        | E::UnexpectedEofFlowMapping
        | E::UnexpectedEofImplicitFlowMapping
        | E::ExpectedFlowMappingSeparator
        | E::ExpectedFlowSequenceSeparator
        | E::FlowMappingValueAdjacentCollection => {
            ("`[` or `{` is not closed, or a comma is missing, expected `,` or the closing bracket", "")
        }
        E::UnexpectedCharacter { character } if character.is_control() => {
            return (format!("control character U+{:04X}", u32::from(*character)), "remove it");
        }
        E::UnexpectedCharacter { character } => {
            return (
                format!("a value cannot start with {}", quoted(&character.to_string())),
                "put the value in quotes",
            );
        }
        other => return (format!("invalid YAML: {other}"), ""),
    };
    (message.to_owned(), help)
}

fn too_deep() -> Explanation {
    (format!("nesting is too deep, expected at most {MAX_DEPTH} levels"), "")
}

fn is_unclosed_quote(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnclosedQuotedScalar
            | ErrorKind::InvalidQuotedScalarIndent
            | ErrorKind::DocumentIndicatorInQuotedScalar
    )
}

fn is_tab(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInIndentation
            | ErrorKind::TabInPlainScalar
    )
}

/// The span of a location. The scanner counts characters, the deserializer bytes.
fn position(source: &Source<'_>, location: Location) -> Span {
    tree::span(location).unwrap_or_else(|| {
        let nth = usize::try_from(location.span().offset()).unwrap_or(usize::MAX);
        let at = source.text.char_indices().nth(nth).map_or(source.text.len(), |(at, _)| at);
        Span::new(at, at)
    })
}

/// The quote that opened the string: the last one before the error at a position where a value can start.
fn opening_quote(text: &str, span: Span) -> Span {
    let before = &text[..span.within(text).start];
    let opens = |at: &usize| before[..*at].chars().next_back().is_none_or(|c| c.is_whitespace() || "[{,".contains(c));
    let quote = before.rmatch_indices(['"', '\'']).map(|(at, _)| at).find(opens);
    quote.map_or(span, |at| Span::new(at, at + 1))
}

/// The tab next to the error: the scanner stops before or after it.
fn nearest_tab(text: &str, span: Span) -> Span {
    let at = span.within(text).start;
    let tab = if text[..at].ends_with('\t') { Some(at - 1) } else { text[at..].find('\t').map(|offset| at + offset) };
    tab.map_or(span, |tab| Span::new(tab, tab + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::problem_list::Problems;

    fn fault(text: &str) -> String {
        let source = Source::new(text);
        let error = tree::parse(&source).unwrap_err();
        Problems::new("p", &source, vec![explain(&source, &error)]).to_string()
    }

    #[test]
    fn the_column_counts_characters_of_several_bytes_once() {
        assert_eq!(
            fault("ü: ß\nä: ö: x\n"),
            "p:2:5: a colon is not allowed here, expected one `key: value` per line; check the indentation, or put the \
             value in quotes"
        );
    }

    #[test]
    fn a_tab_is_reported_at_its_own_position() {
        for text in ["a:\n\tb: 1\n", "a: b\n\tc\n", "a:\n  b: 1\n \tc: 2\n"] {
            let source = Source::new(text);
            let at = source.position(u32::try_from(text.find('\t').unwrap()).unwrap());
            let expected = format!("p:{}:{}: tab in the indentation, expected spaces", at.line, at.column);
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
            assert!(fault(&text).contains("nesting is too deep, expected at most 32 levels"), "{}", fault(&text));
        }
    }

    #[test]
    fn an_alias_inside_its_own_anchor_is_refused() {
        let text = "a: &a [*a]\n";
        assert!(fault(text).contains("p:1:8: the alias is inside the value that it repeats"), "{}", fault(text));
    }
}
