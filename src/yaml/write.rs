//! Writes YAML that this program and every other YAML reader read back as the same values.
//!
//! A text is written without quotes only if no reader of YAML 1.1 or 1.2 takes it for anything else. Otherwise it is
//! double-quoted, with escapes for characters that are invisible or that YAML does not allow. Comments have no escapes,
//! so such characters are replaced there.

use std::fmt::Write as _;

use super::source::Source;
use super::tree::{Node, Value};
use crate::support::printable::{REPLACEMENT, is_unprintable};

/// Columns after which a comment continues on the next line.
const COMMENT_WIDTH: usize = 100;

/// Words that some YAML reader takes for a boolean or for nothing.
const RESERVED: &[&str] = &["true", "false", "yes", "no", "on", "off", "y", "n", "null"];

/// The text as a YAML scalar on one line.
pub(crate) fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if is_invisible(c) => {
                let code = u32::from(c);
                let _ = if code > 0xffff { write!(quoted, "\\U{code:08X}") } else { write!(quoted, "\\u{code:04X}") };
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether every reader takes the text for a text without quotes.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@');
    // A colon at the end would make it a key.
    if !text.chars().all(is_safe) || !text.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return false;
    }
    match first {
        'a'..='z' | 'A'..='Z' => !RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word)),
        '/' => true,
        // A letter that occurs in no number and no time, and no `0x` or the like before it.
        '0'..='9' => {
            let is_only_text = |c: char| c.is_ascii_alphabetic() && !"eExXoObBtTzZ".contains(c);
            text.contains(is_only_text) && !text[1..].starts_with(['x', 'X', 'o', 'O', 'b', 'B']) && !text.contains(':')
        }
        _ => false,
    }
}

/// Characters that are invisible, or that YAML does not allow (its specification, 5.1).
fn is_invisible(c: char) -> bool {
    is_unprintable(c) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Adds the text as comment lines, indented by this many blanks.
pub(crate) fn comment(out: &mut String, indent: usize, text: &str) {
    let mut width = usize::MAX;
    for word in text.split(' ') {
        let word = word.replace(is_invisible, REPLACEMENT.encode_utf8(&mut [0; 4]));
        let length = word.chars().count() + 1;
        if width.saturating_add(length) > COMMENT_WIDTH {
            if width != usize::MAX {
                out.push('\n');
            }
            out.push_str(&" ".repeat(indent));
            out.push('#');
            width = indent + 1;
        }
        out.push(' ');
        out.push_str(&word);
        width += length;
    }
    out.push('\n');
}

/// Adds the fields of a mapping in block style, each on lines of its own.
pub(crate) fn fields<'n, 't: 'n>(
    out: &mut String,
    source: &Source<'_>,
    fields: impl IntoIterator<Item = &'n (Node<'t>, Node<'t>)>,
    indent: usize,
) {
    for (key, value) in fields {
        out.push_str(&" ".repeat(indent));
        out.push_str(&inline(source, key).unwrap_or_default());
        out.push(':');
        if let Some(value) = inline(source, value) {
            out.push(' ');
            out.push_str(&value);
            out.push('\n');
        } else {
            out.push('\n');
            block(out, source, value, indent + 2);
        }
    }
}

/// Adds a mapping or a list that is not empty.
fn block(out: &mut String, source: &Source<'_>, node: &Node<'_>, indent: usize) {
    match &node.value {
        Value::Mapping(pairs) => fields(out, source, pairs.iter(), indent),
        Value::List(items) => items.iter().for_each(|item| {
            let begin = out.len();
            match inline(source, item) {
                Some(item) => out.extend([&*" ".repeat(indent + 2), &item, "\n"]),
                None => block(out, source, item, indent + 2),
            }
            list_item(out, begin, indent);
        }),
        _ => {}
    }
}

/// Makes a list item of the lines from `begin` on, which are indented by two blanks more than the list.
pub(crate) fn list_item(out: &mut String, begin: usize, indent: usize) {
    let dash = begin + indent;
    out.replace_range(dash..=dash, "-");
}

/// The value on one line; `None` for a mapping or list that is not empty.
fn inline(source: &Source<'_>, node: &Node<'_>) -> Option<String> {
    Some(match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number => source.slice(node.span).to_owned(),
        Value::Text(text) => scalar(text),
        Value::Unfolded(text) => scalar(text),
        Value::List(items) if items.is_empty() => "[]".to_owned(),
        Value::Mapping(pairs) if pairs.is_empty() => "{}".to_owned(),
        Value::List(_) | Value::Mapping(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::yaml::tree::parse;

    /// What the text is read back as.
    fn read_back(written: &str) -> Option<String> {
        let source = Source::new(written);
        parse(&source).unwrap().text().map(str::to_owned)
    }

    #[test]
    fn only_text_that_no_reader_mistakes_has_no_quotes() {
        for plain in [
            "eu-de",
            "pay/cards",
            "/run/secrets/token",
            "https://kms.eu-de.otc.t-systems.com",
            "0d0466b0-e727-4d9c-b35d-f84bb474a37f",
            "0123456789abcdef0123456789abcdef",
            "AES_256",
        ] {
            assert_eq!(scalar(plain), plain);
        }
        for quoted in [
            "",
            " a",
            "a ",
            "-",
            "- a",
            "a: b",
            "a:",
            "a #b",
            "#a",
            "true",
            "No",
            "NULL",
            "~",
            "1",
            "1e5",
            "0x5A",
            "12:30",
            "2027-03-31",
            "12345678901234567890123456789012",
            "*",
            "&a",
            "!a",
            "${HOME}/token",
            "[",
            "ü",
            "10:30:00ab",
        ] {
            assert_eq!(scalar(quoted), format!("\"{quoted}\""));
        }
        assert_eq!(scalar("a\"b\\c\nd\te\u{7}\u{feff}\u{e0041}"), r#""a\"b\\c\nd\te\u0007\uFEFF\U000E0041""#);
    }

    #[test]
    fn every_kind_of_value_is_written_in_block_style() {
        let text = "a: {b: [1, {c: d, e: {}}, [x]], f: []}\n? g\n: |\n  two\n  lines\nh: ~\ni: &x {j: 'true'}\nk: *x\n";
        let source = Source::new(text);
        let tree = parse(&source).unwrap();
        let Value::Mapping(pairs) = &tree.value else { panic!("{tree:?}") };
        let mut out = String::new();
        fields(&mut out, &source, pairs.iter(), 0);
        let expected = "a:\n  b:\n    - 1\n    - c: d\n      e: {}\n    - - x\n  f: []\ng: \"two\\nlines\\n\"\nh: null\ni:\n  \
                        j: \"true\"\nk:\n  j: \"true\"\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_long_comment_continues_on_the_next_line() {
        let mut out = String::new();
        comment(&mut out, 4, &["0123456789"; 12].join(" "));
        let lines: Vec<_> = out.lines().collect();
        assert_eq!((lines.len(), lines[0].len()), (2, 4 + 1 + 8 * 11));
        assert!(lines.iter().all(|line| line.starts_with("    # 0")), "{out}");
        comment(&mut out, 0, &"x".repeat(300));
        assert_eq!(out.lines().count(), 3);
    }

    proptest! {
        #[test]
        fn every_text_is_read_back_as_it_was(text in any::<String>()) {
            let written = scalar(&text);
            prop_assert_eq!(read_back(&written), Some(text), "{}", written);
        }

        #[test]
        fn every_word_is_read_back_as_it_was(text in "[0-9a-zA-Z:./@_+~-]{1,8}") {
            let written = scalar(&text);
            prop_assert_eq!(read_back(&written), Some(text.clone()), "{}", written);
            let field = format!("{written}: {written}\n");
            let source = Source::new(&field);
            let tree = parse(&source).unwrap();
            let Value::Mapping(pairs) = &tree.value else { panic!("{tree:?}") };
            prop_assert_eq!((pairs[0].0.text(), pairs[0].1.text()), (Some(&*text), Some(&*text)));
        }

        #[test]
        fn a_comment_is_never_read(text in any::<String>(), indent in 0_usize..9) {
            let mut out = String::new();
            comment(&mut out, indent, &text);
            out.push_str("a: b\n");
            let source = Source::new(&out);
            let tree = parse(&source).unwrap();
            let Value::Mapping(pairs) = &tree.value else { panic!("{tree:?}") };
            prop_assert_eq!(pairs.len(), 1);
        }
    }
}
